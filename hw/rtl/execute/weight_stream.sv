// Reads the weight tile of a preload from the scratchpad, a row a cycle, and announces it to the mesh.
//
// Started in cycle s, it has Dim slots, s + 1 to s + Dim: slot i reads row local + i while i is below
// the number of rows, and stands for a row of zeros after that. The mesh is told of a slot two
// cycles later, when the row comes out of the scratchpad. It may be started when ready_o is set:
// when idle or in its last slot.

module weight_stream
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  // preload
  output logic        ready_o,
  input  logic        start_i,
  input  tile_size_t  rows_i,
  input  local_row_t  local_i,
  input  logic        transposed_i,
  input  tag_t        tag_i,
  output logic        done_o,  // in the last slot
  // scratchpad
  output access_t     read_o,
  // mesh
  output logic        slot_valid_o,
  output weights_t    slot_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  localparam int unsigned SlotBits = $clog2(Dim);

  logic                busy, transposed_q, last, read;
  logic [SlotBits-1:0] slot_q;
  tile_size_t          rows_left_q;
  local_row_t          row_q;
  tag_t                tag_q;

  assign last   = slot_q == '1;
  assign done_o = busy && last;
  assign read   = busy && rows_left_q != '0;
  assign read_o = '{valid: read, row: row_q, tag: tag_q};

  busy_flag u_busy (.clk_i, .rst_ni, .start_i, .last_i(last), .busy_o(busy), .ready_o);

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      slot_q       <= '0;
      rows_left_q  <= rows_i;
      row_q        <= local_i;
      transposed_q <= transposed_i;
      tag_q        <= tag_i;
    end else if (busy) begin
      slot_q <= slot_q + 1'b1;
      if (read) begin
        rows_left_q <= rows_left_q - 1'b1;
        row_q       <= row_q + 1'b1;
      end
    end
  end

  // to the mesh, two cycles later
  logic [1:0] valid_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else valid_q <= {valid_q[0], busy};
  end

  weights_t slot;
  assign slot = '{first: slot_q == '0, zero: !read, transposed: transposed_q};

  delay_line #(
    .Depth (2),
    .word_t(weights_t)
  ) u_slot (
    .clk_i,
    .d_i(slot),
    .q_o(slot_o)
  );

  assign slot_valid_o = valid_q[1];

`ifndef SYNTHESIS
  start_when_ready : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("instruction %0d preloads while instruction %0d still does", tag_i, tag_q);
`endif

endmodule
