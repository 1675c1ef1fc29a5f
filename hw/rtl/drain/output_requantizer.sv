// Second requantizer of one lane: int8 = round((value * multiplier + offset) / 2^shift), clamped.
//
// The factors come with valid_i[0] and wait three cycles for the value: valid_i[1], [2] follow
// them, valid_i[3] comes with value_i, valid_i[4] one cycle later and word_o after that. With
// direct_i, the value is a word that passes through. A lane outside the valid columns gives 0.

module output_requantizer
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
(
  input  logic               clk_i,
  input  logic        [4:0]  valid_i,
  // with valid_i[0]
  input  logic               per_channel_i,
  input  logic        [63:0] parameters_i,
  input  multiplier_t        multiplier_i,
  input  shift_t             shift_i,
  // with valid_i[3]
  input  logic        [1:0]  direct_i,
  input  logic signed [31:0] value_i,
  // with valid_i[4]
  input  logic               lane_i,
  output logic        [31:0] word_o
);

  typedef struct packed {
    shift_t             shift;
    multiplier_t        multiplier;
    logic signed [31:0] offset;
  } factors_t;

  parameters_t parameters;
  assign parameters = parameters_i;

  factors_t           factors_q, factors_q2, factors_q3;
  shift_t             shift_q;
  logic signed [44:0] product_q;

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      factors_q <= per_channel_i
        ? '{shift: parameters.shift[5:0], multiplier: parameters.multiplier,
           offset: parameters.bias}
        : '{shift: shift_i, multiplier: multiplier_i, offset: '0};
    end
    if (valid_i[1]) factors_q2 <= factors_q;
    if (valid_i[2]) factors_q3 <= factors_q2;
    if (valid_i[3]) begin
      product_q <= direct_i[0] ? 45'(value_i)
        : 45'($signed(value_i[19:0])) * 45'(factors_q3.multiplier) + 45'(factors_q3.offset);
      shift_q <= factors_q3.shift;
    end
    if (valid_i[4]) begin
      word_o <= direct_i[1] ? product_q[31:0]
              : lane_i ? 32'(saturate8(round_saturate(63'(product_q), shift_q))) : '0;
    end
  end

  logic [1:0] unused_shift;
  assign unused_shift = parameters.shift[7:6];

endmodule
