"""The recurrence of `timing.py` equals a cycle-by-cycle simulation, and hand-computed cases."""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_model import machines

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.functions import (
    DIVIDE_INTERVAL,
    FUNCTION,
    MAXIMUM_LATENCY,
    STATISTIC_ROWS,
)
from codesign.hw.machine.isa import CHANNELS, DESTINATIONS, FUNCTIONS, TARGETS
from codesign.hw.machine.program import Body, Instruction, Issued, Loop, Token, unroll
from codesign.hw.views import timing
from codesign.hw.views.timing import evaluate_unrolled

CONFIG = HardwareConfig(
    dim=16, bus_bytes=16, dram_latency_cycles=50,
    load_queue_depth=8, execute_queue_depth=16, drain_queue_depth=8,
)  # fmt: skip
LATENCY = 50


# -- A simulation that moves one cycle at a time ---------------------------------------------------------


@dataclass
class Waiting:
    """An instruction in a queue or holding register, and since when."""

    number: int
    issued: Issued
    since: int


@dataclass
class Ticker:
    """The units as a set of registers; every cycle, each does at most one thing.

    It knows durations from `timing` and nothing of the recurrence. Within a cycle the front end
    acts on the queues as the last cycle left them.
    """

    config: HardwareConfig
    program: list[Issued]
    starts: dict[int, int] = field(default_factory=dict)
    end: int = 0

    def __post_init__(self) -> None:
        c = self.config
        self.depth = {"load": c.load_queue_depth, "drain": c.drain_queue_depth}
        self.depth["execute"] = c.execute_queue_depth
        self.queues: dict[str, deque[Waiting]] = {unit: deque() for unit in self.depth}
        self.tokens: dict[str, deque[int]] = {channel.name: deque() for channel in CHANNELS}
        self.busy = {"load": 0, "drain": 0, "stream": 0}
        self.signalled = {(unit, at): -1 for unit in self.depth for at in ("release", "complete")}
        self.port: dict[str, Waiting | None] = {"preload": None, "compute": None}
        self.started = {"preload": -c.dim, "compute": -1}
        self.open: list[int] = []  # preloads and computes taken from the queue, not yet started

    def run(self) -> None:
        fetched, cycle = 0, 0
        while len(self.starts) < len(self.program):
            if fetched < len(self.program):
                issued = self.program[fetched]
                queue = self.queues[unit_of(issued)]
                if len(queue) < self.depth[unit_of(issued)]:
                    queue.append(Waiting(fetched, issued, cycle))
                    fetched += 1
            for unit in ("load", "drain"):
                self.transfer(unit, cycle)
            self.execute(cycle)
            cycle += 1
            assert cycle < 1_000_000, "deadlock"

    def ready(self, waiting: Waiting | None, cycle: int) -> bool:
        """It has been here since an earlier cycle and its tokens have come."""
        if waiting is None or waiting.since >= cycle:
            return False
        return all(
            len(self.tokens[channel]) >= count and self.tokens[channel][count - 1] < cycle
            for channel, count in waiting.issued.waits
        )

    def begin(self, waiting: Waiting, cycle: int, free: int, complete: int) -> None:
        issued = waiting.issued
        for channel, count in issued.waits:
            for _ in range(count):
                self.tokens[channel].popleft()
        unit = unit_of(issued)
        for at, time in (("release", free), ("complete", complete)):
            self.signalled[unit, at] = max(self.signalled[unit, at] + 1, time)
        for name, count in issued.signals:
            at = next(channel.at for channel in CHANNELS if channel.name == name)
            self.tokens[name].extend([self.signalled[unit, at]] * count)
        self.starts[waiting.number] = cycle
        self.end = max(self.end, self.signalled[unit, "complete"] + 1)

    def transfer(self, unit: str, cycle: int) -> None:
        queue = self.queues[unit]
        if not queue or self.busy[unit] > cycle or not self.ready(queue[0], cycle):
            return
        waiting = queue.popleft()
        v, c = waiting.issued.values, self.config
        free = complete = cycle + 1
        if waiting.issued.op == "mvin":
            free = cycle + timing.mvin_cycles(c, v["rows"], v["blocks"], TARGETS[v["target"]])
            complete = free + c.dram_latency_cycles + timing.LOAD_LATENCY
        elif waiting.issued.op == "mvout":
            function, destination = FUNCTIONS[v["function"]], DESTINATIONS[v["destination"]]
            free = cycle + timing.mvout_cycles(c, v["rows"], v["blocks"], function, destination)
            dram = 0 if destination == "scratchpad" else c.dram_latency_cycles
            complete = free + timing.DRAIN_LATENCY + dram
        self.busy[unit] = free
        self.begin(waiting, cycle, free, complete)

    def execute(self, cycle: int) -> None:
        dim = self.config.dim
        compute = self.port["compute"]
        weights_in = cycle >= self.started["preload"] + dim
        free_port = weights_in and self.busy["stream"] <= cycle
        if compute and self.is_next(compute) and free_port and self.ready(compute, cycle):
            free = cycle + compute.issued.values["rows"]
            self.busy["stream"] = free
            self.launch("compute", cycle, free, free + 2 * dim + timing.EXECUTE_LATENCY)
        preload = self.port["preload"]
        shadow_free = cycle >= self.started["preload"] + dim
        if preload and self.is_next(preload) and shadow_free and self.ready(preload, cycle):
            self.launch("preload", cycle, cycle + dim, cycle + dim)
        self.take(cycle)

    def is_next(self, waiting: Waiting) -> bool:
        """Everything before it in program order, on the other port, has started."""
        return min(self.open) == waiting.number

    def launch(self, port: str, cycle: int, free: int, complete: int) -> None:
        waiting = self.port[port]
        assert waiting is not None
        self.port[port] = None
        self.started[port] = cycle
        self.open.remove(waiting.number)
        self.begin(waiting, cycle, free, complete)

    def take(self, cycle: int) -> None:
        """Move the head of the queue into the empty holding register of its port.

        A sync needs no port: it stays at the head until all before it are released.
        """
        queue = self.queues["execute"]
        if not queue or queue[0].since >= cycle:
            return
        port = queue[0].issued.op
        if port not in self.port:
            released = not self.open and self.signalled["execute", "release"] < cycle
            if released and self.ready(queue[0], cycle):
                self.begin(queue.popleft(), cycle, cycle + 1, cycle + 1)
        elif self.port[port] is None:
            waiting = replace(queue.popleft(), since=cycle)
            self.port[port] = waiting
            self.open.append(waiting.number)


