"""What a model brings along of its numbers: codes of a QDQ graph, which quantization must keep.

`dequantize` reads them from the file, `quantize` uses them as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LOWEST, HIGHEST = -128, 127  # codes


@dataclass(frozen=True)
class Codes:
    """What the int8 codes of a tensor stand for: scale * (code - zero), from `low` to `high`.

    `first`, `last`: the codes that the host writes at most; a kernel saturates at the ends of int8.
    """

    scale: float
    zero: int = 0
    first: int = LOWEST
    last: int = HIGHEST

    @property
    def low(self) -> float:
        """What the lowest code stands for, and everything below it becomes."""
        return (LOWEST - self.zero) * self.scale

    @property
    def high(self) -> float:
        """What the highest code stands for, and everything above it becomes."""
        return (HIGHEST - self.zero) * self.scale

    @classmethod
    def over(cls, low: float, high: float) -> "Codes":
        """Codes of a range around 0, which is one of them: the wider end is exact, the other within
        one code.
        """
        zero = round(LOWEST + (HIGHEST - LOWEST) * -low / (high - low))
        ends = [high / (HIGHEST - zero)] if zero < HIGHEST else []
        ends += [low / (LOWEST - zero)] if zero > LOWEST else []
        return cls(max(ends), zero)

    @classmethod
    def around_zero(cls, low: float, high: float) -> "Codes":
        """Codes of the range whose zero point is 0; the host clamps to its narrower side too."""
        scale = max(-low, high) / HIGHEST
        return cls(scale, 0, round(low / scale), round(high / scale))

    def clamp(self, low: float, high: float) -> bool:
        """Whether nothing is left of a clamp to this range but to round."""
        return abs(self.low - low) < self.scale and abs(self.high - high) < self.scale


@dataclass(frozen=True)
class GivenScales:
    """What one unit of an int8 number stands for.

    `activations`: by tensor of the graph. `weights`: by the name of the matmul that multiplies by
    them, float64[1] for one a matrix or [n] for one a column. `moved`: tensors whose values the host
    alone reads, to move them as they are, and what it writes.
    """

    activations: Mapping[str, Codes] = field(default_factory=dict)
    weights: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)
