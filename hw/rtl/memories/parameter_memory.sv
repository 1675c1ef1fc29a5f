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
  input  access_t [1:0]     read_i,
  output logic [64*Dim-1:0] read_data_o [2],
  // write port
  input  access_t           write_i,
  input  logic [64*Dim-1:0] write_data_i
);

  legal_sizes #(.Dim(Dim)) u_legal ();
  if (Rows < 1 || Rows > MostParameterRows) begin : gen_refuse_rows
    $error("Rows=%0d is no number of rows", Rows);
  end

  localparam int unsigned RowBits = Rows > 1 ? $clog2(Rows) : 1;

  for (genvar p = 0; p < 2; p++) begin : gen_port
    logic              read_q;
    logic [64*Dim-1:0] copy_data, data_q;

    sram_1r1w #(.Width(64 * Dim), .Rows(Rows)) u_copy (
      .clk_i,
      .read_i(read_i[p].valid), .read_row_i(RowBits'(read_i[p].row)), .read_data_o(copy_data),
      .write_i(write_i.valid), .write_row_i(RowBits'(write_i.row)),
      .write_data_i(write_data_i)
    );

    always_ff @(posedge clk_i) begin
      read_q <= rst_ni && read_i[p].valid;
      if (read_q) data_q <= copy_data;
    end
    assign read_data_o[p] = data_q;
  end

  logic unused_bits;
  assign unused_bits = ^{read_i, write_i};

endmodule
