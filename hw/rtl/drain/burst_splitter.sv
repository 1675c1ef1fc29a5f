// Cuts runs of beats into AXI bursts: at most 256 beats each, none across 4 KiB.
//
// Combinational from the run at the head of a queue: one burst a cycle, a new run without a gap.
// Bursts end at multiples of their greatest length. Addresses come out aligned to beats.

module burst_splitter #(
  parameter int unsigned BusBytes = 16
) (
  input  logic        clk_i,
  input  logic        rst_ni,
  // run: held until it is popped
  input  logic        run_valid_i,
  input  logic [39:0] run_addr_i,
  input  logic [27:0] run_beats_i,
  output logic        run_pop_o,
  // burst
  output logic        burst_valid_o,
  input  logic        burst_ready_i,
  output logic [39:0] burst_addr_o,
  output logic [7:0]  burst_len_o,   // beats - 1
  output logic        burst_last_o   // of the run
);

  localparam int unsigned BusBits = $clog2(BusBytes);
  localparam int unsigned Longest = BusBytes > 16 ? 4096 / BusBytes : 256;
  localparam int unsigned LengthBits = $clog2(Longest);
  localparam int unsigned BlockBits = 40 - BusBits - LengthBits;

  logic                 begun_q;  // a burst of this run was taken
  logic [BlockBits-1:0] block_q;  // where the next one begins, in greatest lengths
  logic [27:0]          left_q;   // beats from there on

  logic [39:0]           addr;
  logic [27:0]           left;
  logic [LengthBits:0]   room;
  logic                  take;

  assign addr = begun_q ? {block_q, {(40 - BlockBits){1'b0}}} : run_addr_i;
  assign left = begun_q ? left_q : run_beats_i;
  assign room = (LengthBits + 1)'(Longest) - {1'b0, addr[BusBits+:LengthBits]};

  assign burst_valid_o = run_valid_i;
  assign burst_addr_o  = addr & ~40'(BusBytes - 1);
  assign burst_last_o  = left <= 28'(room);
  assign burst_len_o   = 8'((burst_last_o ? left : 28'(room)) - 28'd1);
  assign take          = run_valid_i && burst_ready_i;
  assign run_pop_o     = take && burst_last_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begun_q <= 1'b0;
    else if (take) begun_q <= !burst_last_o;
  end

  always_ff @(posedge clk_i) begin
    if (take && !burst_last_o) begin
      block_q <= addr[39-:BlockBits] + 1'b1;
      left_q  <= left - 28'(room);
    end
  end

endmodule
