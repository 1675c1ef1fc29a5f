// Walks the slots of one mvin at a time and requests its DRAM reads.
//
// After start_i in cycle s the slots take the cycles from s + 1, one a cycle: max(rows, beats) of
// them a block, and one in all for a load_sync, which reads nothing. A beat's slot is the one in
// which its first row is written, or, where a row takes several beats, one of its own. A burst is
// requested in the slot of its first beat; it stays within its block, within 4 KiB and within 256
// beats. Slots stall while a request is not taken. release_o marks the last slot; the next
// instruction may start in that cycle.

module load_addresses
  import isa_pkg::*;
#(
  parameter int unsigned Dim      = 16,
  parameter int unsigned BusBytes = 16
) (
  input  logic          clk_i,
  input  logic          rst_ni,
  // instruction
  input  logic          start_i,
  input  instruction_t  instr_i,
  output logic          ready_o,
  // AXI read requests
  output logic          ar_valid_o,
  input  logic          ar_ready_i,
  output dram_address_t ar_addr_o,
  output logic [7:0]    ar_len_o,
  // last slot
  output logic          release_o,
  output logic          release_sync_o
);

  legal_sizes #(.Dim(Dim), .BusBytes(BusBytes)) u_legal ();

  localparam int unsigned BusBits   = $clog2(BusBytes);
  localparam int unsigned PageBeats = 4096 / BusBytes;
  localparam int unsigned MaxBeats  = PageBeats < 256 ? PageBeats : 256;

  // By target: log2 of the slots of a beat, and of the beats of a row.
  function automatic int unsigned log2_ratio(int unsigned a, int unsigned b);
    return a > b ? $clog2(a / b) : 0;
  endfunction

  localparam int unsigned SlotShift [4] = '{
    log2_ratio(BusBytes, Dim), log2_ratio(BusBytes, Dim),
    log2_ratio(BusBytes, 4 * Dim), log2_ratio(BusBytes, 8 * Dim)};
  localparam int unsigned BeatShift [4] = '{
    log2_ratio(Dim, BusBytes), log2_ratio(Dim, BusBytes),
    log2_ratio(4 * Dim, BusBytes), log2_ratio(8 * Dim, BusBytes)};

  localparam int unsigned SlotBits = 17 + BeatShift[3]; // of a block, with a last beat made full

  mvin_t mvin;
  logic  sync;
  assign mvin = mvin_t'(instr_i);
  assign sync = mvin.header.opcode == LOAD_SYNC;

  logic                busy, sync_q;
  logic [3:0]          slot_shift_q;
  dram_stride_t        dram_stride_q;
  block_count_t        blocks_left_q;   // this one included
  logic [SlotBits-1:0] block_slots_q;
  logic [SlotBits-1:0] slots_left_q;    // of the block, this one included
  logic [SlotBits-1:0] burst_left_q;    // slots, without this one, until the next burst
  dram_address_t       block_address_q; // first byte of the block
  dram_address_t       address_q;       // first byte that no burst has requested

  // -- The burst that begins in this slot --------------------------------------------------------

  logic [SlotBits-1:0] beats_left, burst_slots;
  logic [12:0]         page_beats, burst_beats;

  always_comb begin
    beats_left = (slots_left_q + (SlotBits'(1) << slot_shift_q) - 1'b1) >> slot_shift_q;
    page_beats = 13'(PageBeats) - 13'(address_q[11:0] >> BusBits);
    burst_beats = page_beats > 13'(MaxBeats) ? 13'(MaxBeats) : page_beats;
    if (beats_left < SlotBits'(burst_beats)) burst_beats = beats_left[12:0];
    burst_slots = SlotBits'(burst_beats) << slot_shift_q;
  end

  assign ar_valid_o = busy && !sync_q && burst_left_q == '0;
  assign ar_addr_o  = address_q;
  assign ar_len_o   = 8'(burst_beats - 13'd1);

  // -- Slots -------------------------------------------------------------------------------------

  logic          advance, last_of_block;
  dram_address_t next_block_address;

  assign advance            = busy && (!ar_valid_o || ar_ready_i);
  assign last_of_block      = slots_left_q == SlotBits'(1);
  assign next_block_address = block_address_q + dram_address_t'(dram_stride_q);

  assign release_o      = advance && last_of_block && blocks_left_q == 1;
  assign release_sync_o = release_o && sync_q;

  busy_flag u_busy (.clk_i, .rst_ni, .start_i, .last_i(release_o), .busy_o(busy), .ready_o);

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      sync_q          <= sync;
      slot_shift_q    <= 4'(SlotShift[mvin.target]);
      dram_stride_q   <= mvin.dram_stride;
      blocks_left_q   <= sync ? block_count_t'(1) : mvin.blocks;
      block_slots_q   <= SlotBits'(mvin.rows) << BeatShift[mvin.target];
      slots_left_q    <= sync ? SlotBits'(1) : SlotBits'(mvin.rows) << BeatShift[mvin.target];
      burst_left_q    <= '0;
      block_address_q <= mvin.dram;
      address_q       <= mvin.dram;
    end else if (advance) begin
      if (ar_valid_o) address_q <= address_q + (dram_address_t'(burst_beats) << BusBits);
      burst_left_q <= (ar_valid_o ? burst_slots : burst_left_q) - 1'b1;
      slots_left_q <= slots_left_q - 1'b1;
      if (last_of_block) begin
        blocks_left_q   <= blocks_left_q - 1'b1;
        slots_left_q    <= block_slots_q;
        burst_left_q    <= '0;
        block_address_q <= next_block_address;
        address_q       <= next_block_address;
      end
    end
  end

  logic unused_mvin;
  assign unused_mvin = ^{mvin.unused, mvin.accumulate, mvin.scale, mvin.stride, mvin.local_,
                         mvin.header.signals, mvin.header.waits};

`ifndef SYNTHESIS
  starts_when_ready : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("an instruction starts while another has slots left");
  aligned : assert property (@(posedge clk_i) disable iff (!rst_ni)
    ar_valid_o |-> ar_addr_o % dram_address_t'(BusBytes) == '0)
    else $error("read request at 0x%h, which is no start of a beat", ar_addr_o);
`endif

endmodule
