// The whole machine: front end, load, execute and drain units, their memories, and token counters.
//
// Instructions enter on the host port, one a cycle; data moves over one AXI4 master port (reads by
// the load unit, writes by the drain unit). `events_o` tells in every cycle what happened to which
// instruction; hw/views/timing.py predicts each of these cycles exactly.

module machine
  import isa_pkg::*;
#(
  parameter int unsigned Dim               = 16,
  parameter int unsigned ScratchpadBytes   = 65536,
  parameter int unsigned ScratchpadBanks   = 16,
  parameter int unsigned AccumulatorBytes  = 262144,
  parameter int unsigned AccumulatorBanks  = 8,
  parameter int unsigned ParameterChannels = 2048,
  parameter int unsigned BusBytes          = 16,
  parameter int unsigned DramLatencyCycles = 50,
  parameter int unsigned LoadQueueDepth    = 8,
  parameter int unsigned ExecuteQueueDepth = 16,
  parameter int unsigned DrainQueueDepth   = 8,
  parameter int unsigned Normalization     = 1
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // host
  input  logic                  instr_valid_i,
  input  instruction_t          instr_i,
  output logic                  instr_ready_o,
  output logic                  idle_o,
  output logic                  no_tokens_o, // none is signalled and not waited for
  // AXI4 read
  output logic                  m_axi_arvalid_o,
  input  logic                  m_axi_arready_i,
  output logic [39:0]           m_axi_araddr_o,
  output logic [7:0]            m_axi_arlen_o,
  output logic [2:0]            m_axi_arsize_o,
  output logic [1:0]            m_axi_arburst_o,
  input  logic                  m_axi_rvalid_i,
  output logic                  m_axi_rready_o,
  input  logic [8*BusBytes-1:0] m_axi_rdata_i,
  input  logic [1:0]            m_axi_rresp_i,
  input  logic                  m_axi_rlast_i,
  // AXI4 write
  output logic                  m_axi_awvalid_o,
  input  logic                  m_axi_awready_i,
  output logic [39:0]           m_axi_awaddr_o,
  output logic [7:0]            m_axi_awlen_o,
  output logic [2:0]            m_axi_awsize_o,
  output logic [1:0]            m_axi_awburst_o,
  output logic                  m_axi_wvalid_o,
  input  logic                  m_axi_wready_i,
  output logic [8*BusBytes-1:0] m_axi_wdata_o,
  output logic [BusBytes-1:0]   m_axi_wstrb_o,
  output logic                  m_axi_wlast_o,
  input  logic                  m_axi_bvalid_i,
  input  logic [1:0]            m_axi_bresp_i,
  output logic                  m_axi_bready_o,
  // what happened in this cycle: see the assignment below
  output logic [12:0]           events_o,
  // performance counters
  input  logic [4:0]            counter_select_i,
  output logic [47:0]           counter_value_o
);

  localparam int unsigned ScratchpadRows  = ScratchpadBytes / Dim;
  localparam int unsigned AccumulatorRows = AccumulatorBytes / (4 * Dim);
  localparam int unsigned ParameterRows   = ParameterChannels / Dim;

  // -- Front end ---------------------------------------------------------------------------------

  logic         dispatch;
  logic         load_valid, execute_valid, drain_valid;
  instruction_t load_instr, execute_instr, drain_instr;
  logic [31:0]  load_tag, execute_tag, drain_tag;
  logic         load_pop, execute_pop, drain_pop;

  front_end #(
    .LoadQueueDepth(LoadQueueDepth),
    .ExecuteQueueDepth(ExecuteQueueDepth),
    .DrainQueueDepth(DrainQueueDepth)
  ) u_front_end (
    .clk_i,
    .rst_ni,
    .instr_valid_i,
    .instr_i,
    .instr_ready_o,
    .dispatch_o     (dispatch),
    .load_valid_o   (load_valid),
    .load_instr_o   (load_instr),
    .load_tag_o     (load_tag),
    .load_pop_i     (load_pop),
    .execute_valid_o(execute_valid),
    .execute_instr_o(execute_instr),
    .execute_tag_o  (execute_tag),
    .execute_pop_i  (execute_pop),
    .drain_valid_o  (drain_valid),
    .drain_instr_o  (drain_instr),
    .drain_tag_o    (drain_tag),
    .drain_pop_i    (drain_pop)
  );

  // -- Tokens ------------------------------------------------------------------------------------

  tokens_t load_waits, preload_waits, compute_waits, drain_waits;
  logic    load_waits_ready, preload_waits_ready, compute_waits_ready, drain_waits_ready;
  logic    load_start, preload_start, compute_start, sync_start, drain_start;
  logic    load_release, execute_release, drain_release;
  logic    load_complete, execute_complete, drain_complete;
  tokens_t load_release_signals, execute_release_signals, drain_release_signals;
  tokens_t load_complete_signals, execute_complete_signals, drain_complete_signals;

  tokens u_tokens (
    .clk_i,
    .rst_ni,
    .load_release_signals_i    (load_release_signals),
    .load_complete_signals_i   (load_complete_signals),
    .execute_release_signals_i (execute_release_signals),
    .execute_complete_signals_i(execute_complete_signals),
    .drain_release_signals_i   (drain_release_signals),
    .drain_complete_signals_i  (drain_complete_signals),
    .load_waits_i              (load_waits),
    .load_waits_ready_o        (load_waits_ready),
    .load_start_i              (load_start),
    .preload_waits_i           (preload_waits),
    .preload_waits_ready_o     (preload_waits_ready),
    .preload_start_i           (preload_start || sync_start),
    .compute_waits_i           (compute_waits),
    .compute_waits_ready_o     (compute_waits_ready),
    .compute_start_i           (compute_start),
    .drain_waits_i             (drain_waits),
    .drain_waits_ready_o       (drain_waits_ready),
    .drain_start_i             (drain_start),
    .all_zero_o                (no_tokens_o)
  );

  // -- Load --------------------------------------------------------------------------------------

  logic              load_row_valid, load_row_accumulate;
  target_e           load_row_target;
  logic [19:0]       load_row;
  logic [31:0]       load_row_tag;
  logic [64*Dim-1:0] load_row_data;
  logic              load_idle;

  load_unit #(
    .Dim(Dim),
    .BusBytes(BusBytes),
    .DramLatencyCycles(DramLatencyCycles),
    .ScratchpadRows(ScratchpadRows),
    .AccumulatorRows(AccumulatorRows),
    .ParameterRows(ParameterRows)
  ) u_load (
    .clk_i,
    .rst_ni,
    .instr_valid_i     (load_valid),
    .instr_i           (load_instr),
    .instr_tag_i       (load_tag),
    .instr_pop_o       (load_pop),
    .waits_o           (load_waits),
    .waits_ready_i     (load_waits_ready),
    .start_o           (load_start),
    .ar_valid_o        (m_axi_arvalid_o),
    .ar_ready_i        (m_axi_arready_i),
    .ar_addr_o         (m_axi_araddr_o),
    .ar_len_o          (m_axi_arlen_o),
    .r_valid_i         (m_axi_rvalid_i),
    .r_ready_o         (m_axi_rready_o),
    .r_data_i          (m_axi_rdata_i),
    .r_last_i          (m_axi_rlast_i),
    .row_valid_o       (load_row_valid),
    .row_target_o      (load_row_target),
    .row_o             (load_row),
    .row_accumulate_o  (load_row_accumulate),
    .row_tag_o         (load_row_tag),
    .row_data_o        (load_row_data),
    .release_o         (load_release),
    .release_signals_o (load_release_signals),
    .complete_o        (load_complete),
    .complete_signals_o(load_complete_signals),
    .idle_o            (load_idle)
  );

  assign m_axi_arsize_o  = 3'($clog2(BusBytes));
  assign m_axi_arburst_o = 2'b01; // INCR

  logic load_to_scratchpad, load_to_accumulator, load_to_parameters;
  assign load_to_scratchpad  = load_row_valid && load_row_target == TARGET_SCRATCHPAD;
  assign load_to_parameters  = load_row_valid && load_row_target == TARGET_PARAMETERS;
  assign load_to_accumulator = load_row_valid && (load_row_target == TARGET_ACCUMULATOR ||
                                                  load_row_target == TARGET_ACCUMULATOR_INT32);

  // -- Execute -----------------------------------------------------------------------------------

  logic              a_read, b_read;
  logic [19:0]       a_row, b_row;
  logic [31:0]       a_tag, b_tag;
  logic [8*Dim-1:0]  a_data, b_data;
  logic              a_valid, a_swap, a_accumulate, a_last;
  logic              b_valid, b_first, b_zero, b_transposed;
  logic [19:0]       a_acc_row;
  logic [31:0]       a_acc_tag;
  logic              sum_valid, sum_accumulate, sum_last, sum_done;
  logic [19:0]       sum_row;
  logic [31:0]       sum_tag;
  logic [32*Dim-1:0] sum_data;
  logic              execute_idle;
  logic [31:0]       preload_tag, compute_tag;

  execute_unit #(
    .Dim(Dim),
    .ScratchpadRows(ScratchpadRows),
    .AccumulatorRows(AccumulatorRows)
  ) u_execute (
    .clk_i,
    .rst_ni,
    .instr_valid_i        (execute_valid),
    .instr_i              (execute_instr),
    .instr_tag_i          (execute_tag),
    .instr_pop_o          (execute_pop),
    .waits_o              (preload_waits),
    .waits_ready_i        (preload_waits_ready),
    .compute_waits_o      (compute_waits),
    .compute_waits_ready_i(compute_waits_ready),
    .preload_start_o      (preload_start),
    .compute_start_o      (compute_start),
    .sync_start_o         (sync_start),
    .preload_tag_o        (preload_tag),
    .compute_tag_o        (compute_tag),
    .a_read_o             (a_read),
    .a_row_o              (a_row),
    .a_tag_o              (a_tag),
    .b_read_o             (b_read),
    .b_row_o              (b_row),
    .b_tag_o              (b_tag),
    .a_valid_o            (a_valid),
    .a_swap_o             (a_swap),
    .a_acc_row_o          (a_acc_row),
    .a_accumulate_o       (a_accumulate),
    .a_last_o             (a_last),
    .a_acc_tag_o          (a_acc_tag),
    .b_valid_o            (b_valid),
    .b_first_o            (b_first),
    .b_zero_o             (b_zero),
    .b_transposed_o       (b_transposed),
    .acc_done_i           (sum_done),
    .release_o            (execute_release),
    .release_signals_o    (execute_release_signals),
    .complete_o           (execute_complete),
    .complete_signals_o   (execute_complete_signals),
    .idle_o               (execute_idle)
  );

  mesh #(
    .Dim(Dim)
  ) u_mesh (
    .clk_i,
    .rst_ni,
    .a_valid_i       (a_valid),
    .a_swap_i        (a_swap),
    .a_data_i        (a_data),
    .a_acc_row_i     (a_acc_row),
    .a_accumulate_i  (a_accumulate),
    .a_last_i        (a_last),
    .a_tag_i         (a_acc_tag),
    .b_valid_i       (b_valid),
    .b_first_i       (b_first),
    .b_zero_i        (b_zero),
    .b_transposed_i  (b_transposed),
    .b_data_i        (b_data),
    .row_valid_o     (sum_valid),
    .row_data_o      (sum_data),
    .row_acc_row_o   (sum_row),
    .row_accumulate_o(sum_accumulate),
    .row_last_o      (sum_last),
    .row_tag_o       (sum_tag)
  );

  // -- Accumulator -------------------------------------------------------------------------------

  logic              mesh_read, mesh_write, fill_read, fill_write, unused_fill_last;
  logic [19:0]       mesh_read_row, mesh_write_row, fill_read_row, fill_write_row;
  logic [31:0]       mesh_read_tag, mesh_write_tag, fill_read_tag, fill_write_tag;
  logic [32*Dim-1:0] mesh_read_data, mesh_write_data, fill_read_data, fill_write_data;

  accumulate_port #(
    .Dim(Dim)
  ) u_mesh_sums (
    .clk_i,
    .rst_ni,
    .valid_i    (sum_valid),
    .row_i      (sum_row),
    .data_i     (sum_data),
    .accumulate_i(sum_accumulate),
    .last_i     (sum_last),
    .tag_i      (sum_tag),
    .read_o     (mesh_read),
    .read_row_o (mesh_read_row),
    .read_tag_o (mesh_read_tag),
    .read_data_i(mesh_read_data),
    .write_o    (mesh_write),
    .write_row_o(mesh_write_row),
    .write_data_o(mesh_write_data),
    .write_tag_o(mesh_write_tag),
    .last_o     (sum_done)
  );

  accumulate_port #(
    .Dim(Dim)
  ) u_load_sums (
    .clk_i,
    .rst_ni,
    .valid_i    (load_to_accumulator),
    .row_i      (load_row),
    .data_i     (load_row_data[32*Dim-1:0]),
    .accumulate_i(load_row_accumulate),
    .last_i     (1'b0),
    .tag_i      (load_row_tag),
    .read_o     (fill_read),
    .read_row_o (fill_read_row),
    .read_tag_o (fill_read_tag),
    .read_data_i(fill_read_data),
    .write_o    (fill_write),
    .write_row_o(fill_write_row),
    .write_data_o(fill_write_data),
    .write_tag_o(fill_write_tag),
    .last_o     (unused_fill_last)
  );

  logic              acc_read;
  logic [19:0]       acc_row;
  logic [31:0]       acc_tag;
  logic [32*Dim-1:0] acc_data;

  accumulator #(
    .Dim(Dim),
    .Banks   (AccumulatorBanks),
    .BankRows(AccumulatorRows / AccumulatorBanks)
  ) u_accumulator (
    .clk_i,
    .rst_ni,
    .mesh_read_i      (mesh_read),
    .mesh_read_row_i  (mesh_read_row),
    .mesh_read_tag_i  (mesh_read_tag),
    .mesh_read_data_o (mesh_read_data),
    .load_read_i      (fill_read),
    .load_read_row_i  (fill_read_row),
    .load_read_tag_i  (fill_read_tag),
    .load_read_data_o (fill_read_data),
    .drain_read_i     (acc_read),
    .drain_read_row_i (acc_row),
    .drain_read_tag_i (acc_tag),
    .drain_read_data_o(acc_data),
    .mesh_write_i     (mesh_write),
    .mesh_write_row_i (mesh_write_row),
    .mesh_write_data_i(mesh_write_data),
    .mesh_write_tag_i (mesh_write_tag),
    .load_write_i     (fill_write),
    .load_write_row_i (fill_write_row),
    .load_write_data_i(fill_write_data),
    .load_write_tag_i (fill_write_tag)
  );

  // -- Drain -------------------------------------------------------------------------------------

  logic              p0_read, p1_read;
  logic [9:0]        p0_row, p1_row;
  logic [31:0]       p0_tag, p1_tag;
  logic [64*Dim-1:0] p0_data, p1_data;
  logic              sp_write;
  logic [19:0]       sp_row;
  logic [31:0]       sp_tag;
  logic [8*Dim-1:0]  sp_data;
  logic              drain_idle;

  drain_unit #(
    .Dim(Dim),
    .BusBytes(BusBytes),
    .Normalization    (Normalization != 0),
    .DramLatencyCycles(DramLatencyCycles),
    .ScratchpadRows(ScratchpadRows),
    .AccumulatorRows(AccumulatorRows),
    .ParameterRows(ParameterRows)
  ) u_drain (
    .clk_i,
    .rst_ni,
    .instr_valid_i     (drain_valid),
    .instr_i           (drain_instr),
    .instr_tag_i       (drain_tag),
    .instr_pop_o       (drain_pop),
    .waits_o           (drain_waits),
    .waits_ready_i     (drain_waits_ready),
    .start_o           (drain_start),
    .acc_read_o        (acc_read),
    .acc_row_o         (acc_row),
    .acc_tag_o         (acc_tag),
    .acc_data_i        (acc_data),
    .p0_read_o         (p0_read),
    .p0_row_o          (p0_row),
    .p0_tag_o          (p0_tag),
    .p0_data_i         (p0_data),
    .p1_read_o         (p1_read),
    .p1_row_o          (p1_row),
    .p1_tag_o          (p1_tag),
    .p1_data_i         (p1_data),
    .sp_write_o        (sp_write),
    .sp_row_o          (sp_row),
    .sp_data_o         (sp_data),
    .sp_tag_o          (sp_tag),
    .aw_valid_o        (m_axi_awvalid_o),
    .aw_ready_i        (m_axi_awready_i),
    .aw_addr_o         (m_axi_awaddr_o),
    .aw_len_o          (m_axi_awlen_o),
    .w_valid_o         (m_axi_wvalid_o),
    .w_ready_i         (m_axi_wready_i),
    .w_data_o          (m_axi_wdata_o),
    .w_strb_o          (m_axi_wstrb_o),
    .w_last_o          (m_axi_wlast_o),
    .b_valid_i         (m_axi_bvalid_i),
    .b_ready_o         (m_axi_bready_o),
    .release_o         (drain_release),
    .release_signals_o (drain_release_signals),
    .complete_o        (drain_complete),
    .complete_signals_o(drain_complete_signals),
    .idle_o            (drain_idle)
  );

  assign m_axi_awsize_o  = 3'($clog2(BusBytes));
  assign m_axi_awburst_o = 2'b01; // INCR

  // -- Scratchpad and parameters -----------------------------------------------------------------

  scratchpad #(
    .Dim(Dim),
    .Banks   (ScratchpadBanks),
    .BankRows(ScratchpadRows / ScratchpadBanks)
  ) u_scratchpad (
    .clk_i,
    .rst_ni,
    .a_read_i     (a_read),
    .a_row_i      (a_row),
    .a_tag_i      (a_tag),
    .a_data_o     (a_data),
    .b_read_i     (b_read),
    .b_row_i      (b_row),
    .b_tag_i      (b_tag),
    .b_data_o     (b_data),
    .load_write_i (load_to_scratchpad),
    .load_row_i   (load_row),
    .load_data_i  (load_row_data[8*Dim-1:0]),
    .load_tag_i   (load_row_tag),
    .drain_write_i(sp_write),
    .drain_row_i  (sp_row),
    .drain_data_i (sp_data),
    .drain_tag_i  (sp_tag)
  );

  parameter_memory #(
    .Dim(Dim),
    .Rows(ParameterRows)
  ) u_parameters (
    .clk_i,
    .rst_ni,
    .p0_read_i        (p0_read),
    .p0_read_row_i    (p0_row),
    .p0_read_tag_i    (p0_tag),
    .p0_read_data_o   (p0_data),
    .p1_read_i        (p1_read),
    .p1_read_row_i    (p1_row),
    .p1_read_tag_i    (p1_tag),
    .p1_read_data_o   (p1_data),
    .load_write_i     (load_to_parameters),
    .load_write_row_i (load_row),
    .load_write_tag_i (load_row_tag),
    .load_write_data_i(load_row_data)
  );

  // -- Status ------------------------------------------------------------------------------------

  assign idle_o = !load_valid && !execute_valid && !drain_valid &&
                  load_idle && execute_idle && drain_idle;

  // Bit 0 is the dispatch; hw/simulation/simulator.py names the others in the same order.
  assign events_o = {
    1'b0,
    drain_complete, execute_complete, load_complete,
    drain_release, execute_release, load_release,
    drain_start, sync_start, compute_start, preload_start, load_start,
    dispatch
  };

  counters u_counters (
    .clk_i,
    .rst_ni,
    .select_i           (counter_select_i),
    .value_o            (counter_value_o),
    .busy_i             (!idle_o),
    .dispatch_i         (dispatch),
    .mvin_beat_i        (m_axi_rvalid_i && m_axi_rready_o),
    .mvout_beat_i       (m_axi_wvalid_o && m_axi_wready_i),
    .scratchpad_read_i  ({b_read, a_read}),
    .scratchpad_write_i ({sp_write, load_to_scratchpad}),
    .accumulator_read_i ({acc_read, fill_read, mesh_read}),
    .accumulator_write_i({fill_write, mesh_write}),
    .mesh_row_i         (a_valid),
    .weight_row_i       (b_valid && !b_zero),
    .load_busy_i        (!load_idle),
    .execute_busy_i     (!execute_idle),
    .drain_busy_i       (!drain_idle),
    .load_wait_i        (load_valid && !load_waits_ready),
    .execute_wait_i     (execute_valid && !(preload_waits_ready && compute_waits_ready)),
    .drain_wait_i       (drain_valid && !drain_waits_ready),
    .dispatch_stall_i   (instr_valid_i && !instr_ready_o)
  );

