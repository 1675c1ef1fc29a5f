// First-in first-out queue. What is pushed in one cycle is visible in the next.
//
// A full queue takes nothing, even when it is popped in the same cycle. Entries are words of Width
// bits, or of another type.

module fifo #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 4,
  parameter type entry_t = logic [Width-1:0],
  localparam int unsigned CountBits = $clog2(Depth + 1)
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  // input
  input  logic                 push_i,
  input  entry_t               data_i,
  output logic                 full_o,
  // output
  output logic                 valid_o,
  output entry_t               data_o,
  input  logic                 pop_i,
  output logic [CountBits-1:0] count_o
);

  if (Width < 1 || Depth < 1) begin : gen_refuse_below_1
    $error("Width=%0d, Depth=%0d: below 1", Width, Depth);
  end

  localparam int unsigned PointerBits = Depth > 1 ? $clog2(Depth) : 1;
  localparam logic [PointerBits-1:0] Last = PointerBits'(Depth - 1);

  entry_t                 entries [Depth];
  logic [PointerBits-1:0] read_q, write_q;
  logic [CountBits-1:0]   count_q;

  assign full_o  = count_q == CountBits'(Depth);
  assign valid_o = count_q != '0;
  assign data_o  = entries[read_q];
  assign count_o = count_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      read_q  <= '0;
      write_q <= '0;
      count_q <= '0;
    end else begin
      if (push_i) write_q <= write_q == Last ? '0 : write_q + 1'b1;
      if (pop_i) read_q <= read_q == Last ? '0 : read_q + 1'b1;
      if (push_i && !pop_i) count_q <= count_q + 1'b1;
      if (!push_i && pop_i) count_q <= count_q - 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (push_i) entries[write_q] <= data_i;
  end

`ifndef SYNTHESIS
  no_overflow : assert property (@(posedge clk_i) disable iff (!rst_ni) push_i |-> !full_o)
    else $error("a full queue is pushed");
  no_underflow : assert property (@(posedge clk_i) disable iff (!rst_ni) pop_i |-> valid_o)
    else $error("an empty queue is popped");
`endif

endmodule
