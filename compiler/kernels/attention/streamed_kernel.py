"""The kernel of attention of any length: O = softmax(Q.K^T).V per head, keys a part at a time.

A tile is tile_m query rows of one head, a part is dim keys. Scores of a part stay in the accumulator,
the drain makes exponentials of them in the scratchpad, and P.V adds them to the tile's sums, which
`hw.machine.attention` keeps in the unit of each row. Two parts are in flight:

    step g:  load K; Q.K^T and exponentials of part g  |  load V; P.V of part g-1

and behind a tile's last part the drain divides its sums. The mesh works in order, and P.V waits for the
exponentials: so two tiles of scores, of exponentials and of sums never meet a third, without a token
for it. Nothing grows with the keys: K and V stream through one ring, a part after the other in the order
in which the mesh uses them; with `hold`, a head's K and V are loaded once and stay for all its query
tiles, if they fit.

The records of a mask of keys lie in the parameter memory from the beginning, or, if they are more than it
holds, come part by part.

With `triangle` every tile is written out, and on the diagonal every step of it.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

from codesign.compiler.kernels.attention.streamed_shape import (
    P_SLOTS,
    Q_SLOTS,
    SCORES,
    TILES,
    Nest,
    RowStep,
    StreamedAttentionMapping,
    StreamedAttentionProblem,
    StreamedAttentionShape,
    head_loops,
)
from codesign.compiler.kernels.blocks import mvin, plane_bytes
from codesign.compiler.kernels.numbers import PLAIN, Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, PARAMETER_BYTES
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
    first,
    last,
)


@dataclass(frozen=True)
class StreamedAttentionAddresses:
    """DRAM byte addresses of the operands."""

    q: int = 0
    k: int = 0
    v: int = 0
    out: int = 0
    mask: int = 0


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
    at = addresses or StreamedAttentionAddresses()
    s = StreamedAttentionShape(problem, mapping, config)
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

    def _score(self, step: RowStep) -> Instruction:
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

    def _exponentials(self, step: RowStep) -> Body:
        """Of a part; the last one of a row may be narrower."""
        others, last_part = (Guard("j", lo=1, from_end=True),), last("j")
        narrower = self._exponentials_of(step, self.nest.last_keys, (*step.when, *last_part))
        return (self._exponentials_of(step, self.dim, (*step.when, *others)), narrower)

    def _exponentials_of(self, step: RowStep, columns: Any, when: Guards) -> Instruction:
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

    def _output(self, step: RowStep) -> Instruction:
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
        strides = head_loops(self.p, head)[1] | {
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
