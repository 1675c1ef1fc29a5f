// The counters of the eight token channels (isa.py, CHANNELS).
//
// A unit signals the tokens of an instruction when it releases it and when it completes it; each
// channel counts at one of the two. Tokens signalled in cycle t can be waited for in t + 1. An
// instruction may start while all its waits are covered, and starting takes them. Execute waits on
// two ports: what a compute takes in a cycle is not there for the preload of that cycle.

module tokens
  import isa_pkg::*;
(
  input  logic    clk_i,
  input  logic    rst_ni,
  // signals, zero where nothing is released or completed
  input  tokens_t load_release_signals_i,
  input  tokens_t load_complete_signals_i,
  input  tokens_t execute_release_signals_i,
  input  tokens_t execute_complete_signals_i,
  input  tokens_t drain_release_signals_i,
  input  tokens_t drain_complete_signals_i,
  // load
  input  tokens_t load_waits_i,
  output logic    load_waits_ready_o,
  input  logic    load_start_i,
  // execute: preload and execute_sync
  input  tokens_t preload_waits_i,
  output logic    preload_waits_ready_o,
  input  logic    preload_start_i,
  // execute: compute
  input  tokens_t compute_waits_i,
  output logic    compute_waits_ready_o,
  input  logic    compute_start_i,
  // drain
  input  tokens_t drain_waits_i,
  output logic    drain_waits_ready_o,
  input  logic    drain_start_i,
  // no token is left
  output logic    all_zero_o
);

  localparam int unsigned Channels = 8;

  typedef enum logic [2:0] {
    LOADED, FILLED, CONSUMED, COMPUTED, DRAINED, STORED, EMPTIED, FINISHED
  } channel_e;

  logic [Channels-1:0][7:0] counts_q, signalled;
  logic [Channels-1:0][8:0] taken;
  logic [Channels-1:0][9:0] counts_d;

  // -- Signals: each channel at release or at complete -------------------------------------------

  assign signalled[LOADED]   = load_complete_signals_i[LOAD_SIGNAL_LOADED];
  assign signalled[FILLED]   = load_complete_signals_i[LOAD_SIGNAL_FILLED];
  assign signalled[CONSUMED] = execute_release_signals_i[EXECUTE_SIGNAL_CONSUMED];
  assign signalled[COMPUTED] = execute_complete_signals_i[EXECUTE_SIGNAL_COMPUTED];
  assign signalled[DRAINED]  = drain_release_signals_i[DRAIN_SIGNAL_DRAINED];
  assign signalled[STORED]   = drain_complete_signals_i[DRAIN_SIGNAL_STORED];
  assign signalled[EMPTIED]  = drain_release_signals_i[DRAIN_SIGNAL_EMPTIED];
  assign signalled[FINISHED] = execute_release_signals_i[EXECUTE_SIGNAL_FINISHED];

  // -- Waits -------------------------------------------------------------------------------------

  tokens_t compute_taken;
  assign compute_taken = compute_start_i ? compute_waits_i : '0;

  assign load_waits_ready_o = counts_q[CONSUMED] >= load_waits_i[LOAD_WAIT_CONSUMED] &&
                              counts_q[EMPTIED] >= load_waits_i[LOAD_WAIT_EMPTIED] &&
                              counts_q[FINISHED] >= load_waits_i[LOAD_WAIT_FINISHED];

  assign compute_waits_ready_o = counts_q[LOADED] >= compute_waits_i[EXECUTE_WAIT_LOADED] &&
                                 counts_q[DRAINED] >= compute_waits_i[EXECUTE_WAIT_DRAINED] &&
                                 counts_q[STORED] >= compute_waits_i[EXECUTE_WAIT_STORED];

  assign preload_waits_ready_o =
    {1'b0, counts_q[LOADED]} >= 9'(preload_waits_i[EXECUTE_WAIT_LOADED]) +
                                9'(compute_taken[EXECUTE_WAIT_LOADED]) &&
    {1'b0, counts_q[DRAINED]} >= 9'(preload_waits_i[EXECUTE_WAIT_DRAINED]) +
                                 9'(compute_taken[EXECUTE_WAIT_DRAINED]) &&
    {1'b0, counts_q[STORED]} >= 9'(preload_waits_i[EXECUTE_WAIT_STORED]) +
                                9'(compute_taken[EXECUTE_WAIT_STORED]);

  assign drain_waits_ready_o = counts_q[FILLED] >= drain_waits_i[DRAIN_WAIT_FILLED] &&
                               counts_q[COMPUTED] >= drain_waits_i[DRAIN_WAIT_COMPUTED];

  // -- Counters ----------------------------------------------------------------------------------

  tokens_t load_taken, preload_taken, drain_taken;
  assign load_taken    = load_start_i ? load_waits_i : '0;
  assign preload_taken = preload_start_i ? preload_waits_i : '0;
  assign drain_taken   = drain_start_i ? drain_waits_i : '0;

  assign taken[CONSUMED] = 9'(load_taken[LOAD_WAIT_CONSUMED]);
  assign taken[EMPTIED]  = 9'(load_taken[LOAD_WAIT_EMPTIED]);
  assign taken[FINISHED] = 9'(load_taken[LOAD_WAIT_FINISHED]);
  assign taken[LOADED]   = 9'(preload_taken[EXECUTE_WAIT_LOADED]) +
                           9'(compute_taken[EXECUTE_WAIT_LOADED]);
  assign taken[DRAINED]  = 9'(preload_taken[EXECUTE_WAIT_DRAINED]) +
                           9'(compute_taken[EXECUTE_WAIT_DRAINED]);
  assign taken[STORED]   = 9'(preload_taken[EXECUTE_WAIT_STORED]) +
                           9'(compute_taken[EXECUTE_WAIT_STORED]);
  assign taken[FILLED]   = 9'(drain_taken[DRAIN_WAIT_FILLED]);
  assign taken[COMPUTED] = 9'(drain_taken[DRAIN_WAIT_COMPUTED]);

  for (genvar c = 0; c < Channels; c++) begin : gen_counters
    assign counts_d[c] = 10'(counts_q[c]) + 10'(signalled[c]) - 10'(taken[c]);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) counts_q[c] <= '0;
      else counts_q[c] <= counts_d[c][7:0];
    end

    logic unused_carries;
    assign unused_carries = ^counts_d[c][9:8];
  end

  assign all_zero_o = counts_q == '0;

  // Counts that belong to no channel.
  logic unused_counts;
  assign unused_counts = ^{
    load_release_signals_i, load_complete_signals_i[2],
    execute_release_signals_i[EXECUTE_SIGNAL_COMPUTED],
    execute_complete_signals_i[EXECUTE_SIGNAL_CONSUMED],
    execute_complete_signals_i[EXECUTE_SIGNAL_FINISHED],
    drain_release_signals_i[DRAIN_SIGNAL_STORED],
    drain_complete_signals_i[DRAIN_SIGNAL_DRAINED],
    drain_complete_signals_i[DRAIN_SIGNAL_EMPTIED],
    drain_waits_i[2], drain_taken[2]
  };

`ifndef SYNTHESIS
  for (genvar c = 0; c < Channels; c++) begin : gen_assertions
    localparam channel_e Channel = channel_e'(c);
    no_shortage : assert property (@(posedge clk_i) disable iff (!rst_ni)
      9'(counts_q[c]) >= taken[c])
      else $error("%0d tokens of channel %s are taken but there are %0d", taken[c],
                  Channel.name(), counts_q[c]);
    no_overflow : assert property (@(posedge clk_i) disable iff (!rst_ni)
      9'(counts_q[c]) >= taken[c] |-> counts_d[c] <= 10'd255)
      else $error("the counter of channel %s overflows: %0d tokens", Channel.name(), counts_d[c]);
  end
`endif

endmodule
