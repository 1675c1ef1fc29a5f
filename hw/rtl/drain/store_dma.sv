// Writes the drain's output rows to DRAM over AXI4 (INCR bursts, one ID, W in the order of AW).
//
// A segment is one contiguous run of beats. Its command comes in the cycle x of its first slot and
// its AW in x + 2; the row of a slot in cycle x comes in x + 12. With a memory that is always ready
// the beat that a row entering in cycle t completes has its W handshake in t + 4, and a row of
// several beats the others in the cycles after. AW and W do not wait for each other's ready.
//
// Slots that give output may only be issued while slot_ready_o is high, which it always is with a
// memory that answers B within DramLatencyCycles and never stalls: what was issued always fits.

module store_dma
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned BusBytes = 16,
  parameter int unsigned DramLatencyCycles = 50
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // segment, in the cycle of its first slot
  input  logic                  seg_valid_i,
  input  dram_address_t         seg_addr_i,
  input  beat_count_t           seg_beats_i,
  input  logic                  seg_last_i,   // of its instruction
  input  tag_t                  seg_tag_i,
  // rows, 12 cycles after their slots
  input  logic                  row_valid_i,
  input  logic [32*Dim-1:0]     row_data_i,   // int8: low quarter
  input  logic                  row_word_i,   // int32 instead of int8
  input  logic                  row_last_i,   // of its segment
  output logic                  slot_ready_o,
  output logic                  done_o,       // an instruction's last B handshake
  // AXI write channels
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

  legal_sizes #(.Dim(Dim), .BusBytes(BusBytes), .DramLatencyCycles(DramLatencyCycles)) u_legal ();

  localparam int unsigned SlotLatency = 12;  // from a slot to its row
  localparam int unsigned GroupBytes = Dim < BusBytes ? Dim : BusBytes;
  localparam int unsigned Groups = BusBytes / GroupBytes;
  localparam int unsigned PositionBits = Groups > 1 ? $clog2(Groups) : 1;
  localparam int unsigned MostBeats = 4 * Dim > BusBytes ? 4 * Dim / BusBytes : 1;  // of a row

  localparam int unsigned SegmentDepth = 4;
  localparam int unsigned BurstDepth = SlotLatency + 4;       // AW until the last W
  localparam int unsigned AnswerDepth = DramLatencyCycles + SlotLatency + 8;  // AW until B
  localparam int unsigned Backlog = 4;                        // beats that do not stop slots
  localparam int unsigned BeatDepth = Backlog + SlotLatency + 2 + MostBeats;
  localparam int unsigned BeatCountBits = $clog2(BeatDepth + 1);

  // segments to bursts

  logic          seg_full, run_valid, run_pop;
  logic          burst_valid, burst_ready, burst_last, burst_take;
  logic [$clog2(SegmentDepth+1)-1:0] unused_segments;
  dram_address_t burst_addr;
  logic [7:0]    burst_len;

  typedef struct packed {
    logic          last;  // of its instruction
    dram_address_t addr;
    beat_count_t   beats;
  } segment_t;

  segment_t segment, run;
  assign segment = '{last: seg_last_i, addr: seg_addr_i, beats: seg_beats_i};

  fifo #(.Depth(SegmentDepth), .entry_t(segment_t)) u_segments (
    .clk_i, .rst_ni,
    .push_i(seg_valid_i), .data_i(segment), .full_o(seg_full),
    .valid_o(run_valid), .data_o(run), .pop_i(run_pop),
    .count_o(unused_segments)
  );

  burst_splitter #(.BusBytes(BusBytes)) u_splitter (
    .clk_i, .rst_ni,
    .run_valid_i(run_valid), .run_addr_i(run.addr), .run_beats_i(run.beats), .run_pop_o(run_pop),
    .burst_valid_o(burst_valid), .burst_ready_i(burst_ready), .burst_addr_o(burst_addr),
    .burst_len_o(burst_len), .burst_last_o(burst_last)
  );

  // AW

  logic          aw_valid_q;
  dram_address_t aw_addr_q;
  logic [7:0]    aw_len_q;
  logic          lengths_full, answers_full;

  assign burst_ready = (!aw_valid_q || aw_ready_i) && !lengths_full && !answers_full;
  assign burst_take  = burst_valid && burst_ready;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) aw_valid_q <= 1'b0;
    else if (!aw_valid_q || aw_ready_i) aw_valid_q <= burst_take;
  end
  always_ff @(posedge clk_i) begin
    if (burst_take) {aw_addr_q, aw_len_q} <= {burst_addr, burst_len};
  end

  assign {aw_valid_o, aw_addr_o, aw_len_o} = {aw_valid_q, aw_addr_q, aw_len_q};

  // B: a bit for every burst, whether it is its instruction's last one

  logic answer_ends, unused_answer_valid;
  logic [$clog2(AnswerDepth+1)-1:0] unused_answers;

  fifo #(.Width(1), .Depth(AnswerDepth)) u_answers (
    .clk_i, .rst_ni,
    .push_i(burst_take), .data_i(burst_last && run.last), .full_o(answers_full),
    .valid_o(unused_answer_valid), .data_o(answer_ends), .pop_i(b_valid_i),
    .count_o(unused_answers)
  );

  assign b_ready_o = 1'b1;
  assign done_o    = b_valid_i && answer_ends;

  // rows to beats

  typedef struct packed {
    logic [Groups-1:0]     groups;  // that hold data
    logic [8*BusBytes-1:0] data;
  } beat_t;

  logic [PositionBits-1:0] offset;
  logic                    packed_valid, beat_valid, beat_take, unused_beats_full;
  beat_t                   packed_beat, beat;
  logic [BeatCountBits-1:0] beats;

  if (Groups == 1) begin : gen_no_offsets
    assign offset = '0;
  end else begin : gen_offsets
    logic unused_full, unused_valid;
    logic [$clog2(SlotLatency+3)-1:0] unused_count;
    fifo #(.Width(PositionBits), .Depth(SlotLatency + 2)) u_offsets (
      .clk_i, .rst_ni,
      .push_i(seg_valid_i), .data_i(seg_addr_i[$clog2(GroupBytes)+:PositionBits]), .full_o(unused_full),
      .valid_o(unused_valid), .data_o(offset), .pop_i(row_valid_i && row_last_i),
      .count_o(unused_count)
    );
  end

  row_packer #(.Dim(Dim), .BusBytes(BusBytes)) u_packer (
    .clk_i, .rst_ni,
    .offset_i(offset), .row_valid_i, .row_data_i, .row_word_i, .row_last_i,
    .beat_valid_o(packed_valid), .beat_data_o(packed_beat.data), .beat_groups_o(packed_beat.groups)
  );

  fifo #(.Depth(BeatDepth), .entry_t(beat_t)) u_beats (
    .clk_i, .rst_ni,
    .push_i(packed_valid), .data_i(packed_beat), .full_o(unused_beats_full),
    .valid_o(beat_valid), .data_o(beat), .pop_i(beat_take), .count_o(beats)
  );

  assign slot_ready_o = !seg_full && beats <= BeatCountBits'(Backlog);

  // W

  logic                  w_valid_q, w_last_q;
  beat_t                 w_beat_q;
  logic                  length_valid, at_last;
  logic [7:0]            length, index_q;  // of the burst, and of the beat in it
  logic [$clog2(BurstDepth+1)-1:0] unused_lengths;

  fifo #(.Width(8), .Depth(BurstDepth)) u_lengths (
    .clk_i, .rst_ni,
    .push_i(burst_take), .data_i(burst_len), .full_o(lengths_full),
    .valid_o(length_valid), .data_o(length), .pop_i(beat_take && at_last),
    .count_o(unused_lengths)
  );

  assign beat_take = beat_valid && length_valid && (!w_valid_q || w_ready_i);
  assign at_last   = index_q == length;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      w_valid_q <= 1'b0;
      index_q   <= '0;
    end else begin
      if (!w_valid_q || w_ready_i) w_valid_q <= beat_take;
      if (beat_take) index_q <= at_last ? '0 : index_q + 1'b1;
    end
  end
  always_ff @(posedge clk_i) begin
    if (beat_take) {w_beat_q, w_last_q} <= {beat, at_last};
  end

  assign {w_valid_o, w_data_o, w_last_o} = {w_valid_q, w_beat_q.data, w_last_q};
  for (genvar g = 0; g < Groups; g++) begin : gen_strobe
    assign w_strb_o[GroupBytes*g+:GroupBytes] = {GroupBytes{w_beat_q.groups[g]}};
  end

  logic unused_tag;
  assign unused_tag = ^seg_tag_i;

