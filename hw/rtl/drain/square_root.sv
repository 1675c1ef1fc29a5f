// floor(sqrt(radicand)) of a 32-bit number, two bits of the root a cycle.
//
// A start in cycle t (only when ready_o) gives valid_o, root_o and what came with it as side_i in
// cycle t + 8, in which the next one may start.

module square_root #(
  parameter int unsigned SideWidth = 1,
  parameter type side_t = logic [SideWidth-1:0]
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  output logic        ready_o,
  input  logic        start_i,
  input  logic [31:0] radicand_i,
  input  side_t       side_i,
  output logic        valid_o,
  output logic [15:0] root_o,
  output side_t       side_o
);

  if (SideWidth < 1) begin : gen_refuse_side_width
    $error("SideWidth=%0d is below 1", SideWidth);
  end

  typedef struct packed {
    logic [31:0] radicand;   // its digits that are still to come
    logic [17:0] remainder;
    logic [15:0] root;
  } state_t;

  // One bit of the root: subtracts 4 root + 1 from the remainder where that fits.
  function automatic state_t step(input state_t state);
    logic [19:0] remainder, subtrahend;
    logic        bit_set;
    remainder      = {state.remainder, state.radicand[31:30]};
    subtrahend     = {2'b0, state.root, 2'b01};
    bit_set        = remainder >= subtrahend;
    step.radicand  = {state.radicand[29:0], 2'b0};
    step.remainder = 18'(bit_set ? remainder - subtrahend : remainder);
    step.root      = {state.root[14:0], bit_set};
  endfunction

  state_t state, next;

  assign next = step(step(state));

  digit_recurrence #(
    .Name("square root"), .state_t(state_t), .kept_t(side_t)
  ) u_recurrence (
    .clk_i, .rst_ni, .ready_o, .start_i,
    .first_i('{radicand: radicand_i, remainder: '0, root: '0}), .kept_i(side_i),
    .state_o(state), .next_i(next), .kept_o(side_o), .valid_o
  );

  assign root_o = next.root;

endmodule
