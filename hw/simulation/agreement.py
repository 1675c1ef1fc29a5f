"""One kernel on the RTL, held against the models: bytes of DRAM, times of instructions, counts of events.

The functional model says which bytes, the timing model which cycles and how many events; `compare`
counts what the RTL did otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codesign.hw.errors import CodesignError
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import COUNTERS, EVENT_INDEX
from codesign.hw.simulation.simulator import IssuedInstruction, Simulation
from codesign.hw.views.timing import TimedStep, Timing

# Events, and the numbers of their counters in the RTL.
COUNTED = {counter.event: number for number, counter in enumerate(COUNTERS) if counter.event}


class Disagreement(CodesignError):
    """A kernel that the machine does not run as the models say: a bug of ours."""

    exit_code = 1


@dataclass(frozen=True)
class Agreement:
    """What the RTL did in one kernel, and how much of it otherwise than the models say."""

    rtl_cycles: int
    times_differing: int  # instructions
    bytes_differing: int  # of DRAM
    counts_differing: int  # of events that the RTL has counters for
    difference: str  # the first, in words; empty where there is none


def compare(rtl: Simulation, timing: Timing, memory: Bytes, config: HardwareConfig) -> Agreement:
    """Hold a simulation of one kernel, with its trace, against `timing`, with its, and `memory`.

    `memory` is the DRAM that the functional model leaves.
    """
    (kernel,) = rtl.kernels
    wrong_bytes = np.flatnonzero(rtl.memory != memory)
    pairs = zip(timing.steps, kernel.steps, strict=True)
    wrong_times = [(said, seen) for said, seen in pairs if _times(said) != _times(seen)]
    counts = list(_counts(rtl, timing, config))
    words = []
    if len(wrong_bytes):
        at = wrong_bytes[0]
        words.append(
            f"byte {at} of DRAM is {rtl.memory[at]} on the RTL, {memory[at]} on the functional model"
        )
    if wrong_times:
        said, seen = wrong_times[0]
        words.append(
            f"{said.issued.op} at site {said.issued.site} is dispatched, started, released and "
            f"completed in cycles {_times(seen)} on the RTL, {_times(said)} by the timing model"
        )
    if kernel.cycles != timing.cycles:
        words.append(f"{kernel.cycles:,} cycles on the RTL, {timing.cycles:,} by the timing model")
    words += counts
    first = words[0] if words else ""
    return Agreement(kernel.cycles, len(wrong_times), len(wrong_bytes), len(counts), first)


def _counts(rtl: Simulation, timing: Timing, config: HardwareConfig) -> Iterator[str]:
    """Counters of the RTL that are not the events that energy is charged for."""
    units = {"pe_active": config.macs_per_cycle}
    units |= {"dram_read_bytes": config.bus_bytes, "dram_write_bytes": config.bus_bytes}
    for event, counter in COUNTED.items():
        seen, said = rtl.counters[counter] * units.get(event, 1), timing.events[EVENT_INDEX[event]]
        if seen != said:
            yield f"{seen:,} {event} on the RTL, {said:,} by the timing model"


def _times(step: TimedStep | IssuedInstruction) -> tuple[int, int, int, int]:
    return step.dispatch, step.start, step.release, step.complete