`ifndef SYNTHESIS
  // The segments whose rows are still to come, and the bytes of the first of them so far.
  logic        check_valid, unused_check_full;
  logic [$clog2(SlotLatency+3)-1:0] unused_checks;
  logic [31:0] bytes_q, bytes;

  typedef struct packed {
    tag_t        tag;
    beat_count_t beats;
  } check_t;

  check_t announced, check;
  assign announced = '{tag: seg_tag_i, beats: seg_beats_i};

  fifo #(.Depth(SlotLatency + 2), .entry_t(check_t)) u_checks (
    .clk_i, .rst_ni,
    .push_i(seg_valid_i), .data_i(announced), .full_o(unused_check_full),
    .valid_o(check_valid), .data_o(check),
    .pop_i(row_valid_i && row_last_i), .count_o(unused_checks)
  );

  int unsigned alignment;
  assign alignment = seg_beats_i == 1 ? GroupBytes : BusBytes;

  assign bytes = bytes_q + (row_word_i ? 4 * Dim : Dim);
  always_ff @(posedge clk_i) begin
    if (!rst_ni) bytes_q <= '0;
    else if (row_valid_i) bytes_q <= row_last_i ? '0 : bytes;
  end

  slot_was_ready : assert property (@(posedge clk_i) disable iff (!rst_ni)
      seg_valid_i |-> slot_ready_o)
    else $error("instruction %0d begins a segment in spite of back-pressure", seg_tag_i);
  not_empty : assert property (@(posedge clk_i) disable iff (!rst_ni)
      seg_valid_i |-> seg_beats_i != '0)
    else $error("instruction %0d writes a segment of no beats", seg_tag_i);
  aligned : assert property (@(posedge clk_i) disable iff (!rst_ni)
      seg_valid_i |-> seg_addr_i % dram_address_t'(alignment) == '0)
    else $error("instruction %0d writes a segment of %0d beats to address %0d", seg_tag_i,
                seg_beats_i, seg_addr_i);
  row_of_a_segment : assert property (@(posedge clk_i) disable iff (!rst_ni)
      row_valid_i |-> check_valid)
    else $error("a row comes for no segment");
  beats_as_announced : assert property (@(posedge clk_i) disable iff (!rst_ni)
      row_valid_i && row_last_i |-> (bytes + BusBytes - 1) / BusBytes == 32'(check.beats))
    else $error("instruction %0d announced %0d beats of a segment and writes %0d bytes", check.tag,
                check.beats, bytes);
  aw_is_stable : assert property (@(posedge clk_i) disable iff (!rst_ni)
      aw_valid_o && !aw_ready_i |=> aw_valid_o && $stable({aw_addr_o, aw_len_o}))
    else $error("AW changes before it is taken");
  w_is_stable : assert property (@(posedge clk_i) disable iff (!rst_ni)
      w_valid_o && !w_ready_i |=> w_valid_o && $stable({w_data_o, w_strb_o, w_last_o}))
    else $error("W changes before it is taken");
`endif

endmodule
