"""A quantized network on the RTL: each kernel in turn, on what the RTL itself left in DRAM.

Backends of `inference.run`: one starts the RTL anew for each kernel, one keeps it running. The
functional model runs beside it on a DRAM of its own, and every kernel is compared: all of DRAM, the
cycles of every instruction, the counters.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from codesign.compiler.network.inference import Functional, Network
from codesign.hw.errors import ProgramError
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.encoding import Words, encode_all
from codesign.hw.machine.program import Issued, Kernel, Program
from codesign.hw.simulation import simulator
from codesign.hw.simulation.agreement import Agreement, Disagreement, compare
from codesign.hw.simulation.session import Session
from codesign.hw.simulation.simulator import Simulation
from codesign.hw.views.timing import Timing, evaluate_unrolled


@dataclass(frozen=True)
class KernelCheck:
    """A kernel of the network as the RTL ran it, and the cycles that the timing model says."""

    index: int  # in the Program
    name: str
    instructions: int
    cycles: int
    agreement: Agreement
    seconds: float  # of the RTL simulation


class Rtl(Functional):
    """The RTL, whose matrices the host reads, and the functional model beside it.

    Registers and memories of the RTL start from random contents of `seed` in every kernel: nothing
    but DRAM is carried on. `keep` gets every kernel's check as it finishes. Raises Disagreement
    after the first that differs.
    """

    def __init__(
        self, network: Network, keep: Callable[[KernelCheck], None], seed: int = 0
    ) -> None:
        super().__init__(network)
        self.memory = network.image.copy()
        self.keep, self.seed = keep, seed

    @property
    def dram(self) -> Bytes:
        """What the host reads."""
        return self.memory

    def step(self, index: int) -> None:
        """Run and compare one kernel."""
        kernel, timing = self.network.program.kernels[index], self.timing(index)
        found, seconds = self.simulated(kernel, timing, index)
        self.memory = found.memory
        agreement = compare(found, timing, self.machine.dram, self.config)
        check = KernelCheck(
            index, kernel.name, len(timing.steps), timing.cycles, agreement, seconds
        )
        self.keep(check)
        if agreement.difference:
            raise Disagreement(f"{kernel.name}: {agreement.difference}")

    def timing(self, index: int) -> Timing:
        """The times of a kernel's instructions; raises Disagreement where its price is another."""
        kernel, step = self.network.program.kernels[index], self.network.plan.steps[index]
        timing = evaluate_unrolled(kernel.body, self.config, trace=True)
        priced = step.cycles - step.host_cycles
        if priced != timing.cycles:
            raise Disagreement(
                f"{kernel.name}: {priced:,} cycles were priced, {timing.cycles:,} by the timing model"
            )
        return timing

    def simulated(self, kernel: Kernel, timing: Timing, index: int) -> tuple[Simulation, float]:
        """Run a kernel on the functional model, and on the RTL, which takes so many seconds."""
        super().step(index)
        began = time.perf_counter()
        with _on_rtl(kernel):
            found = simulator.run_rtl(
                Program(kernel.name, (Kernel(kernel.name, kernel.body),)),
                self.config,
                self.memory,
                seed=self.seed + 1,  # Verilator takes 0 for a seed of its own
            )
        return found, time.perf_counter() - began

    def _store(self, place: int, data: Bytes) -> None:
        super()._store(place, data)
        self.memory[place : place + len(data)] = data


class RunningRtl(Rtl):
    """The RTL of a running `Session`, which other networks may have used before: its machine keeps what
    kernels leave in its memories. The functional model computes a kernel at the same time.
    """

    def __init__(
        self, network: Network, session: Session, keep: Callable[[KernelCheck], None]
    ) -> None:
        super().__init__(network, keep)
        self.session = session
        self.memory = session.dram[: len(network.image)]
        self.memory[:] = network.image
        self.timings: dict[int, Timing] = {}
        self.encoded: dict[int, tuple[list[Issued], Words]] = {}

    def timing(self, index: int) -> Timing:
        """As `Rtl.timing`, once a kernel."""
        if index not in self.timings:
            self.timings[index] = super().timing(index)
        return self.timings[index]

    def simulated(self, kernel: Kernel, timing: Timing, index: int) -> tuple[Simulation, float]:
        """Run a kernel on the RTL, and beside it on the functional model."""
        if index not in self.encoded:
            issued = [step.issued for step in timing.steps]
            self.encoded[index] = issued, encode_all(issued)
        issued, words = self.encoded[index]
        began = time.perf_counter()
        with _on_rtl(kernel):
            self.session.begin(kernel, issued, words)
        for number, one in enumerate(issued):
            self.machine.step(one, number)
        with _on_rtl(kernel):
            found = self.session.end(len(self.memory))
        return found, time.perf_counter() - began


@contextmanager
def _on_rtl(kernel: Kernel) -> Iterator[None]:
    """What the RTL refuses is a difference: the functional model has run it, or will."""
    try:
        yield
    except ProgramError as error:
        raise Disagreement(f"{kernel.name} on the RTL: {error}") from error
