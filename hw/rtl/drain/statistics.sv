// The statistics of up to 16 rows: what softmax and the norms subtract, and by what they multiply.
//
// Maxima enter from v (cycle x+5 of the pipeline), squares one cycle before the terms of the sums
// (x+7, x+8). A row's offset is its maximum, or 16 times its mean; its factor and shift are the
// reciprocal of its sum of exponentials, or of its standard deviation. A maximum can be read as
// offset (combinationally) 3 cycles after its last v; a factor 13 cycles after its last term for
// softmax, 24 for the norms, if the dividers are idle; they take a row every 8 cycles, others wait.
// reciprocal_o is raised 9 cycles before a row's factor can be read, in the order of rows.
//
// Of rows that come in parts, the maximum is rounded up to an octave, and terms come with the output.
// Their states are read, and written with the alignment, 3 cycles after the last term. A quotient's
// divisor is the sum of its row's state then; lead_o is the position of its highest bit.

module statistics
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
#(
  parameter int unsigned Dim = 16
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  // maxima: a block of a row
  input  logic               v_valid_i,
  input  logic               v_first_i,
  input  logic               v_octave_i,
  input  logic        [3:0]  v_row_i,
  input  logic [Dim-1:0]     v_lane_i,
  input  logic signed [19:0] v_i [Dim],
  // sums: a block of a row; squares come one cycle earlier
  input  logic               square_valid_i,
  input  logic signed [31:0] square_i [Dim],
  input  logic               term_valid_i,
  input  logic               term_first_i,
  input  logic               term_last_i,
  input  logic        [3:0]  term_row_i,
  input  mode_e              term_mode_i,
  input  state_row_t         term_state_i,
  input  state_row_t         term_alignment_i,
  input  logic               term_fresh_i,
  input  tag_t               term_tag_i,
  input  logic signed [16:0] term_i [Dim],
  // of the instruction
  input  logic               center_i,
  input  column_count_t      columns_i,
  input  inverse_t           inverse_i,
  input  epsilon_t           epsilon_i,
  // results
  output access_t            alignment_o,
  output alignment_t         alignment_data_o,
  output logic               reciprocal_o,
  input  logic        [3:0]  lead_row_i,
  output shift_t             lead_o,
  input  logic        [3:0]  offset_row_i,
  output logic signed [20:0] offset_o,
  input  logic        [3:0]  factor_row_i,
  output logic        [16:0] factor_o,
  output shift_t             shift_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  typedef struct packed {
    logic       first;
    logic       last;
    mode_e      mode;
    logic [3:0] row;
    octave_t    octave;  // of rows that come in parts, as what follows
    state_row_t state;
    state_row_t alignment;
    logic       fresh;
    tag_t       tag;
  } block_t;

  typedef struct packed {
    logic [3:0] row;
    logic       zero;
    shift_t     shift;
  } divide_t;

  typedef struct packed {
    logic        softmax;
    divide_t     divide;
    logic [31:0] operand;  // divisor or radicand
  } request_t;

  typedef struct packed {
    logic [16:0] factor;
    shift_t      shift;
  } factor_t;

  logic signed [20:0] offset_q [16];
  factor_t            factor_q [16];

  // -- Maximum ------------------------------------------------------------------------------------

  logic               v_valid_q, v_valid_q2, v_first_q, v_first_q2, v_octave_q, v_octave_q2;
  logic        [3:0]  v_row_q, v_row_q2;
  logic signed [19:0] block_maximum, maximum_d, maximum_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) {v_valid_q, v_valid_q2} <= '0;
    else {v_valid_q, v_valid_q2} <= {v_valid_i, v_valid_q};
    {v_first_q, v_octave_q, v_row_q}    <= {v_first_i, v_octave_i, v_row_i};
    {v_first_q2, v_octave_q2, v_row_q2} <= {v_first_q, v_octave_q, v_row_q};
  end

  lane_maximum #(
    .Dim(Dim)
  ) u_maximum (
    .clk_i,
    .valid_i  ({v_valid_q, v_valid_i}),
    .lane_i   (v_lane_i),
    .v_i,
    .maximum_o(block_maximum)
  );

  assign maximum_d = !v_first_q2 && maximum_q > block_maximum ? maximum_q : block_maximum;

  always_ff @(posedge clk_i) begin
    if (v_valid_q2) maximum_q <= maximum_d;
  end

  // -- Sums ---------------------------------------------------------------------------------------

  localparam int unsigned TermBits = 17 + $clog2(Dim);
  localparam int unsigned SquareBits = 32 + $clog2(Dim);

  logic                         square_valid_q, term_valid_q, term_valid_q2, sum_valid_q;
  block_t                       block_q, block_q2;
  block_t                       sum_block_q;
  logic signed [TermBits-1:0]   block_sum;
  logic signed [SquareBits-1:0] block_squares, block_squares_q;
  logic        [31:0]           sum_q;
  logic        [45:0]           squares_q;

  lane_sum #(
    .Dim(Dim),
    .Width(17)
  ) u_sum (
    .clk_i,
    .valid_i({term_valid_q, term_valid_i}),
    .term_i,
    .sum_o  (block_sum)
  );

  lane_sum #(
    .Dim(Dim),
    .Width(32)
  ) u_squares (
    .clk_i,
    .valid_i({square_valid_q, square_valid_i}),
    .term_i (square_i),
    .sum_o  (block_squares)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) {square_valid_q, term_valid_q, term_valid_q2, sum_valid_q} <= '0;
    else begin
      {square_valid_q, term_valid_q, term_valid_q2} <= {square_valid_i, term_valid_i, term_valid_q};
      sum_valid_q <= term_valid_q2 && block_q2.last;
    end
    block_q <= '{first: term_first_i, last: term_last_i, mode: term_mode_i, row: term_row_i,
                 octave: octave_t'(offset_q[term_row_i] >>> 10), state: term_state_i,
                 alignment: term_alignment_i, fresh: term_fresh_i, tag: term_tag_i};
    block_q2 <= block_q;
    block_squares_q <= block_squares;
    if (term_valid_q2) begin
      sum_block_q <= block_q2;
      sum_q <= (block_q2.first ? '0 : sum_q) + 32'(block_sum);
      squares_q <= (block_q2.first ? '0 : squares_q) + 46'(unsigned'(block_squares_q));
    end
  end

  // -- States of rows that come in parts ----------------------------------------------------------

  state_t     read_state, state, part, next_state;
  logic       joins, asks, passed_q;  // passed_q: the state read was written in the same cycle
  state_t     passed_state_q;
  alignment_t alignment;

  assign joins = sum_valid_q && sum_block_q.mode == MODE_EXPONENTIALS;
  assign asks  = sum_valid_q && sum_block_q.mode == MODE_QUOTIENT;

  sram_1r1w #(
    .Width($bits(state_t)),
    .Rows (limits_pkg::StateRows)
  ) u_states (
    .clk_i,
    .read_i      (term_valid_q2 && block_q2.last),
    .read_row_i  (block_q2.state),
    .read_data_o (read_state),
    .write_i     (joins),
    .write_row_i (sum_block_q.state),
    .write_data_i(next_state)
  );

  always_ff @(posedge clk_i) begin
    passed_q       <= joins && block_q2.state == sum_block_q.state;
    passed_state_q <= next_state;
  end

  assign state = passed_q ? passed_state_q : read_state;
  assign part  = '{octave: sum_block_q.octave, total: sum_q};

  state_join u_join (
    .before_i   (state),
    .part_i     (part),
    .fresh_i    (sum_block_q.fresh),
    .state_o    (next_state),
    .alignment_o(alignment)
  );

  assign alignment_o      = '{valid: joins, row: local_row_t'(sum_block_q.alignment),
                              tag: sum_block_q.tag};
  assign alignment_data_o = alignment;

  // -- Normalized divisor of softmax --------------------------------------------------------------

  logic [31:0] divisor_sum, sum_aligned;
  logic [4:0]  sum_lead;  // zeros before the highest bit
  request_t    softmax_request;

  always_comb begin
    divisor_sum = asks ? state.total : sum_q;
    sum_aligned = divisor_sum;
    for (int k = 4; k >= 0; k--) begin
      sum_lead[k] = (sum_aligned >> (32 - (1 << k))) == '0;
      if (sum_lead[k]) sum_aligned = sum_aligned << (1 << k);
    end
    softmax_request.softmax      = 1'b1;
    softmax_request.divide.row   = sum_block_q.row;
    softmax_request.divide.zero  = divisor_sum == '0;
    softmax_request.divide.shift = divisor_sum == '0 ? 6'd15 : 6'd31 - 6'(sum_lead);
    softmax_request.operand      = {16'b0, sum_aligned[31:16]};
  end

  shift_t lead_q [16];
  always_ff @(posedge clk_i) begin
    if (asks) lead_q[sum_block_q.row] <= softmax_request.divide.shift;
  end
  assign lead_o = lead_q[lead_row_i];

  // -- Moments of the norms -----------------------------------------------------------------------

  logic               moments, mean_valid_q, spread_valid_q;
  logic        [3:0]  mean_row_q, spread_row_q;
  logic        [3:0]  columns_msb;
  logic signed [20:0] mean;
  logic        [61:0] spread, spread_aligned;
  logic        [4:0]  spread_lead;  // pairs of zeros before the highest bit
  request_t           norm_request;

  always_comb begin
    columns_msb = '0;
    for (int unsigned i = 0; i < 16; i++) if (columns_i[i]) columns_msb = 4'(i);
  end

  assign moments = sum_valid_q && sum_block_q.mode == MODE_NORM;

  moments u_moments (
    .clk_i,
    .valid_i      ({mean_valid_q, moments}),
    .sum_i        (sum_q),
    .squares_i    (squares_q),
    .center_i,
    .columns_i,
    .columns_msb_i(columns_msb),
    .inverse_i,
    .epsilon_i,
    .mean_o       (mean),
    .spread_o     (spread)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) {mean_valid_q, spread_valid_q} <= '0;
    else {mean_valid_q, spread_valid_q} <= {moments, mean_valid_q};
    {mean_row_q, spread_row_q} <= {sum_block_q.row, mean_row_q};
  end

  // The highest bit of the spread, rounded down to an even position, moves to position 60.
  always_comb begin
    spread_aligned = spread;
    for (int k = 4; k >= 0; k--) begin
      spread_lead[k] = (spread_aligned >> (62 - (2 << k))) == '0;
      if (spread_lead[k]) spread_aligned = spread_aligned << (2 << k);
    end
    norm_request.softmax      = 1'b0;
    norm_request.divide.row   = spread_row_q;
    norm_request.divide.zero  = spread == '0;
    norm_request.divide.shift = spread == '0 ? '0 : 6'd38 - 6'(columns_msb) - 6'(spread_lead);
    norm_request.operand      = spread_aligned[61:30];
  end

  always_ff @(posedge clk_i) begin
    if (v_valid_q2) begin
      offset_q[v_row_q2] <= v_octave_q2 ? octave_above(maximum_d) : 21'(maximum_d);
    end
    if (mean_valid_q) offset_q[mean_row_q] <= mean;
  end

  // -- Square roots and divisions -----------------------------------------------------------------

  request_t    request;
  logic        request_valid, request_full, request_pop;
  logic [4:0]  request_count;
  logic        root_ready, root_start, root_valid, root_valid_q;
  logic [15:0] root, root_q;
  divide_t     root_divide, root_divide_q;
  logic        divide_ready, divide_valid;
  logic [15:0] dividend, divisor;
  logic [16:0] quotient;
  divide_t     divide, done;

  fifo #(
    .Depth  (16),
    .entry_t(request_t)
  ) u_requests (
    .clk_i,
    .rst_ni,
    .push_i ((sum_valid_q && sum_block_q.mode == MODE_SOFTMAX) || asks || spread_valid_q),
    .data_i (spread_valid_q ? norm_request : softmax_request),
    .full_o (request_full),
    .valid_o(request_valid),
    .data_o (request),
    .pop_i  (request_pop),
    .count_o(request_count)
  );

  assign root_start   = request_valid && !request.softmax && root_ready;
  assign reciprocal_o = root_valid_q || (request_valid && request.softmax && divide_ready);
  assign request_pop  = root_start || (reciprocal_o && !root_valid_q);

  square_root #(
    .side_t(divide_t)
  ) u_square_root (
    .clk_i,
    .rst_ni,
    .ready_o   (root_ready),
    .start_i   (root_start),
    .radicand_i(request.operand),
    .side_i    (request.divide),
    .valid_o   (root_valid),
    .root_o    (root),
    .side_o    (root_divide)
  );

  always_ff @(posedge clk_i) begin
    if (!rst_ni) root_valid_q <= 1'b0;
    else root_valid_q <= root_valid;
    if (root_valid) {root_q, root_divide_q} <= {root, root_divide};
  end

  // The columns, shifted until their highest bit is bit 15, over the root; 2^15 over the sum.
  assign dividend = root_valid_q ? columns_i << (4'd15 - columns_msb) : 16'h8000;
  assign divisor  = root_valid_q ? root_q : request.operand[15:0];
  assign divide   = root_valid_q ? root_divide_q : request.divide;

  reciprocal #(
    .side_t(divide_t)
  ) u_reciprocal (
    .clk_i,
    .rst_ni,
    .ready_o   (divide_ready),
    .start_i   (reciprocal_o),
    .dividend_i(dividend),
    .divisor_i (divisor),
    .side_i    (divide),
    .valid_o   (divide_valid),
    .quotient_o(quotient),
    .side_o    (done)
  );

  always_ff @(posedge clk_i) begin
    if (divide_valid) begin
      factor_q[done.row] <= '{factor: done.zero ? '0 : quotient, shift: done.shift};
    end
  end

  assign offset_o = offset_q[offset_row_i];
  assign factor_o = factor_q[factor_row_i].factor;
  assign shift_o  = factor_q[factor_row_i].shift;

  logic unused_request;
  assign unused_request = &{1'b0, request_full, request_count, sum_block_q};

endmodule
