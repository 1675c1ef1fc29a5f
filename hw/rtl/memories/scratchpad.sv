// Scratchpad: rows of Dim int8, read by the mesh and written by the load and the drain unit.
//
// A read presented in cycle t gives its data in cycle t + 2; a write is seen by reads presented
// from the next cycle on. A compute's A rows (port a) and a preload's weight rows (port b) must lie
// in different banks when read in one cycle, and so must rows that load and drain write.

module scratchpad
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned Banks = 4,
  parameter int unsigned BankRows = 1024
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  // read ports
  input  access_t          a_read_i,
  output logic [8*Dim-1:0] a_read_data_o,
  input  access_t          b_read_i,
  output logic [8*Dim-1:0] b_read_data_o,
  // write ports
  input  access_t          load_write_i,
  input  logic [8*Dim-1:0] load_write_data_i,
  input  access_t          drain_write_i,
  input  logic [8*Dim-1:0] drain_write_data_i
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  logic [8*Dim-1:0] read_data [2];
  logic [8*Dim-1:0] write_data [2];

  banked_memory #(
    .Name("scratchpad"), .Width(8 * Dim), .Banks(Banks), .BankRows(BankRows),
    .Reads(2), .Writes(2)
  ) u_memory (
    .clk_i, .rst_ni,
    .read_i({b_read_i, a_read_i}),
    .read_data_o(read_data),
    .write_i({drain_write_i, load_write_i}),
    .write_data_i(write_data)
  );

  assign a_read_data_o = read_data[0];
  assign b_read_data_o = read_data[1];
  assign write_data[0] = load_write_data_i;
  assign write_data[1] = drain_write_data_i;

endmodule
