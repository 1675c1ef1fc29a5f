"""What a matmul kernel computes, how it is tiled, and what follows: tile counts, ragged edges, buffers.

Every number of a problem or mapping may be an array: then the shape is that of a batch.
"""

from dataclasses import dataclass
from typing import Any

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
    def parameter_sets(self) -> int:
        """Parameter rows per block of C: bias and scale, gamma and beta."""
        behind = FUNCTION[self.function].affine or self.channel_output
        return int(self.parameters) + int(behind)


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


class MatmulShape:
    """Tile counts, ragged edges and memory layout of a problem under a mapping."""

    def __init__(
        self, problem: MatmulProblem, mapping: MatmulMapping, config: HardwareConfig
    ) -> None:
        dim = config.dim
        self.feasible: Any = True
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
        self._groups(mapping)
        self._scratchpad(mapping, config)
        self._accumulator(problem, mapping, config)
        tile_parameters = problem.parameter_sets * mapping.tile_n * dim
        self.parameter_slots = np.where(self.tiles_n * problem.batch > 1, 2, 1)
        fits = self.parameter_slots * tile_parameters <= config.parameter_channels
        self.feasible = self.feasible & fits

    def _groups(self, mapping: MatmulMapping) -> None:
        self.width = ceil_div(mapping.tile_n, mapping.groups)
        self.width_tail = mapping.tile_n - (mapping.groups - 1) * self.width
        self.width_last = self.n_last - (mapping.groups - 1) * self.width
        self.feasible = self.feasible & (self.width_tail > 0) & (self.width_last > 0)

    def _scratchpad(self, mapping: MatmulMapping, config: HardwareConfig) -> None:
        """A and B each take whole banks, so that their reads never meet in one."""
        self.a_slot = mapping.tile_m * mapping.chunk_k
        self.b_slot = mapping.chunk_k * config.dim * mapping.tile_n
        self.slots = np.minimum(SLOTS, self.chunks * self.tiles)
        streams = np.where(mapping.resident < self.chunks, self.slots, 0)
        reused, streamed = (mapping.resident + streams), self.slots
        a_slots, b_slots = (reused, streamed) if mapping.order == "mn" else (streamed, reused)
        self.a_banks = ceil_div(a_slots * self.a_slot, config.scratchpad_bank_rows)
        b_banks = ceil_div(b_slots * self.b_slot, config.scratchpad_bank_rows)
        fits = self.a_banks + b_banks <= config.scratchpad_banks
        # A resident chunk is overwritten only after the chunk before last was consumed.
        safe = (mapping.resident == 0) | (self.chunks >= self.slots)
        self.feasible = self.feasible & fits & safe

    def _accumulator(
        self, problem: MatmulProblem, mapping: MatmulMapping, config: HardwareConfig
    ) -> None:
        rows = mapping.tile_m * self.width
        span = ceil_div(rows, config.accumulator_bank_rows)
        self.region = span * config.accumulator_bank_rows
        if problem.whole_tiles:
            self.held = np.minimum(mapping.tiles_held, self.tiles)
            fits = self.held * span <= config.accumulator_banks
            if problem.row_function:
                fits = fits & (self.tiles_n == 1)
            if problem.residual:  # loaded one chunk ahead, hence before the tile before is drained
                fits = fits & ((self.held > 1) | (self.tiles == 1))
            self.feasible = self.feasible & fits & (mapping.groups == 1)
            self.credits = self.held
            self.window = self.pitch = np.ones_like(span)
            return
        window = np.maximum(config.accumulator_banks // np.maximum(span, 1), 1)
        # Rounded down to a power of two. numpy's exponents are int32: every count here is int64.
        self.window = np.left_shift(1, np.frexp(window)[1].astype(np.int64) - 1)
        self.pitch = ceil_div(rows, self.window) * self.window
        per_region = np.maximum(self.region // np.maximum(self.pitch, 1), 1)
        fits = (span <= config.accumulator_banks) & (mapping.groups <= self.window * per_region)
        self.feasible = self.feasible & fits
        passes_overlap = self.k_blocks > 1
        self.credits = np.where(
            passes_overlap, np.minimum(mapping.groups, self.window), mapping.groups
        )
