"""Bench of the drain unit: random instructions against `arithmetic` and, cycle by cycle, `timing`.

Accumulator, parameters, scratchpad and DRAM are modelled here, in numpy.
"""

import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cocotb
import numpy as np
import pytest
import scalar_model
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Ints
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.encoding import encode
from codesign.hw.machine.functions import DRAIN_FUNCTIONS, FUNCTION, DrainFunction
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Issued
from codesign.hw.machine.quantities import ACCESS, ALIGNMENT, HEAD
from codesign.hw.views import timing

ACCUMULATOR_ROWS, SCRATCHPAD_ROWS, PARAMETER_ROWS = 400, 300, 24
STATES_AT = 100  # the first of 40 states that programs use
DRAM_BYTES = 1 << 16
SIGNALS = ("drained", "stored", "emptied")

Fields = dict[str, int]


def machine() -> HardwareConfig:
    """The machine under test, whose parameters come through the environment."""
    return HardwareConfig(
        dim=int(os.environ["DIM"]),
        bus_bytes=int(os.environ["BUS"]),
        dram_latency_cycles=int(os.environ["LATENCY"]),
        normalization=os.environ["NORMALIZATION"] == "1",
    )


def instruction(fields: Fields, signals: dict[str, int] | None = None) -> Issued:
    """A mvout with these fields, values and flags all together; a drain_sync without fields."""
    tokens = tuple((signals or {}).items())
    if not fields:
        return Issued(0, "drain_sync", {}, {}, {}, (), tokens)
    return Issued(0, "mvout", fields, {}, {}, (), tokens)


def slots(config: HardwareConfig, issued: Issued) -> int:
    """Slots of an instruction: its cycles in the sequencer while nothing stalls."""
    if issued.op == "drain_sync":
        return 1
    values = issued.values
    function, destination = FUNCTIONS[values["function"]], DESTINATIONS[values["destination"]]
    return timing.mvout_cycles(config, values["rows"], values["blocks"], function, destination)


