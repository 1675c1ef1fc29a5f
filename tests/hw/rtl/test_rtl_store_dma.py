"""Benches of store_dma: rows to AXI bursts, to the cycle and under back-pressure."""

import os
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, ReadOnly, Timer
from rtl_bench import run_bench, start_clock_and_reset

SLOT_LATENCY = 12  # from a slot to its row
WRITE_LATENCY = 4  # from a row to the W handshake of the beat that it completes
PAGE = 4096


@dataclass(frozen=True)
class Segment:
    """A contiguous run of beats: its rows, and every how many slots one comes."""

    addr: int
    rows: tuple[bytes, ...]
    beats: int
    interval: int
    ends_instruction: bool
    tag: int

    @property
    def is_word(self) -> bool:
        """Whether the rows are int32."""
        return len(self.rows[0]) == 4 * int(os.environ["DIM"])


@dataclass(frozen=True)
class Slot:
    """One slot: a row or none, and the segment that it begins, if any."""

    row: bytes | None
    begins: Segment | None
    ends: bool
    is_word: bool


def block_run(addr: int, rows: int, row_bytes: int, bus: int, ends: bool, tag: int) -> Segment:
    """A block of a function that is not a row function: rows packed into beats."""
    data = tuple(random.randbytes(row_bytes) for _ in range(rows))
    return Segment(addr, data, -(-rows * row_bytes // bus), max(1, row_bytes // bus), ends, tag)


def random_segments(dim: int, bus: int, instructions: int) -> list[Segment]:
    """Instructions of all kinds, at addresses that do not overlap, many of them near 4 KiB."""
    segments: list[Segment] = []
    at = random.randrange(1 << 39) * PAGE % (1 << 39)
    for tag in range(instructions):
        kind = random.choice(["int8", "int32", "row function", "row function"])
        at = ((at + 8 * bus) // PAGE + 1) * PAGE - random.choice([0, 1, 2, 3, 8]) * bus
        blocks = random.randint(1, 3)
        if kind == "row function":
            rows, unit = random.randint(1, 20), min(dim, bus)
            at += random.randrange(max(1, bus // unit)) * unit
            stride = rows * dim + random.randrange(4) * unit
            for row in range(rows):
                for block in range(blocks):
                    ends = (row, block) == (rows - 1, blocks - 1)
                    to = at + block * stride + row * dim
                    segments.append(block_run(to, 1, dim, bus, ends, tag))
            at += blocks * stride
            continue
        row_bytes = 4 * dim if kind == "int32" else dim
        rows = random.choice([1, 2, 7, 16, random.randint(1, 40)])
        if tag % 8 == 3:
            rows, blocks = -(-300 * bus // row_bytes), 1  # longer than a burst may be
        stride = (rows * row_bytes + bus - 1) // bus * bus + random.randrange(3) * bus
        for block in range(blocks):
            to = at + block * stride
            segments.append(block_run(to, rows, row_bytes, bus, block == blocks - 1, tag))
        at += blocks * stride
    return segments


def slots(segments: list[Segment]) -> Iterator[Slot]:
    """The slots of these segments, back to back."""
    for segment in segments:
        for i, row in enumerate(segment.rows):
            last = i == len(segment.rows) - 1
            yield Slot(row, segment if i == 0 else None, last, segment.is_word)
            for _ in range(segment.interval - 1):
                yield Slot(None, None, False, segment.is_word)


@dataclass
class Memory:
    """An AXI write slave: what it was sent, and the answers that it owes."""

    bus: int
    bytes: dict[int, int] = field(default_factory=dict)
    requests: deque[tuple[int, int]] = field(default_factory=deque)  # address, beats
    beats: deque[tuple[int, int, bool]] = field(default_factory=deque)  # data, strobe, last
    bursts: list[int] = field(default_factory=list)  # beats of each complete one

    def take(self) -> bool:
        """Carry out the oldest burst, if all of it is here."""
        if not self.requests or len(self.beats) < self.requests[0][1]:
            return False
        addr, count = self.requests.popleft()
        assert addr % self.bus == 0 and 1 <= count <= 256
        assert addr // PAGE == (addr + count * self.bus - 1) // PAGE, "a burst crosses 4 KiB"
        for i in range(count):
            data, strobe, last = self.beats.popleft()
            assert last == (i == count - 1), "W last is not where the burst ends"
            for lane, byte in enumerate(data.to_bytes(self.bus, "little")):
                if strobe >> lane & 1:
                    assert addr + i * self.bus + lane not in self.bytes, "a byte is written twice"
                    self.bytes[addr + i * self.bus + lane] = byte
        self.bursts.append(count)
        return True


class Bench:
    """Drives slots, rows and the memory's side of the AXI channels, one cycle at a time."""

    def __init__(self, dut: Any, segments: list[Segment], stalls: bool) -> None:
        self.dut, self.segments, self.stalls = dut, segments, stalls
        self.dim, self.bus = int(os.environ["DIM"]), int(os.environ["BUS"])
        self.latency = int(os.environ["LATENCY"])
        self.memory = Memory(self.bus)
        self.waiting = deque(slots(segments))
        self.rows: dict[int, Slot] = {}  # by the cycle in which they enter
        self.filled = 0  # bytes of the segment so far
        self.expected_w: deque[int] = deque()  # cycles
        self.answers: deque[int] = deque()  # cycles
        self.answered = self.beats_answered = 0
        self.instruction_ends: set[int] = set()
        self.segment_ends: set[int] = set()
        total = 0
        for segment in segments:
            total += segment.beats
            self.segment_ends.add(total)
            if segment.ends_instruction:
                self.instruction_ends.add(total)
        self.ready_rate = 1.0
        self.gap = 0

    def idle(self) -> None:
        """Drive every input idle, in reset."""
        self.dut.rst_ni.value = 0
        for name in ("seg_valid", "row_valid", "aw_ready", "w_ready", "b_valid"):
            getattr(self.dut, f"{name}_i").value = 0

    def drive_slots(self, cycle: int) -> None:
        """Issue a slot if one may be, and the row of the slot of 12 cycles before."""
        dut, ready = self.dut, bool(self.dut.slot_ready_o.value)
        assert ready or self.stalls, f"slots stall in cycle {cycle}"
        dut.seg_valid_i.value = 0
        if self.gap:
            self.gap -= 1
        elif self.waiting and ready:
            slot = self.waiting.popleft()
            if slot.begins is not None:
                dut.seg_valid_i.value = 1
                dut.seg_addr_i.value = slot.begins.addr
                dut.seg_beats_i.value = slot.begins.beats
                dut.seg_last_i.value = slot.begins.ends_instruction
                dut.seg_tag_i.value = slot.begins.tag
            if slot.row is not None:
                self.rows[cycle + SLOT_LATENCY] = slot
            if random.random() < 0.02:
                self.gap = random.randrange(20)
        row = self.rows.pop(cycle, None)
        dut.row_valid_i.value = row is not None
        if row is not None and row.row is not None:
            dut.row_data_i.value = int.from_bytes(row.row, "little")
            dut.row_word_i.value = row.is_word
            dut.row_last_i.value = row.ends
            self.filled += len(row.row)
            complete = -(-self.filled // self.bus) if row.ends else self.filled // self.bus
            self.expected_w.extend(cycle + WRITE_LATENCY + i for i in range(complete))
            self.filled = 0 if row.ends else self.filled - complete * self.bus

    def drive_memory(self, cycle: int) -> bool:
        """Take requests and beats, answer bursts; whether an instruction's last is answered."""
        dut, memory = self.dut, self.memory
        if self.stalls and cycle % 150 == 0:
            self.ready_rate = random.choice([0.0, 0.1, 0.5, 0.95, 1.0])
        aw_ready = not self.stalls or random.random() < self.ready_rate
        w_ready = not self.stalls or random.random() < self.ready_rate
        dut.aw_ready_i.value, dut.w_ready_i.value = aw_ready, w_ready
        aw = bool(dut.aw_valid_o.value) and aw_ready
        if dut.w_valid_o.value and w_ready:
            assert self.stalls or memory.requests, "W comes before its AW"
            beat = dut.w_data_o.value, dut.w_strb_o.value, bool(dut.w_last_o.value)
            memory.beats.append((int(beat[0]), int(beat[1]), beat[2]))
            due = self.expected_w.popleft()
            assert due == cycle or (self.stalls and due < cycle), f"W due in {due} is in {cycle}"
        if aw:
            memory.requests.append((int(dut.aw_addr_o.value), int(dut.aw_len_o.value) + 1))
        while memory.take():
            delay = random.randrange(1, 60) if self.stalls else self.latency
            last = self.answers[-1] if self.answers else 0
            self.answers.append(max(last + 1, cycle + delay))
        answers = bool(self.answers) and self.answers[0] <= cycle
        dut.b_valid_i.value = answers
        if not answers:
            return False
        assert dut.b_ready_o.value == 1
        self.answers.popleft()
        before, burst = self.beats_answered, memory.bursts[self.answered]
        self.answered += 1
        self.beats_answered += burst
        assert not any(before < end < before + burst for end in self.segment_ends)
        return self.beats_answered in self.instruction_ends

    async def run(self) -> None:
        """Run to the last answer and check the memory."""
        self.idle()
        await Timer(1, "ns")  # all this before the first edge
        await start_clock_and_reset(self.dut)
        cycle = 0
        everything = sum(segment.beats for segment in self.segments)
        while self.beats_answered < everything:
            self.drive_slots(cycle)
            done = self.drive_memory(cycle)
            await ReadOnly()
            assert bool(self.dut.done_o.value) == done, f"done in cycle {cycle}"
            await FallingEdge(self.dut.clk_i)
            cycle += 1
            assert cycle < 100_000, "the bench does not end"
        expected = {
            segment.addr + i: byte
            for segment in self.segments
            for i, byte in enumerate(b"".join(segment.rows))
        }
        assert self.memory.bytes == expected
        assert not self.expected_w and not self.memory.requests and not self.memory.beats


@cocotb.test()
async def writes_in_exact_cycles(dut: Any) -> None:
    dim, bus = int(os.environ["DIM"]), int(os.environ["BUS"])
    await Bench(dut, random_segments(dim, bus, 30), stalls=False).run()


@cocotb.test()
async def survives_stalls(dut: Any) -> None:
    dim, bus = int(os.environ["DIM"]), int(os.environ["BUS"])
    await Bench(dut, random_segments(dim, bus, 30), stalls=True).run()


@cocotb.test()
async def one_beat_segments_take_a_cycle_each(dut: Any) -> None:
    """Back to back, and each an instruction, long enough to fill every queue."""
    dim, bus, latency = (int(os.environ[name]) for name in ("DIM", "BUS", "LATENCY"))
    count = 3 * latency + 100
    assert dim <= bus
    segments = [block_run(i * bus, 1, dim, bus, True, i) for i in range(count)]
    await Bench(dut, segments, stalls=False).run()


@cocotb.test()
async def breaks_a_rule(dut: Any) -> None:
    """A segment of instruction 12 that is not aligned, or rows that it did not announce."""
    dim, bus = int(os.environ["DIM"]), int(os.environ["BUS"])
    bench = Bench(dut, [], stalls=False)
    bench.idle()
    await Timer(1, "ns")
    await start_clock_and_reset(dut)
    dut.seg_valid_i.value, dut.seg_beats_i.value, dut.seg_tag_i.value = 1, 2, 12
    dut.seg_last_i.value = 1
    dut.seg_addr_i.value = bus // 2 if os.environ["FAULT"] == "alignment" else 0
    await FallingEdge(dut.clk_i)
    dut.seg_valid_i.value = 0
    for _ in range(SLOT_LATENCY - 1):
        await FallingEdge(dut.clk_i)
    dut.row_valid_i.value, dut.row_word_i.value, dut.row_last_i.value = 1, 0, 1
    dut.row_data_i.value = random.getrandbits(8 * dim)
    await FallingEdge(dut.clk_i)
    dut.row_valid_i.value = 0
    await FallingEdge(dut.clk_i)


def run(dim: int, bus: int, latency: int, **options: Any) -> None:
    """One bench of a store_dma of this shape."""
    shape = {"DIM": str(dim), "BUS": str(bus), "LATENCY": str(latency)}
    run_bench(
        "store_dma",
        __name__,
        {"Dim": dim, "BusBytes": bus, "DramLatencyCycles": latency},
        environment=shape | options.pop("environment", {}),
        **options,
    )


SHAPES = [(4, 1, 50), (8, 4, 1), (16, 128, 50)]  # dim, bus_bytes, dram_latency_cycles
MORE = [(4, 16, 7), (8, 16, 50), (16, 16, 20)]


@pytest.mark.parametrize(
    ("dim", "bus", "latency"),
    [*SHAPES, *(pytest.param(*sizes, marks=pytest.mark.long) for sizes in MORE)],
)
def test_store_dma(dim: int, bus: int, latency: int) -> None:
    run(dim, bus, latency, testcase=["writes_in_exact_cycles", "survives_stalls"])


def test_one_beat_segments() -> None:
    run(4, 16, 7, testcase="one_beat_segments_take_a_cycle_each")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("alignment", "instruction 12 writes a segment of 2 beats to address 8"),
        ("rows", "instruction 12 announced 2 beats of a segment and writes 4 bytes"),
    ],
)
def test_a_fault_stops_the_simulation(fault: str, words: str) -> None:
    run(4, 16, 7, testcase="breaks_a_rule", fails_with=words, environment={"FAULT": fault})
