"""The kernel of attention of any length: O = softmax(Q.K^T).V per head, keys a part at a time.

A tile is tile_m query rows of one head, a part is dim keys. Scores of a part stay in the accumulator,
the drain makes exponentials of them in the scratchpad, and P.V adds them to the tile's sums, which
`hw.machine.attention` keeps in the unit of each row. Two parts are in flight:

    step g:  load K; Q.K^T and exponentials of part g  |  load V; P.V of part g-1

and behind a tile's last part the drain divides its sums. The mesh works in order, and P.V waits for the
exponentials: so two tiles of scores, of exponentials and of sums never meet a third, without a token
for it. Nothing grows with the keys: K and V stream
through one ring, a part after the other in the order in which the mesh uses them; with `hold`, a head's
K and V are loaded once and stay for all its query tiles, if they fit.

The records of a mask of keys lie in the parameter memory from the beginning, or, if they are more than it
holds, come part by part.

What a causal mask hides is not computed, with `triangle`: a tile stops behind the part that its last
row sees, and on the diagonal its first rows drop out in STEPS steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div, mvin, plane_bytes
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.numbers import PLAIN, Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, MAX_TOKENS, PARAMETER_BYTES
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import (
    Affine,
    Body,
    Cases,
    Guard,
    Guards,
    Instruction,
    Loop,
    Pipeline,
    Ring,
    Token,
    Value,
    first,
    last,
)

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
class StreamedAttentionAddresses:
    """DRAM byte addresses of the operands."""

    q: int = 0
    k: int = 0
    v: int = 0
    out: int = 0
    mask: int = 0


@dataclass(frozen=True)
class Step:
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
    steps: tuple[Step, ...]
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
        loops, tiles = _heads(p, self.tiles)
        turns = {loop: count * self.parts for loop, count in tiles.items()}
        self.nests: tuple[Nest, ...] = (
            Nest(
                (*loops, ("i", self.tiles), ("j", self.parts)),
                0,
                rows,
                Cases(dim, ((("j",), self.key_rest),)),
                self.key_rest,
                (Step(0, rows),),
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
        loops, tiles = _heads(p, 1)
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
                steps.append(Step(first, rows - first, alone))
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
                    ({**_heads(p, parts)[1], "j": 1}, p.heads * self.tile_parts),
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


def _heads(
    p: StreamedAttentionProblem, each: Any
) -> tuple[tuple[tuple[str, int], ...], dict[str, Any]]:
    """Loops over the heads, those that share K and V inside, and how many of `each` a head's came before."""
    if p.shared == 1:
        return (("h", p.heads),), {"h": each}
    return (("h", p.heads // p.shared), ("g", p.shared)), {"h": p.shared * each, "g": each}


def streamed_attention_kernel(
    problem: StreamedAttentionProblem,
    mapping: StreamedAttentionMapping,
    config: HardwareConfig,
    addresses: StreamedAttentionAddresses | None = None,
    scores: Numbers = PLAIN,
    outputs: Numbers = PLAIN,
) -> Body:
    """The kernel's body. The mapping must be feasible (`StreamedAttentionShape.feasible`).

    `scores` are the numbers of the exponentials, `outputs` those of the quotients.
    """
    at, s = (
        addresses or StreamedAttentionAddresses(),
        StreamedAttentionShape(problem, mapping, config),
    )
    parts, queries = Token("consumed", count=mapping.ring), Token("finished", count=Q_SLOTS)
    nests = (_Writer(problem, mapping, config, at, (scores, outputs), s, nest) for nest in s.nests)
    masks = (Token("emptied", count=s.mask_slots),) if s.mask_slots else ()
    whole_mask = problem.mask_rows and not s.mask_slots
    return (
        Instruction("execute_sync", signals=(parts, queries)),
        *((Instruction("drain_sync", signals=masks),) if masks else ()),
        *(_load_mask(problem.mask_rows, at.mask) if whole_mask else ()),
        *(nest.body() for nest in nests),
        Instruction("load_sync", waits=(parts, queries, *masks)),
    )


def _load_mask(rows: int, dram: int) -> Body:
    nowhere = {name: Affine(0) for name in ("dram_stride", "local", "stride")}
    filled = (Token("filled"),)
    load = mvin(
        "parameters", {"rows": rows, "blocks": 1}, {"dram": Affine(dram), **nowhere}, signals=filled
    )
    return load, Instruction("drain_sync", waits=filled)


class _Writer:
    """Writes the instructions of one nest."""

    def __init__(
        self,
        problem: StreamedAttentionProblem,
        mapping: StreamedAttentionMapping,
        config: HardwareConfig,
        addresses: StreamedAttentionAddresses,
        numbers: tuple[Numbers, Numbers],
        shape: StreamedAttentionShape,
        nest: Nest,
    ) -> None:
        self.p, self.map, self.config, self.at = problem, mapping, config, addresses
        self.score_numbers, self.output_numbers = numbers
        self.s, self.nest, self.dim = shape, nest, config.dim
        tile_steps, tiles = nest.tile_turns
        part_steps, parts = nest.turns
        self.tile = Ring(TILES, mapping.tile_m, tile_steps, tiles)
        self.slot = Ring(P_SLOTS, mapping.tile_m, part_steps, parts)
        self.records = Affine(0, {"j": 1} if problem.mask_rows else {})
        if shape.mask_slots:
            self.records = Affine(0, {}, Ring(shape.mask_slots, 1, part_steps, parts))
        # With `hold` a part is loaded for the first tile of K's heads and freed after the last.
        of_head = self._loops("g", "i")
        self.load_when: Guards = first(*of_head) if mapping.hold else ()
        self.free_when: Guards = last(*of_head) if mapping.hold else ()

    def body(self) -> Pipeline:
        return Pipeline(self.nest.loops, (self._scores(), self._outputs()))

    # -- Loads -----------------------------------------------------------------------------------

    def _load_query(self) -> Instruction:
        """Q of a tile."""
        s, plane = self.s, plane_bytes(self.p.queries, self.config)
        return mvin(
            "scratchpad",
            {"rows": self.nest.rows, "blocks": s.d_blocks},
            {
                "dram": self._tile_dram(self.at.q),
                "dram_stride": Affine(plane),
                "local": self._q_local({}),
                "stride": Affine(self.map.tile_m),
            },
            when=first("j"),
            waits=(Token("finished"),),
            signals=(Token("loaded"),),
        )

    def _load_part(self, base: int, local: Affine) -> Instruction:
        """A part of K or V: rows are keys, blocks are columns of the head."""
        s, plane = self.s, plane_bytes(self.p.keys, self.config)
        return mvin(
            "scratchpad",
            {"rows": self.nest.keys, "blocks": s.d_blocks},
            {
                "dram": Affine(base, {"h": s.d_blocks * plane, "j": self.dim * self.dim}),
                "dram_stride": Affine(plane),
                "local": local,
                "stride": Affine(self.dim),
            },
            when=self.load_when,
            waits=(Token("consumed"),),
            signals=(Token("loaded"),),
        )

    def _load_records(self) -> Instruction:
        """The mask's records of a part."""
        return mvin(
            "parameters",
            {"rows": 1, "blocks": 1},
            {
                "dram": Affine(self.at.mask, {"j": self.dim * PARAMETER_BYTES}),
                "dram_stride": Affine(0),
                "local": self.records,
                "stride": Affine(0),
            },
            waits=(Token("emptied"),),
            signals=(Token("filled"),),
        )

    # -- Q.K^T and exponentials --------------------------------------------------------------------

    def _scores(self) -> Body:
        part = self._part_local(scores=True)
        preload = Instruction(
            "preload",
            {"rows": self.nest.keys},
            {"local": Affine(part.base, {"k": self.dim}, part.ring)},
            flags={"transposed": ()},
            waits=(
                Token("loaded", first("j", "k")),  # the tile's Q
                Token("loaded", (*first("k"), *self.load_when)),  # the part
            ),
        )
        sweep = Loop("k", self.s.d_blocks, (preload, *map(self._score, self.nest.steps)))
        load = self._load_part(self.at.k, part)
        drained = chain.from_iterable(map(self._exponentials, self.nest.steps))
        masks = (self._load_records(),) if self.s.mask_slots else ()
        return (self._load_query(), load, *masks, sweep, *drained)

    def _score(self, step: Step) -> Instruction:
        depth = Cases(self.dim, ((("k",), self.s.d_rest),))
        return Instruction(
            "compute",
            {"rows": step.rows, "depth": depth, "width": self.nest.keys},
            {
                "local": self._q_local({"k": self.map.tile_m}, step.first),
                "accumulator": self._score_tile(step.first),
            },
            flags={"overwrite": first("k")},
            when=step.when,
            signals=(
                Token("consumed", (*last("k"), *self.free_when)),
                Token("finished", last("j", "k")),
                Token("computed", last("k")),
            ),
        )

    def _exponentials(self, step: Step) -> Body:
        """Of a part; the last one of a row may be narrower."""
        others, last_part = (Guard("j", lo=1, from_end=True),), last("j")
        narrower = self._exponentials_of(step, self.nest.last_keys, (*step.when, *last_part))
        return (self._exponentials_of(step, self.dim, (*step.when, *others)), narrower)

    def _exponentials_of(self, step: Step, columns: Any, when: Guards) -> Instruction:
        p, numbers = self.p, self.score_numbers
        fields = numbers.fields(
            "exponentials",
            p.queries - self.nest.first_row - step.first,
            p.keys,
            {name: self.map.tile_m if name == "i" else -self.dim for name in self._loops("i", "j")},
            scaled=p.mask_rows > 0,
        )
        return Instruction(
            "mvout",
            {
                "rows": step.rows,
                "blocks": 1,
                "function": FUNCTIONS.index("exponentials"),
                "destination": DESTINATIONS.index("scratchpad"),
            },
            {
                "accumulator": self._score_tile(step.first),
                "stride": Affine(0),
                "local": Affine(self.s.p_base + step.first, {}, self.slot),
                "local_stride": Affine(0),
                "parameters": self.records,
                "state": Affine(step.first, {}, self.tile),
                "alignment": Affine(step.first, {}, self.slot),
                **fields.addresses,
                "columns": Affine(columns),
            },
            flags={**fields.flags, "fresh": first("j")},
            when=when,
            waits=(Token("computed"), *((Token("filled"),) if self.s.mask_slots else ())),
            signals=(Token("stored"), *((Token("emptied"),) if self.s.mask_slots else ())),
        )

    # -- P.V -----------------------------------------------------------------------------------------

    def _outputs(self) -> Body:
        part = self._part_local(scores=False)
        preload = Instruction(
            "preload",
            {"rows": self.nest.keys},
            {"local": Affine(part.base, {"n": self.dim}, part.ring)},
            waits=(Token("loaded", (*first("n"), *self.load_when)),),
        )
        sweep = Loop("n", self.s.d_blocks, (preload, *map(self._output, self.nest.steps)))
        return (self._load_part(self.at.v, part), sweep, self._quotient())

    def _output(self, step: Step) -> Instruction:
        width = Cases(self.dim, ((("n",), self.s.d_rest),))
        return Instruction(
            "compute",
            {"rows": step.rows, "depth": self.nest.keys, "width": width, "aligned": 1},
            {
                "local": Affine(self.s.p_base + step.first, {}, self.slot),
                "accumulator": self._out_tile({"n": self.map.tile_m}, step.first),
                "alignment": Affine(step.first, {}, self.slot),
            },
            flags={"overwrite": first("j"), "rescale": ()},
            when=step.when,
            waits=(Token("stored", first("n")),),
            signals=(
                Token("consumed", (*last("n"), *self.free_when)),
                Token("computed", last("j", "n")),
            ),
        )

    def _quotient(self) -> Instruction:
        s, plane = self.s, plane_bytes(self.p.queries, self.config)
        fields = self.output_numbers.fields("quotient", self.p.queries, self.p.head_dim, {})
        return Instruction(
            "mvout",
            {
                "rows": self.nest.rows,
                "blocks": s.d_blocks,
                "function": FUNCTIONS.index("quotient"),
                "destination": DESTINATIONS.index("dram"),
            },
            {
                "accumulator": self._out_tile({}),
                "stride": Affine(self.map.tile_m),
                "dram": self._tile_dram(self.at.out),
                "dram_stride": Affine(plane),
                "state": Affine(0, {}, self.tile),
                **fields.addresses,
            },
            when=last("j"),
            waits=(Token("computed"),),
        )

    # -- Places --------------------------------------------------------------------------------------

    def _loops(self, *names: str) -> tuple[str, ...]:
        """Those of the names that are loops of the nest."""
        return tuple(name for name, _ in self.nest.loops if name in names)

    def _tile_dram(self, base: int) -> Affine:
        """Where a tile's rows lie in a matrix a head, as wide as a head."""
        head = self.s.d_blocks * plane_bytes(self.p.queries, self.config)
        strides = _heads(self.p, head)[1] | {
            n: self.map.tile_m * self.dim for n in self._loops("i")
        }
        return Affine(base + self.nest.first_row * self.dim, strides)

    def _q_local(self, strides: dict[str, Any], row: Any = 0) -> Affine:
        steps, before = self.nest.tile_turns
        return Affine(row, strides, Ring(Q_SLOTS, self.s.q_slot, steps, before))

    def _score_tile(self, row: Any) -> Affine:
        steps, before = self.nest.turns
        return Affine(row, {}, Ring(SCORES, self.s.score_region, steps, before))

    def _out_tile(self, strides: dict[str, Any], row: Any = 0) -> Affine:
        steps, before = self.nest.tile_turns
        return Affine(self.s.out_base + row, strides, Ring(TILES, self.s.out_region, steps, before))

    def _part_local(self, *, scores: bool) -> Affine:
        """Where a part of K (`scores`) or V lies: turns of the ring in the order of use.

        The order is K0 K1 V0 K2 V1 ... K(T-1) V(T-2) V(T-1), of all parts of a nest or, with `hold`, of
        those of head after head.
        """
        steps, before = self.nest.turns
        if self.map.hold:
            steps, before = {"h": self.s.parts, "j": 1}, 0
        loops = ("j",) if self.map.hold else self._loops("h", "g", "i", "j")
        # K of part g comes after V of part g-2, V of part g after K of part g+1.
        offset, jump = (-1, 1) if scores else (2, -1)
        ends = first(*loops) if scores else last(*loops)
        turns, before = {loop: 2 * step for loop, step in steps.items()}, 2 * before
        ring = Ring(
            self.map.ring, self.s.part_slot, turns, before + offset, jump=jump, jump_when=ends
        )
        return Affine(self.s.ring_base, {}, ring)
