// The sigmoid as parabolas: a segment of |v| gives offset - ((vertex - f)^2 >> shift).
// Written by `python -m codesign.hw.views.generated`; hw/machine/sigmoid.py is the source.

package sigmoid_pkg;

  localparam int unsigned Segments        = 32;  // of 2^SegmentBits units, and a tail behind them
  localparam int unsigned SegmentBits     = 8;
  localparam int unsigned HardClip        = 3072;  // of the hard sigmoid
  localparam int unsigned HardSlope       = 43691;
  localparam int unsigned HardDroppedBits = 12;

  typedef logic [5:0] segment_t;
  typedef logic [13:0] vertex_t;

  typedef struct packed {
    logic [4:0] shift;
    logic [17:0] offset;
  } fall_t;

  function automatic vertex_t vertex_of(input segment_t segment);
    unique case (segment)
      0: return 14'd8264;
      1: return 14'd8029;
      2: return 14'd3845;
      3: return 14'd3527;
      4: return 14'd1643;
      5: return 14'd1447;
      6: return 14'd2382;
      7: return 14'd2019;
      8: return 14'd1692;
      9: return 14'd1405;
      10: return 14'd1161;
      11: return 14'd1787;
      12: return 14'd1451;
      13: return 14'd1178;
      14: return 14'd958;
      15: return 14'd1437;
      16: return 14'd1156;
      17: return 14'd1741;
      18: return 14'd1392;
      19: return 14'd1117;
      20: return 14'd1673;
      21: return 14'd1334;
      22: return 14'd1069;
      23: return 14'd862;
      24: return 14'd1272;
      25: return 14'd1912;
      26: return 14'd1520;
      27: return 14'd670;
      28: return 14'd13643;
      29: return 14'd1445;
      30: return 14'd8331;
      31: return 14'd1725;
      default: return 14'd3296;
    endcase
  endfunction

  function automatic fall_t fall_of(input segment_t segment);
    unique case (segment)
      0: return '{shift: 5'd10, offset: 18'd99461};
      1: return '{shift: 5'd10, offset: 18'd99800};
      2: return '{shift: 5'd9, offset: 18'd69670};
      3: return '{shift: 5'd9, offset: 18'd68813};
      4: return '{shift: 5'd8, offset: 18'd58447};
      5: return '{shift: 5'd8, offset: 18'd59113};
      6: return '{shift: 5'd9, offset: 18'd64669};
      7: return '{shift: 5'd9, offset: 18'd63800};
      8: return '{shift: 5'd9, offset: 18'd63318};
      9: return '{shift: 5'd9, offset: 18'd63143};
      10: return '{shift: 5'd9, offset: 18'd63195};
      11: return '{shift: 5'd10, offset: 18'd64720};
      12: return '{shift: 5'd10, offset: 18'd64485};
      13: return '{shift: 5'd10, offset: 18'd64444};
      14: return '{shift: 5'd10, offset: 18'd64509};
      15: return '{shift: 5'd11, offset: 18'd65039};
      16: return '{shift: 5'd11, offset: 18'd65009};
      17: return '{shift: 5'd12, offset: 18'd65355};
      18: return '{shift: 5'd12, offset: 18'd65289};
      19: return '{shift: 5'd12, offset: 18'd65278};
      20: return '{shift: 5'd13, offset: 18'd65439};
      21: return '{shift: 5'd13, offset: 18'd65411};
      22: return '{shift: 5'd13, offset: 18'd65408};
      23: return '{shift: 5'd13, offset: 18'd65418};
      24: return '{shift: 5'd14, offset: 18'd65472};
      25: return '{shift: 5'd15, offset: 18'd65521};
      26: return '{shift: 5'd15, offset: 18'd65508};
      27: return '{shift: 5'd14, offset: 18'd65486};
      28: return '{shift: 5'd19, offset: 18'd65831};
      29: return '{shift: 5'd16, offset: 18'd65521};
      30: return '{shift: 5'd19, offset: 18'd65632};
      31: return '{shift: 5'd17, offset: 18'd65530};
      default: return '{shift: 5'd19, offset: 18'd65536};
    endcase
  endfunction

endpackage
