"""The matmul kernel: C[b, m, n] = f(A[b, m, k] @ B + bias) as a pipeline of loads and computes.

Tensors lie in DRAM in the blocked layout [columns / dim][rows][dim], so that every transfer is long.
One output tile (tile_m rows x tile_n blocks) stays in the accumulator while K passes by in chunks:

    for b, tiles (order "mn": n inner, "nm": m inner), chunk c of K:
        loads of A and B chunk          <- runs one chunk ahead
        for kb in chunk, for group q, for block j: preload, compute; drain q after the last kb

Chunks rotate through two buffers. The operand that the inner tile loop reuses may keep its first
`resident` chunks in the scratchpad. There is no second accumulator: groups drain one by one while the
last k-block sweeps over the tile, and the next tile overwrites them behind the drain (a wavefront).
Row functions (softmax, LayerNorm) need whole rows: their tile is one group, double-buffered.
Where the epilogue takes two products, a chunk of B is that of one behind that of the other, and so are
the sums of a group: for block j, operand g: preload, compute.

Every number of a problem or mapping may be an array: then the kernel is a batch (see hw.program).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import mvin, plane_bytes
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem, MatmulShape
from codesign.compiler.kernels.numbers import PLAIN, Fields, Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, PARAMETER_BYTES
from codesign.hw.machine.program import (
    NO_UPPER_BOUND,
    Affine,
    Body,
    Cases,
    Guard,
    Guards,
    Instruction,
    Int,
    Loop,
    Pipeline,
    Ring,
    Token,
    first,
    last,
)

DIM_LOOPS = {"mn": ("tm", "tn"), "nm": ("tn", "tm")}


@dataclass(frozen=True)
class MatmulAddresses:
    """DRAM byte addresses of the operands; `a_rows` of the matrix that A is part of, 0: all of it."""

    a: int = 0
    b: int = 0
    c: int = 0
    parameters: int = 0
    residual: int = 0
    a_rows: int = 0


def matmul_kernel(
    problem: MatmulProblem,
    mapping: MatmulMapping,
    config: HardwareConfig,
    addresses: MatmulAddresses | None = None,
    numbers: Numbers = PLAIN,
) -> Body:
    """The kernel's body. The mapping must be feasible (`MatmulShape.feasible`)."""
    return _MatmulWriter(problem, mapping, config, addresses or MatmulAddresses(), numbers).body()


