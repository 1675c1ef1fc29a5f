"""Bench of counters: every event against a sum in Python."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, Timer
from rtl_bench import run_bench, start_clock_and_reset

WIDTH = 9  # narrow, so that the counters wrap
EVENTS = {  # inputs in the order of the counters, and how many ports each has
    "busy": 1,
    "dispatch": 1,
    "mvin_beat": 1,
    "mvout_beat": 1,
    "scratchpad_read": 2,
    "scratchpad_write": 2,
    "accumulator_read": 3,
    "accumulator_write": 2,
    "mesh_row": 1,
    "weight_row": 1,
    "load_busy": 1,
    "execute_busy": 1,
    "drain_busy": 1,
    "load_wait": 1,
    "execute_wait": 1,
    "drain_wait": 1,
    "dispatch_stall": 1,
}


@cocotb.test()
async def counts_every_event(dut: Any) -> None:
    counts = [0] * 32
    for name in EVENTS:
        getattr(dut, f"{name}_i").value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ns")  # all this before the first edge
    await start_clock_and_reset(dut)
    for _ in range(800):
        select = random.randrange(32)
        dut.select_i.value = select
        added = [0] * 32
        for i, (name, ports) in enumerate(EVENTS.items()):
            pulses = random.getrandbits(ports) if random.random() < 0.8 else 0
            getattr(dut, f"{name}_i").value = pulses
            added[i] = pulses.bit_count()
        await ReadOnly()
        assert dut.value_o.value == counts[select] % (1 << WIDTH), f"counter {select}"
        counts = [count + more for count, more in zip(counts, added, strict=True)]
        await FallingEdge(dut.clk_i)


def test_counters() -> None:
    run_bench("counters", __name__, {"Width": WIDTH})
