// Eight steps of a digit recurrence, one a cycle: its registers, and when it is done.
//
// A start in cycle t (only when ready_o) takes the state first_i and kept_i, what does not change.
// In the cycles t + 1 to t + 8 state_o is stepped outside: next_i is the state after it. With the
// last step comes valid_o; next_i is then the result, and the next start may come.

module digit_recurrence #(
  parameter string Name = "recurrence",
  parameter type state_t = logic,
  parameter type kept_t = logic
) (
  input  logic   clk_i,
  input  logic   rst_ni,
  output logic   ready_o,
  input  logic   start_i,
  input  state_t first_i,
  input  kept_t  kept_i,
  output state_t state_o,
  input  state_t next_i,
  output kept_t  kept_o,
  output logic   valid_o
);

  logic       busy;
  logic [2:0] count_q;
  state_t     state_q;
  kept_t      kept_q;

  assign state_o = state_q;
  assign kept_o  = kept_q;
  assign valid_o = busy && count_q == 3'd7;

  busy_flag u_busy (.clk_i, .rst_ni, .start_i, .last_i(valid_o), .busy_o(busy), .ready_o);

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      count_q <= '0;
      state_q <= first_i;
      kept_q  <= kept_i;
    end else if (busy) begin
      count_q <= count_q + 1'b1;
      state_q <= next_i;
    end
  end

`ifndef SYNTHESIS
  no_overrun : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("the %s is started while it is busy", Name);
`endif

endmodule
