// Takes instructions from the host in program order, one a cycle, and queues them at their units.
//
// The cycle of the handshake is the instruction's dispatch; it can be at the head of its queue one
// cycle later. The host waits while the queue that its instruction goes to is full. An entry that
// is popped in cycle t makes room in t + 1. Instructions are numbered in dispatch order (tag).

module front_end
  import isa_pkg::*;
  import limits_pkg::*;
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
  output head_t        load_o,
  input  logic         load_pop_i,
  // head of the execute unit's queue
  output head_t        execute_o,
  input  logic         execute_pop_i,
  // head of the drain unit's queue
  output head_t        drain_o,
  input  logic         drain_pop_i
);

  if (!is_queue_depth(LoadQueueDepth) || !is_queue_depth(ExecuteQueueDepth)
      || !is_queue_depth(DrainQueueDepth)) begin : gen_refuse_queue_depths
    $error("LoadQueueDepth=%0d, ExecuteQueueDepth=%0d, DrainQueueDepth=%0d: no depths of queues",
           LoadQueueDepth, ExecuteQueueDepth, DrainQueueDepth);
  end

  localparam int unsigned Units = 3; // load, execute, drain
  localparam int unsigned Depths [Units] = '{LoadQueueDepth, ExecuteQueueDepth, DrainQueueDepth};

  typedef struct packed {
    tag_t         tag;
    instruction_t instr;
  } entry_t;

  entry_t             pushed;
  tag_t               tag_q;
  logic [Units-1:0]   route; // one hot; none for an illegal opcode
  logic [Units-1:0]   full, pop;
  head_t [Units-1:0]  heads;
  header_t            header;

  assign header = header_t'(instr_i[$bits(header_t)-1:0]);

  always_comb begin
    unique case (header.opcode)
      MVIN, LOAD_SYNC:                route = 3'b001;
      PRELOAD, COMPUTE, EXECUTE_SYNC: route = 3'b010;
      MVOUT, DRAIN_SYNC:              route = 3'b100;
      default:                        route = 3'b000;
    endcase
  end

  assign pushed        = '{tag: tag_q, instr: instr_i};
  assign instr_ready_o = (route & full) == '0;
  assign dispatch_o    = instr_valid_i && instr_ready_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) tag_q <= '0;
    else if (dispatch_o) tag_q <= tag_q + 1'b1;
  end

  for (genvar u = 0; u < Units; u++) begin : gen_queues
    localparam int unsigned CountBits = $clog2(Depths[u] + 1);
    logic [CountBits-1:0] unused_count;
    logic                 valid;
    entry_t               entry;

    fifo #(
      .Depth  (Depths[u]),
      .entry_t(entry_t)
    ) u_queue (
      .clk_i,
      .rst_ni,
      .push_i (dispatch_o && route[u]),
      .data_i (pushed),
      .full_o (full[u]),
      .valid_o(valid),
      .data_o (entry),
      .pop_i  (pop[u]),
      .count_o(unused_count)
    );

    assign heads[u] = '{valid: valid, instr: entry.instr, tag: entry.tag};
  end

  assign {drain_o, execute_o, load_o} = heads;
  assign pop = {drain_pop_i, execute_pop_i, load_pop_i};

  logic unused_header;
  assign unused_header = ^{header.signals, header.waits};

`ifndef SYNTHESIS
  legal_opcode : assert property (@(posedge clk_i) disable iff (!rst_ni)
    dispatch_o |-> header.opcode != ILLEGAL)
    else $error("instruction %0d has the illegal opcode %0d", tag_q, header.opcode);
`endif

endmodule
