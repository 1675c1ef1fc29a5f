"""The sigmoid and what follows from it, in integers: parabolas on segments, fitted here.

A factor is an unsigned number of 17 bits that counts 2^-16; a lane multiplies a value by it. The
sigmoid of |v| is, on each of SEGMENTS segments of WIDTH units, a parabola that opens downwards,

    offset - ((vertex - f)^2 >> shift),   f = |v| from the segment's start on,

and on the tail behind them one that ends at its vertex, in 1. Curvatures are powers of two, so that
a lane needs one square and a shift; `segments` finds vertices and offsets. The sigmoid of -|v| is
what is missing to 1. Errors against the real functions stand in docs/numerics.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from codesign.hw.machine.arithmetic import FACTOR_ONE, FRACTION_BITS, Ints

Floats = npt.NDArray[np.float64]

ONE = FACTOR_ONE
HALF = ONE >> 1
SEGMENTS = 32  # of [0, 8)
SEGMENT_BITS = 8
WIDTH = 1 << SEGMENT_BITS
TAIL = SEGMENTS << SEGMENT_BITS  # where the last parabola begins
VERTEX_BITS = 14
OFFSET_BITS = 18
SHIFT_BITS = 5
SHIFTS = range(8, 20)

HARD_CLIP = 3 << FRACTION_BITS
HARD_SLOPE = 43691  # 2^18 / 6, rounded up, so that HARD_CLIP gives half of ONE
HARD_DROPPED_BITS = 12

# What one unit stands for.
SIGMOID_INPUT_SCALE = 2.0**-FRACTION_BITS  # of v before all but tanh
TANH_INPUT_SCALE = SIGMOID_INPUT_SCALE / 2  # tanh(x) = 2 sigmoid(2 x) - 1
SIGMOID_SCALE = 2.0**-15  # of the values of sigmoids and tanh: HALF stands for 1


@dataclass(frozen=True)
class Segment:
    """One parabola: numbers of VERTEX_BITS, OFFSET_BITS and SHIFT_BITS bits."""

    vertex: int
    offset: int
    shift: int


@cache
def segments() -> tuple[Segment, ...]:
    """The parabolas of all segments and, last, of the tail.

    For every shift the residue of the sigmoid over f^2 / 2^shift is met by the line through its
    ends, whose slope gives the vertex, rounded down and up; the offset halves what is left, as
    integers compute it. The shift with the smallest largest error is taken, the least of equals.
    The first parabola begins in 1/2 exactly, so that tanh is odd, and the tail ends in 1.
    """
    middle = [
        _best(
            _halved(start, vertex, shift) for shift in SHIFTS for vertex in _vertices(start, shift)
        )
        for start in range(WIDTH, TAIL, WIDTH)
    ]
    first = _best(
        _first(vertex + near, shift)
        for shift in SHIFTS
        for vertex in _vertices(0, shift)[:1]
        for near in range(-64, 64)
    )
    tail = _best(
        _tail(vertex, shift) for shift in SHIFTS for vertex in range(WIDTH, 4 << FRACTION_BITS, 32)
    )
    return (first, *middle, tail)


def _best(fits: Iterable[tuple[float, Segment]]) -> Segment:
    return min(fits, key=lambda fit: fit[0])[1]


def _sigmoid(v: Ints) -> Floats:
    sigmoid: Floats = ONE / (1 + np.exp(-v * SIGMOID_INPUT_SCALE))
    return sigmoid


def _vertices(start: int, shift: int) -> list[int]:
    """The two integers about the vertex that a shift asks for, where they are legal."""
    low, high = _sigmoid(np.array([start, start + WIDTH]))
    slope = (high - low) / WIDTH + WIDTH / 2**shift
    vertex = int(slope * 2 ** (shift - 1))
    return [x for x in (vertex, vertex + 1) if WIDTH <= x < (1 << VERTEX_BITS) - WIDTH]


def _halved(start: int, vertex: int, shift: int) -> tuple[float, Segment]:
    f = np.arange(WIDTH)
    left = _sigmoid(start + f) + ((vertex - f) ** 2 >> shift)
    offset = round(float(left.min() + left.max()) / 2)
    return float(np.abs(left - offset).max()), Segment(vertex, offset, shift)


def _first(vertex: int, shift: int) -> tuple[float, Segment]:
    f = np.arange(WIDTH)
    offset = HALF + (vertex**2 >> shift)
    found = offset - ((vertex - f) ** 2 >> shift)
    return float(np.abs(_sigmoid(f) - found).max()), Segment(vertex, offset, shift)


def _tail(vertex: int, shift: int) -> tuple[float, Segment]:
    f = np.arange(0, 4 << FRACTION_BITS, 8)
    found = ONE - (np.maximum(vertex - f, 0) ** 2 >> shift)
    return float(np.abs(_sigmoid(TAIL + f) - found).max()), Segment(vertex, ONE, shift)


# -- What lanes compute --------------------------------------------------------------------------------


def sigmoid_factor(v: Ints) -> Ints:
    """The sigmoid of v (20 bits) as a factor: the square 28 bits, the offset 18, the factor 17."""
    magnitude = np.abs(v)
    number = np.minimum(magnitude >> SEGMENT_BITS, SEGMENTS)
    vertex, offset, shift = (column[number] for column in _columns())
    distance = np.maximum(vertex - (magnitude - (number << SEGMENT_BITS)), 0)
    factor = offset - (distance * distance >> shift)
    mirrored: Ints = np.where(v < 0, ONE - factor, factor)
    return mirrored


@cache
def _columns() -> tuple[Ints, Ints, Ints]:
    """Vertices, offsets and shifts of all segments."""
    table = np.array([(s.vertex, s.offset, s.shift) for s in segments()], dtype=np.int64)
    return table[:, 0], table[:, 1], table[:, 2]


def hard_factor(v: Ints) -> Ints:
    """clip(v / 6 + 1/2, 0, 1) as a factor: the product 28 bits, 16 behind the shift."""
    half = np.minimum(np.abs(v), HARD_CLIP) * HARD_SLOPE >> HARD_DROPPED_BITS
    factor: Ints = HALF + np.where(v < 0, -half, half)
    return factor


def tanh_factor(v: Ints) -> Ints:
    """|tanh| of v, which counts TANH_INPUT_SCALE, as a factor: even."""
    factor: Ints = 2 * sigmoid_factor(np.abs(v)) - ONE
    return factor


def package() -> str:
    """The text of `rtl/sigmoid_pkg.sv`."""

    def table(entries: list[str]) -> str:
        rows = [f"{n}: return {entry};" for n, entry in enumerate(entries[:-1])]
        return "\n      ".join([*rows, f"default: return {entries[-1]};"])

    vertices = table([f"{VERTEX_BITS}'d{s.vertex}" for s in segments()])
    falls = table(
        [
            f"'{{shift: {SHIFT_BITS}'d{s.shift}, offset: {OFFSET_BITS}'d{s.offset}}}"
            for s in segments()
        ]
    )
    return f"""\
// The sigmoid as parabolas: a segment of |v| gives offset - ((vertex - f)^2 >> shift).
// Written by `python -m codesign.hw.views.generated`; hw/machine/sigmoid.py is the source.

package sigmoid_pkg;

  localparam int unsigned Segments        = {SEGMENTS};  // of 2^SegmentBits units, and a tail behind them
  localparam int unsigned SegmentBits     = {SEGMENT_BITS};
  localparam int unsigned HardClip        = {HARD_CLIP};  // of the hard sigmoid
  localparam int unsigned HardSlope       = {HARD_SLOPE};
  localparam int unsigned HardDroppedBits = {HARD_DROPPED_BITS};

  typedef logic [{SEGMENTS.bit_length() - 1}:0] segment_t;
  typedef logic [{VERTEX_BITS - 1}:0] vertex_t;

  typedef struct packed {{
    logic [{SHIFT_BITS - 1}:0] shift;
    logic [{OFFSET_BITS - 1}:0] offset;
  }} fall_t;

  function automatic vertex_t vertex_of(input segment_t segment);
    unique case (segment)
      {vertices}
    endcase
  endfunction

  function automatic fall_t fall_of(input segment_t segment);
    unique case (segment)
      {falls}
    endcase
  endfunction

endpackage
"""
