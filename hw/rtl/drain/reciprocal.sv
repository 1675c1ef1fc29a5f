// floor(dividend * 2^16 / divisor) of 16-bit numbers whose top bits are set, two bits a cycle.
//
// A start in cycle t (only when ready_o) gives valid_o, quotient_o and what came with it as side_i
// in cycle t + 8, in which the next one may start. The first of the 17 bits is found in cycle t.

module reciprocal #(
  parameter int unsigned SideWidth = 1,
  parameter type side_t = logic [SideWidth-1:0]
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  output logic        ready_o,
  input  logic        start_i,
  input  logic [15:0] dividend_i,
  input  logic [15:0] divisor_i,
  input  side_t       side_i,
  output logic        valid_o,
  output logic [16:0] quotient_o,
  output side_t       side_o
);

  if (SideWidth < 1) begin : gen_refuse_side_width
    $error("SideWidth=%0d is below 1", SideWidth);
  end

  typedef struct packed {
    logic [15:0] remainder;
    logic [16:0] quotient;
  } state_t;

  // Appends the quotient bit of a remainder below twice the divisor.
  function automatic state_t step(
    input logic [16:0] remainder, input logic [15:0] quotient, input logic [15:0] divisor
  );
    logic bit_set;
    bit_set        = remainder >= {1'b0, divisor};
    step.remainder = 16'(bit_set ? remainder - {1'b0, divisor} : remainder);
    step.quotient  = {quotient, bit_set};
  endfunction

  logic                 busy_q;
  logic [2:0]           count_q;
  state_t               first, second, state_q;
  logic [15:0]          divisor_q;
  side_t      side_q;

  assign first      = step({state_q.remainder, 1'b0}, state_q.quotient[15:0], divisor_q);
  assign second     = step({first.remainder, 1'b0}, first.quotient[15:0], divisor_q);
  assign valid_o    = busy_q && count_q == 3'd7;
  assign ready_o    = !busy_q || valid_o;
  assign quotient_o = second.quotient;
  assign side_o     = side_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else if (start_i) busy_q <= 1'b1;
    else if (valid_o) busy_q <= 1'b0;
  end

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      count_q   <= '0;
      state_q   <= step({1'b0, dividend_i}, '0, divisor_i);
      divisor_q <= divisor_i;
      side_q    <= side_i;
    end else if (busy_q) begin
      count_q <= count_q + 1'b1;
      state_q <= second;
    end
  end

`ifndef SYNTHESIS
  no_overrun : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("the reciprocal is started while it is busy");
`endif

endmodule
