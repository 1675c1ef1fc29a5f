"""The simulator's surroundings of the machine, with a stand-in for the machine itself."""

from pathlib import Path

import numpy as np
import pytest

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import COUNTERS
from codesign.hw.machine.isa import OPERATION
from codesign.hw.machine.program import Affine, Body, Instruction, Kernel, Program
from codesign.hw.simulation.simulator import Simulation, built_rtl, run_rtl
from codesign.hw.simulation.verilator import SimulatorError

DUMMY = Path(__file__).parents[1] / "rtl" / "dummy"
CONFIG = HardwareConfig(
    dim=4, scratchpad_bytes=1024, accumulator_bytes=4096, bus_bytes=8, dram_latency_cycles=7,
    parameter_channels=64,
)  # fmt: skip


def run(program: Program | list[Body], dram: np.ndarray | Path, **options: object) -> Simulation:
    return run_rtl(program, CONFIG, dram, folders=(DUMMY,), timeout_s=60, **options)  # type: ignore[arg-type]


def move(op: str, address: int) -> Instruction:
    values = {"rows": 1, "blocks": 1}
    return Instruction(op, values, {"dram": Affine(address)})


def copies(pairs: list[tuple[int, int]]) -> Body:
    """The stand-in's program that copies beats."""
    return tuple(
        move(op, address)
        for source, target in pairs
        for op, address in (("mvin", source), ("mvout", target))
    )


SYNC = Instruction("execute_sync")
PRELOAD = Instruction("preload", {"rows": 4})
COMPUTE = Instruction("compute", {"rows": 4, "depth": 4, "width": 4})


def memory(size: int = 1024) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("backpressure", [0.0, 0.4])
def test_beats_are_copied(backpressure: float) -> None:
    dram = memory()
    expected = dram.copy()
    pairs = [(8, 512), (64, 520), (1016, 0)]
    for source, target in pairs:
        expected[target : target + 8] = expected[source : source + 8]
    simulation = run([copies(pairs[:1]), copies(pairs[1:])], dram, backpressure=backpressure)
    np.testing.assert_array_equal(simulation.memory, expected)
    assert not np.array_equal(dram, expected)
    assert [kernel.name for kernel in simulation.kernels] == ["kernel 0", "kernel 1"]


def test_times_are_those_of_the_machine() -> None:
    latency = CONFIG.dram_latency_cycles
    simulation = run([(SYNC, *copies([(0, 8)])), (), (PRELOAD, COMPUTE)], memory())
    first, empty, last = simulation.kernels
    times = [(s.issued.op, s.dispatch, s.start, s.release, s.complete) for s in first.steps]
    load = 8 + 1  # after the completion of the synchronization
    drain = load + 5 + latency
    assert times == [
        ("execute_sync", 0, 1, 7, 8),
        ("mvin", load, load + 1, load + 3 + latency, load + 4 + latency),
        ("mvout", drain, drain + 1, drain + 4 + latency, drain + 5 + latency),
    ]
    assert first.cycles == drain + 5 + latency + 1
    assert (empty.cycles, empty.steps) == (0, ())
    assert [(s.issued.op, s.start) for s in last.steps] == [("preload", 1), ("compute", 10)]
    assert last.cycles == 18
    assert simulation.cycles == first.cycles + last.cycles
    assert simulation.counters == tuple(5 + 1000 * index for index in range(len(COUNTERS)))


def test_a_program_keeps_the_names_of_its_kernels() -> None:
    program = Program("p", (Kernel("host", host_cycles=3), Kernel("copy", copies([(0, 8)]))))
    simulation = run(program, memory(), trace=False)
    assert [(k.name, len(k.steps)) for k in simulation.kernels] == [("host", 0), ("copy", 0)]
    assert simulation.kernels[0].cycles == 0 < simulation.kernels[1].cycles


def test_a_file_is_used_in_place(tmp_path: Path) -> None:
    dram = memory()
    path = tmp_path / "dram"
    dram.tofile(path)
    simulation = run([copies([(8, 16)])], path)
    dram[16:24] = dram[8:16]
    np.testing.assert_array_equal(np.fromfile(path, dtype=np.uint8), dram)
    np.testing.assert_array_equal(simulation.memory, dram)


def test_a_failed_assertion_names_the_instruction_and_its_kernel() -> None:
    wrong = Instruction("preload", {"rows": 99})
    program = Program("p", (Kernel("a", (SYNC,)), Kernel("b", (SYNC, PRELOAD, wrong, SYNC))))
    words = (
        r"^preload at site 2 \(instruction 2 of b\) is one that preload at site 1 "
        r"\(instruction 1 of b\) would not follow \(machine_checks\.sv:\d+\)$"
    )
    with pytest.raises(ProgramError, match=words):
        run(program, memory())


def test_a_machine_that_hangs_is_found_out() -> None:
    hanging = Instruction("preload", {"rows": 98})
    with pytest.raises(ProgramError, match=r"^nothing has happened for \d+ cycles: the machine is"):
        run([(SYNC, hanging)], memory())


def test_a_run_may_take_so_long() -> None:
    with pytest.raises(SimulatorError, match=r"^the simulation took more than 0\.0001 s$"):
        run_rtl([(SYNC,)], CONFIG, memory(), folders=(DUMMY,), timeout_s=1e-4)


def test_an_address_beyond_the_memory_is_a_program_error() -> None:
    with pytest.raises(ProgramError, match=r"^the write of 1 beats at 0x400 is beyond the memory"):
        run([copies([(0, 1024)])], memory())


def test_waves_as_vcd(tmp_path: Path) -> None:
    waves = tmp_path / "waves.vcd"
    run([copies([(0, 8)])], memory(), waves=waves)
    assert "instr_valid" in waves.read_text()


def test_waves_of_another_kind_are_refused() -> None:
    with pytest.raises(SimulatorError, match=r"waves are written as \.vcd or \.fst"):
        built_rtl(CONFIG, waves=Path("waves.ghw"))


def test_a_machine_beyond_the_rtl_is_refused() -> None:
    with pytest.raises(SimulatorError, match="dim 32, not 64"):
        built_rtl(HardwareConfig(dim=64, scratchpad_bytes=1 << 20, accumulator_bytes=1 << 20))


def test_backpressure_is_a_share() -> None:
    with pytest.raises(ValueError, match="below 1"):
        run([], memory(), backpressure=1.0)


def test_every_operation_has_its_pulses() -> None:
    from codesign.hw.simulation.simulator import PULSE, _start_pulse

    for name, operation in OPERATION.items():
        assert _start_pulse(name) in PULSE
        assert f"{operation.unit}_release" in PULSE
