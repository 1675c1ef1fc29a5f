"""The matmul kernel computes A @ B, never reads what nobody wrote, and never collides."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import assert_fields_fit
from machine_model import (
    SMALL,
    Fault,
    Machine,
    MatmulImage,
    check_hazards,
    from_blocked,
    leftover_tokens,
    machines,
    matmul_image,
    matmul_mappings,
    matmul_problems,
    plane_bytes,
)

from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem, MatmulShape
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.machine.program import Body, Instruction, Loop, Pipeline, Token
from codesign.hw.views.timing import evaluate_unrolled

MOST_COMPUTES = 120


def execute(
    problem: MatmulProblem, body: Body, config: HardwareConfig, image: MatmulImage
) -> Machine:
    """Run a kernel on the model and check that it wrote each byte of C's rows once, else nothing."""
    machine = Machine(config, image.dram, image.readable, problem.parameter_sets)
    machine.run(body)
    word = 4 if problem.destination == "dram_int32" else 1
    blocks = -(-problem.n // config.dim)
    plane = plane_bytes(problem.m, config.dim, config.bus_bytes) * word
    expected = np.zeros(len(image.dram), dtype=np.int64)
    for block in range(problem.batch * blocks):
        begin = image.addresses.c + block * plane
        expected[begin : begin + problem.m * config.dim * word] = 1
    np.testing.assert_array_equal(machine.written, expected)
    return machine


def assert_is_product(
    problem: MatmulProblem, config: HardwareConfig, image: MatmulImage, machine: Machine
) -> None:
    """C in DRAM is A @ B as numpy computes it in int64 (saturated where it is int8)."""
    word = 4 if problem.destination == "dram_int32" else 1
    size = -(-problem.n // config.dim) * plane_bytes(problem.m, config.dim, config.bus_bytes) * word
    product = image.a.astype(np.int64) @ image.b.astype(np.int64)
    expected = product if word == 4 else np.clip(product, -128, 127)
    for item, matrix in enumerate(expected):
        data = machine.dram[image.addresses.c + item * size :]
        got = from_blocked(data, problem.m, problem.n, config, word)
        np.testing.assert_array_equal(got, matrix)


def check(
    problem: MatmulProblem, mapping: MatmulMapping, config: HardwareConfig, seed: int
) -> None:
    image = matmul_image(problem, config, seed)
    body = matmul_kernel(problem, mapping, config, image.addresses)
    machine = execute(problem, body, config, image)
    if problem.function == "copy":
        assert_is_product(problem, config, image, machine)
    check_hazards(evaluate_unrolled(body, config, trace=True).steps, config, problem.parameter_sets)
    assert leftover_tokens(body) == {}
    assert_fields_fit(body)


@settings(max_examples=200)
@given(st.data())
def test_computes_the_product_without_hazards(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(matmul_problems(config, ("copy", "copy", "relu", "gelu"), MOST_COMPUTES))
    mapping = data.draw(matmul_mappings(problem, config, MOST_COMPUTES))
    check(problem, mapping, config, 0)


@settings(max_examples=120)
@given(st.data())
def test_row_functions_have_no_hazards(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(matmul_problems(config, ROW_FUNCTIONS, MOST_COMPUTES))
    mapping = data.draw(matmul_mappings(problem, config, MOST_COMPUTES))
    check(problem, mapping, config, 0)


@pytest.mark.long
@settings(max_examples=5000)
@given(st.data())
def test_many_kernels(data: st.DataObject) -> None:
    config = data.draw(machines())
    functions = data.draw(st.sampled_from((("copy", "copy", "relu", "gelu"), ROW_FUNCTIONS)))
    problem = data.draw(matmul_problems(config, functions, 400))
    mapping = data.draw(matmul_mappings(problem, config, 400))
    check(problem, mapping, config, 0)


PROBLEM = MatmulProblem(m=21, k=18, n=27, batch=2, parameters=True)


@pytest.mark.parametrize("order", ["mn", "nm"])
@pytest.mark.parametrize("transposed_b", [False, True])
@pytest.mark.parametrize(("groups", "resident"), [(1, 0), (2, 1), (2, 2), (1, 3)])
def test_every_dimension_ragged(order: str, transposed_b: bool, groups: int, resident: int) -> None:
    problem = replace(PROBLEM, transposed_b=transposed_b, parameters=False)
    mapping = MatmulMapping(order, tile_m=8, tile_n=4, chunk_k=2, groups=groups, resident=resident)
    assert MatmulShape(problem, mapping, SMALL).feasible
    check(problem, mapping, SMALL, 1)


def test_residency_saves_exactly_the_reloads() -> None:
    """With `resident` chunks of A, all but the first of the n tiles leave them out."""
    problem = MatmulProblem(m=16, k=24, n=32)
    base = MatmulMapping("mn", tile_m=8, tile_n=2, chunk_k=2)
    read = {}
    for resident in (0, 1, 3):
        body = matmul_kernel(problem, replace(base, resident=resident), SMALL)
        machine_events = evaluate_unrolled(body, SMALL).events
        read[resident] = int(machine_events[1])
    a_chunk_bytes, sweeps_m, more_sweeps_n = 8 * 8, 2, 3
    assert read[0] - read[1] == a_chunk_bytes * sweeps_m * more_sweeps_n
    assert read[0] - read[3] == 3 * a_chunk_bytes * sweeps_m * more_sweeps_n


# -- The checks themselves: a kernel with a broken rule is caught --------------------------------------

SLOW_DRAIN = replace(SMALL, bus_bytes=2)
BROKEN = MatmulProblem(m=24, k=48, n=48, batch=2, parameters=True)
BROKEN_MAPPING = MatmulMapping("mn", tile_m=8, tile_n=4, chunk_k=2, groups=4, resident=0)


def without_channel(body: Body, channel: str) -> Body:
    """The kernel with every wait for, and signal to, `channel` gone."""

    def keep(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        return tuple(token for token in tokens if token.channel != channel)

    def strip(node: Any) -> Any:
        match node:
            case Instruction():
                return replace(node, waits=keep(node.waits), signals=keep(node.signals))
            case Loop():
                return replace(node, body=tuple(map(strip, node.body)))
            case Pipeline():
                stages = tuple(tuple(map(strip, stage)) for stage in node.stages)
                return replace(node, stages=stages)

    return tuple(map(strip, body))


@pytest.mark.parametrize(
    ("channel", "problem", "mapping"),
    [
        ("loaded", BROKEN, BROKEN_MAPPING),
        ("consumed", BROKEN, BROKEN_MAPPING),
        ("computed", BROKEN, BROKEN_MAPPING),
        # Drains of int32 over a narrow bus fall behind the mesh.
        ("drained", replace(BROKEN, k=4, destination="dram_int32"), BROKEN_MAPPING),
        ("emptied", replace(BROKEN, k=4, destination="dram_int32"), BROKEN_MAPPING),
    ],
)
def test_a_missing_channel_is_a_hazard(
    channel: str, problem: MatmulProblem, mapping: MatmulMapping
) -> None:
    """`filled` is not among them: loads complete in order, so `loaded` implies it here."""
    body = matmul_kernel(problem, mapping, SLOW_DRAIN)
    check_hazards(evaluate_unrolled(body, SLOW_DRAIN, trace=True).steps, SLOW_DRAIN, 1)
    racing = evaluate_unrolled(without_channel(body, channel), SLOW_DRAIN, trace=True)
    with pytest.raises(Fault):
        check_hazards(racing.steps, SLOW_DRAIN, 1)


def test_a_skipped_load_reads_unwritten_rows() -> None:
    image = matmul_image(BROKEN, SMALL, 0)
    body = matmul_kernel(BROKEN, BROKEN_MAPPING, SMALL, image.addresses)

    def drop(node: Any) -> Any:
        if isinstance(node, Pipeline):
            loads = tuple(
                replace(i, op="load_sync", values={}, addresses={})
                if isinstance(i, Instruction) and i.op == "mvin"
                else i
                for i in node.stages[0]
            )
            return replace(node, stages=(loads, *node.stages[1:]))
        return node

    with pytest.raises(Fault, match="nobody wrote"):
        Machine(SMALL, image.dram, image.readable, 1).run(tuple(map(drop, body)))


def test_operands_in_one_bank_are_a_conflict() -> None:
    """Moving B into A's banks makes preloads and computes read one bank at the same time."""
    mapping = MatmulMapping("mn", tile_m=24, tile_n=1, chunk_k=1, resident=2)
    body = matmul_kernel(MatmulProblem(m=24, k=8, n=12), mapping, SMALL)
    steps = evaluate_unrolled(body, SMALL, trace=True).steps
    check_hazards(steps, SMALL)
    moved = tuple(
        replace(step, issued=replace(step.issued, addresses={"local": 0}))
        if step.issued.op == "preload"
        else step
        for step in steps
    )
    with pytest.raises(Fault, match="share the read port"):
        check_hazards(moved, SMALL)
