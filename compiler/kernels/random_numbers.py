"""Random numbers of a kernel's drains, and random parameter records, for checks.

They give every function inputs over its whole range, and outputs that are neither all zero nor saturated.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.numbers import Numbers
from codesign.hw.machine.arithmetic import Bytes, dyadic, pack_parameters
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION, DrainFunction

INT8 = math.sqrt((256**2 - 1) / 12)  # standard deviation of a random int8
MASKED = -(1 << 30)  # bias of a key that a mask hides

# What a value of 1 behind a function becomes, in int8; of n probabilities, their mean.
OUTPUT, MEAN_PROBABILITY = 40, 8
PROBABILITY = 16  # root mean square of the int8 probabilities that follow
OFFSET_SHIFT = 24  # with more, an offset of the last requantizer would not fit int32


@dataclass(frozen=True)
class Draw:
    """Draws numbers and records for a machine. `spread` is the standard deviation of a drain's sums."""

    rng: "np.random.Generator"  # loaded by who draws: a price needs none
    config: HardwareConfig

    def numbers(
        self, function: str, spread: float, rows: int, columns: int, scales: tuple[int, int]
    ) -> Numbers:
        """Numbers of a drain of rows x columns."""
        of = FUNCTION[function]
        first = self.factor(of.spread / spread)
        second = self.factor(of.spread / spread) if of.operands > 1 else (1, 0)
        last = self.factor(_unit(of) * (MEAN_PROBABILITY * columns if of.masked else OUTPUT))
        causal = of.masked and rows <= columns and bool(self.rng.integers(2))
        return Numbers(*first, *last, scales, causal, second)

    def scale(self, about: float) -> int:
        """A factor of int8 operands on their way into the accumulator."""
        return max(1, round(about * 2 ** self.rng.uniform(-1, 1)))

    def factor(self, about: float) -> tuple[int, int]:
        """A multiplier and shift."""
        return dyadic(about * 2 ** self.rng.uniform(-0.5, 0.5))

    def scale_records(
        self,
        columns: int,
        function: str,
        spread: float,
        hidden: npt.NDArray[np.bool_] | None = None,
    ) -> Bytes:
        """Bias and scale of every lane of so many columns; shifts differ, and without `hidden`, a
        mask of lanes, some signs.
        """
        lanes = self._lanes(columns)
        largest, shift = dyadic(FUNCTION[function].spread / spread)
        drop = self.rng.integers(0, 6, lanes)
        multiplier = (self.rng.uniform(0.5, 1, lanes) * largest).astype(np.int64) >> drop
        bias = self.rng.normal(0, spread / 4, lanes).astype(np.int64)
        if hidden is None:
            multiplier = np.where(self.rng.random(lanes) < 0.1, -multiplier, multiplier)
        else:
            bias = np.where(hidden, MASKED, bias)
        return pack_parameters(bias, multiplier, shift - drop)

    def affine_records(self, columns: int, function: str) -> Bytes:
        """Gamma and beta of every lane of so many columns."""
        lanes = self._lanes(columns)
        shift = self.rng.integers(OFFSET_SHIFT - 6, OFFSET_SHIFT + 1, lanes)
        gamma = OUTPUT * _unit(FUNCTION[function]) * self.rng.normal(1, 0.3, lanes)
        offset = np.clip(self.rng.normal(0, 10, lanes), -60, 60)
        return pack_parameters(
            (offset * 2.0**shift).astype(np.int64), (gamma * 2.0**shift).astype(np.int64), shift
        )

    def _lanes(self, columns: int) -> int:
        return int(ceil_div(columns, self.config.dim)) * self.config.dim


def _unit(of: DrainFunction) -> float:
    """What a unit behind a function stands for, where operands without scales of their own are spread
    about 1.
    """
    free = 0 if of.operands == 1 else 1 if of.input_scale else 2
    return of.value_scale / float(of.spread**free)
