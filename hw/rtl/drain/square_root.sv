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

  logic                 busy_q;
  logic [2:0]           count_q;
  state_t               state_d, state_q;
  side_t      side_q;

  assign state_d = step(step(state_q));
  assign valid_o = busy_q && count_q == 3'd7;
  assign ready_o = !busy_q || valid_o;
  assign root_o  = state_d.root;
  assign side_o  = side_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) busy_q <= 1'b0;
    else if (start_i) busy_q <= 1'b1;
    else if (valid_o) busy_q <= 1'b0;
  end

  always_ff @(posedge clk_i) begin
    if (start_i) begin
      count_q <= '0;
      state_q <= '{radicand: radicand_i, remainder: '0, root: '0};
      side_q  <= side_i;
    end else if (busy_q) begin
      count_q <= count_q + 1'b1;
      state_q <= state_d;
    end
  end

`ifndef SYNTHESIS
  no_overrun : assert property (@(posedge clk_i) disable iff (!rst_ni) start_i |-> ready_o)
    else $error("the square root is started while it is busy");
`endif

endmodule
