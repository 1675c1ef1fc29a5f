// One row of the mesh: Dim processing elements (PEs), each with a shadow weight, an active weight,
// and registers for the A value it hands to the east and the partial sum it hands to the south.
//
// A row of PEs is one module on packed vectors because that simulates faster than one instance a
// PE. In an enabled cycle PE c multiplies the A value that entered c cycles ago; its partial sum is
// at psum_o in the next cycle. One PE a cycle takes a new shadow weight (load_i), and one makes its
// shadow weight the active one (swap_i), which counts from the next cycle on. Not reset.

module mesh_row
#(
  parameter int unsigned Dim = 16,
  localparam int unsigned PsumBits   = 16 + $clog2(Dim),
  localparam int unsigned ColumnBits = $clog2(Dim)
) (
  input  logic                    clk_i,
  // A values from the west, partial sums from the north
  input  logic                    enable_i,
  input  logic [7:0]              a_i,
  input  logic [Dim*PsumBits-1:0] psum_i,
  output logic [Dim*PsumBits-1:0] psum_o,
  // weights, from the west when transposed, otherwise from the north
  input  logic                    load_i,
  input  logic                    load_transposed_i,
  input  logic [ColumnBits-1:0]   load_column_i,
  input  logic [7:0]              west_i,
  input  logic [Dim*8-1:0]        north_i,
  input  logic                    swap_i,
  input  logic [ColumnBits-1:0]   swap_column_i
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  logic [Dim*8-1:0]        a, a_q, shadow_q, active_q;
  logic [Dim*PsumBits-1:0] psum_q;

  // weights
  always_ff @(posedge clk_i) begin
    if (load_i) begin
      for (int unsigned c = 0; c < Dim; c++) begin
        if (load_column_i == ColumnBits'(c)) begin
          shadow_q[c*8 +: 8] <= load_transposed_i ? west_i : north_i[c*8 +: 8];
        end
      end
    end
    if (swap_i) begin
      for (int unsigned c = 0; c < Dim; c++) begin
        if (swap_column_i == ColumnBits'(c)) active_q[c*8 +: 8] <= shadow_q[c*8 +: 8];
      end
    end
  end

  // multiply and add
  assign a = {a_q[(Dim-1)*8-1:0], a_i};

  always_ff @(posedge clk_i) begin
    if (enable_i) begin
      a_q <= a;
      for (int unsigned c = 0; c < Dim; c++) begin
        psum_q[c*PsumBits +: PsumBits] <= psum_i[c*PsumBits +: PsumBits]
          + PsumBits'($signed(a[c*8 +: 8]) * $signed(active_q[c*8 +: 8]));
      end
    end
  end

  assign psum_o = psum_q;

  logic unused_a;
  assign unused_a = ^a_q[(Dim-1)*8 +: 8];

endmodule
