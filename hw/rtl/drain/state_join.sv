// The state of a row behind one more part of it, and how the part's products are added to its sums.
//
// Combinational. The higher octave of the two stays; the sum of the other is shifted by what lies
// between them, to the nearest with ties up. The alignment says the same to the mesh, in at most 31
// octaves: of the sums so far, or of the products. A fresh row has no state before.

module state_join
  import isa_pkg::*;
  import drain_pkg::*;
(
  input  state_t     before_i,
  input  state_t     part_i,
  input  logic       fresh_i,
  output state_t     state_o,
  output alignment_t alignment_o
);

  logic signed [11:0] raise;  // of the octave, if positive
  logic        [11:0] distance;
  logic               raised;
  align_shift_t       shift;
  logic        [31:0] higher, lower;
  logic        [32:0] halves;

  assign raise    = 12'(part_i.octave) - 12'(before_i.octave);
  assign raised   = raise > 0;
  assign distance = raise < 0 ? -raise : raise;
  assign shift    = distance > 12'd31 ? 5'd31 : distance[4:0];
  assign higher   = raised ? part_i.total : before_i.total;
  assign lower    = raised ? before_i.total : part_i.total;
  assign halves   = {lower, 1'b0} >> shift;

  always_comb begin
    state_o     = '{octave: raised ? part_i.octave : before_i.octave,
                    total: higher + halves[32:1] + {31'b0, halves[0]}};
    alignment_o = '{old: raised, shift: shift};
    if (fresh_i) {state_o, alignment_o} = {part_i, alignment_t'('0)};
  end

endmodule
