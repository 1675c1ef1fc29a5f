// The machine with a memory, a feeder of instructions and a tracer: the top for simulation.
//
// The feeder takes words from the C++ side (system.cpp) and hands them to the machine one a cycle.
// A word of zeros ends a kernel: when the machine is idle its counters are read, and the next begins.
// `done_o` rises when the last kernel has ended. Plusargs: see system.cpp and axi_memory.sv, and
// +watchdog=N, the cycles without an event after which the machine counts as stuck.

module system
  import isa_pkg::*;
  import trace_pkg::*;
#(
  parameter int unsigned Dim                = 16,
  parameter int unsigned ScratchpadBytes    = 65536,
  parameter int unsigned ScratchpadBanks    = 16,
  parameter int unsigned AccumulatorBytes   = 262144,
  parameter int unsigned AccumulatorBanks   = 8,
  parameter int unsigned ParameterChannels  = 2048,
  parameter int unsigned BusBytes           = 16,
  parameter int unsigned DramLatencyCycles  = 50,
  parameter int unsigned LoadQueueDepth     = 8,
  parameter int unsigned ExecuteQueueDepth  = 16,
  parameter int unsigned DrainQueueDepth    = 8,
  parameter int unsigned Normalization      = 1
) (
  input  logic clk_i,
  input  logic rst_ni,
  output logic done_o
);

  import "DPI-C" function void simulation_open();
  import "DPI-C" function void simulation_close();
  import "DPI-C" function int program_next(output bit [$bits(instruction_t)-1:0] word);
  import "DPI-C" function void trace_events(input longint cycle, input int pulses);
  import "DPI-C" function void kernel_done(input longint cycles);
  import "DPI-C" function void counter_read(input int index, input longint value);

  localparam int END = 0, INSTRUCTION = 1;  // of program_next; anything else ends a kernel

  initial simulation_open();
  final simulation_close();

  // -- Machine and memory -----------------------------------------------------------------------------

  logic                  aw_valid, aw_ready, w_valid, w_ready, w_last, b_valid, b_ready;
  logic                  ar_valid, ar_ready, r_valid, r_ready, r_last;
  dram_address_t         aw_addr, ar_addr;
  logic [7:0]            aw_len, ar_len;
  logic [2:0]            aw_size, ar_size;
  logic [1:0]            aw_burst, ar_burst, b_resp, r_resp;
  logic [8*BusBytes-1:0] w_data, r_data;
  logic [BusBytes-1:0]   w_strb;

  logic        instr_valid_q, instr_ready, idle, no_tokens;
  logic [4:0]  counter_select_q;
  logic [47:0] counter_value;
  trace_t      trace;

  bit [$bits(instruction_t)-1:0] instr_q;

  machine #(
    .Dim, .ScratchpadBytes, .ScratchpadBanks, .AccumulatorBytes, .AccumulatorBanks,
    .ParameterChannels, .BusBytes, .DramLatencyCycles, .LoadQueueDepth, .ExecuteQueueDepth,
    .DrainQueueDepth, .Normalization
  ) u_machine (
    .clk_i,
    .rst_ni,
    .instr_valid_i    (instr_valid_q),
    .instr_i          (instr_q),
    .instr_ready_o    (instr_ready),
    .m_axi_awvalid_o  (aw_valid),
    .m_axi_awready_i  (aw_ready),
    .m_axi_awaddr_o   (aw_addr),
    .m_axi_awlen_o    (aw_len),
    .m_axi_awsize_o   (aw_size),
    .m_axi_awburst_o  (aw_burst),
    .m_axi_wvalid_o   (w_valid),
    .m_axi_wready_i   (w_ready),
    .m_axi_wdata_o    (w_data),
    .m_axi_wstrb_o    (w_strb),
    .m_axi_wlast_o    (w_last),
    .m_axi_bvalid_i   (b_valid),
    .m_axi_bready_o   (b_ready),
    .m_axi_bresp_i    (b_resp),
    .m_axi_arvalid_o  (ar_valid),
    .m_axi_arready_i  (ar_ready),
    .m_axi_araddr_o   (ar_addr),
    .m_axi_arlen_o    (ar_len),
    .m_axi_arsize_o   (ar_size),
    .m_axi_arburst_o  (ar_burst),
    .m_axi_rvalid_i   (r_valid),
    .m_axi_rready_o   (r_ready),
    .m_axi_rdata_i    (r_data),
    .m_axi_rresp_i    (r_resp),
    .m_axi_rlast_i    (r_last),
    .trace_o          (trace),
    .idle_o           (idle),
    .no_tokens_o      (no_tokens),
    .counter_select_i (counter_select_q),
    .counter_value_o  (counter_value)
  );

  axi_memory #(
    .BusBytes,
    .LatencyCycles (DramLatencyCycles)
  ) u_memory (
    .clk_i,
    .rst_ni,
    .aw_valid_i (aw_valid),
    .aw_ready_o (aw_ready),
    .aw_addr_i  (aw_addr),
    .aw_len_i   (aw_len),
    .aw_size_i  (aw_size),
    .aw_burst_i (aw_burst),
    .w_valid_i  (w_valid),
    .w_ready_o  (w_ready),
    .w_data_i   (w_data),
    .w_strb_i   (w_strb),
    .w_last_i   (w_last),
    .b_valid_o  (b_valid),
    .b_ready_i  (b_ready),
    .b_resp_o   (b_resp),
    .ar_valid_i (ar_valid),
    .ar_ready_o (ar_ready),
    .ar_addr_i  (ar_addr),
    .ar_len_i   (ar_len),
    .ar_size_i  (ar_size),
    .ar_burst_i (ar_burst),
    .r_valid_o  (r_valid),
    .r_ready_i  (r_ready),
    .r_data_o   (r_data),
    .r_resp_o   (r_resp),
    .r_last_o   (r_last)
  );

  // -- Feeder -------------------------------------------------------------------------------------------

  typedef enum logic [1:0] { FEED, DRAIN_KERNEL, READ_COUNTERS, DONE } state_e;

  state_e     state_q;
  logic       last_kernel_q, idle_q;
  logic [1:0] settle_q;  // a counter is read in the last of the four cycles it is selected for

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q          <= FEED;
      instr_valid_q    <= 1'b0;
      last_kernel_q    <= 1'b0;
      idle_q           <= 1'b0;
      settle_q         <= '0;
      counter_select_q <= '0;
    end else begin
      idle_q <= idle && state_q == DRAIN_KERNEL;
      unique case (state_q)
        FEED:
          if (!instr_valid_q || instr_ready) begin
            automatic bit [$bits(instruction_t)-1:0] word;
            automatic int kind = program_next(word);
            instr_q       <= word;
            instr_valid_q <= kind == INSTRUCTION;
            last_kernel_q <= kind == END;
            if (kind != INSTRUCTION) state_q <= DRAIN_KERNEL;
          end
        DRAIN_KERNEL:
          if (idle && idle_q) begin
            kernel_done(started_q ? last_q - first_q + 1 : 0);
            state_q <= READ_COUNTERS;
          end
        READ_COUNTERS: begin
          settle_q <= settle_q + 1'b1;
          if (settle_q == '1) begin
            counter_read(int'(counter_select_q), longint'(counter_value));
            counter_select_q <= counter_select_q + 1'b1;
            if (counter_select_q == 5'(Counters - 1)) begin
              counter_select_q <= '0;
              state_q          <= last_kernel_q ? DONE : FEED;
            end
          end
        end
        default: ;
      endcase
    end
  end

  assign done_o = rst_ni && state_q == DONE;

  kernel_tokens : assert property (@(posedge clk_i) disable iff (!rst_ni)
    state_q == DRAIN_KERNEL && idle && idle_q |-> no_tokens)
    else $error("instruction %0d has signalled tokens that nothing waits for", u_machine.u_checks.leftover());

  // -- Tracer -------------------------------------------------------------------------------------------

  longint cycle_q, first_q, last_q, quiet_q;
  logic   started_q;
  longint watchdog;
  int     traced;

  initial begin
    if ($value$plusargs("watchdog=%d", watchdog) == 0) watchdog = 100000 + longint'(DramLatencyCycles);
    traced = $test$plusargs("trace=");
  end

  always_ff @(posedge clk_i) begin
    cycle_q <= cycle_q + 1;
    if (!rst_ni) begin
      cycle_q   <= 0;
      quiet_q   <= 0;
      started_q <= 1'b0;
    end else begin
      quiet_q <= quiet_q + 1;
      if (trace != '0) begin
        quiet_q <= 0;
        if (traced != 0) trace_events(cycle_q, int'(trace));
        if (trace.dispatch && !started_q) begin
          started_q <= 1'b1;
          first_q   <= cycle_q;
        end
        if (trace.load_complete || trace.execute_complete || trace.drain_complete) begin
          last_q <= cycle_q;
        end
      end
      if (state_q == DRAIN_KERNEL && idle && idle_q) started_q <= 1'b0;
    end
  end

  progress : assert property (@(posedge clk_i) disable iff (!rst_ni || done_o)
    quiet_q <= watchdog)
    else $error("nothing has happened for %0d cycles: the machine is stuck", quiet_q);

endmodule
