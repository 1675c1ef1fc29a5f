"""The mapspace of attention of any length, keys a part at a time, and its bounds.

Stated: tile_m from near-equal splits of the queries, as far as there are states for two tiles, a ring of
two to eight parts (streaming) or of K and V of one head, one and a half or two (holding). Of causal
problems besides, streaming: the triangle alone in tiles of the TALLEST heights that there are states for.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codesign.compiler.kernels.attention.streamed_kernel import streamed_attention_kernel
from codesign.compiler.kernels.attention.streamed_shape import (
    TILES,
    StreamedAttentionMapping,
    StreamedAttentionProblem,
    StreamedAttentionShape,
)
from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.mapspace import Ints, splits, zero_events
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Body
from codesign.hw.views import timing

TALLEST = 4  # heights of tiles that are written out


def streamed_attention_spaces(
    problem: StreamedAttentionProblem, config: HardwareConfig
) -> list["StreamedAttentionSpace"]:
    """The mapspace of a problem: streaming K and V, holding them, and of causal ones the triangle."""
    spaces = [StreamedAttentionSpace.build(problem, config, hold) for hold in (False, True)]
    if problem.causal:
        tall = [size for size in _heights(problem, config) if TILES * size <= STATE_ROWS]
        spaces += (
            StreamedAttentionSpace.triangle(problem, config, int(size))
            for size in tall[: -TALLEST - 1 : -1]
        )
    return spaces


def _heights(problem: StreamedAttentionProblem, config: HardwareConfig) -> Ints:
    """Rows of a tile, ascending: whole beats of the bus."""
    return splits(problem.queries, max(1, config.bus_bytes // config.dim))


@dataclass(frozen=True)
class StreamedAttentionSpace:
    """Feasible mappings; fields of `mappings` are arrays, and all heights alike in a triangle."""

    problem: StreamedAttentionProblem
    config: HardwareConfig
    mappings: StreamedAttentionMapping

    @classmethod
    def build(
        cls, problem: StreamedAttentionProblem, config: HardwareConfig, hold: bool
    ) -> "StreamedAttentionSpace":
        """Enumerate the candidates and keep those that fit."""
        parts = int(ceil_div(problem.keys, config.dim))
        rings = np.array([2 * parts, 3 * parts, 4 * parts] if hold else [2, 3, 4, 8])
        grid = np.meshgrid(_heights(problem, config), rings, indexing="ij")
        tile_m, ring = (axis.ravel() for axis in grid)
        mappings = StreamedAttentionMapping(tile_m, ring, hold)
        feasible = StreamedAttentionShape(problem, mappings, config).feasible
        return cls(problem, config, _select(mappings, np.flatnonzero(feasible)))

    @classmethod
    def triangle(
        cls, problem: StreamedAttentionProblem, config: HardwareConfig, tile_m: int
    ) -> "StreamedAttentionSpace":
        """Tiles of one height, of which only what the mask leaves is computed."""
        ring = np.array([2, 3, 4, 8])
        mapping = StreamedAttentionMapping(tile_m, ring, triangle=True)
        feasible = StreamedAttentionShape(problem, mapping, config).feasible
        mappings = StreamedAttentionMapping(np.full_like(ring, tile_m), ring, triangle=True)
        return cls(problem, config, _select(mappings, np.flatnonzero(feasible)))

    def __len__(self) -> int:
        return len(self.mappings.ring)

    def mapping(self, index: int) -> StreamedAttentionMapping:
        """One mapping, its numbers plain ints."""
        m = self.mappings
        return replace(m, tile_m=int(m.tile_m[index]), ring=int(m.ring[index]))

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""
        return streamed_attention_kernel(self.problem, self._batch(chosen), self.config)

    def _batch(self, chosen: Ints) -> StreamedAttentionMapping:
        """Mappings of one text: a triangle's height is one number."""
        m = _select(self.mappings, chosen)
        return replace(m, tile_m=int(m.tile_m[0])) if m.triangle else m

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings have in common."""
        m = self.mappings
        return (self.problem, m.hold, int(m.tile_m[0]) if m.triangle else 0)

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, fields] that decide the timing of the chosen mappings, whatever the memories."""
        m = _select(self.mappings, chosen)
        return np.stack((m.tile_m, m.ring), axis=1)

    def floor(self) -> tuple[Ints, Ints]:
        """The bounds: memories have no say in them."""
        return self.bounds()

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""
        p, config, dim = self.problem, self.config, self.config.dim
        m = self._batch(np.arange(len(self)))
        s = StreamedAttentionShape(p, m, config)
        swept_keys = p.keys * (p.heads // p.shared) if m.hold else s.key_rows * p.heads
        loads = 2 * swept_keys * s.d_blocks + p.heads * p.queries * s.d_blocks
        query_rows = p.heads * p.queries * s.d_blocks
        records = p.heads * s.tile_parts if s.mask_slots else p.mask_rows
        score_rows = p.heads * s.score_rows
        swept = 2 * p.heads * s.score_rows * s.d_blocks
        computes = 2 * p.heads * s.d_blocks * s.tile_parts
        adds = swept - query_rows - score_rows
        elements = score_rows * dim
        counts = {
            "instructions": 2 * computes,
            "dram_read_bytes": (loads + records * PARAMETER_BYTES) * dim,
            "dram_write_bytes": query_rows * dim,
            "scratchpad_reads": swept + 2 * p.heads * s.key_rows * s.d_blocks,
            "scratchpad_writes": loads + score_rows,
            "accumulator_reads": adds + 2 * score_rows + 2 * query_rows,
            "accumulator_writes": swept,
            "accumulator_adds": adds * dim,
            "align": swept // 2 * dim,
            "macs": 2 * p.heads * s.pairs * p.head_dim,
            "pe_active": swept * dim * dim,
            "pe_weight_loads": computes * dim * dim,
            "requantize": elements + query_rows * dim,
            "compare": elements,
            "exp": elements,
            "state": score_rows + p.heads * p.queries,
            "normalize": query_rows * dim,
            "divide": p.heads * p.queries,
        }
        events = zero_events(len(self))
        for name, count in counts.items():
            events[:, EVENT_INDEX[name]] = count
        cycles = np.broadcast_to(self._cycles(s, m, loads), len(self))
        return cycles, events

    def _cycles(self, s: StreamedAttentionShape, m: StreamedAttentionMapping, loads: Ints) -> Ints:
        p, config, dim = self.problem, self.config, self.config.dim
        row = max(1, ceil_div(dim, config.bus_bytes))
        mesh = 2 * p.heads * s.mesh_rows * s.d_blocks
        mesh = mesh - np.maximum(dim - s.last_rows, 0)  # nothing follows the last compute
        first_load = (np.minimum(m.tile_m, p.queries) + min(dim, p.keys)) * s.d_blocks * row
        start = config.dram_latency_cycles + timing.LOAD_LATENCY + first_load
        pipeline = 2 * dim + timing.EXECUTE_LATENCY + timing.DRAIN_LATENCY
        tail = pipeline + s.m_last * s.d_blocks * (1 + row) + config.dram_latency_cycles
        loading = config.dram_latency_cycles + timing.LOAD_LATENCY + loads * row
        drains = p.heads * (2 * s.score_rows + p.queries * s.d_blocks * (1 + row))
        draining = start + dim + drains + pipeline + config.dram_latency_cycles
        bound: Ints = np.maximum(np.maximum(start + dim + mesh + tail, loading + tail), draining)
        return bound


def _select(mappings: StreamedAttentionMapping, index: Ints) -> StreamedAttentionMapping:
    return replace(mappings, tile_m=mappings.tile_m[index], ring=mappings.ring[index])
