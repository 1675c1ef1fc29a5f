"""The kind of kernel that turns pairs of neighbouring columns of heads by angles of their row.

Rotary positions (arXiv 2104.09864): x cos + x' sin, x' being the other column of a pair. All heads are
turned alike, so the table of a tile of rows is loaded once, then head after head passes by. It lies as
two int8 matrices, of coarse steps and of fine ones for what those leave, which add up in the
accumulator; cosines and sines of a row take turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
from codesign.compiler.kernels.numbers import PLAIN, Numbers, StepNumbers
from codesign.compiler.kernels.random_numbers import INT8, Draw
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS
from codesign.hw.machine.program import (
    Affine,
    Body,
    Cases,
    Instruction,
    Pipeline,
    Ring,
    Token,
    Value,
    first,
)
from codesign.hw.views import timing

FUNCTION_NAME = "rotate"
COARSE = 128  # fine steps of the table in a coarse one
MOST_COARSE = 127
TABLE_ROWS = 2  # cosines and sines
PARTS = 2  # coarse and fine


def angle_table(angles: npt.NDArray[np.float64], step: float) -> Int8:
    """Cosines and sines [rows, 2, columns] as the kernel's table, int8[2, 2 rows, columns], in `step`s."""
    whole = np.round(angles / step).astype(np.int64).reshape(-1, angles.shape[-1])
    coarse = np.clip((whole + COARSE // 2) // COARSE, -MOST_COARSE, MOST_COARSE)
    return np.stack((coarse, whole - COARSE * coarse)).astype(np.int8)


@dataclass(frozen=True)
class RotaryProblem(Problem):
    """`heads` matrices of rows x cols int8 values, side by side, each turned by one table."""

    rows: int
    cols: int
    heads: int

    @property
    def table_bytes(self) -> int:
        """Bytes of its cosines and sines, without padding."""
        return PARTS * TABLE_ROWS * self.rows * self.cols


@dataclass(frozen=True)
class RotaryMapping:
    """Rows of a tile, of which the accumulator holds that of two heads."""

    tile_rows: Any


@dataclass(frozen=True)
class _Layout:
    """Accumulator rows in whole banks: tiles of heads take turns in two regions, tables likewise."""

    blocks: int
    tiles: Any
    held: Any  # tiles of heads
    head: Any  # rows of a region
    tables: Any
    table: Any

    @classmethod
    def of(cls, p: RotaryProblem, mapping: RotaryMapping, config: HardwareConfig) -> "_Layout":
        bank = config.accumulator_bank_rows
        blocks = int(ceil_div(p.cols, config.dim))
        tiles = ceil_div(p.rows, mapping.tile_rows)
        rows = mapping.tile_rows * blocks
        return cls(
            blocks,
            tiles,
            np.minimum(2, tiles * p.heads),
            ceil_div(rows, bank) * bank,
            np.minimum(2, tiles),
            ceil_div(rows * TABLE_ROWS, bank) * bank,
        )

    @property
    def rows(self) -> Any:
        """All that is taken of the accumulator."""
        return self.held * self.head + self.tables * self.table


def rotary_kernel(
    p: RotaryProblem,
    mapping: RotaryMapping,
    config: HardwareConfig,
    places: Mapping[str, int],
    numbers: Numbers = PLAIN,
) -> Body:
    """The kernel's body; a tile's table is loaded before its first head.

    That of the tile after next takes the place of one that no drain reads any more: of the heads
    behind it but one is not emptied.
    """
    writer = _Writer(p, mapping, config, places, numbers)
    at = writer.at
    loads = (
        Instruction("load_sync", waits=(Token("emptied"),)),
        *(writer.load_table(part) for part in range(PARTS)),
        writer.load_head(),
    )
    credits = Token("emptied", count=at.held)
    return (
        Instruction("drain_sync", signals=(credits,)),
        Pipeline((("t", at.tiles), ("h", p.heads)), (loads, (writer.drain(),))),
        Instruction("load_sync", waits=(credits,)),
    )


class _Writer:
    """The instructions of a kernel, in loops t over tiles of rows and h over heads."""

    def __init__(
        self,
        problem: RotaryProblem,
        mapping: RotaryMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: Numbers,
    ) -> None:
        self.p, self.config, self.places, self.numbers = problem, config, places, numbers
        self.at = at = _Layout.of(problem, mapping, config)
        self.tile_rows = mapping.tile_rows
        plane = plane_bytes(problem.rows, config)
        self.step = {"h": at.blocks * plane, "t": mapping.tile_rows * config.dim}
        self.matrix = {"dram_stride": Affine(plane), "stride": Affine(mapping.tile_rows)}
        self.head = Affine(0, {}, Ring(at.held, at.head, {"t": problem.heads, "h": 1}))
        self.table = Affine(at.held * at.head, {}, Ring(at.tables, at.table, {"t": 1}))

    def _rows(self, times: int) -> Cases:
        last = self.p.rows - (self.at.tiles - 1) * self.tile_rows
        return Cases(times * self.tile_rows, ((("t",), times * last),))

    def load_table(self, part: int) -> Instruction:
        """Cosines and sines of a tile's rows, in coarse steps or in what those leave."""
        plane = plane_bytes(TABLE_ROWS * self.p.rows, self.config)
        begin = self.places.get("table", 0) + part * self.at.blocks * plane
        addresses = {
            "dram": Affine(begin, {"t": TABLE_ROWS * self.tile_rows * self.config.dim}),
            "dram_stride": Affine(plane),
            "local": self.table,
            "stride": Affine(TABLE_ROWS * self.tile_rows),
            "scale": Affine(1 if part else COARSE),
        }
        values: dict[str, Value] = {"rows": self._rows(TABLE_ROWS), "blocks": self.at.blocks}
        flags = {"accumulate": ()} if part else {}
        return mvin("accumulator", values, addresses, when=first("h"), flags=flags)

    def load_head(self) -> Instruction:
        """A head's rows of a tile."""
        addresses = {
            "dram": Affine(self.places.get("x", 0), self.step),
            "local": self.head,
            "scale": Affine(self.numbers.scales[0]),
            **self.matrix,
        }
        values: dict[str, Value] = {"rows": self._rows(1), "blocks": self.at.blocks}
        return mvin("accumulator", values, addresses, signals=(Token("filled"),))

    def drain(self) -> Instruction:
        """They are turned on the way out."""
        fields = self.numbers.fields(FUNCTION_NAME, self.p.rows, self.p.cols, {"t": self.tile_rows})
        return Instruction(
            "mvout",
            {
                "rows": self._rows(1),
                "blocks": self.at.blocks,
                "function": FUNCTIONS.index(FUNCTION_NAME),
                "destination": DESTINATIONS.index("dram"),
            },
            {
                "accumulator": self.head,
                "second": self.table,
                "dram": Affine(self.places.get("out", 0), self.step),
                **self.matrix,
                **fields.addresses,
            },
            flags=fields.flags,
            waits=(Token("filled"),),
            signals=(Token("emptied"),),
        )


@dataclass(frozen=True)
class RotarySpace:
    """Stated: rows of a tile from near-equal splits."""

    problem: RotaryProblem
    config: HardwareConfig
    tile_rows: Ints

    @classmethod
    def build(cls, problem: RotaryProblem, config: HardwareConfig) -> "RotarySpace":
        """The tiles that fit the accumulator."""
        tile_rows = splits(problem.rows, max(1, config.bus_bytes // config.dim))
        fits = _Layout.of(problem, RotaryMapping(tile_rows), config).rows <= config.accumulator_rows
        return cls(problem, config, tile_rows[fits])

    def __len__(self) -> int:
        return len(self.tile_rows)

    def mapping(self, index: int) -> RotaryMapping:
        """One mapping, its number a plain int."""
        return RotaryMapping(int(self.tile_rows[index]))

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""
        return rotary_kernel(self.problem, RotaryMapping(self.tile_rows[chosen]), self.config, {})

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings have in common."""
        return (self.problem,)

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, 1] that decide the timing of the chosen mappings, whatever the memories."""
        return self.tile_rows[chosen][:, np.newaxis]

    def floor(self) -> tuple[Ints, Ints]:
        """The bounds: memories have no say in them."""
        return self.bounds()

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""
        p, config, function = self.problem, self.config, FUNCTION[FUNCTION_NAME]
        blocks, dim = ceil_div(p.cols, config.dim), config.dim
        row = max(1, ceil_div(dim, config.bus_bytes))
        drain_row = row + function.operands - 1
        moved, table = p.heads * p.rows * blocks, PARTS * TABLE_ROWS * p.rows * blocks
        tile = np.minimum(self.tile_rows, p.rows) * blocks
        rest = (p.rows - (ceil_div(p.rows, self.tile_rows) - 1) * self.tile_rows) * blocks
        latency = 2 * config.dram_latency_cycles + timing.LOAD_LATENCY + timing.DRAIN_LATENCY
        loading = (moved + table) * row + rest * drain_row
        draining = tile * (1 + PARTS * TABLE_ROWS) * row + moved * drain_row
        counts = {
            "dram_read_bytes": (moved + table) * dim,
            "dram_write_bytes": moved * dim,
            "accumulator_writes": moved + table,
            "accumulator_reads": moved * function.operands + table // PARTS,
            "accumulator_adds": table // PARTS * dim,
            "scale": (moved + table) * dim,
            "requantize": moved * dim * function.operands,
        }
        counts |= function.events(moved * dim, p.heads * p.rows)
        events = zero_events(len(self))
        for name, count in counts.items():
            events[:, EVENT_INDEX[name]] = count
        return np.maximum(loading, draining) + latency, events


class RotaryKind(Kind[RotaryProblem]):
    """Pairs of columns of every head, turned: operands x, table, out."""

    problem_type = RotaryProblem

    def work(self, problem: RotaryProblem, dim: int) -> int:
        return problem.heads * (problem.rows + dim) * (problem.cols + dim)

    def extents(self, problem: RotaryProblem) -> tuple[int, ...]:
        return problem.rows, problem.cols

    def spaces(self, problem: RotaryProblem, config: HardwareConfig) -> Sequence[RotarySpace]:
        return [RotarySpace.build(problem, config)]

    def kernel(
        self,
        problem: RotaryProblem,
        mapping: RotaryMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        return rotary_kernel(problem, mapping, config, places, *numbers.epilogues)

    def operands(self, problem: RotaryProblem, config: HardwareConfig) -> tuple[Operand, ...]:
        p = problem
        table = (PARTS, TABLE_ROWS * p.rows, p.cols)
        heads = (p.heads, p.rows, p.cols)
        return (
            matrices("x", "input", heads, config),
            matrices("table", "addend", table, config, region="table"),
            matrices("out", "output", heads, config),
        )

    def drains(self, problem: RotaryProblem) -> tuple[Drain, ...]:
        return (Drain(FUNCTION_NAME, (problem.heads, problem.rows, problem.cols)),)

    def reference(self, problem: RotaryProblem, given: Given) -> list[Int8]:
        coarse, fine = (given.matrix("table", part).astype(np.int64) for part in range(PARTS))
        angles = (coarse * COARSE + fine).reshape(problem.rows, TABLE_ROWS, problem.cols)
        scale, _ = given.scales(0)
        found = []
        for number in range(problem.heads):
            x = given.matrix("x", number).astype(np.int64) * scale
            found.append(given.drained(0, number, np.stack((x, angles[:, 0], angles[:, 1]))))
        return found

    def random_numbers(
        self, problem: RotaryProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        p = problem
        spread = INT8 * COARSE
        numbers = draw.numbers(FUNCTION_NAME, spread, p.rows, p.cols, (COARSE, 1))
        return StepNumbers((numbers,)), {}

    def shape(self, problem: RotaryProblem) -> str:
        p = problem
        return f"{p.heads} of {p.rows}x{p.cols}, {FUNCTION_NAME}"

    def describe(
        self, problem: RotaryProblem, mapping: RotaryMapping, config: HardwareConfig
    ) -> str:
        return f"{mapping.tile_rows} rows a tile"
