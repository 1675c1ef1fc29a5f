"""The attention kernel: O = softmax(Q.K^T + bias).V per head, scores and probabilities on chip.

A tile is tile_m query rows of one head. Its scores stay in the accumulator, softmax drains them as
int8 probabilities into the scratchpad, and P.V reads them from there. Two tiles are in flight:

    step g:  load Q, K; Q.K^T and softmax of tile g  |  load V; P.V of tile g-1

so that the mesh works on other tiles while the drain normalizes one. K and V stream through one ring
of chunks of keys, in the order in which the mesh uses them; with `hold`, a head's K and V are loaded
once and stay for all its query tiles, and those of all heads that share it. Heads of one token that
share K and V are rows of one tile.
"""

from dataclasses import dataclass, replace
from typing import Any

from codesign.compiler.kernels.blocks import ceil_div, mvin, plane_bytes
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.numbers import PLAIN, Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, MAX_TOKENS
from codesign.hw.machine.program import (
    Affine,
    Body,
    Cases,
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

Q_SLOTS = P_SLOTS = 2


@dataclass(frozen=True)
class AttentionProblem(Problem):
    """heads x (queries x d) . (keys x d)^T; heads counts the batch. `bias`: a matrix per head is
    added to the scores; `mask_rows`: parameter rows of masks; `shared` heads after one another have
    one K and V. That Q, K and V may be column ranges of one matrix only moves addresses.
    """

    heads: int
    queries: int
    keys: int
    head_dim: int
    bias: bool = False
    mask_rows: int = 0
    shared: int = 1

    @property
    def stacked(self) -> bool:
        """Whether the heads of a token that share K and V are rows of one: each sees every key."""
        return self.shared > 1 and self.queries == 1 and not self.bias

    @property
    def in_rows(self) -> "AttentionProblem":
        """The same as its kernel computes it, rows of one head where they are `stacked`."""
        if not self.stacked:
            return self
        return replace(self, heads=self.heads // self.shared, queries=self.shared, shared=1)


@dataclass(frozen=True)
class AttentionMapping:
    """Query rows per tile, key blocks per chunk, chunks in the ring, score tiles held."""

    tile_m: Any  # rows
    chunk: Any  # blocks of dim keys
    ring: Any  # chunks
    held: Any  # score and output tiles in the accumulator
    hold: bool = False


@dataclass(frozen=True)
class AttentionAddresses:
    """DRAM byte addresses of the operands."""

    q: int = 0
    k: int = 0
    v: int = 0
    out: int = 0
    bias: int = 0
    mask: int = 0


class AttentionShape:
    """Tile counts, ragged edges and memory layout of a problem under a mapping."""

    def __init__(
        self, problem: AttentionProblem, mapping: AttentionMapping, config: HardwareConfig
    ) -> None:
        p, m, dim = problem.in_rows, mapping, config.dim
        self.feasible: Any = True
        self.d_blocks, self.key_blocks = ceil_div(p.head_dim, dim), ceil_div(p.keys, dim)
        self.d_rest = p.head_dim - (self.d_blocks - 1) * dim
        self.key_rest = p.keys - (self.key_blocks - 1) * dim
        self.tiles = ceil_div(p.queries, m.tile_m)
        self.m_last = p.queries - (self.tiles - 1) * m.tile_m
        self.chunks = ceil_div(self.key_blocks, m.chunk)
        self.chunk_last = self.key_blocks - (self.chunks - 1) * m.chunk
        self.chunk_keys_last = p.keys - (self.chunks - 1) * m.chunk * dim
        self._scratchpad(m, config)
        self._accumulator(m, config)
        live = 2 * self.chunks if m.hold else 2
        several = (self.tiles * p.shared > 1) if m.hold else True
        self.feasible = self.feasible & (m.ring >= live) & (m.ring <= MAX_TOKENS) & several
        self.feasible = self.feasible & (p.mask_rows * dim <= config.parameter_channels)

    def _scratchpad(self, m: AttentionMapping, config: HardwareConfig) -> None:
        """Q, P and the ring take whole banks each: their reads and writes never share one."""
        bank = config.scratchpad_bank_rows
        self.q_slot, self.p_slot = m.tile_m * self.d_blocks, m.tile_m * self.key_blocks
        self.chunk_slot = m.chunk * config.dim * self.d_blocks
        q_banks = ceil_div(Q_SLOTS * self.q_slot, bank)
        p_banks = ceil_div(P_SLOTS * self.p_slot, bank)
        self.p_base = q_banks * bank
        self.ring_base = (q_banks + p_banks) * bank
        used = q_banks + p_banks + ceil_div(m.ring * self.chunk_slot, bank)
        self.feasible = self.feasible & (used <= config.scratchpad_banks)

    def _accumulator(self, m: AttentionMapping, config: HardwareConfig) -> None:
        """Every score and output tile has banks of its own: the drain reads one, the mesh another."""
        bank = config.accumulator_bank_rows
        self.score_region = ceil_div(m.tile_m * self.key_blocks, bank) * bank
        self.out_region = ceil_div(m.tile_m * self.d_blocks, bank) * bank
        self.out_base = m.held * self.score_region
        used = m.held * (self.score_region + self.out_region)
        self.feasible = self.feasible & (used <= config.accumulator_rows)


def attention_kernel(
    problem: AttentionProblem,
    mapping: AttentionMapping,
    config: HardwareConfig,
    addresses: AttentionAddresses | None = None,
    scores: Numbers = PLAIN,
    outputs: Numbers = PLAIN,
) -> Body:
    """The kernel's body. The mapping must be feasible (`AttentionShape.feasible`).

    `scores` are the numbers of the softmax, `outputs` those of P.V.
    """
    at = addresses or AttentionAddresses()
    return _AttentionWriter(problem, mapping, config, at, scores, outputs).body()


class _AttentionWriter:
    """Writes the instructions of one attention kernel."""

    def __init__(
        self,
        problem: AttentionProblem,
        mapping: AttentionMapping,
        config: HardwareConfig,
        addresses: AttentionAddresses,
        scores: Numbers,
        outputs: Numbers,
    ) -> None:
        self.p, self.map, self.config, self.at = problem.in_rows, mapping, config, addresses
        if problem.stacked:
            scores = replace(scores, causal=False)  # the one query is behind all keys
        self.score_numbers, self.output_numbers = scores, outputs
        self.s, self.dim = AttentionShape(problem, mapping, config), config.dim
        grouped, tiles = self.p.shared > 1, self.s.tiles
        self.tile_steps: dict[str, Any] = {"h": self.p.shared * tiles, "i": 1}
        self.tile_steps |= {"g": tiles} if grouped else {}
        self.of_head = ("g", "i") if grouped else ("i",)  # loops over tiles with one K and V
        # With `hold` a chunk is loaded for the first tile of a head and freed after the last.
        self.load_when: Guards = first(*self.of_head) if mapping.hold else ()
        self.free_when: Guards = last(*self.of_head) if mapping.hold else ()
        self.rows = Cases(mapping.tile_m, ((("i",), self.s.m_last),))
        # Rows of Q and the output, which are loaded and drained as blocks where they are heads.
        self.tile: dict[str, Value] = {"rows": self.rows, "blocks": self.s.d_blocks}
        self.stride, self.block = Affine(mapping.tile_m), dict[str, Any]()
        if problem.stacked:
            self.tile = {"rows": 1, "blocks": self.rows}
            self.stride, self.block = Affine(1), {"k": mapping.tile_m}
        self.key_blocks_of_chunk = Cases(mapping.chunk, ((("j",), self.s.chunk_last),))

    def body(self) -> Body:
        p, s = self.p, self.s
        # Scores and outputs leave in the order in which the mesh starts them, but for the first
        # tile, which has no P.V before it: hence one credit less than there are tiles.
        drained = Token("drained", count=self.map.held if p.bias else 2 * self.map.held - 1)
        chunks = Token("consumed", count=self.map.ring)
        queries = Token("finished", count=Q_SLOTS)
        bias = (Token("emptied", count=self.map.held),) if p.bias else ()
        group = (("g", p.shared),) if p.shared > 1 else ()
        loops = (("h", p.heads // p.shared), *group, ("i", s.tiles))
        stages = (self._scores(), self._outputs())
        return (
            Instruction("execute_sync", signals=(chunks, queries)),
            Instruction("drain_sync", signals=(drained, *bias)),
            *(self._load_mask() if p.mask_rows else ()),
            Pipeline(loops, stages),
            Instruction("load_sync", waits=(chunks, queries, *bias)),
            Instruction("execute_sync", waits=(drained,)),
        )

    # -- Loads -----------------------------------------------------------------------------------

    def _load_mask(self) -> Body:
        nowhere = {name: Affine(0) for name in ("dram_stride", "local", "stride")}
        values = {"rows": self.p.mask_rows, "blocks": 1}
        return (mvin("parameters", values, {"dram": Affine(self.at.mask), **nowhere}),)

    def _load_query(self) -> Body:
        """Q of a tile, and the bias under its scores; the last of them signals."""
        query = mvin(
            "scratchpad",
            self.tile,
            {
                **self._tile_dram(self.at.q),
                "local": self._q_local(self.block),
                "stride": self.stride,
            },
            waits=(Token("finished", first(*self.block)),),
            signals=() if self.p.bias else (Token("loaded", last(*self.block)),),
        )
        return (*self._blocks(query), *((self._load_bias(),) if self.p.bias else ()))

    def _load_bias(self) -> Instruction:
        s, plane = self.s, plane_bytes(self.p.queries, self.config)
        return mvin(
            "accumulator",
            {"rows": self.rows, "blocks": s.key_blocks},
            {
                "dram": self._rows_dram(self.at.bias, s.key_blocks),
                "dram_stride": Affine(plane),
                "local": self._score_tile({}),
                "stride": Affine(self.map.tile_m),
                "scale": Affine(self.score_numbers.scales[0]),
            },
            waits=(Token("emptied"),),
            signals=(Token("loaded"),),
        )

    def _load_chunk(self, base: int, local: Affine) -> Instruction:
        """A chunk of keys of K or V: rows are keys, blocks are columns of the head."""
        s, plane = self.s, plane_bytes(self.p.keys, self.config)
        keys = self.map.chunk * self.dim
        strides = {"h": s.d_blocks * plane, "j": keys * self.dim}
        return mvin(
            "scratchpad",
            {"rows": Cases(keys, ((("j",), s.chunk_keys_last),)), "blocks": s.d_blocks},
            {
                "dram": Affine(base, strides),
                "dram_stride": Affine(plane),
                "local": local,
                "stride": Affine(keys),
            },
            when=self.load_when,
            waits=(Token("consumed"),),
            signals=(Token("loaded"),),
        )

    # -- Q.K^T and softmax -------------------------------------------------------------------------

    def _scores(self) -> Body:
        s, dim = self.s, self.dim
        keys = self.map.chunk * dim
        width = Cases(dim, ((("j", "n"), s.key_rest),))
        chunk = self._chunk_local(scores=True)
        preload = Instruction(
            "preload",
            {"rows": width},
            {"local": self._within(chunk, {"k": keys, "n": dim})},
            flags={"transposed": ()},
            waits=(
                Token("loaded", first("j", "k", "n")),  # the tile's Q
                Token("loaded", (*first("k", "n"), *self.load_when)),  # the chunk
            ),
        )
        compute = Instruction(
            "compute",
            {"rows": self.rows, "depth": Cases(dim, ((("k",), s.d_rest),)), "width": width},
            {
                "local": self._q_local({"k": self.map.tile_m}),
                "accumulator": self._score_tile({"j": self.map.chunk * self.map.tile_m, "n": 1}),
            },
            flags={} if self.p.bias else {"overwrite": first("k")},
            waits=() if self.p.bias else (Token("drained", first("j", "k", "n")),),
            signals=(
                Token("consumed", (*last("k", "n"), *self.free_when)),
                Token("finished", last("j", "k", "n")),
                Token("computed", last("j", "k", "n")),
            ),
        )
        blocks = Loop("n", self.key_blocks_of_chunk, (preload, compute))
        load = self._load_chunk(self.at.k, chunk)
        sweep = Loop("j", s.chunks, (load, Loop("k", s.d_blocks, (blocks,))))
        return (*self._load_query(), sweep, self._softmax())

    def _softmax(self) -> Instruction:
        freed = Token("emptied" if self.p.bias else "drained")
        fields = self.score_numbers.fields(
            "softmax",
            self.p.queries,
            self.p.keys,
            {"i": self.map.tile_m},
            scaled=self.p.mask_rows > 0,
        )
        return Instruction(
            "mvout",
            {
                "rows": self.rows,
                "blocks": self.s.key_blocks,
                "function": FUNCTIONS.index("softmax"),
                "destination": DESTINATIONS.index("scratchpad"),
            },
            {
                "accumulator": self._score_tile({}),
                "stride": Affine(self.map.tile_m),
                "local": self._p_local({}),
                "local_stride": Affine(self.map.tile_m),
                "parameters": Affine(0),
                **fields.addresses,
            },
            flags=fields.flags,
            waits=(Token("computed"),),
            signals=(freed, Token("stored")),
        )

    # -- P.V -----------------------------------------------------------------------------------------

    def _outputs(self) -> Body:
        s, dim = self.s, self.dim
        keys = self.map.chunk * dim
        depth = Cases(dim, ((("j", "k"), s.key_rest),))
        chunk = self._chunk_local(scores=False)
        preload = Instruction(
            "preload",
            {"rows": depth},
            {"local": self._within(chunk, {"n": keys, "k": dim})},
            waits=(Token("loaded", (*first("k", "n"), *self.load_when)),),
        )
        compute = Instruction(
            "compute",
            {"rows": self.rows, "depth": depth, "width": Cases(dim, ((("n",), s.d_rest),))},
            {
                "local": self._p_local(
                    {"j": self.map.chunk * self.map.tile_m, "k": self.map.tile_m}
                ),
                "accumulator": self._out_tile({"n": self.map.tile_m}),
            },
            flags={"overwrite": first("j", "k")},
            waits=(
                Token("stored", first("j", "k", "n")),
                Token("drained", first("j", "k", "n")),
            ),
            signals=(
                Token("consumed", (*last("k", "n"), *self.free_when)),
                Token("computed", last("j", "k", "n")),
            ),
        )
        blocks = Loop("n", s.d_blocks, (preload, compute))
        load = self._load_chunk(self.at.v, chunk)
        sweep = Loop("j", s.chunks, (load, Loop("k", self.key_blocks_of_chunk, (blocks,))))
        return (sweep, *self._drain_outputs())

    def _drain_outputs(self) -> Body:
        drain = Instruction(
            "mvout",
            {
                **self.tile,
                "function": FUNCTIONS.index("copy"),
                "destination": DESTINATIONS.index("dram"),
            },
            {
                "accumulator": self._out_tile(self.block),
                "stride": self.stride,
                **self._tile_dram(self.at.out),
                **self.output_numbers.fields("copy", 0, 0, {}).addresses,
            },
            waits=(Token("computed", first(*self.block)),),
            signals=(Token("drained", last(*self.block)),),
        )
        return self._blocks(drain)

    # -- Tiles -----------------------------------------------------------------------------------------

    def _blocks(self, moved: Instruction) -> Body:
        """What moves a tile; where its rows are heads, a block of all of them at a time."""
        return (Loop("k", self.s.d_blocks, (moved,)),) if self.block else (moved,)

    def _tile_dram(self, base: int) -> dict[str, Affine]:
        """Where a tile's rows lie in Q or the output."""
        plane = plane_bytes(1 if self.block else self.p.queries, self.config)
        if not self.block:
            return {"dram": self._rows_dram(base, self.s.d_blocks), "dram_stride": Affine(plane)}
        head = self.s.d_blocks * plane
        strides = {"h": self.p.queries * head, "i": self.map.tile_m * head, "k": plane}
        return {"dram": Affine(base, strides), "dram_stride": Affine(head)}

    def _rows_dram(self, base: int, blocks: Any) -> Affine:
        """Where a tile's rows lie in a matrix a head, so many blocks wide."""
        head = blocks * plane_bytes(self.p.queries, self.config)
        strides = {"h": self.p.shared * head, "i": self.map.tile_m * self.dim}
        strides |= {"g": head} if self.p.shared > 1 else {}
        return Affine(base, strides)

    # -- Local memories --------------------------------------------------------------------------------

    def _within(self, slot: Affine, strides: dict[str, Any]) -> Affine:
        return Affine(slot.base, strides, slot.ring)

    def _q_local(self, strides: dict[str, Any]) -> Affine:
        return Affine(0, strides, Ring(Q_SLOTS, self.s.q_slot, self.tile_steps))

    def _p_local(self, strides: dict[str, Any]) -> Affine:
        return Affine(self.s.p_base, strides, Ring(P_SLOTS, self.s.p_slot, self.tile_steps))

    def _score_tile(self, strides: dict[str, Any]) -> Affine:
        scaled = {loop: self.map.tile_m if loop == "n" else step for loop, step in strides.items()}
        ring = Ring(self.map.held, self.s.score_region, self.tile_steps)
        return Affine(0, scaled, ring)

    def _out_tile(self, strides: dict[str, Any]) -> Affine:
        ring = Ring(self.map.held, self.s.out_region, self.tile_steps)
        return Affine(self.s.out_base, strides, ring)

    def _chunk_local(self, *, scores: bool) -> Affine:
        """Where a chunk of K (`scores`) or V lies: turns of the ring in the order of use.

        The order is K0 K1 V0 K2 V1 ... K(T-1) V(T-2) V(T-1), with `chunks` turns each; with `hold`
        it is K and V of head after head.
        """
        s = self.s
        turns = 2 * s.chunks
        if self.map.hold:
            offset = 0 if scores else s.chunks
            ring = Ring(self.map.ring, s.chunk_slot, {"h": turns, "j": 1}, offset)
            return Affine(s.ring_base, {}, ring)
        steps = {loop: step * turns for loop, step in self.tile_steps.items()}
        # K of tile u comes after V of tile u-2, V of tile u after K of tile u+1.
        offset, jump = (-s.chunks, s.chunks) if scores else (turns, -s.chunks)
        ends = first("h", *self.of_head) if scores else last("h", *self.of_head)
        return Affine(
            s.ring_base,
            {},
            Ring(self.map.ring, s.chunk_slot, {**steps, "j": 1}, offset, jump=jump, jump_when=ends),
        )
