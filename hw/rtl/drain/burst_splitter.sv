// Cuts runs of beats into AXI bursts: at most 256 beats each, none across 4 KiB.
//
// Combinational from the run at the head of a queue: one burst a cycle, a new run without a gap.
// Bursts end at multiples of their greatest length. Addresses come out aligned to beats.

module burst_splitter
  import isa_pkg::*;
#(
  parameter int unsigned BusBytes = 16
) (
  input  logic          clk_i,
  input  logic          rst_ni,
  // run: held until it is popped
  input  logic          run_valid_i,
  input  dram_address_t run_addr_i,
  input  beat_count_t   run_beats_i,
  output logic          run_pop_o,
  // burst
  output logic          burst_valid_o,
  input  logic          burst_ready_i,
  output dram_address_t burst_addr_o,
  output logic [7:0]    burst_len_o,   // beats - 1
  output logic          burst_last_o   // of the run
);

  legal_sizes #(.BusBytes(BusBytes)) u_legal ();

  localparam int unsigned BusBits = $clog2(BusBytes);
  localparam int unsigned WithinBeat = BusBytes - 1;  // the bits of an address
  localparam int unsigned Longest = BusBytes > 16 ? 4096 / BusBytes : 256;
  localparam int unsigned LengthBits = $clog2(Longest);
  localparam int unsigned AddressBits = $bits(dram_address_t);
  localparam int unsigned BlockBits = AddressBits - BusBits - LengthBits;

  logic                 begun_q;  // a burst of this run was taken
  logic [BlockBits-1:0] block_q;  // where the next one begins, in greatest lengths
  beat_count_t          left_q;   // beats from there on

  dram_address_t       addr;
  beat_count_t         left;
  logic [LengthBits:0] room;
  logic                take;

  assign addr = begun_q ? {block_q, {(AddressBits - BlockBits){1'b0}}} : run_addr_i;
  assign left = begun_q ? left_q : run_beats_i;
  assign room = (LengthBits + 1)'(Longest) - {1'b0, addr[BusBits+:LengthBits]};

  assign burst_valid_o = run_valid_i;
  assign burst_addr_o  = addr & ~dram_address_t'(WithinBeat);
  assign burst_last_o  = left <= beat_count_t'(room);
  assign burst_len_o   = 8'((burst_last_o ? left : beat_count_t'(room)) - 1'b1);
  assign take          = run_valid_i && burst_ready_i;
  assign run_pop_o     = take && burst_last_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begun_q <= 1'b0;
    else if (take) begun_q <= !burst_last_o;
  end

  always_ff @(posedge clk_i) begin
    if (take && !burst_last_o) begin
      block_q <= addr[AddressBits-1-:BlockBits] + 1'b1;
      left_q  <= left - beat_count_t'(room);
    end
  end

endmodule
