"""Races: the boundary cycles of every kind, all against a cycle-by-cycle replay, and none in kernels."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instructions import TINY, instruction
from machine_model import machines, matmul_mappings, matmul_problems

from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem
from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import DESTINATIONS, FUNCTIONS, PARAMETER_BYTES
from codesign.hw.machine.program import Body, Instruction
from codesign.hw.views import timing
from codesign.hw.views.races import (
    DRAIN_WRITE,
    FIRST_SLOT,
    SECOND_PARAMETERS,
    accesses,
    check_races,
)
from codesign.hw.views.timing import TimedStep, evaluate_unrolled

FAST = replace(TINY, dram_latency_cycles=1, load_queue_depth=64, execute_queue_depth=64)


def raises(body: Body, config: HardwareConfig) -> str:
    """The complaint about a body, or nothing."""
    try:
        check_races(body, config)
    except ProgramError as error:
        return str(error)
    return ""


def events(step: TimedStep, config: HardwareConfig) -> list[tuple[int, bool, str, str, int]]:
    """(cycle, write, memory, port, row) of every access of an instruction."""
    return [
        (r.cycle + i * r.cycle_step, r.write, r.memory, r.port, r.row + i * r.row_step)
        for r in accesses(step, config)
        for i in range(r.count)
    ]


def replay(body: Body, config: HardwareConfig) -> bool:
    """Whether a replay of all accesses, in the order of their cycles, finds a race."""
    steps = evaluate_unrolled(body, config, trace=True).steps
    queue = sorted((*e, tag) for tag, step in enumerate(steps) for e in events(step, config))
    writer: dict[tuple[str, int], int] = {}
    reader: dict[tuple[str, int, str], int] = {}
    banks = {
        "scratchpad": config.scratchpad_bank_rows,
        "accumulator": config.accumulator_bank_rows,
    }
    ports = set()
    for cycle, write, memory, port, row, tag in queue:
        if memory in banks:
            use = (cycle, write, memory, row // banks[memory])
            if use in ports:
                return True
            ports.add(use)
        if writer.get((memory, row), -1) > tag:
            return True
        if write:
            others = (t for (m, r, p), t in reader.items() if (m, r) == (memory, row) and p != port)
            if max(others, default=-1) > tag:
                return True
            writer[memory, row] = max(tag, writer.get((memory, row), -1))
        else:
            reader[memory, row, port] = max(tag, reader.get((memory, row, port), -1))
    return False


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    """A few instructions without tokens, whose rows often meet."""
    body: list[Instruction] = []
    for _ in range(draw(st.integers(2, 6))):
        rows, local = draw(st.integers(1, 4)), draw(st.sampled_from((0, 2, 32, 40)))
        acc = draw(st.sampled_from((0, 1, 3, 64, 70)))
        add = draw(st.booleans())
        match draw(st.sampled_from(("mvin", "accumulate", "parameters", "mesh", "mvout", "sync"))):
            case "mvin":
                body.append(instruction("mvin", rows=rows, blocks=1, local=local))
            case "accumulate":
                fields = {"rows": rows, "blocks": 2, "stride": 2, "local": acc, "accumulate": add}
                body.append(instruction("mvin", target="accumulator", **fields))
            case "parameters":
                body.append(instruction("mvin", rows=rows, blocks=1, target="parameters"))
            case "mesh":
                body.append(instruction("preload", rows=rows, local=local))
                shape = {"rows": draw(st.integers(1, 6)), "depth": 1, "width": 1}
                fields = {"local": draw(st.sampled_from((0, 34))), "accumulator": acc}
                body.append(instruction("compute", **shape, **fields, overwrite=add))
            case "mvout":
                function = draw(st.sampled_from(FUNCTIONS))
                fields = {"rows": rows, "blocks": 2, "accumulator": acc, "stride": rows}
                places = {"local": local, "local_stride": rows, "channel_scale": add}
                if FUNCTION[function].operands > 1:
                    second = draw(st.sampled_from((0, 2, 63, 66)))
                    places |= {"second": second, "second_channel_scale": draw(st.booleans())}
                to = draw(st.sampled_from(("dram", "scratchpad")))
                body.append(
                    instruction("mvout", function=function, destination=to, **fields, **places)
                )
            case _:
                unit = draw(st.sampled_from(("load", "execute", "drain")))
                body += [instruction(f"{unit}_sync")] * draw(st.integers(1, 20))
    return tuple(body)


@given(bodies(), st.sampled_from((1, 5)))
@settings(max_examples=200)
def test_races_are_those_of_a_replay(body: Body, latency: int) -> None:
    config = replace(FAST, dram_latency_cycles=latency)
    assert bool(raises(body, config)) == replay(body, config)


@st.composite
def _matmuls(draw: st.DrawFn) -> tuple[MatmulProblem, MatmulMapping, HardwareConfig]:
    config = draw(machines())
    problem = draw(matmul_problems(config, ("copy", "gelu"), most_computes=60))
    return problem, draw(matmul_mappings(problem, config, most_computes=60)), config


@given(_matmuls())
@settings(max_examples=12)
def test_matmul_kernels_have_none(
    drawn: tuple[MatmulProblem, MatmulMapping, HardwareConfig],
) -> None:
    problem, mapping, config = drawn
    check_races(matmul_kernel(problem, mapping, config), config)


# -- Boundaries ----------------------------------------------------------------------------------------


def earliest(before: Body, unit: str, after: Body) -> int:
    """Cycles from `before` to the first start of `after` that does not race with it.

    Syncs of `unit` put `after` off by a cycle each.
    """
    for count in range(120):
        body = (*before, *(instruction(f"{unit}_sync"),) * count, *after)
        if not raises(body, FAST):
            steps = evaluate_unrolled(body, FAST, trace=True).steps
            return steps[len(before) + count].start - steps[0].start
    raise AssertionError("never")


LOAD = instruction("mvin", rows=1, blocks=1, local=0)
PRELOAD = instruction("preload", rows=1, local=0)
SUM: dict[str, Any] = {"rows": 1, "depth": 1, "width": 1, "local": 40, "overwrite": True}
COMPUTE = instruction("compute", **SUM)
COPY = instruction("mvout", rows=1, blocks=1)
SOFTMAX = instruction(
    "mvout", rows=1, blocks=1, function="softmax", destination="scratchpad", channel_affine=True
)


def test_a_loaded_row_is_read_from_the_next_cycle_on() -> None:
    """Slot s + 1, data L + 2 later, so a read in s + L + 4: one that starts in s + L + 3."""
    assert earliest((LOAD,), "drain", (PRELOAD,)) == FAST.dram_latency_cycles + 3


def test_a_sum_is_read_from_the_next_cycle_on() -> None:
    assert earliest((COMPUTE,), "drain", (COPY,)) == 2 * FAST.dim + 5


def test_a_drained_row_is_read_from_the_next_cycle_on() -> None:
    copy = instruction("mvout", rows=1, blocks=1, destination="scratchpad")
    assert earliest((copy,), "load", (PRELOAD,)) == DRAIN_WRITE + 1


def test_parameters_may_be_overwritten_in_the_cycle_that_reads_them() -> None:
    """Of a softmax's one row, the second set is read five cycles after the output slot."""
    output = FIRST_SLOT + timing.row_batch_cycles(1, 1, FUNCTION["softmax"], 1) - 1
    load = instruction("mvin", rows=1, blocks=1, target="parameters")
    beats = PARAMETER_BYTES * FAST.dim // FAST.bus_bytes  # a row is whole with its last
    write = FIRST_SLOT + FAST.dram_latency_cycles + 2 + beats - 1
    assert earliest((SOFTMAX,), "load", (load,)) == output + SECOND_PARAMETERS - write


