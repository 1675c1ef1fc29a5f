// The largest of a row's valid lanes, two cycles later; the lowest number if none is valid.

module lane_maximum
#(
  parameter int unsigned Dim = 16
) (
  input  logic               clk_i,
  input  logic        [1:0]  valid_i,  // [1] one cycle after [0]
  input  logic [Dim-1:0]     lane_i,
  input  logic signed [19:0] v_i [Dim],
  output logic signed [19:0] maximum_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  localparam logic signed [19:0] Lowest = 20'sh80000;
  localparam int unsigned Group = 4;
  localparam int unsigned Groups = Dim / Group;

  logic signed [19:0] partial_q [Groups];

  always_ff @(posedge clk_i) begin
    if (valid_i[0]) begin
      for (int unsigned g = 0; g < Groups; g++) begin
        automatic logic signed [19:0] even, odd;
        even = larger(masked(v_i[4*g], lane_i[4*g]), masked(v_i[4*g+1], lane_i[4*g+1]));
        odd  = larger(masked(v_i[4*g+2], lane_i[4*g+2]), masked(v_i[4*g+3], lane_i[4*g+3]));
        partial_q[g] <= larger(even, odd);
      end
    end
    if (valid_i[1]) begin
      automatic logic signed [19:0] best = partial_q[0];
      for (int unsigned g = 1; g < Groups; g++) best = larger(best, partial_q[g]);
      maximum_o <= best;
    end
  end

  function automatic logic signed [19:0] masked(input logic signed [19:0] v, input logic lane);
    return lane ? v : Lowest;
  endfunction

  function automatic logic signed [19:0] larger(
    input logic signed [19:0] a, input logic signed [19:0] b
  );
    return a > b ? a : b;
  endfunction

endmodule
