"""The row kernel sums its operands row by row, never collides, and its mapper finds the optimum.

Row functions are replaced by a saturating copy: what is checked is which rows are loaded, added,
drained and stored where, and when. `OnChipMachine` and `assert_space_is_sound` also serve the
tests of the attention kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machine_model import (
    Fault,
    Machine,
    check_hazards,
    from_blocked,
    leftover_tokens,
    machines,
    plane_bytes,
    to_blocked,
)

from codesign.compiler.mapping import OBJECTIVES, Prices, Space, best_mapping
from codesign.compiler.row_kernel import (
    RowAddresses,
    RowMapping,
    RowProblem,
    RowSpace,
    flattened,
    row_kernel,
)
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import cost_table
from codesign.hw.events import EVENTS
from codesign.hw.fast_timing import evaluate, evaluate_batch
from codesign.hw.isa import DESTINATIONS, MAX_TOKENS, OPERATION, TARGETS
from codesign.hw.program import Affine, Body, Instruction, Issued, Loop, Pipeline, take, unroll
from codesign.hw.timing import Step, evaluate_unrolled

Int8 = npt.NDArray[np.int8]
LAYOUT_GAP = 256


def saturate(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values clamped to int8."""
    clamped: npt.NDArray[Any] = np.clip(values, -128, 127)
    return clamped


class OnChipMachine(Machine):
    """Every function of the drain is a saturating copy; a mvin to the accumulator has scale 1."""

    def _mvin(self, issued: Issued) -> None:
        if TARGETS[issued.values["target"]] != "accumulator":
            super()._mvin(issued)
            return
        for block, place in self._dram(issued, self.config.dim):
            if place.stop > len(self.dram) or not self.readable[place].all():
                raise Fault(f"{issued} reads DRAM outside its operand")
            data = self.dram[place].view(np.int8).reshape(-1, self.config.dim)
            first = issued.addresses["local"] + block * issued.addresses["stride"]
            rows = slice(first, first + len(data))
            if issued.flags.get("accumulate", False):
                self.accumulator[rows] += data
            else:
                self.accumulator[rows] = data

    def _mvout(self, issued: Issued) -> None:
        on_chip = DESTINATIONS[issued.values["destination"]] == "scratchpad"
        at, count = issued.addresses, issued.values["rows"]
        for block in range(issued.values["blocks"]):
            first = at["accumulator"] + block * at["stride"]
            data = saturate(self.accumulator[first : first + count]).astype(np.int8)
            if on_chip:
                local = at["local"] + block * at["local_stride"]
                self.scratchpad[local : local + count] = data
            else:
                begin = at["dram"] + block * at["dram_stride"]
                if begin % self.config.bus_bytes or begin + data.nbytes > len(self.dram):
                    raise Fault(f"{issued} starts inside a beat or leaves DRAM")
                self.dram[begin : begin + data.nbytes] = data.view(np.uint8).ravel()
                self.written[begin : begin + data.nbytes] += 1


@dataclass(frozen=True)
class Image:
    """Matrices in DRAM with unreadable gaps between them, and room for the output."""

    dram: npt.NDArray[np.uint8]
    readable: npt.NDArray[np.bool_]
    places: tuple[int, ...]  # of the operands
    out: int


