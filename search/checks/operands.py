"""Random operands of one kernel: a DRAM image, where everything lies in it, and epilogue numbers.

Every byte is random, gaps and outputs too, so that a byte read or written out of place shows. Only
records are legal ones, which the kernel's kind draws with the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.random_numbers import Draw
from codesign.compiler.plan import kinds
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig

LARGEST_GAP = 64  # beats between operands


@dataclass(frozen=True)
class Operands:
    """A DRAM image of one kernel, with what `kinds.body` needs to use it."""

    dram: Bytes
    places: Mapping[str, int]
    numbers: StepNumbers
    output: slice  # of `dram`


def random_operands(problem: Problem, config: HardwareConfig, seed: tuple[int, ...]) -> Operands:
    """Operands that `seed` alone decides, each on a beat of its own somewhere in a small memory."""
    rng = np.random.default_rng(seed)
    places: dict[str, slice] = {}
    end = 0
    for operand in kinds.operands(problem, config):
        beats = -(-end // config.bus_bytes) + int(rng.integers(1, LARGEST_GAP))
        begin = beats * config.bus_bytes
        end = begin + operand.size_bytes
        places[operand.name] = slice(begin, end)
    dram = rng.integers(0, 256, end + LARGEST_GAP * config.bus_bytes, dtype=np.uint8)
    numbers, records = kinds.kind_of(problem).random_numbers(problem, Draw(rng, config))
    for name, content in records.items():
        dram[places[name]] = content.reshape(-1)
    written = places[kinds.output(problem, config).name]
    return Operands(dram, {name: place.start for name, place in places.items()}, numbers, written)
