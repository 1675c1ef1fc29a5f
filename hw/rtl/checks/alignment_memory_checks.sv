// What accesses to the alignments must keep: program order, and no reads before there are any.

module alignment_memory_checks
  import isa_pkg::*;
  import limits_pkg::*;
(
  input logic    clk_i,
  input logic    rst_ni,
  input access_t read_i,
  input access_t write_i
);

  race_checker #(
    .Name("alignments"), .Rows(StateRows), .Reads(1), .Writes(1)
  ) u_races (
    .clk_i, .rst_ni, .read_i, .write_i
  );

endmodule

bind alignment_memory alignment_memory_checks u_checks (
  .clk_i, .rst_ni, .read_i, .write_i
);