def lay_out(parts: Sequence[npt.NDArray[np.uint8]], out_bytes: int) -> Image:
    """Parts one after another, a gap before each; the output comes last."""
    places, at = [], LAYOUT_GAP
    for part in parts:
        places.append(at)
        at = -(-(at + len(part) + LAYOUT_GAP) // LAYOUT_GAP) * LAYOUT_GAP
    dram = np.zeros(at + out_bytes, dtype=np.uint8)
    readable = np.zeros(len(dram), dtype=np.bool_)
    for place, part in zip(places, parts, strict=True):
        dram[place : place + len(part)] = part
        readable[place : place + len(part)] = True
    return Image(dram, readable, tuple(places), at)


def blocked_bytes(rows: int, columns: int, config: HardwareConfig) -> int:
    """Bytes of an int8 matrix in the blocked layout."""
    return -(-columns // config.dim) * plane_bytes(rows, config.dim, config.bus_bytes)


def assert_written_once(machine: Machine, out: int, matrices: int, rows: int, columns: int) -> None:
    """Each byte of the output's rows was written once, and nothing else (not even padding)."""
    config = machine.config
    plane = plane_bytes(rows, config.dim, config.bus_bytes)
    expected = np.zeros_like(machine.written)
    for block in range(matrices * -(-columns // config.dim)):
        begin = out + block * plane
        expected[begin : begin + rows * config.dim] = 1
    np.testing.assert_array_equal(machine.written, expected)


def assert_timing_agrees(body: Body, config: HardwareConfig) -> tuple[Step, ...]:
    """The rolled evaluator gives the recurrence's cycles and events; returns the steps."""
    reference = evaluate_unrolled(body, config, trace=True)
    quick = evaluate(body, config)
    assert quick.cycles == reference.cycles
    assert dict(zip(EVENTS, quick.events, strict=True)) == dict(
        zip(EVENTS, reference.events, strict=True)
    )
    return reference.steps


def assert_fields_fit(body: Body) -> None:
    """Every number fits its field of the instruction table, every token count its counter."""
    for issued in unroll(body):
        operation = OPERATION[issued.op]
        for fields, numbers in (
            (operation.values, issued.values),
            (operation.addresses, issued.addresses),
        ):
            for field in fields:
                assert 0 <= numbers.get(field.name, 0) < 1 << field.bits, (issued, field)
        assert all(0 <= count <= MAX_TOKENS for _, count in issued.waits + issued.signals)


def assert_space_is_sound(spaces: Sequence[Any], config: HardwareConfig) -> None:
    """Bounds hold for every mapping, and `best_mapping` finds what brute force finds."""
    prices = Prices.of(cost_table(config))
    every: list[tuple[Space, Any, Any]] = []
    for space in spaces:
        if not len(space):
            continue
        timing = evaluate_batch(space.kernel(np.arange(len(space))), config)
        bound_cycles, bound_events = space.bounds()
        assert (bound_cycles <= timing.cycles).all()
        above = (bound_events > timing.events).any(axis=0)
        assert not above.any(), [n for n, bad in zip(EVENTS, above, strict=True) if bad]
        every.append((space, timing.cycles, timing.events))
    for objective in OBJECTIVES:
        choice = best_mapping(list(spaces), config, prices, objective)
        if not every:
            assert choice is None
            continue
        lowest = min(float(prices.score(objective, e, c).min()) for _, c, e in every)
        assert choice is not None and choice.proved
        assert choice.score == lowest
        assert choice.space_size == sum(len(space) for space, _, _ in every)
        space = next(
            s for s, _, _ in every if choice.mapping in list(map(s.mapping, range(len(s))))
        )
        index = list(map(space.mapping, range(len(space)))).index(choice.mapping)
        single = evaluate_unrolled(_one(space, index), config)
        assert single.cycles == choice.cycles
        np.testing.assert_array_equal(single.events, choice.events)


def _one(space: Space, index: int) -> Body:
    return take(space.kernel(np.array([index])), 0)


def rewritten(body: Body, change: Callable[[Instruction], Instruction]) -> Body:
    """The kernel with every instruction changed, loops left rolled."""

    def visit(node: Any) -> Any:
        match node:
            case Instruction():
                return change(node)
            case Loop():
                return replace(node, body=tuple(map(visit, node.body)))
            case Pipeline():
                stages = tuple(tuple(map(visit, stage)) for stage in node.stages)
                return replace(node, stages=stages)

    return tuple(map(visit, body))


def explicit(body: Body) -> Body:
    """The kernel with the parameter row of every mvout spelt out: an absent address is 0."""

    def change(node: Instruction) -> Instruction:
        if node.op != "mvout":
            return node
        return replace(node, addresses={"parameters": Affine(0), **node.addresses})

    return rewritten(body, change)


# -- The kernel ------------------------------------------------------------------------------------


def check(problem: RowProblem, mapping: RowMapping, config: HardwareConfig, seed: int) -> None:
    """Run one kernel on random operands and look at everything it did, and when."""
    rng = np.random.default_rng(seed)
    shape = (problem.operands, problem.batch, problem.rows, problem.cols)
    operands = rng.integers(-128, 128, shape, dtype=np.int8)
    parts = [np.concatenate([to_blocked(x, config, 77) for x in matrix]) for matrix in operands]
    blocks = -(-problem.cols // config.dim)
    if problem.parameters:
        parts.append(np.zeros(blocks * problem.parameters * config.dim * 8, dtype=np.uint8))
    item_bytes = blocked_bytes(problem.rows, problem.cols, config)
    image = lay_out(parts, problem.batch * item_bytes)
    addresses = RowAddresses(
        x=image.places[0],
        y=image.places[1] if problem.operands == 2 else 0,
        out=image.out,
        parameters=image.places[-1],
    )
    body = explicit(row_kernel(problem, mapping, config, addresses))
    machine = OnChipMachine(config, image.dram, image.readable, problem.parameters)
    machine.run(body)
    assert_written_once(machine, image.out, problem.batch, problem.rows, problem.cols)
    expected = saturate(operands.astype(np.int64).sum(axis=0))
    for item, matrix in enumerate(expected):
        data = machine.dram[image.out + item * item_bytes :]
        got = from_blocked(data, problem.rows, problem.cols, config, 1)
        np.testing.assert_array_equal(got, matrix)
    check_hazards(assert_timing_agrees(body, config), config, problem.parameters)
    assert leftover_tokens(body) == {}
    assert_fields_fit(body)


@st.composite
def row_problems(draw: st.DrawFn, config: HardwareConfig) -> RowProblem:
    """All functions, one or two operands, ragged sizes, up to three matrices."""
    function = draw(st.sampled_from(("copy", "relu", "gelu", "softmax", "layernorm", "rmsnorm")))
    return RowProblem(
        rows=draw(st.integers(1, 6 * config.dim)),
        cols=draw(st.integers(1, 5 * config.dim)),
        function=function,
        operands=draw(st.integers(1, 2)),
        parameters=int(function in ("layernorm", "rmsnorm")),
        batch=draw(st.integers(1, 3)),
    )


@settings(max_examples=150)
@given(st.data())
def test_sums_operands_without_hazards(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(row_problems(config))
    space = RowSpace.build(problem, config)
    assume(len(space))
    check(problem, space.mapping(data.draw(st.integers(0, len(space) - 1))), config, 0)


@pytest.mark.long
@settings(max_examples=4000)
@given(st.data())
def test_many_kernels(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(row_problems(config))
    space = RowSpace.build(problem, config)
    assume(len(space))
    check(problem, space.mapping(data.draw(st.integers(0, len(space) - 1))), config, 0)


SMALL = HardwareConfig(
    dim=4,
    scratchpad_bytes=1024,
    scratchpad_banks=8,
    accumulator_bytes=1024,
    accumulator_banks=4,
    parameter_channels=64,
    bus_bytes=8,
)


@pytest.mark.parametrize("function", ["copy", "softmax", "layernorm"])
@pytest.mark.parametrize("tiles_held", [2, 3])
def test_ragged_rows_columns_and_batches(function: str, tiles_held: int) -> None:
    problem = RowProblem(
        13, 11, function, operands=2, parameters=int(function == "layernorm"), batch=3
    )
    check(problem, RowMapping(4, tiles_held), SMALL, 1)


@pytest.mark.parametrize("function", ["copy", "gelu", "relu"])
@pytest.mark.parametrize(("rows", "cols", "batch"), [(13, 11, 3), (8, 4, 1), (5, 9, 2)])
def test_flattening_covers_every_matrix(function: str, rows: int, cols: int, batch: int) -> None:
    """Elementwise work as one column of rows touches the same bytes as matrix by matrix."""
    for bus_bytes in (2, 4, 8, 16):
        config = replace(SMALL, bus_bytes=bus_bytes)
        flat = flattened(RowProblem(rows, cols, function, 2, 0, batch), config)
        whole = batch * blocked_bytes(rows, cols, config)
        assert (flat.batch, flat.cols) == (1, config.dim)
        assert blocked_bytes(flat.rows, flat.cols, config) == whole


@settings(max_examples=40)
@given(st.data())
def test_best_mapping_is_the_optimum_of_the_space(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(row_problems(config))
    spaces = [RowSpace.build(problem, config), RowSpace.build(problem, config, serial=True)]
    assert_space_is_sound(spaces, config)


def test_parameters_wider_than_their_memory_fit_no_tile() -> None:
    wide = RowProblem(rows=4, cols=SMALL.parameter_channels + 1, function="layernorm", parameters=1)
    roomy = replace(SMALL, accumulator_bytes=1 << 16)
    assert len(RowSpace.build(replace(wide, cols=SMALL.parameter_channels), roomy))
    assert not len(RowSpace.build(wide, roomy))


def test_rows_of_half_the_accumulator_take_turns_in_it() -> None:
    """Two tiles do not fit: each is loaded after the one before it has drained."""
    cols = (SMALL.accumulator_rows // 2 + 1) * SMALL.dim
    problem = RowProblem(1, cols, "softmax", operands=2, batch=3)
    assert not len(RowSpace.build(problem, SMALL))
    space = RowSpace.build(problem, SMALL, serial=True)
    body = explicit(take(space.kernel(np.array([0])), 0))
    check_hazards(evaluate_unrolled(body, SMALL, trace=True).steps, SMALL, 0)
    assert not leftover_tokens(body)


def test_a_row_wider_than_the_accumulator_fits_no_tile() -> None:
    rows = SMALL.accumulator_rows
    assert len(RowSpace.build(RowProblem(1, rows * SMALL.dim, "softmax"), SMALL))
    assert not len(RowSpace.build(RowProblem(1, rows * SMALL.dim + 1, "softmax"), SMALL))


@pytest.mark.parametrize("channel", ["filled", "emptied"])
def test_a_missing_token_is_a_hazard(channel: str) -> None:
    """The hazard check is not vacuous: without either channel, the drain races the loads."""
    problem = RowProblem(64, 16, "layernorm", operands=2, parameters=1)
    body = explicit(row_kernel(problem, RowMapping(8, 2), SMALL))
    check_hazards(evaluate_unrolled(body, SMALL, trace=True).steps, SMALL, 1)
    with pytest.raises(Fault):
        check_hazards(evaluate_unrolled(without(body, channel), SMALL, trace=True).steps, SMALL, 1)


def without(body: Body, channel: str) -> Body:
    """The kernel with every wait for and signal to `channel` gone."""

    def strip(node: Instruction) -> Instruction:
        waits = tuple(t for t in node.waits if t.channel != channel)
        signals = tuple(t for t in node.signals if t.channel != channel)
        return replace(node, waits=waits, signals=signals)

    return rewritten(body, strip)
