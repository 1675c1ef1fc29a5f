// Multiplies one lane's value by its factor and shifts, rounds and clamps the product to 20 bits.
//
// Two stages: valid_i[0] with the operands, valid_i[1] with shift_i one cycle later. With
// direct_i, factor and value are the two parts of a word that passes through.

module normalizer
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
(
  input  logic               clk_i,
  input  logic        [1:0]  valid_i,
  input  logic        [1:0]  direct_i,
  input  logic signed [20:0] value_i,
  input  logic        [16:0] factor_i,
  input  shift_t             shift_i,
  output logic signed [31:0] value_o
);

  logic signed [38:0] product_q;

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      product_q <= direct_i[0] ? {1'b0, factor_i, value_i}
                               : 39'(value_i) * $signed({22'b0, factor_i});
    end
    if (valid_i[1]) begin
      value_o <= direct_i[1] ? product_q[31:0] : 32'(round_saturate(63'(product_q), shift_i));
    end
  end

endmodule