def test_sums_of_one_adder_are_forwarded() -> None:
    add = instruction("compute", **{**SUM, "overwrite": False})
    assert not raises((COMPUTE, add, add, add), FAST)
    twice = instruction("mvin", rows=1, blocks=4, target="accumulator", stride=0, accumulate=True)
    assert not raises((twice, twice), FAST)


def test_messages_name_both_instructions() -> None:
    assert raises((LOAD, PRELOAD), FAST) == (
        "mvin at site 0 (instruction 0) writes scratchpad row 0 in cycle 5, but preload at site 1 "
        "(instruction 1), which comes later in the program, reads it in cycle 4"
    )
    other = instruction("preload", rows=1, local=1)
    pairs = (other, instruction("compute", rows=8, depth=1, width=1, local=2), other)
    assert raises(pairs, FAST) == (
        "compute at site 1 (instruction 1) and preload at site 2 (instruction 2) need the read "
        "port of scratchpad bank 0 in cycle 7"
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("destination", ["dram", "scratchpad"])
@pytest.mark.parametrize("bus", [2, 8, 16])
def test_slots_are_those_of_the_timing_model(function: str, destination: str, bus: int) -> None:
    """Every row and block is read once in every pass, and of every operand, the last within the last
    row's beats.
    """
    config = replace(TINY, bus_bytes=bus)
    beats = max(1, config.dim // bus) if destination == "dram" else 1
    twice = ("layernorm", "rmsnorm", "exponentials", "quotient")
    passes = 3 if function == "softmax" else 2 if function in twice else 1
    for rows in (1, 2, 7, 16, 17, 33):
        for blocks in (1, 2, 3, 9):
            size = rows * blocks
            fields: dict[str, Any] = {
                "rows": rows,
                "blocks": blocks,
                "stride": rows,
                "second": size,
            }
            to = DESTINATIONS.index(destination)
            body = (instruction("mvout", function=function, destination=to, **fields),)
            (step,) = evaluate_unrolled(body, config, trace=True).steps
            reads = [e for e in events(step, config) if e[2] == "accumulator"]
            cycles = sorted(cycle for cycle, *_ in reads)
            further = range(size, size * FUNCTION[function].operands)
            assert sorted(row for *_, row in reads) == sorted([*passes * [*range(size)], *further])
            assert len(set(cycles)) == len(cycles) and cycles[0] == step.start + 1
            assert step.free - cycles[-1] == beats - 1