def unit_of(issued: Issued) -> str:
    ops = {"mvin": "load", "mvout": "drain", "preload": "execute", "compute": "execute"}
    return ops.get(issued.op, issued.op.removesuffix("_sync"))


@st.composite
def straight_kernels(draw: st.DrawFn) -> Body:
    """Up to 60 instructions in a row; a wait only for tokens signalled before it."""
    pending = {channel.name: 0 for channel in CHANNELS}
    body: list[Instruction] = []

    def instruction(op: str, unit: str, **values: int) -> None:
        waits, signals = [], []
        for channel in CHANNELS:
            most = min(pending[channel.name], 3)
            waiting = channel.target == unit and most > 0
            if waiting and draw(st.booleans()):
                waits.append(Token(channel.name, count=draw(st.integers(1, most))))
                pending[channel.name] -= int(waits[-1].count)
        for channel in CHANNELS:
            if channel.source == unit and draw(st.integers(0, 2)) == 0:
                signals.append(Token(channel.name, count=draw(st.integers(1, 2))))
                pending[channel.name] += int(signals[-1].count)
        body.append(Instruction(op, values, waits=tuple(waits), signals=tuple(signals)))

    kinds = st.sampled_from(("mvin", "weights", "weights", "compute", "mvout", "sync"))
    for kind in draw(st.lists(kinds, min_size=1, max_size=40)):
        rows = draw(st.integers(1, 40))
        match kind:
            case "mvin":
                blocks, target = draw(st.integers(1, 3)), draw(st.integers(0, 3))
                instruction("mvin", "load", rows=rows, blocks=blocks, target=target)
            case "mvout":
                blocks, function = draw(st.integers(1, 3)), draw(st.integers(0, 5))
                where = draw(st.integers(0, 2))
                instruction(
                    "mvout", "drain", rows=rows, blocks=blocks, function=function, destination=where
                )
            case "sync":
                unit = draw(st.sampled_from(("load", "execute", "drain")))
                instruction(f"{unit}_sync", unit)
            case _:
                if kind == "weights":
                    instruction("preload", "execute", rows=4)
                instruction("compute", "execute", rows=rows, depth=4, width=4)
    return tuple(body)


