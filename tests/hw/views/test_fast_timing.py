"""The compiled evaluator equals the recurrence of `timing.py`: cycles, every event, every step.

Kernels are random in structure (nested loops and pipelines, ragged cases, guards from both ends,
tokens) and random matmul mappings; machines are random too.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from machine_model import machines, matmul_problems

from codesign.compiler.kernels.matmul_shape import MatmulShape
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.machine.functions import DRAIN_FUNCTIONS
from codesign.hw.machine.isa import CHANNELS, OPERATION, ROW_FUNCTIONS, UNITS
from codesign.hw.machine.program import (
    NO_UPPER_BOUND,
    Body,
    Cases,
    Guard,
    Guards,
    Instruction,
    Loop,
    Node,
    Pipeline,
    Token,
    first,
    last,
    take,
    unroll,
)
from codesign.hw.views import fast_timing, timing
from codesign.hw.views.evaluator_tables import MAX_LOOPS

BUDGET = 1200  # iterations of the innermost loops of a random kernel


def assert_equals_reference(body: Body, config: HardwareConfig) -> None:
    """Same cycles, events and steps; or the same complaint about the same instruction."""
    try:
        expected = timing.evaluate_unrolled(body, config, trace=True)
    except ProgramError as error:
        site = str(error).split(" at site ")[1].split()[0]
        with pytest.raises(ProgramError, match=rf" at site {site} "):
            fast_timing.time_kernel(body, config)
        return
    got = fast_timing.time_kernel(body, config)
    assert got.cycles == expected.cycles
    differing = np.flatnonzero(got.events != expected.events)
    assert not differing.size, [(EVENTS[i], got.events[i], expected.events[i]) for i in differing]
    steps = [
        fast_timing.TraceRow(
            s.issued.site, OPERATION[s.issued.op].unit, s.dispatch, s.start, s.free, s.complete
        )
        for s in expected.steps
    ]
    assert fast_timing.trace(body, config, limit=len(steps) + 1) == steps


# -- Random structural kernels ---------------------------------------------------------------------------


@dataclasses.dataclass
class Scope:
    """Loops around a point of a random kernel and how many iterations they may still have."""

    loops: tuple[str, ...] = ()
    budget: int = BUDGET


class KernelMaker:
    """Draws one kernel. Tokens come in pairs that leave a channel as it was, over a lent stock."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names = 0

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, percent: int) -> bool:
        return self.integer(0, 99) < percent

    def name(self) -> str:
        self.names += 1
        return f"l{self.names}"

    def guards(self, scope: Scope, percent: int) -> Guards:
        chosen = [loop for loop in scope.loops if self.chance(percent)][:2]
        return tuple(self.guard(loop) for loop in chosen)

    def guard(self, loop: str) -> Guard:
        low = self.integer(0, 4)
        high = self.draw(st.sampled_from((low, low + 1, low + 2, low + 5, NO_UPPER_BOUND)))
        return Guard(loop, low, high, from_end=self.draw(st.booleans()))

    def value(self, scope: Scope, low: int, high: int) -> Any:
        default = self.integer(low, high)
        if not scope.loops or self.chance(70):
            return default
        loops = st.lists(st.sampled_from(scope.loops), min_size=1, max_size=2, unique=True)
        cases = [
            (tuple(self.draw(loops)), self.integer(low, high)) for _ in range(self.integer(1, 2))
        ]
        return Cases(default, tuple(cases))

    def instruction(self, scope: Scope) -> list[Instruction]:
        kind = self.draw(st.sampled_from(("mvin", "mesh", "compute", "mvout", "sync")))
        when = self.guards(scope, 25)
        rows = self.value(scope, 1, 40)
        match kind:
            case "mvin":
                values = {"rows": rows, "blocks": self.value(scope, 1, 4)}
                values["target"] = self.integer(0, 3)
                flags = {"accumulate": self.guards(scope, 50)} if self.chance(50) else {}
                return [Instruction("mvin", values, flags=flags, when=when)]
            case "mesh" | "compute":
                flags = {"overwrite": self.guards(scope, 50)} if self.chance(50) else {}
                values = {"rows": rows, "depth": self.value(scope, 1, 4), "width": 4}
                compute = Instruction("compute", values, flags=flags, when=when)
                preload = Instruction("preload", {"rows": self.integer(1, 4)}, when=when)
                return [preload, compute] if kind == "mesh" else [compute]
            case "mvout":
                values = {"rows": rows, "blocks": self.value(scope, 1, 4)}
                values |= {
                    "function": self.integer(0, len(DRAIN_FUNCTIONS) - 1),
                    "destination": self.integer(0, 2),
                }
                return [Instruction("mvout", values, when=when)]
        unit = self.draw(st.sampled_from(UNITS))
        return [Instruction(f"{unit}_sync", when=when)]

    def straight(self, scope: Scope) -> list[Node]:
        nodes: list[Node] = []
        for _ in range(self.integer(1, 3)):
            nodes += self.instruction(scope)
        return nodes

    def tokens(self, body: list[Node], scope: Scope) -> list[Node]:
        """Add pairs of a wait and a signal that pass under the same guards."""
        for channel in CHANNELS:
            if not self.chance(35):
                continue
            waiting = self._unguarded(body, channel.target)
            signalling = self._unguarded(body, channel.source)
            if not waiting or not signalling:
                continue
            token = Token(channel.name, self.guards(scope, 40), self.integer(1, 2))
            at = self.draw(st.sampled_from(waiting))
            node: Any = body[at]
            body[at] = dataclasses.replace(node, waits=(*node.waits, token))
            at = self.draw(st.sampled_from(signalling))
            node = body[at]
            body[at] = dataclasses.replace(node, signals=(*node.signals, token))
        return body

    @staticmethod
    def _unguarded(body: list[Node], unit: str) -> list[int]:
        units = {"mvin": "load", "preload": "execute", "compute": "execute", "mvout": "drain"}
        return [
            index
            for index, node in enumerate(body)
            if isinstance(node, Instruction)
            and not node.when
            and units.get(node.op, node.op.removesuffix("_sync")) == unit
        ]

    def body(self, scope: Scope, depth: int) -> Body:
        nodes = self.tokens(self.straight(scope), scope)
        for _ in range(self.integer(0, 2) if depth else 0):
            make = self.loop if self.chance(60) else self.pipeline
            nodes.insert(self.integer(0, len(nodes)), make(scope, depth))
            nodes = _keep_preloads_with_computes(nodes)
        return tuple(nodes)

    def count(self, scope: Scope) -> int:
        most = max(1, min(scope.budget, 60))
        return self.draw(st.one_of(st.integers(1, min(most, 5)), st.integers(1, most)))

    def loop(self, scope: Scope, depth: int) -> Loop:
        name, most = self.name(), self.count(scope)
        count = most if self.chance(60) else self.value(scope, 0, most)
        inside = Scope((*scope.loops, name), scope.budget // most)
        return Loop(name, count, self.body(inside, depth - 1))

    def pipeline(self, scope: Scope, depth: int) -> Pipeline:
        loops, names, budget = [], scope.loops, scope.budget // 2
        for _ in range(self.integer(1, 3)):
            name, count = self.name(), self.count(Scope(budget=budget))
            loops.append((name, count))
            names, budget = (*names, name), budget // count
        inside = Scope(names, budget)
        stages = self.integer(1, 4)
        bodies = [self.straight(inside) for _ in range(stages)]
        # A pair of tokens may span stages: one list for the choice, cut again afterwards.
        sizes = [len(body) for body in bodies]
        flat = self.tokens([node for body in bodies for node in body], inside)
        cut: list[Body] = []
        for size in sizes:
            stage, flat = flat[:size], flat[size:]
            if depth > 1 and self.chance(40):
                stage = [*stage, self.loop(inside, 1)]
            cut.append(tuple(stage))
        return Pipeline(tuple(loops), tuple(cut))


def _keep_preloads_with_computes(nodes: list[Node]) -> list[Node]:
    """Move anything that came between a preload and its compute behind the compute."""
    for at in range(len(nodes) - 2):
        node, after = nodes[at], nodes[at + 1]
        follows = isinstance(after, Instruction) and after.op == "compute"
        if isinstance(node, Instruction) and node.op == "preload" and not follows:
            nodes[at + 1], nodes[at + 2] = nodes[at + 2], nodes[at + 1]
    return nodes


@st.composite
def kernels(draw: st.DrawFn) -> Body:
    maker = KernelMaker(draw)
    stock = [
        Instruction(
            f"{unit}_sync",
            signals=tuple(Token(c.name, count=8) for c in CHANNELS if c.source == unit),
        )
        for unit in UNITS
    ]
    body = (*stock, *maker.body(Scope(), 3))
    if maker.chance(8):  # now and then a token too many or too few
        channel = draw(st.sampled_from(CHANNELS)).name
        stray = (Token(channel, count=draw(st.integers(1, 40))),)
        unit = next(c for c in CHANNELS if c.name == channel)
        extra = (
            Instruction(f"{unit.source}_sync", signals=stray)
            if maker.chance(50)
            else Instruction(f"{unit.target}_sync", waits=stray)
        )
        body = (*body, Loop("stray", draw(st.integers(1, 40)), (extra,)))
        maker.name()
    assume(maker.names <= MAX_LOOPS)
    return body


def test_more_loops_than_fit_are_one_line() -> None:
    config = HardwareConfig(scratchpad_bytes=1 << 16, accumulator_bytes=1 << 16)
    step = (Instruction("load_sync"),)
    loops = [Loop(f"l{number}", 2, step) for number in range(MAX_LOOPS + 1)]
    assert_equals_reference(tuple(loops[1:]), config)
    with pytest.raises(ProgramError, match=rf"has {MAX_LOOPS + 1} loops; at most {MAX_LOOPS} fit"):
        fast_timing.time_kernel(tuple(loops), config)


# Kernels this large shrink for minutes; the long version below does it.
@settings(max_examples=300, phases=[Phase.generate])
@given(kernels(), machines())
def test_random_kernels(body: Body, config: HardwareConfig) -> None:
    assert_equals_reference(body, config)


@pytest.mark.long
@settings(max_examples=10_000)
@given(kernels(), machines())
def test_very_many_random_kernels(body: Body, config: HardwareConfig) -> None:
    assert_equals_reference(body, config)


def test_random_kernels_are_worth_timing() -> None:
    """The strategy makes long loops, all operations and all channels, so that skipping is tried."""
    seen: set[str] = set()
    sizes: list[int] = []

    @settings(max_examples=60)
    @given(kernels())
    def collect(body: Body) -> None:
        issued = list(unroll(body))
        sizes.append(len(issued))
        for one in issued:
            seen.update([one.op, *(channel for channel, _ in one.waits)])

    collect()
    assert max(sizes) > 400
    assert {"mvin", "preload", "compute", "mvout", *(c.name for c in CHANNELS)} <= seen


# -- Random matmuls ------------------------------------------------------------------------------------------

FUNCTIONS = {"elementwise": ("copy", "copy", "relu", "gelu", "silu"), "row": ROW_FUNCTIONS}


@pytest.mark.parametrize("functions", FUNCTIONS)
@settings(max_examples=90)
@given(st.data())
def test_matmul_mappings(functions: str, data: st.DataObject) -> None:
    """Batches price every mapping as it is priced alone; some of each equal the reference."""
    config = data.draw(machines())
    problem = data.draw(matmul_problems(config, FUNCTIONS[functions]))
    for space in matmul_spaces(problem, config):
        if not len(space):
            continue
        shape = MatmulShape(problem, space.mappings, config)
        computes = shape.tiles_m * shape.k_blocks * shape.n_blocks * problem.batch
        chosen = data.draw(st.lists(st.integers(0, len(space) - 1), min_size=8, max_size=40))
        chosen.sort(key=lambda index: int(computes[index]))
        body = space.kernel(np.array(chosen))
        batch = fast_timing.evaluate_batch(body, config)
        for item, index in enumerate(chosen):
            alone = take(body, item)
            single = fast_timing.time_kernel(alone, config)
            assert batch.cycles[item] == single.cycles
            np.testing.assert_array_equal(batch.events[item], single.events)
            if item < 6 and computes[index] <= 80:
                assert_equals_reference(alone, config)


@pytest.mark.long
@settings(max_examples=3000)
@given(st.data())
def test_very_many_matmul_mappings(data: st.DataObject) -> None:
    config = data.draw(machines())
    functions = data.draw(st.sampled_from(sorted(FUNCTIONS)))
    problem = data.draw(matmul_problems(config, FUNCTIONS[functions]))
    for space in matmul_spaces(problem, config):
        if len(space):
            index = data.draw(st.integers(0, len(space) - 1))
            assert_equals_reference(take(space.kernel(np.array([index])), 0), config)


# -- Corners ---------------------------------------------------------------------------------------------------

TINY = HardwareConfig(
    dim=4, scratchpad_bytes=256, scratchpad_banks=2, accumulator_bytes=256, accumulator_banks=2,
    parameter_channels=16, bus_bytes=4,
)  # fmt: skip
COMPUTE = Instruction("compute", {"rows": 3, "depth": 4, "width": 4})
PRELOAD = Instruction("preload", {"rows": 4})


def test_empty_kernel_takes_no_time() -> None:
    assert (
        fast_timing.time_kernel((), TINY).cycles == timing.evaluate_unrolled((), TINY).cycles == 0
    )


def test_loops_that_never_run() -> None:
    body: Body = (Loop("i", 0, (COMPUTE,)), Pipeline((("j", 3), ("k", 0)), ((COMPUTE,),)))
    assert_equals_reference((*body, COMPUTE), TINY)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 1000, 100_000])
