// Packs the rows of a segment into beats, from the byte lane on that the segment begins at.
//
// Rows are Dim bytes, or 4 * Dim with row_word_i. A row that enters in cycle t and completes a beat
// gives it in cycle t + 2; a row of k beats gives one in each of the cycles t + 2 to t + k + 1 and
// the next row must come no earlier than t + k. The last row of a segment completes its beat. Lanes
// are written in groups of min(Dim, BusBytes) bytes, and a row never begins within a group.

module row_packer
#(
  parameter int unsigned Dim = 16,
  parameter int unsigned BusBytes = 16,
  localparam int unsigned GroupBytes = Dim < BusBytes ? Dim : BusBytes,
  localparam int unsigned Groups = BusBytes / GroupBytes,
  localparam int unsigned PositionBits = Groups > 1 ? $clog2(Groups) : 1
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  // row
  input  logic [PositionBits-1:0] offset_i,      // first group, with the first row of a segment
  input  logic                    row_valid_i,
  input  logic [32*Dim-1:0]       row_data_i,    // int8: low quarter
  input  logic                    row_word_i,    // int32 instead of int8
  input  logic                    row_last_i,    // of its segment
  // beat
  output logic                    beat_valid_o,
  output logic [8*BusBytes-1:0]   beat_data_o,
  output logic [Groups-1:0]       beat_groups_o  // groups that hold data
);

  legal_sizes #(.Dim(Dim), .BusBytes(BusBytes)) u_legal ();

  localparam int unsigned WordBeats = 4 * Dim > BusBytes ? 4 * Dim / BusBytes : 1;
  localparam int unsigned ByteBeats = Dim > BusBytes ? Dim / BusBytes : 1;
  localparam int unsigned LeftBits = WordBeats > 1 ? $clog2(WordBeats) : 1;

  // the row, its beats taken from the low end

  logic                valid_q, last_q, word_q;
  logic [32*Dim-1:0]   row_q;
  logic [LeftBits-1:0] left_q;  // beats after this one

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      valid_q <= 1'b0;
      left_q  <= '0;
    end else if (row_valid_i) begin
      valid_q <= 1'b1;
      left_q  <= row_word_i ? LeftBits'(WordBeats - 1) : LeftBits'(ByteBeats - 1);
    end else if (valid_q) begin
      valid_q <= left_q != '0;
      if (left_q != '0) left_q <= left_q - 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (row_valid_i) begin
      {row_q, word_q, last_q} <= {row_data_i, row_word_i, row_last_i};
    end else if (left_q != '0) begin
      row_q <= row_q >> (8 * BusBytes);
    end
  end

  // the beat

  logic                  beat_valid_q;
  logic [8*BusBytes-1:0] beat_q;

  if (Groups == 1) begin : gen_whole
    logic unused_bits;
    assign unused_bits = ^{word_q, last_q, offset_i};

    always_ff @(posedge clk_i) begin
      beat_valid_q <= rst_ni && valid_q;
      if (valid_q) beat_q <= row_q[8*BusBytes-1:0];
    end
    assign beat_groups_o = 1'b1;
  end else begin : gen_groups
    localparam int unsigned WordGroups = Groups < 4 ? Groups : 4;

    logic                    first_q;                // of the segment, the row that enters next
    logic [PositionBits-1:0] position, position_q, next_q;
    logic                    open_q;                 // the beat holds rows already
    logic [Groups-1:0]       enable, groups_q;
    logic                    complete;

    assign position = first_q ? offset_i : next_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) first_q <= 1'b1;
      else if (row_valid_i) first_q <= row_last_i;
    end

    always_ff @(posedge clk_i) begin
      if (row_valid_i) begin
        position_q <= position;
        next_q     <= position + (row_word_i ? PositionBits'(WordGroups) : PositionBits'(1));
      end
    end

    // The beat is full when the position after it wraps, and done with the segment.
    assign enable   = (word_q ? Groups'((1 << WordGroups) - 1) : Groups'(1)) << position_q;
    assign complete = enable[Groups-1] || (last_q && left_q == '0);

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        beat_valid_q <= 1'b0;
        open_q       <= 1'b0;
      end else begin
        beat_valid_q <= valid_q && complete;
        if (valid_q) open_q <= !complete;
      end
    end

    always_ff @(posedge clk_i) begin
      if (valid_q) groups_q <= open_q ? groups_q | enable : enable;
    end

    for (genvar g = 0; g < Groups; g++) begin : gen_group
      always_ff @(posedge clk_i) begin
        if (valid_q && enable[g]) begin
          beat_q[8*Dim*g+:8*Dim] <=
            word_q ? row_q[8*Dim*(g%WordGroups)+:8*Dim] : row_q[8*Dim-1:0];
        end
      end
    end
    assign beat_groups_o = groups_q;
  end

  assign beat_valid_o = beat_valid_q;
  assign beat_data_o  = beat_q;

`ifndef SYNTHESIS
  beats_are_out : assert property (@(posedge clk_i) disable iff (!rst_ni)
      row_valid_i |-> left_q == '0)
    else $error("a row enters while %0d beats of the row before it are still to come", left_q);
`endif

endmodule
