"""system.sv under cocotb, with a stand-in for the machine: Python sleeps until the program ends."""

from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.encoding import LANES, encode_all
from codesign.hw.machine.program import Affine, Instruction, unroll
from codesign.hw.simulation.sources import SIMULATION


@cocotb.test()
async def program_ends(dut: Any) -> None:
    await start_clock_and_reset(dut)
    await with_timeout(RisingEdge(dut.done_o), 100, "us")


def test_a_program_runs_under_cocotb(tmp_path: Path) -> None:
    values = {"rows": 1, "blocks": 1}
    body = (
        Instruction("mvin", values, {"dram": Affine(16)}),
        Instruction("mvout", values, {"dram": Affine(32)}),
    )
    words = encode_all(unroll(body)).tobytes()
    (tmp_path / "program").write_bytes(words + bytes(4 * LANES) + words)
    dram = np.arange(64, dtype=np.uint8)
    dram.tofile(tmp_path / "memory")
    run_bench(
        "system",
        __name__,
        {"BusBytes": 16, "DramLatencyCycles": 5},
        plusargs=[f"+{name}={tmp_path / name}" for name in ("memory", "program", "results")],
        folders=[Path(__file__).parent / "dummy"],
        sources=[SIMULATION / "system.cpp"],
    )
    dram[32:48] = dram[16:32]
    np.testing.assert_array_equal(np.fromfile(tmp_path / "memory", dtype=np.uint8), dram)
    kernels = [line for line in (tmp_path / "results").read_text().splitlines() if "kernel" in line]
    assert len(kernels) == 2
    assert kernels[0] == kernels[1]
