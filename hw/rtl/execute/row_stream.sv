// Reads the A rows of a compute from the scratchpad, a row a cycle, and announces them to the mesh.
//
// Started in cycle s, it reads row local + i in cycle s + 1 + i. The mesh is told of a row two cycles
// later, when it comes out of the scratchpad, and told to swap its weights in the cycle before the
// first one. It may be started when ready_o is set: when idle or in its last read.

module row_stream (
  input  logic        clk_i,
  input  logic        rst_ni,
  // compute
  output logic        ready_o,
  input  logic        start_i,
  input  logic [15:0] rows_i,
  input  logic [19:0] local_i,
  input  logic [19:0] accumulator_i,
  input  logic        overwrite_i,
  input  logic        swap_i,
  input  logic [31:0] tag_i,
  output logic        done_o,  // in the last read
  // scratchpad
  output logic        read_o,
  output logic [19:0] row_o,
  output logic [31:0] tag_o,
  // mesh
  output logic        row_valid_o,
  output logic        row_swap_o,
  output logic [19:0] row_acc_row_o,
  output logic        row_accumulate_o,
  output logic        row_last_o,
  output logic [31:0] row_tag_o
);

  logic        busy_q, overwrite_q, last;
  logic [15:0] rows_left_q;
  logic [19:0] row_q, acc_row_q;
  logic [31:0] tag_q;

  assign last    = rows_left_q == 16'd1;
  assign done_o  = busy_q && last;
  assign ready_o = !busy_q || last;
  assign read_o  = busy_q;
  assign row_o   = row_q;
  assign tag_o   = tag_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else if (start_i) busy_q <= 1'b1;
    else if (last) busy_q <= 1'b0;
  end

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      rows_left_q <= rows_i;
      row_q       <= local_i;
      acc_row_q   <= accumulator_i;
      overwrite_q <= overwrite_i;
      tag_q       <= tag_i;
    end else if (busy_q) begin
      rows_left_q <= rows_left_q - 1'b1;
      row_q       <= row_q + 1'b1;
      acc_row_q   <= acc_row_q + 1'b1;
    end
  end

  // to the mesh, two cycles later
  logic [1:0] valid_q, swap_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q <= '0;
      swap_q  <= '0;
    end else begin
      valid_q <= {valid_q[0], busy_q};
      swap_q  <= {swap_q[0], start_i && swap_i};
    end
  end

  delay_line #(
    .Width(20 + 1 + 1 + 32),
    .Depth(2)
  ) u_row (
    .clk_i,
    .d_i({acc_row_q, !overwrite_q, last, tag_q}),
    .q_o({row_acc_row_o, row_accumulate_o, row_last_o, row_tag_o})
  );

  assign row_valid_o = valid_q[1];
  assign row_swap_o  = swap_q[1];

`ifndef SYNTHESIS
  start_when_ready : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("instruction %0d computes while instruction %0d still does", tag_i, tag_q);
`endif

endmodule
