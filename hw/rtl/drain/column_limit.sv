// How many lanes of a block hold valid columns of their row, two cycles after the question.
//
// Columns count over all blocks of a row; those below `columns_i` are valid and, if causal_i, not
// behind column diagonal_i + row_i.

module column_limit
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16,
  localparam int unsigned LaneBits = $clog2(Dim) + 1
) (
  input  logic                clk_i,
  input  logic                causal_i,
  input  column_count_t       columns_i,
  input  diagonal_t           diagonal_i,
  input  row_count_t          row_i,
  input  block_count_t        block_i,
  output logic [LaneBits-1:0] lanes_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  logic signed [21:0] seen, limit_q, left;
  block_count_t       block_q;

  assign seen = 22'(diagonal_i) + $signed({6'b0, row_i}) + 22'sd1;
  assign left = limit_q - 22'({block_q, {(LaneBits - 1){1'b0}}});

  always_ff @(posedge clk_i) begin
    limit_q <= causal_i && seen < $signed({6'b0, columns_i}) ? seen : $signed({6'b0, columns_i});
    block_q <= block_i;
    lanes_o <= left < 0 ? '0 : left > 22'(Dim) ? LaneBits'(Dim) : left[LaneBits-1:0];
  end

endmodule
