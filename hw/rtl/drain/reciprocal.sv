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

  typedef struct packed {
    side_t       side;
    logic [15:0] divisor;
  } kept_t;

  state_t begun, state, first, second;
  kept_t  kept;

  assign begun  = step({1'b0, dividend_i}, '0, divisor_i);
  assign first  = step({state.remainder, 1'b0}, state.quotient[15:0], kept.divisor);
  assign second = step({first.remainder, 1'b0}, first.quotient[15:0], kept.divisor);

  digit_recurrence #(
    .Name("reciprocal"), .state_t(state_t), .kept_t(kept_t)
  ) u_recurrence (
    .clk_i, .rst_ni, .ready_o, .start_i,
    .first_i(begun), .kept_i('{side: side_i, divisor: divisor_i}),
    .state_o(state), .next_i(second), .kept_o(kept), .valid_o
  );

  assign quotient_o = second.quotient;
  assign side_o     = kept.side;

endmodule
