// Scratchpad: rows of Dim int8, read by the mesh and written by the load and the drain unit.
//
// A read presented in cycle t gives its data in cycle t + 2; a write is seen by reads presented
// from the next cycle on. A compute's A rows (port a) and a preload's weight rows (port b) must lie
// in different banks when read in one cycle, and so must rows that load and drain write.

module scratchpad #(
  parameter int unsigned Dim = 16,
  parameter int unsigned Banks = 4,
  parameter int unsigned BankRows = 1024
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  // read ports
  input  logic             a_read_i,
  input  logic [19:0]      a_row_i,
  input  logic [31:0]      a_tag_i,
  output logic [8*Dim-1:0] a_data_o,
  input  logic             b_read_i,
  input  logic [19:0]      b_row_i,
  input  logic [31:0]      b_tag_i,
  output logic [8*Dim-1:0] b_data_o,
  // write ports
  input  logic             load_write_i,
  input  logic [19:0]      load_row_i,
  input  logic [8*Dim-1:0] load_data_i,
  input  logic [31:0]      load_tag_i,
  input  logic             drain_write_i,
  input  logic [19:0]      drain_row_i,
  input  logic [8*Dim-1:0] drain_data_i,
  input  logic [31:0]      drain_tag_i
);

  logic [8*Dim-1:0] read_data [2];
  logic [8*Dim-1:0] write_data [2];

  banked_memory #(
    .Name("scratchpad"), .Width(8 * Dim), .Banks(Banks), .BankRows(BankRows),
    .Reads(2), .Writes(2)
  ) u_memory (
    .clk_i, .rst_ni,
    .read_i({b_read_i, a_read_i}),
    .read_row_i({b_row_i, a_row_i}),
    .read_tag_i({b_tag_i, a_tag_i}),
    .read_data_o(read_data),
    .write_i({drain_write_i, load_write_i}),
    .write_row_i({drain_row_i, load_row_i}),
    .write_tag_i({drain_tag_i, load_tag_i}),
    .write_data_i(write_data)
  );

  assign a_data_o = read_data[0];
  assign b_data_o = read_data[1];
  assign write_data[0] = load_data_i;
  assign write_data[1] = drain_data_i;

endmodule
