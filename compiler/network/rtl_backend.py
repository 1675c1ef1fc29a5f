"""A quantized network on the RTL: each kernel in turn, on what the RTL itself left in DRAM.

A backend of `inference.run`. The functional model runs beside it on a DRAM of its own, and every
kernel is compared: all of DRAM, the cycles of every instruction, the counters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from codesign.compiler.network.inference import Functional, Network
from codesign.hw.errors import ProgramError
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.program import Kernel, Program
from codesign.hw.simulation import simulator
from codesign.hw.simulation.agreement import Agreement, Disagreement, compare
from codesign.hw.views.timing import evaluate_unrolled


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
        kernel, step = self.network.program.kernels[index], self.network.plan.steps[index]
        timing = evaluate_unrolled(kernel.body, self.config, trace=True)
        priced = step.cycles - step.host_cycles
        if priced != timing.cycles:
            raise Disagreement(
                f"{kernel.name}: {priced:,} cycles were priced, {timing.cycles:,} by the timing model"
            )
        super().step(index)
        began = time.perf_counter()
        try:
            found = simulator.run_rtl(
                Program(kernel.name, (Kernel(kernel.name, kernel.body),)),
                self.config,
                self.memory,
                seed=self.seed + 1,  # Verilator takes 0 for a seed of its own
            )
        except ProgramError as error:
            raise Disagreement(f"{kernel.name} on the RTL: {error}") from error
        seconds = time.perf_counter() - began
        self.memory = found.memory
        agreement = compare(found, timing, self.machine.dram, self.config)
        check = KernelCheck(
            index, kernel.name, len(timing.steps), timing.cycles, agreement, seconds
        )
        self.keep(check)
        if agreement.difference:
            raise Disagreement(f"{kernel.name}: {agreement.difference}")

    def _store(self, place: int, data: Bytes) -> None:
        super()._store(place, data)
        self.memory[place : place + len(data)] = data
