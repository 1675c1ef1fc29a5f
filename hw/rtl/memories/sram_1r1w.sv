// Memory bank with one read and one write port.
//
// A read presented in one cycle gives its row in the next; the output keeps its value until the
// next read. A write is seen by reads presented from the next cycle on: a read and a write of one
// row in the same cycle read the old row.

module sram_1r1w #(
  parameter int unsigned Width = 128,
  parameter int unsigned Rows = 256,
  localparam int unsigned RowBits = Rows > 1 ? $clog2(Rows) : 1
) (
  input  logic               clk_i,
  // read port
  input  logic               read_i,
  input  logic [RowBits-1:0] read_row_i,
  output logic [Width-1:0]   read_data_o,
  // write port
  input  logic               write_i,
  input  logic [RowBits-1:0] write_row_i,
  input  logic [Width-1:0]   write_data_i
);

  if (Width < 1 || Rows < 1) begin : gen_refuse_below_1
    $error("Width=%0d, Rows=%0d: below 1", Width, Rows);
  end

  logic [Width-1:0] rows [Rows];
  logic [Width-1:0] read_data_q;

  assign read_data_o = read_data_q;

  always_ff @(posedge clk_i) begin
    if (read_i) read_data_q <= rows[read_row_i];
    if (write_i) rows[write_row_i] <= write_data_i;
  end

endmodule
