"""Whether a kernel, timed as the machine overlaps it, computes what it computes one by one.

Every access of a local memory happens in a known cycle after the start of its instruction. Two
accesses of one row, at least one of them a write, must happen in program order; in one cycle a read
sees the row as it was. And no two accesses may need one port of one bank in one cycle: a bank has
one read and one write port. Tokens must fit their counters in every cycle, and be gone in the end.

Sums that the mesh, or the load unit, adds to a row in quick succession are exempt: each of their
adders forwards its own sums that are still on their way to the memory.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import (
    DIVIDE_INTERVAL,
    DRAIN_FUNCTIONS,
    MAXIMUM_LATENCY,
    STATISTIC_ROWS,
    DrainFunction,
)
from codesign.hw.machine.isa import (
    CHANNELS,
    DESTINATION_BYTES,
    DESTINATIONS,
    MAX_TOKENS,
    TARGETS,
    Channel,
)
from codesign.hw.machine.program import Body
from codesign.hw.views.timing import (
    DRAIN_LATENCY,
    LOAD_LATENCY,
    TimedStep,
    ceil_div,
    evaluate_unrolled,
    row_bytes,
)

Ints = npt.NDArray[np.int64]

FIRST_SLOT = 1  # after the start of an instruction
READ_LATENCY = 2  # of both local memories: the macro, and a register behind the banks
ADD_LATENCY = 2  # an accumulator row read to the sum written
DRAIN_WRITE = DRAIN_LATENCY - 4  # output slot to the write of the scratchpad
ALIGNMENT_WRITE = 11  # last slot of a row to the write of its alignment
SECOND_PARAMETERS = 5  # slot to the read of the second parameter set
NAMES = {
    "scratchpad": "scratchpad row",
    "accumulator": "accumulator row",
    "parameters": "parameter row",
    "alignments": "alignment",
}


@dataclass(frozen=True)
class Run:
    """`count` accesses of one port: row, row + row_step, ... in cycle, cycle + cycle_step, ..."""

    memory: str
    write: bool
    port: str
    row: int
    cycle: int
    count: int
    row_step: int = 1
    cycle_step: int = 1


@dataclass(frozen=True)
class _Slot:
    """Slots of a mvout, `slot` after its first: `count` from a row of a block on, in the direction
    of rows or of blocks, `spacing` apart. `output`: the row is written after them. `operand`: of
    which they read a row.
    """

    row: int
    block: int
    slot: int
    count: int
    along_rows: bool
    spacing: int
    output: bool
    operand: int = 0


def check_races(body: Body, config: HardwareConfig) -> None:
    """Raise ProgramError for the first pair of accesses out of order, or in one port at once, and
    for tokens that overflow their counter or are left over.
    """
    steps = evaluate_unrolled(body, config, trace=True).steps
    for channel in CHANNELS:
        _check_tokens(channel, steps)
    runs: dict[str, list[tuple[int, Run]]] = defaultdict(list)
    for index, step in enumerate(steps):
        for run in accesses(step, config):
            runs[run.memory].append((index, run))
    banks = {
        "scratchpad": config.scratchpad_bank_rows,
        "accumulator": config.accumulator_bank_rows,
    }
    for memory, found in runs.items():
        events = _Events(memory, found, steps)
        if memory in banks:  # the parameter memory has a port for every user
            events.check_ports(banks[memory])
        events.check_order()


def _check_tokens(channel: Channel, steps: tuple[TimedStep, ...]) -> None:
    """The counter of a channel holds MAX_TOKENS at most, and none when all is done."""
    signals = [
        (step.complete if channel.at == "complete" else step.release, index, count)
        for index, step in enumerate(steps)
        for name, count in step.issued.signals
        if name == channel.name
    ]
    if not signals:
        return
    waits = [
        (step.start, index, -count)
        for index, step in enumerate(steps)
        for name, count in step.issued.waits
        if name == channel.name
    ]
    cycle, index, change = np.array(sorted(waits + signals), dtype=np.int64).T
    held = np.cumsum(change)
    ends = np.append(cycle[1:] != cycle[:-1], True)
    full = np.flatnonzero(ends & (held > MAX_TOKENS))
    if full.size:
        last = int(np.flatnonzero((cycle == cycle[full[0]]) & (change > 0))[-1])
        raise ProgramError(
            f"{_who(steps, int(index[last]))} overflows the {channel.name!r} token counter in "
            f"cycle {cycle[last]}"
        )
    if held[-1]:
        raise ProgramError(
            f"{_who(steps, max(i for _, i, _ in signals))} signals {channel.name!r} tokens that "
            "nothing waits for"
        )


def _who(steps: tuple[TimedStep, ...], index: int) -> str:
    issued = steps[index].issued
    return f"{issued.op} at site {issued.site} (instruction {index})"


# -- What happens when ---------------------------------------------------------------------------------


def accesses(step: TimedStep, config: HardwareConfig) -> Iterator[Run]:
    """Every access of the local memories by an instruction that starts in `step.start`."""
    match step.issued.op:
        case "mvin":
            yield from _mvin(step, config)
        case "preload":
            rows, local = step.issued.values["rows"], step.issued.addresses.get("local", 0)
            yield Run("scratchpad", False, "preload", local, step.start + FIRST_SLOT, rows)
        case "compute":
            yield from _compute(step, config)
        case "mvout":
            yield from _mvout(step, config)


def _mvin(step: TimedStep, config: HardwareConfig) -> Iterator[Run]:
    values, get = step.issued.values, step.issued.addresses.get
    rows, target = values["rows"], TARGETS[values["target"]]
    memory = "accumulator" if target == "accumulator_int32" else target
    width = row_bytes(config, target)
    spacing = max(1, width // config.bus_bytes)  # beats of one row; it is whole with the last
    slots = max(rows, ceil_div(rows * width, config.bus_bytes))
    write = LOAD_LATENCY if memory == "accumulator" else LOAD_LATENCY - ADD_LATENCY
    arrival = step.start + FIRST_SLOT + config.dram_latency_cycles + spacing - 1
    for block in range(values["blocks"]):
        row = get("local", 0) + block * get("stride", 0)
        cycle = arrival + block * slots
        if memory == "accumulator" and step.issued.flags.get("accumulate", False):
            at = cycle + write - ADD_LATENCY
            yield Run(memory, False, "load", row, at, rows, 1, spacing)
        yield Run(memory, True, "load", row, cycle + write, rows, 1, spacing)


def _compute(step: TimedStep, config: HardwareConfig) -> Iterator[Run]:
    rows, get = step.issued.values["rows"], step.issued.addresses.get
    begin = step.start + FIRST_SLOT
    yield Run("scratchpad", False, "compute", get("local", 0), begin, rows)
    if step.issued.values.get("aligned", 0):
        yield Run("alignments", False, "compute", get("alignment", 0), begin, rows)
    sums = begin + READ_LATENCY + 2 * config.dim
    if not step.issued.flags.get("overwrite", False):
        yield Run("accumulator", False, "mesh", get("accumulator", 0), sums, rows)
    yield Run("accumulator", True, "mesh", get("accumulator", 0), sums + ADD_LATENCY, rows)


def _mvout(step: TimedStep, config: HardwareConfig) -> Iterator[Run]:
    values, get, flag = step.issued.values, step.issued.addresses.get, step.issued.flags.get
    function = DRAIN_FUNCTIONS[values["function"]]
    destination = DESTINATIONS[values["destination"]]
    stride, parameters, further = get("stride", 0), get("parameters", 0), function.operands - 1
    scales = (flag("channel_scale", False), flag("second_channel_scale", False))
    affine, behind = flag("channel_affine", False), parameters + sum(scales) * values["blocks"]
    for slot in _slots(config, values["rows"], values["blocks"], function, destination):
        cycle = step.start + FIRST_SLOT + slot.slot

        def turn(
            memory: str, write: bool, at: int, first: int, row: int, block: int, slot: _Slot = slot
        ) -> Run:
            """Accesses of a slot where rows are `row`, and blocks `block`, apart."""
            local = first + slot.row * row + slot.block * block
            along = row if slot.along_rows else block
            return Run(memory, write, "drain", local, at, slot.count, along, slot.spacing)

        if slot.operand:
            second = get("second", 0) + slot.operand - 1
            yield turn("accumulator", False, cycle, second, further, further * stride)
        else:
            yield turn("accumulator", False, cycle, get("accumulator", 0), 1, stride)
        if scales[slot.operand > 0]:
            at = parameters + (values["blocks"] if slot.operand and scales[0] else 0)
            yield turn("parameters", False, cycle, at, 0, 1)
        if affine and slot.output:
            yield turn("parameters", False, cycle + SECOND_PARAMETERS, behind, 0, 1)
        if destination == "scratchpad" and slot.output:
            local, local_stride = get("local", 0), get("local_stride", 0)
            yield turn("scratchpad", True, cycle + DRAIN_WRITE, local, 1, local_stride)
        if function.stateful and function.masked and slot.output:
            last = cycle + (slot.count - 1) * slot.spacing + ALIGNMENT_WRITE
            yield Run("alignments", True, "drain", get("alignment", 0) + slot.row, last, 1)


def _slots(
    config: HardwareConfig, rows: int, blocks: int, function: DrainFunction, destination: str
) -> Iterator[_Slot]:
    width = config.dim * DESTINATION_BYTES[destination]
    on_chip = destination == "scratchpad"
    if function.by_row:
        beats = 1 if on_chip else ceil_div(width, config.bus_bytes)
        begin = 0
        for row in range(0, rows, STATISTIC_ROWS):
            batch = min(STATISTIC_ROWS, rows - row)
            for start, output, place in _batch(batch, blocks, function, beats):
                spacing = beats if output else 1
                yield _Slot(row + place, 0, begin + start, blocks, False, spacing, output)
            begin += start + blocks * beats
        return
    spacing = function.operands - 1 + (1 if on_chip else max(1, width // config.bus_bytes))
    for block in range(blocks):
        for operand in range(function.operands):
            last, slot = operand == function.operands - 1, block * rows * spacing + operand
            yield _Slot(0, block, slot, rows, True, spacing, last, operand)


def _batch(
    rows: int, blocks: int, function: DrainFunction, beats: int
) -> Iterator[tuple[int, bool, int]]:
    """First slot, whether of the output pass, and row, of every row's turn in every pass.

    A row's turn in a pass begins when the row before is through and what it needs is known.
    """
    begin = 0
    if "maximum" in function.passes:
        for row in range(rows):
            yield row * blocks, False, row
        begin = max(rows * blocks, blocks + MAXIMUM_LATENCY)
    if "statistics" not in function.passes:
        for row in range(rows):
            yield begin + row * blocks * beats, True, row
        return
    for row in range(rows):
        yield begin + row * blocks, False, row
    free = begin + rows * blocks
    known = begin + blocks + function.latency
    for row in range(rows):
        turn = max(free, known)
        yield turn, True, row
        free = turn + blocks * beats
        known += max(blocks, DIVIDE_INTERVAL)


# -- Conflicts -----------------------------------------------------------------------------------------


class _Events:
    """All accesses of one memory, as arrays: row, cycle, instruction, write and port."""

    def __init__(
        self, memory: str, runs: list[tuple[int, Run]], steps: tuple[TimedStep, ...]
    ) -> None:
        self.memory, self.steps = memory, steps
        self.ports = sorted({run.port for _, run in runs})
        number = {port: i for i, port in enumerate(self.ports)}
        table = np.array(
            [
                (i, r.row, r.cycle, r.count, r.row_step, r.cycle_step, r.write, number[r.port])
                for i, r in runs
            ],
            dtype=np.int64,
        )
        index, row, cycle, count, row_step, cycle_step, write, port = table.T
        ends = np.cumsum(count)
        offset = np.arange(ends[-1]) - np.repeat(ends - count, count)
        self.index: Ints = np.repeat(index, count)
        self.row: Ints = np.repeat(row, count) + offset * np.repeat(row_step, count)
        self.cycle: Ints = np.repeat(cycle, count) + offset * np.repeat(cycle_step, count)
        self.write: Ints = np.repeat(write, count)
        self.port: Ints = np.repeat(port, count)

    def check_ports(self, bank_rows: int) -> None:
        """No two accesses through one port of one bank in one cycle."""
        bank = self.row // bank_rows
        order = np.lexsort((self.index, bank, self.write, self.cycle))
        keys = np.stack([self.cycle, self.write, bank])[:, order]
        same = np.flatnonzero((keys[:, 1:] == keys[:, :-1]).all(axis=0))
        if not same.size:
            return
        one, other = int(order[same[0]]), int(order[same[0] + 1])
        kind = "write" if self.write[one] else "read"
        raise ProgramError(
            f"{self._who(one)} and {self._who(other)} need the {kind} port of {self.memory} bank "
            f"{bank[one]} in cycle {self.cycle[one]}"
        )

    def check_order(self) -> None:
        """No access happens after a conflicting one that comes later in program order."""
        order = np.lexsort((self.write, self.cycle, self.row))
        group = np.cumsum(np.diff(self.row[order], prepend=-1) != 0)
        index, write, port = self.index[order], self.write[order] == 1, self.port[order]
        span = len(self.steps) + 1

        def latest(which: npt.NDArray[np.bool_]) -> Ints:
            """The highest instruction so far among `which` accesses of the row, or -1."""
            seen = np.where(which, group * span + index + 1, group * span)
            high: Ints = np.maximum.accumulate(seen) - group * span - 1
            return high

        first: tuple[int, int, Ints] | None = None
        suspects = [(np.ones_like(write), write)]
        suspects += [(write & (port == p), ~write & (port != p)) for p in np.unique(port[write])]
        for later, earlier in suspects:
            bad = np.flatnonzero(later & (latest(earlier) > index))
            if bad.size:
                at = int(bad[np.argmin(self.cycle[order][bad])])
                cycle = int(self.cycle[order[at]])
                if first is None or cycle < first[0]:
                    culprit = latest(earlier)[at]
                    places = np.flatnonzero((index == culprit) & earlier & (group == group[at]))
                    first = cycle, int(order[at]), order[places[places < at][-1:]]
        if first is not None:
            _, late, early = first
            self._out_of_order(late, int(early[0]))

    def _out_of_order(self, late: int, early: int) -> None:
        does, did = ("writes" if self.write[event] else "reads" for event in (late, early))
        raise ProgramError(
            f"{self._who(late)} {does} {NAMES[self.memory]} {self.row[late]} "
            f"in cycle {self.cycle[late]}, but {self._who(early)}, which comes later in the "
            f"program, {did} it in cycle {self.cycle[early]}"
        )

    def _who(self, event: int) -> str:
        return _who(self.steps, int(self.index[event]))