@settings(max_examples=300)
@given(straight_kernels(), machines())
def test_recurrence_equals_the_ticking_machine(body: Body, config: HardwareConfig) -> None:
    ticker = Ticker(config, list(unroll(body)))
    ticker.run()
    result = evaluate_unrolled(body, config, trace=True)
    assert [step.start for step in result.steps] == [ticker.starts[i] for i in range(len(body))]
    assert result.cycles == ticker.end


# -- By hand -------------------------------------------------------------------------------------------------


def mvin(rows: int, blocks: int = 1, target: str = "scratchpad") -> Instruction:
    return Instruction("mvin", {"rows": rows, "blocks": blocks, "target": TARGETS.index(target)})


def mvout(rows: int, blocks: int, function: str, destination: str) -> Instruction:
    values = {"rows": rows, "blocks": blocks, "function": FUNCTIONS.index(function)}
    return Instruction("mvout", {**values, "destination": DESTINATIONS.index(destination)})


PRELOAD = Instruction("preload", {"rows": 16})


def compute(rows: int) -> Instruction:
    return Instruction("compute", {"rows": rows, "depth": 16, "width": 16})


def test_one_mvin() -> None:
    """Dispatched in cycle 0, starts in 1, 32 beats, then latency, then the write."""
    result = evaluate_unrolled((mvin(32),), CONFIG, trace=True)
    step = result.steps[0]
    assert (step.dispatch, step.start, step.free) == (0, 1, 33)
    assert step.complete == 33 + LATENCY + timing.LOAD_LATENCY
    assert result.cycles == step.complete + 1


def test_transfers_are_pipelined_behind_one_latency() -> None:
    alone = evaluate_unrolled((mvin(32),), CONFIG).cycles
    assert evaluate_unrolled((mvin(32), mvin(32), mvin(32)), CONFIG).cycles == alone + 64


@pytest.mark.parametrize(
    ("bus_bytes", "rows", "blocks", "target", "cycles"),
    [
        (16, 10, 3, "scratchpad", 30),
        (4, 10, 3, "scratchpad", 120),  # four beats a row
        (64, 10, 3, "scratchpad", 30),  # one row a cycle, however wide the bus
        (16, 10, 3, "accumulator", 30),  # int8 in DRAM, widened on the way
        (16, 10, 3, "accumulator_int32", 120),
        (128, 10, 3, "accumulator_int32", 30),
        (16, 2, 1, "parameters", 16),  # 8 bytes a channel
    ],
)
def test_mvin_moves_a_beat_and_a_row_per_cycle(
    bus_bytes: int, rows: int, blocks: int, target: str, cycles: int
) -> None:
    config = replace(CONFIG, bus_bytes=bus_bytes)
    assert timing.mvin_cycles(config, rows, blocks, target) == cycles


def test_weights_hide_behind_long_streams() -> None:
    """Tiles of at least dim rows run back to back: the mesh never waits for a preload."""
    for rows in (16, 17, 64):
        steps = evaluate_unrolled((PRELOAD, compute(rows)) * 5, CONFIG, trace=True).steps
        starts = [step.start for step in steps if step.issued.op == "compute"]
        assert np.diff(starts).tolist() == [rows] * 4


def test_short_streams_wait_for_weights() -> None:
    steps = evaluate_unrolled((PRELOAD, compute(3)) * 5, CONFIG, trace=True).steps
    starts = [step.start for step in steps if step.issued.op == "compute"]
    assert np.diff(starts).tolist() == [16] * 4


def test_compute_fills_and_drains_the_mesh() -> None:
    """First row leaves after 2 dim hops: dim down the columns, dim of skew."""
    step = evaluate_unrolled((PRELOAD, compute(1)), CONFIG, trace=True).steps[1]
    assert step.complete - step.start == 1 + 2 * 16 + timing.EXECUTE_LATENCY


