// The sum of a row's lanes, two cycles later.

module lane_sum
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned Width = 17,
  localparam int unsigned SumWidth = Width + $clog2(Dim)
) (
  input  logic                       clk_i,
  input  logic        [1:0]          valid_i,  // [1] one cycle after [0]
  input  logic signed [Width-1:0]    term_i [Dim],
  output logic signed [SumWidth-1:0] sum_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();
  if (Width < 1) begin : gen_refuse_width
    $error("Width=%0d is below 1", Width);
  end

  localparam int unsigned Group = 4;
  localparam int unsigned Groups = Dim / Group;

  logic signed [Width+1:0] partial_q [Groups];

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      for (int unsigned g = 0; g < Groups; g++) begin
        partial_q[g] <= ((Width+2)'(term_i[4*g]) + (Width+2)'(term_i[4*g+1]))
                      + ((Width+2)'(term_i[4*g+2]) + (Width+2)'(term_i[4*g+3]));
      end
    end
    if (valid_i[1]) begin
      automatic logic signed [SumWidth-1:0] sum = '0;
      for (int unsigned g = 0; g < Groups; g++) sum = sum + SumWidth'(partial_q[g]);
      sum_o <= sum;
    end
  end

endmodule
