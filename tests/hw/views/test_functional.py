"""The functional machine: every instruction against a scalar twin, matmul kernels against numpy, and
one line for every broken contract.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import scalar_model
from hypothesis import given, settings
from hypothesis import strategies as st
from instructions import TINY, instruction
from machine_model import from_blocked, machines, matmul_image, matmul_mappings, matmul_problems

from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem
from codesign.hw.errors import ProgramError
from codesign.hw.machine import arithmetic
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import FUNCTIONS
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.machine.program import Instruction, Kernel, Program
from codesign.hw.views.functional import Machine, run

Fields = Mapping[str, int]


def filled(config: HardwareConfig, seed: int, dram_bytes: int = 4096) -> Machine:
    """A machine in which everything was written, with numbers of every size."""
    rng = np.random.default_rng(seed)
    machine = Machine(config, rng.integers(0, 256, dram_bytes, dtype=np.uint8))
    machine.scratchpad[:] = rng.integers(-128, 128, machine.scratchpad.shape)
    bits = rng.integers(1, 32, machine.accumulator.shape)
    machine.accumulator[:] = rng.integers(-(1 << 31), 1 << 31, machine.accumulator.shape) >> bits
    shape = machine.parameters.shape[:2]
    records = arithmetic.pack_parameters(
        rng.integers(-5000, 5000, shape).ravel(),
        rng.integers(-(1 << 23), 1 << 23, shape).ravel(),
        rng.integers(10, 30, shape).ravel(),
    )
    machine.parameters[:] = records.reshape(machine.parameters.shape)
    machine.states.octave[:] = rng.integers(-40, 40, len(machine.states.octave))
    machine.states.total[:] = rng.integers(0, 1 << 31, len(machine.states.total))
    machine.alignments.shift[:] = rng.integers(0, 32, len(machine.alignments.shift))
    machine.alignments.old[:] = rng.integers(0, 2, len(machine.alignments.old))
    for written in machine.written.values():
        written[:] = True
    return machine


# -- mvout ---------------------------------------------------------------------------------------------


@st.composite
def mvouts(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of a legal mvout on TINY."""
    function = draw(st.sampled_from(FUNCTIONS))
    on = ("dram", "scratchpad", "dram_int32") if function == "copy" else ("dram", "scratchpad")
    destination = draw(st.sampled_from(on))
    rows, blocks = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    columns = draw(st.integers(1, blocks * TINY.dim))
    of = FUNCTION[function]
    further, causal = of.operands > 1, of.masked and draw(st.booleans())
    factors = st.integers(-(1 << 23), (1 << 23) - 1)
    return {
        "rows": rows,
        "blocks": blocks,
        "function": function,
        "destination": destination,
        "accumulator": draw(st.integers(0, 30)),
        "stride": draw(st.integers(0, 30 // of.operands)),
        "dram": 8 * draw(st.integers(0, 30)),
        "dram_stride": 8 * draw(st.integers(0, 50)),
        "local": draw(st.integers(0, 10)),
        "local_stride": draw(st.integers(0, 16)),
        "parameters": draw(st.integers(0, 16 - 3 * blocks)),
        "multiplier": draw(factors),
        "shift": 0 if of.by_state else draw(st.integers(0, 40)),
        "out_multiplier": draw(factors),
        "out_shift": draw(st.integers(15, 40)),
        "columns": columns,
        "diagonal": draw(st.integers(-4, 12)) if of.masked else 0,
        "window": draw(st.sampled_from((0, 1, 2, 5, 12, 65535))) if causal else 0,
        "inverse": arithmetic.inverse(columns) if of.centered else 0,
        "epsilon": draw(st.integers(0, 30).map(lambda bits: (1 << bits) - 1)) if of.affine else 0,
        "second": draw(st.integers(0, 30)) if further else 0,
        "second_multiplier": draw(factors) if further else 0,
        "second_shift": draw(st.integers(0, 40)) if further else 0,
        "second_channel_scale": further and draw(st.booleans()),
        "channel_scale": not (of.by_state or destination == "dram_int32") and draw(st.booleans()),
        "channel_affine": of.normalization and draw(st.booleans()),
        "causal": causal,
        "state": draw(st.integers(0, STATE_ROWS - rows)) if of.stateful else 0,
        "alignment": draw(st.integers(0, STATE_ROWS - rows)) if of.stateful and of.masked else 0,
        "fresh": of.stateful and of.masked and draw(st.booleans()),
    }


@dataclass
class Twin:
    """A mvout once more, lane by lane, in the order in which the machine writes."""

    before: Machine
    f: Mapping[str, Any]

    def parameters(self, row: int, lane: int) -> tuple[int, int, int]:
        data = self.before.parameters[row, lane].tobytes()
        bias, multiplier = (int.from_bytes(d, "little", signed=True) for d in (data[:4], data[4:7]))
        return bias, multiplier, data[7]

    def lanes(self, row: int, operand: int = 0) -> list[int]:
        """v of every column of a row of an operand."""
        f, found, of = self.f, [], "second_" if operand else ""
        further = FUNCTION[f["function"]].operands - 1
        for block in range(f["blocks"]):
            place = f["accumulator"] + block * f["stride"] + row
            if operand:
                place = f["second"] + (block * f["stride"] + row) * further + operand - 1
            for lane in range(TINY.dim):
                parameters = (0, f[f"{of}multiplier"], f[f"{of}shift"])
                if f[f"{of}channel_scale"]:
                    at = f["parameters"] + block
                    if operand and f["channel_scale"]:
                        at += f["blocks"]
                    parameters = self.parameters(at, lane)
                acc = int(self.before.accumulator[place][lane])
                found.append(scalar_model.first_requantizer(acc, *parameters))
        return found

    def row(self, row: int) -> list[int]:
        """The results of a row, all blocks."""
        f, v = self.f, self.lanes(row)
        match f["function"]:
            case "copy":
                return [scalar_model.clamp(x, 8) for x in v]
            case "relu":
                return [scalar_model.clamp(max(x, 0), 8) for x in v]
            case name if name in scalar_model.UNARY:
                limit, values = len(v), [scalar_model.unary(name, x) for x in v]
            case name if name in scalar_model.GATES:
                second = self.lanes(row, 1)
                limit = len(v)
                values = [scalar_model.gated(name, *x) for x in zip(v, second, strict=True)]
            case "rotate":
                limit, tables = len(v), (self.lanes(row, operand) for operand in (1, 2))
                values = scalar_model.rotated(v, *tables)
            case name if name in scalar_model.NORMS:
                limit = f["columns"]
                values = scalar_model.NORMS[name](v, limit, f["epsilon"])
            case "quotient":
                limit, total = f["columns"], int(self.before.states.total[f["state"] + row])
                factor = f["multiplier"]
                values = [scalar_model.quotient(x, total, factor) for x in self.sums(row)]
            case _:
                limit, first = f["columns"], 0
                if f["causal"]:
                    seen = f["diagonal"] + row + 1
                    limit, first = min(limit, seen), seen - f["window"] if f["window"] else 0
                if f["function"] == "softmax":
                    values = scalar_model.softmax(v, limit, first)
                else:
                    values, part = scalar_model.exponentials(v, limit, first)
                    self.join(row, part)
                return self.out(values, [max(first, 0) <= c < limit for c in range(len(v))])
        return self.out(values, [column < limit for column in range(len(v))])

    def sums(self, row: int) -> list[int]:
        """The sums of every column of a row of the first operand."""
        f = self.f
        places = [f["accumulator"] + block * f["stride"] + row for block in range(f["blocks"])]
        return [int(x) for place in places for x in self.before.accumulator[place]]

    def join(self, row: int, part: scalar_model.State) -> None:
        """Let the row's state take in a part, and write its alignment."""
        machine, at, to = self.before, self.f["state"] + row, self.f["alignment"] + row
        state, shift, raised = part, 0, False
        if not self.f["fresh"]:
            before = scalar_model.State(
                int(machine.states.octave[at]), int(machine.states.total[at])
            )
            state, shift, raised = scalar_model.joined(before, part)
        machine.states.octave[at], machine.states.total[at] = state.octave, state.total
        machine.alignments.shift[to], machine.alignments.old[to] = shift, raised

    def out(self, values: list[int], valid: list[bool]) -> list[int]:
        """int8 of the values of a row."""
        f, out = self.f, []
        behind = f["parameters"] + f["blocks"] * (f["channel_scale"] + f["second_channel_scale"])
        for column, value in enumerate(values):
            offset, multiplier, shift = 0, f["out_multiplier"], f["out_shift"]
            if f["channel_affine"]:
                block, lane = divmod(column, TINY.dim)
                offset, multiplier, shift = self.parameters(behind + block, lane)
            result = scalar_model.second_requantizer(value, multiplier, offset, shift)
            out.append(result if valid[column] else 0)
        return out

    def apply(self) -> None:
        """Write the results into the memories of `before`."""
        f, machine, dim = self.f, self.before, TINY.dim
        order = [(r, b) for b in range(f["blocks"]) for r in range(f["rows"])]
        if FUNCTION[f["function"]].by_row:
            order.sort()
        rows = {}
        if f["destination"] != "dram_int32":
            rows = {r: self.row(r) for r in range(f["rows"])}
        for r, b in order:
            if f["destination"] == "dram_int32":
                acc = machine.accumulator[f["accumulator"] + b * f["stride"] + r]
                data = acc.astype("<i4").tobytes()
            else:
                data = np.array(rows[r][b * dim : (b + 1) * dim], dtype=np.int8).tobytes()
            if f["destination"] == "scratchpad":
                place = f["local"] + b * f["local_stride"] + r
                machine.scratchpad[place] = np.frombuffer(data, dtype=np.int8)
            else:
                begin = f["dram"] + b * f["dram_stride"] + r * len(data)
                machine.dram[begin : begin + len(data)] = np.frombuffer(data, dtype=np.uint8)


@given(mvouts(), st.integers(0, 99))
@settings(max_examples=150)
def test_a_mvout_equals_its_scalar_twin(fields: dict[str, Any], seed: int) -> None:
    machine, twin = filled(TINY, seed), Twin(filled(TINY, seed), fields)
    machine.run((instruction("mvout", **fields),))
    twin.apply()
    assert (machine.dram == twin.before.dram).all()
    assert (machine.scratchpad == twin.before.scratchpad).all()
    for found, wanted in (
        (machine.states, twin.before.states),
        (machine.alignments, twin.before.alignments),
    ):
        for name, numbers in vars(wanted).items():
            np.testing.assert_array_equal(getattr(found, name), numbers)


# -- mvin, preload, compute ----------------------------------------------------------------------------


def test_a_mvin_into_every_target() -> None:
    machine, before = filled(TINY, 1), filled(TINY, 1)
    place = {"dram": 64, "dram_stride": 160, "local": 3, "stride": 7, "rows": 5, "blocks": 2}
    wrap = {**place, "dram": 512, "dram_stride": 80}
    for fields in (
        {**place, "target": "scratchpad"},
        {**place, "target": "parameters"},
        {**place, "target": "accumulator", "scale": (1 << 24) - 1},
        {**place, "target": "accumulator", "scale": (1 << 24) - 1, "accumulate": True},
        {**wrap, "target": "accumulator_int32", "stride": 0, "accumulate": True},
    ):
        machine.run((instruction("mvin", **fields),))
    assert before.dram.tobytes() == machine.dram.tobytes()
    data = before.dram.tobytes()
    sums = before.accumulator.astype(object)
    for b in range(2):
        for r in range(5):
            row = 3 + 7 * b + r
            at = 64 + 160 * b + 4 * r
            bytes_ = np.frombuffer(data[at : at + 4], dtype=np.int8)
            assert (machine.scratchpad[row] == bytes_).all()
            at = 64 + 160 * b + 32 * r
            assert machine.parameters[row].tobytes() == data[at : at + 32]
            sums[row] = [2 * int(x) * ((1 << 24) - 1) for x in bytes_]
    for b in range(2):
        for r in range(5):
            at = 512 + 80 * b + 16 * r
            sums[3 + r] = sums[3 + r] + np.frombuffer(data[at : at + 16], dtype="<i4").astype(
                object
            )
    expected = np.array((sums + (1 << 31)) % (1 << 32) - (1 << 31), dtype=np.int32)
    assert (machine.accumulator == expected).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_computes_swap_and_reuse_weights(transposed: bool) -> None:
    machine, before = filled(TINY, 2), filled(TINY, 2)
    tile = np.zeros((4, 4), dtype=np.int64)
    tile[:3] = before.scratchpad[10:13]
    tile = tile.T if transposed else tile
    shape = {"rows": 6, "depth": 4, "width": 4}
    machine.run(
        (
            instruction("preload", rows=3, local=10, transposed=transposed),
            instruction("compute", **shape, local=20, accumulator=8, overwrite=True),
            instruction("compute", **shape, local=30, accumulator=8),
        )
    )
    a, b = (before.scratchpad[at : at + 6].astype(np.int64) for at in (20, 30))
    assert (machine.accumulator[8:14] == (a + b) @ tile).all()


@pytest.mark.parametrize("rescale", [False, True])
def test_computes_align_what_they_add(rescale: bool) -> None:
    machine, before = filled(TINY, 5), filled(TINY, 5)
    machine.run(
        (
            instruction("preload", rows=4, local=10),
            instruction(
                "compute", rows=9, depth=4, width=4, local=20, accumulator=8, aligned=1,
                alignment=30, rescale=rescale,
            ),
        )
    )  # fmt: skip
    products = before.scratchpad[20:29].astype(int) @ before.scratchpad[10:14].astype(int)
    for row in range(9):
        shift, old = int(before.alignments.shift[30 + row]), before.alignments.old[30 + row]
        for column in range(4):
            total = scalar_model.shifted(
                int(before.accumulator[8 + row][column]), shift if old and rescale else 0
            ) + scalar_model.shifted(int(products[row, column]), 0 if old else shift)
            wrapped = (total + (1 << 31)) % (1 << 32) - (1 << 31)
            assert machine.accumulator[8 + row][column] == wrapped


def test_sums_wrap() -> None:
    machine = filled(TINY, 3)
    machine.accumulator[:4] = (1 << 31) - 1
    machine.scratchpad[:8] = 1
    machine.run(
        (
            instruction("preload", rows=4, local=0),
            instruction("compute", rows=4, depth=4, width=4, local=4, accumulator=0),
        )
    )
    assert (machine.accumulator[:4] == -(1 << 31) + 3).all()


@st.composite
def _matmuls(draw: st.DrawFn) -> tuple[MatmulProblem, MatmulMapping, HardwareConfig]:
    config = draw(machines())
    problem = replace(
        draw(matmul_problems(config, ("copy",), most_computes=60)), destination="dram_int32"
    )
    problem = replace(problem, parameters=False)
    return problem, draw(matmul_mappings(problem, config, most_computes=60)), config


@given(_matmuls(), st.integers(0, 99))
@settings(max_examples=12)
def test_matmul_kernels_multiply(
    drawn: tuple[MatmulProblem, MatmulMapping, HardwareConfig], seed: int
) -> None:
    problem, mapping, config = drawn
    image = matmul_image(problem, config, seed)
    run(matmul_kernel(problem, mapping, config, image.addresses), config, image.dram)
    expected = image.a.astype(np.int64) @ image.b.astype(np.int64)
    blocks = -(-problem.n // config.dim)
    plane = -(-problem.m * config.dim // config.bus_bytes) * config.bus_bytes * 4
    for i in range(problem.batch):
        at = image.addresses.c + i * blocks * plane
        found = from_blocked(image.dram[at:], problem.m, problem.n, config, 4)
        assert (found == expected[i]).all()


# -- Programs and errors -------------------------------------------------------------------------------


def test_a_program_runs_its_kernels_and_asks_the_host() -> None:
    copy = (
        instruction("mvin", rows=2, blocks=1, target="scratchpad", dram=0, local=0),
        instruction("mvin", rows=2, blocks=1, target="accumulator", dram=0, local=0, scale=3),
        instruction("mvout", rows=2, blocks=1, multiplier=1, dram=64),
    )
    program = Program("p", (Kernel("first", copy), Kernel("softmax", host_cycles=9)))
    dram = np.arange(128, dtype=np.uint8)
    seen: list[str] = []
    Machine(TINY, dram).run_program(program, lambda kernel, data: seen.append(kernel.name))
    assert dram[64:72].tolist() == [3 * i for i in range(8)] and seen == ["softmax"]
    with pytest.raises(ProgramError, match="kernel 'softmax' needs a host"):
        Machine(TINY, dram).run_program(program)
    with pytest.raises(ProgramError, match="kernel 'bad': mvout at site 0 \\(instruction 0\\): "):
        Machine(TINY, dram).run_program(Program("p", (Kernel("bad", copy[2:]),)))


MVIN = {"rows": 1, "blocks": 1, "target": "scratchpad"}
COMPUTE = {"rows": 1, "depth": 1, "width": 1}
MVOUT = {"rows": 1, "blocks": 1, "function": "copy", "destination": "dram"}
SOFTMAX = {**MVOUT, "function": "softmax", "columns": 4}
QUOTIENT = {**SOFTMAX, "function": "quotient"}


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        ("mvin", {**MVIN, "rows": 0}, "rows is 0 but must be from 1"),
        ("mvin", {**MVIN, "blocks": 0}, "blocks is 0 but must be from 1"),
        ("mvin", {**MVIN, "rows": 1 << 16}, "rows is 65536 but must be from 0 to 65535"),
        ("mvin", {**MVIN, "target": 4}, "target is 4 but must be from 0 to 3"),
        ("mvin", {**MVIN, "local": -1}, "local is -1 but"),
        ("mvin", {**MVIN, "color": 1}, "has no field 'color'"),
        ("mvin", {**MVIN, "accumulate": True}, "accumulates into the scratchpad"),
        ("mvin", {**MVIN, "local": 64}, "row 64 is outside the scratchpad \\(64 rows\\)"),
        ("mvin", {**MVIN, "dram": 4}, "block 0 starts at DRAM byte 4, inside a beat of 8 bytes"),
        ("mvin", {**MVIN, "blocks": 2, "dram_stride": 4096}, "block 1 ends at DRAM byte 4100 of"),
        ("preload", {"rows": 0}, "rows is 0 but must be from 1 to 4"),
        ("preload", {"rows": 5}, "rows is 5 but must be from 1 to 4"),
        ("compute", COMPUTE, "no weights were preloaded"),
        ("compute", {**COMPUTE, "depth": 5}, "depth is 5 but must be from 1 to 4"),
        ("compute", {**COMPUTE, "width": 0}, "width is 0 but must be from 1 to 4"),
        ("mvout", {**MVOUT, "accumulator": 127, "rows": 2}, "row 128 is outside the accumulator"),
        ("mvout", {**MVOUT, "function": len(FUNCTIONS)}, f"function is {len(FUNCTIONS)}"),
        ("mvout", {**MVOUT, "destination": 3}, "destination is 3"),
        ("mvout", {**MVOUT, "shift": 63}, "shift is 63 but must be from 0 to 62"),
        ("mvout", {**MVOUT, "out_shift": 63}, "out_shift is 63 but"),
        ("mvout", {**MVOUT, "function": "relu", "destination": "dram_int32"}, "no function"),
        ("mvout", {**MVOUT, "channel_affine": True}, "copy has no second requantizer"),
        ("compute", {**COMPUTE, "alignment": 1}, "has an alignment, but is not aligned"),
        ("compute", {**COMPUTE, "rescale": True}, "has an alignment, but is not aligned"),
        ("mvout", {**QUOTIENT, "shift": 1}, "quotient shifts by the rows' states"),
        ("mvout", {**QUOTIENT, "state": 511, "rows": 2}, "row 512 is outside the states"),
        ("mvout", {**SOFTMAX, "state": 1}, "softmax has no states"),
        ("mvout", {**MVOUT, "fresh": True}, "copy has no states"),
        ("mvout", {**MVOUT, "causal": True}, "causal is for softmax and exponentials, not copy"),
        ("mvout", {**SOFTMAX, "columns": 4, "window": 1}, "a window is of causal rows"),
        ("mvout", {**MVOUT, "inverse": 1}, "copy has no field 'inverse'"),
        ("mvout", {**SOFTMAX, "second": 1}, "softmax has no field 'second'"),
        ("mvout", {**MVOUT, "function": "glu", "diagonal": 1}, "glu has no field 'diagonal'"),
        (
            "mvout",
            {**MVOUT, "function": "silu", "second_channel_scale": True},
            "no further operands",
        ),
        ("mvout", {**MVOUT, "function": "swiglu", "second_shift": 63}, "second_shift is 63 but"),
        ("mvout", {**MVOUT, "function": "swiglu", "second": 128}, "row 128 is outside the acc"),
        ("mvout", {**MVOUT, "function": "rotate", "second": 127}, "row 128 is outside the acc"),
        ("mvout", {**SOFTMAX, "columns": 0}, "columns is 0 but must be from 1 to 4"),
        ("mvout", {**SOFTMAX, "columns": 5}, "columns is 5 but must be from 1 to 4"),
        ("mvout", {**SOFTMAX, "function": "layernorm"}, "inverse is 0 but must be from 8388608"),
        ("mvout", {**MVOUT, "channel_scale": True, "parameters": 16}, "outside the parameters"),
        ("mvout", {**MVOUT, "dram": 4}, "inside a beat"),
        ("mvout", {**MVOUT, "destination": "scratchpad", "local": 64}, "outside the scratchpad"),
    ],
)
def test_a_broken_contract_names_the_instruction(op: str, fields: Fields, message: str) -> None:
    machine = filled(TINY, 4)
    body = (instruction("load_sync"), instruction(op, **fields))
    with pytest.raises(ProgramError, match=f"^{op} at site 1 \\(instruction 1\\): .*{message}"):
        machine.run(body)


@pytest.mark.parametrize(
    ("op", "fields", "memory"),
    [
        ("mvin", {**MVIN, "target": "accumulator", "accumulate": True}, "accumulator"),
        ("preload", {"rows": 2}, "scratchpad"),
        ("compute", {**COMPUTE, "overwrite": True}, "scratchpad"),
        ("compute", COMPUTE, "accumulator"),
        ("mvout", MVOUT, "accumulator"),
        ("mvout", {**MVOUT, "channel_scale": True}, "parameters"),
        ("mvout", {**SOFTMAX, "channel_affine": True}, "parameters"),
    ],
)
def test_a_row_never_written_cannot_be_read(op: str, fields: Fields, memory: str) -> None:
    machine = filled(TINY, 5)
    machine.weights = np.zeros((4, 4), dtype=np.float32)
    machine.written[memory][:] = False
    with pytest.raises(ProgramError, match=f"reads row 0 of the {memory}, which was never written"):
        machine.run((instruction(op, **fields),))


def test_other_errors() -> None:
    machine = filled(TINY, 6)
    preload = instruction("preload", rows=4)
    with pytest.raises(ProgramError, match="overwrites weights that no compute used"):
        machine.run((preload, preload))
    machine.parameters[0, 2, 7] = 63
    with pytest.raises(ProgramError, match="shift 63 of channel 2 in parameter row 0 is above 62"):
        machine.run((instruction("mvout", **MVOUT, channel_scale=True),))
    plain = filled(replace(TINY, normalization=False), 6)
    with pytest.raises(ProgramError, match="softmax needs normalization units"):
        plain.run((instruction("mvout", **SOFTMAX),))
    with pytest.raises(ProgramError, match="there is no such operation"):
        plain.run((Instruction("jump"),))
