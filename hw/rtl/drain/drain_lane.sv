// One lane of the drain: accumulator word and channel factors in, int8 or untouched word out.
//
// Stage k works in the k-th cycle after the accumulator was read, on word k of every control port:
// 2-4 first requantizer, 5-7 nonlinear operands, 8-9 normalizer, 10-11 second requantizer (whose
// factors enter in stage 7). acc_i comes with stage 2, v_o is there in stage 5, square_o in
// stage 7, value_o in stage 8 and word_o in cycle 12. Without Normalization, stages 5 to 11 only
// delay.

module drain_lane
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
#(
  parameter bit Normalization = 1'b1
) (
  input  logic               clk_i,
  // control of the stages
  input  logic        [11:2] valid_i,
  input  mode_e              mode_i [12],
  input  logic        [11:5] lane_i,       // the lane's column is valid
  // stage 2
  input  logic               per_channel_i,
  input  logic signed [31:0] acc_i,
  input  logic        [63:0] parameters_i,
  input  multiplier_t        multiplier_i,
  input  shift_t             shift_i,
  // stage 4
  input  logic               hold_i,
  // stage 5
  input  logic               moments_i,
  input  logic signed [20:0] offset_i,
  input  logic signed [16:0] beside_i,
  output logic signed [16:0] held_o,
  // stage 7
  input  logic        [16:0] reciprocal_i,
  input  logic               out_per_channel_i,
  input  logic        [63:0] out_parameters_i,
  input  multiplier_t        out_multiplier_i,
  input  shift_t             out_shift_i,
  // stage 9
  input  shift_t             normalizer_shift_i,
  // results
  output logic signed [19:0] v_o,
  output logic signed [31:0] square_o,
  output logic signed [16:0] value_o,
  output logic        [31:0] word_o
);

  logic signed [31:0] v;

  requantizer u_requantizer (
    .clk_i,
    .valid_i      (valid_i[4:2]),
    .word_i       (mode_i[2] == MODE_WORD),
    .per_channel_i,
    .acc_i,
    .parameters_i,
    .multiplier_i,
    .shift_i,
    .mode_i       (mode_i[4]),
    .hold_i,
    .v_o          (v)
  );

  assign v_o = v[19:0];

  if (Normalization) begin : gen_normalization
    logic        [30:0] square;
    logic signed [20:0] value;
    logic        [16:0] factor;
    logic signed [31:0] normalized;

    nonlinear u_nonlinear (
      .clk_i,
      .valid_i           (valid_i[7:5]),
      .mode_i            (mode_i[5:7]),
      .moments_i,
      .lane_i            (lane_i[5]),
      .v_i               (v),
      .offset_i,
      .beside_i,
      .held_o,
      .exponential_lane_i(lane_i[7]),
      .reciprocal_i,
      .square_o          (square),
      .value_o           (value),
      .factor_o          (factor)
    );

    normalizer u_normalizer (
      .clk_i,
      .valid_i (valid_i[9:8]),
      .direct_i({is_direct(mode_i[9]), is_direct(mode_i[8])}),
      .value_i (value),
      .factor_i(factor),
      .shift_i (normalizer_shift_i),
      .value_o (normalized)
    );

    output_requantizer u_output_requantizer (
      .clk_i,
      .valid_i      (valid_i[11:7]),
      .per_channel_i(out_per_channel_i),
      .parameters_i (out_parameters_i),
      .multiplier_i (out_multiplier_i),
      .shift_i      (out_shift_i),
      .direct_i     ({is_direct(mode_i[11]), is_direct(mode_i[10])}),
      .value_i      (normalized),
      .lane_i       (lane_i[11]),
      .word_o
    );

    assign square_o = {1'b0, square};
    assign value_o  = value[16:0];

    logic unused_lane;
    assign unused_lane = &{1'b0, lane_i};
  end else begin : gen_delay
    logic [31:0] words_q [12];

    always_ff @(posedge clk_i) begin
      if (valid_i[5]) words_q[5] <= v;
      for (int unsigned k = 6; k < 12; k++) if (valid_i[k]) words_q[k] <= words_q[k-1];
    end

    assign square_o = '0;
    assign value_o  = '0;
    assign held_o   = '0;
    assign word_o   = words_q[11];

    logic unused_inputs;
    assign unused_inputs = &{1'b0, lane_i, moments_i, offset_i, beside_i, reciprocal_i, out_per_channel_i,
                             out_parameters_i, out_multiplier_i, out_shift_i, normalizer_shift_i};
  end

  logic unused_mode;
  assign unused_mode = &{1'b0, mode_i[0], mode_i[1], mode_i[3], mode_i[5], mode_i[6], mode_i[7],
                         mode_i[8], mode_i[9], mode_i[10], mode_i[11]};

endmodule
