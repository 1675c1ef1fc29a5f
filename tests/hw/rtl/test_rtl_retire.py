"""Bench of retire: random pushes and done events against the recurrence of retirement times."""

import os
import random
from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

INSTRUCTIONS = 400


async def reset(dut: Any) -> None:
    for port in (dut.push_i, dut.kind_i, dut.signals_i, dut.tag_i, dut.done_i):
        port.value = 0
    dut.rst_ni.set(Immediate(0))  # what the clock's first value meets
    await start_clock_and_reset(dut)


@cocotb.test()
async def retires_in_order(dut: Any) -> None:
    """retire_n = max(retire_{n-1} + 1, own_n), with events of each kind in order."""
    depth, kinds = int(os.environ["DEPTH"]), int(os.environ["KINDS"])
    await reset(dut)
    in_flight: deque[tuple[int, int]] = deque()  # when retired, signals
    events: list[set[int]] = [set() for _ in range(kinds)]
    last_event, last_retired, pushed, cycle, longest = [0] * kinds, 0, 0, 0, 1
    while pushed < INSTRUCTIONS or in_flight:
        push = pushed < INSTRUCTIONS and len(in_flight) < depth and random.random() < 0.7
        assert dut.empty_o.value == (not in_flight)
        assert dut.full_o.value == (len(in_flight) == depth)
        dut.push_i.value = push
        if push:
            longest = random.choice([1, 3, 12]) if pushed % 40 == 0 else longest
            kind, signals = random.randrange(kinds), random.getrandbits(24)
            own = max(cycle + random.randint(1, longest), last_event[kind] + 1)
            last_event[kind] = own
            last_retired = max(last_retired + 1, own)
            events[kind].add(own)
            in_flight.append((last_retired, signals))
            dut.kind_i.value = kind
            dut.signals_i.value = signals
            dut.tag_i.value = pushed
            pushed += 1
        dut.done_i.value = sum((cycle in events[kind]) << kind for kind in range(kinds))
        await ReadOnly()
        retires = bool(in_flight) and in_flight[0][0] == cycle
        assert dut.retire_o.value == retires, f"cycle {cycle}"
        assert dut.signals_o.value == (in_flight.popleft()[1] if retires else 0)
        await FallingEdge(dut.clk_i)
        cycle += 1


@cocotb.test()
async def event_without_instruction(dut: Any) -> None:
    await reset(dut)
    dut.done_i.value = 1
    for _ in range(2):
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def too_many_instructions(dut: Any) -> None:
    await reset(dut)
    dut.push_i.value = 1
    for tag in range(int(os.environ["DEPTH"]) + 1):
        dut.tag_i.value = 100 + tag
        await FallingEdge(dut.clk_i)


@pytest.mark.parametrize(("depth", "kinds"), [(1, 1), (6, 3)])
def test_retire(depth: int, kinds: int) -> None:
    run_bench(
        "retire",
        __name__,
        {"Depth": depth, "Kinds": kinds},
        testcase="retires_in_order",
        environment={"DEPTH": str(depth), "KINDS": str(kinds)},
    )


@pytest.mark.parametrize(
    ("testcase", "words"),
    [
        ("event_without_instruction", "event 0 of kind 0 has no instruction"),
        ("too_many_instructions", "a full queue is pushed"),
    ],
)
def test_misuse_of_retire_stops_the_simulation(testcase: str, words: str) -> None:
    run_bench(
        "retire",
        __name__,
        {"Depth": 6, "Kinds": 3},
        testcase=testcase,
        fails_with=words,
        environment={"DEPTH": "6"},
    )
