// Performance counters: how often each event happened since reset.
//
// Every member of `counted_i` has one bit for each port on which its event may happen in the same
// cycle. Counters wrap. `value_o` is the counter that `select_i` names in the same cycle (they are
// numbered in the order of COUNTERS in hw/machine/events.py), 0 where there is none; an event in
// cycle t is counted in t + 1.

module counters
  import trace_pkg::*;
#(
  parameter int unsigned Width = 48
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  // read port
  input  logic [4:0]       select_i,
  output logic [Width-1:0] value_o,
  // events
  input  counted_t         counted_i
);

  if (Width < 2) begin : gen_refuse_width
    $error("Width=%0d is below 2", Width);
  end

  increments_t      add;
  logic [Width-1:0] counts_q [Counters];

  assign add = increments(counted_i);

  for (genvar i = 0; i < Counters; i++) begin : gen_counter
    always_ff @(posedge clk_i) begin
      if (!rst_ni) counts_q[i] <= '0;
      else if (add[i] != '0) counts_q[i] <= counts_q[i] + Width'(add[i]);
    end
  end

  assign value_o = 32'(select_i) < Counters ? counts_q[select_i] : '0;

endmodule
