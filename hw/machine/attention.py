"""Attention in parts: the integer arithmetic of a softmax whose row never is in one place.

A row of scores comes in parts of some keys. Of each part the drain writes exponentials relative to
the part's own maximum, rounded up to a whole octave, and keeps for the row what `RowState` says: the
highest octave so far, and the sum of exponentials in its unit. The mesh multiplies a part's
exponentials by its rows of V and adds the products to the row's sums, which are in the unit of the
row's octave. Octaves are powers of two: an `alignment` says by how far the products of a part are
shifted on their way to the sums, or the sums so far, if the part has raised the octave. In the end
`quotient` divides the sums by the row's sum of exponentials. Nothing is as long as the row, and a
part that is far below the row's maximum keeps its bits until it is added.

All arrays are int64; widths are stated where numbers have them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Bools, Ints

ALIGN_MAX = 31  # octaves of a shift; sums of 32 bits keep nothing beyond
QUOTIENT_BITS = 18  # of a quotient of 1: a mean of V has 128 times 127 / 46451 of that at most
QUOTIENT_SCALE = 2.0**-QUOTIENT_BITS
STATE_SUM_BITS = 32  # unsigned
OCTAVE_BITS = 11  # signed: from -512 to 512
MOST_KEYS = ((1 << STATE_SUM_BITS) - 1) // arithmetic.EXP_OF_ZERO  # of a row: 92,462


@dataclass(frozen=True)
class RowState:
    """Of rows [rows]: their highest octave (11 bits, signed), and the sum of exponentials (32 bits,
    unsigned) relative to it, which a row of up to MOST_KEYS cannot exceed.
    """

    octave: Ints
    total: Ints

    def __getitem__(self, rows: slice) -> "RowState":
        return RowState(self.octave[rows], self.total[rows])

    def __setitem__(self, rows: slice, states: "RowState") -> None:
        self.octave[rows], self.total[rows] = states.octave, states.total


@dataclass(frozen=True)
class Alignment:
    """Of rows [rows]: a shift (0 to 31), and whether it is of the sums so far or of the products."""

    shift: Ints
    old: Bools

    def __getitem__(self, rows: slice) -> "Alignment":
        return Alignment(self.shift[rows], self.old[rows])

    def __setitem__(self, rows: slice, alignments: "Alignment") -> None:
        self.shift[rows], self.old[rows] = alignments.shift, alignments.old


def octave_above(v: Ints) -> Ints:
    """The lowest whole octave (11 bits) that is no lower than v (20 bits, in 2^-10 octaves)."""
    return -(-v >> arithmetic.FRACTION_BITS)


def exponentials(v: Ints, valid: Bools) -> tuple[Ints, RowState]:
    """Values (16 bits, 46451 for 1) of a part of rows v [rows, columns], 0 where not valid, and what
    the part alone would leave as the rows' state.

    v is saturated to 20 bits of SOFTMAX_INPUT_SCALE. A row without valid columns has the lowest
    octave and a sum of 0.
    """
    v = arithmetic.saturate(v, arithmetic.VALUE_BITS)
    lowest = -(1 << (arithmetic.VALUE_BITS - 1))
    octave = octave_above(np.where(valid, v, lowest).max(axis=1))
    below = (octave[:, np.newaxis] << arithmetic.FRACTION_BITS) - v
    e = np.where(valid, arithmetic.exponential(np.maximum(below, 0)), 0)
    return e, RowState(octave, e.sum(axis=1))


def joined(before: RowState, part: RowState) -> tuple[RowState, Alignment]:
    """The state of rows behind one more part, and how its products are added to their sums."""
    octave = np.maximum(before.octave, part.octave)
    raised = part.octave > before.octave
    shift = np.minimum(np.abs(part.octave - before.octave), ALIGN_MAX)
    total = arithmetic.rounded(before.total, np.where(raised, shift, 0)) + arithmetic.rounded(
        part.total, np.where(raised, 0, shift)
    )
    return RowState(octave, total & ((1 << STATE_SUM_BITS) - 1)), Alignment(shift, raised)


def begun(part: RowState) -> tuple[RowState, Alignment]:
    """As `joined`, of rows that begin with the part."""
    none = np.zeros_like(part.octave)
    return part, Alignment(none, none > 0)


def shifted_sum(sums: Ints, products: Ints, alignment: Alignment, *, rescale: bool) -> Ints:
    """Sums (32 bits) [rows, columns] with products added; `rescale`: they are the first of a part."""
    shift = alignment.shift[:, np.newaxis]
    old = np.where(alignment.old[:, np.newaxis], shift, 0) if rescale else 0
    new = np.where(alignment.old[:, np.newaxis], 0, shift)
    return arithmetic.rounded(sums, old) + arithmetic.rounded(products, new)


def attended(
    v: Ints, valid: Bools, values: Ints, weight: Callable[[Ints], Ints], dim: int
) -> tuple[Ints, Ints]:
    """Sums [rows, columns] and totals [rows] of scores v [rows, keys] that weigh V [keys, columns],
    in parts of dim keys; `weight` makes int8 of exponentials.
    """
    valid = np.broadcast_to(valid, v.shape)
    sums = np.zeros((len(v), values.shape[1]), dtype=np.int64)
    state: RowState | None = None
    for at in range(0, v.shape[1], dim):
        part = slice(at, at + dim)
        e, alone = exponentials(v[:, part], valid[:, part])
        state, by = begun(alone) if state is None else joined(state, alone)
        p = np.where(valid[:, part], weight(e), 0)
        sums = shifted_sum(sums, p @ values[part], by, rescale=True)
    assert state is not None
    return sums, state.total


def quotient(sums: Ints, total: Ints, multiplier: Ints | int) -> Ints:
    """Values (20 bits) of sums (32 bits) [rows, columns] over totals (32 bits) [rows], times the
    multiplier (24 bits), rounded; 0 where the total is 0.

    The sums are shifted by the position n of the total's highest bit, rounded and clamped to 20
    bits, and multiplied by 2^n / total: 17 bits.
    """
    factor, shift = arithmetic.softmax_reciprocal(total[:, np.newaxis])
    v = arithmetic.saturate(
        arithmetic.requantize(sums, 0, multiplier, shift), arithmetic.VALUE_BITS
    )
    return arithmetic.weighted(v, factor)
