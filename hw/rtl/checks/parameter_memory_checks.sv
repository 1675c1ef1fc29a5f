// What accesses to the parameter memory must keep: rows that there are, and program order.

module parameter_memory_checks
  import isa_pkg::*;
#(
  parameter int unsigned Rows = 64
) (
  input logic          clk_i,
  input logic          rst_ni,
  input access_t [1:0] read_i,
  input access_t       write_i
);

  for (genvar p = 0; p < 2; p++) begin : gen_read
    row_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
        read_i[p].valid |-> 32'(read_i[p].row) < Rows)
      else $error("instruction %0d reads parameter row %0d of %0d", read_i[p].tag, read_i[p].row,
                  Rows);
  end
  write_in_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
      write_i.valid |-> 32'(write_i.row) < Rows)
    else $error("instruction %0d writes parameter row %0d of %0d", write_i.tag, write_i.row,
                Rows);

  race_checker #(
    .Name("parameter memory"), .Rows(Rows), .Reads(2), .Writes(1)
  ) u_races (
    .clk_i, .rst_ni, .read_i, .write_i
  );

endmodule

bind parameter_memory parameter_memory_checks #(
  .Rows(Rows)
) u_checks (
  .clk_i, .rst_ni, .read_i, .write_i
);
