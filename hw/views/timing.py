"""The timing of the machine: the recurrence itself, written to be read.

Every instruction has a dispatch, a start, a time until which it occupies its port, and a release
and completion. All are maxima of sums of earlier ones (a max-plus recurrence), so the cycle count
of a kernel follows from its instructions and the HardwareConfig alone:

- The front end dispatches one instruction a cycle, in program order, into the queue of its unit;
  it stalls while that queue is full. An instruction can start in the cycle after.
- Load and drain run one instruction at a time, in order. Their transfers are pipelined: an
  instruction occupies the unit for its beats, and completes a fixed latency later.
- Execute has two ports, for weights (preload) and for A rows (compute). Each has a holding
  register that takes the next instruction from the queue once the previous one has started. A
  preload takes dim cycles and may run under the compute that swapped in the weights before it.
  An execute_sync has no register: it holds the queue until all before it are released.
- Waiting for a token, an instruction starts no earlier than the cycle after its signal. A unit
  releases, and completes, its instructions in program order, at most one a cycle.

`evaluate_unrolled` applies this to every instruction in turn. `fast_timing` gives the same
numbers from the rolled form; tests hold the two equal.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.machine.functions import (
    DIVIDE_INTERVAL,
    DRAIN_FUNCTIONS,
    FUNCTION,
    MAXIMUM_LATENCY,
    STATISTIC_ROWS,
    DrainFunction,
)
from codesign.hw.machine.isa import (
    CHANNELS,
    DESTINATION_BYTES,
    DESTINATIONS,
    MAX_TOKENS,
    OPERATION,
    TARGET_BYTES,
    TARGETS,
    UNITS,
)
from codesign.hw.machine.program import Body, Issued, unroll

# Pipeline depths of the units, in cycles.
LOAD_LATENCY = 4  # request register, write to memory, add-on-write
EXECUTE_LATENCY = 4  # scratchpad read, skew and deskew registers, add-on-write; plus 2 dim hops
DRAIN_LATENCY = 16  # accumulator read, nonlinear unit, requantizer, write


@dataclass(frozen=True)
class TimedStep:
    """One issued instruction and when it happened, in cycles.

    It occupies its port until `free`; from `release` on its sources may be overwritten, from
    `complete` on its results may be read.
    """

    issued: Issued
    dispatch: int
    start: int
    free: int
    release: int
    complete: int


@dataclass(frozen=True)
class Timing:
    """Cycles of a kernel from its first dispatch to its last completion, and its event counts."""

    cycles: int
    events: npt.NDArray[np.int64]  # [len(EVENTS)]
    steps: tuple[TimedStep, ...] = ()


def ceil_div(a: int, b: int) -> int:
    """Quotient rounded up."""
    return -(-a // b)


def row_bytes(config: HardwareConfig, target: str) -> int:
    """DRAM bytes of one row that a mvin moves to `target`."""
    return config.dim * TARGET_BYTES[target]


def run_beats(config: HardwareConfig, rows: int, bytes_per_row: int) -> int:
    """Beats of `rows` rows that lie one after another in DRAM."""
    return ceil_div(rows * bytes_per_row, config.bus_bytes)


def mvin_cycles(config: HardwareConfig, rows: int, blocks: int, target: str) -> int:
    """Cycles that a mvin occupies the load unit: one beat and one row per cycle.

    Every block starts on a beat of its own.
    """
    return blocks * max(rows, run_beats(config, rows, row_bytes(config, target)))


def row_batch_cycles(rows: int, blocks: int, function: DrainFunction, beats: int) -> int:
    """Cycles of a row function on up to STATISTIC_ROWS rows that share the statistics registers.

    Softmax reads all rows three times (maximum, sum of exponentials, output), the norms twice
    (moments, output), exponentials too (maximum, output) and quotients (the rows' states, output). A
    row's output waits for its reciprocal, rows divide one after another, and an output row takes
    `beats` cycles a block. Passes over several rows hide these latencies.
    """
    one_pass = rows * blocks
    maximum = 0
    if "maximum" in function.passes:
        maximum = one_pass + max(0, MAXIMUM_LATENCY - (rows - 1) * blocks)
    if "statistics" not in function.passes:
        return maximum + one_pass * beats
    first_ready = blocks + function.latency
    last_ready = first_ready + (rows - 1) * max(blocks, DIVIDE_INTERVAL)
    output_start = max(one_pass, first_ready, last_ready - (rows - 1) * blocks * beats)
    return maximum + output_start + one_pass * beats


def mvout_cycles(
    config: HardwareConfig, rows: int, blocks: int, function: str, destination: str
) -> int:
    """Cycles that a mvout occupies the drain unit: one row read and one beat written per cycle.

    A row of several operands is written from the read of the last one on.
    """
    bytes_per_row = config.dim * DESTINATION_BYTES[destination]
    on_chip = destination == "scratchpad"
    of = FUNCTION[function]
    if not of.by_row:
        beats = 0 if on_chip else run_beats(config, rows, bytes_per_row)
        return blocks * (rows * (of.operands - 1) + max(rows, beats))
    beats = 1 if on_chip else run_beats(config, 1, bytes_per_row)
    batches = [STATISTIC_ROWS] * (rows // STATISTIC_ROWS)
    if rows % STATISTIC_ROWS:
        batches.append(rows % STATISTIC_ROWS)
    return sum(row_batch_cycles(batch, blocks, of, beats) for batch in batches)


def count_events(config: HardwareConfig, issued: Issued) -> dict[str, int]:
    """Events of one instruction; see `events.EVENTS` for their meaning."""
    values, dim = issued.values, config.dim
    rows = values.get("rows", 0)
    events = {"instructions": 1}
    match issued.op:
        case "mvin":
            target = TARGETS[values["target"]]
            moved = rows * values["blocks"]
            beats = run_beats(config, rows, row_bytes(config, target))
            events["dram_read_bytes"] = values["blocks"] * beats * config.bus_bytes
            if target == "scratchpad":
                events["scratchpad_writes"] = moved
            elif target != "parameters":
                events["accumulator_writes"] = moved
                if issued.flags.get("accumulate", False):
                    events |= {"accumulator_reads": moved, "accumulator_adds": moved * dim}
            if target == "accumulator":
                events["scale"] = moved * dim
        case "preload":
            events |= {"scratchpad_reads": rows, "pe_weight_loads": dim * dim}
        case "compute":
            events |= {
                "scratchpad_reads": rows,
                "accumulator_writes": rows,
                "pe_active": rows * dim * dim,
                "macs": rows * values["depth"] * values["width"],
            }
            if not issued.flags.get("overwrite", False):
                events |= {"accumulator_reads": rows, "accumulator_adds": rows * dim}
            if values.get("aligned", 0):
                events["align"] = rows * dim
        case "mvout":
            events |= _mvout_events(config, rows, issued)
    return events


def _mvout_events(config: HardwareConfig, rows: int, issued: Issued) -> dict[str, int]:
    function = DRAIN_FUNCTIONS[issued.values["function"]]
    destination = DESTINATIONS[issued.values["destination"]]
    moved = rows * issued.values["blocks"]
    elements = moved * config.dim
    events = {"accumulator_reads": moved * (len(function.passes) + function.operands - 1)}
    if destination == "scratchpad":
        events["scratchpad_writes"] = moved
    else:
        bytes_per_row = config.dim * DESTINATION_BYTES[destination]
        if function.by_row:  # rows of several blocks take turns
            beats = moved * run_beats(config, 1, bytes_per_row)
        else:
            beats = issued.values["blocks"] * run_beats(config, rows, bytes_per_row)
        events["dram_write_bytes"] = beats * config.bus_bytes
    if destination != "dram_int32":
        events["requantize"] = elements * function.operands
    return events | function.events(elements, rows)


@dataclass
class _Unit:
    """One unit's queue and what its next instruction has to wait for."""

    depth: int
    left_queue: deque[int] = field(default_factory=deque)
    free: int = 0
    release: int = -1
    complete: int = -1


class _Machine:
    """The recurrence: feeds on issued instructions in program order."""

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        depths = (config.load_queue_depth, config.execute_queue_depth, config.drain_queue_depth)
        self.units = {name: _Unit(depth) for name, depth in zip(UNITS, depths, strict=True)}
        self.channels = {channel.name: channel for channel in CHANNELS}
        self.tokens: dict[str, deque[int]] = defaultdict(deque)
        self.clock = -1
        self.pop = -1
        self.preload_start = -config.dim
        self.compute_start = -1
        self.weights_pending = False

    def issue(self, issued: Issued) -> TimedStep:
        unit_name = OPERATION[issued.op].unit
        unit = self.units[unit_name]
        self.clock += 1
        if len(unit.left_queue) == unit.depth:
            self.clock = max(self.clock, unit.left_queue.popleft() + 1)
        bound = self._wait(issued)
        if unit_name == "execute":
            leaves, start, free, complete = self._execute(issued, bound)
        else:
            start = leaves = max(self.clock + 1, unit.free, bound)
            free, complete = self._transfer(issued, start)
            unit.free = free
        unit.left_queue.append(leaves)
        unit.release = max(unit.release + 1, free)
        unit.complete = max(unit.complete + 1, complete)
        self._signal(issued, unit)
        return TimedStep(issued, self.clock, start, free, unit.release, unit.complete)

    def _wait(self, issued: Issued) -> int:
        bound = -1
        for channel, count in issued.waits:
            for _ in range(count):
                if not self.tokens[channel]:
                    raise ProgramError(
                        f"{issued.op} at site {issued.site} waits for a {channel!r} token that no "
                        "earlier instruction signals"
                    )
                bound = max(bound, self.tokens[channel].popleft() + 1)
        return bound

    def _signal(self, issued: Issued, unit: _Unit) -> None:
        for channel, count in issued.signals:
            at_complete = self.channels[channel].at == "complete"
            time = unit.complete if at_complete else unit.release
            self.tokens[channel].extend([time] * count)
            if len(self.tokens[channel]) > MAX_TOKENS:
                raise ProgramError(
                    f"{issued.op} at site {issued.site} overflows the {channel!r} token counter"
                )

    def _transfer(self, issued: Issued, start: int) -> tuple[int, int]:
        config, values = self.config, issued.values
        if issued.op == "mvin":
            target = TARGETS[values["target"]]
            free = start + mvin_cycles(config, values["rows"], values["blocks"], target)
            return free, free + config.dram_latency_cycles + LOAD_LATENCY
        if issued.op == "mvout":
            function = DRAIN_FUNCTIONS[values["function"]].name
            destination = DESTINATIONS[values["destination"]]
            free = start + mvout_cycles(
                config, values["rows"], values["blocks"], function, destination
            )
            memory = 0 if destination == "scratchpad" else config.dram_latency_cycles
            return free, free + DRAIN_LATENCY + memory
        return start + 1, start + 1

    def _execute(self, issued: Issued, bound: int) -> tuple[int, int, int, int]:
        config, unit = self.config, self.units["execute"]
        pop = max(self.clock, self.pop) + 1
        match issued.op:
            case "preload":
                if self.weights_pending:
                    raise ProgramError(
                        f"preload at site {issued.site} overwrites weights that no compute used"
                    )
                pop = max(pop, self.preload_start)
                start = max(pop + 1, self.preload_start + config.dim, self.compute_start, bound)
                free = complete = start + config.dim
                self.preload_start = start
            case "compute":
                pop = max(pop, self.compute_start)
                start = max(pop + 1, unit.free, self.preload_start + config.dim, bound)
                free = start + issued.values["rows"]
                complete = free + 2 * config.dim + EXECUTE_LATENCY
                self.compute_start = start
                unit.free = free
            case _:
                start = pop = max(pop, unit.release + 1, bound)
                free = complete = start + 1
        if issued.op != "execute_sync":
            self.weights_pending = issued.op == "preload"
        self.pop = pop
        return pop, start, free, complete


def evaluate_unrolled(body: Body, config: HardwareConfig, *, trace: bool = False) -> Timing:
    """Time a kernel instruction by instruction; `trace` keeps every step.

    Raises ProgramError for a token that is waited for before it is signalled, a token counter
    that overflows, and weights preloaded but never used.
    """
    machine = _Machine(config)
    events = np.zeros(len(EVENTS), dtype=np.int64)
    steps: list[TimedStep] = []
    for issued in unroll(body):
        step = machine.issue(issued)
        for name, count in count_events(config, issued).items():
            events[EVENT_INDEX[name]] += count
        if trace:
            steps.append(step)
    cycles = 1 + max(unit.complete for unit in machine.units.values())
    return Timing(cycles, events, tuple(steps))
