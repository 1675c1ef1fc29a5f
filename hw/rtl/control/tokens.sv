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

  localparam int unsigned CountBits = $bits(token_count_t);

  token_count_t [Channels-1:0]        counts_q, signalled;
  logic [Channels-1:0][CountBits:0]   taken;    // by two ports at most
  logic [Channels-1:0][CountBits+1:0] counts_d; // which may be too many, or below zero

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
    {1'b0, counts_q[LOADED]} >= (CountBits+1)'(preload_waits_i[EXECUTE_WAIT_LOADED]) +
                                (CountBits+1)'(compute_taken[EXECUTE_WAIT_LOADED]) &&
    {1'b0, counts_q[DRAINED]} >= (CountBits+1)'(preload_waits_i[EXECUTE_WAIT_DRAINED]) +
                                 (CountBits+1)'(compute_taken[EXECUTE_WAIT_DRAINED]) &&
    {1'b0, counts_q[STORED]} >= (CountBits+1)'(preload_waits_i[EXECUTE_WAIT_STORED]) +
                                (CountBits+1)'(compute_taken[EXECUTE_WAIT_STORED]);

  assign drain_waits_ready_o = counts_q[FILLED] >= drain_waits_i[DRAIN_WAIT_FILLED] &&
                               counts_q[COMPUTED] >= drain_waits_i[DRAIN_WAIT_COMPUTED];

  // -- Counters ----------------------------------------------------------------------------------

  tokens_t load_taken, preload_taken, drain_taken;
  assign load_taken    = load_start_i ? load_waits_i : '0;
  assign preload_taken = preload_start_i ? preload_waits_i : '0;
  assign drain_taken   = drain_start_i ? drain_waits_i : '0;

  assign taken[CONSUMED] = (CountBits+1)'(load_taken[LOAD_WAIT_CONSUMED]);
  assign taken[EMPTIED]  = (CountBits+1)'(load_taken[LOAD_WAIT_EMPTIED]);
  assign taken[FINISHED] = (CountBits+1)'(load_taken[LOAD_WAIT_FINISHED]);
  assign taken[LOADED]   = (CountBits+1)'(preload_taken[EXECUTE_WAIT_LOADED]) +
                           (CountBits+1)'(compute_taken[EXECUTE_WAIT_LOADED]);
  assign taken[DRAINED]  = (CountBits+1)'(preload_taken[EXECUTE_WAIT_DRAINED]) +
                           (CountBits+1)'(compute_taken[EXECUTE_WAIT_DRAINED]);
  assign taken[STORED]   = (CountBits+1)'(preload_taken[EXECUTE_WAIT_STORED]) +
                           (CountBits+1)'(compute_taken[EXECUTE_WAIT_STORED]);
  assign taken[FILLED]   = (CountBits+1)'(drain_taken[DRAIN_WAIT_FILLED]);
  assign taken[COMPUTED] = (CountBits+1)'(drain_taken[DRAIN_WAIT_COMPUTED]);

  for (genvar c = 0; c < Channels; c++) begin : gen_counters
    assign counts_d[c] = (CountBits+2)'(counts_q[c]) + (CountBits+2)'(signalled[c])
                         - (CountBits+2)'(taken[c]);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) counts_q[c] <= '0;
      else counts_q[c] <= counts_d[c][CountBits-1:0];
    end

    logic unused_carries;
    assign unused_carries = ^counts_d[c][CountBits+1:CountBits];
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
      (CountBits+1)'(counts_q[c]) >= taken[c])
      else $error("%0d tokens of channel %s are taken but there are %0d", taken[c],
                  Channel.name(), counts_q[c]);
    no_overflow : assert property (@(posedge clk_i) disable iff (!rst_ni)
      (CountBits+1)'(counts_q[c]) >= taken[c] |-> counts_d[c] <= (CountBits+2)'(MaxTokens))
      else $error("the counter of channel %s overflows: %0d tokens", Channel.name(), counts_d[c]);
  end
`endif

endmodule
