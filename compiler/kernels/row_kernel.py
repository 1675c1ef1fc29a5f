"""The row kernel: f(x [+ y]) or f(x, y) row by row, without the mesh.

For what is not fused behind a matmul: LayerNorm and RMSNorm (with the residual add before them),
softmax, activations, plain residual adds, and products of two matrices. x is moved into the
accumulator, y is added on its way in or lies behind it where the function takes two, and the drain
applies the function. Tiles rotate through regions of whole accumulator banks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div, mvin, plane_bytes
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.mapspace import Ints, splits, zero_events
from codesign.compiler.kernels.numbers import PLAIN, Fields, Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, PARAMETER_BYTES
from codesign.hw.machine.program import (
    Affine,
    Body,
    Cases,
    Instruction,
    Pipeline,
    Ring,
    Token,
    first,
)
from codesign.hw.views import timing


@dataclass(frozen=True)
class RowProblem(Problem):
    """`batch` matrices of rows x cols int8 values; `operands` of them added, or taken by a function of
    so many; `parameters` rows per block are loaded: factor and bias before a function, of each that it
    takes (as a softmax's mask over its columns), gamma and beta behind a norm, or both.
    """

    rows: int
    cols: int
    function: str = "copy"
    operands: int = 1
    parameters: int = 0
    batch: int = 1

    @property
    def scaled(self) -> bool:
        """Whether parameters come before the function."""
        return self.parameters > int(FUNCTION[self.function].affine)

    @property
    def affine(self) -> bool:
        """Whether parameters come behind the function."""
        return self.parameters > 1 or (self.parameters > 0 and not self.scaled)

    @property
    def taken(self) -> int:
        """Operands that the function takes: as many lie side by side in the accumulator."""
        return FUNCTION[self.function].operands

    @property
    def added(self) -> int:
        """Operands that are added to another."""
        return self.operands - self.taken

    def parameter_rows(self, config: HardwareConfig) -> int:
        """Rows of the parameter memory; all columns have the same but in a row function."""
        blocks = int(ceil_div(self.cols, config.dim)) if FUNCTION[self.function].by_row else 1
        return self.parameters * blocks


@dataclass(frozen=True)
class RowMapping:
    """Rows per tile, and how many tiles the accumulator holds at once; `serial`: just one."""

    tile_rows: Any
    tiles_held: Any
    serial: bool = False


@dataclass(frozen=True)
class RowAddresses:
    """DRAM byte addresses of the operands."""

    x: int = 0
    y: int = 0
    out: int = 0
    parameters: int = 0


def flattened(problem: RowProblem, config: HardwareConfig) -> RowProblem:
    """Elementwise work as one long column of blocks: the blocked layout has no gaps between them."""
    if FUNCTION[problem.function].by_row:
        return problem
    blocks = int(ceil_div(problem.cols, config.dim))
    plane_rows = plane_bytes(problem.rows, config) // config.dim
    rows = problem.batch * blocks * plane_rows
    return RowProblem(rows, config.dim, problem.function, problem.operands, problem.parameters)


@dataclass(frozen=True)
class _Tiles:
    """Where the tiles of a kernel lie, in DRAM and in the accumulator."""

    rows: Cases
    blocks: int
    step: dict[str, int]  # bytes of DRAM, by loop
    plane: int  # bytes of DRAM from one block of columns to the next
    local: Affine
    second: Affine  # of the operand that a function of two takes behind the first
    stride: Affine

    def load(
        self,
        base: int,
        scale: int,
        add: bool,
        local: Affine,
        **tokens: Any,
    ) -> Instruction:
        """Tiles of one operand, added to what is there or in its place."""
        return mvin(
            "accumulator",
            {"rows": self.rows, "blocks": self.blocks},
            {
                "dram": Affine(base, self.step),
                "dram_stride": Affine(self.plane),
                "local": local,
                "stride": self.stride,
                "scale": Affine(scale),
            },
            flags={"accumulate": ()} if add else {},
            **tokens,
        )

    def drain(self, function: str, base: int, fields: Fields, **tokens: Any) -> Instruction:
        """Tiles of the result."""
        second = {"second": self.second} if FUNCTION[function].operands > 1 else {}
        return Instruction(
            "mvout",
            {
                "rows": self.rows,
                "blocks": self.blocks,
                "function": FUNCTIONS.index(function),
                "destination": DESTINATIONS.index("dram"),
            },
            {
                "accumulator": self.local,
                "stride": self.stride,
                "dram": Affine(base, self.step),
                "dram_stride": Affine(self.plane),
                **second,
                **fields.addresses,
            },
            flags=fields.flags,
            **tokens,
        )


def row_kernel(
    problem: RowProblem,
    mapping: RowMapping,
    config: HardwareConfig,
    addresses: RowAddresses | None = None,
    numbers: Numbers = PLAIN,
) -> Body:
    """The kernel's body; the mapping's tiles must fit (see RowSpace)."""
    at = addresses or RowAddresses()
    blocks = ceil_div(problem.cols, config.dim)
    tiles = ceil_div(problem.rows, mapping.tile_rows)
    held = mapping.tiles_held
    last_rows = problem.rows - (tiles - 1) * mapping.tile_rows
    plane = plane_bytes(problem.rows, config)
    ring = Ring(held, _region(problem, mapping, blocks, config), {"b": tiles, "t": 1})
    tile = _Tiles(
        rows=Cases(mapping.tile_rows, ((("t",), last_rows),)),
        blocks=blocks,
        step={"b": blocks * plane, "t": mapping.tile_rows * config.dim},
        plane=plane,
        local=Affine(0, {}, ring),
        second=Affine(mapping.tile_rows * blocks, {}, ring),
        stride=Affine(mapping.tile_rows),
    )
    credits = Token("emptied", count=held)
    filled = (Token("filled"),)
    scale_x, scale_y = numbers.scales
    empty = (Token("emptied"),)
    loads = [tile.load(at.x, scale_x, False, tile.local, waits=empty, signals=filled)]
    if problem.operands == 2:
        add, place = problem.added > 0, tile.local if problem.added else tile.second
        loads = [
            tile.load(at.x, scale_x, False, tile.local, waits=empty),
            tile.load(at.y, scale_y, add, place, signals=filled),
        ]
    if problem.parameters:
        loads.insert(0, _load_parameters(problem, blocks, at))
    fields = numbers.fields(
        problem.function,
        problem.rows,
        problem.cols,
        {"t": mapping.tile_rows},
        scaled=problem.scaled,
        affine=problem.affine,
    )
    drain = tile.drain(problem.function, at.out, fields, waits=filled, signals=(Token("emptied"),))
    # A tile is loaded while the one before it drains, unless the accumulator holds but one.
    stages = ((*loads, drain),) if mapping.serial else (tuple(loads), (drain,))
    return (
        Instruction("drain_sync", signals=(credits,)),
        Pipeline((("b", problem.batch), ("t", tiles)), stages),
        Instruction("load_sync", waits=(credits,)),
    )


def _load_parameters(problem: RowProblem, blocks: int, at: RowAddresses) -> Instruction:
    nowhere = {name: Affine(0) for name in ("dram_stride", "local", "stride")}
    values = {"rows": blocks * problem.parameters, "blocks": 1}
    addresses = {"dram": Affine(at.parameters), **nowhere}
    return mvin("parameters", values, addresses, when=first("b", "t"))


def _region(problem: RowProblem, mapping: RowMapping, blocks: int, config: HardwareConfig) -> Any:
    """Accumulator rows of one tile, in whole banks."""
    bank = config.accumulator_bank_rows
    return ceil_div(mapping.tile_rows * blocks * problem.taken, bank) * bank


@dataclass(frozen=True)
class RowSpace:
    """Stated: tile_rows from near-equal splits, two or three tiles held (one where there is one).

    Rows too long for two tiles have a space of their own, `serial`.
    """

    problem: RowProblem
    config: HardwareConfig
    mappings: RowMapping

    @classmethod
    def build(
        cls, problem: RowProblem, config: HardwareConfig, *, serial: bool = False
    ) -> "RowSpace":
        """Enumerate the tiles that fit the accumulator and its parameter memory."""
        blocks = int(ceil_div(problem.cols, config.dim))
        granule = max(1, config.bus_bytes // config.dim)
        tile_rows, held = np.meshgrid(
            splits(problem.rows, granule),
            np.array([1] if serial else [2, 3]),
            indexing="ij",
        )
        held = np.minimum(held, problem.batch * ceil_div(problem.rows, tile_rows))
        mappings = RowMapping(tile_rows.ravel(), held.ravel())
        fits = (
            mappings.tiles_held * _region(problem, mappings, blocks, config)
            <= config.accumulator_rows
        )
        fits &= problem.parameters * blocks * config.dim <= config.parameter_channels
        kept = RowMapping(mappings.tile_rows[fits], mappings.tiles_held[fits], serial)
        return cls(problem, config, kept)

    def __len__(self) -> int:
        return len(self.mappings.tile_rows)

    def mapping(self, index: int) -> RowMapping:
        """One mapping, its numbers plain ints."""
        m = self.mappings
        return RowMapping(int(m.tile_rows[index]), int(m.tiles_held[index]), m.serial)

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""
        m = self.mappings
        picked = RowMapping(m.tile_rows[chosen], m.tiles_held[chosen], m.serial)
        return row_kernel(self.problem, picked, self.config)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings have in common."""
        return (self.problem, self.mappings.serial)

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, fields] that decide the timing of the chosen mappings, whatever the memories."""
        return np.stack((self.mappings.tile_rows[chosen], self.mappings.tiles_held[chosen]), axis=1)

    def floor(self) -> tuple[Ints, Ints]:
        """The bounds: memories have no say in them."""
        return self.bounds()

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""
        p, dim, config = self.problem, self.config.dim, self.config
        blocks = ceil_div(p.cols, dim)
        all_rows = p.batch * p.rows
        moved, elements = all_rows * blocks, all_rows * blocks * dim
        row = max(1, ceil_div(dim, config.bus_bytes))
        function = FUNCTION[p.function]
        passes = len(function.passes)
        latency = 2 * config.dram_latency_cycles + timing.LOAD_LATENCY + timing.DRAIN_LATENCY
        tile = np.minimum(self.mappings.tile_rows, p.rows) * blocks
        rest = p.rows - (ceil_div(p.rows, self.mappings.tile_rows) - 1) * self.mappings.tile_rows
        drain_row = row + passes - 1 + p.taken - 1
        loading = moved * row * p.operands + rest * blocks * drain_row
        draining = tile * row * p.operands + moved * drain_row
        events = zero_events(len(self))
        counts = {
            "dram_read_bytes": elements * p.operands
            + p.parameters * blocks * dim * PARAMETER_BYTES,
            "dram_write_bytes": elements,
            "accumulator_writes": moved * p.operands,
            "accumulator_reads": moved * (passes + p.operands - 1),
            "accumulator_adds": elements * p.added,
            "scale": elements * p.operands,
            "requantize": elements * p.taken,
        }
        counts |= function.events(elements, all_rows)
        for name, count in counts.items():
            events[:, EVENT_INDEX[name]] = count
        return np.maximum(loading, draining) + latency, events
