"""Bench of the load unit, with a DRAM of fixed latency (to the cycle) and one that stalls (data)."""

import json
import os
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.encoding import SIGNALS, WAITS, encode
from codesign.hw.machine.isa import TARGETS
from codesign.hw.machine.program import Issued
from codesign.hw.machine.quantities import HEAD, SUMS
from codesign.hw.views.timing import LOAD_LATENCY, mvin_cycles, row_bytes

INSTRUCTIONS = 60
ROWS = {"scratchpad": 700, "accumulator": 300, "accumulator_int32": 300, "parameters": 90}
PAGE, MAX_BEATS = 4096, 256


@dataclass
class Dram:
    """Read side of an AXI memory: a beat a cycle, the first one `latency` cycles after its request."""

    bus: int
    latency: int
    ready: float = 1.0  # probability that a request is taken
    valid: float = 1.0  # probability that a beat that is due is offered
    contents: bytes = field(default_factory=lambda: random.randbytes(65521))
    due: deque[tuple[int, int, bool]] = field(default_factory=deque)  # cycle, address, last
    offered: bool = False

    def read(self, address: int, size: int) -> bytes:
        start = address % len(self.contents)
        return (self.contents[start:] + self.contents)[:size]

    def drive(self, dut: Any, cycle: int) -> None:
        dut.ar_ready_i.value = random.random() < self.ready
        due = bool(self.due) and self.due[0][0] <= cycle
        self.offered = due and (self.offered or random.random() < self.valid)
        dut.r_valid_i.value = self.offered
        _, address, last = self.due[0] if self.offered else (0, random.getrandbits(40), False)
        dut.r_data_i.value = int.from_bytes(self.read(address, self.bus), "little")
        dut.r_last_i.value = last

    def observe(self, dut: Any, cycle: int) -> tuple[int, int] | None:
        """After the cycle's outputs have settled; returns the address and beats of a request."""
        if self.offered and dut.r_ready_o.value:
            self.due.popleft()
            self.offered = False
        if not (dut.ar_valid_o.value and dut.ar_ready_i.value):
            return None
        address, beats = int(dut.ar_addr_o.value), int(dut.ar_len_o.value) + 1
        for i in range(beats):
            self.due.append((cycle + self.latency + i, address + i * self.bus, i == beats - 1))
        return address, beats


@dataclass(frozen=True)
class Row:
    target: int
    row: int
    data: bytes
    accumulate: bool
    tag: int


