// Runs preload, compute and execute_sync: starts them and streams their rows into the mesh.
//
// Two holding registers take instructions from the queue in order, one a cycle: one for preloads,
// one for computes. An instruction that is taken in cycle p starts in p + 1 at the earliest; its
// register can be refilled in the cycle in which it starts.
//   preload  starts once every compute before it has started (in the same cycle at the earliest),
//            Dim cycles after the preload before it; it is released and complete at start + Dim
//   compute  starts when the rows of the compute before it are read and the weights of the preload
//            before it are; released at start + rows, complete with its last accumulator write
//            (acc_done_i), at start + rows + 2 * Dim + 4
//   sync     waits at the head of the queue until all before it are released, then starts and leaves
//            in one cycle; released and complete a cycle later
// A compute after a preload swaps the weights in; one without uses those of the compute before it.
// Instructions retire in program order. The retirement queues hold all that can be under way: never
// do they stall a start.

module execute_unit
  import isa_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned Dim             = 16,
  parameter int unsigned ScratchpadRows  = 1 << 20,
  parameter int unsigned AccumulatorRows = 1 << 20
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  // queue
  input  head_t        head_i,
  output logic         head_pop_o,
  // tokens and starts; waits_o is of the preload or, with none held, of the sync in the queue
  output tokens_t      waits_o,
  input  logic         waits_ready_i,
  output tokens_t      compute_waits_o,
  input  logic         compute_waits_ready_i,
  output logic         preload_start_o,
  output logic         compute_start_o,
  output logic         sync_start_o,
  // scratchpad
  output access_t      a_read_o,
  output access_t      b_read_o,
  // alignments, data two cycles later
  output access_t      alignment_read_o,
  input  alignment_t   alignment_data_i,
  // mesh, with the data of the scratchpad; a_swap_o in the cycle before a first row
  output logic         a_valid_o,
  output logic         a_swap_o,
  output sums_t        a_sums_o,
  output logic         b_valid_o,
  output weights_t     b_slot_o,
  // accumulator: the last row of a compute is written
  input  logic         acc_done_i,
  // retirement
  output logic         release_o,
  output tokens_t      release_signals_o,
  output logic         complete_o,
  output tokens_t      complete_signals_o,
  output logic         idle_o
);

  legal_sizes #(
    .Dim(Dim), .ScratchpadRows(ScratchpadRows), .AccumulatorRows(AccumulatorRows)
  ) u_legal ();

  localparam int unsigned CompleteDepth = 2 * Dim + 16;
  localparam int unsigned ReleaseDepth  = 16;

  typedef enum logic [1:0] { KIND_PRELOAD, KIND_COMPUTE, KIND_SYNC } kind_e;

  typedef struct packed {
    tag_t        tag;
    tokens_t     waits;
    tile_size_t  rows;
    local_row_t  local_;
    logic        transposed;
  } held_preload_t;

  typedef struct packed {
    tag_t        tag;
    tokens_t     waits;
    row_count_t  rows;
    local_row_t  local_;
    local_row_t  accumulator;
    logic        overwrite;
    logic        aligned;
    logic        rescale;
    state_row_t  alignment;
    logic        swap;
  } held_compute_t;

  // -- Queue to holding registers ------------------------------------------------------------------

  header_t       header;
  preload_t      preload;  // the head of the queue, read as each operation
  compute_t      compute;
  logic          preload_held_q, compute_held_q;
  held_preload_t preload_q;
  held_compute_t compute_q;
  logic          preload_last_q;  // of preloads and computes taken so far, the last is a preload
  logic          preload_pop, compute_pop, full, release_full, complete_full;
  logic          release_empty, complete_empty;
  kind_e         kind;

  assign preload = preload_t'(head_i.instr);
  assign compute = compute_t'(head_i.instr);
  assign header  = preload.header;
  assign full    = release_full || complete_full;

  assign preload_pop = head_i.valid && header.opcode == PRELOAD && !full &&
                       (!preload_held_q || preload_start_o);
  assign compute_pop = head_i.valid && header.opcode == COMPUTE && !full &&
                       (!compute_held_q || compute_start_o);
  assign sync_start_o = head_i.valid && header.opcode == EXECUTE_SYNC && !full &&
                        release_empty && waits_ready_i;
  assign head_pop_o = preload_pop || compute_pop || sync_start_o;
  assign kind = preload_pop ? KIND_PRELOAD : compute_pop ? KIND_COMPUTE : KIND_SYNC;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      preload_held_q <= 1'b0;
      compute_held_q <= 1'b0;
      preload_last_q <= 1'b0;
    end else begin
      preload_held_q <= preload_pop || (preload_held_q && !preload_start_o);
      compute_held_q <= compute_pop || (compute_held_q && !compute_start_o);
      preload_last_q <= preload_pop || (preload_last_q && !compute_pop);
    end
  end

  always_ff @(posedge clk_i) begin
    if (preload_pop) begin
      preload_q <= '{
        tag:        head_i.tag,
        waits:      header.waits,
        rows:       preload.rows,
        local_:     preload.local_,
        transposed: preload.transposed
      };
    end
    if (compute_pop) begin
      compute_q <= '{
        tag:         head_i.tag,
        waits:       header.waits,
        rows:        compute.rows,
        local_:      compute.local_,
        accumulator: compute.accumulator,
        overwrite:   compute.overwrite,
        aligned:     compute.aligned,
        rescale:     compute.rescale,
        alignment:   compute.alignment,
        swap:        preload_last_q
      };
    end
  end

  // -- Starts: of a preload and a compute both held, the one that was taken first goes first --------

  logic weights_ready, rows_ready;

  assign compute_start_o = compute_held_q && compute_waits_ready_i && rows_ready && weights_ready &&
                           (!preload_held_q || preload_last_q);
  assign preload_start_o = preload_held_q && waits_ready_i && weights_ready &&
                           (!compute_held_q || !preload_last_q || compute_start_o);

  assign compute_waits_o = compute_held_q ? compute_q.waits : '0;

  always_comb begin
    waits_o = '0;
    if (preload_held_q) waits_o = preload_q.waits;
    else if (head_i.valid && header.opcode == EXECUTE_SYNC) waits_o = header.waits;
  end

  // -- Streams -------------------------------------------------------------------------------------

  logic preload_done, compute_read, sync_done_q;

  weight_stream #(
    .Dim(Dim)
  ) u_weights (
    .clk_i,
    .rst_ni,
    .ready_o     (weights_ready),
    .start_i     (preload_start_o),
    .rows_i      (preload_q.rows),
    .local_i     (preload_q.local_),
    .transposed_i(preload_q.transposed),
    .tag_i       (preload_q.tag),
    .done_o      (preload_done),
    .read_o      (b_read_o),
    .slot_valid_o(b_valid_o),
    .slot_o      (b_slot_o)
  );

  row_stream u_rows (
    .clk_i,
    .rst_ni,
    .ready_o      (rows_ready),
    .start_i      (compute_start_o),
    .rows_i       (compute_q.rows),
    .local_i      (compute_q.local_),
    .accumulator_i(compute_q.accumulator),
    .overwrite_i  (compute_q.overwrite),
    .swap_i       (compute_q.swap),
    .aligned_i    (compute_q.aligned),
    .rescale_i    (compute_q.rescale),
    .alignment_i  (compute_q.alignment),
    .tag_i        (compute_q.tag),
    .done_o       (compute_read),
    .read_o       (a_read_o),
    .alignment_read_o,
    .alignment_data_i,
    .row_valid_o  (a_valid_o),
    .row_swap_o   (a_swap_o),
    .row_sums_o   (a_sums_o)
  );

  // -- Retirement ------------------------------------------------------------------------------------

  always_ff @(posedge clk_i) begin
    if (!rst_ni) sync_done_q <= 1'b0;
    else sync_done_q <= sync_start_o;
  end

  retire #(
    .Depth(ReleaseDepth),
    .Kinds(3)
  ) u_release (
    .clk_i,
    .rst_ni,
    .push_i   (head_pop_o),
    .kind_i   (kind),
    .signals_i(header.signals),
    .tag_i    (head_i.tag),
    .done_i   ({sync_done_q, compute_read, preload_done}),
    .retire_o (release_o),
    .signals_o(release_signals_o),
    .empty_o  (release_empty),
    .full_o   (release_full)
  );

  retire #(
    .Depth(CompleteDepth),
    .Kinds(3)
  ) u_complete (
    .clk_i,
    .rst_ni,
    .push_i   (head_pop_o),
    .kind_i   (kind),
    .signals_i(header.signals),
    .tag_i    (head_i.tag),
    .done_i   ({sync_done_q, acc_done_i, preload_done}),
    .retire_o (complete_o),
    .signals_o(complete_signals_o),
    .empty_o  (complete_empty),
    .full_o   (complete_full)
  );

  assign idle_o = release_empty && complete_empty;

  logic unused_fields;
  assign unused_fields = ^{preload.unused, compute.unused, compute.header, compute.depth,
                           compute.width};

