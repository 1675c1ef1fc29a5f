// The operands of one lane's normalizer: a signed value and an unsigned factor.
//
//   mode     cycle 1 (from v)                cycle 2          cycle 3: value a     factor b
//   copy..   v in two parts                  -                low 21 bits of v     high 11 bits
//   GELU     2562 - min(|v|, 2562)           square           v                    polynomial
//   softmax  z, 1959 - f of d = maximum - v  square           exponential e        reciprocal
//   norm     16 v - mean                     -                16 v - mean          reciprocal
//   norm's moments: |v|                      square           v                    -
//
// valid_i[0] comes with v_i, valid_i[1] and valid_i[2] in the cycles after; mode_i, moments_i and
// valid_lane_i have one bit a stage likewise. A lane that is not valid adds nothing to the sums.

module nonlinear
  import drain_pkg::*;
  import functions_pkg::*;
(
  input  logic               clk_i,
  input  logic        [2:0]  valid_i,
  input  mode_e              mode_i [3],
  // first stage
  input  logic               moments_i,
  input  logic               lane_i,
  input  logic signed [31:0] v_i,
  input  logic signed [20:0] offset_i,
  // third stage
  input  logic               exponential_lane_i,
  input  logic        [16:0] reciprocal_i,
  // square: after the second stage; operands: after the third
  output logic        [30:0] square_o,
  output logic signed [20:0] value_o,
  output logic        [16:0] factor_o
);

  logic signed [20:0] difference;
  logic        [15:0] magnitude_q;
  logic signed [20:0] value_q, value_q2;
  logic        [30:0] square_q;

  always_comb difference = offset_i - 21'(v_i[20:0]);

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      value_q     <= v_i[20:0];
      magnitude_q <= {5'b0, v_i[31:21]};
      unique case (mode_i[0])
        MODE_GELU: magnitude_q <= gelu_distance(v_i[19:0]);
        MODE_SOFTMAX: begin
          value_q     <= difference[20:15] != '0 ? 21'sd31 : {16'b0, difference[14:10]};
          magnitude_q <= 16'd1959 - {6'b0, difference[9:0]};
        end
        MODE_NORM: begin
          if (moments_i) begin
            value_q     <= lane_i ? v_i[20:0] : '0;
            magnitude_q <= !lane_i ? '0 : v_i[16] ? -v_i[15:0] : v_i[15:0];
          end else begin
            value_q <= {v_i[16:0], 4'b0} - offset_i;
          end
        end
        default: ;
      endcase
    end
    if (valid_i[1]) begin
      value_q2 <= value_q;
      square_q <= is_direct(mode_i[1]) ? {15'b0, magnitude_q}
                                       : 31'(magnitude_q) * 31'(magnitude_q);
    end
    if (valid_i[2]) begin
      value_o  <= value_q2;
      factor_o <= reciprocal_i;
      unique case (mode_i[2])
        MODE_GELU: factor_o <= gelu_factor(square_q[23:0], value_q2[20]);
        MODE_SOFTMAX: value_o <=
          exponential_lane_i ? {5'b0, exponential(square_q[22:0], value_q2[4:0])} : '0;
        MODE_NORM: ;
        default: factor_o <= square_q[16:0];
      endcase
    end
  end

  assign square_o = square_q;

endmodule
