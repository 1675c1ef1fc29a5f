"""Benches of the memories: banked_memory as each of its uses, parameter_memory, and the race checker."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, Timer
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.quantities import ACCESS

CYCLES = 1500


@dataclass(frozen=True)
class Memory:
    """What the ports of a memory are for, in their order.

    The reads of the first `updates` read ports are judged two cycles later (accumulate ports).
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    word_bits: int  # of one lane
    updates: int = 0
    banked: bool = True


MEMORIES = {
    "scratchpad": Memory(("a", "b"), ("load", "drain"), 8),
    "accumulator": Memory(("mesh", "load", "drain"), ("mesh", "load"), 32, updates=2),
    "parameter_memory": Memory(("p0", "p1"), ("load",), 64, banked=False),
}


class Bench:
    """A memory whose ports are driven one by one, by names such as `load_write`."""

    def __init__(self, dut: Any, memory: Memory) -> None:
        self.dut = dut
        self.memory = memory
        self.accesses = {"read": [0] * len(memory.reads), "write": [0] * len(memory.writes)}

    def access(self, name: str, valid: bool, row: int = 0, tag: int = 0) -> None:
        """Drive the access of a port."""
        port, _, kind = name.partition("_")
        words = self.accesses[kind]
        number = (self.memory.reads if kind == "read" else self.memory.writes).index(port)
        words[number] = ACCESS.pack({"valid": valid, "row": row, "tag": tag})
        together = sum(word << ACCESS.bits * at for at, word in enumerate(words))
        getattr(self.dut, f"{kind}_i").value = together

    def drive(self, port: str, word: int) -> None:
        """Drive the data of a write port."""
        data = self.dut.write_data_i
        (data[self.memory.writes.index(port)] if self.memory.banked else data).value = word

    def seen(self, port: str) -> Any:
        """The data of a read port."""
        return self.dut.read_data_o[self.memory.reads.index(port)].value

    async def reset(self) -> None:
        """Drive every port idle and reset."""
        self.dut.rst_ni.value = 0
        for port in self.memory.reads:
            self.access(f"{port}_read", False)
        for port in self.memory.writes:
            self.access(f"{port}_write", False)
            self.drive(port, 0)
        await Timer(1, "ns")  # all this before the first edge
        await start_clock_and_reset(self.dut)

    async def write(self, port: str, row: int, tag: int, word: int = 0) -> None:
        """One write, by itself in its cycle."""
        self.access(f"{port}_write", True, row, tag)
        self.drive(port, word)
        await FallingEdge(self.dut.clk_i)
        self.access(f"{port}_write", False)

    async def read(self, port: str, row: int, tag: int) -> None:
        """One read, by itself in its cycle."""
        self.access(f"{port}_read", True, row, tag)
        await FallingEdge(self.dut.clk_i)
        self.access(f"{port}_read", False)


