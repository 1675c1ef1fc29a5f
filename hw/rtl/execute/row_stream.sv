// Reads the A rows of a compute from the scratchpad, a row a cycle, and announces them to the mesh.
//
// Started in cycle s, it reads row local + i in cycle s + 1 + i. The mesh is told of a row two cycles
// later, when it comes out of the scratchpad, and told to swap its weights in the cycle before the
// first one. It may be started when ready_o is set: when idle or in its last read.
// With aligned_i, the row's alignment is read with it and says by how much its sums are shifted, or
// with rescale_i what they are added to.

module row_stream
  import isa_pkg::*;
(
  input  logic        clk_i,
  input  logic        rst_ni,
  // compute
  output logic        ready_o,
  input  logic        start_i,
  input  row_count_t  rows_i,
  input  local_row_t  local_i,
  input  local_row_t  accumulator_i,
  input  logic        overwrite_i,
  input  logic        swap_i,
  input  logic        aligned_i,
  input  logic        rescale_i,
  input  state_row_t  alignment_i,
  input  tag_t        tag_i,
  output logic        done_o,  // in the last read
  // scratchpad
  output access_t     read_o,
  // alignments, data two cycles later as the scratchpad's
  output access_t     alignment_read_o,
  input  alignment_t  alignment_data_i,
  // mesh
  output logic        row_valid_o,
  output logic        row_swap_o,
  output sums_t       row_sums_o
);

  logic        busy, overwrite_q, aligned_q, rescale_q, last;
  state_row_t  alignment_q;
  row_count_t  rows_left_q;
  local_row_t  row_q, acc_row_q;
  tag_t        tag_q;

  assign last   = rows_left_q == 1;
  assign done_o = busy && last;
  assign read_o = '{valid: busy, row: row_q, tag: tag_q};
  assign alignment_read_o = '{valid: busy && aligned_q, row: local_row_t'(alignment_q), tag: tag_q};

  busy_flag u_busy (.clk_i, .rst_ni, .start_i, .last_i(last), .busy_o(busy), .ready_o);

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      rows_left_q <= rows_i;
      row_q       <= local_i;
      acc_row_q   <= accumulator_i;
      overwrite_q <= overwrite_i;
      aligned_q   <= aligned_i;
      rescale_q   <= rescale_i;
      alignment_q <= alignment_i;
      tag_q       <= tag_i;
    end else if (busy) begin
      rows_left_q <= rows_left_q - 1'b1;
      row_q       <= row_q + 1'b1;
      acc_row_q   <= acc_row_q + 1'b1;
      alignment_q <= alignment_q + 1'b1;
    end
  end

  // to the mesh, two cycles later
  logic [1:0] valid_q, swap_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q <= '0;
      swap_q  <= '0;
    end else begin
      valid_q <= {valid_q[0], busy};
      swap_q  <= {swap_q[0], start_i && swap_i};
    end
  end

  typedef struct packed {
    logic       aligned;
    logic       rescale;
    logic       accumulate;
    logic       last;
    local_row_t row;
    tag_t       tag;
  } row_t;

  row_t read, row;  // row: what the one read two cycles ago is
  logic align;
  assign read = '{aligned: aligned_q, rescale: rescale_q, accumulate: !overwrite_q, last: last,
                  row: acc_row_q, tag: tag_q};

  delay_line #(
    .Depth (2),
    .word_t(row_t)
  ) u_row (
    .clk_i,
    .d_i(read),
    .q_o(row)
  );

  assign align      = row.aligned && (row.rescale || !alignment_data_i.old);
  assign row_sums_o = '{row: row.row, accumulate: row.accumulate, last: row.last, tag: row.tag,
                        align: align ? alignment_data_i.shift : '0,
                        align_old: align && alignment_data_i.old};

  assign row_valid_o = valid_q[1];
  assign row_swap_o  = swap_q[1];

`ifndef SYNTHESIS
  start_when_ready : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("instruction %0d computes while instruction %0d still does", tag_i, tag_q);
`endif

endmodule
