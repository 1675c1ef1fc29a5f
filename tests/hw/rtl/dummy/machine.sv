// Stands in for the machine in tests of its surroundings: one instruction at a time. A mvin reads a
// beat at its address, a mvout writes the beat read last; anything else takes five cycles, but a
// preload of 98 rows hangs, and of one of 99 rows machine_checks.sv complains.

module machine
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
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  instr_valid_i,
  input  instruction_t          instr_i,
  output logic                  instr_ready_o,
  output logic                  m_axi_awvalid_o,
  input  logic                  m_axi_awready_i,
  output dram_address_t         m_axi_awaddr_o,
  output logic [7:0]            m_axi_awlen_o,
  output logic [2:0]            m_axi_awsize_o,
  output logic [1:0]            m_axi_awburst_o,
  output logic                  m_axi_wvalid_o,
  input  logic                  m_axi_wready_i,
  output logic [8*BusBytes-1:0] m_axi_wdata_o,
  output logic [BusBytes-1:0]   m_axi_wstrb_o,
  output logic                  m_axi_wlast_o,
  input  logic                  m_axi_bvalid_i,
  output logic                  m_axi_bready_o,
  input  logic [1:0]            m_axi_bresp_i,
  output logic                  m_axi_arvalid_o,
  input  logic                  m_axi_arready_i,
  output dram_address_t         m_axi_araddr_o,
  output logic [7:0]            m_axi_arlen_o,
  output logic [2:0]            m_axi_arsize_o,
  output logic [1:0]            m_axi_arburst_o,
  input  logic                  m_axi_rvalid_i,
  output logic                  m_axi_rready_o,
  input  logic [8*BusBytes-1:0] m_axi_rdata_i,
  input  logic [1:0]            m_axi_rresp_i,
  input  logic                  m_axi_rlast_i,
  output trace_t                trace_o,
  output logic                  idle_o,
  output logic                  no_tokens_o,
  input  logic [4:0]            counter_select_i,
  output logic [47:0]           counter_value_o
);

  typedef enum logic [2:0] { IDLE, START, ADDRESS, DATA, RESPONSE, COUNT, RELEASE, COMPLETE } state_e;

  state_e                state_q;
  instruction_t          instr_q;
  logic [8*BusBytes-1:0] beat_q;
  logic [2:0]            count_q;
  tag_t                  tag_q;
  header_t               header;
  mvin_t                 mvin;
  mvout_t                mvout;
  logic                  hangs;

  assign header = instr_q[$bits(header_t)-1:0];
  assign mvin   = instr_q[$bits(mvin_t)-1:0];
  assign mvout  = instr_q[$bits(mvout_t)-1:0];

  assign hangs = header.opcode == PRELOAD && instr_q[$bits(header_t)+:8] == 8'd98;

  always_comb begin
    trace_o          = '0;
    trace_o.dispatch = instr_valid_i && instr_ready_o;
    unique case (header.opcode)
      MVIN, LOAD_SYNC: begin
        trace_o.load_start    = state_q == START;
        trace_o.load_release  = state_q == RELEASE;
        trace_o.load_complete = state_q == COMPLETE;
      end
      PRELOAD, COMPUTE, EXECUTE_SYNC: begin
        trace_o.preload_start      = state_q == START && header.opcode == PRELOAD;
        trace_o.compute_start      = state_q == START && header.opcode == COMPUTE;
        trace_o.execute_sync_start = state_q == START && header.opcode == EXECUTE_SYNC;
        trace_o.execute_release    = state_q == RELEASE;
        trace_o.execute_complete   = state_q == COMPLETE;
      end
      default: begin
        trace_o.drain_start    = state_q == START;
        trace_o.drain_release  = state_q == RELEASE;
        trace_o.drain_complete = state_q == COMPLETE;
      end
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q <= IDLE;
      tag_q   <= '1;
    end else begin
      unique case (state_q)
        IDLE:
          if (instr_valid_i) begin
            instr_q <= instr_i;
            tag_q   <= tag_q + 1;
            state_q <= START;
          end
        START: begin
          count_q <= '0;
          state_q <= header.opcode inside {MVIN, MVOUT} ? ADDRESS : COUNT;
        end
        ADDRESS:
          if (header.opcode == MVIN ? m_axi_arready_i : m_axi_awready_i)
            state_q <= header.opcode == MVIN ? RESPONSE : DATA;
        DATA: if (m_axi_wready_i) state_q <= RESPONSE;
        RESPONSE:
          if (header.opcode == MVIN ? m_axi_rvalid_i : m_axi_bvalid_i) begin
            if (header.opcode == MVIN) beat_q <= m_axi_rdata_i;
            state_q <= RELEASE;
          end
        COUNT: begin
          count_q <= count_q + 1'b1;
          if (hangs) count_q <= '0;
          if (count_q == 3'd4) state_q <= RELEASE;
        end
        RELEASE: state_q <= COMPLETE;
        default: state_q <= IDLE;
      endcase
    end
  end

  assign instr_ready_o   = state_q == IDLE;
  assign idle_o          = state_q == IDLE;
  assign no_tokens_o     = 1'b1;
  assign m_axi_arvalid_o = state_q == ADDRESS && header.opcode == MVIN;
  assign m_axi_awvalid_o = state_q == ADDRESS && header.opcode == MVOUT;
  assign m_axi_araddr_o  = mvin.dram;
  assign m_axi_awaddr_o  = mvout.dram;
  assign m_axi_wvalid_o  = state_q == DATA;
  assign m_axi_wdata_o   = beat_q;
  assign m_axi_wstrb_o   = '1;
  assign m_axi_wlast_o   = 1'b1;
  assign m_axi_bready_o  = state_q == RESPONSE;
  assign m_axi_rready_o  = state_q == RESPONSE;
  assign m_axi_arlen_o   = '0;
  assign m_axi_awlen_o   = '0;
  assign m_axi_arsize_o  = 3'($clog2(BusBytes));
  assign m_axi_awsize_o  = 3'($clog2(BusBytes));
  assign m_axi_arburst_o = 2'b01;
  assign m_axi_awburst_o = 2'b01;

  assign counter_value_o = 48'(tag_q) + 48'd1 + 48'd1000 * 48'(counter_select_i);

endmodule
