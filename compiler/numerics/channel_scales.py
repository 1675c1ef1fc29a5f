"""Scales of an activation's channels: those of the least expected error in the sums that read it.

A reader y = x W takes the scale s_j of channel j into row j of its weights. Rounding x to steps s_j
and the weights to units u_n of the sums, u_n = max_j |W_jn| s_j / 127, adds to y_n the variance

    1/12 (sum_j W_jn^2 s_j^2  +  u_n^2 sum_j E[x_j^2] / s_j^2)

A fine channel costs little itself and much in the weights. In log s this is a geometric program,
hence convex (Boyd, Kim, Vandenberghe, Hassibi, "A tutorial on geometric programming", 2007), and
multiplicative steps find its minimum. It replaces the exponent of SmoothQuant (arXiv 2211.10438).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
LEVELS = 127  # of int8, on either side of zero
STEPS = 40
DOUBLINGS = 3  # the maximum over a column is approached by the norm of power 2^DOUBLINGS
ROUNDING = 1 / 12  # variance of rounding to units of 1


@dataclass(frozen=True)
class Reader:
    """Weights [k, n] that multiply an activation; `importance` is 1 / E[sum y_n^2]."""

    weights: Floats
    importance: float


@dataclass(frozen=True)
class ScaleReaders:
    """What the scales of an activation act on.

    `finest`: [k], the least scales. `squares`: [k], E[x_j^2]. `direct`: what a unit of s_j^2 / 12
    costs by itself, where the activation is added to something or leaves the machine.
    """

    finest: Floats
    squares: Floats
    direct: Floats
    readers: Sequence[Reader] = field(default_factory=tuple)


def least_error(on: ScaleReaders, start: Floats | None = None) -> Floats:
    """The scales [k] of least expected error, none below `finest`."""
    # All is relative to the largest scale and to the largest weights, so that float32 reaches.
    top = float(on.finest.max())
    lowest = 2 * np.log(on.finest / top)
    z = lowest / 2 if start is None else np.maximum(lowest, 2 * np.log(start / top))
    largest = [max(float(np.abs(r.weights).max()), 1e-150) for r in on.readers]
    factors = [r.importance * most**2 for r, most in zip(on.readers, largest, strict=True)]
    squared = [
        ((r.weights / most) ** 2).astype(np.float32)
        for r, most in zip(on.readers, largest, strict=True)
    ]
    fixed = on.direct.copy()
    for factor, weights in zip(factors, squared, strict=True):
        fixed += factor * weights.sum(axis=1, dtype=np.float64)
    if not (fixed > 0).any():
        return on.finest
    squares = np.maximum(on.squares / top**2, 1e-12 * float(on.squares.max()) / top**2)
    for step in range(STEPS):
        power = np.exp(z)
        levels = squares / power
        rising, falling = fixed * power, np.zeros_like(power)
        for factor, weights in zip(factors, squared, strict=True):
            shares, units = _columns(weights, power)
            rising += factor * shares * levels.sum()
            falling += factor * units * levels
        z -= 0.5 * 0.95**step * (rising - falling) / np.maximum(rising + falling, 1e-300)
        z = np.maximum(lowest, z)
    return np.asarray(np.maximum(np.exp(z / 2) * top, on.finest), dtype=np.float64)


def _columns(weights: npt.NDArray[np.float32], power: Floats) -> tuple[Floats, float]:
    """By row, its share in u_n^2 of all columns; and their sum."""
    terms = weights * power.astype(np.float32)[:, np.newaxis]
    largest = np.maximum(terms.max(axis=0), np.float32(1e-30))
    terms /= largest
    for _ in range(DOUBLINGS):
        np.square(terms, out=terms)
    total = np.maximum(terms.sum(axis=0), np.float32(1e-30)).astype(np.float64)
    units = largest * total ** (0.5**DOUBLINGS) / LEVELS**2
    return terms @ (units / total), float(units.sum())


def expected_error(on: ScaleReaders, scales: Floats) -> float:
    """The variance that rounding adds to all readers, each relative to its reader's energy."""
    error = float((on.direct * scales**2).sum())
    for reader in on.readers:
        scaled = (reader.weights * scales[:, np.newaxis]) ** 2
        units = scaled.max(axis=0) / LEVELS**2
        columns = scaled.sum(axis=0) + units * (on.squares / scales**2).sum()
        error += reader.importance * float(columns.sum())
    return ROUNDING * error
