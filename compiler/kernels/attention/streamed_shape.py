"""Attention of any length as a problem: its mappings, and the tiles, parts and memories of one.

A tile is tile_m query rows of one head, a part is dim keys. What a causal mask hides is not computed,
with `triangle`: a tile stops behind the part that its last row sees, and on the diagonal its first rows
drop out in STEPS steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import MAX_TOKENS
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Cases, Guard, Guards, Value

Q_SLOTS = P_SLOTS = SCORES = TILES = 2  # in flight
MASKS = 4  # parts whose records of a mask are in the parameter memory, where not all are
STEPS = 8  # of a tile on the diagonal
MOST_TILES = 128  # that are written out


@dataclass(frozen=True)
class StreamedAttentionProblem(Problem):
    """heads x (queries x d) . (keys x d)^T; heads counts the batch. `mask_rows`: parameter rows of a
    mask of keys; `causal`: query q of m sees keys up to q + keys - m, no fewer than one; `shared`
    heads after one another have one K and V. That Q, K and V may be column ranges of one matrix only
    moves addresses.
    """

    heads: int
    queries: int
    keys: int
    head_dim: int
    mask_rows: int = 0
    causal: bool = False
    shared: int = 1


@dataclass(frozen=True)
class StreamedAttentionMapping:
    """Query rows per tile, parts of K and of V in their ring.

    `triangle`: of a causal problem, the tiles are written out, each with a nest of its own over the heads
    and the parts that its rows see; tile_m is one number for a batch of kernels then.
    """

    tile_m: Any  # rows
    ring: Any  # parts of K and V together
    hold: bool = False
    triangle: bool = False


@dataclass(frozen=True)
class RowStep:
    """The rows of a tile from `first` on, in some of its parts."""

    first: Any
    rows: Value
    when: Guards = ()


@dataclass(frozen=True)
class Nest:
    """Tiles with one text: all of a head's, or one of every head.

    `turns` and `tile_turns` count the parts and the tiles before a given one, in their rings: steps of
    loops, and what came before the nest.
    """

    loops: tuple[tuple[str, Any], ...]
    first_row: Any  # of its first tile
    rows: Value  # of a tile
    keys: Value  # of a part
    last_keys: Any  # of the last part
    steps: tuple[RowStep, ...]
    turns: tuple[Mapping[str, Any], Any]
    tile_turns: tuple[Mapping[str, Any], Any]


class StreamedAttentionShape:
    """Tile counts, ragged edges and memory layout of a problem under a mapping.

    Sums over the tiles of a head: `tile_parts`, key rows loaded (`key_rows`, of K as of V), rows by parts
    (`score_rows`; `mesh_rows` where a part takes no fewer than dim), and rows by keys (`pairs`).
    `last_rows` are those of the last part of all.
    """

    def __init__(
        self,
        problem: StreamedAttentionProblem,
        mapping: StreamedAttentionMapping,
        config: HardwareConfig,
    ) -> None:
        p, m, dim = problem, mapping, config.dim
        self.d_blocks, self.parts = ceil_div(p.head_dim, dim), ceil_div(p.keys, dim)
        self.d_rest = p.head_dim - (self.d_blocks - 1) * dim
        self.key_rest = p.keys - (self.parts - 1) * dim
        self.tiles = ceil_div(p.queries, m.tile_m)
        self.m_last = p.queries - (self.tiles - 1) * m.tile_m
        live = 2 * self.parts if m.hold else 2
        several = (self.tiles * p.shared > 1) if m.hold else True
        self.feasible: Any = (m.ring >= live) & (m.ring <= MAX_TOKENS) & several
        self.feasible = self.feasible & (TILES * m.tile_m <= STATE_ROWS)
        self.mask_slots = 0  # that parts take turns in
        if p.mask_rows * dim > config.parameter_channels:
            self.mask_slots = MASKS
            self.feasible = self.feasible & (MASKS * dim <= config.parameter_channels)
            self.feasible = self.feasible & (not m.hold)
        self._scratchpad(m, config)
        self._accumulator(m, config)
        if m.triangle:
            self.feasible = self.feasible & (self.tiles <= MOST_TILES)
            self._triangle(p, m, dim)
        else:
            self._whole(p, m, dim)

    def _whole(self, p: StreamedAttentionProblem, m: StreamedAttentionMapping, dim: int) -> None:
        """Every part of every tile."""
        rows = Cases(m.tile_m, ((("i",), self.m_last),))
        loops, tiles = head_loops(p, self.tiles)
        turns = {loop: count * self.parts for loop, count in tiles.items()}
        self.nests: tuple[Nest, ...] = (
            Nest(
                (*loops, ("i", self.tiles), ("j", self.parts)),
                0,
                rows,
                Cases(dim, ((("j",), self.key_rest),)),
                self.key_rest,
                (RowStep(0, rows),),
                ({**turns, "i": self.parts, "j": 1}, 0),
                ({**tiles, "i": 1}, 0),
            ),
        )
        fed = (self.tiles - 1) * np.maximum(m.tile_m, dim) + np.maximum(self.m_last, dim)
        self.tile_parts, self.key_rows = self.tiles * self.parts, p.keys * self.tiles
        self.score_rows, self.mesh_rows = p.queries * self.parts, fed * self.parts
        self.pairs, self.last_rows = p.queries * p.keys, self.m_last

    def _triangle(self, p: StreamedAttentionProblem, m: StreamedAttentionMapping, dim: int) -> None:
        """Of every tile the parts that its last row sees; in those on the diagonal, fewer rows."""
        past, height = p.keys - p.queries, ceil_div(m.tile_m, STEPS * dim) * dim
        self.tile_parts = self.key_rows = self.score_rows = self.mesh_rows = self.pairs = 0
        nests = []
        loops, tiles = head_loops(p, 1)
        for tile in range(min(self.tiles, MOST_TILES)):
            top = tile * m.tile_m
            rows = min(m.tile_m, p.queries - top)
            parts = ceil_div(top + rows + past, dim)
            last_keys = self.key_rest if parts == self.parts else dim
            starts = [
                0,
                *(ceil_div(first + top + past, dim) for first in range(height, rows, height)),
            ]
            steps = []
            for number, (lo, hi) in enumerate(zip(starts, [*starts[1:], parts], strict=True)):
                if lo == hi:
                    continue
                first = number * height
                alone = () if (lo, hi) == (0, parts) else (Guard("j", lo, hi),)
                steps.append(RowStep(first, rows - first, alone))
                self.score_rows += (hi - lo) * (rows - first)
                self.mesh_rows += (hi - lo) * max(rows - first, dim)
                keys = (hi - lo) * dim - (dim - last_keys if hi == parts else 0)
                self.pairs += keys * (rows - first)
            nests.append(
                Nest(
                    (*loops, ("j", parts)),
                    top,
                    rows,
                    Cases(dim, ((("j",), last_keys),)),
                    last_keys,
                    tuple(steps),
                    ({**head_loops(p, parts)[1], "j": 1}, p.heads * self.tile_parts),
                    (tiles, p.heads * tile),
                )
            )
            self.tile_parts += parts
            self.key_rows += parts * dim - (dim - last_keys)
            self.last_rows = rows - steps[-1].first
        self.nests = tuple(nests)

    def _scratchpad(self, m: StreamedAttentionMapping, config: HardwareConfig) -> None:
        """Q, P and the ring take whole banks each: their reads and writes never share one."""
        bank = config.scratchpad_bank_rows
        self.q_slot, self.part_slot = m.tile_m * self.d_blocks, config.dim * self.d_blocks
        q_banks = ceil_div(Q_SLOTS * self.q_slot, bank)
        p_banks = ceil_div(P_SLOTS * m.tile_m, bank)
        self.p_base = q_banks * bank
        self.ring_base = (q_banks + p_banks) * bank
        used = q_banks + p_banks + ceil_div(m.ring * self.part_slot, bank)
        self.feasible = self.feasible & (used <= config.scratchpad_banks)

    def _accumulator(self, m: StreamedAttentionMapping, config: HardwareConfig) -> None:
        """Every score and output tile has banks of its own: the drain reads one, the mesh another."""
        bank = config.accumulator_bank_rows
        self.score_region = ceil_div(m.tile_m, bank) * bank
        self.out_region = ceil_div(m.tile_m * self.d_blocks, bank) * bank
        self.out_base = SCORES * self.score_region
        used = self.out_base + TILES * self.out_region
        self.feasible = self.feasible & (used <= config.accumulator_rows)


def head_loops(
    p: StreamedAttentionProblem, each: Any
) -> tuple[tuple[tuple[str, int], ...], dict[str, Any]]:
    """Loops over the heads, those that share K and V inside, and how many of `each` a head's came before."""
    if p.shared == 1:
        return (("h", p.heads),), {"h": each}
    return (("h", p.heads // p.shared), ("g", p.shared)), {"h": p.shared * each, "g": each}