def test_skipped_iterations_add_their_events(count: int) -> None:
    """Events of a long loop are exactly `count` times those of its body."""
    got = fast_timing.time_kernel((Loop("i", count, (PRELOAD, COMPUTE)),), TINY)
    assert got.events[EVENT_INDEX["macs"]] == count * 3 * 16
    assert got.events[EVENT_INDEX["instructions"]] == 2 * count
    if count <= 1000:
        assert_equals_reference((Loop("i", count, (PRELOAD, COMPUTE)),), TINY)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("inner", [1, 2, 3, 30])
def test_guards_of_lagging_stages(stages: int, inner: int) -> None:
    """Stages behind the front see changes of guards later; inner loops shorter than the lag too."""
    work = tuple(
        (
            dataclasses.replace(COMPUTE, when=first("i"), values={**COMPUTE.values, "rows": 5 + s}),
            dataclasses.replace(COMPUTE, when=last("j"), values={**COMPUTE.values, "rows": 9 + s}),
            dataclasses.replace(COMPUTE, when=(Guard("i", lo=7, hi=9), Guard("j", hi=1))),
        )
        for s in range(stages)
    )
    assert_equals_reference((Pipeline((("i", 20), ("j", inner)), work),), TINY)


def test_a_pipeline_runs_dry_inside_a_loop() -> None:
    """The last steps of an inner pipeline still see where the loop around it is."""
    mvout = Instruction("mvout", {"rows": 1, "blocks": 1, "function": 0, "destination": 0})
    ragged = Cases(2, ((("i", "j"), 1),))
    late = dataclasses.replace(mvout, values={**mvout.values, "blocks": ragged})
    pipeline = Pipeline(
        (("j", 1),), ((), (), (), (late, Loop("k", 1, (dataclasses.replace(mvout),))))
    )
    assert_equals_reference((Loop("i", 4, (pipeline, mvout)),), TINY)


