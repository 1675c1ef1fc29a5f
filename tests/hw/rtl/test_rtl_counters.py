"""Bench of counters: every event against a sum in Python."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, Timer
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.events import COUNTERS

WIDTH = 9  # narrow, so that the counters wrap


@cocotb.test()
async def counts_every_event(dut: Any) -> None:
    counts = [0] * 32
    dut.counted_i.value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ns")  # all this before the first edge
    await start_clock_and_reset(dut)
    for _ in range(800):
        select = random.randrange(32)
        dut.select_i.value = select
        added = [0] * 32
        word = at = 0
        for i, counter in enumerate(COUNTERS):  # members of counted_t, from bit 0 up
            pulses = random.getrandbits(counter.ports) if random.random() < 0.8 else 0
            word |= pulses << at
            at += counter.ports
            added[i] = pulses.bit_count()
        dut.counted_i.value = word
        await ReadOnly()
        assert dut.value_o.value == counts[select] % (1 << WIDTH), f"counter {select}"
        counts = [count + more for count, more in zip(counts, added, strict=True)]
        await FallingEdge(dut.clk_i)


def test_counters() -> None:
    run_bench("counters", __name__, {"Width": WIDTH})
