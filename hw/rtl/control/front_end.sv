// Takes instructions from the host in program order, one a cycle, and queues them at their units.
//
// The cycle of the handshake is the instruction's dispatch; it can be at the head of its queue one
// cycle later. The host waits while the queue that its instruction goes to is full. An entry that
// is popped in cycle t makes room in t + 1. Instructions are numbered in dispatch order (tag).

module front_end
  import isa_pkg::*;
#(
  parameter int unsigned LoadQueueDepth    = 8,
  parameter int unsigned ExecuteQueueDepth = 8,
  parameter int unsigned DrainQueueDepth   = 8
) (
  input  logic         clk_i,
  input  logic         rst_ni,
  // host
  input  logic         instr_valid_i,
  input  instruction_t instr_i,
  output logic         instr_ready_o,
  // an instruction is dispatched
  output logic         dispatch_o,
  // head of the load unit's queue
  output logic         load_valid_o,
  output instruction_t load_instr_o,
  output logic [31:0]  load_tag_o,
  input  logic         load_pop_i,
  // head of the execute unit's queue
  output logic         execute_valid_o,
  output instruction_t execute_instr_o,
  output logic [31:0]  execute_tag_o,
  input  logic         execute_pop_i,
  // head of the drain unit's queue
  output logic         drain_valid_o,
  output instruction_t drain_instr_o,
  output logic [31:0]  drain_tag_o,
  input  logic         drain_pop_i
);

  localparam int unsigned Units = 3; // load, execute, drain
  localparam int unsigned EntryBits = 32 + $bits(instruction_t);
  localparam int unsigned Depths [Units] = '{LoadQueueDepth, ExecuteQueueDepth, DrainQueueDepth};

  logic [31:0]                     tag_q;
  logic [Units-1:0]                route; // one hot; none for an illegal opcode
  logic [Units-1:0]                full, valid, pop;
  logic [Units-1:0][EntryBits-1:0] heads;
  header_t                         header;

  assign header = header_t'(instr_i[$bits(header_t)-1:0]);

  always_comb begin
    unique case (header.opcode)
      MVIN, LOAD_SYNC:                route = 3'b001;
      PRELOAD, COMPUTE, EXECUTE_SYNC: route = 3'b010;
      MVOUT, DRAIN_SYNC:              route = 3'b100;
      default:                        route = 3'b000;
    endcase
  end

  assign instr_ready_o = (route & full) == '0;
  assign dispatch_o    = instr_valid_i && instr_ready_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) tag_q <= '0;
    else if (dispatch_o) tag_q <= tag_q + 32'd1;
  end

  for (genvar u = 0; u < Units; u++) begin : gen_queues
    localparam int unsigned CountBits = $clog2(Depths[u] + 1);
    logic [CountBits-1:0] unused_count;

    fifo #(
      .Width(EntryBits),
      .Depth(Depths[u])
    ) u_queue (
      .clk_i,
      .rst_ni,
      .push_i (dispatch_o && route[u]),
      .data_i ({tag_q, instr_i}),
      .full_o (full[u]),
      .valid_o(valid[u]),
      .data_o (heads[u]),
      .pop_i  (pop[u]),
      .count_o(unused_count)
    );
  end

  assign {drain_valid_o, execute_valid_o, load_valid_o} = valid;
  assign pop = {drain_pop_i, execute_pop_i, load_pop_i};

  assign {load_tag_o, load_instr_o}       = heads[0];
  assign {execute_tag_o, execute_instr_o} = heads[1];
  assign {drain_tag_o, drain_instr_o}     = heads[2];

  logic unused_header;
  assign unused_header = ^{header.signals, header.waits};

`ifndef SYNTHESIS
  legal_opcode : assert property (@(posedge clk_i) disable iff (!rst_ni)
    dispatch_o |-> header.opcode != ILLEGAL)
    else $error("instruction %0d has the illegal opcode %0d", tag_q, header.opcode);
`endif

endmodule
