"""What a matmul kernel computes, how it is tiled, and what follows: tile counts, ragged edges, buffers.

Every number of a problem or mapping may be an array: then the shape is that of a batch.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION

SLOTS = 2  # rotating buffers of streamed chunks


@dataclass(frozen=True)
class MatmulProblem(Problem):
    """What a matmul kernel computes. `parameters`: per-channel bias and scale are loaded;
    `channel_output`: so are the factors behind a function, as they are behind a norm in any case.

    A `function` of two operands takes two products of one A, whose B lie side by side: n is the columns
    of each, in whole blocks.
    """

    m: int
    k: int
    n: int
    batch: int = 1
    transposed_b: bool = False
    parameters: bool = False
    function: str = "copy"
    residual: bool = False  # an int8 matrix is added before the function
    destination: str = "dram"
    channel_output: bool = False

    @property
    def row_function(self) -> bool:
        """Whether the epilogue needs whole rows of C."""
        return FUNCTION[self.function].by_row

    @property
    def whole_tiles(self) -> bool:
        """Whether a tile drains as one group, with whole tiles taking turns in the accumulator."""
        return self.row_function or self.residual

    @property
    def taken(self) -> int:
        """Products that the epilogue takes: blocks of B, and of sums, for a block of C."""
        return FUNCTION[self.function].operands

    @property
    def affine(self) -> bool:
        """Whether a factor and offset per channel come behind the function."""
        return FUNCTION[self.function].affine or self.channel_output

    @property
    def parameter_sets(self) -> int:
        """Parameter rows per block of C: bias and scale of each product, gamma and beta."""
        return int(self.parameters) * self.taken + int(self.affine)


@dataclass(frozen=True)
class MatmulMapping:
    """How: tile sizes, loop order, residency. Blocks are dim columns; numbers may be arrays.

    `groups` drains per tile; row functions use one group and `tiles_held` accumulator tiles.
    """

    order: str
    tile_m: Any  # rows
    tile_n: Any  # blocks
    chunk_k: Any  # blocks
    groups: Any = 1
    resident: Any = 0  # chunks
    tiles_held: Any = 1


class Groups(NamedTuple):
    """Blocks of columns in each drain group of a tile: all but the last, that one, and that of the last tile."""

    width: Any
    width_tail: Any
    width_last: Any


class ScratchpadLayout(NamedTuple):
    """A and B each take whole banks, so that their reads never meet in one. Slots in rows."""

    a_slot: Any
    b_slot: Any
    slots: Any  # of each operand, in turn
    a_banks: Any
    fits: Any


class AccumulatorLayout(NamedTuple):
    """Regions of drain groups, or of whole tiles, that take turns. Sizes in rows."""

    group_rows: Any  # of a group's sums of one product
    region: Any
    window: Any  # groups that lie in regions of their own
    pitch: Any
    credits: Any  # regions that may be filled before one is drained
    held: Any
    fits: Any


class MatmulShape:
    """Tile counts, ragged edges and memory layout of a problem under a mapping.

    Most callers want the counts alone: the layouts are computed for those that ask.
    """

    def __init__(
        self, problem: MatmulProblem, mapping: MatmulMapping, config: HardwareConfig
    ) -> None:
        dim = config.dim
        self._problem, self._mapping, self._config = problem, mapping, config
        self.k_blocks, self.n_blocks = ceil_div(problem.k, dim), ceil_div(problem.n, dim)
        self.k_rest = problem.k - (self.k_blocks - 1) * dim
        self.n_rest = problem.n - (self.n_blocks - 1) * dim
        self.tiles_m = ceil_div(problem.m, mapping.tile_m)
        self.tiles_n = ceil_div(self.n_blocks, mapping.tile_n)
        self.chunks = ceil_div(self.k_blocks, mapping.chunk_k)
        self.m_last = problem.m - (self.tiles_m - 1) * mapping.tile_m
        self.n_last = self.n_blocks - (self.tiles_n - 1) * mapping.tile_n
        self.chunk_last = self.k_blocks - (self.chunks - 1) * mapping.chunk_k
        self.tiles = problem.batch * self.tiles_m * self.tiles_n

    @property
    def feasible(self) -> Any:
        """Whether every group has columns and everything fits into its memory."""
        groups, problem, config = self.groups, self._problem, self._config
        parameters = problem.parameter_sets * self._mapping.tile_n * config.dim
        return (
            (groups.width_tail > 0)
            & (groups.width_last > 0)
            & self.scratchpad.fits
            & self.accumulator.fits
            & (self.parameter_slots * parameters <= config.parameter_channels)
        )

    @property
    def parameter_slots(self) -> Any:
        """Sets of parameters that take turns."""
        return np.where(self.tiles_n * self._problem.batch > 1, 2, 1)

    @cached_property
    def groups(self) -> Groups:
        """The drain groups of a tile."""
        mapping = self._mapping
        width = ceil_div(mapping.tile_n, mapping.groups)
        taken = (mapping.groups - 1) * width
        return Groups(width, mapping.tile_n - taken, self.n_last - taken)

    @cached_property
    def scratchpad(self) -> ScratchpadLayout:
        """Where the chunks of A and B lie."""
        mapping, config = self._mapping, self._config
        a_slot = mapping.tile_m * mapping.chunk_k
        b_slot = mapping.chunk_k * config.dim * mapping.tile_n * self._problem.taken
        slots = np.minimum(SLOTS, self.chunks * self.tiles)
        reused = mapping.resident + np.where(mapping.resident < self.chunks, slots, 0)
        a_slots, b_slots = (reused, slots) if mapping.order == "mn" else (slots, reused)
        a_banks = ceil_div(a_slots * a_slot, config.scratchpad_bank_rows)
        b_banks = ceil_div(b_slots * b_slot, config.scratchpad_bank_rows)
        # A resident chunk is overwritten only after the chunk before last was consumed.
        safe = (mapping.resident == 0) | (self.chunks >= slots)
        fits = (a_banks + b_banks <= config.scratchpad_banks) & safe
        return ScratchpadLayout(a_slot, b_slot, slots, a_banks, fits)

    @cached_property
    def accumulator(self) -> AccumulatorLayout:
        """Where the sums of a tile lie."""
        problem, mapping, config = self._problem, self._mapping, self._config
        group_rows = mapping.tile_m * self.groups.width
        rows = group_rows * problem.taken
        span = ceil_div(rows, config.accumulator_bank_rows)
        region = span * config.accumulator_bank_rows
        if problem.whole_tiles:
            held = np.minimum(mapping.tiles_held, self.tiles)
            fits = (held * span <= config.accumulator_banks) & (mapping.groups == 1)
            if problem.row_function:
                fits = fits & (self.tiles_n == 1)
            if problem.residual:  # loaded one chunk ahead, hence before the tile before is drained
                fits = fits & ((held > 1) | (self.tiles == 1))
            one = np.ones_like(span)
            return AccumulatorLayout(group_rows, region, one, one, held, held, fits)
        window = np.maximum(config.accumulator_banks // np.maximum(span, 1), 1)
        # Rounded down to a power of two. numpy's exponents are int32: every count here is int64.
        window = np.left_shift(1, np.frexp(window)[1].astype(np.int64) - 1)
        pitch = ceil_div(rows, window) * window
        per_region = np.maximum(region // np.maximum(pitch, 1), 1)
        fits = (span <= config.accumulator_banks) & (mapping.groups <= window * per_region)
        passes_overlap = self.k_blocks > 1
        credits = np.where(passes_overlap, np.minimum(mapping.groups, window), mapping.groups)
        return AccumulatorLayout(group_rows, region, window, pitch, credits, 1, fits)
