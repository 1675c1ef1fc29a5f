// Weight-stationary systolic array of Dim x Dim int8 multipliers.
//
// A rows: a row that enters in cycle t leaves as a row of int32 sums in cycle t + 2 * Dim, with what
// came along with it (where its sums go). Rows may come in every cycle, or with gaps.
// Weights: a preload is Dim slots in Dim cycles on end, one row of the tile each (zero: a row of
// zeros). The tile W (slot i is W[i], or W[:, i] if transposed) waits in shadow registers. a_swap_i,
// in the cycle before a row of A, makes it the tile that this row and those after it are multiplied
// by; it may come from the cycle of the last slot on. The next preload may begin in the cycle after
// the swap.
//
// All control is one word that enters row 0 and moves down a row a cycle, as the wavefront does.

module mesh
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16
) (
  input  logic              clk_i,
  input  logic              rst_ni,
  // A rows
  input  logic              a_valid_i,
  input  logic              a_swap_i,
  input  logic [Dim*8-1:0]  a_data_i,
  input  sums_t             a_sums_i,
  // weights
  input  logic              b_valid_i,
  input  weights_t          b_slot_i,
  input  logic [Dim*8-1:0]  b_data_i,
  // sums
  output logic              row_valid_o,
  output logic [Dim*32-1:0] row_data_o,
  output sums_t             row_sums_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  localparam int unsigned PsumBits   = 16 + $clog2(Dim);
  localparam int unsigned ColumnBits = $clog2(Dim);

  // What a row does in a cycle.
  typedef struct packed {
    logic                  enable;  // an A row is in this row of the mesh
    logic                  load;
    logic                  load_transposed;
    logic [ColumnBits-1:0] load_column;
    logic                  swap;
    logic [ColumnBits-1:0] swap_column;
  } control_t;

  control_t              control;       // of row 0
  control_t [Dim-1:0]    control_q;     // of the rows below; the last: of the deskew
  logic [2*Dim-2:0]      valid_q;       // A rows that entered 1, 2, ... cycles ago
  logic [Dim-2:0]        b_valid_q;     // slots likewise
  logic                  swapping_q;
  logic [ColumnBits-1:0] load_column_q, swap_column_q;

  // control
  assign control.enable          = a_valid_i || |valid_q[Dim-2:0];
  assign control.load            = b_valid_i;
  assign control.load_transposed = b_slot_i.transposed;
  assign control.load_column     = b_slot_i.first ? '0 : load_column_q;
  assign control.swap            = a_swap_i || swapping_q;
  assign control.swap_column     = a_swap_i ? '0 : swap_column_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      control_q     <= '0;
      valid_q       <= '0;
      b_valid_q     <= '0;
      swapping_q    <= 1'b0;
      swap_column_q <= '0;
      load_column_q <= '0;
      row_valid_o   <= 1'b0;
    end else begin
      control_q     <= {control_q[Dim-2:0], control};
      valid_q       <= {valid_q[2*Dim-3:0], a_valid_i};
      b_valid_q     <= {b_valid_q[Dim-3:0], b_valid_i};
      swapping_q    <= control.swap && control.swap_column != '1;
      swap_column_q <= control.swap_column + 1'b1;
      load_column_q <= control.load_column + 1'b1;
      row_valid_o   <= valid_q[2*Dim-2];
    end
  end

  // rows
  logic [Dim*8-1:0]                 a, b;
  logic [Dim:0][Dim*PsumBits-1:0]   psum;
  control_t [Dim:0]                 row_control;

  skew #(
    .Width(8),
    .Lanes(Dim)
  ) u_skew_a (
    .clk_i,
    .enable_i(control.enable),
    .data_i  (a_data_i),
    .data_o  (a)
  );

  skew #(
    .Width(8),
    .Lanes(Dim)
  ) u_skew_b (
    .clk_i,
    .enable_i(b_valid_i || b_valid_q != '0),
    .data_i  (b_slot_i.zero ? '0 : b_data_i),
    .data_o  (b)
  );

  assign row_control = {control_q, control};
  assign psum[0]     = '0;

  for (genvar r = 0; r < Dim; r++) begin : gen_rows
    mesh_row #(
      .Dim(Dim)
    ) u_row (
      .clk_i,
      .enable_i         (row_control[r].enable),
      .a_i              (a[r*8 +: 8]),
      .psum_i           (psum[r]),
      .psum_o           (psum[r+1]),
      .load_i           (row_control[r].load),
      .load_transposed_i(row_control[r].load_transposed),
      .load_column_i    (row_control[r].load_column),
      .west_i           (b[r*8 +: 8]),
      .north_i          (b),
      .swap_i           (row_control[r].swap),
      .swap_column_i    (row_control[r].swap_column)
    );
  end

  // sums
  logic [Dim*PsumBits-1:0] sums;

  skew #(
    .Width  (PsumBits),
    .Lanes  (Dim),
    .Reverse(1'b1)
  ) u_deskew (
    .clk_i,
    .enable_i(row_control[Dim].enable),
    .data_i  (psum[Dim]),
    .data_o  (sums)
  );

  always_ff @(posedge clk_i) begin
    if (valid_q[2*Dim-2]) begin
      for (int unsigned c = 0; c < Dim; c++) begin
        row_data_o[c*32 +: 32] <= 32'($signed(sums[c*PsumBits +: PsumBits]));
      end
    end
  end

  // what comes along with a row
  sums_t                      side;
  logic                       side_full, side_valid;
  logic [$clog2(2*Dim+1)-1:0] side_count;

  fifo #(
    .Depth  (2 * Dim),
    .entry_t(sums_t)
  ) u_side (
    .clk_i,
    .rst_ni,
    .push_i (a_valid_i),
    .data_i (a_sums_i),
    .full_o (side_full),
    .valid_o(side_valid),
    .data_o (side),
    .pop_i  (valid_q[2*Dim-2]),
    .count_o(side_count)
  );

  always_ff @(posedge clk_i) begin
    if (valid_q[2*Dim-2]) row_sums_o <= side;
  end

  logic unused_side, unused_control;
  assign unused_side    = ^{side_full, side_valid, side_count};
  assign unused_control = ^row_control[Dim];

`ifndef SYNTHESIS
  whole_tile : assert property (@(posedge clk_i) disable iff (!rst_ni)
    b_valid_i && !b_slot_i.first |-> b_valid_q[0])
    else $error("a slot of a preload follows a gap");
  swaps_apart : assert property (@(posedge clk_i) disable iff (!rst_ni)
    a_swap_i |-> !swapping_q)
    else $error("weights are swapped less than %0d cycles after the last swap", Dim);
`endif

endmodule
