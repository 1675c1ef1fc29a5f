// The row pipeline: from an accumulator row in cycle x+2 to an int8 or int32 row in cycle x+12.
//
// A row read is announced by slot_valid_i and slot_i in cycle x; acc_data_i and p0_data_i, and
// lanes_i and skipped_i, between which its valid columns lie (for row functions), follow in x+2. It
// never stalls.
// Reads of a statistics pass end in `statistics`; others leave in x+12. The second parameter set is
// read in cycle x+5, before the parameters may be overwritten.

module row_pipeline
  import isa_pkg::*;
  import drain_pkg::*;
  import functions_pkg::*;
#(
  parameter int unsigned Dim = 16,
  parameter bit Normalization = 1'b1,
  localparam int unsigned LaneBits = $clog2(Dim) + 1
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  // row reads
  input  logic                slot_valid_i,
  input  slot_t               slot_i,
  input  logic [LaneBits-1:0] lanes_i,
  input  logic [LaneBits-1:0] skipped_i,
  input  logic [32*Dim-1:0]   acc_data_i,
  input  logic [64*Dim-1:0]   p0_data_i,
  // second parameter set
  output access_t             p1_read_o,
  input  logic [64*Dim-1:0]   p1_data_i,
  // of the instruction in the statistics passes
  input  logic                center_i,
  input  column_count_t       columns_i,
  input  inverse_t            inverse_i,
  input  epsilon_t            epsilon_i,
  output logic                reciprocal_o,
  // alignments, written in cycle x+11 of a row's last read
  output access_t             alignment_o,
  output alignment_t          alignment_data_o,
  // rows
  output logic                row_valid_o,
  output slot_t               row_slot_o,
  output logic [32*Dim-1:0]   row_data_o
);

  legal_sizes #(.Dim(Dim)) u_legal ();

  // -- Control: word k belongs to the row that was read k cycles ago ------------------------------

  logic [12:1] valid_q;  // rows in cycles 1 to 12; statistics end behind cycle 8
  slot_t       slot_q [1:12];
  mode_e       mode [12];

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else begin
      valid_q    <= {valid_q[11:1], slot_valid_i};
      valid_q[6] <= valid_q[5] && slot_q[5].pass != PASS_MAXIMUM;
      valid_q[9] <= valid_q[8] && slot_q[8].pass == PASS_OUTPUT;
    end
    slot_q[1] <= slot_i;
    for (int unsigned k = 2; k <= 12; k++) slot_q[k] <= slot_q[k-1];
  end

  assign mode[0] = slot_i.mode;
  for (genvar k = 1; k < 12; k++) begin : gen_mode
    assign mode[k] = slot_q[k].mode;
  end

  logic [11:2] stage_valid;
  always_comb begin
    stage_valid    = valid_q[11:2];
    stage_valid[5] = valid_q[5] && slot_q[5].pass != PASS_MAXIMUM;
    stage_valid[8] = valid_q[8] && slot_q[8].pass == PASS_OUTPUT;
  end

  assign row_valid_o = valid_q[12];
  assign row_slot_o  = slot_q[12];

  // -- Valid columns and second parameter set -----------------------------------------------------

  logic [LaneBits-1:0] lanes_q, lanes_q2, skipped_q, skipped_q2;  // in cycles 3 and 4
  logic [Dim-1:0]      lane_q [5:11];
  logic                p1_read;

  if (Normalization) begin : gen_lanes
    always_ff @(posedge clk_i) begin
      {lanes_q, skipped_q}   <= {lanes_i, skipped_i};
      {lanes_q2, skipped_q2} <= {lanes_q, skipped_q};
      if (valid_q[4]) begin
        for (int unsigned j = 0; j < Dim; j++) begin
          lane_q[5][j] <= (LaneBits'(j) < lanes_q2 && LaneBits'(j) >= skipped_q2)
                          || !is_by_row(slot_q[4].mode);
        end
      end
      for (int unsigned k = 6; k < 12; k++) lane_q[k] <= lane_q[k-1];
    end

    assign p1_read = valid_q[5] && slot_q[5].pass == PASS_OUTPUT && slot_q[5].channel_affine
                     && !is_direct(slot_q[5].mode);
  end else begin : gen_no_lanes
    assign {lanes_q, skipped_q}   = {lanes_i, skipped_i};
    assign {lanes_q2, skipped_q2} = {lanes_q, skipped_q};
    assign p1_read  = 1'b0;
    for (genvar k = 5; k < 12; k++) begin : gen_lane
      assign lane_q[k] = '1;
    end
    logic unused_lanes;
    assign unused_lanes = &{1'b0, lanes_q2, skipped_q2};
  end

  assign p1_read_o = '{valid: p1_read, row: local_row_t'(slot_q[5].affine_row), tag: slot_q[5].tag};

  // -- Lanes --------------------------------------------------------------------------------------

  logic signed [19:0] v [Dim];
  logic signed [31:0] square [Dim];
  logic signed [16:0] value [Dim];
  logic signed [16:0] held [Dim];  // by each lane, for the other of its pair
  logic signed [20:0] offset;
  logic        [16:0] reciprocal;
  shift_t             normalizer_shift, first_shift, lead;

  // Sums of a quotient are shifted by the position of their divisor's highest bit.
  assign first_shift = mode[2] == MODE_QUOTIENT ? lead : slot_q[2].shift;

  for (genvar j = 0; j < Dim; j++) begin : gen_lane
    logic [11:5] lane;
    for (genvar k = 5; k < 12; k++) begin : gen_stage
      assign lane[k] = lane_q[k][j];
    end

    drain_lane #(
      .Normalization(Normalization)
    ) u_lane (
      .clk_i,
      .valid_i           (stage_valid),
      .mode_i            (mode),
      .lane_i            (lane),
      .per_channel_i     (slot_q[2].channel_scale),
      .acc_i             (acc_data_i[32*j+:32]),
      .parameters_i      (p0_data_i[64*j+:64]),
      .multiplier_i      (slot_q[2].multiplier),
      .shift_i           (first_shift),
      .hold_i            (slot_q[4].pass == PASS_HOLD),
      .moments_i         (slot_q[5].pass == PASS_STATISTICS),
      .offset_i          (offset),
      .beside_i          (held[j ^ 1]),
      .held_o            (held[j]),
      .reciprocal_i      (reciprocal),
      .out_per_channel_i (slot_q[7].channel_affine),
      .out_parameters_i  (p1_data_i[64*j+:64]),
      .out_multiplier_i  (slot_q[7].out_multiplier),
      .out_shift_i       (slot_q[7].out_shift),
      .normalizer_shift_i(normalizer_shift),
      .v_o               (v[j]),
      .square_o          (square[j]),
      .value_o           (value[j]),
      .word_o            (row_data_o[32*j+:32])
    );
  end

  // -- Statistics ---------------------------------------------------------------------------------

  if (Normalization) begin : gen_statistics
    shift_t     shift, shift_q, shift_q2;  // in cycles 7, 8 and 9

    statistics #(
      .Dim(Dim)
    ) u_statistics (
      .clk_i,
      .rst_ni,
      .v_valid_i     (valid_q[5] && slot_q[5].pass == PASS_MAXIMUM),
      .v_first_i     (slot_q[5].first),
      .v_row_i       (slot_q[5].row),
      .v_lane_i      (lane_q[5]),
      .v_i           (v),
      .square_valid_i(valid_q[7] && slot_q[7].pass == PASS_STATISTICS && mode[7] == MODE_NORM),
      .square_i      (square),
      .v_octave_i    (mode[5] == MODE_EXPONENTIALS),
      .term_valid_i  (valid_q[8] && (slot_q[8].pass == PASS_STATISTICS
                                     || mode[8] == MODE_EXPONENTIALS)),
      .term_first_i  (slot_q[8].first),
      .term_last_i   (slot_q[8].last),
      .term_row_i    (slot_q[8].row),
      .term_mode_i   (mode[8]),
      .term_state_i  (slot_q[8].state),
      .term_alignment_i(slot_q[8].alignment),
      .term_fresh_i  (slot_q[8].fresh),
      .term_tag_i    (slot_q[8].tag),
      .term_i        (value),
      .center_i,
      .columns_i,
      .inverse_i,
      .epsilon_i,
      .reciprocal_o,
      .alignment_o,
      .alignment_data_o,
      .lead_row_i    (slot_q[2].row),
      .lead_o        (lead),
      .offset_row_i  (slot_q[5].row),
      .offset_o      (offset),
      .factor_row_i  (slot_q[7].row),
      .factor_o      (reciprocal),
      .shift_o       (shift)
    );

    always_ff @(posedge clk_i) begin
      shift_q  <= mode[7] inside {MODE_SOFTMAX, MODE_NORM} ? shift : 6'd16;
      shift_q2 <= shift_q;
    end
    assign normalizer_shift = shift_q2;
  end else begin : gen_no_statistics
    assign offset           = '0;
    assign reciprocal       = '0;
    assign normalizer_shift = '0;
    assign reciprocal_o     = 1'b0;
    assign lead             = '0;
    assign alignment_o      = '0;
    assign alignment_data_o = '0;
    logic unused_statistics;
    assign unused_statistics = &{1'b0, center_i, columns_i, inverse_i, epsilon_i};
    for (genvar j = 0; j < Dim; j++) begin : gen_unused
      logic unused_lane;
      assign unused_lane = &{1'b0, v[j], square[j], value[j], held[j]};
    end
  end

endmodule
