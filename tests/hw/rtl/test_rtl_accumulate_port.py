"""Bench of accumulate_port: random rows that repeat at all distances, against a memory in Python."""

import os
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.triggers import FallingEdge, Timer
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine import arithmetic
from codesign.hw.machine.quantities import ACCESS, SUMS

CYCLES = 1500
ROWS = 3


def shifted(words: npt.NDArray[np.uint32], octaves: int) -> npt.NDArray[np.uint32]:
    """Two's complement over a power of two, to the nearest with ties up."""
    found = arithmetic.rounded(words.view(np.int32).astype(np.int64), octaves)
    return found.astype(np.int32).view(np.uint32)


@cocotb.test()
async def adds_in_order(dut: Any) -> None:
    """Every row is written two cycles after it entered, with the sum of all before it, of which one
    summand may be shifted.
    """
    dim = int(os.environ["DIM"])
    rng = np.random.default_rng(dim)
    dut.valid_i.value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ps")
    await start_clock_and_reset(dut)

    sums = rng.integers(0, 1 << 32, (ROWS, dim), np.uint32)  # as if no access took time
    memory = sums.copy()
    expected: dict[int, tuple[int, bytes, int, bool]] = {}  # writes by cycle
    reads: dict[int, bytes] = {}  # data by cycle
    busy = 0.9
    for cycle in range(CYCLES):
        if cycle % 100 == 0:
            busy = float(rng.choice([0.3, 0.9, 1.0]))
        valid = rng.random() < busy
        row, accumulate, last = (
            int(rng.integers(ROWS)),
            bool(rng.integers(4)),
            bool(rng.integers(2)),
        )
        data = rng.integers(0, 1 << 32, dim, np.uint32)
        dut.valid_i.value = valid
        align, old = int(rng.choice([0, 1, 9, 31])), bool(rng.integers(2))
        sums_of = {"row": row, "accumulate": accumulate, "last": last, "tag": cycle}
        sums_of |= {"align": align, "align_old": old}
        dut.sums_i.value = SUMS.pack(sums_of)
        dut.data_i.value = int.from_bytes(data.tobytes(), "little")
        junk = rng.bytes(4 * dim)
        dut.read_data_i.value = int.from_bytes(reads.pop(cycle, junk), "little")
        if valid:
            so_far = sums[row] if accumulate else np.zeros_like(data)
            sums[row] = shifted(so_far, align * old) + shifted(data, align * (not old))
            expected[cycle + 2] = (row, sums[row].tobytes(), cycle, last)
        await Timer(100, "ps")
        read, write = (ACCESS.unpack(int(port.value)) for port in (dut.read_o, dut.write_o))
        assert read["valid"] == (valid and accumulate)
        if valid and accumulate:
            assert (read["row"], read["tag"]) == (row, cycle)
            reads[cycle + 2] = memory[row].tobytes()  # before this cycle's write
        assert write["valid"] == (cycle in expected)
        assert dut.last_o.value == (cycle in expected and expected[cycle][3])
        if cycle in expected:
            at, written, tag, _ = expected.pop(cycle)
            assert (write["row"], write["tag"]) == (at, tag)
            assert int(dut.write_data_o.value) == int.from_bytes(written, "little"), f"{cycle}"
            memory[at] = np.frombuffer(written, np.uint32)
        await FallingEdge(dut.clk_i)


@pytest.mark.parametrize("dim", [4, 8])
def test_accumulate_port(dim: int) -> None:
    run_bench("accumulate_port", __name__, {"Dim": dim}, environment={"DIM": str(dim)})
