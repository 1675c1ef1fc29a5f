// Delays lane i of a row of lanes by i enabled cycles, or by Lanes - 1 - i when Reverse is set.
//
// Turns the rows of a matrix into the wavefront of a systolic array, and back. Not reset.

module skew #(
  parameter int unsigned Width   = 8,
  parameter int unsigned Lanes   = 4,
  parameter bit          Reverse = 1'b0
) (
  input  logic                   clk_i,
  input  logic                   enable_i,
  input  logic [Lanes*Width-1:0] data_i,
  output logic [Lanes*Width-1:0] data_o
);

  if (Width < 1 || Lanes < 1) begin : gen_refuse_below_1
    $error("Width=%0d, Lanes=%0d: below 1", Width, Lanes);
  end

  for (genvar i = 0; i < Lanes; i++) begin : gen_lanes
    localparam int unsigned Depth = Reverse ? Lanes - 1 - i : i;

    if (Depth == 0) begin : gen_wire
      assign data_o[i*Width +: Width] = data_i[i*Width +: Width];
    end else if (Depth == 1) begin : gen_register
      logic [Width-1:0] line_q;
      always_ff @(posedge clk_i) begin
        if (enable_i) line_q <= data_i[i*Width +: Width];
      end
      assign data_o[i*Width +: Width] = line_q;
    end else begin : gen_line
      logic [Depth*Width-1:0] line_q;  // the oldest on top
      always_ff @(posedge clk_i) begin
        if (enable_i) line_q <= {line_q[(Depth-1)*Width-1:0], data_i[i*Width +: Width]};
      end
      assign data_o[i*Width +: Width] = line_q[(Depth-1)*Width +: Width];
    end
  end

endmodule
