"""Bench of the front end: routing, numbering and back-pressure of instructions."""

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.encoding import INSTRUCTION_BITS, OPCODE_BITS
from codesign.hw.machine.isa import OPERATIONS, UNITS
from codesign.hw.machine.quantities import HEAD

INSTRUCTIONS = 600
DEPTHS = {"load": 2, "execute": 5, "drain": 3}
PARAMETERS = {f"{unit.capitalize()}QueueDepth": depth for unit, depth in DEPTHS.items()}


async def reset(dut: Any) -> None:
    dut.instr_valid_i.value = 0
    dut.instr_i.value = 0
    for unit in UNITS:
        getattr(dut, f"{unit}_pop_i").value = 0
    dut.rst_ni.set(Immediate(0))  # what the clock's first value meets
    await start_clock_and_reset(dut)


@cocotb.test()
async def dispatches(dut: Any) -> None:
    """One instruction a cycle to its unit's queue, in order, while that queue has room."""
    await reset(dut)
    queues: dict[str, deque[tuple[int, int]]] = {unit: deque() for unit in UNITS}
    tag, word, unit, stalls = 0, 0, "", 0
    eager = dict.fromkeys(UNITS, 0.5)
    while tag < INSTRUCTIONS or any(queues.values()):
        if tag % 50 == 0:
            eager = {name: random.choice([0.05, 0.4, 1.0]) for name in UNITS}
        if not unit and tag < INSTRUCTIONS and random.random() < 0.9:
            operation = random.choice(OPERATIONS)
            unit = operation.unit
            word = random.getrandbits(INSTRUCTION_BITS - OPCODE_BITS) << OPCODE_BITS
            word |= operation.opcode
        dut.instr_valid_i.value = bool(unit)
        dut.instr_i.value = word
        pops = {}
        for name, queue in queues.items():
            seen = HEAD.unpack(int(getattr(dut, f"{name}_o").value))
            assert seen["valid"] == bool(queue)
            if queue:
                assert (seen["tag"], seen["instr"]) == queue[0]
            pops[name] = bool(queue) and random.random() < eager[name]
            getattr(dut, f"{name}_pop_i").value = pops[name]
        ready = bool(unit) and len(queues[unit]) < DEPTHS[unit]
        await ReadOnly()
        assert dut.dispatch_o.value == ready
        if unit:
            assert dut.instr_ready_o.value == ready
            stalls += not ready
        for name, pop in pops.items():
            if pop:
                queues[name].popleft()
        if ready:
            queues[unit].append((tag, word))
            tag, unit = tag + 1, ""
        await FallingEdge(dut.clk_i)
    assert stalls > 20


@cocotb.test()
async def illegal_opcode(dut: Any) -> None:
    await reset(dut)
    dut.instr_valid_i.value = 1
    for opcode in (1, 2, 0):
        dut.instr_i.value = opcode
        await FallingEdge(dut.clk_i)


def test_front_end() -> None:
    run_bench("front_end", __name__, PARAMETERS, testcase="dispatches")


def test_an_illegal_opcode_stops_the_simulation() -> None:
    run_bench(
        "front_end",
        __name__,
        PARAMETERS,
        testcase="illegal_opcode",
        fails_with="instruction 2 has the illegal opcode 0",
    )
