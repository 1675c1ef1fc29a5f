// Which lanes of a block hold valid columns of their row, two cycles after the question: those below
// lanes_o, but the first skipped_o.
//
// Columns count over all blocks of a row; those below `columns_i` are valid and, if causal_i, not
// behind column diagonal_i + row_i, and not before the last window_i up to that one (0: all).

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
  input  column_count_t       window_i,
  input  row_count_t          row_i,
  input  block_count_t        block_i,
  output logic [LaneBits-1:0] lanes_o,
  output logic [LaneBits-1:0] skipped_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  logic signed [21:0] seen, limit_q, hidden_q;
  block_count_t       block_q;

  assign seen = 22'(diagonal_i) + $signed({6'b0, row_i}) + 22'sd1;

  // How many of the block's lanes lie below a column.
  function automatic logic [LaneBits-1:0] lanes_below(input logic signed [21:0] column);
    logic signed [21:0] lanes;
    lanes = column - 22'({block_q, {(LaneBits - 1){1'b0}}});
    return lanes < 0 ? '0 : lanes > 22'(Dim) ? LaneBits'(Dim) : lanes[LaneBits-1:0];
  endfunction

  always_ff @(posedge clk_i) begin
    limit_q <= causal_i && seen < $signed({6'b0, columns_i}) ? seen : $signed({6'b0, columns_i});
    hidden_q  <= causal_i && window_i != '0 ? seen - $signed({6'b0, window_i}) : '0;
    block_q   <= block_i;
    lanes_o   <= lanes_below(limit_q);
    skipped_o <= lanes_below(hidden_q);
  end

endmodule
