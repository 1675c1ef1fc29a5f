// Parameter memory of the drain: rows of Dim channels, 8 bytes each (see row_pipeline).
//
// A read presented in cycle t gives its data in cycle t + 2; a write is seen by reads presented
// from the next cycle on. The two read ports are independent: each has a copy of the memory.

module parameter_memory
  import isa_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned Rows = 64
) (
  input  logic              clk_i,
  input  logic              rst_ni,
  // read ports
  input  access_t           p0_read_i,
  output logic [64*Dim-1:0] p0_read_data_o,
  input  access_t           p1_read_i,
  output logic [64*Dim-1:0] p1_read_data_o,
  // write port
  input  access_t           load_write_i,
  input  logic [64*Dim-1:0] load_write_data_i
);

  legal_sizes #(.Dim(Dim)) u_legal ();
  if (Rows < 1 || Rows > MostParameterRows) begin : gen_refuse_rows
    $error("Rows=%0d is no number of rows", Rows);
  end

  localparam int unsigned RowBits = Rows > 1 ? $clog2(Rows) : 1;

  access_t [1:0]     read;
  logic [64*Dim-1:0] read_data [2];

  assign read = {p1_read_i, p0_read_i};

  for (genvar p = 0; p < 2; p++) begin : gen_port
    logic              read_q;
    logic [64*Dim-1:0] copy_data, data_q;

    sram_1r1w #(.Width(64 * Dim), .Rows(Rows)) u_copy (
      .clk_i,
      .read_i(read[p].valid), .read_row_i(RowBits'(read[p].row)), .read_data_o(copy_data),
      .write_i(load_write_i.valid), .write_row_i(RowBits'(load_write_i.row)),
      .write_data_i(load_write_data_i)
    );

    always_ff @(posedge clk_i) begin
      read_q <= rst_ni && read[p].valid;
      if (read_q) data_q <= copy_data;
    end
    assign read_data[p] = data_q;
  end

  assign p0_read_data_o = read_data[0];
  assign p1_read_data_o = read_data[1];

  logic unused_bits;
  assign unused_bits = ^{read, load_write_i};

endmodule