`ifndef SYNTHESIS
  // With nothing under way, no token will come: the oldest instruction left waits in vain.
  localparam int unsigned Patience = 2 * Dim + 16; // longer than a row's way through the mesh
  logic [7:0]  quiet_q;
  logic        waiting;
  logic [31:0] oldest;

  assign waiting = load_idle && drain_idle && !(a_read || b_read || sum_valid) && !idle_o;

  always_comb begin
    oldest = '1;
    if (load_valid && load_tag < oldest) oldest = load_tag;
    if (drain_valid && drain_tag < oldest) oldest = drain_tag;
    if (execute_valid && execute_tag < oldest) oldest = execute_tag;
    if (!execute_idle && preload_tag < oldest && |preload_waits) oldest = preload_tag;
    if (!execute_idle && compute_tag < oldest && |compute_waits) oldest = compute_tag;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || !waiting || |events_o) quiet_q <= '0;
    else if (quiet_q <= 8'(Patience)) quiet_q <= quiet_q + 1'b1;
  end

  tokens_come : assert property (@(posedge clk_i) disable iff (!rst_ni) quiet_q < 8'(Patience))
    else $error("instruction %0d waits for a token that no earlier instruction signals", oldest);

  // Of each channel, as tokens.sv orders them: who signals in this cycle, and who did last.
  localparam string ChannelNames [8] = '{
    "loaded", "filled", "consumed", "computed", "drained", "stored", "emptied", "finished"};
  logic [31:0] signaller [8], last_signaller_q [8];

  assign signaller = '{
    u_load.u_complete.head.tag, u_load.u_complete.head.tag,
    u_execute.u_release.head.tag, u_execute.u_complete.head.tag,
    u_drain.u_releases.head.tag, u_drain.u_completes.head.tag,
    u_drain.u_releases.head.tag, u_execute.u_release.head.tag};

  // An instruction whose tokens are there.
  function automatic logic [31:0] leftover();
    leftover = '0;
    for (int unsigned c = 0; c < 8; c++) begin
      if (u_tokens.counts_q[c] != '0) leftover = last_signaller_q[c];
    end
  endfunction

  for (genvar c = 0; c < 8; c++) begin : gen_channel_checks
    always_ff @(posedge clk_i) begin
      if (u_tokens.signalled[c] != '0) last_signaller_q[c] <= signaller[c];
    end
    no_overflow : assert property (@(posedge clk_i) disable iff (!rst_ni)
      u_tokens.signalled[c] != '0 |-> u_tokens.counts_d[c] <= 10'd255)
      else $error("instruction %0d overflows the counter of %s tokens", signaller[c],
                  ChannelNames[c]);
  end

  // DRAM ends at +memory_bytes=N.
  longint      memory_bytes;
  logic [31:0] load_now_q;  // the load that has its slots
  initial begin
    if ($value$plusargs("memory_bytes=%d", memory_bytes) == 0) memory_bytes = 64'd1 << 40;
  end
  always_ff @(posedge clk_i) if (load_start) load_now_q <= load_tag;

  reads_in_memory : assert property (@(posedge clk_i) disable iff (!rst_ni)
    m_axi_arvalid_o |-> longint'(m_axi_araddr_o) + (longint'(m_axi_arlen_o) + 1) * longint'(BusBytes)
                        <= memory_bytes)
    else $error("instruction %0d reads DRAM at byte %0d, beyond its end", load_now_q,
                m_axi_araddr_o);
  writes_in_memory : assert property (@(posedge clk_i) disable iff (!rst_ni)
    u_drain.seg_valid |-> (longint'(u_drain.seg_addr) / longint'(BusBytes) +
                           longint'(u_drain.seg_beats)) * longint'(BusBytes) <= memory_bytes)
    else $error("instruction %0d writes DRAM from byte %0d on, beyond its end", acc_tag,
                u_drain.seg_addr);

  memory_answers : assert property (@(posedge clk_i) disable iff (!rst_ni)
    (m_axi_rvalid_i |-> m_axi_rresp_i == 2'b00) and (m_axi_bvalid_i |-> m_axi_bresp_i == 2'b00))
    else $error("the memory answers with an error");
`endif

endmodule
