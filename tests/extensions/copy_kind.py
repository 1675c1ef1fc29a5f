"""A toy kernel kind that copies a matrix: DRAM to the accumulator, and back to DRAM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div, mvin, plane_bytes
from codesign.compiler.kernels.kernel_kind import (
    Drain,
    Given,
    Int8,
    Kind,
    Operand,
    Problem,
    matrices,
)
from codesign.compiler.kernels.mapspace import Ints, splits, zero_events
from codesign.compiler.kernels.numbers import PLAIN, StepNumbers
from codesign.compiler.kernels.random_numbers import Draw
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS
from codesign.hw.machine.program import Affine, Body, Cases, Instruction, Pipeline, Ring, Token

HELD = 2  # tiles in the accumulator


@dataclass(frozen=True)
class CopyProblem(Problem):
    """An int8 matrix [rows, columns]."""

    rows: int
    columns: int


@dataclass(frozen=True)
class CopySpace:
    """Tiles of near-equal rows, two in the accumulator at once."""

    problem: CopyProblem
    config: HardwareConfig
    tile_rows: Ints

    def __len__(self) -> int:
        return len(self.tile_rows)

    @property
    def kind(self) -> tuple[Any, ...]:
        return (self.problem,)

    def mapping(self, index: int) -> int:
        return int(self.tile_rows[index])

    def keys(self, chosen: Ints) -> Ints:
        return self.tile_rows[chosen][:, np.newaxis]

    def kernel(self, chosen: Ints) -> Body:
        return copy_kernel(self.problem, self.tile_rows[chosen], self.config, {})

    def floor(self) -> tuple[Ints, Ints]:
        return self.bounds()

    def bounds(self) -> tuple[Ints, Ints]:
        rows = self.problem.rows * int(ceil_div(self.problem.columns, self.config.dim))
        events = zero_events(len(self))
        for name in ("dram_read_bytes", "dram_write_bytes", "requantize"):
            events[:, EVENT_INDEX[name]] = rows * self.config.dim
        cycles = rows * max(1, self.config.dim // self.config.bus_bytes)
        return np.full(len(self), cycles, dtype=np.int64), events


def region(tile_rows: Any, blocks: int, config: HardwareConfig) -> Any:
    """Accumulator rows of a tile, in whole banks."""
    bank = config.accumulator_bank_rows
    return ceil_div(tile_rows * blocks, bank) * bank


def copy_kernel(
    problem: CopyProblem, tile_rows: Any, config: HardwareConfig, places: Mapping[str, int]
) -> Body:
    """Loads of one tile and drains of another side by side."""
    blocks, plane = int(ceil_div(problem.columns, config.dim)), plane_bytes(problem.rows, config)
    tiles = ceil_div(problem.rows, tile_rows)
    rows = Cases(tile_rows, ((("t",), problem.rows - (tiles - 1) * tile_rows),))
    local = Affine(0, {}, Ring(HELD, region(tile_rows, blocks, config), {"t": 1}))
    free = Token("emptied", count=HELD)

    def dram(name: str) -> dict[str, Affine]:
        at = Affine(places.get(name, 0), {"t": tile_rows * config.dim})
        return {"dram": at, "dram_stride": Affine(plane), "stride": Affine(tile_rows)}

    load = mvin(
        "accumulator",
        {"rows": rows, "blocks": blocks},
        {**dram("source"), "local": local, "scale": Affine(1)},
        waits=(Token("emptied"),),
        signals=(Token("filled"),),
    )
    store = Instruction(
        "mvout",
        {
            "rows": rows,
            "blocks": blocks,
            "function": FUNCTIONS.index("copy"),
            "destination": DESTINATIONS.index("dram"),
        },
        {**dram("target"), "accumulator": local, **PLAIN.fields("copy", 0, 0, {}).addresses},
        waits=(Token("filled"),),
        signals=(Token("emptied"),),
    )
    return (
        Instruction("drain_sync", signals=(free,)),
        Pipeline((("t", tiles),), ((load,), (store,))),
        Instruction("load_sync", waits=(free,)),
    )


class CopyKind(Kind[CopyProblem]):
    """target = source: operands source, target."""

    problem_type = CopyProblem

    def work(self, problem: CopyProblem, dim: int) -> int:
        return (problem.rows + dim) * (problem.columns + dim)

    def extents(self, problem: CopyProblem) -> tuple[int, ...]:
        return problem.rows, problem.columns

    def spaces(self, problem: CopyProblem, config: HardwareConfig) -> Sequence[CopySpace]:
        sizes = splits(problem.rows, max(1, config.bus_bytes // config.dim))
        blocks = int(ceil_div(problem.columns, config.dim))
        fits = HELD * region(sizes, blocks, config) <= config.accumulator_rows
        return [CopySpace(problem, config, sizes[fits])]

    def kernel(
        self,
        problem: CopyProblem,
        mapping: int,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        return copy_kernel(problem, mapping, config, places)

    def operands(self, problem: CopyProblem, config: HardwareConfig) -> tuple[Operand, ...]:
        shape = (1, problem.rows, problem.columns)
        source = matrices("source", "input", shape, config)
        return source, matrices("target", "output", shape, config)

    def drains(self, problem: CopyProblem) -> tuple[Drain, ...]:
        return (Drain("copy", (1, problem.rows, problem.columns)),)

    def reference(self, problem: CopyProblem, given: Given) -> list[Int8]:
        return [given.matrix("source", 0)]

    def random_numbers(
        self, problem: CopyProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        return StepNumbers((PLAIN,)), {}

    def shape(self, problem: CopyProblem) -> str:
        return f"{problem.rows}x{problem.columns}"

    def describe(self, problem: CopyProblem, mapping: int, config: HardwareConfig) -> str:
        return f"{mapping} rows a tile"
