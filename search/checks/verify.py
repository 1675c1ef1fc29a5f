"""A plan held against the machine itself: every kernel of a network on the functional model or the RTL.

Kernels of one problem and mapping are one kernel: it runs once, on random operands in a memory of
its own. The functional backend checks that it keeps the contract of the machine, has no races and
takes the cycles that were priced; the RTL backend, beyond that, that the hardware leaves the same
bytes in DRAM and does every instruction in the same cycles.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.plan import kinds
from codesign.compiler.plan.lower import Plan, Step
from codesign.hw.errors import CodesignError, ProgramError
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import TIMED_EVENTS
from codesign.hw.machine.program import Kernel, Program
from codesign.hw.simulation import simulator
from codesign.hw.simulation.agreement import Disagreement, compare
from codesign.hw.views import fast_timing
from codesign.hw.views.functional import Machine
from codesign.hw.views.races import check_races
from codesign.hw.views.timing import Timing, evaluate_unrolled
from codesign.search.checks.operands import random_operands
from codesign.search.pricing.breakdown import common_name

MOST_NAMED = 8  # kernels, in a message


@dataclass(frozen=True)
class CheckOptions:
    """How to check: on which view of the machine, which kernels, and with which random operands."""

    backend: str  # functional, rtl
    kernel: str | None = None
    seed: int = 0
    waves: Path | None = None


@dataclass(frozen=True)
class Distinct:
    """All kernels of a plan that are of one problem and mapping; `index` counts them in the plan."""

    index: int
    steps: tuple[Step, ...]

    @property
    def problem(self) -> Problem | None:
        """What they compute; None on the host."""
        return self.steps[0].work.problem

    @property
    def names(self) -> list[str]:
        """Their names, those that differ in numbers as one."""
        alike: dict[str, list[str]] = {}
        for step in self.steps:
            alike.setdefault(_numberless(step.name), []).append(step.name)
        return [common_name(names) for names in alike.values()]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What came of one of `count` equal kernels.

    What the backend does not tell, or an error has kept from us, is None.
    """

    name: str
    also: str  # further names
    kind: str
    shape: str
    count: int
    cycles: int  # as priced, the host's included
    host_cycles: int
    instructions: int | None = None
    rtl_cycles: int | None = None
    times_differing: int | None = None  # instructions
    bytes_differing: int | None = None  # of DRAM
    counts_differing: int | None = None  # of events that the RTL has counters for
    difference: str = ""  # the first, in words

    @property
    def on_host(self) -> bool:
        """Whether there was nothing to check: no part of it runs on the accelerator."""
        return self.kind == "host"


@dataclass(frozen=True)
class Checked:
    """A check, and how long the functional model or the RTL ran for it."""

    check: Check
    seconds: float

    @property
    def kcycles_per_s(self) -> float | None:
        """Simulated cycles in thousands a second; None where nothing was simulated."""
        cycles = self.check.cycles - self.check.host_cycles
        return cycles / self.seconds / 1e3 if self.seconds else None


@dataclass(frozen=True)
class Summary:
    """What all checks come to. The network's numbers are None where not all of it was checked."""

    backend: str
    kernels: int  # on the accelerator
    instructions: int
    cycles: int  # of those kernels, each once
    differing: int  # kernels
    network_kernels: int | None
    network_cycles: int | None  # the sum over all its kernels, as priced
    host_cycles: int | None  # of them

    @property
    def view(self) -> str:
        """The view of the machine in words."""
        return {"functional": "functional model", "rtl": "RTL"}[self.backend]


def distinct(plan: Plan) -> list[Distinct]:
    """The distinct kernels of a plan in order of the first; those of the host by name and cycles."""
    alike: dict[object, list[Step]] = {}
    for step in plan.steps:
        key: object = (step.work.problem, step.mapping)
        if step.work.problem is None:
            key = (_numberless(step.name), step.cycles)
        alike.setdefault(key, []).append(step)
    return [Distinct(index, tuple(steps)) for index, steps in enumerate(alike.values())]


def select(found: Sequence[Distinct], options: CheckOptions) -> list[Distinct]:
    """Those with the name that `options` give, or else with it in their names.

    Braces, as in printed names, stand for any number. Raises CodesignError when there is none, when
    none of them runs on the accelerator, and when waves are to be of several.
    """
    chosen = list(found)
    if options.kernel is not None:
        parts = re.split(r"\{[^{}]*\}", options.kernel)
        wanted = re.compile(r"\d+".join(map(re.escape, parts)))
        exact = [d for d in found if any(wanted.fullmatch(step.name) for step in d.steps)]
        chosen = exact or [d for d in found if any(wanted.search(step.name) for step in d.steps)]
        if not chosen:
            raise CodesignError(_unknown(options.kernel, found))
    running = [d for d in chosen if d.problem is not None]
    if not running:
        names = [d.names[0] for d in found if d.problem is not None]
        others = f": on the accelerator are {_listed(names)}" if names else ""
        raise CodesignError(f"{_listed([d.names[0] for d in chosen])} runs on the host{others}")
    if options.waves is not None and len(running) != 1:
        names = [d.names[0] for d in running]
        raise CodesignError(
            f"waves are of one kernel, not of {len(running)}: choose it with --kernel, for example "
            f"{_listed(names)}"
        )
    return chosen


def build_rtl(
    config: HardwareConfig, options: CheckOptions, announce: Callable[[str], None]
) -> None:
    """Make sure that the RTL can run; `announce` gets a line when it has to be built first.

    Raises SimulatorError when it cannot be built here.
    """
    if options.backend == "rtl":
        line = f"building the RTL of machine {config.name}, about a minute, kept for next time"
        simulator.built_rtl(config, waves=options.waves, on_build=lambda: announce(line))


