"""Random operands of one kernel: a DRAM image, where everything lies in it, and epilogue numbers.

Every byte is random, gaps and outputs too, so that a byte read or written out of place shows. Only
parameters are legal records. The numbers give every function inputs over its whole range, and
outputs that are neither all zero nor saturated.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.compiler.kernels.attention_kernel import AttentionAddresses, AttentionProblem
from codesign.compiler.kernels.kinds import Problem, operand_bytes
from codesign.compiler.kernels.matmul_kernel import MatmulAddresses
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.numbers import Numbers
from codesign.compiler.kernels.row_kernel import RowAddresses, RowProblem
from codesign.hw.machine.arithmetic import (
    GELU_SCALE,
    NORM_SCALE,
    SOFTMAX_SCALE,
    Bytes,
    dyadic,
    pack_parameters,
)
from codesign.hw.machine.config import HardwareConfig

INT8 = math.sqrt((256**2 - 1) / 12)  # standard deviation of a random int8
MASKED = -(1 << 30)  # bias of a key that a mask hides
LARGEST_GAP = 64  # beats between operands

# What the standard deviation of v is to be before each function, and what turns a value behind it
# into an int8 that uses its range. Softmax: scores spread over two octaves, and the mean
# probability of n columns, 1 / n, becomes 8.
SPREAD = {"gelu": 1500, "softmax": 2048, "layernorm": 3000, "rmsnorm": 3000}
OUT = {
    "gelu": 40 * GELU_SCALE,
    "softmax": 8 * SOFTMAX_SCALE,
    "layernorm": 40 * NORM_SCALE,
    "rmsnorm": 40 * NORM_SCALE,
}
OUTPUT_SPREAD = 45  # of an int8 without a function
PROBABILITY = 16  # root mean square of the int8 probabilities that follow from OUT
OFFSET_SHIFT = 24  # with more, an offset of the last requantizer would not fit int32


@dataclass(frozen=True)
class Operands:
    """A DRAM image of one kernel, with what `kernels.body` needs to use it."""

    dram: Bytes
    addresses: Any
    numbers: tuple[Numbers, ...]
    output: slice  # of `dram`


def random_operands(problem: Problem, config: HardwareConfig, seed: tuple[int, ...]) -> Operands:
    """Operands that `seed` alone decides, each on a beat of its own somewhere in a small memory."""
    rng = np.random.default_rng(seed)
    sizes = operand_bytes(problem, config)
    places: dict[str, int] = {}
    end = 0
    for name, size in sizes.items():
        beats = -(-end // config.bus_bytes) + int(rng.integers(1, LARGEST_GAP))
        places[name] = beats * config.bus_bytes
        end = places[name] + size
    dram = rng.integers(0, 256, end + LARGEST_GAP * config.bus_bytes, dtype=np.uint8)
    numbers, records, addresses = _Draw(rng, config).of(problem, places)
    for name, content in records.items():
        assert content.size == sizes[name]
        dram[places[name] : places[name] + sizes[name]] = content.reshape(-1)
    *_, output = sizes
    return Operands(dram, addresses, numbers, slice(places[output], end))


class _Draw:
    """Draws the numbers and parameter records of a problem."""

    def __init__(self, rng: np.random.Generator, config: HardwareConfig) -> None:
        self.rng, self.config = rng, config

    def of(
        self, problem: Problem, places: dict[str, int]
    ) -> tuple[tuple[Numbers, ...], dict[str, Bytes], Any]:
        """Numbers, records by operand, and addresses."""
        match problem:
            case MatmulProblem():
                numbers, records = self.matmul(problem)
                return (numbers,), records, MatmulAddresses(**places)
            case AttentionProblem():
                pair, records = self.attention(problem)
                return pair, records, AttentionAddresses(**places)
            case RowProblem():
                numbers, records = self.row(problem)
                return (numbers,), records, RowAddresses(**places)

    def matmul(self, p: MatmulProblem) -> tuple[Numbers, dict[str, Bytes]]:
        spread = INT8 * INT8 * math.sqrt(p.k)
        scales = (self.scale(spread / INT8), 1) if p.residual else (1, 1)
        spread = math.hypot(spread, scales[0] * INT8) if p.residual else spread
        lanes = -(-p.n // self.config.dim) * self.config.dim
        sets = []
        for _ in range(p.batch):
            if p.parameters:
                sets.append(self.scale_records(lanes, p.function, spread))
            if p.parameter_sets > int(p.parameters):
                sets.append(self.affine_records(lanes, p.function))
        records = {"parameters": np.concatenate(sets)} if sets else {}
        return self.numbers(p.function, spread, p.m, p.n, scales), records

    def attention(self, p: AttentionProblem) -> tuple[tuple[Numbers, Numbers], dict[str, Bytes]]:
        spread = INT8 * INT8 * math.sqrt(p.head_dim)
        scales = (self.scale(spread / INT8 / 2), 1) if p.bias else (1, 1)
        scores = self.numbers("softmax", spread, p.queries, p.keys, scales)
        outputs = self.numbers("copy", PROBABILITY * INT8 * math.sqrt(p.keys), 0, 0, (1, 1))
        if not p.mask_rows:
            return (scores, outputs), {}
        lanes = p.mask_rows * self.config.dim
        hidden = np.arange(lanes) >= p.keys - p.keys // 4  # as where a sequence is padded
        mask = self.scale_records(lanes, "softmax", spread, hidden)
        return (scores, outputs), {"mask": mask}

    def row(self, p: RowProblem) -> tuple[Numbers, dict[str, Bytes]]:
        scales = (self.scale(1024), self.scale(1024))
        spread = INT8 * math.hypot(*scales[: p.operands])
        numbers = self.numbers(p.function, spread, p.rows, p.cols, scales)
        lanes = -(-p.cols // self.config.dim) * self.config.dim
        if p.function == "softmax":  # a mask
            sets = [self.scale_records(lanes, p.function, spread) for _ in range(p.parameters)]
        else:
            sets = [self.affine_records(lanes, p.function) for _ in range(p.parameters)]
        return numbers, {"parameters": np.concatenate(sets)} if sets else {}

    def numbers(
        self, function: str, spread: float, rows: int, columns: int, scales: tuple[int, int]
    ) -> Numbers:
        """Numbers of a drain whose sums have the standard deviation `spread`."""
        first = self.factor(SPREAD.get(function, OUTPUT_SPREAD) / spread)
        last = self.factor(OUT.get(function, 1.0) * (columns if function == "softmax" else 1))
        causal = function == "softmax" and rows <= columns and bool(self.rng.integers(2))
        return Numbers(*first, *last, scales, causal)

    def scale(self, about: float) -> int:
        """A factor of int8 operands on their way into the accumulator."""
        return max(1, round(about * 2 ** self.rng.uniform(-1, 1)))

    def factor(self, about: float) -> tuple[int, int]:
        return dyadic(about * 2 ** self.rng.uniform(-0.5, 0.5))

    def scale_records(
        self, lanes: int, function: str, spread: float, hidden: npt.NDArray[np.bool_] | None = None
    ) -> Bytes:
        """Bias and scale of every lane; shifts differ, and without a mask some signs."""
        largest, shift = dyadic(SPREAD.get(function, OUTPUT_SPREAD) / spread)
        drop = self.rng.integers(0, 6, lanes)
        multiplier = (self.rng.uniform(0.5, 1, lanes) * largest).astype(np.int64) >> drop
        bias = self.rng.normal(0, spread / 4, lanes).astype(np.int64)
        if hidden is None:
            multiplier = np.where(self.rng.random(lanes) < 0.1, -multiplier, multiplier)
        else:
            bias = np.where(hidden, MASKED, bias)
        return pack_parameters(bias, multiplier, shift - drop)

    def affine_records(self, lanes: int, function: str) -> Bytes:
        """Gamma and beta of every lane."""
        shift = self.rng.integers(OFFSET_SHIFT - 6, OFFSET_SHIFT + 1, lanes)
        gamma = OUT[function] * self.rng.normal(1, 0.3, lanes)
        offset = np.clip(self.rng.normal(0, 10, lanes), -60, 60)
        return pack_parameters(
            (offset * 2.0**shift).astype(np.int64), (gamma * 2.0**shift).astype(np.int64), shift
        )
