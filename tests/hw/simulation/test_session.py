"""A simulator that stays: kernel after kernel as in a process of its own, and what ends it."""

from pathlib import Path

import numpy as np
import pytest

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import COUNTERS
from codesign.hw.machine.program import Affine, Body, Instruction, Issued, Kernel, unroll
from codesign.hw.simulation.session import LEAST_BYTES, Session
from codesign.hw.simulation.simulator import run_rtl
from codesign.hw.simulation.verilator import SimulatorError

DUMMY = Path(__file__).parents[1] / "rtl" / "dummy"
CONFIG = HardwareConfig(
    dim=4, scratchpad_bytes=1024, accumulator_bytes=4096, bus_bytes=8, dram_latency_cycles=7,
    parameter_channels=64,
)  # fmt: skip
SIZE = 1024


def copied(source: int, target: int) -> Body:
    """The stand-in's program that copies a beat."""
    values = {"rows": 1, "blocks": 1}
    return tuple(
        Instruction(op, values, {"dram": Affine(address)})
        for op, address in (("mvin", source), ("mvout", target))
    )


def kernel(name: str, body: Body) -> tuple[Kernel, list[Issued]]:
    return Kernel(name, body), list(unroll(body))


def test_kernels_are_as_in_a_process_each() -> None:
    """DRAM, cycles, times and counters of three kernels, the host writing in between."""
    dram = np.random.default_rng(5).integers(0, 256, SIZE, dtype=np.uint8)
    bodies = [copied(8, 512), (*copied(512, 64), *copied(16, 1016)), copied(1016, 0)]
    with Session(CONFIG, SIZE, folders=(DUMMY,)) as session:
        session.dram[:SIZE] = dram
        for number, body in enumerate(bodies):
            one, issued = kernel(f"kernel {number}", body)
            session.begin(one, issued)
            found = session.end(SIZE)
            wanted = run_rtl([body], CONFIG, dram, folders=(DUMMY,))
            np.testing.assert_array_equal(found.memory, wanted.memory)
            assert found.kernels[0].name == f"kernel {number}"
            assert found.cycles == wanted.cycles > 0
            assert found.kernels[0].steps == wanted.kernels[0].steps
            counts = wanted.counters if number == 0 else (len(issued),) * len(COUNTERS)
            assert found.counters == counts  # the stand-in counts instructions, from another start
            dram = wanted.memory
            dram[24 + number] ^= 0xFF
            session.dram[24 + number] ^= 0xFF


def test_a_failed_assertion_names_the_instruction_of_its_kernel() -> None:
    """The RTL's own numbers count those of the kernels before."""
    preload = Instruction("preload", {"rows": 4})
    wrong = Instruction("preload", {"rows": 99})
    words = (
        r"^preload at site 1 \(instruction 1 of ill\) is one that preload at site 0 "
        r"\(instruction 0 of ill\) would not follow \(machine_checks\.sv:\d+\)$"
    )
    with Session(CONFIG, SIZE, folders=(DUMMY,)) as session:
        session.begin(*kernel("well", copied(8, 512)))
        session.end(SIZE)
        session.begin(*kernel("ill", (preload, wrong)))
        with pytest.raises(ProgramError, match=words):
            session.end(SIZE)


def test_a_process_that_has_ended_is_said() -> None:
    with Session(CONFIG, SIZE, folders=(DUMMY,)) as session:
        session._process.kill()
        session._process.wait()
        with pytest.raises(
            SimulatorError, match=r"^the simulator ended with exit code -9: no message$"
        ):
            session.begin(*kernel("late", copied(8, 512)))
            session.end(SIZE)


def test_memory_is_as_large_as_is_asked_for() -> None:
    with Session(CONFIG, LEAST_BYTES + 1, folders=(DUMMY,)) as session:
        assert session.size == len(session.dram) == LEAST_BYTES + 1
