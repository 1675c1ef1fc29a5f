"""Benches of the primitives: fifo and delay_line."""

import os
import random
from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock, start_clock_and_reset

CYCLES = 500


@cocotb.test()
async def fifo_keeps_order(dut: Any) -> None:
    depth, width = int(os.environ["DEPTH"]), int(os.environ["WIDTH"])
    model: deque[int] = deque()
    dut.push_i.value = 0
    dut.pop_i.value = 0
    dut.data_i.value = 0
    await start_clock_and_reset(dut)
    eager = 0.5
    for cycle in range(CYCLES):
        if cycle % 50 == 0:
            eager = random.choice([0.2, 0.5, 0.9])
        assert dut.valid_o.value == bool(model)
        assert dut.full_o.value == (len(model) == depth)
        assert dut.count_o.value == len(model)
        if model:
            assert dut.data_o.value == model[0]
        push = len(model) < depth and random.random() < eager
        pop = bool(model) and random.random() > eager
        word = random.getrandbits(width)
        dut.push_i.value = push
        dut.pop_i.value = pop
        dut.data_i.value = word
        if pop:
            model.popleft()
        if push:
            model.append(word)
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def fifo_overflows(dut: Any) -> None:
    dut.push_i.value = 1
    dut.pop_i.value = 0
    dut.data_i.value = 0
    await start_clock_and_reset(dut)
    for _ in range(int(os.environ["DEPTH"]) + 1):
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def delay_line_delays(dut: Any) -> None:
    depth, width = int(os.environ["DEPTH"]), int(os.environ["WIDTH"])
    words = [random.getrandbits(width) for _ in range(CYCLES)]
    start_clock(dut)
    await FallingEdge(dut.clk_i)
    for cycle, word in enumerate(words):
        dut.d_i.value = word
        await ReadOnly()
        if cycle >= depth:
            assert dut.q_o.value == words[cycle - depth]
        await FallingEdge(dut.clk_i)


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_fifo(depth: int) -> None:
    run_bench(
        "fifo",
        __name__,
        {"Width": 9, "Depth": depth},
        testcase="fifo_keeps_order",
        environment={"DEPTH": str(depth), "WIDTH": "9"},
    )


def test_a_push_into_a_full_fifo_stops_the_simulation() -> None:
    run_bench(
        "fifo",
        __name__,
        {"Width": 9, "Depth": 3},
        testcase="fifo_overflows",
        fails_with="a full queue is pushed",
        environment={"DEPTH": "3"},
    )


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_delay_line(depth: int) -> None:
    run_bench(
        "delay_line",
        __name__,
        {"Width": 33, "Depth": depth},
        testcase="delay_line_delays",
        environment={"DEPTH": str(depth), "WIDTH": "33"},
    )
