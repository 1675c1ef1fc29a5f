"""Compiled kernels on the whole machine under cocotb, twice: `system`, where Python sleeps until the
program ends, and `machine` alone, with cocotbext-axi's memory on its bus and Python as its host.
"""

import itertools
import logging
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout
from rtl_agreement import MACHINES, legal_dram
from rtl_bench import run_bench, start_clock_and_reset

from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.kinds import body, choose
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.encoding import LANES, encode_all
from codesign.hw.machine.program import Body, unroll
from codesign.hw.simulation.simulator import parameters
from codesign.hw.simulation.sources import SIMULATION
from codesign.hw.views import fast_timing
from codesign.hw.views.functional import Machine

CONFIG = MACHINES["dim4"]
PAGE = 1 << 12
A, B, C, PARAMETERS, OUT = (page * PAGE - 32 for page in range(1, 6))  # bursts stop at page ends
MATMUL = MatmulProblem(14, 22, 18, function="gelu", parameters=True)
SOFTMAX = RowProblem(9, 18, "softmax")
WORD_BYTES = 4 * LANES


@cocotb.test()
async def program_ends(dut: Any) -> None:
    await start_clock_and_reset(dut)
    await with_timeout(RisingEdge(dut.done_o), 1, "ms")


@cocotb.test()
async def on_axi(dut: Any) -> None:
    """$PAUSES: the share of cycles in which each channel, and the host, stalls."""
    from cocotbext.axi import AxiBus, AxiRam

    share, folder = float(os.environ["PAUSES"]), Path(os.environ["FOLDER"])
    logging.getLogger("cocotb.axi_names").setLevel(logging.WARNING)
    memory = bytearray((folder / "memory").read_bytes())
    bus = AxiBus.from_prefix(dut, "m_axi")
    ram = AxiRam(bus, dut.clk_i, dut.rst_ni, reset_active_level=False, mem=memory)
    writes, reads = ram.write_if, ram.read_if
    channels = (writes.aw_channel, writes.w_channel, writes.b_channel)
    for number, channel in enumerate((*channels, reads.ar_channel, reads.r_channel)):
        if share:
            channel.set_pause_generator(stalls(share, number))
    gaps = stalls(share, len(channels))
    dut.instr_valid_i.value = 0
    await start_clock_and_reset(dut)
    words = (folder / "program").read_bytes()
    kernel: list[int] = []
    for at in range(0, len(words), WORD_BYTES):
        kernel.append(int.from_bytes(words[at : at + WORD_BYTES], "little"))
        if kernel[-1] == 0 or at + WORD_BYTES == len(words):
            await with_timeout(run_kernel(dut, filter(None, kernel), gaps), 1, "ms")
            kernel.clear()
    (folder / "memory").write_bytes(memory)


async def run_kernel(dut: Any, words: Iterable[int], gaps: Iterator[bool]) -> None:
    """Hand over a kernel's instructions and wait until the machine is idle."""
    for word in words:
        while next(gaps):
            await FallingEdge(dut.clk_i)
        dut.instr_i.value = word
        dut.instr_valid_i.value = 1
        await RisingEdge(dut.clk_i)
        while not dut.instr_ready_o.value:
            await RisingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.instr_valid_i.value = 0
    await FallingEdge(dut.clk_i)
    while not dut.idle_o.value:
        await FallingEdge(dut.clk_i)
    assert dut.no_tokens_o.value


def stalls(share: float, number: int) -> Iterator[bool]:
    """Whether to stall, cycle by cycle; each `number` is a sequence of its own."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {number}")
    return (rng.random() < share for _ in itertools.count())


def kernels() -> list[Body]:
    """A matmul with GELU behind it, then softmax of its result."""
    table = cost_table(CONFIG)
    matmul, softmax = (choose(problem, CONFIG, "cycles", table) for problem in (MATMUL, SOFTMAX))
    assert matmul is not None
    assert softmax is not None
    places = {"a": A, "b": B, "c": C, "parameters": PARAMETERS}
    rows = {"x": C, "out": OUT}
    return [
        body(MATMUL, matmul.mapping, CONFIG, places),
        body(SOFTMAX, softmax.mapping, CONFIG, rows),
    ]


def write_files(folder: Path, bodies: list[Body]) -> npt.NDArray[np.uint8]:
    """Write `program` and `memory`; returns DRAM as the functional model leaves it."""
    words = [encode_all(unroll(kernel)).tobytes() for kernel in bodies]
    (folder / "program").write_bytes(bytes(WORD_BYTES).join(words))
    dram = legal_dram(6 * PAGE, CONFIG, seed=1)
    dram.tofile(folder / "memory")
    machine = Machine(CONFIG, dram)
    for kernel in bodies:
        machine.run(kernel)
    return machine.dram


def check_memory(folder: Path, expected: npt.NDArray[np.uint8]) -> None:
    memory = np.fromfile(folder / "memory", dtype=np.uint8)
    np.testing.assert_array_equal(memory, expected)


def test_kernels_under_cocotb(tmp_path: Path) -> None:
    bodies = kernels()
    expected = write_files(tmp_path, bodies)
    run_bench(
        "system",
        __name__,
        parameters(CONFIG),
        testcase="program_ends",
        plusargs=[f"+{name}={tmp_path / name}" for name in ("memory", "program", "results")],
        sources=[SIMULATION / "system.cpp"],
    )
    check_memory(tmp_path, expected)
    lines = (tmp_path / "results").read_text().splitlines()
    cycles = [int(line.split()[1]) for line in lines if line.startswith("kernel")]
    assert cycles == [fast_timing.time_kernel(kernel, CONFIG).cycles for kernel in bodies]


@pytest.mark.parametrize("pauses", [0.0, 0.3, 0.8])
def test_kernels_on_an_axi_bus(tmp_path: Path, pauses: float) -> None:
    expected = write_files(tmp_path, kernels())
    run_bench(
        "axi_names",
        __name__,
        parameters(CONFIG),
        testcase="on_axi",
        environment={"PAUSES": str(pauses), "FOLDER": str(tmp_path)},
        plusargs=[f"+memory_bytes={len(expected)}"],
        folders=[Path(__file__).parent / "axi"],
    )
    check_memory(tmp_path, expected)
