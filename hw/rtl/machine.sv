// The whole machine: front end, load, execute and drain units, their memories, and token counters.
//
// Instructions enter on the host port, one a cycle; data moves over one AXI4 master port (reads by
// the load unit, writes by the drain unit). `trace_o` tells in every cycle what happened to which
// instruction; hw/views/timing.py predicts each of these cycles exactly.

module machine
  import isa_pkg::*;
  import trace_pkg::*;
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
  output dram_address_t         m_axi_araddr_o,
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
  output dram_address_t         m_axi_awaddr_o,
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
  // what happened in this cycle
  output trace_t                trace_o,
  // performance counters
  input  logic [4:0]            counter_select_i,
  output logic [47:0]           counter_value_o
);

  legal_memories #(
    .Dim(Dim), .ParameterChannels(ParameterChannels),
    .ScratchpadBytes(ScratchpadBytes), .ScratchpadBanks(ScratchpadBanks),
    .AccumulatorBytes(AccumulatorBytes), .AccumulatorBanks(AccumulatorBanks)
  ) u_legal ();

  localparam int unsigned ScratchpadRows  = ScratchpadBytes / Dim;
  localparam int unsigned AccumulatorRows = AccumulatorBytes / (4 * Dim);
  localparam int unsigned ParameterRows   = ParameterChannels / Dim;

  // -- Front end ---------------------------------------------------------------------------------

  logic  dispatch;
  head_t load_head, execute_head, drain_head;
  logic  load_pop, execute_pop, drain_pop;

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
    .dispatch_o   (dispatch),
    .load_o       (load_head),
    .load_pop_i   (load_pop),
    .execute_o    (execute_head),
    .execute_pop_i(execute_pop),
    .drain_o      (drain_head),
    .drain_pop_i  (drain_pop)
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

  logic              load_row_valid, load_idle;
  target_e           load_row_target;
  sums_t             load_row;
  logic [64*Dim-1:0] load_row_data;

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
    .head_i            (load_head),
    .head_pop_o        (load_pop),
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
    .row_sums_o        (load_row),
    .row_data_o        (load_row_data),
    .release_o         (load_release),
    .release_signals_o (load_release_signals),
    .complete_o        (load_complete),
    .complete_signals_o(load_complete_signals),
    .idle_o            (load_idle)
  );

  assign m_axi_arsize_o  = 3'($clog2(BusBytes));
  assign m_axi_arburst_o = 2'b01; // INCR

  // Rows by their target.
  access_t scratchpad_fill, parameter_fill;
  logic    fills_accumulator;

  assign scratchpad_fill   = '{valid: load_row_valid && load_row_target == TARGET_SCRATCHPAD,
                               row: load_row.row, tag: load_row.tag};
  assign parameter_fill    = '{valid: load_row_valid && load_row_target == TARGET_PARAMETERS,
                               row: load_row.row, tag: load_row.tag};
  assign fills_accumulator = load_row_valid && load_row_target inside {TARGET_ACCUMULATOR,
                                                                       TARGET_ACCUMULATOR_INT32};

  // -- Execute -----------------------------------------------------------------------------------

  access_t           a_read, b_read;
  logic [8*Dim-1:0]  ab_data [2];
  access_t           alignment_read, alignment_write;
  alignment_t        alignment_data, alignment_write_data;
  logic              a_valid, a_swap, b_valid;
  weights_t          b_slot;
  sums_t             a_sums, sums;
  logic              sum_valid, sum_done, execute_idle;
  logic [32*Dim-1:0] sum_data;

  execute_unit #(
    .Dim(Dim),
    .ScratchpadRows(ScratchpadRows),
    .AccumulatorRows(AccumulatorRows)
  ) u_execute (
    .clk_i,
    .rst_ni,
    .head_i               (execute_head),
    .head_pop_o           (execute_pop),
    .waits_o              (preload_waits),
    .waits_ready_i        (preload_waits_ready),
    .compute_waits_o      (compute_waits),
    .compute_waits_ready_i(compute_waits_ready),
    .preload_start_o      (preload_start),
    .compute_start_o      (compute_start),
    .sync_start_o         (sync_start),
    .a_read_o             (a_read),
    .b_read_o             (b_read),
    .alignment_read_o     (alignment_read),
    .alignment_data_i     (alignment_data),
    .a_valid_o            (a_valid),
    .a_swap_o             (a_swap),
    .a_sums_o             (a_sums),
    .b_valid_o            (b_valid),
    .b_slot_o             (b_slot),
    .acc_done_i           (sum_done),
    .release_o            (execute_release),
    .release_signals_o    (execute_release_signals),
    .complete_o           (execute_complete),
    .complete_signals_o   (execute_complete_signals),
    .idle_o               (execute_idle)
  );

  mesh #(.Dim(Dim)) u_mesh (
    .clk_i,
    .rst_ni,
    .a_valid_i  (a_valid),
    .a_swap_i   (a_swap),
    .a_data_i   (ab_data[0]),
    .a_sums_i   (a_sums),
    .b_valid_i  (b_valid),
    .b_slot_i   (b_slot),
    .b_data_i   (ab_data[1]),
    .row_valid_o(sum_valid),
    .row_data_o (sum_data),
    .row_sums_o (sums)
  );

  // -- Accumulator -------------------------------------------------------------------------------

  access_t           mesh_read, mesh_write, fill_read, fill_write, acc_read;
  logic [32*Dim-1:0] acc_read_data [3]; // for the mesh, the loads and the drain
  logic [32*Dim-1:0] acc_write_data [2];
  logic              unused_fill_last;

  accumulate_port #(.Dim(Dim)) u_mesh_sums (
    .clk_i,
    .rst_ni,
    .valid_i     (sum_valid),
    .sums_i      (sums),
    .data_i      (sum_data),
    .read_o      (mesh_read),
    .read_data_i (acc_read_data[0]),
    .write_o     (mesh_write),
    .write_data_o(acc_write_data[0]),
    .last_o      (sum_done)
  );

  accumulate_port #(.Dim(Dim)) u_load_sums (
    .clk_i,
    .rst_ni,
    .valid_i     (fills_accumulator),
    .sums_i      (load_row),
    .data_i      (load_row_data[32*Dim-1:0]),
    .read_o      (fill_read),
    .read_data_i (acc_read_data[1]),
    .write_o     (fill_write),
    .write_data_o(acc_write_data[1]),
    .last_o      (unused_fill_last)
  );

  banked_memory #(
    .Name("accumulator"),
    .Width(32 * Dim),
    .Banks(AccumulatorBanks),
    .BankRows(AccumulatorRows / AccumulatorBanks),
    .Reads(3),
    .Writes(2),
    .Updates(2)
  ) u_accumulator (
    .clk_i,
    .rst_ni,
    .read_i      ({acc_read, fill_read, mesh_read}),
    .read_data_o (acc_read_data),
    .write_i     ({fill_write, mesh_write}),
    .write_data_i(acc_write_data)
  );

  // -- Drain -------------------------------------------------------------------------------------

  access_t           p0_read, p1_read, sp_write;
  logic [64*Dim-1:0] parameter_data [2];
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
    .head_i            (drain_head),
    .head_pop_o        (drain_pop),
    .waits_o           (drain_waits),
    .waits_ready_i     (drain_waits_ready),
    .start_o           (drain_start),
    .acc_read_o        (acc_read),
    .acc_data_i        (acc_read_data[2]),
    .p0_read_o         (p0_read),
    .p0_data_i         (parameter_data[0]),
    .p1_read_o         (p1_read),
    .p1_data_i         (parameter_data[1]),
    .alignment_o       (alignment_write),
    .alignment_data_o  (alignment_write_data),
    .sp_write_o        (sp_write),
    .sp_data_o         (sp_data),
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

  logic [8*Dim-1:0] sp_write_data [2];

  assign sp_write_data = '{load_row_data[8*Dim-1:0], sp_data};

  banked_memory #(
    .Name("scratchpad"),
    .Width(8 * Dim),
    .Banks(ScratchpadBanks),
    .BankRows(ScratchpadRows / ScratchpadBanks),
    .Reads(2),
    .Writes(2)
  ) u_scratchpad (
    .clk_i,
    .rst_ni,
    .read_i      ({b_read, a_read}),
    .read_data_o (ab_data),
    .write_i     ({sp_write, scratchpad_fill}),
    .write_data_i(sp_write_data)
  );

  alignment_memory #(.Normalization(Normalization)) u_alignments (
    .clk_i,
    .rst_ni,
    .read_i      (alignment_read),
    .read_data_o (alignment_data),
    .write_i     (alignment_write),
    .write_data_i(alignment_write_data)
  );

  parameter_memory #(
    .Dim(Dim),
    .Rows(ParameterRows)
  ) u_parameters (
    .clk_i,
    .rst_ni,
    .read_i      ({p1_read, p0_read}),
    .read_data_o (parameter_data),
    .write_i     (parameter_fill),
    .write_data_i(load_row_data)
  );

  // -- Status ------------------------------------------------------------------------------------

  assign idle_o = !load_head.valid && !execute_head.valid && !drain_head.valid &&
                  load_idle && execute_idle && drain_idle;

  assign trace_o = '{
    dispatch:           dispatch,
    load_start:         load_start,
    preload_start:      preload_start,
    compute_start:      compute_start,
    execute_sync_start: sync_start,
    drain_start:        drain_start,
    load_release:       load_release,
    execute_release:    execute_release,
    drain_release:      drain_release,
    load_complete:      load_complete,
    execute_complete:   execute_complete,
    drain_complete:     drain_complete
  };

  counted_t counted;
  assign counted = '{
    busy:              !idle_o,
    dispatch:          dispatch,
    mvin_beat:         m_axi_rvalid_i && m_axi_rready_o,
    mvout_beat:        m_axi_wvalid_o && m_axi_wready_i,
    scratchpad_read:   {b_read.valid, a_read.valid},
    scratchpad_write:  {sp_write.valid, scratchpad_fill.valid},
    accumulator_read:  {acc_read.valid, fill_read.valid, mesh_read.valid},
    accumulator_write: {fill_write.valid, mesh_write.valid},
    mesh_row:          a_valid,
    weight_row:        b_valid && !b_slot.zero,
    load_busy:         !load_idle,
    execute_busy:      !execute_idle,
    drain_busy:        !drain_idle,
    load_wait:         load_head.valid && !load_waits_ready,
    execute_wait:      execute_head.valid && !(preload_waits_ready && compute_waits_ready),
    drain_wait:        drain_head.valid && !drain_waits_ready,
    dispatch_stall:    instr_valid_i && !instr_ready_o
  };

  counters u_counters (
    .clk_i,
    .rst_ni,
    .select_i (counter_select_i),
    .value_o  (counter_value_o),
    .counted_i(counted)
  );

  logic unused_responses; // checked in simulation
  assign unused_responses = ^{m_axi_rresp_i, m_axi_bresp_i};

endmodule
