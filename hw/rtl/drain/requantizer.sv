// First requantizer of one lane: v = round((acc + bias) * multiplier / 2^shift), clamped.
//
// Three stages: valid_i[0] with the inputs, valid_i[1] and valid_i[2] (with mode_i) in the two
// cycles after; v_o one cycle later. Copy and relu come out as int8, norms and operands of products
// (hold_i: another one follows) as 16 bits, others as 20 bits; a word passes through: its bias is 0,
// its multiplier 1, its shift 0.

module requantizer
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
(
  input  logic               clk_i,
  input  logic        [2:0]  valid_i,
  // operands
  input  logic               word_i,
  input  logic               per_channel_i,
  input  logic signed [31:0] acc_i,
  input  logic        [63:0] parameters_i,
  input  multiplier_t        multiplier_i,
  input  shift_t             shift_i,
  // two cycles later
  input  mode_e              mode_i,
  input  logic               hold_i,
  // three cycles later
  output logic signed [31:0] v_o
);

  parameters_t parameters;
  assign parameters = parameters_i;

  logic signed [32:0] biased_q;
  multiplier_t        multiplier_q;
  shift_t             shift_q, shift_q2;
  logic signed [56:0] product_q;

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      biased_q     <= 33'(acc_i);
      multiplier_q <= multiplier_i;
      shift_q      <= shift_i;
      if (per_channel_i) begin
        biased_q     <= 33'(acc_i) + 33'(parameters.bias);
        multiplier_q <= parameters.multiplier;
        shift_q      <= parameters.shift[5:0];
      end
      if (word_i) begin
        biased_q     <= 33'(acc_i);
        multiplier_q <= 24'sd1;
        shift_q      <= '0;
      end
    end
    if (valid_i[1]) begin
      product_q <= 57'(biased_q) * 57'(multiplier_q);
      shift_q2  <= shift_q;
    end
    if (valid_i[2]) v_o <= clamp(round_saturate(63'(product_q), shift_q2), product_q[31:0]);
  end

  function automatic logic signed [31:0] clamp(
    input logic signed [19:0] rounded, input logic [31:0] word
  );
    unique case (mode_i)
      MODE_COPY: return 32'(saturate8(rounded));
      MODE_RELU: return rounded[19] ? '0 : 32'(saturate8(rounded));
      MODE_NORM, MODE_PRODUCT, MODE_ROTATE: return 32'(saturate16(rounded));
      MODE_RECTIFIED: return rounded[19] ? '0 : 32'(saturate16(rounded));
      MODE_WORD: return word;
      default:   return hold_i ? 32'(saturate16(rounded)) : 32'(rounded);
    endcase
  endfunction

  logic [1:0] unused_shift;
  assign unused_shift = parameters.shift[7:6];

endmodule
