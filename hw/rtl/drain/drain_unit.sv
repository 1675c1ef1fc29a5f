// The drain unit: accumulator rows through functions and requantizers to DRAM or the scratchpad.
//
// Starts its queue's head in cycle s when the tokens are there and the sequencer is idle or in its
// last slot. A mvout is released in its last slot (cycle `free`) and completed in free + 16 when it
// writes the scratchpad, at its last B handshake when it writes DRAM; a drain_sync has both in
// s + 1. Tokens leave in program order, one instruction a cycle.

module drain_unit
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned BusBytes = 16,
  parameter bit Normalization = 1'b1,
  parameter int unsigned DramLatencyCycles = 50,
  parameter int unsigned AccumulatorRows = 1024,
  parameter int unsigned ScratchpadRows = 4096,
  parameter int unsigned ParameterRows = 64
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
  output logic                  release_o,
  output tokens_t               release_signals_o,
  output logic                  complete_o,
  output tokens_t               complete_signals_o,
  output logic                  idle_o,
  // accumulator read, data two cycles later
  output access_t               acc_read_o,
  input  logic [32*Dim-1:0]     acc_data_i,
  // parameter reads, data two cycles later
  output access_t               p0_read_o,
  input  logic [64*Dim-1:0]     p0_data_i,
  output access_t               p1_read_o,
  input  logic [64*Dim-1:0]     p1_data_i,
  // alignment write
  output access_t               alignment_o,
  output alignment_t            alignment_data_o,
  // scratchpad write
  output access_t               sp_write_o,
  output logic [8*Dim-1:0]      sp_data_o,
  // AXI4 writes
  output logic                  aw_valid_o,
  input  logic                  aw_ready_i,
  output dram_address_t         aw_addr_o,
  output logic [7:0]            aw_len_o,
  output logic                  w_valid_o,
  input  logic                  w_ready_i,
  output logic [8*BusBytes-1:0] w_data_o,
  output logic [BusBytes-1:0]   w_strb_o,
  output logic                  w_last_o,
  input  logic                  b_valid_i,
  output logic                  b_ready_o
);

  legal_sizes #(
    .Dim(Dim), .BusBytes(BusBytes), .DramLatencyCycles(DramLatencyCycles),
    .AccumulatorRows(AccumulatorRows), .ScratchpadRows(ScratchpadRows), .ParameterRows(ParameterRows)
  ) u_legal ();

  localparam int unsigned LaneBits = $clog2(Dim) + 1;
  localparam int unsigned Latency = 16;  // last slot to the completion of a scratchpad write
  localparam int unsigned InFlight = DramLatencyCycles + Latency + 8;

  typedef enum logic [1:0] { DONE_DRAM, DONE_SCRATCHPAD, DONE_SYNC } done_e;

  // -- Start --------------------------------------------------------------------------------------

  mvout_t  instr;
  logic    sequencer_ready, releases_full, completes_full, releases_empty;
  done_e   done_kind;

  assign instr      = head_i.instr;
  assign waits_o    = instr.header.waits;
  assign start_o    = head_i.valid && waits_ready_i && sequencer_ready
                      && !releases_full && !completes_full;
  assign head_pop_o = start_o;
  assign done_kind  = instr.header.opcode == DRAIN_SYNC ? DONE_SYNC
                    : instr.destination == DESTINATION_SCRATCHPAD ? DONE_SCRATCHPAD : DONE_DRAM;

  // -- Slots --------------------------------------------------------------------------------------

  logic                slot_ready, slot_valid, last, last_store, last_scratchpad;
  slot_t               slot, row_slot;
  logic [LaneBits-1:0] lanes, skipped;
  logic                seg_valid, seg_last;
  dram_address_t       seg_addr;
  beat_count_t         seg_beats;
  logic                center, reciprocal, p0_read;
  local_row_t          acc_row;
  parameter_row_t      p0_row;
  column_count_t       columns;
  inverse_t            inverse;
  epsilon_t            epsilon;

  drain_sequencer #(
    .Dim(Dim),
    .BusBytes(BusBytes),
    .Normalization(Normalization),
    .AccumulatorRows(AccumulatorRows),
    .ScratchpadRows(ScratchpadRows),
    .ParameterRows(ParameterRows)
  ) u_sequencer (
    .clk_i,
    .rst_ni,
    .ready_o          (sequencer_ready),
    .start_i          (start_o),
    .instr_i          (instr),
    .tag_i            (head_i.tag),
    .last_o           (last),
    .last_store_o     (last_store),
    .last_scratchpad_o(last_scratchpad),
    .slot_ready_i     (slot_ready),
    .slot_valid_o     (slot_valid),
    .slot_o           (slot),
    .lanes_o          (lanes),
    .skipped_o        (skipped),
    .acc_row_o        (acc_row),
    .p0_read_o        (p0_read),
    .p0_row_o         (p0_row),
    .seg_valid_o      (seg_valid),
    .seg_addr_o       (seg_addr),
    .seg_beats_o      (seg_beats),
    .seg_last_o       (seg_last),
    .center_o         (center),
    .columns_o        (columns),
    .inverse_o        (inverse),
    .epsilon_o        (epsilon),
    .reciprocal_i     (reciprocal)
  );

  assign acc_read_o = '{valid: slot_valid, row: acc_row, tag: slot.tag};
  assign p0_read_o  = '{valid: p0_read, row: local_row_t'(p0_row), tag: slot.tag};

  // -- Rows ---------------------------------------------------------------------------------------

  logic              row_valid, row_word;
  logic [32*Dim-1:0] row_words, row_data;

  row_pipeline #(
    .Dim(Dim),
    .Normalization(Normalization)
  ) u_pipeline (
    .clk_i,
    .rst_ni,
    .slot_valid_i(slot_valid),
    .slot_i      (slot),
    .lanes_i     (lanes),
    .skipped_i   (skipped),
    .acc_data_i,
    .p0_data_i,
    .p1_read_o,
    .p1_data_i,
    .center_i    (center),
    .columns_i   (columns),
    .inverse_i   (inverse),
    .epsilon_i   (epsilon),
    .reciprocal_o(reciprocal),
    .alignment_o,
    .alignment_data_o,
    .row_valid_o (row_valid),
    .row_slot_o  (row_slot),
    .row_data_o  (row_words)
  );

  assign row_word = row_slot.mode == MODE_WORD;

  for (genvar j = 0; j < Dim; j++) begin : gen_bytes
    assign sp_data_o[8*j+:8] = row_words[32*j+:8];
  end

  assign row_data   = row_word ? row_words : {{24 * Dim{1'b0}}, sp_data_o};
  assign sp_write_o = '{valid: row_valid && row_slot.to_scratchpad, row: row_slot.scratchpad_row,
                        tag: row_slot.tag};

  // -- Stores -------------------------------------------------------------------------------------

  logic stored;

  store_dma #(
    .Dim(Dim),
    .BusBytes(BusBytes),
    .DramLatencyCycles(DramLatencyCycles)
  ) u_store_dma (
    .clk_i,
    .rst_ni,
    .seg_valid_i (seg_valid),
    .seg_addr_i  (seg_addr),
    .seg_beats_i (seg_beats),
    .seg_last_i  (seg_last),
    .seg_tag_i   (slot.tag),
    .row_valid_i (row_valid && !row_slot.to_scratchpad),
    .row_data_i  (row_data),
    .row_word_i  (row_word),
    .row_last_i  (row_slot.segment_last),
    .slot_ready_o(slot_ready),
    .done_o      (stored),
    .aw_valid_o,
    .aw_ready_i,
    .aw_addr_o,
    .aw_len_o,
    .w_valid_o,
    .w_ready_i,
    .w_data_o,
    .w_strb_o,
    .w_last_o,
    .b_valid_i,
    .b_ready_o
  );

  // -- Retirement ---------------------------------------------------------------------------------

  logic [Latency:1] written_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) written_q <= '0;
    else written_q <= {written_q[Latency-1:1], last_scratchpad};
  end

  retire #(
    .Depth(4),
    .Kinds(1)
  ) u_releases (
    .clk_i,
    .rst_ni,
    .push_i   (start_o),
    .kind_i   (1'b0),
    .signals_i(instr.header.signals),
    .tag_i    (head_i.tag),
    .done_i   (last),
    .retire_o (release_o),
    .signals_o(release_signals_o),
    .empty_o  (releases_empty),
    .full_o   (releases_full)
  );

  retire #(
    .Depth(InFlight),
    .Kinds(3)
  ) u_completes (
    .clk_i,
    .rst_ni,
    .push_i   (start_o),
    .kind_i   (done_kind),
    .signals_i(instr.header.signals),
    .tag_i    (head_i.tag),
    .done_i   ({last && !last_store, written_q[Latency], stored}),
    .retire_o (complete_o),
    .signals_o(complete_signals_o),
    .empty_o  (idle_o),
    .full_o   (completes_full)
  );

  logic unused_instr;
  assign unused_instr = &{1'b0, instr, row_slot, releases_empty};

`ifndef SYNTHESIS
  // The parameters, as they come out of their memory.
  access_t           reads_q [2], reads_q2 [2];
  logic [64*Dim-1:0] parameters [2];

  assign parameters = '{p0_data_i, p1_data_i};

  always_ff @(posedge clk_i) begin
    reads_q  <= '{p0_read_o, p1_read_o};
    reads_q2 <= reads_q;
    if (rst_ni) begin
      for (int unsigned p = 0; p < 2; p++) begin
        if (reads_q2[p].valid) begin
          for (int unsigned j = 0; j < Dim; j++) begin
            shifts : assert (parameters[p][64*j+56+:8] < 8'd63)
              else $error("instruction %0d: shift %0d of channel %0d in parameter row %0d",
                          reads_q2[p].tag, parameters[p][64*j+56+:8], j, reads_q2[p].row);
          end
        end
      end
    end
  end

  opcode : assert property (@(posedge clk_i) disable iff (!rst_ni)
    head_i.valid |-> instr.header.opcode inside {MVOUT, DRAIN_SYNC})
    else $error("instruction %0d: opcode %0d is not the drain's", head_i.tag, instr.header.opcode);
`endif

endmodule