@cocotb.test()
async def reads_and_writes_agree_with_a_list(dut: Any) -> None:
    """Random accesses, the tag of each being its cycle; every output is checked in every cycle."""
    memory = MEMORIES[os.environ["MEMORY"]]
    width = memory.word_bits * int(os.environ["DIM"])
    banks, bank_rows = int(os.environ["BANKS"]), int(os.environ["BANK_ROWS"])
    rows = banks * bank_rows
    bench = Bench(dut, memory)
    await bench.reset()
    model = [random.getrandbits(width) for _ in range(rows)]
    for row, word in enumerate(model):
        await bench.write(memory.writes[row % len(memory.writes)], row, 0, word)
    expected: list[dict[str, int]] = [{}, {}]  # data to appear in two cycles and in one
    shown: dict[str, int] = {}
    guarded: set[int] = set()  # rows that an accumulate port has read in the cycle before
    eager = 0.5
    for cycle in range(1, CYCLES):
        if cycle % 100 == 0:
            eager = random.choice([0.1, 0.5, 1.0])
        shown |= expected.pop()
        for port, data in shown.items():
            assert bench.seen(port) == data, f"{port} in cycle {cycle}"
        few = random.sample(range(rows), 4)
        new: dict[str, int] = {}
        taken: set[int] = set()
        now_guarded: set[int] = set()
        for port in memory.reads:
            row = random.choice(few)
            active = random.random() < eager and not (memory.banked and row // bank_rows in taken)
            bench.access(f"{port}_read", active, row, cycle)
            if active:
                taken.add(row // bank_rows)
                new[port] = model[row]
                if memory.reads.index(port) < memory.updates:
                    now_guarded.add(row)
        taken.clear()
        for port in memory.writes:
            row, word = random.choice(few), random.getrandbits(width)
            active = random.random() < eager and row not in guarded
            active = active and not (memory.banked and row // bank_rows in taken)
            bench.access(f"{port}_write", active, row, cycle)
            bench.drive(port, word)
            if active:
                taken.add(row // bank_rows)
                model[row] = word
        guarded = now_guarded
        expected.insert(0, new)
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def breaks_a_rule(dut: Any) -> None:
    """Provoke the error named in FAULT, with instructions 12 and 17 and row 5."""
    memory = MEMORIES[os.environ["MEMORY"]]
    bank_rows = int(os.environ["BANK_ROWS"])
    first, last = memory.reads[0], memory.reads[-1]
    bench = Bench(dut, memory)
    await bench.reset()
    if os.environ["FAULT"] != "never written":
        await bench.write(memory.writes[0], 5, 1)
    match os.environ["FAULT"]:
        case "never written":
            await bench.read(last, 5, 12)
        case "overwritten":
            await bench.write(memory.writes[-1], 5, 17)
            await bench.read(last, 5, 12)
        case "written":
            await bench.write(memory.writes[-1], 5, 17)
            await bench.write(memory.writes[0], 5, 12)
        case "read":
            await bench.read(last, 5, 17)
            await bench.write(memory.writes[-1], 5, 12)
        case "read in the same cycle":
            bench.access(f"{last}_read", True, 5, 17)
            await bench.write(memory.writes[-1], 5, 12)
        case "one bank read":
            bench.access(f"{first}_read", True, 5, 12)
            await bench.read(last, 5, 17)
        case "one bank written":
            bench.access(f"{memory.writes[0]}_write", True, 4, 12)
            await bench.write(memory.writes[1], 5, 17)
        case "out of range":
            await bench.read(last, int(os.environ["BANKS"]) * bank_rows, 12)
        case fault:
            raise ValueError(fault)
    await FallingEdge(dut.clk_i)
    await FallingEdge(dut.clk_i)


@cocotb.test()
async def accumulate_ports_bypass_without_errors(dut: Any) -> None:
    """Rows that follow each other through the mesh port: the reads come before the writes."""
    memory = MEMORIES["accumulator"]
    bench = Bench(dut, memory)
    await bench.reset()
    for cycle in range(12):  # instruction 0 overwrites row 5, 1 to 9 add to it
        bench.access("mesh_read", 1 <= cycle < 10, 5, cycle)
        bench.access("mesh_write", 2 <= cycle < 12, 5, max(0, cycle - 2))
        await FallingEdge(dut.clk_i)
    bench.access("mesh_write", False)
    await bench.read("drain", 5, 10)
    await FallingEdge(dut.clk_i)


@cocotb.test()
async def an_update_misses_a_write(dut: Any) -> None:
    """The load unit writes, late, a row that the mesh is adding to."""
    memory = MEMORIES["accumulator"]
    bench = Bench(dut, memory)
    await bench.reset()
    await bench.write("mesh", 5, 1)
    await bench.read("mesh", 5, 17)
    await bench.write("load", 5, 12)
    await FallingEdge(dut.clk_i)


def run(memory: str, dim: int, banks: int, bank_rows: int, **options: Any) -> None:
    """One bench of a memory of this shape; `environment` is extended by the shape."""
    ports = MEMORIES[memory]
    parameters = {"Dim": dim, "Rows": bank_rows}
    if ports.banked:
        parameters = {
            "Width": ports.word_bits * dim,
            "Banks": banks,
            "BankRows": bank_rows,
            "Reads": len(ports.reads),
            "Writes": len(ports.writes),
            "Updates": ports.updates,
        }
    environment: Mapping[str, str] = options.pop("environment", {})
    options.setdefault("seed", 2)  # with 1, the random clock rises before reset can be driven
    shape = {"MEMORY": memory, "DIM": dim, "BANKS": banks, "BANK_ROWS": bank_rows}
    run_bench(
        "banked_memory" if ports.banked else memory,
        __name__,
        parameters,
        environment={name: str(value) for name, value in shape.items()} | dict(environment),
        **options,
    )


@pytest.mark.parametrize(
    ("memory", "dim", "banks", "bank_rows"),
    [
        ("scratchpad", 4, 4, 12),
        ("scratchpad", 8, 2, 16),
        ("accumulator", 4, 4, 12),
        ("accumulator", 8, 2, 16),
        ("parameter_memory", 4, 1, 7),
        ("parameter_memory", 8, 1, 8),
    ],
)
def test_memory(memory: str, dim: int, banks: int, bank_rows: int) -> None:
    run(memory, dim, banks, bank_rows, testcase="reads_and_writes_agree_with_a_list")


FAULTS = {
    "never written": "instruction 12 reads {} row 5 that was never written",
    "overwritten": "instruction 12 reads {} row 5 that instruction 17 has overwritten",
    "written": "instruction 12 writes {} row 5 that instruction 17 has written",
    "read": "instruction 12 writes {} row 5 that instruction 17 has read",
    "read in the same cycle": "instruction 12 writes {} row 5 that instruction 17 has read",
    "one bank read": "instruction 12 and instruction 17 read {} bank 0 in one cycle",
    "one bank written": "instruction 12 and instruction 17 write {} bank 0 in one cycle",
    "out of range": "instruction 12 reads {} row {} of {}",
}


@pytest.mark.parametrize(
    ("memory", "fault"),
    [
        (memory, fault)
        for memory, ports in MEMORIES.items()
        for fault in FAULTS
        if ports.banked or not fault.startswith("one bank")
    ],
)
def test_a_fault_stops_the_simulation(memory: str, fault: str) -> None:
    banks, bank_rows = (1, 7) if memory == "parameter_memory" else (4, 12)
    name = "parameter" if fault == "out of range" else "parameter memory"
    rows = banks * bank_rows
    run(
        memory,
        4,
        banks,
        bank_rows,
        testcase="breaks_a_rule",
        fails_with=FAULTS[fault].format(
            name if memory == "parameter_memory" else "memory", rows, rows
        ),
        environment={"FAULT": fault},
    )


def test_accumulate_ports_bypass() -> None:
    run("accumulator", 4, 4, 12, testcase="accumulate_ports_bypass_without_errors")


def test_an_update_that_misses_a_write_stops_the_simulation() -> None:
    run(
        "accumulator",
        4,
        4,
        12,
        testcase="an_update_misses_a_write",
        fails_with="instruction 12 writes memory row 5 that instruction 17 has read",
    )
