// Walks the rows of a mvout: which accumulator row is read in which slot, and where it goes.
//
// start_i in cycle s (only when ready_o) takes an instruction; its slots are s+1 to the one in
// which last_o is raised, N of them unless the store stalls. A drain_sync is one empty slot. All
// but the row functions go block by block through the rows. Row functions go by batches of 16 rows
// through passes: softmax maximum, statistics and output, exponentials maximum and output, quotients
// and the norms statistics and output; in a pass row by row through the blocks. An output row for DRAM
// takes a slot for each of its beats, of which the first reads. What follows a row's maximum starts 3
// cycles after the last read of it (MAXIMUM_LATENCY 2), the output behind statistics 2 cycles after
// reciprocal_i for it. Only reads for DRAM stall.
// A row of several operands takes a slot for each; the lanes hold what they read (PASS_HOLD) until the
// last, with which the row goes on. Operands behind the first lie row by row in turns.

module drain_sequencer
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned BusBytes = 16,
  parameter bit Normalization = 1'b1,
  parameter int unsigned AccumulatorRows = 1024,
  parameter int unsigned ScratchpadRows = 4096,
  parameter int unsigned ParameterRows = 64,
  localparam int unsigned LaneBits = $clog2(Dim) + 1
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // instruction
  output logic                ready_o,
  input  logic                start_i,
  input  mvout_t              instr_i,
  input  tag_t                tag_i,
  output logic                last_o,
  output logic                last_store_o,  // with last_o: not a drain_sync
  output logic                last_scratchpad_o,
  // row reads; lanes_o and skipped_o two cycles later
  input  logic                slot_ready_i,
  output logic                slot_valid_o,
  output slot_t               slot_o,
  output logic [LaneBits-1:0] lanes_o,
  output logic [LaneBits-1:0] skipped_o,
  output local_row_t          acc_row_o,
  output logic                p0_read_o,
  output parameter_row_t      p0_row_o,
  // segments of DRAM
  output logic                seg_valid_o,
  output dram_address_t       seg_addr_o,
  output beat_count_t         seg_beats_o,
  output logic                seg_last_o,
  // statistics
  output logic                center_o,
  output column_count_t       columns_o,
  output inverse_t            inverse_o,
  output epsilon_t            epsilon_o,
  input  logic                reciprocal_i
);

  legal_sizes #(
    .Dim(Dim), .BusBytes(BusBytes), .AccumulatorRows(AccumulatorRows),
    .ScratchpadRows(ScratchpadRows), .ParameterRows(ParameterRows)
  ) u_legal ();

  // Beats of a row, and rows of a beat, of int8 and of int32.
  localparam int unsigned ByteBeats = Dim > BusBytes ? Dim / BusBytes : 1;
  localparam int unsigned WordBeats = 4 * Dim > BusBytes ? 4 * Dim / BusBytes : 1;
  localparam int unsigned ByteRows  = BusBytes > Dim ? BusBytes / Dim : 1;
  localparam int unsigned WordRows  = BusBytes > 4 * Dim ? BusBytes / (4 * Dim) : 1;
  // Slots of a row: reads of its operands, the last one with the first beat, and the other beats.
  localparam int unsigned MostSlots = WordBeats > ByteBeats + 2 ? WordBeats : ByteBeats + 2;
  localparam int unsigned SlotBits  = $clog2(MostSlots);

  // -- The instruction ----------------------------------------------------------------------------

  mvout_t      instr_q;
  tag_t        tag_q;
  logic        sync, row_function, maximum, divides, word, to_scratchpad;
  operand_t    operands;

  assign sync          = instr_q.header.opcode == DRAIN_SYNC;
  assign maximum       = Normalization && first_pass(instr_q.function_) == PASS_MAXIMUM;
  assign divides       = Normalization && has_statistics(instr_q.function_);
  assign row_function  = Normalization && is_row_function(instr_q.function_);
  assign word          = instr_q.destination == DESTINATION_DRAM_INT32;
  assign to_scratchpad = instr_q.destination == DESTINATION_SCRATCHPAD;
  assign operands      = Normalization ? operands_of(instr_q.function_) : operand_t'(1);

  // -- Where it is --------------------------------------------------------------------------------
  // The outer loop goes over the rows of a batch, the inner over blocks, for row functions; else
  // the outer over blocks, the inner over rows. Addresses are those of the next read, and of the
  // next round of the inner loop's start.

  typedef struct packed {
    local_row_t    accumulator;
    local_row_t    scratchpad;
    dram_address_t dram;
  } address_t;

  logic                busy;
  pass_e               pass_q;
  row_count_t          inner_q;
  block_count_t        outer_q;
  logic [SlotBits-1:0] slot_q;
  row_count_t          row_q;        // first row of the batch
  row_count_t          rows_left_q;  // from that row on
  local_row_t          batch_accumulator_q;
  address_t            address_q, inner_address_q;
  parameter_row_t      parameter_row_q;

  logic [SlotBits-1:0] last_read, last_slot;
  logic                slot_end, inner_end, outer_end, batch_end, output_pass, rows_end;
  logic                allowed, issue, step;
  address_t            step_inner, next, step_outer, next_inner;

  assign output_pass = !row_function || pass_q == PASS_OUTPUT;
  assign last_read   = SlotBits'(operands) - 1'b1;
  assign last_slot   = last_read + (!output_pass || to_scratchpad ? '0
                     : word ? SlotBits'(WordBeats - 1) : SlotBits'(ByteBeats - 1));
  assign slot_end    = slot_q == last_slot;
  assign inner_end   = inner_q == (row_function ? 16'(instr_q.blocks) : instr_q.rows) - 16'd1;
  assign batch_end   = !row_function || rows_left_q <= 16'(StatisticRows);
  assign outer_end   = outer_q == (!row_function ? instr_q.blocks - 12'd1
                     : batch_end ? 12'(rows_left_q) - 12'd1 : 12'(StatisticRows - 1));

  assign issue    = busy && (slot_q != last_read || allowed);
  assign step     = issue && slot_end;
  assign rows_end = inner_end && outer_end && output_pass;
  assign last_o   = issue && (sync || (slot_end && rows_end && batch_end));

  assign last_store_o      = last_o && !sync;
  assign last_scratchpad_o = last_store_o && to_scratchpad;

  // Steps of the addresses; scratchpad and DRAM only move in the output pass.
  always_comb begin
    if (row_function) begin
      step_inner = '{accumulator: instr_q.stride, scratchpad: instr_q.local_stride,
                     dram: dram_address_t'(instr_q.dram_stride)};
      step_outer = '{accumulator: local_row_t'(1), scratchpad: local_row_t'(1), dram: dram_address_t'(Dim)};
    end else begin
      step_inner = '{accumulator: local_row_t'(1), scratchpad: local_row_t'(1), dram: '0};
      step_outer = '{accumulator: instr_q.stride, scratchpad: instr_q.local_stride,
                     dram: dram_address_t'(instr_q.dram_stride)};
    end
    next       = sum(address_q, step_inner, output_pass);
    next_inner = sum(inner_address_q, step_outer, output_pass);
  end

  function automatic address_t sum(input address_t a, input address_t b, input logic stored);
    sum.accumulator = a.accumulator + b.accumulator;
    sum.scratchpad  = stored ? a.scratchpad + b.scratchpad : a.scratchpad;
    sum.dram        = stored ? a.dram + b.dram : a.dram;
  endfunction

  busy_flag u_busy (.clk_i, .rst_ni, .start_i, .last_i(last_o), .busy_o(busy), .ready_o);

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      instr_q             <= instr_i;
      tag_q               <= tag_i;
      pass_q              <= first_pass(instr_i.function_);
      inner_q             <= '0;
      outer_q             <= '0;
      slot_q              <= '0;
      row_q               <= '0;
      rows_left_q         <= instr_i.rows;
      batch_accumulator_q <= instr_i.accumulator;
      parameter_row_q     <= instr_i.parameters;
      address_q           <= '{accumulator: instr_i.accumulator, scratchpad: instr_i.local_,
                               dram: instr_i.dram};
      inner_address_q     <= '{accumulator: instr_i.accumulator, scratchpad: instr_i.local_,
                               dram: instr_i.dram};
    end else if (step) begin
      slot_q          <= '0;
      inner_q         <= inner_end ? '0 : inner_q + 1'b1;
      address_q       <= inner_end ? next_inner : next;
      parameter_row_q <= parameter_row_q + 10'(row_function || inner_end);
      if (inner_end) begin
        outer_q         <= outer_end ? '0 : outer_q + 1'b1;
        inner_address_q <= next_inner;
        if (row_function) parameter_row_q <= instr_q.parameters;
        if (outer_end && !output_pass) begin  // the next pass over the same rows
          pass_q                      <= pass_q == PASS_MAXIMUM && divides ? PASS_STATISTICS
                                                                           : PASS_OUTPUT;
          address_q.accumulator       <= batch_accumulator_q;
          inner_address_q.accumulator <= batch_accumulator_q;
        end else if (outer_end) begin  // the next rows
          pass_q              <= first_pass(instr_q.function_);
          row_q               <= row_q + 16'(StatisticRows);
          rows_left_q         <= rows_left_q - 16'(StatisticRows);
          batch_accumulator_q <= next_inner.accumulator;
        end
      end
    end else if (issue) begin
      slot_q <= slot_q + 1'b1;
    end
  end

  // -- What may go on -----------------------------------------------------------------------------

  logic       maximum_q, maximum_q2, reciprocal_q;
  logic [4:0] maxima_q, factors_q;  // rows of this batch whose maximum, whose factor is known

  always_ff @(posedge clk_i) begin
    if (!rst_ni || last_o || (step && rows_end)) begin
      maximum_q    <= 1'b0;
      maximum_q2   <= 1'b0;
      maxima_q     <= '0;
      reciprocal_q <= 1'b0;
      factors_q    <= '0;
    end else begin
      maximum_q    <= step && inner_end && pass_q == PASS_MAXIMUM;
      maximum_q2   <= maximum_q;
      maxima_q     <= maxima_q + 5'(maximum_q2);
      reciprocal_q <= reciprocal_i;
      factors_q    <= factors_q + 5'(reciprocal_q);
    end
  end

  always_comb begin
    allowed = 1'b1;
    if (row_function && maximum && pass_q != PASS_MAXIMUM) allowed = maxima_q > outer_q[4:0];
    if (divides && pass_q == PASS_OUTPUT) allowed = factors_q > outer_q[4:0];
    if (output_pass && !to_scratchpad && !slot_ready_i) allowed = 1'b0;
    if (sync) allowed = 1'b1;
  end

  // -- Reads and segments -------------------------------------------------------------------------

  block_count_t   block;
  operand_t       operand;
  logic           first_operand, last_operand;
  local_row_t     further_row;  // of the operands behind the first
  parameter_row_t second_set, affine_set;

  assign block         = row_function ? inner_q[11:0] : outer_q;
  assign operand       = operand_t'(slot_q);
  assign first_operand = slot_q == '0;
  assign last_operand  = slot_q == last_read;
  assign further_row   = address_q.accumulator - instr_q.accumulator;
  assign second_set    = parameter_row_q + (instr_q.channel_scale ? instr_q.blocks[9:0] : '0);
  assign affine_set    = second_set + (instr_q.second_channel_scale ? instr_q.blocks[9:0] : '0);

  assign slot_valid_o = issue && !sync && slot_q <= last_read;
  assign acc_row_o    = first_operand ? address_q.accumulator
                      : instr_q.variant.operands.second + (further_row << (operands - 2'd2))
                        + local_row_t'(operand) - 1'b1;
  assign p0_read_o    = slot_valid_o && slot_o.channel_scale;
  assign p0_row_o     = first_operand ? parameter_row_q : second_set;

  always_comb begin
    slot_o.mode           = word ? MODE_WORD : operand_mode(instr_q.function_, operand);
    slot_o.pass           = row_function ? pass_q : last_operand ? PASS_OUTPUT : PASS_HOLD;
    slot_o.row            = outer_q[3:0];
    slot_o.state          = instr_q.variant.mask.state + state_row_t'(row_q) + state_row_t'(outer_q[3:0]);
    slot_o.alignment      = instr_q.variant.mask.alignment + state_row_t'(row_q)
                            + state_row_t'(outer_q[3:0]);
    slot_o.fresh          = instr_q.fresh;
    slot_o.first          = inner_q == '0;
    slot_o.last           = inner_end;
    slot_o.to_scratchpad  = to_scratchpad;
    slot_o.segment_last   = row_function || inner_end;
    slot_o.scratchpad_row = address_q.scratchpad;
    slot_o.channel_scale  = first_operand ? instr_q.channel_scale : instr_q.second_channel_scale;
    slot_o.multiplier     = first_operand ? instr_q.multiplier
                                          : instr_q.variant.operands.second_multiplier;
    slot_o.shift          = first_operand ? instr_q.shift : instr_q.variant.operands.second_shift;
    slot_o.channel_affine = instr_q.channel_affine;
    slot_o.affine_row     = affine_set;
    slot_o.out_multiplier = instr_q.out_multiplier;
    slot_o.out_shift      = instr_q.out_shift;
    slot_o.tag            = tag_q;
  end

  assign seg_valid_o = slot_valid_o && last_operand && output_pass && !to_scratchpad
                       && (row_function || inner_q == '0);
  assign seg_addr_o  = address_q.dram;
  assign seg_last_o  = outer_end && batch_end && (!row_function || inner_end);
  // Of the two shifts for a width, one is by 0.
  assign seg_beats_o = row_function ? beat_count_t'(ByteBeats)
    : word ? ((beat_count_t'(instr_q.rows) + beat_count_t'(WordRows - 1)) >> $clog2(WordRows)) << $clog2(WordBeats)
           : ((beat_count_t'(instr_q.rows) + beat_count_t'(ByteRows - 1)) >> $clog2(ByteRows)) << $clog2(ByteBeats);

  column_limit #(
    .Dim(Dim)
  ) u_column_limit (
    .clk_i,
    .causal_i  (instr_q.causal),
    .columns_i (instr_q.columns),
    .diagonal_i(instr_q.variant.mask.diagonal),
    .window_i  (instr_q.variant.mask.window),
    .row_i     (row_q + 16'(outer_q[3:0])),
    .block_i   (block),
    .lanes_o,
    .skipped_o
  );

  assign center_o  = is_centered(instr_q.function_);
  assign columns_o = instr_q.columns;
  assign inverse_o = instr_q.variant.norm.inverse;
  assign epsilon_o = instr_q.variant.norm.epsilon;

  logic unused_instr;
  assign unused_instr = &{1'b0, instr_q};

`ifndef SYNTHESIS
  logic          start_store;
  dram_address_t alignment;  // of the DRAM addresses of its segments
  assign start_store = start_i && instr_i.header.opcode == MVOUT;
  assign alignment   = is_row_function(instr_i.function_) && Dim < BusBytes
                       ? dram_address_t'(Dim) : dram_address_t'(BusBytes);

  // 2^(23 + a) / columns to the nearest, a the position of its highest bit.
  inverse_t inverse_of_columns;
  always_comb begin
    inverse_of_columns = '0;
    if (start_store && is_centered(instr_i.function_) && instr_i.columns != '0) begin
      automatic logic [39:0] one = 40'd1 << 24;
      for (int unsigned i = 1; i < 16; i++) if (instr_i.columns >> i != '0) one <<= 1;
      inverse_of_columns = 24'((one + 40'(instr_i.columns)) / (40'(instr_i.columns) << 1));
    end
  end

  ready : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("instruction %0d starts while instruction %0d runs", tag_i, tag_q);
  sizes : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store |-> instr_i.rows != '0 && instr_i.blocks != '0)
    else $error("instruction %0d: %0d rows of %0d blocks", tag_i, instr_i.rows, instr_i.blocks);
  functions : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store |-> 32'(instr_i.function_) < Functions
      && (Normalization || is_direct(mode_of(instr_i.function_))))
    else $error("instruction %0d: this machine has no function %0d", tag_i, instr_i.function_);
  destinations : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store |-> instr_i.destination <= DESTINATION_SCRATCHPAD)
    else $error("instruction %0d: there is no destination %0d", tag_i, instr_i.destination);
  words : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.destination == DESTINATION_DRAM_INT32
    |-> instr_i.function_ == FUNCTION_COPY)
    else $error("instruction %0d: function %0d gives no int32", tag_i, instr_i.function_);
  causality : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.causal |-> is_masked(instr_i.function_))
    else $error("instruction %0d: causal, but function %0d", tag_i, instr_i.function_);
  windows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && is_masked(instr_i.function_) && instr_i.variant.mask.window != '0
    |-> instr_i.causal)
    else $error("instruction %0d: a window of %0d columns, but not causal",
                tag_i, instr_i.variant.mask.window);
  columns : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && is_row_function(instr_i.function_)
    |-> instr_i.columns != '0 && 32'(instr_i.columns) <= 32'(instr_i.blocks) * Dim)
    else $error("instruction %0d: %0d valid columns in %0d blocks of %0d",
                tag_i, instr_i.columns, instr_i.blocks, Dim);
  states : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && has_states(instr_i.function_)
    |-> 32'(instr_i.variant.mask.state) + 32'(instr_i.rows) <= StateRows
        && 32'(instr_i.variant.mask.alignment)
           + (is_masked(instr_i.function_) ? 32'(instr_i.rows) : 0) <= StateRows)
    else $error("instruction %0d: %0d rows from state %0d and alignment %0d on, beyond the last",
                tag_i, instr_i.rows, instr_i.variant.mask.state, instr_i.variant.mask.alignment);
  stateless : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && !has_states(instr_i.function_)
    |-> !instr_i.fresh && (!is_masked(instr_i.function_)
        || (instr_i.variant.mask.state == '0 && instr_i.variant.mask.alignment == '0)))
    else $error("instruction %0d: a state, but function %0d", tag_i, instr_i.function_);
  shifted_by_states : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && has_states(instr_i.function_) && !is_masked(instr_i.function_)
    |-> !instr_i.channel_scale && instr_i.shift == '0)
    else $error("instruction %0d: function %0d shifts by states, and has a shift", tag_i,
                instr_i.function_);
  shifts : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store |-> instr_i.shift != '1 && instr_i.out_shift != '1
      && (operands_of(instr_i.function_) == 2'd1 || instr_i.variant.operands.second_shift != '1))
    else $error("instruction %0d: a shift of 63", tag_i);
  parameter_rows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store |-> 32'(instr_i.parameters)
      + 32'(instr_i.blocks) * (32'(instr_i.channel_scale) + 32'(instr_i.second_channel_scale)
                               + 32'(instr_i.channel_affine))
      <= ParameterRows
      || !(instr_i.channel_scale || instr_i.second_channel_scale || instr_i.channel_affine))
    else $error("instruction %0d: parameters of %0d blocks from row %0d are out of range",
                tag_i, instr_i.blocks, instr_i.parameters);
  accumulator_rows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    slot_valid_o |-> 32'(acc_row_o) < AccumulatorRows)
    else $error("instruction %0d: accumulator row %0d is out of range", tag_q, acc_row_o);
  scratchpad_rows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    slot_valid_o && last_operand && output_pass && to_scratchpad
    |-> 32'(slot_o.scratchpad_row) < ScratchpadRows)
    else $error("instruction %0d: scratchpad row %0d is out of range", tag_q,
                slot_o.scratchpad_row);
  alignments : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.destination != DESTINATION_SCRATCHPAD
    |-> instr_i.dram % alignment == '0
        && (instr_i.blocks == 1 || dram_address_t'(instr_i.dram_stride) % alignment == '0))
    else $error("instruction %0d: DRAM address %0h or stride %0h is not aligned to %0d bytes",
                tag_i, instr_i.dram, instr_i.dram_stride, alignment);
  scales : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.destination == DESTINATION_DRAM_INT32 |-> !instr_i.channel_scale)
    else $error("instruction %0d: channel_scale, but int32", tag_i);
  affinity : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.channel_affine
    |-> !is_direct(mode_of(instr_i.function_)))
    else $error("instruction %0d: channel_affine, but function %0d", tag_i, instr_i.function_);
  second_scales : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && instr_i.second_channel_scale |-> operands_of(instr_i.function_) != 2'd1)
    else $error("instruction %0d: second_channel_scale, but function %0d",
                tag_i, instr_i.function_);
  inverses : assert property (@(posedge clk_i) disable iff (!rst_ni)
    start_store && is_centered(instr_i.function_)
    |-> instr_i.variant.norm.inverse == inverse_of_columns)
    else $error("instruction %0d: the inverse of %0d columns is %0d, not %0d",
                tag_i, instr_i.columns, inverse_of_columns, instr_i.variant.norm.inverse);
`endif

endmodule
