// Turns DRAM beats into rows for the local memories: unpacks, scales, addresses.
//
// Instructions are pushed when they start, and take the beats in that order. A beat of several rows
// is held (r_ready_o low) until its last row is unpacked, one row a cycle; a row of several beats is
// assembled. Every block begins with a beat of its own. Where a row's (last) beat is there in cycle
// c, the row is in the row register in c + 1 and at the output in c + 2: int8 lanes times scale for
// the accumulator, otherwise unchanged. done_o comes in c + 4 for the last row of an instruction,
// when every target has written it. Outputs are never stalled.

module load_unpacker
  import isa_pkg::*;
#(
  parameter int unsigned Dim      = 16,
  parameter int unsigned BusBytes = 16,
  parameter int unsigned Depth    = 48 // instructions
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // mvin that starts
  input  logic                  push_i,
  input  instruction_t          instr_i,
  input  tag_t                  tag_i,
  // AXI read data
  input  logic                  r_valid_i,
  output logic                  r_ready_o,
  input  logic [8*BusBytes-1:0] r_data_i,
  input  logic                  r_last_i,
  // rows, in cycle c + 2
  output logic                  row_valid_o,
  output target_e               row_target_o,
  output sums_t                 row_sums_o,
  output logic [64*Dim-1:0]     row_data_o,
  // oldest instruction is written
  output logic                  done_o
);

  legal_sizes #(.Dim(Dim), .BusBytes(BusBytes)) u_legal ();
  if (Depth < 1) begin : gen_refuse_depth
    $error("Depth=%0d is below 1", Depth);
  end

  // By target: bytes of a row, and how many parts make a beat (rows) or a row (beats).
  localparam int unsigned RowBytes [4] = '{Dim, Dim, 4 * Dim, 8 * Dim};

  function automatic int unsigned ratio(int unsigned row_bytes);
    return row_bytes > BusBytes ? row_bytes / BusBytes : BusBytes / row_bytes;
  endfunction

  localparam int unsigned Parts [4] = '{ratio(RowBytes[0]), ratio(RowBytes[1]),
                                        ratio(RowBytes[2]), ratio(RowBytes[3])};
  localparam int unsigned MaxParts = Parts[0] > Parts[3] ? Parts[0] : Parts[3];
  localparam int unsigned PartBits = MaxParts > 1 ? $clog2(MaxParts) : 1;
  localparam int unsigned BeatBits = $clog2(8 * BusBytes);
  localparam int unsigned RowShift [4] = '{$clog2(8 * RowBytes[0]), $clog2(8 * RowBytes[1]),
                                           $clog2(8 * RowBytes[2]), $clog2(8 * RowBytes[3])};
  localparam logic [3:0] Narrow = {RowBytes[3] > BusBytes, RowBytes[2] > BusBytes,
                                   RowBytes[1] > BusBytes, RowBytes[0] > BusBytes};

  // -- Instructions in flight --------------------------------------------------------------------

  typedef struct packed {
    target_e      target;
    row_count_t   rows;
    block_count_t blocks;
    local_row_t   first;
    local_row_t   stride;
    scale_t       scale;
    logic         accumulate;
    tag_t         tag;
  } move_t;

  localparam int unsigned CountBits = $clog2(Depth + 1);

  mvin_t                mvin;
  move_t                pushed, move;
  logic                 move_valid, move_done;
  logic                 unused_full;
  logic [CountBits-1:0] unused_count;

  assign mvin   = mvin_t'(instr_i);
  assign pushed = '{
    target: target_e'(mvin.target), rows: mvin.rows, blocks: mvin.blocks, first: mvin.local_,
    stride: mvin.stride, scale: mvin.scale, accumulate: mvin.accumulate, tag: tag_i};

  fifo #(
    .Depth  (Depth),
    .entry_t(move_t)
  ) u_moves (
    .clk_i,
    .rst_ni,
    .push_i,
    .data_i (pushed),
    .full_o (unused_full),
    .valid_o(move_valid),
    .data_o (move),
    .pop_i  (move_done),
    .count_o(unused_count)
  );

  // -- Position in the oldest one ----------------------------------------------------------------

  logic [PartBits-1:0] part_q;         // row of the beat, or beat of the row
  row_count_t          row_q;          // of the block
  block_count_t        block_q;
  local_row_t          block_offset_q; // local rows from the first block to this one

  logic narrow, beat_valid, last_part, last_row, last_block, row_done;

  assign narrow     = Narrow[move.target];
  assign beat_valid = move_valid && r_valid_i;
  assign last_part  = part_q == PartBits'(Parts[move.target] - 1);
  assign last_row   = row_q == move.rows - 1'b1;
  assign last_block = block_q == move.blocks - 1'b1;
  assign row_done   = beat_valid && (!narrow || last_part);
  assign move_done  = row_done && last_row && last_block;
  assign r_ready_o  = move_valid && (narrow || last_part || last_row);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      part_q         <= '0;
      row_q          <= '0;
      block_q        <= '0;
      block_offset_q <= '0;
    end else begin
      if (beat_valid) part_q <= last_part || (!narrow && last_row) ? '0 : part_q + 1'b1;
      if (row_done) begin
        row_q <= last_row ? '0 : row_q + 1'b1;
        if (last_row) begin
          block_q        <= last_block ? '0 : block_q + 1'b1;
          block_offset_q <= last_block ? '0 : block_offset_q + move.stride;
        end
      end
    end
  end

  // -- Row register ------------------------------------------------------------------------------

  logic [64*Dim-1:0] data_q; // from the row's width up: anything
  logic              valid_q, accumulate_q;
  target_e           target_q;
  local_row_t        address_q;
  scale_t            scale_q;
  tag_t              tag_q;

  // Bit of the beat at which a row of it begins.
  logic [BeatBits-1:0] row_bit;
  assign row_bit = BeatBits'(part_q) << RowShift[move.target];

  if (BusBytes >= 8 * Dim) begin : gen_wide_bus
    always_ff @(posedge clk_i) begin
      if (beat_valid) data_q <= (64*Dim)'(r_data_i >> row_bit);
    end
  end else begin : gen_narrow_bus
    localparam int unsigned Chunks = 8 * Dim / BusBytes;
    logic [Chunks-1:0][8*BusBytes-1:0] chunks_q;
    always_ff @(posedge clk_i) begin
      if (beat_valid) begin
        if (narrow) chunks_q[part_q[$clog2(Chunks)-1:0]] <= r_data_i;
        else chunks_q[0] <= r_data_i >> row_bit;
      end
    end
    assign data_q = chunks_q;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else valid_q <= row_done;
  end

  always_ff @(posedge clk_i) begin
    if (row_done) begin
      target_q     <= move.target;
      address_q    <= move.first + block_offset_q + local_row_t'(row_q);
      accumulate_q <= move.accumulate;
      scale_q      <= move.scale;
      tag_q        <= move.tag;
    end
  end

  // -- Scaled row --------------------------------------------------------------------------------

  always_ff @(posedge clk_i) begin
    if (!rst_ni) row_valid_o <= 1'b0;
    else row_valid_o <= valid_q;
  end

  always_ff @(posedge clk_i) begin
    if (valid_q) begin
      row_target_o <= target_q;
      row_sums_o   <= '{row: address_q, accumulate: accumulate_q, last: 1'b0, tag: tag_q,
                         align: '0, align_old: 1'b0};
      row_data_o   <= data_q;
      if (target_q == TARGET_ACCUMULATOR) begin
        for (int unsigned i = 0; i < Dim; i++) begin
          row_data_o[32*i +: 32] <= 32'($signed(data_q[8*i +: 8])) * 32'(scale_q);
        end
      end
    end
  end

  logic [3:0] written_q; // the last row's way to the slowest write
  always_ff @(posedge clk_i) begin
    if (!rst_ni) written_q <= '0;
    else written_q <= {written_q[2:0], move_done};
  end
  assign done_o = written_q[3];

  logic unused_mvin, unused_r_last;
  assign unused_mvin   = ^{mvin.unused, mvin.dram, mvin.dram_stride, mvin.header};
  assign unused_r_last = r_last_i;

`ifndef SYNTHESIS
  expected : assert property (@(posedge clk_i) disable iff (!rst_ni) r_valid_i |-> move_valid)
    else $error("read data that no mvin asked for");
  bursts_end_with_blocks : assert property (@(posedge clk_i) disable iff (!rst_ni)
    row_done && last_row |-> r_last_i)
    else $error("instruction %0d: a burst goes on behind block %0d", move.tag, block_q);
`endif

endmodule
