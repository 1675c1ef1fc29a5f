// What accesses to the parameter memory must keep: rows that there are, and program order.

module parameter_memory_checks #(
  parameter int unsigned Rows = 64
) (
  input logic             clk_i,
  input logic             rst_ni,
  // read ports
  input logic [1:0]       read_i,
  input logic [1:0][9:0]  read_row_i,
  input logic [1:0][31:0] read_tag_i,
  // write port
  input logic             write_i,
  input logic [19:0]      write_row_i,
  input logic [31:0]      write_tag_i
);

  for (genvar p = 0; p < 2; p++) begin : gen_read
    row_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
        read_i[p] |-> 32'(read_row_i[p]) < Rows)
      else $error("instruction %0d reads parameter row %0d of %0d", read_tag_i[p],
                  read_row_i[p], Rows);
  end
  write_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
      write_i |-> 32'(write_row_i) < Rows)
    else $error("instruction %0d writes parameter row %0d of %0d", write_tag_i, write_row_i,
                Rows);

  race_checker #(
    .Name("parameter memory"), .Rows(Rows), .Reads(2), .Writes(1)
  ) u_races (
    .clk_i, .rst_ni,
    .read_i,
    .read_row_i({20'(read_row_i[1]), 20'(read_row_i[0])}),
    .read_tag_i,
    .write_i, .write_row_i, .write_tag_i
  );

endmodule

bind parameter_memory parameter_memory_checks #(
  .Rows(Rows)
) u_checks (
  .clk_i, .rst_ni,
  .read_i     (read),
  .read_row_i (read_row),
  .read_tag_i (read_tag),
  .write_i    (load_write_i),
  .write_row_i(load_write_row_i),
  .write_tag_i(load_write_tag_i)
);
