// Accumulator: rows of Dim int32, added to by the mesh and the load unit and read by the drain.
//
// A read presented in cycle t gives its data in cycle t + 2; a write is seen by reads presented
// from the next cycle on. Ports that read (or write) in one cycle must do so in different banks.
// The mesh and load ports are those of an accumulate_port each, which writes a row two cycles after
// it read it and bypasses what it wrote in between.

module accumulator
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned Banks = 2,
  parameter int unsigned BankRows = 1024
) (
  input  logic              clk_i,
  input  logic              rst_ni,
  // read ports
  input  access_t           mesh_read_i,
  output logic [32*Dim-1:0] mesh_read_data_o,
  input  access_t           load_read_i,
  output logic [32*Dim-1:0] load_read_data_o,
  input  access_t           drain_read_i,
  output logic [32*Dim-1:0] drain_read_data_o,
  // write ports
  input  access_t           mesh_write_i,
  input  logic [32*Dim-1:0] mesh_write_data_i,
  input  access_t           load_write_i,
  input  logic [32*Dim-1:0] load_write_data_i
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  logic [32*Dim-1:0] read_data [3];
  logic [32*Dim-1:0] write_data [2];

  banked_memory #(
    .Name("accumulator"), .Width(32 * Dim), .Banks(Banks), .BankRows(BankRows),
    .Reads(3), .Writes(2), .Updates(2)
  ) u_memory (
    .clk_i, .rst_ni,
    .read_i({drain_read_i, load_read_i, mesh_read_i}),
    .read_data_o(read_data),
    .write_i({load_write_i, mesh_write_i}),
    .write_data_i(write_data)
  );

  assign mesh_read_data_o  = read_data[0];
  assign load_read_data_o  = read_data[1];
  assign drain_read_data_o = read_data[2];
  assign write_data[0] = mesh_write_data_i;
  assign write_data[1] = load_write_data_i;

endmodule