def test_a_token_is_seen_in_the_next_cycle() -> None:
    body = (
        replace(mvin(16), signals=(Token("loaded"),)),
        replace(PRELOAD, waits=(Token("loaded"),)),
        compute(1),
    )
    load, preload, _ = evaluate_unrolled(body, CONFIG, trace=True).steps
    assert preload.start == load.complete + 1


def test_a_full_queue_stalls_the_front_end() -> None:
    """With two places, the fourth mvin is dispatched in the cycle after the second starts."""
    config = replace(CONFIG, load_queue_depth=2)
    steps = evaluate_unrolled((mvin(100),) * 4, config, trace=True).steps
    assert [step.start for step in steps] == [1, 101, 201, 301]
    assert [step.dispatch for step in steps] == [0, 1, 2, 102]


def test_utilization_approaches_one() -> None:
    """A thousand tiles of 64 rows: the mesh idles only before the first and after the last."""
    body = (Loop("i", 1000, (PRELOAD, compute(64))),)
    result = evaluate_unrolled(body, CONFIG)
    assert result.events[EVENT_INDEX["macs"]] == 1000 * 64 * 256
    assert 64_000 < result.cycles <= 64_000 + 16 + 2 * 16 + timing.EXECUTE_LATENCY + 8


@pytest.mark.parametrize(
    ("bus_bytes", "destination", "beats"),
    [(16, "dram", 1), (64, "dram", 1), (4, "dram", 4), (4, "scratchpad", 1)],
)
def test_a_row_of_several_operands_reads_them_in_turn(
    bus_bytes: int, destination: str, beats: int
) -> None:
    """The beats of a row follow the read of its last operand; the next row's reads follow them."""
    config = replace(CONFIG, bus_bytes=bus_bytes)
    for function, operands in (("silu", 1), ("swiglu", 2), ("rotate", 3)):
        cycles = timing.mvout_cycles(config, 10, 3, function, destination)
        assert cycles == 3 * 10 * (operands - 1 + beats)


