// Lets instructions leave a unit in program order, at most one a cycle, with the tokens they signal.
//
// An instruction is pushed when it starts and says by which kind of event it is done. It retires
// when it is the oldest and the done events of its kind so far, this cycle's included, cover it.
// What is pushed in cycle t retires in t + 1 at the earliest.

module retire
  import isa_pkg::*;
#(
  parameter int unsigned Depth = 8,
  parameter int unsigned Kinds = 1,
  localparam int unsigned KindBits = Kinds > 1 ? $clog2(Kinds) : 1
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // instruction that starts
  input  logic                push_i,
  input  logic [KindBits-1:0] kind_i,
  input  tokens_t             signals_i,
  input  tag_t                tag_i,
  // events, at most one of each kind a cycle
  input  logic [Kinds-1:0]    done_i,
  // instruction that retires
  output logic                retire_o,
  output tokens_t             signals_o,
  // status
  output logic                empty_o,
  output logic                full_o
);

  if (Depth < 1 || Kinds < 1) begin : gen_refuse_below_1
    $error("Depth=%0d, Kinds=%0d: below 1", Depth, Kinds);
  end

  localparam int unsigned CountBits = $clog2(Depth + 1);

  typedef struct packed {
    logic [KindBits-1:0] kind;
    tokens_t             signals;
    tag_t                tag;
  } entry_t;

  entry_t                          pushed, head;
  logic                            head_valid;
  logic [CountBits-1:0]            count;
  logic [Kinds-1:0]                retires;  // by kind
  logic [Kinds-1:0][CountBits-1:0] events_q; // of each kind that no instruction has used

  assign pushed = '{kind: kind_i, signals: signals_i, tag: tag_i};

  fifo #(
    .Depth  (Depth),
    .entry_t(entry_t)
  ) u_entries (
    .clk_i,
    .rst_ni,
    .push_i,
    .data_i (pushed),
    .full_o,
    .valid_o(head_valid),
    .data_o (head),
    .pop_i  (retire_o),
    .count_o(count)
  );

  for (genvar k = 0; k < Kinds; k++) begin : gen_kinds
    assign retires[k] = head_valid && head.kind == KindBits'(k) && (done_i[k] || events_q[k] != '0);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) events_q[k] <= '0;
      else if (done_i[k] && !retires[k]) events_q[k] <= events_q[k] + 1'b1;
      else if (!done_i[k] && retires[k]) events_q[k] <= events_q[k] - 1'b1;
    end
  end

  assign retire_o  = |retires;
  assign signals_o = retire_o ? head.signals : '0;
  assign empty_o   = !head_valid;

`ifndef SYNTHESIS
  for (genvar k = 0; k < Kinds; k++) begin : gen_assertions
    no_excess : assert property (@(posedge clk_i) disable iff (!rst_ni)
      done_i[k] |-> 32'(events_q[k]) < 32'(count) + 32'(push_i))
      else $error("event %0d of kind %0d has no instruction; the oldest is instruction %0d",
                  events_q[k], k, head.tag);
  end
`endif

endmodule
