// Whether a unit works on something: from the cycle after a start to its last, in which the next
// may start already.

module busy_flag (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic last_i,  // of no meaning when idle
  output logic busy_o,
  output logic ready_o  // for a start
);

  logic busy_q;

  assign busy_o  = busy_q;
  assign ready_o = !busy_q || last_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else if (start_i) busy_q <= 1'b1;
    else if (last_i) busy_q <= 1'b0;
  end

endmodule
