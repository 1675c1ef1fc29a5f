// The operands of one lane's normalizer: a signed value and an unsigned factor.
//
//   mode       cycle 1 (from v)                cycle 2    cycle 3: value a        factor b
//   copy..     v in two parts                  -          low 21 bits of v        high 11 bits
//   GELU       2562 - min(|v|, 2562)           square     v                       polynomial
//   SiLU       vertex - |v| of the segment     square     v                       parabola
//   sigmoid    likewise                        square     1                       parabola
//   tanh       likewise                        square     +-1                     from the parabola
//   hard ones  min(|v|, 3072), slope           product    v or 1                  from the product
//   softmax    z, 1959 - f of d = maximum - v  square     exponential e           reciprocal
//   exponentials: likewise                     square     exponential e           1
//   quotient   v                               -          v                       reciprocal
//   norm       16 v - mean                     -          16 v - mean             reciprocal
//   norm's moments: |v|                        square     v                       -
//   linear     v; rectified: max(v, 0)         -          -                       1
//   product    the value held, v               product    product                 the one held
//   rotate     the value held beside, v        product    value held + product    the one held
//
// What the last operand but this one left in the stages is held until another comes: the value of
// the first stage, value and factor of the third. valid_i[0] comes with v_i, valid_i[1] and
// valid_i[2] in the cycles after; mode_i, moments_i and valid_lane_i have one bit a stage likewise.
// A lane that is not valid adds nothing to the sums.

module nonlinear
  import drain_pkg::*;
  import functions_pkg::*;
  import sigmoid_pkg::*;
(
  input  logic               clk_i,
  input  logic        [2:0]  valid_i,
  input  mode_e              mode_i [3],
  // first stage
  input  logic               moments_i,
  input  logic               lane_i,
  input  logic signed [31:0] v_i,
  input  logic signed [20:0] offset_i,
  input  logic signed [16:0] beside_i,   // what the other lane of the pair holds
  output logic signed [16:0] held_o,
  // third stage
  input  logic               exponential_lane_i,
  input  logic        [16:0] reciprocal_i,
  // square: after the second stage; operands: after the third
  output logic        [30:0] square_o,
  output logic signed [20:0] value_o,
  output logic        [16:0] factor_o
);

  logic signed [20:0] difference;
  logic        [19:0] magnitude;
  logic signed [20:0] value, value_q, value_q2;
  logic signed [16:0] one, other, one_q, other_q;
  segment_t           segment_q, segment_q2;
  logic               negative_q, negative_q2;
  logic signed [31:0] product_q;
  logic signed [20:0] term;

  assign difference = offset_i - 21'(v_i[20:0]);
  assign magnitude  = v_i[19] ? -v_i[19:0] : v_i[19:0];
  assign held_o     = value_q[16:0];
  assign square_o   = product_q[30:0];
  assign term       = 21'(product_q >>> ProductDroppedBits);

  always_comb begin
    value = v_i[20:0];
    one   = {6'b0, v_i[31:21]};
    unique case (mode_i[0])
      MODE_GELU: one = gelu_distance(magnitude);
      MODE_SILU: one = sigmoid_distance(magnitude);
      MODE_SIGMOID: {value, one} = {Half, sigmoid_distance(magnitude)};
      MODE_TANH: {value, one} = {v_i[19] ? -Half : Half, sigmoid_distance(magnitude)};
      MODE_HARD_SWISH: one = hard_magnitude(magnitude);
      MODE_HARD_SIGMOID: {value, one} = {Half, hard_magnitude(magnitude)};
      MODE_SOFTMAX, MODE_EXPONENTIALS: begin
        value = difference[20:15] != '0 ? 21'sd31 : {16'b0, difference[14:10]};
        one   = 17'sd1959 - {7'b0, difference[9:0]};
      end
      MODE_NORM: begin
        if (moments_i) begin
          value = lane_i ? v_i[20:0] : '0;
          one   = lane_i ? v_i[16:0] : '0;
        end else begin
          value = {v_i[16:0], 4'b0} - offset_i;
        end
      end
      MODE_PRODUCT: {value, one} = {value_q, held_o};
      MODE_ROTATE: {value, one} = {value_q, beside_i};
      default: ;
    endcase
    unique case (mode_i[0])
      MODE_HARD_SWISH, MODE_HARD_SIGMOID: other = 17'(HardSlope);
      MODE_PRODUCT, MODE_ROTATE: other = v_i[16:0];
      default: other = one;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      value_q    <= value;
      one_q      <= one;
      other_q    <= other;
      segment_q  <= segment_of(magnitude);
      negative_q <= v_i[19];
    end
    if (valid_i[1]) begin
      value_q2    <= value_q;
      product_q   <= is_direct(mode_i[1]) ? 32'(one_q) : 32'(one_q) * 32'(other_q);
      segment_q2  <= segment_q;
      negative_q2 <= negative_q;
    end
    if (valid_i[2]) begin
      value_o <= value_q2;
      unique case (mode_i[2])
        MODE_SOFTMAX, MODE_EXPONENTIALS: value_o <=
          exponential_lane_i ? {5'b0, exponential(product_q[22:0], value_q2[4:0])} : '0;
        MODE_PRODUCT: value_o <= term;
        MODE_ROTATE: value_o <= value_o + term;
        default: ;
      endcase
      unique case (mode_i[2])
        MODE_GELU: factor_o <= gelu_factor(product_q[23:0], negative_q2);
        MODE_SILU, MODE_SIGMOID:
          factor_o <= mirrored(sigmoid_factor(product_q[27:0], segment_q2), negative_q2);
        MODE_TANH: factor_o <= tanh_factor(sigmoid_factor(product_q[27:0], segment_q2));
        MODE_HARD_SWISH, MODE_HARD_SIGMOID:
          factor_o <= mirrored(hard_factor(product_q[27:0]), negative_q2);
        MODE_LINEAR, MODE_RECTIFIED, MODE_EXPONENTIALS: factor_o <= One;
        MODE_PRODUCT, MODE_ROTATE: factor_o <= factor_o;
        MODE_SOFTMAX, MODE_NORM, MODE_QUOTIENT: factor_o <= reciprocal_i;
        default: factor_o <= product_q[16:0];
      endcase
    end
  end

endmodule