`ifndef SYNTHESIS
  logic preloaded_q;  // there are weights
  always_ff @(posedge clk_i) begin
    if (!rst_ni) preloaded_q <= 1'b0;
    else if (preload_pop) preloaded_q <= 1'b1;
  end

  opcode : assert property (@(posedge clk_i) disable iff (!rst_ni)
    head_i.valid |-> header.opcode inside {PRELOAD, COMPUTE, EXECUTE_SYNC})
    else $error("instruction %0d has opcode %0d, which is not for execute", head_i.tag,
                header.opcode);
  preload_rows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    preload_pop |-> preload.rows != '0 && 32'(preload.rows) <= Dim)
    else $error("instruction %0d preloads %0d rows", head_i.tag, preload.rows);
  preload_local : assert property (@(posedge clk_i) disable iff (!rst_ni)
    preload_pop |-> 32'(preload.local_) + 32'(preload.rows) <= ScratchpadRows)
    else $error("instruction %0d preloads %0d rows at %0d, beyond the scratchpad", head_i.tag,
                preload.rows, preload.local_);
  weights_used : assert property (@(posedge clk_i) disable iff (!rst_ni)
    preload_pop |-> !preload_last_q)
    else $error("instruction %0d overwrites the weights of instruction %0d, which no compute used",
                head_i.tag, preload_q.tag);
  compute_rows : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop |-> compute.rows != '0)
    else $error("instruction %0d computes no rows", head_i.tag);
  compute_tile : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop |-> compute.depth != '0 && 32'(compute.depth) <= Dim &&
                    compute.width != '0 && 32'(compute.width) <= Dim)
    else $error("instruction %0d uses %0d rows and %0d columns of a tile", head_i.tag,
                compute.depth, compute.width);
  compute_local : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop |-> 32'(compute.local_) + 32'(compute.rows) <= ScratchpadRows)
    else $error("instruction %0d reads %0d rows at %0d, beyond the scratchpad", head_i.tag,
                compute.rows, compute.local_);
  alignments : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop && compute.aligned |-> 32'(compute.alignment) + 32'(compute.rows) <= StateRows)
    else $error("instruction %0d aligns %0d rows from alignment %0d on, beyond the last",
                head_i.tag, compute.rows, compute.alignment);
  unaligned : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop && !compute.aligned |-> compute.alignment == '0 && !compute.rescale)
    else $error("instruction %0d has an alignment, but is not aligned", head_i.tag);
  compute_accumulator : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop |-> 32'(compute.accumulator) + 32'(compute.rows) <= AccumulatorRows)
    else $error("instruction %0d writes %0d rows at %0d, beyond the accumulator", head_i.tag,
                compute.rows, compute.accumulator);
  weights_there : assert property (@(posedge clk_i) disable iff (!rst_ni)
    compute_pop |-> preloaded_q)
    else $error("instruction %0d computes, but no weights were preloaded", head_i.tag);
`endif

endmodule