def check_all(
    chosen: Iterable[Distinct],
    config: HardwareConfig,
    options: CheckOptions,
    keep: Callable[[Checked], None],
) -> None:
    """Check kernel after kernel and hand each to `keep` as it finishes."""
    for kernel in chosen:
        keep(check(kernel, config, options))


def check(kernel: Distinct, config: HardwareConfig, options: CheckOptions) -> Checked:
    """Run one kernel. What goes wrong with it is a difference, not an exception.

    Raises SimulatorError when it is the simulator that cannot run here.
    """
    checker = _Checker(kernel, config, options)
    try:
        checker.run()
    except ProgramError as error:
        checker.differs(str(error))
    return checker.result()


def summary(checks: Sequence[Check], plan: Plan, options: CheckOptions) -> Summary:
    """Add the checks up."""
    ran = [check for check in checks if not check.on_host]
    count = sum(check.count for check in checks)
    whole = count == len(plan.steps)
    return Summary(
        backend=options.backend,
        kernels=len(ran),
        instructions=sum(check.instructions or 0 for check in ran),
        cycles=sum(check.cycles - check.host_cycles for check in ran),
        differing=sum(bool(check.difference) for check in ran),
        network_kernels=count if whole else None,
        network_cycles=sum(c.count * c.cycles for c in checks) if whole else None,
        host_cycles=sum(c.count * c.host_cycles for c in checks) if whole else None,
    )


def require_agreement(checks: Sequence[Check], total: Summary) -> None:
    """Raise Disagreement for the first kernel that differs, if one does."""
    for check in checks:
        if check.difference:
            raise Disagreement(
                f"{total.view}: {total.differing} of {total.kernels} kernels differ from what is "
                f"printed, the first is {check.name}: {check.difference}"
            )


class _Checker:
    """Runs one kernel on every view of the machine and notes what differs."""

    def __init__(self, kernel: Distinct, config: HardwareConfig, options: CheckOptions) -> None:
        self.kernel, self.config, self.options = kernel, config, options
        self.step = kernel.steps[0]
        self.found: dict[str, int] = {}  # fields of Check
        self.difference = ""
        self.seconds = 0.0

    def differs(self, words: str) -> None:
        """Note a difference, if it is the first."""
        self.difference = self.difference or " ".join(words.split())

    def result(self) -> Checked:
        problem = self.kernel.problem
        name, *others = self.kernel.names
        check = Check(
            name=name,
            also=", ".join(others),
            kind=self.step.kind,
            shape="" if problem is None else kinds.shape(problem),
            count=len(self.kernel.steps),
            cycles=self.step.cycles,
            host_cycles=self.step.host_cycles,
            difference=self.difference,
            **self.found,
        )
        return Checked(check, self.seconds)

    def run(self) -> None:
        problem, config = self.kernel.problem, self.config
        if problem is None:
            return
        seed = (self.options.seed, self.kernel.index)
        self.operands = random_operands(problem, config, seed)
        places, numbers = self.operands.places, self.operands.numbers
        self.body = kinds.body(problem, self.step.mapping, config, places, numbers)
        timing = evaluate_unrolled(self.body, config, trace=True)
        self.found["instructions"] = len(timing.steps)
        self._check_price(timing)
        check_races(self.body, config)
        memory = self._functional()
        if self.options.backend == "rtl":
            self._rtl(timing, memory)

    def _check_price(self, timing: Timing) -> None:
        """What was printed, the fast evaluator and the definition of timing say the same."""
        fast = fast_timing.time_kernel(self.body, self.config)
        priced = self.step.cycles - self.step.host_cycles
        if not priced == fast.cycles == timing.cycles:
            self.differs(
                f"{priced:,} cycles were priced, but the fast evaluator counts {fast.cycles:,} and "
                f"the timing model {timing.cycles:,}"
            )
        for index, name in enumerate(TIMED_EVENTS):  # others are priced where kernels are
            # MACs of heads that are padded to whole blocks are priced without the padding.
            found = (fast.events[index], *(() if name == "macs" else (self.step.events[index],)))
            if any(count != timing.events[index] for count in found):
                self.differs(f"other {name} were priced than the timing model counts")
                return

    def _functional(self) -> Bytes:
        """DRAM after the functional model, which may write the output only."""
        machine = Machine(self.config, self.operands.dram.copy())
        began = time.perf_counter()
        machine.run(self.body)
        self.seconds = time.perf_counter() - began
        changed = machine.dram != self.operands.dram
        changed[self.operands.output] = False
        if changed.any():
            self.differs(f"byte {int(changed.argmax())} of DRAM is written, outside the output")
        return machine.dram

    def _rtl(self, timing: Timing, memory: Bytes) -> None:
        name = self.step.name
        began = time.perf_counter()
        simulation = simulator.run_rtl(
            Program(name, (Kernel(name, self.body),)),
            self.config,
            self.operands.dram,
            seed=self.options.seed + 1,  # Verilator takes 0 for a seed of its own
            waves=self.options.waves,
        )
        self.seconds = time.perf_counter() - began
        agreement = compare(simulation, timing, memory, self.config)
        self.found |= {f: v for f, v in asdict(agreement).items() if f != "difference"}
        self.differs(agreement.difference)


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _unknown(name: str, found: Sequence[Distinct]) -> str:
    """No kernel has the name: the nearest, or what there is."""
    names = [step.name for kernel in found for step in kernel.steps]
    import difflib

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = (
        f"did you mean {near[0]}?" if near else f"there are {_listed([d.names[0] for d in found])}"
    )
    return f"no kernel is called {name!r}: {hint}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown
