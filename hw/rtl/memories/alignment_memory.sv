// The alignments of attention in parts: by how much the mesh shifts a row's products, or their sums.
//
// Written by the drain, read by the execute unit. A read presented in cycle t gives its data in
// cycle t + 2, as the scratchpad's rows of A; a write is seen by reads presented from the next
// cycle on. A machine without the normalization units has none, and reads zeros.

module alignment_memory
  import isa_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned Normalization = 1
) (
  input  logic       clk_i,
  input  logic       rst_ni,
  // read port
  input  access_t    read_i,
  output alignment_t read_data_o,
  // write port
  input  access_t    write_i,
  input  alignment_t write_data_i
);

  if (Normalization > 1) begin : gen_refuse_normalization
    $error("Normalization=%0d is neither 0 nor 1", Normalization);
  end

  if (Normalization != 0) begin : gen_rows
    logic       read_q;
    alignment_t data, data_q;

    sram_1r1w #(
      .Width($bits(alignment_t)),
      .Rows (StateRows)
    ) u_rows (
      .clk_i,
      .read_i      (read_i.valid),
      .read_row_i  (state_row_t'(read_i.row)),
      .read_data_o (data),
      .write_i     (write_i.valid),
      .write_row_i (state_row_t'(write_i.row)),
      .write_data_i(write_data_i)
    );

    always_ff @(posedge clk_i) begin
      read_q <= rst_ni && read_i.valid;
      if (read_q) data_q <= data;
    end
    assign read_data_o = data_q;
  end else begin : gen_none
    assign read_data_o = '0;
  end

  logic unused_bits;
  assign unused_bits = ^{clk_i, rst_ni, read_i, write_i, write_data_i};

endmodule
