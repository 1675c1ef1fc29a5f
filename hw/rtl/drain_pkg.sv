// What travels down the drain's pipeline with a row, and the arithmetic that its stages share.

package drain_pkg;

  import isa_pkg::*;
  import functions_pkg::*;
  import sigmoid_pkg::*;

  localparam int unsigned       ProductDroppedBits = 12;       // of a product of two operands
  localparam logic       [16:0] One                = 17'h10000;  // as a factor
  localparam logic signed [20:0] Half              = 21'sh8000;  // as a value: 1, in 2^-15

  // A row read of the accumulator: what the stages behind it need to know.
  typedef struct packed {
    mode_e              mode;
    pass_e              pass;
    logic [3:0]         row;            // in its batch, selects the statistics
    state_row_t         state;          // of rows that come in parts
    state_row_t         alignment;
    logic               fresh;          // the part is their first one
    logic               first;          // first block of its row in this pass
    logic               last;           // last block of its row in this pass
    logic               to_scratchpad;
    logic               segment_last;   // last row of its DRAM segment
    local_row_t         scratchpad_row;
    logic               channel_scale;
    multiplier_t        multiplier;
    shift_t             shift;
    logic               channel_affine;
    parameter_row_t     affine_row;
    multiplier_t        out_multiplier;
    shift_t             out_shift;
    tag_t               tag;
  } slot_t;

  // Factors of a channel as they lie in the parameter memory.
  typedef struct packed {
    logic [7:0]         shift;
    multiplier_t        multiplier;
    logic signed [31:0] bias;
  } parameters_t;

  // Of a row that comes in parts: its highest octave, and the sum of exponentials relative to it.
  typedef logic signed [10:0] octave_t;
  typedef struct packed {
    octave_t     octave;
    logic [31:0] total;
  } state_t;

  // v rounded up to a whole octave.
  function automatic logic signed [20:0] octave_above(input logic signed [19:0] v);
    return (21'(v) + 21'sd1023) & ~21'sd1023;
  endfunction

  // Rounds x / 2^n half up and clamps the result to 20 bits.
  function automatic logic signed [19:0] round_saturate(
    input logic signed [62:0] x, input logic [5:0] n
  );
    logic signed [63:0] scaled;  // floor and, in bit 0, the bit that rounds it
    logic signed [20:0] rounded;
    scaled  = $signed({x, 1'b0}) >>> n;
    rounded = 21'($signed(scaled[20:1])) + $signed({20'b0, scaled[0]});
    if (scaled[63:20] != {44{scaled[63]}}) return scaled[63] ? 20'sh80000 : 20'sh7ffff;
    return rounded == 21'sh80000 ? 20'sh7ffff : rounded[19:0];
  endfunction

  // Clamps to 8 bits, sign-extended.
  function automatic logic signed [19:0] saturate8(input logic signed [19:0] x);
    if (x[19:7] == {13{x[19]}}) return x;
    return x[19] ? -20'sd128 : 20'sd127;
  endfunction

  // Clamps to 16 bits, sign-extended.
  function automatic logic signed [19:0] saturate16(input logic signed [19:0] x);
    if (x[19:15] == {5{x[19]}}) return x;
    return x[19] ? -20'sd32768 : 20'sd32767;
  endfunction

  // GELU: the distance of |v| to the point beyond which it is linear (2^-10 per LSB).
  function automatic logic [16:0] gelu_distance(input logic [19:0] magnitude);
    return magnitude > 20'd2562 ? 17'd0 : 17'd2562 - magnitude[16:0];
  endfunction

  // GELU: the factor of v from the squared distance, 2^-16 per LSB.
  function automatic logic [16:0] gelu_factor(input logic [23:0] square, input logic negative);
    return 17'((negative ? square : 24'd14523224 - square) >> 7);
  endfunction

  // Sigmoid: the segment of |v|, the last one without end.
  function automatic segment_t segment_of(input logic [19:0] magnitude);
    return magnitude >> SegmentBits < 20'(Segments) ? segment_t'(magnitude >> SegmentBits)
                                                    : segment_t'(Segments);
  endfunction

  // Sigmoid: the distance of |v| to its segment's vertex, if that lies ahead.
  function automatic logic [16:0] sigmoid_distance(input logic [19:0] magnitude);
    logic [19:0] vertex, at;
    vertex = 20'(vertex_of(segment_of(magnitude)));
    at     = magnitude - (20'(segment_of(magnitude)) << SegmentBits);
    return at < vertex ? 17'(vertex - at) : '0;
  endfunction

  // Sigmoid: the factor of |v| from the squared distance.
  function automatic logic [16:0] sigmoid_factor(
    input logic [27:0] square, input segment_t segment
  );
    fall_t fall;
    fall = fall_of(segment);
    return 17'(28'(fall.offset) - (square >> fall.shift));
  endfunction

  // The factor of -|v|, if v is that: what is missing to 1.
  function automatic logic [16:0] mirrored(input logic [16:0] factor, input logic negative);
    return negative ? One - factor : factor;
  endfunction

  // |tanh| of v / 2 from the sigmoid of |v|.
  function automatic logic [16:0] tanh_factor(input logic [16:0] factor);
    return (factor << 1) - One;
  endfunction

  // Hard sigmoid: |v| up to where it is 1, and its factor from the product with the slope.
  function automatic logic [16:0] hard_magnitude(input logic [19:0] magnitude);
    return magnitude > 20'(HardClip) ? 17'(HardClip) : magnitude[16:0];
  endfunction

  function automatic logic [16:0] hard_factor(input logic [27:0] product);
    return 17'(28'(One >> 1) + (product >> HardDroppedBits));
  endfunction

  // 2^-(d / 1024), rounded: the exponential of a squared operand (1959 - d % 1024) and z = d / 1024.
  function automatic logic [15:0] exponential(input logic [22:0] square, input logic [4:0] z);
    automatic logic [16:0] halves = 17'((square + 23'd2108000) >> 6) >> z;
    return 16'((halves + 17'd1) >> 1);
  endfunction

endpackage
