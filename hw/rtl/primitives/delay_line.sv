// Delays a word of Width bits, or of another type, by Depth cycles; a wire when Depth is 0. Not reset.

module delay_line #(
  parameter int unsigned Width = 1,
  parameter int unsigned Depth = 1,
  parameter type word_t = logic [Width-1:0]
) (
  input  logic  clk_i,
  input  word_t d_i,
  output word_t q_o
);

  if (Width < 1) begin : gen_refuse_width
    $error("Width=%0d is below 1", Width);
  end

  if (Depth == 0) begin : gen_wire
    logic unused_clk;
    assign unused_clk = clk_i;
    assign q_o = d_i;
  end else begin : gen_registers
    word_t [Depth-1:0] stages_q;
    always_ff @(posedge clk_i) begin
      stages_q[0] <= d_i;
      for (int unsigned i = 1; i < Depth; i++) stages_q[i] <= stages_q[i-1];
    end
    assign q_o = stages_q[Depth-1];
  end

endmodule
