"""The simulated memory: its latency to the cycle, its bytes, and the protocol that it checks."""

import os
import random
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.simulation.sources import SIMULATION

MEMORY_BYTES = 16384
INCR = 1
READS = 40


def contents() -> bytes:
    """The memory's bytes before the bench."""
    return random.Random(3).randbytes(MEMORY_BYTES)


class Bench:
    """Drives the memory's five channels; every `step` is a cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bus = int(os.environ["BUS"])
        self.latency = int(os.environ["LATENCY"])
        self.cycle = 0

    async def start(self) -> None:
        dut = self.dut
        for channel in ("aw", "w", "ar"):
            getattr(dut, f"{channel}_valid_i").value = 0
        for channel in ("aw", "ar"):
            getattr(dut, f"{channel}_size_i").value = self.bus.bit_length() - 1
            getattr(dut, f"{channel}_burst_i").value = INCR
        dut.r_ready_i.value = 1
        dut.b_ready_i.value = 1
        await start_clock_and_reset(dut)

    async def step(self) -> None:
        self.cycle += 1
        await FallingEdge(self.dut.clk_i)

    def drive_address(self, channel: str, burst: tuple[int, int] | None) -> None:
        getattr(self.dut, f"{channel}_valid_i").value = burst is not None
        if burst is not None:
            getattr(self.dut, f"{channel}_addr_i").value = burst[0]
            getattr(self.dut, f"{channel}_len_i").value = burst[1] - 1

    def drive_data(self, beat: tuple[int, int, bool] | None) -> None:
        self.dut.w_valid_i.value = beat is not None
        if beat is not None:
            self.dut.w_data_i.value, self.dut.w_strb_i.value, self.dut.w_last_i.value = beat

    def random_burst(self) -> tuple[int, int]:
        """Address and beats of a burst within 4 KiB."""
        page = random.randrange(MEMORY_BYTES // 4096)
        first = random.randrange(4096 // self.bus)
        beats = random.randint(1, min(256, 4096 // self.bus - first, random.choice([1, 4, 40])))
        return 4096 * page + self.bus * first, beats


@cocotb.test()
async def reads_come_on_time(dut: Any) -> None:
    """Fixed latency: every beat in the very cycle that the contract names, R always taken."""
    bench, memory = Bench(dut), contents()
    await bench.start()
    expected: deque[tuple[int, bytes, bool]] = deque()  # cycle, data, last
    busy_until = 0
    for number in range(READS):
        burst = bench.random_burst() if random.random() < 0.5 or not number else None
        wait = random.choice([0, 0, 1, 30])
        bench.drive_address("ar", burst)
        for idle in range(wait + 1):
            if idle:
                bench.drive_address("ar", None)
            elif burst is not None:
                assert dut.ar_ready_o.value == 1
                address, beats = burst
                start = max(bench.cycle + bench.latency, busy_until)
                busy_until = start + beats
                for beat in range(beats):
                    at = address + beat * bench.bus
                    data = memory[at : at + bench.bus]
                    expected.append((start + beat, data, beat == beats - 1))
            check_read(bench, expected)
            await bench.step()
    bench.drive_address("ar", None)
    while expected:
        check_read(bench, expected)
        await bench.step()


def check_read(bench: Bench, expected: deque[tuple[int, bytes, bool]]) -> None:
    dut = bench.dut
    due = bool(expected) and expected[0][0] == bench.cycle
    assert dut.r_valid_o.value == due, f"cycle {bench.cycle}"
    if due:
        _, data, last = expected.popleft()
        assert int(dut.r_data_o.value) == int.from_bytes(data, "little")
        assert dut.r_last_o.value == last


@cocotb.test()
async def responses_come_on_time(dut: Any) -> None:
    """Fixed latency: B exactly `latency` cycles after each last W handshake."""
    bench = Bench(dut)
    await bench.start()
    due: deque[int] = deque()
    for _ in range(12):
        address, beats = bench.random_burst()
        bench.drive_address("aw", (address, beats))
        assert dut.aw_ready_o.value == 1
        for slot in range(beats + 1):
            assert dut.b_valid_o.value == (bool(due) and due[0] == bench.cycle)
            if due and due[0] == bench.cycle:
                due.popleft()
            assert dut.w_ready_o.value == 1
            if slot == beats:
                due.append(bench.cycle + bench.latency)
            if slot:
                bench.drive_address("aw", None)
                bench.drive_data((0, 0, slot == beats))
            else:
                bench.drive_data(None)
            await bench.step()
    bench.drive_data(None)
    while due:
        assert dut.b_valid_o.value == (due[0] == bench.cycle)
        if due[0] == bench.cycle:
            due.popleft()
        await bench.step()


@cocotb.test()
async def bytes_survive_backpressure(dut: Any) -> None:
    """Random writes with strobes, then reads of everything, all channels stalling at random."""
    bench, memory = Bench(dut), bytearray(contents())
    await bench.start()
    full = (1 << bench.bus) - 1
    for _ in range(25):
        address, beats = bench.random_burst()
        words = [random.randbytes(bench.bus) for _ in range(beats)]
        strobes = [random.choice([full, random.getrandbits(bench.bus)]) for _ in range(beats)]
        for beat, (word, strobe) in enumerate(zip(words, strobes, strict=True)):
            for lane in range(bench.bus):
                if strobe >> lane & 1:
                    memory[address + beat * bench.bus + lane] = word[lane]
        await send_write(bench, address, words, strobes)
    beats = min(256, 4096 // bench.bus)
    read = bytearray()
    for address in range(0, MEMORY_BYTES, beats * bench.bus):
        read += await send_read(bench, address, beats)
    assert read == memory
    assert Path(os.environ["MEMORY"]).read_bytes() == memory


async def send_write(bench: Bench, address: int, words: list[bytes], strobes: list[int]) -> None:
    dut, beat, addressed, answered = bench.dut, 0, False, False
    while not answered:
        bench.drive_address("aw", None if addressed else (address, len(words)))
        if beat < len(words) and addressed:
            last = beat == len(words) - 1
            bench.drive_data((int.from_bytes(words[beat], "little"), strobes[beat], last))
        else:
            bench.drive_data(None)
        dut.b_ready_i.value = ready = random.random() < 0.5
        await ReadOnly()
        taken = not addressed and bool(dut.aw_ready_o.value)
        moved = bool(dut.w_valid_i.value) and bool(dut.w_ready_o.value)
        answered = ready and bool(dut.b_valid_o.value)
        await bench.step()
        addressed, beat = addressed or taken, beat + moved
    assert beat == len(words)


async def send_read(bench: Bench, address: int, beats: int) -> bytes:
    dut, data, addressed = bench.dut, b"", False
    while len(data) < beats * bench.bus:
        bench.drive_address("ar", None if addressed else (address, beats))
        dut.r_ready_i.value = ready = random.random() < 0.8
        await ReadOnly()
        taken = not addressed and bool(dut.ar_ready_o.value)
        if ready and dut.r_valid_o.value:
            data += int(dut.r_data_o.value).to_bytes(bench.bus, "little")
            assert dut.r_last_o.value == (len(data) == beats * bench.bus)
        await bench.step()
        addressed = addressed or taken
    return data


@cocotb.test()
async def one_wrong_thing(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    match os.environ["WRONG"]:
        case "page":
            bench.drive_address("ar", (4096 - bench.bus, 2))
        case "range":
            bench.drive_address("aw", (MEMORY_BYTES, 1))
        case "size":
            dut.ar_size_i.value = 0
            bench.drive_address("ar", (0, 1))
        case "order":
            bench.drive_data((0, 0, True))
        case "last":
            bench.drive_address("aw", (0, 2))
            await bench.step()
            bench.drive_address("aw", None)
            bench.drive_data((0, 0, True))
    for _ in range(3):
        await bench.step()


def run(tmp_path: Path, bus: int, latency: int, testcase: str, **options: Any) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(contents())
    stalls = options.pop("stalls", 0)
    run_bench(
        "axi_memory",
        __name__,
        {"BusBytes": bus, "LatencyCycles": latency},
        testcase=testcase,
        environment={
            "BUS": str(bus),
            "LATENCY": str(latency),
            "MEMORY": str(memory),
            "WRONG": options.pop("wrong", ""),
        },
        plusargs=[f"+memory={memory}", f"+backpressure={stalls}"],
        sources=[SIMULATION / "system.cpp"],
        **options,
    )


@pytest.mark.parametrize(("bus", "latency"), [(8, 1), (16, 50)])
def test_latency_is_exact(tmp_path: Path, bus: int, latency: int) -> None:
    for testcase in ("reads_come_on_time", "responses_come_on_time"):
        for seed in (1, 2):
            run(tmp_path, bus, latency, testcase, seed=seed)


@pytest.mark.parametrize("stalls", [0, 300, 800])
def test_bytes(tmp_path: Path, stalls: int) -> None:
    run(tmp_path, 8, 1, "bytes_survive_backpressure", stalls=stalls, seed=stalls + 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("page", "the read of 2 beats at 0xff8 crosses 4 KiB"),
        ("range", "the write of 1 beats at 0x4000 is beyond the memory"),
        ("size", "a read is no INCR burst of whole beats"),
        ("order", "write data come before their address"),
        ("last", "WLAST is 1 in beat 1 of 2"),
    ],
)
def test_the_protocol_is_checked(tmp_path: Path, wrong: str, words: str) -> None:
    run(tmp_path, 8, 1, "one_wrong_thing", wrong=wrong, fails_with=words)
