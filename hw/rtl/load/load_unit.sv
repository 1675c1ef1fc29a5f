// The load unit: mvin and load_sync, in order.
//
// The head of the queue starts when its tokens are there, the previous instruction has no slot left
// after this cycle and the record of instructions in flight has room. Its slots follow, one a cycle
// (load_addresses), and in the last of them it is released. Its data comes DramLatencyCycles after
// the slots and leaves as rows two cycles later (load_unpacker); it completes two more cycles later,
// when the accumulator has added it. A load_sync takes one slot, in which it is done.

module load_unit
  import isa_pkg::*;
#(
  parameter int unsigned Dim               = 16,
  parameter int unsigned BusBytes          = 16,
  parameter int unsigned DramLatencyCycles = 40,
  parameter int unsigned ScratchpadRows    = 4096,
  parameter int unsigned AccumulatorRows   = 1024,
  parameter int unsigned ParameterRows     = 256
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // queue head
  input  head_t                 head_i,
  output logic                  head_pop_o,
  // tokens
  output tokens_t               waits_o,
  input  logic                  waits_ready_i,
  output logic                  start_o,
  // AXI read requests
  output logic                  ar_valid_o,
  input  logic                  ar_ready_i,
  output dram_address_t         ar_addr_o,
  output logic [7:0]            ar_len_o,
  // AXI read data
  input  logic                  r_valid_i,
  output logic                  r_ready_o,
  input  logic [8*BusBytes-1:0] r_data_i,
  input  logic                  r_last_i,
  // rows for all targets
  output logic                  row_valid_o,
  output target_e               row_target_o,
  output sums_t                 row_sums_o,
  output logic [64*Dim-1:0]     row_data_o,
  // retirement
  output logic                  release_o,
  output tokens_t               release_signals_o,
  output logic                  complete_o,
  output tokens_t               complete_signals_o,
  output logic                  idle_o
);

  legal_sizes #(
    .Dim(Dim), .BusBytes(BusBytes), .DramLatencyCycles(DramLatencyCycles),
    .ScratchpadRows(ScratchpadRows), .AccumulatorRows(AccumulatorRows), .ParameterRows(ParameterRows)
  ) u_legal ();

  // At one slot an instruction, DramLatencyCycles + 5 are in flight.
  localparam int unsigned InFlight = DramLatencyCycles + 8;

  mvin_t   mvin;
  logic    sync, slots_ready, full, release_sync, mvin_done;
  tokens_t signals_q;

  assign mvin = mvin_t'(head_i.instr);
  assign sync = mvin.header.opcode == LOAD_SYNC;

  assign waits_o    = mvin.header.waits;
  assign start_o    = head_i.valid && waits_ready_i && slots_ready && !full;
  assign head_pop_o = start_o;

  load_addresses #(
    .Dim     (Dim),
    .BusBytes(BusBytes)
  ) u_addresses (
    .clk_i,
    .rst_ni,
    .start_i       (start_o),
    .instr_i       (head_i.instr),
    .ready_o       (slots_ready),
    .ar_valid_o,
    .ar_ready_i,
    .ar_addr_o,
    .ar_len_o,
    .release_o,
    .release_sync_o(release_sync)
  );

  load_unpacker #(
    .Dim     (Dim),
    .BusBytes(BusBytes),
    .Depth   (InFlight)
  ) u_unpacker (
    .clk_i,
    .rst_ni,
    .push_i (start_o && !sync),
    .instr_i(head_i.instr),
    .tag_i  (head_i.tag),
    .r_valid_i,
    .r_ready_o,
    .r_data_i,
    .r_last_i,
    .row_valid_o,
    .row_target_o,
    .row_sums_o,
    .row_data_o,
    .done_o(mvin_done)
  );

  // -- Retirement --------------------------------------------------------------------------------

  // Last slots are in order and one a cycle at most: releases need no retire.
  always_ff @(posedge clk_i) begin
    if (start_o) signals_q <= mvin.header.signals;
  end
  assign release_signals_o = release_o ? signals_q : '0;

  logic empty;

  retire #(
    .Depth(InFlight),
    .Kinds(2)
  ) u_complete (
    .clk_i,
    .rst_ni,
    .push_i   (start_o),
    .kind_i   (sync),
    .signals_i(mvin.header.signals),
    .tag_i    (head_i.tag),
    .done_i   ({release_sync, mvin_done}),
    .retire_o (complete_o),
    .signals_o(complete_signals_o),
    .empty_o  (empty),
    .full_o   (full)
  );

  assign idle_o = empty;

  logic unused_mvin; // here, not in the parts
  assign unused_mvin = ^{mvin.unused, mvin.accumulate, mvin.scale};

`ifndef SYNTHESIS
  localparam int unsigned Rows [4] =
    '{ScratchpadRows, AccumulatorRows, AccumulatorRows, ParameterRows};

  logic        start_mvin;
  logic [39:0] end_row, end_stride;
  assign start_mvin = start_o && !sync;
  assign end_stride = 40'(mvin.blocks - 1'b1) * 40'(mvin.stride);
  assign end_row    = 40'(mvin.local_) + end_stride + 40'(mvin.rows);

  not_empty : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_mvin |-> mvin.rows != '0 && mvin.blocks != '0)
    else $error("instruction %0d loads %0d rows of %0d blocks", head_i.tag, mvin.rows,
                mvin.blocks);
  beat_aligned : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_mvin |-> mvin.dram % dram_address_t'(BusBytes) == '0 &&
                   (mvin.blocks == 1 || mvin.dram_stride % dram_stride_t'(BusBytes) == '0))
    else $error("instruction %0d: a block at 0x%h, stride 0x%h, does not begin with a beat (%0d B)",
                head_i.tag, mvin.dram, mvin.dram_stride, BusBytes);
  added_to_sums : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_mvin && mvin.accumulate |-> mvin.target inside {TARGET_ACCUMULATOR,
                                                          TARGET_ACCUMULATOR_INT32})
    else $error("instruction %0d accumulates into target %0d", head_i.tag, mvin.target);
  in_memory : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_mvin |-> end_row <= 40'(Rows[mvin.target]))
    else $error("instruction %0d writes rows up to %0d of target %0d, which has %0d", head_i.tag,
                end_row - 1'b1, mvin.target, Rows[mvin.target]);
`endif

endmodule
