// Behavioural AXI4 memory, for simulation only. Its bytes lie on the C++ side (system.cpp).
//
// With the plusarg +backpressure=0 (the default) it is always ready, and its latency is exact:
// the first R beat of an AR handshake in cycle a is valid in a + LatencyCycles, or as soon as the
// beats before it are gone, then a beat a cycle; B of a last W handshake in cycle w is valid in
// w + LatencyCycles. With +backpressure=N every channel stalls in N of 1000 cycles, at random
// (+verilator+seed). Bursts are INCR, of whole beats but for the strobes; W follows its AW.

module axi_memory
  import isa_pkg::*;
  import limits_pkg::*;
#(
  parameter int unsigned BusBytes      = 16,
  parameter int unsigned LatencyCycles = 50
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // write address
  input  logic                  aw_valid_i,
  output logic                  aw_ready_o,
  input  dram_address_t         aw_addr_i,
  input  logic [7:0]            aw_len_i,
  input  logic [2:0]            aw_size_i,
  input  logic [1:0]            aw_burst_i,
  // write data
  input  logic                  w_valid_i,
  output logic                  w_ready_o,
  input  logic [8*BusBytes-1:0] w_data_i,
  input  logic [BusBytes-1:0]   w_strb_i,
  input  logic                  w_last_i,
  // write response
  output logic                  b_valid_o,
  input  logic                  b_ready_i,
  output logic [1:0]            b_resp_o,
  // read address
  input  logic                  ar_valid_i,
  output logic                  ar_ready_o,
  input  dram_address_t         ar_addr_i,
  input  logic [7:0]            ar_len_i,
  input  logic [2:0]            ar_size_i,
  input  logic [1:0]            ar_burst_i,
  // read data
  output logic                  r_valid_o,
  input  logic                  r_ready_i,
  output logic [8*BusBytes-1:0] r_data_o,
  output logic [1:0]            r_resp_o,
  output logic                  r_last_o
);

  if (!is_bus(BusBytes)) begin : gen_refuse_bus_bytes
    $error("BusBytes=%0d is no width of a bus", BusBytes);
  end
  if (!is_latency(LatencyCycles)) begin : gen_refuse_latency_cycles
    $error("LatencyCycles=%0d is no latency", LatencyCycles);
  end

  import "DPI-C" function longint memory_size();
  import "DPI-C" function void memory_read(
    input longint address, input int size, output bit [8*BusBytes-1:0] data);
  import "DPI-C" function void memory_write(
    input longint address, input int size, input bit [8*BusBytes-1:0] data,
    input bit [BusBytes-1:0] strobes);

  localparam int unsigned Depth     = 2 * LatencyCycles + 64;  // requests under way
  localparam int unsigned IndexBits = $clog2(Depth);
  localparam dram_address_t BeatMask = ~40'(BusBytes - 1);
  typedef logic [IndexBits-1:0] index_t;
  typedef struct packed {
    dram_address_t addr;  // of the next beat
    logic [8:0]    beats;
  } burst_t;

  function automatic index_t next(index_t index);
    return index == index_t'(Depth - 1) ? '0 : index + 1'b1;
  endfunction

  logic [31:0] now_q;
  int unsigned backpressure;
  logic [4:0]  stall_q;  // AW, W, B, AR, R
  longint      size;

  initial begin
    backpressure = 0;
    if ($value$plusargs("backpressure=%d", backpressure) == 0) backpressure = 0;
    size = memory_size();
  end

  always_ff @(posedge clk_i) begin
    now_q   <= rst_ni ? now_q + 1 : '0;
    stall_q <= '0;
    if (backpressure != 0) begin
      for (int i = 0; i < 5; i++) stall_q[i] <= $urandom_range(999) < backpressure;
    end
  end

  // -- Reads ----------------------------------------------------------------------------------------
  // A queue of bursts, the burst that is being sent, and the register of its current beat.

  burst_t              reads [Depth];
  logic [31:0]         reads_due [Depth];  // cycles from which their data may be sent
  index_t              read_head_q, read_tail_q;
  logic                sending_q, r_valid_q, r_last_q;
  burst_t              burst_q, burst;
  bit [8*BusBytes-1:0] r_data_q;
  logic                ar_take, read_pending, read_due, read_now, send;

  assign ar_ready_o   = !stall_q[3] && next(read_tail_q) != read_head_q;
  assign ar_take      = ar_valid_i && ar_ready_o;
  assign read_pending = read_head_q != read_tail_q;
  assign read_due     = read_pending && signed'(reads_due[read_head_q] - now_q) <= 1;
  assign read_now     = LatencyCycles == 1 && !read_pending && ar_take;
  assign send         = (sending_q || read_due || read_now) && !stall_q[4] &&
                        (!r_valid_q || r_ready_i);

  always_comb begin
    burst = burst_q;
    if (!sending_q) begin
      burst = reads[read_head_q];
      if (read_now) burst = '{addr: ar_addr_i & BeatMask, beats: 9'(ar_len_i) + 1'b1};
    end
  end

  always_ff @(posedge clk_i) begin
    automatic bit [8*BusBytes-1:0] data;
    if (!rst_ni) begin
      read_head_q <= '0;
      read_tail_q <= '0;
      sending_q   <= 1'b0;
      r_valid_q   <= 1'b0;
    end else begin
      if (ar_take && !(read_now && send && !sending_q)) begin
        reads[read_tail_q]     <= '{addr: ar_addr_i & BeatMask, beats: 9'(ar_len_i) + 1'b1};
        reads_due[read_tail_q] <= now_q + LatencyCycles;
        read_tail_q            <= next(read_tail_q);
      end
      if (r_ready_i) r_valid_q <= 1'b0;
      if (send) begin
        if (!sending_q && !read_now) read_head_q <= next(read_head_q);
        r_valid_q     <= 1'b1;
        r_last_q      <= burst.beats == 9'd1;
        sending_q     <= burst.beats != 9'd1;
        burst_q.addr  <= burst.addr + 40'(BusBytes);
        burst_q.beats <= burst.beats - 1'b1;
        memory_read(longint'(burst.addr), BusBytes, data);
        r_data_q <= data;
      end
    end
  end

  assign r_valid_o = r_valid_q;
  assign r_data_o  = r_data_q;
  assign r_last_o  = r_last_q;
  assign r_resp_o  = '0;

  // -- Writes ---------------------------------------------------------------------------------------
  // A queue of bursts whose data are awaited, and one of the cycles in which responses are due.

  burst_t      writes [Depth];
  logic [31:0] responses [Depth];
  index_t      write_head_q, write_tail_q, response_head_q, response_tail_q;
  logic [8:0]  beat_q;  // beats of the head burst that have come
  logic        aw_take, w_take, w_end, write_pending, b_held_q, room;
  burst_t      write;

  assign room          = next(response_tail_q) != response_head_q;
  assign write         = writes[write_head_q];
  assign write_pending = write_head_q != write_tail_q;
  assign aw_ready_o    = !stall_q[0] && next(write_tail_q) != write_head_q;
  assign aw_take       = aw_valid_i && aw_ready_o;
  assign w_ready_o     = backpressure == 0 || (!stall_q[1] && write_pending && room);
  assign w_take        = w_valid_i && w_ready_o;
  assign w_end         = beat_q + 1'b1 == write.beats;
  assign b_valid_o     = response_head_q != response_tail_q && (b_held_q || !stall_q[2]) &&
                         signed'(responses[response_head_q] - now_q) <= 0;
  assign b_resp_o      = '0;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_head_q    <= '0;
      write_tail_q    <= '0;
      response_head_q <= '0;
      response_tail_q <= '0;
      beat_q          <= '0;
      b_held_q        <= 1'b0;
    end else begin
      if (aw_take) begin
        writes[write_tail_q] <= '{addr: aw_addr_i & BeatMask, beats: 9'(aw_len_i) + 1'b1};
        write_tail_q         <= next(write_tail_q);
      end
      if (w_take && write_pending) begin
        memory_write(longint'(write.addr) + longint'(beat_q) * longint'(BusBytes), BusBytes,
                     w_data_i, w_strb_i);
        beat_q <= w_end ? '0 : beat_q + 1'b1;
        if (w_end) begin
          write_head_q <= next(write_head_q);
          responses[response_tail_q] <= now_q + LatencyCycles;
          response_tail_q <= next(response_tail_q);
        end
      end
      b_held_q <= b_valid_o && !b_ready_i;
      if (b_valid_o && b_ready_i) response_head_q <= next(response_head_q);
    end
  end

  // -- The protocol ---------------------------------------------------------------------------------

  localparam logic [2:0] Size = 3'($clog2(BusBytes));

  function automatic dram_address_t last_beat(dram_address_t addr, logic [7:0] len);
    return (addr & BeatMask) + 40'(len) * 40'(BusBytes);
  endfunction

  function automatic logic in_page(dram_address_t addr, logic [7:0] len);
    return addr >> 12 == last_beat(addr, len) >> 12;
  endfunction

  function automatic logic in_memory(dram_address_t addr, logic [7:0] len);
    return longint'(last_beat(addr, len)) + longint'(BusBytes) <= size;
  endfunction

  read_form : assert property (@(posedge clk_i) disable iff (!rst_ni)
    ar_valid_i |-> ar_size_i == Size && ar_burst_i == 2'b01)
    else $error("a read is no INCR burst of whole beats");
  write_form : assert property (@(posedge clk_i) disable iff (!rst_ni)
    aw_valid_i |-> aw_size_i == Size && aw_burst_i == 2'b01)
    else $error("a write is no INCR burst of whole beats");
  read_page : assert property (@(posedge clk_i) disable iff (!rst_ni)
    ar_valid_i |-> in_page(ar_addr_i, ar_len_i))
    else $error("the read of %0d beats at 0x%0h crosses 4 KiB", 32'(ar_len_i) + 1, ar_addr_i);
  write_page : assert property (@(posedge clk_i) disable iff (!rst_ni)
    aw_valid_i |-> in_page(aw_addr_i, aw_len_i))
    else $error("the write of %0d beats at 0x%0h crosses 4 KiB", 32'(aw_len_i) + 1, aw_addr_i);
  read_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
    ar_valid_i |-> in_memory(ar_addr_i, ar_len_i))
    else $error("the read of %0d beats at 0x%0h is beyond the memory", 32'(ar_len_i) + 1,
                ar_addr_i);
  write_range : assert property (@(posedge clk_i) disable iff (!rst_ni)
    aw_valid_i |-> in_memory(aw_addr_i, aw_len_i))
    else $error("the write of %0d beats at 0x%0h is beyond the memory", 32'(aw_len_i) + 1,
                aw_addr_i);
  write_order : assert property (@(posedge clk_i) disable iff (!rst_ni)
    w_valid_i && backpressure == 0 |-> write_pending)
    else $error("write data come before their address");
  write_last : assert property (@(posedge clk_i) disable iff (!rst_ni)
    w_valid_i && write_pending |-> w_last_i == w_end)
    else $error("WLAST is %0d in beat %0d of %0d", w_last_i, beat_q + 1'b1, write.beats);
  response_room : assert property (@(posedge clk_i) disable iff (!rst_ni) room)
    else $error("write responses are not taken");
  read_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    ar_valid_i && !ar_ready_o |=> ar_valid_i && $stable(ar_addr_i) && $stable(ar_len_i))
    else $error("a read address is withdrawn");
  write_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    aw_valid_i && !aw_ready_o |=> aw_valid_i && $stable(aw_addr_i) && $stable(aw_len_i))
    else $error("a write address is withdrawn");
  data_held : assert property (@(posedge clk_i) disable iff (!rst_ni)
    w_valid_i && !w_ready_o |=>
      w_valid_i && $stable(w_data_i) && $stable(w_strb_i) && $stable(w_last_i))
    else $error("write data are withdrawn");

endmodule
