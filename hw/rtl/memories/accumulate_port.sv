// Adds rows to the accumulator, or writes them: read, add and write of a row in a pipeline.
//
// Where the row says so, it is shifted by octaves before it is added, or what it is added to is
// (align_old), to the nearest with ties up: attention in parts, see hw/machine/attention.py.
// A row that enters in cycle t is read in t (if it accumulates); its sum is written in t + 2, from
// the adder. Sums wrap. A row may enter in every cycle and may repeat at any distance: sums written
// in t and t + 1, which the read did not see, are taken from registers.

module accumulate_port
  import isa_pkg::*;
#(
  parameter int unsigned Dim = 16
) (
  input  logic              clk_i,
  input  logic              rst_ni,
  // row
  input  logic              valid_i,
  input  sums_t             sums_i,
  input  logic [Dim*32-1:0] data_i,
  // accumulator read port, data two cycles later
  output access_t           read_o,
  input  logic [Dim*32-1:0] read_data_i,
  // accumulator write port
  output access_t           write_o,
  output logic [Dim*32-1:0] write_data_o,
  // the row written is the last of its instruction
  output logic              last_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  typedef struct packed {
    logic         valid;
    logic         accumulate;
    logic         last;
    logic         repeats_1;  // the row is the one that entered a cycle before, or two before
    logic         repeats_2;
    logic         align_old;
    align_shift_t align;
    local_row_t   row;
    tag_t         tag;
  } stage_t;

  stage_t            in, stage_1_q, stage_2_q;
  logic [Dim*32-1:0] data_1_q, data_2_q;  // rows that entered one and two cycles ago
  logic [Dim*32-1:0] sum_1_q, sum_2_q;    // sums written one and two cycles ago, where a row repeats
  logic              keep_1, keep_2_q;

  assign in = '{
    valid:      valid_i,
    accumulate: valid_i && sums_i.accumulate,
    last:       valid_i && sums_i.last,
    repeats_1:  valid_i && sums_i.accumulate && stage_1_q.valid && stage_1_q.row == sums_i.row,
    repeats_2:  valid_i && sums_i.accumulate && stage_2_q.valid && stage_2_q.row == sums_i.row,
    align_old:  sums_i.align_old,
    align:      sums_i.align,
    row:        sums_i.row,
    tag:        sums_i.tag
  };
  assign keep_1 = stage_1_q.repeats_1 || in.repeats_2;

  assign read_o = '{valid: in.accumulate, row: in.row, tag: in.tag};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      stage_1_q <= '0;
      stage_2_q <= '0;
      keep_2_q  <= 1'b0;
    end else begin
      stage_1_q <= in;
      stage_2_q <= stage_1_q;
      keep_2_q  <= in.repeats_2;
    end
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) data_1_q <= data_i;
    if (stage_1_q.valid) data_2_q <= data_1_q;
    if (keep_1) sum_1_q <= write_data_o;
    if (keep_2_q) sum_2_q <= sum_1_q;
  end

  // add
  logic [Dim*32-1:0] old;

  always_comb begin
    old = read_data_i;
    if (stage_2_q.repeats_2) old = sum_2_q;
    if (stage_2_q.repeats_1) old = sum_1_q;
    if (!stage_2_q.accumulate) old = '0;
    for (int unsigned c = 0; c < Dim; c++) begin
      write_data_o[c*32 +: 32] = stage_2_q.align_old
        ? data_2_q[c*32 +: 32] + aligned(old[c*32 +: 32], stage_2_q.align)
        : old[c*32 +: 32] + aligned(data_2_q[c*32 +: 32], stage_2_q.align);
    end
  end

  // x / 2^n to the nearest, ties up.
  function automatic logic [31:0] aligned(input logic [31:0] x, input align_shift_t n);
    logic signed [32:0] halves;
    halves = $signed({x, 1'b0}) >>> n;
    return halves[32:1] + {31'b0, halves[0]};
  endfunction

  assign write_o = '{valid: stage_2_q.valid, row: stage_2_q.row, tag: stage_2_q.tag};
  assign last_o  = stage_2_q.last;

endmodule