@pytest.mark.parametrize("function", ["softmax", "layernorm", "rmsnorm"])
@pytest.mark.parametrize(
    ("rows", "blocks"), [(1, 1), (1, 48), (15, 8), (16, 8), (17, 8), (512, 48)]
)
@pytest.mark.parametrize("destination", ["dram", "scratchpad"])
def test_row_functions_take_their_passes(
    function: str, rows: int, blocks: int, destination: str
) -> None:
    """Softmax reads each row three times, the norms twice; long batches of rows hide the divider."""
    passes = 3 if function == "softmax" else 2
    cycles = timing.mvout_cycles(CONFIG, rows, blocks, function, destination)
    assert cycles >= passes * rows * blocks
    batches = -(-rows // STATISTIC_ROWS)
    exposed = MAXIMUM_LATENCY + FUNCTION["layernorm"].latency + blocks
    exposed += STATISTIC_ROWS * DIVIDE_INTERVAL
    assert cycles <= passes * rows * blocks + batches * exposed
    if rows % STATISTIC_ROWS == 0 and blocks >= DIVIDE_INTERVAL:
        assert cycles == passes * rows * blocks


def row_by_row(rows: int, blocks: int, beats: int, softmax: bool) -> int:
    """Row functions from their description: passes over all rows, a divider, outputs in order."""
    time = 0
    if softmax:  # pass 1: the maximum of row 0 must be known when pass 2 meets row 0 again
        known = [(r + 1) * blocks + MAXIMUM_LATENCY for r in range(rows)]
        time = max(rows * blocks, *(known[r] - r * blocks for r in range(rows)))
    divider_free, ready = 0, []
    for r in range(rows):
        enter = max(time + (r + 1) * blocks, divider_free)
        divider_free = enter + DIVIDE_INTERVAL
        ready.append(enter + (FUNCTION["softmax" if softmax else "rmsnorm"].latency))
    out = time + rows * blocks
    first_out = max(out, *(ready[r] - r * blocks * beats for r in range(rows)))
    return first_out + rows * blocks * beats


@settings(max_examples=300)
@given(st.integers(1, 16), st.integers(1, 60), st.integers(1, 8), st.booleans())
def test_row_batches_follow_from_their_description(
    rows: int, blocks: int, beats: int, softmax: bool
) -> None:
    function = "softmax" if softmax else "layernorm"
    got = timing.row_batch_cycles(rows, blocks, FUNCTION[function], beats)
    assert got == row_by_row(rows, blocks, beats, softmax)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ((replace(PRELOAD, waits=(Token("loaded"),)), compute(1)), "site 0 waits .*'loaded'"),
        ((PRELOAD, PRELOAD, compute(1)), "preload at site 1 overwrites"),
        (
            (Loop("i", 256, (replace(mvin(1), signals=(Token("loaded"),)),)),),
            "overflows .*'loaded'",
        ),
    ],
)
def test_broken_programs_are_refused(body: Body, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        evaluate_unrolled(body, CONFIG)


def test_a_channel_holds_255_tokens() -> None:
    body = (Loop("i", 255, (replace(mvin(1), signals=(Token("loaded"),)),)),)
    assert evaluate_unrolled(body, CONFIG).cycles > 255


# -- Events ----------------------------------------------------------------------------------------------------


def events(*body: Instruction) -> dict[str, int]:
    counts = evaluate_unrolled(body, CONFIG).events
    return {name: int(counts[i]) for name, i in EVENT_INDEX.items() if counts[i]}


def test_events_of_loads() -> None:
    assert events(mvin(10, 3)) == {
        "instructions": 1, "dram_read_bytes": 480, "scratchpad_writes": 30,
    }  # fmt: skip
    accumulate = replace(mvin(10, 3, "accumulator"), flags={"accumulate": ()})
    assert events(accumulate) == {
        "instructions": 1, "dram_read_bytes": 480, "accumulator_writes": 30,
        "accumulator_reads": 30, "accumulator_adds": 480, "scale": 480,
    }  # fmt: skip
    assert events(mvin(2, 1, "parameters")) == {"instructions": 1, "dram_read_bytes": 2 * 16 * 8}


def test_events_of_a_tile() -> None:
    ragged = Instruction("compute", {"rows": 20, "depth": 5, "width": 3})
    assert events(Instruction("preload", {"rows": 5}), ragged) == {
        "instructions": 2, "scratchpad_reads": 5 + 20, "pe_weight_loads": 256,
        "accumulator_writes": 20, "accumulator_reads": 20, "accumulator_adds": 320,
        "pe_active": 20 * 256, "macs": 20 * 5 * 3,
    }  # fmt: skip
    overwriting = replace(ragged, flags={"overwrite": ()})
    assert "accumulator_reads" not in events(PRELOAD, overwriting)


def test_events_of_drains() -> None:
    elements = 20 * 2 * 16
    assert events(mvout(20, 2, "copy", "dram_int32")) == {
        "instructions": 1, "accumulator_reads": 40, "dram_write_bytes": 4 * elements,
    }  # fmt: skip
    assert events(mvout(20, 2, "gelu", "scratchpad")) == {
        "instructions": 1, "accumulator_reads": 40, "scratchpad_writes": 40,
        "requantize": elements, "gelu": elements,
    }  # fmt: skip
    assert events(mvout(20, 2, "swiglu", "dram")) == {
        "instructions": 1, "accumulator_reads": 80, "dram_write_bytes": elements,
        "requantize": 2 * elements, "sigmoid": elements, "product": elements,
    }  # fmt: skip
    assert events(mvout(20, 2, "rotate", "scratchpad")) == {
        "instructions": 1, "accumulator_reads": 120, "scratchpad_writes": 40,
        "requantize": 3 * elements, "product": 2 * elements,
    }  # fmt: skip
    assert events(mvout(20, 2, "softmax", "dram")) == {
        "instructions": 1, "accumulator_reads": 120, "dram_write_bytes": elements,
        "requantize": elements, "compare": elements, "exp": 2 * elements,
        "normalize": elements, "divide": 20,
    }  # fmt: skip
    assert events(mvout(20, 2, "layernorm", "dram")) == {
        "instructions": 1, "accumulator_reads": 80, "dram_write_bytes": elements,
        "requantize": elements, "moment": elements, "sqrt": 20, "normalize": elements, "divide": 20,
    }  # fmt: skip