class _MatmulWriter:
    """Writes the instructions of one matmul kernel."""

    def __init__(
        self,
        problem: MatmulProblem,
        mapping: MatmulMapping,
        config: HardwareConfig,
        addresses: MatmulAddresses,
        numbers: Numbers,
    ) -> None:
        self.p, self.map, self.config, self.at = problem, mapping, config, addresses
        self.numbers = numbers
        self.s = MatmulShape(problem, mapping, config)
        self.dim = config.dim
        # Loops over what a group computes.
        self.blocks = ("j", "g") if problem.taken > 1 else ("j",)
        self.outer, self.inner = DIM_LOOPS[mapping.order]
        s = self.s
        inner_count = s.tiles_n if self.inner == "tn" else s.tiles_m
        self.tile_steps: dict[str, Int] = {
            "b": s.tiles_m * s.tiles_n,
            self.outer: inner_count,
            self.inner: 1,
        }
        # Parameters change with the n tile; with a single one they are loaded once.
        reload = np.where(s.tiles_n > 1, NO_UPPER_BOUND, 1)
        if mapping.order == "nm":
            reload = np.ones_like(reload)
        self.parameter_loads: Guards = (Guard("tm", hi=reload), Guard("c", hi=1))
        self.parameter_ends: Guards = (Guard("tm", hi=reload, from_end=True),)

    def body(self) -> Body:
        counts = {"tm": self.s.tiles_m, "tn": self.s.tiles_n}
        loops = (
            ("b", self.p.batch),
            (self.outer, counts[self.outer]),
            (self.inner, counts[self.inner]),
            ("c", self.s.chunks),
        )
        prologue = (
            Instruction(
                "execute_sync", signals=(Token("consumed", count=self.s.scratchpad.slots),)
            ),
            Instruction("drain_sync", signals=self._credits()),
        )
        epilogue = (
            Instruction("load_sync", waits=self._load_debts()),
            Instruction("execute_sync", waits=self._execute_debts()),
        )
        return (*prologue, Pipeline(loops, (self._loads(), self._computes())), *epilogue)

    # -- Tokens lent before the first tile and collected after the last -------------------------

    def _credits(self) -> tuple[Token, ...]:
        credits = [] if self.p.residual else [Token("drained", count=self.s.accumulator.credits)]
        emptied = self._emptied_credits()
        return (*credits, *emptied)

    def _emptied_credits(self) -> tuple[Token, ...]:
        if self.p.residual:
            return (Token("emptied", count=self.s.accumulator.credits),)
        if self.p.parameter_sets:
            return (Token("emptied", count=self.s.parameter_slots),)
        return ()

    def _load_debts(self) -> tuple[Token, ...]:
        return (Token("consumed", count=self.s.scratchpad.slots), *self._emptied_credits())

    def _execute_debts(self) -> tuple[Token, ...]:
        return () if self.p.residual else (Token("drained", count=self.s.accumulator.credits),)

    # -- Stage 0: loads --------------------------------------------------------------------------

    def _loads(self) -> Body:
        reused, streamed = (self._load_a, self._load_b)
        if self.map.order == "nm":
            reused, streamed = streamed, reused
        held = (Guard("c", hi=self.map.resident), *first(self.inner))
        flowing = (Guard("c", lo=self.map.resident),)
        chunk_free = (Token("consumed"),)
        loads: list[Instruction] = [Instruction("load_sync", waits=chunk_free)]
        if self.p.residual:
            loads.append(self._load_residual())
        if self.p.parameter_sets:
            loads.append(self._load_parameters())
        loads += [*reused(held, ()), *reused(flowing, ()), *streamed((), (Token("loaded"),))]
        return tuple(loads)

    def _load_a(self, when: Guards, signals: tuple[Token, ...]) -> list[Instruction]:
        s, plane = self.s, plane_bytes(self.at.a_rows or self.p.m, self.config)
        values = {
            "rows": Cases(self.map.tile_m, ((("tm",), s.m_last),)),
            "blocks": Cases(self.map.chunk_k, ((("c",), s.chunk_last),)),
        }
        strides = {
            "b": s.k_blocks * plane,
            "tm": self.map.tile_m * self.dim,
            "c": self.map.chunk_k * plane,
        }
        addresses = {
            "dram": Affine(self.at.a, strides),
            "dram_stride": Affine(plane),
            "local": self._a_local({}),
            "stride": Affine(self.map.tile_m),
        }
        return [mvin("scratchpad", values, addresses, when=when, signals=signals)]

    def _load_b(self, when: Guards, signals: tuple[Token, ...]) -> list[Instruction]:
        s, dim = self.s, self.dim
        if self.p.transposed_b:
            plane = plane_bytes(self.p.n, self.config)
            keys = self.map.tile_n * dim
            values = {
                "rows": Cases(keys, ((("tn",), self.p.n - (s.tiles_n - 1) * keys),)),
                "blocks": Cases(self.map.chunk_k, ((("c",), s.chunk_last),)),
            }
            strides = {"b": s.k_blocks * plane, "tn": keys * dim, "c": self.map.chunk_k * plane}
            stride = keys
        else:
            plane = plane_bytes(self.p.k, self.config)
            chunk = self.map.chunk_k * dim
            values = {
                "rows": Cases(chunk, ((("c",), self.p.k - (s.chunks - 1) * chunk),)),
                "blocks": Cases(self.map.tile_n, ((("tn",), s.n_last),)),
            }
            strides = {
                "b": s.n_blocks * self.p.taken * plane,
                "tn": self.map.tile_n * plane,
                "c": chunk * dim,
            }
            stride = chunk
        loads = []
        for product in range(self.p.taken):
            addresses = {
                "dram": Affine(self.at.b + product * s.n_blocks * plane, strides),
                "dram_stride": Affine(plane),
                "local": self._b_local({}, product * self.map.tile_n * stride),
                "stride": Affine(stride),
            }
            done = signals if product == self.p.taken - 1 else ()
            loads.append(mvin("scratchpad", values, addresses, when=when, signals=done))
        return loads

    def _load_parameters(self) -> Instruction:
        """Parameters of a tile's channels, in one of two slots that alternate over n tiles."""
        s, sets = self.s, self.p.parameter_sets
        rows = Cases(self.map.tile_n * sets, ((("tn",), s.n_last * sets),))
        pitch = self.map.tile_n * sets
        waits = () if self.p.residual else (Token("emptied"),)
        return mvin(
            "parameters",
            {"rows": rows, "blocks": 1},
            {
                "dram": Affine(
                    self.at.parameters,
                    {
                        "b": s.n_blocks * sets * self.dim * PARAMETER_BYTES,
                        "tn": pitch * self.dim * PARAMETER_BYTES,
                    },
                ),
                "dram_stride": Affine(0),
                "local": Affine(0, ring=self._parameter_ring(pitch)),
                "stride": Affine(0),
            },
            when=self.parameter_loads,
            waits=waits,
            signals=(Token("filled"),),
        )

    def _parameter_ring(self, pitch: Any) -> Ring:
        """Two slots take turns from one load of parameters to the next."""
        s = self.s
        steps: dict[str, Int] = {"b": s.tiles_n, "tn": 1}
        if self.map.order == "mn":
            several = s.tiles_n > 1
            steps = {loop: np.where(several, step, 0) for loop, step in self.tile_steps.items()}
            steps["b"] = np.where(several, self.tile_steps["b"], 1)
        return Ring(s.parameter_slots, pitch, steps)

    def _load_residual(self) -> Instruction:
        plane = plane_bytes(self.p.m, self.config)
        return mvin(
            "accumulator",
            {
                "rows": Cases(self.map.tile_m, ((("tm",), self.s.m_last),)),
                "blocks": Cases(self.map.tile_n, ((("tn",), self.s.n_last),)),
            },
            {
                "dram": Affine(
                    self.at.residual,
                    {"tm": self.map.tile_m * self.dim, "tn": self.map.tile_n * plane},
                ),
                "dram_stride": Affine(plane),
                "local": self._accumulator({}),
                "stride": Affine(self.map.tile_m),
                "scale": Affine(self.numbers.scales[0]),
            },
            when=first("c"),
            waits=(Token("emptied"),),
        )

    # -- Stage 1: computes and drains -------------------------------------------------------------

    def _computes(self) -> Body:
        s, dim = self.s, self.dim
        depth = Cases(dim, ((("c", "kb"), s.k_rest),))
        width = Cases(dim, ((("tn", "q", "j"), s.n_rest),))
        preload = Instruction(
            "preload",
            {"rows": width if self.p.transposed_b else depth},
            {"local": self._b_local(self._b_strides())},
            flags={"transposed": ()} if self.p.transposed_b else {},
            waits=(Token("loaded", first("kb", "q", *self.blocks)),),
        )
        compute = Instruction(
            "compute",
            {
                "rows": Cases(self.map.tile_m, ((("tm",), s.m_last),)),
                "depth": depth,
                "width": width,
            },
            {
                "local": self._a_local({"kb": self.map.tile_m}),
                "accumulator": self._accumulator(
                    {"j": self.map.tile_m, "g": s.accumulator.group_rows}
                ),
            },
            flags={} if self.p.residual else {"overwrite": first("c", "kb")},
            waits=self._slot_free(),
            signals=(
                Token("consumed", last("kb", "q", *self.blocks)),
                Token("computed", last("c", "kb", *self.blocks)),
            ),
        )
        pair: Body = (preload, compute)
        if self.p.taken > 1:
            pair = (Loop("g", self.p.taken, pair),)
        blocks = Loop("j", self._group_width(), pair)
        groups = Loop("q", self.map.groups, (blocks, self._drain()))
        chunk = Cases(self.map.chunk_k, ((("c",), s.chunk_last),))
        return (Loop("kb", chunk, (groups,)),)

    def _group_width(self) -> Cases:
        s = self.s
        g = s.groups
        return Cases(g.width, ((("tn", "q"), g.width_last), (("q",), g.width_tail)))

    def _slot_free(self) -> tuple[Token, ...]:
        """Waits for drains, so that no result is overwritten and no bank read twice at once.

        The last sweep over K may not run more than `window` groups ahead of the drain, since
        groups `window` apart share a bank; the first sweep of the next tile waits for the rest.
        """
        if self.p.residual:
            return ()
        if self.p.whole_tiles:
            return (Token("drained", first("c", "kb", "j")),)
        s = self.s
        lag = np.where(s.k_blocks > 1, s.accumulator.window, NO_UPPER_BOUND)
        begin = (*first("c", "kb", *self.blocks), Guard("q", hi=lag, from_end=True))
        end = (*last("c", "kb"), *first(*self.blocks), Guard("q", lo=lag))
        return (Token("drained", begin), Token("drained", end))

    def _drain(self) -> Instruction:
        p, s, plane = self.p, self.s, plane_bytes(self.p.m, self.config)
        word = 4 if p.destination == "dram_int32" else 1
        signals: tuple[Token, ...] = (Token("emptied" if p.residual else "drained"),)
        waits: tuple[Token, ...] = (Token("computed"),)
        if p.parameter_sets:
            waits += (Token("filled", (*self.parameter_loads[:1], *first("q"))),)
            if not p.residual:
                signals += (Token("emptied", (*self.parameter_ends, *last("q"))),)
        numbers = self._numbers()
        behind = s.accumulator.group_rows
        second = {"second": self._accumulator({}, behind)} if p.taken > 1 else {}
        return Instruction(
            "mvout",
            {
                "rows": Cases(self.map.tile_m, ((("tm",), s.m_last),)),
                "blocks": self._group_width(),
                "function": FUNCTIONS.index(p.function),
                "destination": DESTINATIONS.index(p.destination),
            },
            {
                "accumulator": self._accumulator({}),
                **second,
                "stride": Affine(self.map.tile_m),
                "dram": Affine(
                    self.at.c,
                    {
                        "b": s.n_blocks * plane * word,
                        "tm": self.map.tile_m * self.dim * word,
                        "tn": self.map.tile_n * plane * word,
                        "q": s.groups.width * plane * word,
                    },
                ),
                "dram_stride": Affine(plane * word),
                "parameters": Affine(
                    0,
                    {"q": s.groups.width * p.parameter_sets},
                    self._parameter_ring(self.map.tile_n * p.parameter_sets),
                ),
                **numbers.addresses,
            },
            flags=numbers.flags,
            when=last("c", "kb"),
            waits=waits,
            signals=signals,
        )

    def _numbers(self) -> Fields:
        p = self.p
        if p.destination == "dram_int32":
            return Fields({}, {})
        row = {"tm": self.map.tile_m}
        return self.numbers.fields(p.function, p.m, p.n, row, scaled=p.parameters, affine=p.affine)

    # -- Local memories ----------------------------------------------------------------------------

    def _chunk_ring(self, slot: Any, *, reused: bool) -> Ring:
        """Buffers of one operand's chunks: resident ones first, then the rotating ones."""
        if not reused:
            steps = {loop: step * self.s.chunks for loop, step in self.tile_steps.items()}
            return Ring(self.s.scratchpad.slots, slot, {**steps, "c": 1})
        held = self.map.resident
        flowing = self.s.chunks - held
        steps = {loop: step * flowing for loop, step in self.tile_steps.items()}
        return Ring(self.s.scratchpad.slots, slot, {**steps, "c": 1}, -held, held, "c")

    def _a_local(self, strides: dict[str, Any]) -> Affine:
        ring = self._chunk_ring(self.s.scratchpad.a_slot, reused=self.map.order == "mn")
        return Affine(0, strides, ring)

    def _b_local(self, strides: dict[str, Any], behind: Any = 0) -> Affine:
        base = self.s.scratchpad.a_banks * self.config.scratchpad_bank_rows + behind
        ring = self._chunk_ring(self.s.scratchpad.b_slot, reused=self.map.order == "nm")
        return Affine(base, strides, ring)

    def _b_strides(self) -> dict[str, Any]:
        dim = self.dim
        if self.p.transposed_b:
            return {"kb": self.map.tile_n * dim, "q": self.s.groups.width * dim, "j": dim}
        chunk = self.map.chunk_k * dim
        strides = {"kb": dim, "q": self.s.groups.width * chunk, "j": chunk}
        return strides | {"g": self.map.tile_n * chunk} if self.p.taken > 1 else strides

    def _accumulator(self, strides: dict[str, Any], behind: Any = 0) -> Affine:
        """Group q lies in bank region q mod window; row functions alternate tiles."""
        layout = self.s.accumulator
        strides = {loop: step for loop, step in strides.items() if loop in self.blocks}
        if self.p.whole_tiles:
            ring = Ring(layout.held, layout.region, self.tile_steps)
            return Affine(behind, strides, ring)
        step = layout.pitch // layout.window
        ring = Ring(layout.window, layout.region - step, {"q": 1})
        return Affine(behind, {**strides, "q": step}, ring)
