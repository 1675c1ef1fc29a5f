"""The mapspace of the attention kernel, and lower bounds on its costs.

Stated: tile_m from near-equal splits of the queries, chunks of 1, 2, 4, ... key blocks, a ring of two
to eight chunks (streaming) or of K and V of one head, one and a half or two (holding), and one or
two score tiles in the accumulator.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionMapping,
    AttentionProblem,
    AttentionShape,
    attention_kernel,
)
from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.mapspace import Ints, doublings, splits, zero_events
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.program import Body
from codesign.hw.views import timing


def attention_spaces(problem: AttentionProblem, config: HardwareConfig) -> list["AttentionSpace"]:
    """The mapspace of a problem: streaming K and V, and holding them."""
    return [AttentionSpace.build(problem, config, hold) for hold in (False, True)]


@dataclass(frozen=True)
class AttentionSpace:
    """Feasible mappings; fields of `mappings` are arrays."""

    problem: AttentionProblem
    config: HardwareConfig
    mappings: AttentionMapping

    @classmethod
    def build(
        cls, problem: AttentionProblem, config: HardwareConfig, hold: bool
    ) -> "AttentionSpace":
        """Enumerate the candidates and keep those that fit."""
        key_blocks = int(ceil_div(problem.keys, config.dim))
        rows = problem.in_rows.queries
        granule = max(1, config.bus_bytes // config.dim)
        rings = np.array([4, 6, 8]) if hold else np.array([2, 3, 4, 8])
        grid = np.meshgrid(
            splits(rows, granule),
            doublings(key_blocks),
            rings,
            np.array([2, 1]),
            indexing="ij",
        )
        tile_m, chunk, ring, held = (axis.ravel() for axis in grid)
        if hold:
            ring = ring * ceil_div(key_blocks, chunk) // 2
        mappings = AttentionMapping(tile_m, chunk, ring, held, hold)
        feasible = AttentionShape(problem, mappings, config).feasible
        return cls(problem, config, _select(mappings, np.flatnonzero(feasible)))

    def __len__(self) -> int:
        return len(self.mappings.tile_m)

    def mapping(self, index: int) -> AttentionMapping:
        """One mapping, its numbers plain ints."""
        m = self.mappings
        numbers = [int(values[index]) for values in (m.tile_m, m.chunk, m.ring, m.held)]
        return AttentionMapping(numbers[0], numbers[1], numbers[2], numbers[3], m.hold)

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""
        return attention_kernel(self.problem, _select(self.mappings, chosen), self.config)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings have in common."""
        return (self.problem, self.mappings.hold)

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, fields] that decide the timing of the chosen mappings, whatever the memories."""
        m = _select(self.mappings, chosen)
        return np.stack((m.tile_m, m.chunk, m.ring, m.held), axis=1)

    def floor(self) -> tuple[Ints, Ints]:
        """The bounds: memories have no say in them."""
        return self.bounds()

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""
        p, m, config, dim = self.problem.in_rows, self.mappings, self.config, self.config.dim
        s = AttentionShape(p, m, config)
        sweeps = np.ones_like(s.tiles) if m.hold else s.tiles
        key_heads = p.heads // p.shared if m.hold else p.heads
        key_rows = 2 * key_heads * p.keys * s.d_blocks * sweeps
        query_rows = p.heads * p.queries * s.d_blocks
        score_rows = p.heads * p.queries * s.key_blocks
        bias_rows = score_rows if p.bias else 0
        loads = key_rows + query_rows
        swept = 2 * p.heads * p.queries * s.d_blocks * s.key_blocks
        computes = 2 * p.heads * s.tiles * s.d_blocks * s.key_blocks
        adds = swept - query_rows - (0 if p.bias else score_rows)
        elements = score_rows * dim
        counts = {
            "instructions": 2 * computes,
            "dram_read_bytes": (loads + bias_rows + p.mask_rows * PARAMETER_BYTES) * dim,
            "dram_write_bytes": query_rows * dim,
            "scratchpad_reads": swept + p.heads * s.tiles * 2 * p.keys * s.d_blocks,
            "scratchpad_writes": loads + score_rows,
            "accumulator_reads": adds + 3 * score_rows + query_rows,
            "accumulator_writes": swept + bias_rows,
            "accumulator_adds": adds * dim,
            "macs": 2 * p.heads * p.queries * p.keys * p.head_dim,
            "pe_active": swept * dim * dim,
            "pe_weight_loads": computes * dim * dim,
            "scale": bias_rows * dim,
            "requantize": elements + query_rows * dim,
            "compare": elements,
            "exp": 2 * elements,
            "normalize": elements,
            "divide": p.heads * p.queries,
        }
        events = zero_events(len(self))
        for name, count in counts.items():
            events[:, EVENT_INDEX[name]] = count
        return self._cycles(s, loads + bias_rows), events

    def _cycles(self, s: AttentionShape, loads: Ints) -> Ints:
        p, m, config, dim = self.problem.in_rows, self.mappings, self.config, self.config.dim
        row = max(1, ceil_div(dim, config.bus_bytes))
        mesh_rows = (s.tiles - 1) * np.maximum(m.tile_m, dim) + np.maximum(s.m_last, dim)
        mesh = 2 * p.heads * mesh_rows * s.d_blocks * s.key_blocks
        mesh = mesh - np.maximum(dim - s.m_last, 0)  # nothing follows the last compute
        first_chunk = np.minimum(m.chunk * dim, p.keys) * s.d_blocks
        first_load = (np.minimum(m.tile_m, p.queries) * s.d_blocks + first_chunk) * row
        start = config.dram_latency_cycles + timing.LOAD_LATENCY + first_load
        last_drain = s.m_last * s.d_blocks * row
        pipeline = 2 * dim + timing.EXECUTE_LATENCY + timing.DRAIN_LATENCY
        tail = pipeline + last_drain + config.dram_latency_cycles
        loading = config.dram_latency_cycles + timing.LOAD_LATENCY + loads * row
        drains = p.heads * p.queries * (3 * s.key_blocks + s.d_blocks * row)
        draining = start + dim + drains + pipeline + config.dram_latency_cycles
        bound: Ints = np.maximum.reduce([start + dim + mesh + tail, loading + tail, draining])
        return bound


def _select(mappings: AttentionMapping, index: Ints) -> AttentionMapping:
    def pick(values: Any) -> Any:
        return np.broadcast_to(values, mappings.tile_m.shape)[index]

    return AttentionMapping(
        pick(mappings.tile_m),
        pick(mappings.chunk),
        pick(mappings.ring),
        pick(mappings.held),
        mappings.hold,
    )
