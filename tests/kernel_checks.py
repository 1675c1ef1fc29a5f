"""What tests of kernels share: operands in DRAM, machines that count, and what every kernel must keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from machine_model import (
    Fault,
    Machine,
    plane_bytes,
)

from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES, Mapspace, Prices, best_mapping
from codesign.compiler.kernels.row_kernel import (
    RowProblem,
)
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENTS
from codesign.hw.machine.isa import DESTINATIONS, MAX_TOKENS, OPERATION, TARGETS
from codesign.hw.machine.program import (
    Affine,
    Body,
    Instruction,
    Issued,
    Loop,
    Pipeline,
    take,
    unroll,
)
from codesign.hw.views.fast_timing import evaluate_batch, time_kernel
from codesign.hw.views.timing import TimedStep, evaluate_unrolled

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


def assert_timing_agrees(body: Body, config: HardwareConfig) -> tuple[TimedStep, ...]:
    """The rolled evaluator gives the recurrence's cycles and events; returns the steps."""
    reference = evaluate_unrolled(body, config, trace=True)
    quick = time_kernel(body, config)
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
    every: list[tuple[Mapspace, Any, Any]] = []
    for space in spaces:
        if not len(space):
            continue
        timing = evaluate_batch(space.kernel(np.arange(len(space))), config)
        bound_cycles, bound_events = space.bounds()
        assert (bound_cycles <= timing.cycles).all()
        above = (bound_events > timing.events).any(axis=0)
        assert not above.any(), [n for n, bad in zip(EVENTS, above, strict=True) if bad]
        every.append((space, timing.cycles, timing.events))
    for objective in MAPPING_OBJECTIVES:
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


def _one(space: Mapspace, index: int) -> Body:
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


def without(body: Body, channel: str) -> Body:
    """The kernel with every wait for and signal to `channel` gone."""

    def strip(node: Instruction) -> Instruction:
        waits = tuple(t for t in node.waits if t.channel != channel)
        signals = tuple(t for t in node.signals if t.channel != channel)
        return replace(node, waits=waits, signals=signals)

    return rewritten(body, strip)
