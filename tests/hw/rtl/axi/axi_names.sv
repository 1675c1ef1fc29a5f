// machine.sv with its AXI port under the names that cocotbext-axi looks for, IDs added (always 0).
// What a memory model does not see is asserted here: an offer that is not taken stays as it is.

module axi_names
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
  // host
  input  logic                  instr_valid_i,
  input  instruction_t          instr_i,
  output logic                  instr_ready_o,
  output logic                  idle_o,
  output logic                  no_tokens_o,
  // AXI4 read
  output logic                  m_axi_arvalid,
  input  logic                  m_axi_arready,
  output logic                  m_axi_arid,
  output dram_address_t         m_axi_araddr,
  output logic [7:0]            m_axi_arlen,
  output logic [2:0]            m_axi_arsize,
  output logic [1:0]            m_axi_arburst,
  input  logic                  m_axi_rvalid,
  output logic                  m_axi_rready,
  input  logic                  m_axi_rid,
  input  logic [8*BusBytes-1:0] m_axi_rdata,
  input  logic [1:0]            m_axi_rresp,
  input  logic                  m_axi_rlast,
  // AXI4 write
  output logic                  m_axi_awvalid,
  input  logic                  m_axi_awready,
  output logic                  m_axi_awid,
  output dram_address_t         m_axi_awaddr,
  output logic [7:0]            m_axi_awlen,
  output logic [2:0]            m_axi_awsize,
  output logic [1:0]            m_axi_awburst,
  output logic                  m_axi_wvalid,
  input  logic                  m_axi_wready,
  output logic [8*BusBytes-1:0] m_axi_wdata,
  output logic [BusBytes-1:0]   m_axi_wstrb,
  output logic                  m_axi_wlast,
  input  logic                  m_axi_bvalid,
  output logic                  m_axi_bready,
  input  logic                  m_axi_bid,
  input  logic [1:0]            m_axi_bresp
);

  trace_t      unused_trace;
  logic [47:0] unused_counter;
  logic        unused_ids;

  machine #(
    .Dim, .ScratchpadBytes, .ScratchpadBanks, .AccumulatorBytes, .AccumulatorBanks,
    .ParameterChannels, .BusBytes, .DramLatencyCycles, .LoadQueueDepth, .ExecuteQueueDepth,
    .DrainQueueDepth, .Normalization
  ) u_machine (
    .clk_i,
    .rst_ni,
    .instr_valid_i,
    .instr_i,
    .instr_ready_o,
    .idle_o,
    .no_tokens_o,
    .m_axi_arvalid_o (m_axi_arvalid),
    .m_axi_arready_i (m_axi_arready),
    .m_axi_araddr_o  (m_axi_araddr),
    .m_axi_arlen_o   (m_axi_arlen),
    .m_axi_arsize_o  (m_axi_arsize),
    .m_axi_arburst_o (m_axi_arburst),
    .m_axi_rvalid_i  (m_axi_rvalid),
    .m_axi_rready_o  (m_axi_rready),
    .m_axi_rdata_i   (m_axi_rdata),
    .m_axi_rresp_i   (m_axi_rresp),
    .m_axi_rlast_i   (m_axi_rlast),
    .m_axi_awvalid_o (m_axi_awvalid),
    .m_axi_awready_i (m_axi_awready),
    .m_axi_awaddr_o  (m_axi_awaddr),
    .m_axi_awlen_o   (m_axi_awlen),
    .m_axi_awsize_o  (m_axi_awsize),
    .m_axi_awburst_o (m_axi_awburst),
    .m_axi_wvalid_o  (m_axi_wvalid),
    .m_axi_wready_i  (m_axi_wready),
    .m_axi_wdata_o   (m_axi_wdata),
    .m_axi_wstrb_o   (m_axi_wstrb),
    .m_axi_wlast_o   (m_axi_wlast),
    .m_axi_bvalid_i  (m_axi_bvalid),
    .m_axi_bready_o  (m_axi_bready),
    .m_axi_bresp_i   (m_axi_bresp),
    .trace_o         (unused_trace),
    .counter_select_i('0),
    .counter_value_o (unused_counter)
  );

  assign m_axi_arid = 1'b0;
  assign m_axi_awid = 1'b0;
  assign unused_ids = m_axi_rid ^ m_axi_bid;

  read_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    m_axi_arvalid && !m_axi_arready |=>
      m_axi_arvalid && $stable({m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst}))
    else $error("a read address is withdrawn");
  write_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    m_axi_awvalid && !m_axi_awready |=>
      m_axi_awvalid && $stable({m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst}))
    else $error("a write address is withdrawn");
  data_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    m_axi_wvalid && !m_axi_wready |=>
      m_axi_wvalid && $stable({m_axi_wdata, m_axi_wstrb, m_axi_wlast}))
    else $error("write data are withdrawn");

endmodule
