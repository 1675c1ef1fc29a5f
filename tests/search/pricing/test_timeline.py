"""The timeline: Chrome's trace event format, and exactly the times of the reference recurrence."""

import itertools
import json
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from codesign.compiler.plan.lower import lower
from codesign.compiler.program.emit import emit
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import PRESETS
from codesign.hw.machine.program import Program
from codesign.hw.views import timing
from codesign.search.inputs.sources import load_model
from codesign.search.pricing import timeline

CONFIG = PRESETS["ibert"]


@pytest.fixture(scope="module")
def program() -> Program:
    graph = load_model("bert-tiny", seq=32).graph
    return emit(lower(graph, CONFIG, "edp", cost_table(CONFIG)))


@pytest.fixture(scope="module")
def document(program: Program) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(timeline.chrome_trace(program, CONFIG, 50)))
    return read


def _complete(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def test_events_have_the_fields_that_the_format_asks_for(document: dict[str, Any]) -> None:
    assert document["displayTimeUnit"] == "ns"
    for event in document["traceEvents"]:
        assert event["ph"] in ("X", "M")
        assert isinstance(event["pid"], int) and isinstance(event["name"], str)
    for event in _complete(document):
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0 and event["dur"] >= 0
    names = {
        event["tid"]: event["args"]["name"]
        for event in document["traceEvents"]
        if event["name"] == "thread_name"
    }
    assert set(names.values()) == set(timeline.LANES)
    assert {event["tid"] for event in _complete(document)} <= set(names)
    (process,) = [e for e in document["traceEvents"] if e["name"] == "process_name"]
    assert process["args"]["name"] == "bert-tiny on ibert (16x16)"


def test_spans_of_a_lane_never_overlap(document: dict[str, Any]) -> None:
    lanes = defaultdict(list)
    for event in _complete(document):
        start = event["args"]["start_cycle"]
        lanes[event["tid"]].append((start, start + event["args"]["cycles"]))
    assert len(lanes) == len(timeline.LANES)
    for spans in lanes.values():
        ordered = sorted(spans)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))


@pytest.mark.parametrize("clock_hz", [500_000_000, 300_000_000])
def test_spans_nest_for_a_viewer_that_reads_whole_nanoseconds(
    program: Program, clock_hz: int
) -> None:
    """Viewers cut the decimal text after three places: a span that overlaps by one is dropped."""

    def nanoseconds(text: str) -> int:
        whole, _, fraction = text.partition(".")
        return int(whole + f"{fraction:0<3}"[:3])

    config = replace(CONFIG, clock_hz=clock_hz)
    text = json.dumps(timeline.chrome_trace(program, config, 50))
    lanes = defaultdict(list)
    for event in _complete(json.loads(text, parse_float=str)):
        start = nanoseconds(event["ts"])
        assert start == event["args"]["start_cycle"] * 10**9 // clock_hz
        lanes[event["tid"]].append((start, start + nanoseconds(event["dur"])))
    for spans in lanes.values():
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(sorted(spans)))


def test_kernels_fill_the_whole_time_one_after_another(
    program: Program, document: dict[str, Any]
) -> None:
    kernels = [e for e in _complete(document) if e["tid"] == timeline.LANES.index("kernels")]
    assert [event["name"] for event in kernels] == [kernel.name for kernel in program.kernels]
    now = 0
    for event, kernel in zip(kernels, program.kernels, strict=True):
        cycles = kernel.host_cycles
        if kernel.body:
            cycles += timing.evaluate_unrolled(kernel.body, CONFIG).cycles
        assert (event["args"]["start_cycle"], event["args"]["cycles"]) == (now, cycles)
        assert event["ts"] == pytest.approx(now / CONFIG.clock_hz * 1e6, rel=1e-12)
        assert event["dur"] == pytest.approx(cycles / CONFIG.clock_hz * 1e6, rel=1e-12)
        now += cycles


def test_instructions_are_when_the_recurrence_says(
    program: Program, document: dict[str, Any]
) -> None:
    number = next(n for n, kernel in enumerate(program.kernels) if kernel.body)
    kernels = [e for e in _complete(document) if e["tid"] == timeline.LANES.index("kernels")]
    begin = kernels[number]["args"]["start_cycle"]
    steps = timing.evaluate_unrolled(program.kernels[number].body, CONFIG, trace=True).steps
    expected = [
        (step.issued.op, begin + step.start, step.free - step.start, begin + step.complete)
        for step in steps[:50]
    ]
    shown = [
        (e["name"], e["args"]["start_cycle"], e["args"]["cycles"], begin + e["args"]["completes"])
        for e in _complete(document)
        if "site" in e["args"]
    ]
    assert shown[: len(expected)] == expected


def test_what_is_not_shown_one_by_one_is_counted(program: Program) -> None:
    """However few instructions are shown, every lane's busy cycles are all there."""

    def busy(limit: int) -> dict[int, int]:
        sums: dict[int, int] = defaultdict(int)
        for event in _complete(timeline.chrome_trace(program, CONFIG, limit)):
            args = event["args"]
            sums[event["tid"]] += args.get("busy_cycles", args["cycles"])
        return sums

    assert busy(0) == busy(7) == busy(10**6)