def test_errors_name_the_instruction() -> None:
    wait = Instruction("drain_sync", waits=(Token("computed"),))
    signal = Instruction("execute_sync", signals=(Token("computed"),))
    for body, what in (
        ((PRELOAD, COMPUTE, wait), "drain_sync at site 2 waits"),
        ((PRELOAD, PRELOAD, COMPUTE), "preload at site 1 overwrites"),
        ((Loop("i", 300, (signal,)),), "execute_sync at site 0 overflows"),
    ):
        for evaluate in (fast_timing.time_kernel, timing.evaluate_unrolled):
            with pytest.raises(ProgramError, match=what):
                evaluate(body, TINY)


def test_a_batch_mixes_structures_of_one_text() -> None:
    """Counts, cases, guards and token counts may all be arrays."""
    count, rows = np.array([1, 7, 50, 3]), np.array([4, 1, 9, 30])
    body: Body = (
        Instruction("drain_sync", signals=(Token("drained", count=np.array([2, 2, 3, 4])),)),
        Loop(
            "i",
            count,
            (
                PRELOAD,
                Instruction(
                    "compute",
                    {
                        "rows": Cases(rows, ((("i",), rows - 1 + (rows == 1)),)),
                        "depth": 4,
                        "width": 4,
                    },
                    flags={"overwrite": (Guard("i", hi=np.array([1, 2, 3, NO_UPPER_BOUND])),)},
                    waits=(Token("drained", (Guard("i", hi=np.array([1, 2, 3, 2])),)),),
                ),
            ),
        ),
    )
    batch = fast_timing.evaluate_batch(body, TINY)
    for item in range(4):
        expected = timing.evaluate_unrolled(take(body, item), TINY)
        assert batch.cycles[item] == expected.cycles
        np.testing.assert_array_equal(batch.events[item], expected.events)


def test_trace_keeps_the_first_rows_only() -> None:
    body: Body = (Loop("i", 50, (PRELOAD, COMPUTE)),)
    assert fast_timing.trace(body, TINY, limit=7) == fast_timing.trace(body, TINY)[:7]
    assert len(fast_timing.trace(body, TINY)) == 100