def random_load(config: HardwareConfig) -> Issued:
    """A load of any target, short or long, or a load_sync."""
    tokens = [
        tuple((name, random.choice([0, 0, 1, 255])) for name in names["load"])
        for names in (WAITS, SIGNALS)
    ]
    if random.random() < 0.2:
        return Issued(0, "load_sync", {}, {}, {}, *tokens)
    target = random.randrange(len(TARGETS))
    height = ROWS[TARGETS[target]]
    rows = random.choice([1, 2, random.randint(1, 20), random.randint(1, height)])
    blocks = random.choice([1, 1, random.randint(1, 4)])
    if config.bus_bytes < 4:
        rows = min(rows, 60)
    blocks = min(blocks, height // rows)
    stride = random.randint(0, (height - rows) // (blocks - 1)) if blocks > 1 else 999
    local = random.randint(0, height - rows - stride * (blocks - 1) * (blocks > 1))
    bus = config.bus_bytes
    near_page_end = PAGE - bus * random.randint(1, 40) if bus <= 64 else PAGE - bus
    dram = (random.getrandbits(27) * PAGE + random.choice([0, near_page_end])) % (1 << 40)
    pitch = random.choice([rows * row_bytes(config, TARGETS[target]), 12345, 1 << 30])
    return Issued(
        0,
        "mvin",
        {"rows": rows, "blocks": blocks, "target": target},
        {
            "dram": dram,
            "dram_stride": -(-pitch // bus) * bus,
            "local": local,
            "stride": stride,
            "scale": random.choice([1, (1 << 24) - 1, random.getrandbits(24)]),
        },
        {"accumulate": TARGETS[target].startswith("accumulator") and random.random() < 0.5},
        *tokens,
    )


def expected_rows(
    config: HardwareConfig, dram: Dram, load: Issued, tag: int
) -> Iterator[tuple[int, Row]]:
    """The rows of a mvin in order, each with its slot, counted from 0."""
    v, a = load.values, load.addresses
    target = TARGETS[v["target"]]
    size = row_bytes(config, target)
    beats = max(1, size // config.bus_bytes)
    block_slots = mvin_cycles(config, v["rows"], 1, target)
    for block in range(v["blocks"]):
        run = dram.read((a["dram"] + block * a["dram_stride"]) % (1 << 40), v["rows"] * size)
        for row in range(v["rows"]):
            data = run[row * size : (row + 1) * size]
            if target == "accumulator":
                wide = np.frombuffer(data, np.int8).astype(np.int64) * a["scale"]
                data = wide.astype("<i4").tobytes()
            slot = block * block_slots + (row + 1) * beats - 1
            local = a["local"] + block * a["stride"] + row
            yield slot, Row(v["target"], local, data, load.flags["accumulate"], tag)


def expected_bursts(config: HardwareConfig, load: Issued) -> Iterator[tuple[int, tuple[int, int]]]:
    """The bursts of a mvin in order, each with its slot: address and beats."""
    v, a = load.values, load.addresses
    target, bus = TARGETS[v["target"]], config.bus_bytes
    size = row_bytes(config, target)
    block_slots = mvin_cycles(config, v["rows"], 1, target)
    for block in range(v["blocks"]):
        start = (a["dram"] + block * a["dram_stride"]) % (1 << 40)
        beat, beats = 0, -(-v["rows"] * size // bus)
        while beat < beats:
            address = start + beat * bus
            burst = min(beats - beat, MAX_BEATS, (PAGE - address % PAGE) // bus)
            yield block * block_slots + beat * max(1, bus // size), (address, burst)
            beat += burst


def word(counts: tuple[tuple[str, int], ...]) -> int:
    return sum(count << (8 * i) for i, (_, count) in enumerate(counts))


def head(load: Issued | None, tag: int) -> int:
    """The head of a queue, empty where there is no load."""
    return HEAD.pack({"valid": 1, "instr": encode(load), "tag": tag} if load else {})


async def reset(dut: Any) -> None:
    for name in ("head_i", "waits_ready_i"):
        getattr(dut, name).value = 0
    for name in ("ar_ready_i", "r_valid_i", "r_data_i", "r_last_i"):
        getattr(dut, name).value = 0
    dut.rst_ni.set(Immediate(0))  # what the clock's first value meets
    await start_clock_and_reset(dut)


def take_row(dut: Any) -> Row | None:
    """The row that the unit puts out in this cycle."""
    if not dut.row_valid_o.value:
        return None
    target = int(dut.row_target_o.value)
    lanes = {"scratchpad": 1, "parameters": 8}.get(TARGETS[target], 4)
    size = lanes * int(os.environ["DIM"])
    data = int(dut.row_data_o.value) & ((1 << (8 * size)) - 1)
    sums = SUMS.unpack(int(dut.row_sums_o.value))
    return Row(
        target,
        sums["row"],
        data.to_bytes(size, "little"),
        bool(sums["accumulate"]),
        sums["tag"],
    )


def machine() -> HardwareConfig:
    return HardwareConfig(
        dim=int(os.environ["DIM"]),
        bus_bytes=int(os.environ["BUS"]),
        dram_latency_cycles=int(os.environ["LATENCY"]),
    )


@cocotb.test()
async def keeps_time(dut: Any) -> None:
    """Start, every burst, every row, release and completion in the cycle of the timing model."""
    config = machine()
    latency = config.dram_latency_cycles
    dram = Dram(config.bus_bytes, latency)
    await reset(dut)
    free = cycle = tag = 0
    completed = -1
    load: Issued | None = None
    bursts: dict[int, tuple[int, int]] = {}
    rows: dict[int, Row] = {}
    releases: dict[int, int] = {}
    completes: dict[int, int] = {}
    eager = 1.0
    while tag < INSTRUCTIONS or completed >= cycle:
        if cycle % 100 == 0:
            eager = random.choice([0.1, 0.7, 1.0])
        if load is None and tag < INSTRUCTIONS and random.random() < eager:
            load = random_load(config)
            if eager == 1.0 and load.op == "mvin" and random.random() < 0.8:  # many in flight
                load.values.update(rows=1, blocks=1)  # type: ignore[attr-defined]
        dut.head_i.value = head(load, tag)
        ready = random.random() < 0.7 if eager < 1 else True
        dut.waits_ready_i.value = ready
        dram.drive(dut, cycle)
        await ReadOnly()

        assert dut.idle_o.value == (completed < cycle)
        if load is not None:
            assert dut.waits_o.value == word(load.waits)
        starts = load is not None and ready and cycle >= free
        assert dut.start_o.value == starts, f"cycle {cycle}, instruction {tag}"
        assert dut.head_pop_o.value == starts
        if starts and load is not None:
            if load.op == "mvin":
                v = load.values
                slots = mvin_cycles(config, v["rows"], v["blocks"], TARGETS[v["target"]])
                for slot, burst in expected_bursts(config, load):
                    bursts[cycle + 1 + slot] = burst
                for slot, row in expected_rows(config, dram, load, tag):
                    rows[cycle + 1 + slot + latency + 2] = row
                free = cycle + slots
                own = free + latency + LOAD_LATENCY
            else:
                free = own = cycle + 1
            completed = max(completed + 1, own)
            releases[free] = completes[completed] = word(load.signals)
            load, tag = None, tag + 1
        assert dram.observe(dut, cycle) == bursts.pop(cycle, None), f"cycle {cycle}"
        assert take_row(dut) == rows.pop(cycle, None), f"cycle {cycle}"
        assert dut.release_o.value == (cycle in releases), f"cycle {cycle}"
        assert dut.release_signals_o.value == releases.pop(cycle, 0)
        assert dut.complete_o.value == (cycle in completes), f"cycle {cycle}"
        assert dut.complete_signals_o.value == completes.pop(cycle, 0)
        await FallingEdge(dut.clk_i)
        cycle += 1
    assert not (bursts or rows or releases or completes or dram.due)


@cocotb.test()
async def keeps_order(dut: Any) -> None:
    """With a DRAM that stalls: all bursts and rows in order, and everything completes after them."""
    config = machine()
    dram = Dram(config.bus_bytes, config.dram_latency_cycles)
    await reset(dut)
    loads = [random_load(config) for _ in range(INSTRUCTIONS)]
    movers = [(tag, load) for tag, load in enumerate(loads) if load.op == "mvin"]
    bursts = deque(burst for _, load in movers for _, burst in expected_bursts(config, load))
    rows = deque(row for tag, load in movers for _, row in expected_rows(config, dram, load, tag))
    last_row = {row.tag: row for row in rows}
    written: dict[int, int] = {}
    tag = released = completed = cycle = 0
    request: tuple[int, int] | None = None
    while completed < INSTRUCTIONS:
        if cycle % 200 == 0:
            dram.ready, dram.valid = random.choice(
                [(1, 1), (0.3, 1), (1, 0.3), (0.5, 0.5), (1, 0.02)]
            )
        dut.head_i.value = head(loads[tag] if tag < INSTRUCTIONS else None, tag)
        dut.waits_ready_i.value = 1
        dram.drive(dut, cycle)
        await ReadOnly()
        # A request that is not taken stays as it is.
        if dut.ar_valid_o.value:
            offer = (int(dut.ar_addr_o.value), int(dut.ar_len_o.value))
            assert request in (None, offer)
            request = None if dut.ar_ready_i.value else offer
        else:
            assert request is None
        burst = dram.observe(dut, cycle)
        if burst is not None:
            assert burst == bursts.popleft()
        row = take_row(dut)
        if row is not None:
            expected = rows.popleft()
            assert row == expected
            if expected is last_row[row.tag]:
                written[row.tag] = cycle
        if dut.complete_o.value:
            assert dut.complete_signals_o.value == word(loads[completed].signals)
            assert completed not in last_row or cycle >= written[completed] + 2
            completed += 1
        if dut.release_o.value:
            assert dut.release_signals_o.value == word(loads[released].signals)
            released += 1
        tag += bool(dut.start_o.value)
        await FallingEdge(dut.clk_i)
        cycle += 1
        assert cycle < 200_000
    assert not (bursts or rows or dram.due) and dut.idle_o.value == 1


@cocotb.test()
async def starts_one(dut: Any) -> None:
    """Start the instruction of the environment, as number 77."""
    values = json.loads(os.environ["FIELDS"])
    named = {"rows", "blocks", "target"}
    load = Issued(
        0,
        "mvin",
        {name: value for name, value in values.items() if name in named},
        {name: value for name, value in values.items() if name not in named},
        {},
        (),
        (),
    )
    await reset(dut)
    dut.head_i.value = head(load, 77)
    dut.waits_ready_i.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk_i)


def run(testcase: str | list[str], dim: int, bus: int, latency: int, **more: Any) -> None:
    environment = {"DIM": str(dim), "BUS": str(bus), "LATENCY": str(latency)}
    environment |= more.pop("environment", {})
    parameters = {
        "Dim": dim,
        "BusBytes": bus,
        "DramLatencyCycles": latency,
        "ScratchpadRows": ROWS["scratchpad"],
        "AccumulatorRows": ROWS["accumulator"],
        "ParameterRows": ROWS["parameters"],
    }
    run_bench("load_unit", __name__, parameters, testcase=testcase, environment=environment, **more)


MORE = [(4, 16, 20), (8, 64, 50), (16, 16, 33)]  # dim, bus_bytes, dram_latency_cycles


@pytest.mark.parametrize(
    ("dim", "bus", "latency"),
    [
        (4, 1, 1), (8, 16, 7), (16, 128, 2),
        *(pytest.param(*sizes, marks=pytest.mark.long) for sizes in MORE),
    ],
)  # fmt: skip
def test_load_unit(dim: int, bus: int, latency: int) -> None:
    run(["keeps_time", "keeps_order"], dim, bus, latency)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rows": 0, "blocks": 2}, "instruction 77 loads 0 rows of 2 blocks"),
        ({"rows": 1, "blocks": 0}, "instruction 77 loads 1 rows of 0 blocks"),
        (
            {"rows": 3, "blocks": 1, "dram": 24},
            "instruction 77: a block at 0x0000000018, stride 0x00000000, does not begin with a beat",
        ),
        (
            {"rows": 3, "blocks": 2, "dram": 32, "dram_stride": 8},
            "instruction 77: a block at 0x0000000020, stride 0x00000008, does not begin with a beat",
        ),
        (
            {"rows": 3, "blocks": 2, "target": 3, "local": 80, "stride": 8},
            "instruction 77 writes rows up to 90 of target 3, which has 90",
        ),
    ],
)
def test_a_load_that_makes_no_sense_stops_the_simulation(
    fields: dict[str, int], words: str
) -> None:
    run(
        "starts_one",
        8,
        16,
        7,
        environment={"FIELDS": json.dumps(fields)},
        fails_with=words,
    )