def random_fields(config: HardwareConfig) -> Fields:
    """A legal mvout."""
    dim, bus = config.dim, config.bus_bytes
    destination = random.choice(DESTINATIONS)
    functions = FUNCTIONS if config.normalization else FUNCTIONS[:2]
    function = "copy" if destination == "dram_int32" else random.choice(functions)
    of = FUNCTION[function]
    rows = random.choice([1, 1, 2, 3, 5, 8, 15, 16, 17, 18, 33, 40])
    blocks = random.choice([1, 1, 2, 3, 5, 8] if rows < 18 else [1, 2, 3])
    stride = random.randint(rows, rows + 4)
    row_bytes = dim * (4 if destination == "dram_int32" else 1)
    size = -(-rows * row_bytes // bus) * bus
    alignment = min(dim, bus) if of.by_row else bus
    dram_stride = size + random.choice([0, 0, 1, 5]) * bus
    dram = random.randint(0, (DRAM_BYTES - blocks * dram_stride) // alignment) * alignment
    columns = random.randint(1, blocks * dim)
    channel_scale = random.randint(0, int(destination != "dram_int32"))
    second_scale = random.randint(0, int(of.operands > 1))
    channel_affine = random.randint(0, int(of.normalization))
    sets = channel_scale + second_scale + channel_affine
    fields = {
        "rows": rows,
        "blocks": blocks,
        "function": FUNCTIONS.index(function),
        "destination": DESTINATIONS.index(destination),
        "accumulator": random.randint(0, ACCUMULATOR_ROWS - (blocks - 1) * stride - rows),
        "stride": stride,
        "dram": dram,
        "dram_stride": dram_stride,
        "local": random.randint(0, SCRATCHPAD_ROWS - blocks * rows),
        "local_stride": rows,
        "parameters": random.randint(0, PARAMETER_ROWS - sets * blocks),
        "multiplier": random.randint(-(1 << 23), (1 << 23) - 1) >> random.randint(0, 3),
        "shift": random.choice([0, 62, *range(20, 46), *range(30, 40), *range(30, 40)]),
        "out_multiplier": random.randint(-(1 << 23), (1 << 23) - 1) >> random.randint(0, 3),
        "out_shift": random.choice([0, 62, *range(24, 36), *range(26, 34)]),
        "columns": columns,
        "channel_scale": channel_scale,
        "second_channel_scale": second_scale,
        "channel_affine": channel_affine,
    }
    return fields | function_fields(of, rows, blocks, stride, columns, dim)


def function_fields(
    of: DrainFunction, rows: int, blocks: int, stride: int, columns: int, dim: int
) -> Fields:
    """What a function needs beside what all have, or in its place."""
    fields: Fields = {}
    if of.centered:
        fields["inverse"] = arithmetic.inverse(columns)
    if of.affine:
        fields["epsilon"] = random.choice([0, 1, random.getrandbits(random.randint(1, 30))])
    if of.operands > 1:
        behind = ((blocks - 1) * stride + rows) * (of.operands - 1)
        fields["second"] = random.randint(0, ACCUMULATOR_ROWS - behind)
        fields["second_multiplier"] = random.randint(-(1 << 23), (1 << 23) - 1)
        fields["second_shift"] = random.choice([0, 62, *range(20, 46), *range(30, 40)])
    if of.stateful:
        fields["state"] = STATES_AT + random.randint(0, 40 - rows)
    if of.by_state:
        fields |= {"shift": 0, "channel_scale": 0}
    if of.stateful and of.masked:
        fields["alignment"] = random.randint(0, STATE_ROWS - rows)
        fields["fresh"] = random.randint(0, 1)
    if of.masked and random.random() < 0.5:
        fields["causal"] = 1
        fields["diagonal"] = random.randint(-20, blocks * dim)
        fields["window"] = random.choice([0, 1, 2, dim, random.randint(1, 60), (1 << 16) - 1])
    return fields


def twin(function: Callable[..., int], *operands: Ints) -> Ints:
    """A scalar function of arrays."""
    found: Ints = np.vectorize(lambda *v: function(*map(int, v)), otypes=[np.int64])(*operands)
    return found


class Drained:
    """What a mvout makes of the accumulator's rows and writes."""

    def __init__(self, dim: int, accumulator: Ints, parameters: Ints) -> None:
        self.dim, self.accumulator, self.parameters = dim, accumulator, parameters
        self.states: dict[int, scalar_model.State] = {}
        self.alignments: list[tuple[int, int, bool]] = []  # row, shift, and whether of the sums

    def channels(self, fields: Fields, at: int) -> tuple[Ints, Ints, Ints]:
        """Bias, multiplier and shift of every column, from parameter row `at` on."""
        rows: Ints = self.parameters[at : at + fields["blocks"]]
        records: arithmetic.Bytes = rows.reshape(-1, 1).view(np.uint8)
        return arithmetic.unpack_parameters(records)

    def sums(self, rows: Ints) -> Ints:
        """The sums [rows, columns] of accumulator rows [rows, blocks]."""
        found: Ints = self.accumulator[rows].reshape(len(rows), -1)
        return found

    def requantized(self, fields: Fields, sums: Ints, at: int, operand: str) -> tuple[Ints, int]:
        """v of sums, and the parameter row behind those that it took."""
        if fields[f"{operand}channel_scale"]:
            return arithmetic.requantize(sums, *self.channels(fields, at)), at + fields["blocks"]
        factor, shift = fields[f"{operand}multiplier"], fields[f"{operand}shift"]
        return arithmetic.requantize(sums, 0, factor, shift), at

    def rows(self, fields: Fields) -> Ints:
        """The results [rows, blocks * dim]."""
        rows, blocks = fields["rows"], fields["blocks"]
        place = fields["stride"] * np.arange(blocks)[None, :] + np.arange(rows)[:, None]
        if DESTINATIONS[fields["destination"]] == "dram_int32":
            return self.sums(fields["accumulator"] + place)
        bias: Ints | int
        multiplier: Ints | int
        shift: Ints | int
        at = fields["parameters"]
        function, columns = FUNCTIONS[fields["function"]], fields["columns"]
        v, at = self.requantized(fields, self.sums(fields["accumulator"] + place), at, "")
        further = FUNCTION[function].operands - 1
        if further:
            turns = [fields["second"] + place * further + turn for turn in range(further)]
            second, at = self.requantized(
                fields, np.stack(list(map(self.sums, turns))), at, "second_"
            )
        valid = np.arange(blocks * self.dim)[None, :] < np.full((rows, 1), columns)
        match function:
            case "copy":
                return arithmetic.saturate(v, 8)
            case "relu":
                return arithmetic.saturate(np.maximum(v, 0), 8)
            case name if name in scalar_model.UNARY:
                values, valid = twin(partial(scalar_model.unary, name), v), np.ones_like(valid)
            case name if name in scalar_model.GATES:
                values = twin(partial(scalar_model.gated, name), v, second[0])
                valid = np.ones_like(valid)
            case "rotate":
                turned = [scalar_model.rotated(*row) for row in zip(v, *second, strict=True)]
                values, valid = np.array(turned), np.ones_like(valid)
            case "softmax" | "exponentials":
                if fields.get("causal"):
                    behind = fields["diagonal"] + np.arange(rows)[:, None] - np.arange(v.shape[1])
                    valid &= (behind >= 0) & (behind < (fields["window"] or 1 << 30))
                values = arithmetic.softmax(v, valid)
                if function == "exponentials":
                    ends = [(valid.argmax(axis=1) + valid.sum(axis=1)), valid.argmax(axis=1)]
                    parts = [
                        scalar_model.exponentials(row.tolist(), int(limit), int(first))
                        for row, limit, first in zip(v, *ends, strict=True)
                    ]
                    values = np.array([e for e, _ in parts])
                    self.join(fields, [part for _, part in parts])
            case "quotient":
                totals = [self.states[fields["state"] + row].total for row in range(rows)]
                sums = self.sums(fields["accumulator"] + place)
                by = partial(scalar_model.quotient, multiplier=fields["multiplier"])
                values = twin(by, sums, np.array(totals)[:, None])
            case "layernorm":
                values = arithmetic.layernorm(v, columns, fields["inverse"], fields["epsilon"])
            case _:
                values = arithmetic.rmsnorm(v, columns, fields["epsilon"])
        bias, multiplier, shift = 0, fields["out_multiplier"], fields["out_shift"]
        if fields["channel_affine"]:
            bias, multiplier, shift = self.channels(fields, at)
        return arithmetic.requantize_output(values, multiplier, bias, shift) * valid

    def join(self, fields: Fields, parts: list[scalar_model.State]) -> None:
        """Let states take in a part of their rows, and note the alignments."""
        for row, part in enumerate(parts):
            state, shift, raised = part, 0, False
            if not fields["fresh"]:
                before = self.states[fields["state"] + row]
                state, shift, raised = scalar_model.joined(before, part)
            self.states[fields["state"] + row] = state
            self.alignments.append((fields["alignment"] + row, shift, raised))

    def write(self, fields: Fields, scratchpad: Ints, dram: Ints) -> None:
        """Store the results as the machine does."""
        results = self.rows(fields)
        for block in range(fields["blocks"]):
            part = results[:, block * self.dim : (block + 1) * self.dim]
            if DESTINATIONS[fields["destination"]] == "scratchpad":
                at = fields["local"] + block * fields["local_stride"]
                scratchpad[at : at + len(part)] = part
                continue
            word = DESTINATIONS[fields["destination"]] == "dram_int32"
            data = part.astype("<i4" if word else "<i1").tobytes()
            at = fields["dram"] + block * fields["dram_stride"]
            dram[at : at + len(data)] = np.frombuffer(data, np.uint8)


@dataclass
class Memory:
    """DRAM behind the AXI write channels; `stall` is how often a channel is not ready."""

    dram: Ints
    bus: int
    latency: int
    stall: float

    def __post_init__(self) -> None:
        self.bursts: deque[list[int]] = deque()  # address, beats
        self.beats: deque[tuple[int, int, bool]] = deque()
        self.answers: deque[int] = deque()

    def drive(self, dut: Any, cycle: int) -> None:
        dut.aw_ready_i.value = random.random() >= self.stall
        dut.w_ready_i.value = random.random() >= self.stall
        dut.b_valid_i.value = bool(self.answers) and self.answers[0] <= cycle

    def sample(self, dut: Any, cycle: int) -> None:
        if dut.aw_valid_o.value and dut.aw_ready_i.value:
            address, beats = int(dut.aw_addr_o.value), int(dut.aw_len_o.value) + 1
            assert address // 4096 == (address + beats * self.bus - 1) // 4096
            self.bursts.append([address - address % self.bus, beats])
        if dut.w_valid_o.value and dut.w_ready_i.value:
            data, strobes = int(dut.w_data_o.value), int(dut.w_strb_o.value)
            self.beats.append((data, strobes, bool(dut.w_last_o.value)))
            if dut.w_last_o.value:
                self.answers.append(cycle + self.latency)
        if dut.b_valid_i.value and dut.b_ready_o.value:
            self.answers.popleft()
        while self.beats and self.bursts:
            data, strobes, last = self.beats.popleft()
            burst = self.bursts[0]
            for byte in range(self.bus):
                if strobes >> byte & 1:
                    self.dram[burst[0] + byte] = data >> 8 * byte & 0xFF
            burst[0] += self.bus
            burst[1] -= 1
            assert last == (burst[1] == 0)
            if last:
                self.bursts.popleft()


class Reader:
    """A memory's read port: the row that was asked for comes two cycles later."""

    def __init__(self, dut: Any, name: str, rows: list[int]) -> None:
        self.read, self.data = getattr(dut, f"{name}_read_o"), getattr(dut, f"{name}_data_i")
        self.rows = rows
        self.pipeline: deque[int | None] = deque([None, None])

    def drive(self) -> None:
        row = self.pipeline.popleft()
        if row is not None:
            self.data.value = self.rows[row]

    def sample(self) -> int | None:
        """The instruction that reads in this cycle, if one does."""
        read = ACCESS.unpack(int(self.read.value))
        self.pipeline.append(read["row"] if read["valid"] else None)
        return read["tag"] if read["valid"] else None


def as_words(rows: Ints, kind: str) -> list[int]:
    """Rows of a memory as the numbers that its data port takes."""
    return [int.from_bytes(row.astype(kind).tobytes(), "little") for row in rows]


@dataclass
class Bench:
    """The unit, the memories around it, and what happened when."""

    dut: Any
    config: HardwareConfig
    stall: float

    def __post_init__(self) -> None:
        rng = np.random.default_rng(cocotb.RANDOM_SEED)
        dim = self.config.dim
        size = (ACCUMULATOR_ROWS, dim)
        magnitude = rng.integers(0, 31, (ACCUMULATOR_ROWS, 1))
        accumulator = rng.integers(-(1 << 31), 1 << 31, size) >> magnitude
        accumulator[rng.random(ACCUMULATOR_ROWS) < 0.05] = 0
        accumulator[rng.random(size) < 0.02] = (1 << 31) - 1
        channels = PARAMETER_ROWS * dim
        records = arithmetic.pack_parameters(
            rng.integers(-(1 << 31), 1 << 31, channels) >> rng.integers(0, 32, channels),
            rng.integers(-(1 << 23), 1 << 23, channels) >> rng.integers(0, 4, channels),
            rng.integers(28, 38, channels),
        )
        parameters = np.ascontiguousarray(records).view("<i8").reshape(PARAMETER_ROWS, dim)
        self.model = Drained(dim, accumulator, parameters)
        self.dram = rng.integers(0, 256, DRAM_BYTES)
        self.scratchpad = rng.integers(-128, 128, (SCRATCHPAD_ROWS, dim))
        self.expected_dram, self.expected_scratchpad = self.dram.copy(), self.scratchpad.copy()
        self.memory = Memory(
            self.dram, self.config.bus_bytes, self.config.dram_latency_cycles, self.stall
        )
        self.acc = Reader(self.dut, "acc", as_words(accumulator, "<i4"))
        self.p0 = Reader(self.dut, "p0", as_words(parameters, "<i8"))
        self.p1 = Reader(self.dut, "p1", as_words(parameters, "<i8"))
        self.starts: list[int] = []
        self.releases: list[tuple[int, int]] = []
        self.completes: list[tuple[int, int]] = []
        self.last_p1: dict[int, int] = {}
        self.alignments: list[tuple[int, int, bool]] = []

    async def reset(self) -> None:
        for port in ("head_i", "waits_ready_i", "aw_ready_i", "w_ready_i", "b_valid_i"):
            getattr(self.dut, port).value = 0
        self.dut.rst_ni.set(Immediate(0))  # what the first value of the clock meets
        await start_clock_and_reset(self.dut, 3)

    async def run(self, program: list[Issued], ready: Callable[[], bool]) -> list[bool]:
        """Run a program to its end; returns in which cycles an instruction could have started."""
        dut, could, cycle, head = self.dut, [], 0, 0
        words = [encode(issued) for issued in program]
        while len(self.completes) < len(program):
            dut.waits_ready_i.value = tokens = ready()
            left = {"valid": 1, "instr": words[head], "tag": head} if head < len(program) else {}
            dut.head_i.value = HEAD.pack(left)
            self.acc.drive()
            self.p0.drive()
            self.p1.drive()
            self.memory.drive(dut, cycle)
            await ReadOnly()
            could.append(tokens and head < len(program))
            if dut.start_o.value:
                assert dut.head_pop_o.value and could[-1]
                self.starts.append(cycle)
                head += 1
            for events, name in ((self.releases, "release"), (self.completes, "complete")):
                if getattr(dut, f"{name}_o").value:
                    events.append((cycle, int(getattr(dut, f"{name}_signals_o").value)))
            self.acc.sample()
            self.p0.sample()
            if (tag := self.p1.sample()) is not None:
                self.last_p1[tag] = cycle
            self.memory.sample(dut, cycle)
            align = ACCESS.unpack(int(dut.alignment_o.value))
            if align["valid"]:
                by = ALIGNMENT.unpack(int(dut.alignment_data_o.value))
                self.alignments.append((align["row"], by["shift"], bool(by["old"])))
            write = ACCESS.unpack(int(dut.sp_write_o.value))
            if write["valid"]:
                data = int(dut.sp_data_o.value).to_bytes(self.config.dim, "little")
                self.scratchpad[write["row"]] = np.frombuffer(data, np.int8)
            await FallingEdge(dut.clk_i)
            cycle += 1
            assert cycle < 200_000, "the unit hangs"
        assert dut.idle_o.value
        return could

    def check_results(self, program: list[Issued]) -> None:
        for issued in program:
            if issued.op == "mvout":
                fields = dict(issued.values)
                self.model.write(fields, self.expected_scratchpad, self.expected_dram)
        np.testing.assert_array_equal(self.scratchpad, self.expected_scratchpad)
        np.testing.assert_array_equal(self.dram, self.expected_dram)
        assert self.alignments == self.model.alignments
        expected = [encode(issued) >> 27 & 0xFFFFFF for issued in program]
        assert [signals for _, signals in self.releases] == expected
        assert [signals for _, signals in self.completes] == expected

    def check_times(self, program: list[Issued], could: list[bool]) -> None:
        free, released, completed = 0, -1, -1
        for i, issued in enumerate(program):
            what = f"instruction {i}: {issued}"
            earliest = next(c for c in range(free, len(could)) if could[c])
            assert self.starts[i] == earliest, what
            free = self.starts[i] + slots(self.config, issued)
            released = max(released + 1, free)
            assert self.releases[i][0] == released, f"{what}: {self.releases[i][0] - released}"
            own = free
            if issued.op == "mvout":
                own += timing.DRAIN_LATENCY
                if issued.values["destination"] != DESTINATIONS.index("scratchpad"):
                    own += self.config.dram_latency_cycles
            completed = max(completed + 1, own)
            assert self.completes[i][0] == completed, what
            assert self.last_p1.get(i, 0) <= free + 5, what


# All states that programs use, begun.
BEGINNING: Fields = {
    "rows": 40, "blocks": 1, "function": FUNCTIONS.index("exponentials"),
    "destination": DESTINATIONS.index("scratchpad"), "accumulator": 0, "stride": 0, "dram": 0,
    "dram_stride": 0, "local": 0, "local_stride": 0, "parameters": 0, "shift": 20,
    "out_multiplier": 1 << 20, "out_shift": 29, "columns": 3, "channel_scale": 0,
    "second_channel_scale": 0, "channel_affine": 0, "state": STATES_AT, "alignment": 0, "fresh": 1,
}  # fmt: skip


def random_program(config: HardwareConfig) -> list[Issued]:
    """Instructions, some of them drain_syncs, some followed by the shortest there are."""
    program = []
    if config.normalization:
        program.append(instruction(BEGINNING | {"multiplier": 77}))
    for _ in range(int(os.environ["INSTRUCTIONS"])):
        fields = random_fields(config) if random.random() < 0.9 else {}
        signals = {name: random.randint(0, 9) for name in SIGNALS if random.random() < 0.3}
        program.append(instruction(fields, signals))
    return program


async def run_random(dut: Any, stall: float, ready: Callable[[], bool]) -> None:
    bench = Bench(dut, machine(), stall)
    await bench.reset()
    program = random_program(bench.config)
    could = await bench.run(program, ready)
    bench.check_results(program)
    if not stall:
        bench.check_times(program, could)


@cocotb.test()
async def back_to_back(dut: Any) -> None:
    await run_random(dut, 0, lambda: True)


@cocotb.test()
async def late_tokens(dut: Any) -> None:
    await run_random(dut, 0, lambda: random.random() < 0.1)


@cocotb.test()
async def slow_memory(dut: Any) -> None:
    await run_random(dut, random.choice([0.2, 0.5, 0.9]), lambda: random.random() < 0.5)


@cocotb.test()
async def sizes_of_row_functions(dut: Any) -> None:
    """Every small number of rows and blocks, where statistics are waited for."""
    bench = Bench(dut, machine(), 0)
    await bench.reset()
    program = [instruction(BEGINNING | {"multiplier": 77})]
    for rows in (1, 2, 3, 4, 16):
        for blocks in (1, 2, 3, 4):
            for function in (f.name for f in DRAIN_FUNCTIONS if f.by_row):
                fields = random_fields(bench.config)
                while not DRAIN_FUNCTIONS[fields["function"]].by_row:
                    fields = random_fields(bench.config)
                columns = random.randint(1, blocks * bench.config.dim)
                fields |= {"function": FUNCTIONS.index(function), "rows": rows, "blocks": blocks}
                inverse = arithmetic.inverse(columns) if FUNCTION[function].centered else 0
                epsilon = random.getrandbits(20) if FUNCTION[function].affine else 0
                fields |= {
                    "columns": columns,
                    "inverse": inverse,
                    "epsilon": epsilon,
                    "diagonal": 0,
                    "window": 0,
                }
                fields |= {"accumulator": 7, "stride": rows, "local": 3, "local_stride": rows}
                fields |= {"parameters": 2, "causal": 0, "dram": 0, "dram_stride": 4096}
                of = FUNCTION[function]
                fields |= {"state": STATES_AT if of.stateful else 0, "alignment": 0, "fresh": 0}
                if of.by_state:
                    fields |= {"shift": 0, "channel_scale": 0}
                program.append(instruction(fields))
    could = await bench.run(program, lambda: True)
    bench.check_results(program)
    bench.check_times(program, could)


@cocotb.test()
async def illegal(dut: Any) -> None:
    """One instruction that the environment spoils; the assertion must stop the bench."""
    bench = Bench(dut, machine(), 0)
    await bench.reset()
    fields = {
        "rows": 2,
        "blocks": 2,
        "stride": 2,
        "dram_stride": 512,
        "columns": 3,
        "channel_scale": 1,
    }
    for change in os.environ["CHANGES"].split():
        name, value = change.split("=")
        fields[name] = int(value)
    await bench.run([instruction(fields)], lambda: True)


MACHINES = [  # dim, bus_bytes, dram_latency_cycles, normalization
    (4, 8, 20, 1),
    (8, 2, 7, 1),
    (8, 64, 50, 1),
    (8, 16, 1, 0),
]


def build_and_run(dim: int, bus: int, latency: int, normalization: int, **options: Any) -> None:
    environment = {"DIM": dim, "BUS": bus, "LATENCY": latency, "NORMALIZATION": normalization}
    environment |= options.pop("environment", {})
    run_bench(
        "drain_unit",
        __name__,
        {
            "Dim": dim,
            "BusBytes": bus,
            "DramLatencyCycles": latency,
            "Normalization": normalization,
            "AccumulatorRows": ACCUMULATOR_ROWS,
            "ScratchpadRows": SCRATCHPAD_ROWS,
            "ParameterRows": PARAMETER_ROWS,
        },
        environment={name: str(value) for name, value in environment.items()},
        **options,
    )


@pytest.mark.parametrize(
    ("dim", "bus", "latency", "normalization"),
    [MACHINES[0], pytest.param(*MACHINES[1], marks=pytest.mark.long), *MACHINES[2:]],
)
def test_drain_unit(dim: int, bus: int, latency: int, normalization: int) -> None:
    tests = ["back_to_back", "late_tokens", "slow_memory"]
    if normalization:
        tests.append("sizes_of_row_functions")
    build_and_run(
        dim, bus, latency, normalization, testcase=tests, environment={"INSTRUCTIONS": 30}
    )


SOFTMAX, SWIGLU = FUNCTIONS.index("softmax"), FUNCTIONS.index("swiglu")
EXPONENTIALS, QUOTIENT = FUNCTIONS.index("exponentials"), FUNCTIONS.index("quotient")
NONE = len(FUNCTIONS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("rows=0", "instruction 0: 0 rows of 2 blocks"),
        (f"function={NONE}", f"instruction 0: this machine has no function {NONE}"),
        ("destination=3", "instruction 0: there is no destination 3"),
        ("destination=1 function=1 channel_scale=0", "instruction 0: function 1 gives no int32"),
        ("destination=1", "instruction 0: channel_scale, but int32"),
        ("channel_affine=1", "instruction 0: channel_affine, but function 0"),
        ("causal=1", "instruction 0: causal, but function 0"),
        (f"function={SOFTMAX} window=5", "instruction 0: a window of 5 columns, but not causal"),
        (f"function={SOFTMAX} columns=9", "instruction 0: 9 valid columns in 2 blocks of 4"),
        (f"function={SOFTMAX} dram=2", "instruction 0: DRAM address 2 or stride 200 is not"),
        ("dram=4", "instruction 0: DRAM address 4 or stride 200 is not aligned to 8"),
        ("dram_stride=12", "instruction 0: DRAM address 0 or stride c is not aligned to 8"),
        ("shift=63", "instruction 0: a shift of 63"),
        (f"function={SWIGLU} second_shift=63", "instruction 0: a shift of 63"),
        ("second_channel_scale=1", "instruction 0: second_channel_scale, but function 0"),
        (
            "parameters=21 function=2 channel_affine=1",
            "instruction 0: parameters of 2 blocks from row 21 are out of range",
        ),
        (
            f"parameters=19 function={SWIGLU} channel_affine=1 second_channel_scale=1",
            "instruction 0: parameters of 2 blocks from row 19 are out of range",
        ),
        (f"function={SWIGLU} second=397", "instruction 0: accumulator row 400 is out of range"),
        (
            f"function={EXPONENTIALS} state=511",
            "instruction 0: 2 rows from state 511 and alignment 0",
        ),
        (f"function={EXPONENTIALS} alignment=511", "2 rows from state 0 and alignment 511 on"),
        (f"function={SOFTMAX} state=3", f"instruction 0: a state, but function {SOFTMAX}"),
        ("fresh=1", "instruction 0: a state, but function 0"),
        (f"function={QUOTIENT}", f"instruction 0: function {QUOTIENT} shifts by states"),
        ("accumulator=399", "instruction 0: accumulator row 400 is out of range"),
        ("destination=2 local=299", "instruction 0: scratchpad row 300 is out of range"),
    ],
)
def test_illegal_instructions(changes: str, words: str) -> None:
    build_and_run(
        *MACHINES[0], testcase="illegal", fails_with=words, environment={"CHANGES": changes}
    )


def test_row_function_without_its_units() -> None:
    build_and_run(
        *MACHINES[3],
        testcase="illegal",
        fails_with=f"instruction 0: this machine has no function {SOFTMAX}",
        environment={"CHANGES": f"function={SOFTMAX}"},
    )
