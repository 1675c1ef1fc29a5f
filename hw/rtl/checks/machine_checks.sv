// What the machine's units must keep together: tokens come, and none is one too many; DRAM is
// accessed within its bounds, and answers.

module machine_checks
  import isa_pkg::*;
  import trace_pkg::*;
#(
  parameter int unsigned Dim      = 16,
  parameter int unsigned BusBytes = 16,
  localparam int unsigned CountBits = $bits(token_count_t)
) (
  input logic                               clk_i,
  input logic                               rst_ni,
  input trace_t                             trace_i,
  // nothing is under way, but instructions are left: at the heads of queues, and held
  input logic                               waiting_i,
  input logic [4:0]                         left_i,
  input tag_t [4:0]                         left_tag_i,
  // tokens: signalled in this cycle, by whom, and counted before and after it
  input token_count_t [Channels-1:0]        signalled_i,
  input tag_t [Channels-1:0]                signaller_i,
  input token_count_t [Channels-1:0]        tokens_i,
  input logic [Channels-1:0][CountBits+1:0] tokens_next_i,
  // DRAM: the load that starts, reads, segments that are written, and answers
  input logic                               load_start_i,
  input tag_t                               load_tag_i,
  input logic                               read_i,
  input dram_address_t                      read_addr_i,
  input logic [7:0]                         read_len_i, // beats - 1
  input logic                               write_i,
  input dram_address_t                      write_addr_i,
  input beat_count_t                        write_beats_i,
  input tag_t                               write_tag_i,
  input logic                               error_i
);

  // -- Tokens ------------------------------------------------------------------------------------

  // With nothing under way, no token will come: the oldest instruction left waits in vain.
  localparam int unsigned Patience = 2 * Dim + 16; // longer than a row's way through the mesh
  logic [7:0] quiet_q;
  tag_t       oldest;

  always_comb begin
    oldest = '1;
    foreach (left_i[i]) if (left_i[i] && left_tag_i[i] < oldest) oldest = left_tag_i[i];
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || !waiting_i || |trace_i) quiet_q <= '0;
    else if (quiet_q <= 8'(Patience)) quiet_q <= quiet_q + 1'b1;
  end

  tokens_come : assert property (@(posedge clk_i) disable iff (!rst_ni) quiet_q < 8'(Patience))
    else $error("instruction %0d waits for a token that no earlier instruction signals", oldest);

  tag_t last_signaller_q [Channels];

  // An instruction whose tokens are there.
  function automatic tag_t leftover();
    leftover = '0;
    for (int unsigned c = 0; c < Channels; c++) begin
      if (tokens_i[c] != '0) leftover = last_signaller_q[c];
    end
  endfunction

  function automatic string in_lower_case(string name);
    return name.tolower();
  endfunction

  for (genvar c = 0; c < Channels; c++) begin : gen_channel
    localparam channel_e Channel = channel_e'(c);
    always_ff @(posedge clk_i) begin
      if (signalled_i[c] != '0) last_signaller_q[c] <= signaller_i[c];
    end
    no_overflow : assert property (@(posedge clk_i) disable iff (!rst_ni)
      signalled_i[c] != '0 |-> tokens_next_i[c] <= (CountBits+2)'(MaxTokens))
      else $error("instruction %0d overflows the counter of %s tokens", signaller_i[c],
                  in_lower_case(Channel.name()));
  end

  // -- DRAM --------------------------------------------------------------------------------------

  // It ends at +memory_bytes=N.
  longint memory_bytes;
  tag_t   load_now_q;  // the load that has its slots
  initial begin
    if ($value$plusargs("memory_bytes=%d", memory_bytes) == 0) memory_bytes = 64'd1 << 40;
  end
  always_ff @(posedge clk_i) if (load_start_i) load_now_q <= load_tag_i;

  reads_in_memory : assert property (@(posedge clk_i) disable iff (!rst_ni)
    read_i |-> longint'(read_addr_i) + (longint'(read_len_i) + 1) * longint'(BusBytes)
               <= memory_bytes)
    else $error("instruction %0d reads DRAM at byte %0d, beyond its end", load_now_q, read_addr_i);
  writes_in_memory : assert property (@(posedge clk_i) disable iff (!rst_ni)
    write_i |-> (longint'(write_addr_i) / longint'(BusBytes) + longint'(write_beats_i))
                * longint'(BusBytes) <= memory_bytes)
    else $error("instruction %0d writes DRAM from byte %0d on, beyond its end", write_tag_i,
                write_addr_i);

  memory_answers : assert property (@(posedge clk_i) disable iff (!rst_ni) !error_i)
    else $error("the memory answers with an error");

endmodule

bind machine machine_checks #(
  .Dim(Dim), .BusBytes(BusBytes)
) u_checks (
  .clk_i, .rst_ni,
  .trace_i      (trace_o),
  .waiting_i    (load_idle && drain_idle && !(a_read.valid || b_read.valid || sum_valid) && !idle_o),
  .left_i       ({!execute_idle && compute_waits != '0, !execute_idle && preload_waits != '0,
                  execute_head.valid, drain_head.valid, load_head.valid}),
  .left_tag_i   ({u_execute.compute_q.tag, u_execute.preload_q.tag,
                  execute_head.tag, drain_head.tag, load_head.tag}),
  .signalled_i  (u_tokens.signalled),
  .signaller_i  ({u_execute.u_release.head.tag, u_drain.u_releases.head.tag,
                  u_drain.u_completes.head.tag, u_drain.u_releases.head.tag,
                  u_execute.u_complete.head.tag, u_execute.u_release.head.tag,
                  u_load.u_complete.head.tag, u_load.u_complete.head.tag}),
  .tokens_i     (u_tokens.counts_q),
  .tokens_next_i(u_tokens.counts_d),
  .load_start_i (load_start),
  .load_tag_i   (load_head.tag),
  .read_i       (m_axi_arvalid_o),
  .read_addr_i  (m_axi_araddr_o),
  .read_len_i   (m_axi_arlen_o),
  .write_i      (u_drain.seg_valid),
  .write_addr_i (u_drain.seg_addr),
  .write_beats_i(u_drain.seg_beats),
  .write_tag_i  (acc_read.tag),
  .error_i      ((m_axi_rvalid_i && m_axi_rresp_i != '0) || (m_axi_bvalid_i && m_axi_bresp_i != '0))
);
