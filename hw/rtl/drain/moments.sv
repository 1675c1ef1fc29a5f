// Mean and spread of a row from its sum S, its sum of squares Q and its n columns.
//
// spread = n (Q + n epsilon) - S^2 (without S^2 if not center_i), which is n^2 times the variance and
// epsilon, two cycles after the sums; the sum in brackets saturates. mean = 16 S / n, rounded, by way of the inverse of n, combinational one cycle after the
// sums (0 without center_i). The columns stay constant meanwhile.

module moments
  import isa_pkg::*;
(
  input  logic               clk_i,
  input  logic        [1:0]  valid_i,  // [1] one cycle after [0]
  input  logic signed [31:0] sum_i,
  input  logic        [45:0] squares_i,
  // of the instruction
  input  logic               center_i,
  input  column_count_t      columns_i,
  input  logic        [3:0]  columns_msb_i,
  input  inverse_t           inverse_i,
  input  epsilon_t           epsilon_i,
  // one cycle later
  output logic signed [20:0] mean_o,
  // two cycles later
  output logic        [61:0] spread_o
);

  logic        [45:0] added_q;    // to the squares; steady long before a row's sums come
  logic        [46:0] squares;
  logic        [61:0] scaled_q;
  logic        [61:0] square_q;
  logic signed [56:0] mean_q;
  logic signed [57:0] shifted;

  assign squares = 47'(squares_i) + 47'(added_q);

  always_ff @(posedge clk_i) begin
    added_q <= 46'(columns_i) * 46'(epsilon_i);
    if (valid_i[0]) begin
      scaled_q <= 62'(columns_i) * 62'(squares[46] ? '1 : squares[45:0]);
      square_q <= center_i ? 62'(64'(sum_i) * 64'(sum_i)) : '0;
      mean_q   <= center_i ? 57'(sum_i) * $signed({33'b0, inverse_i}) : '0;
    end
    if (valid_i[1]) spread_o <= scaled_q - square_q;
  end

  // Floor and, in bit 0, the bit that rounds it.
  assign shifted = $signed({mean_q, 1'b0}) >>> (6'd19 + 6'(columns_msb_i));
  assign mean_o  = shifted[21:1] + 21'(shifted[0]);

  logic [35:0] unused_shifted;
  assign unused_shifted = shifted[57:22];

endmodule
