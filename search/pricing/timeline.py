"""A Program's timeline as Chrome trace events, to be opened in Perfetto or chrome://tracing.

One lane for the kernels, one for each port of the units and one for the host. The first kernel of
every kind of body shows its first instructions one by one; what follows them, and every later
kernel with the same body, is one span a lane. Format: "Trace Event Format" of the Chromium project:
complete events ("ph": "X"), times in microseconds.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body, Program, instructions
from codesign.hw.views.fast_timing import TraceRow, encode, time_kernel, trace

INSTRUCTIONS_PER_KERNEL = 1000
LARGEST_TRACE = 100_000  # instructions of one kernel that are looked at

LANES = ("kernels", "load", "execute: preload", "execute: compute", "drain", "host")
_TID = {lane: tid for tid, lane in enumerate(LANES)}
_PID = 1

Event = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """Something that keeps a lane busy from `start` on for `cycles`, relative to its kernel."""

    lane: str
    name: str
    start: int
    cycles: int
    args: dict[str, Any]


@dataclass(frozen=True)
class _Spans:
    """One kind of body: its cycles, instruction by instruction, and a lane at a time."""

    cycles: int
    detailed: tuple[Span, ...]
    coarse: tuple[Span, ...]


def chrome_trace(
    program: Program, config: HardwareConfig, limit: int = INSTRUCTIONS_PER_KERNEL
) -> dict[str, Any]:
    """Return `program` on `config` as a Chrome trace document.

    At most `limit` instructions of each kind of kernel are events of their own. Times are exact: a
    cycle is 1e6 / clock_hz microseconds; `args` say them in cycles.
    """
    events = list(_metadata(program.name, config))
    kinds: dict[bytes, _Spans] = {}
    now = 0
    for kernel in program.kernels:
        key = encode(kernel.body).tobytes()  # everything that its timing depends on
        new = key not in kinds
        if new:
            kinds[key] = _spans(kernel.body, config, limit)
        spans = kinds[key]
        whole = spans.cycles + kernel.host_cycles
        lanes = [Span("kernels", kernel.name, 0, whole, {"mapping": kernel.note})]
        lanes += spans.detailed if new else spans.coarse
        if kernel.host_cycles:
            lanes.append(Span("host", kernel.name, spans.cycles, kernel.host_cycles, {}))
        events += [_event(span, now, config) for span in lanes]
        now += whole
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _metadata(name: str, config: HardwareConfig) -> Iterator[Event]:
    title = f"{name} on {config.name} ({config.dim}x{config.dim})"
    yield {"ph": "M", "pid": _PID, "name": "process_name", "args": {"name": title}}
    for lane, tid in _TID.items():
        common = {"ph": "M", "pid": _PID, "tid": tid}
        yield {**common, "name": "thread_name", "args": {"name": lane}}
        yield {**common, "name": "thread_sort_index", "args": {"sort_index": tid}}


def _event(span: Span, now: int, config: HardwareConfig) -> Event:
    start = now + span.start
    microseconds = 1e6 / config.clock_hz
    return {
        "ph": "X",
        "pid": _PID,
        "tid": _TID[span.lane],
        "cat": span.lane.split(":")[0],
        "name": span.name,
        "ts": start * microseconds,
        "dur": span.cycles * microseconds,
        "args": {"start_cycle": start, "cycles": span.cycles, **span.args},
    }


def _spans(body: Body, config: HardwareConfig, limit: int) -> _Spans:
    if not body:
        return _Spans(0, (), ())
    cycles = time_kernel(body, config).cycles
    rows = trace(body, config, LARGEST_TRACE)
    ops = [instruction.op for instruction in instructions(body)]
    detailed = [
        Span(_lane(row, ops), ops[row.site], row.start, row.free - row.start, _args(row))
        for row in rows[:limit]
    ]
    cut = len(rows) == LARGEST_TRACE
    rest = _by_lane(rows[limit:], ops, cycles if cut else None)
    return _Spans(cycles, (*detailed, *rest), tuple(_by_lane(rows, ops, cycles if cut else None)))


def _args(row: TraceRow) -> dict[str, Any]:
    return {"site": row.site, "dispatch": row.dispatch, "completes": row.complete}


def _lane(row: TraceRow, ops: Sequence[str]) -> str:
    """Weights and A rows have ports of their own: their spans overlap."""
    if row.unit != "execute":
        return row.unit
    return "execute: preload" if ops[row.site] == "preload" else "execute: compute"


def _by_lane(rows: Sequence[TraceRow], ops: Sequence[str], end: int | None) -> Iterator[Span]:
    """One span for all instructions of a lane, which says for how many cycles of it they were busy."""
    lanes: dict[str, list[TraceRow]] = defaultdict(list)
    for row in rows:
        lanes[_lane(row, ops)].append(row)
    for lane, members in lanes.items():
        start = members[0].start
        stop = members[-1].free if end is None else end
        args: dict[str, Any] = {}
        if end is None:
            args["busy_cycles"] = sum(row.free - row.start for row in members)
        count = f"{len(members)}{'' if end is None else ' or more'}"
        yield Span(lane, f"{count} instructions", start, stop - start, args)
