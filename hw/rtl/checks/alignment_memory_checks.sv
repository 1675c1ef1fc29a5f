// What accesses to the alignments must keep: program order, and no reads before there are any.

bind alignment_memory race_checker #(
  .Name("alignments"), .Rows(limits_pkg::StateRows), .Reads(1), .Writes(1)
) u_races (
  .clk_i, .rst_ni, .read_i, .write_i
);
