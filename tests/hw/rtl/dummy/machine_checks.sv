// Checks of the stand-in, in place of the machine's.

module machine_checks
  import isa_pkg::*;
(
  input logic clk_i,
  input logic rst_ni,
  input logic wide_i,  // a preload of 99 rows starts
  input tag_t tag_i
);

  function automatic tag_t leftover();  // see the true one
    return '0;
  endfunction

  no_wide_preload : assert property (@(posedge clk_i) disable iff (!rst_ni) !wide_i)
    else $error("instruction %0d is one that instruction %0d would not follow", tag_i, tag_i - 1);

endmodule

bind machine machine_checks u_checks (
  .clk_i, .rst_ni,
  .wide_i(state_q == START && header.opcode == PRELOAD && instr_q[$bits(header_t)+:8] == 8'd99),
  .tag_i (tag_q)
);
