"""The protocol of kernel kinds: every kind keeps it, and nothing outside its module goes around it."""

import ast
from dataclasses import replace

import numpy as np
import pytest
from import_graph import modules
from kind_checks import assert_as_its_reference
from rtl_agreement import MACHINES, check_agreement

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.attention.streamed_shape import StreamedAttentionProblem
from codesign.compiler.kernels.kernel_kind import MAY_BE_CONSTANT, RECORDS, Problem, bound
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.rotary_kind import RotaryProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan import kinds
from codesign.hw.machine.config import PRESETS
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.views.fast_timing import evaluate_batch, time_kernel
from codesign.hw.views.races import check_races
from codesign.search.checks.operands import random_operands

SMALL = replace(PRESETS["ibert"], name="small", dim=8, bus_bytes=16, parameter_channels=1024)
PROBLEMS: tuple[Problem, ...] = (
    MatmulProblem(20, 40, 30, 2),
    MatmulProblem(20, 40, 30, parameters=True, function="relu"),
    MatmulProblem(20, 40, 30, parameters=True, function="gelu", channel_output=True),
    MatmulProblem(20, 40, 30, 3, parameters=True, function="gelu", channel_output=True),
    MatmulProblem(20, 40, 30, parameters=True, function="layernorm", residual=True),
    MatmulProblem(20, 40, 30, 2, transposed_b=True, parameters=True, function="softmax"),
    MatmulProblem(20, 40, 32, 2, parameters=True, function="swiglu", channel_output=True),
    MatmulProblem(20, 40, 48, parameters=True, function="product"),
    AttentionProblem(2, 40, 40, 24),
    AttentionProblem(2, 20, 40, 24, mask_rows=5),
    AttentionProblem(2, 20, 37, 24, bias=True),  # heads are padded with zeros, here are none
    AttentionProblem(6, 20, 40, 24, shared=3),
    AttentionProblem(6, 1, 40, 24, mask_rows=5, shared=3),
    StreamedAttentionProblem(2, 40, 44, 24),
    StreamedAttentionProblem(3, 20, 37, 16, mask_rows=5),
    StreamedAttentionProblem(2, 40, 44, 24, causal=True),
    StreamedAttentionProblem(4, 24, 40, 16, shared=2),
    RowProblem(20, 40, operands=2, batch=2),
    RowProblem(20, 40, "copy", 1, 1),
    RowProblem(20, 40, "gelu", 1, 2),
    RowProblem(20, 40, "softmax", 2, 1, batch=2),
    RowProblem(20, 40, "layernorm", 2, 1),
    RowProblem(20, 40, "rmsnorm", 1, 2),
    RowProblem(20, 40, "product", 2, batch=2),
    RowProblem(20, 40, "geglu", 2, 3),
    RotaryProblem(20, 16, 3),
    RotaryProblem(37, 12, 2),
)
OF_TWO_TURNED_SHARED_OR_IN_PARTS = tuple(
    problem
    for problem in PROBLEMS
    if isinstance(problem, RotaryProblem | StreamedAttentionProblem)
    or (isinstance(problem, AttentionProblem) and problem.shared > 1)
    or any(FUNCTION[drain.function].operands > 1 for drain in kinds.drains(problem))
)
EACH_PROBLEM = pytest.mark.parametrize("problem", PROBLEMS, ids=kinds.shape)
CLASSES = {kind.problem_type.__name__ for kind in kinds.KINDS}


@EACH_PROBLEM
def test_the_machine_computes_the_reference(problem: Problem) -> None:
    """On two mappings of every space, with the order in which each reads its records."""
    for seed, space in enumerate(kinds.spaces(problem, SMALL)):
        for index in {len(space) // 3, len(space) - 1} if len(space) else ():
            assert_as_its_reference(problem, space.mapping(index), SMALL, seed)


@EACH_PROBLEM
def test_a_batch_is_timed_as_its_kernels_are(problem: Problem) -> None:
    """And no mapping goes below its bounds; nor does any race."""
    for space in kinds.spaces(problem, SMALL):
        chosen = np.arange(len(space))
        if not len(space):
            continue
        found = evaluate_batch(space.kernel(chosen), SMALL)
        cycles, events = space.bounds()
        assert (cycles <= found.cycles).all() and (events <= found.events).all()
        for index in (0, len(space) // 2, len(space) - 1):
            body = kinds.body(problem, space.mapping(index), SMALL)
            alone = time_kernel(body, SMALL)
            assert alone.cycles == found.cycles[index]
            np.testing.assert_array_equal(alone.events, found.events[index])
            check_races(body, SMALL)


@pytest.mark.parametrize("problem", OF_TWO_TURNED_SHARED_OR_IN_PARTS, ids=kinds.shape)
def test_rtl_does_the_same(problem: Problem) -> None:
    """Every byte and every cycle of kernels that take two operands, of turned pairs, of heads that
    share keys, and of attention in parts.
    """
    config = MACHINES["dim8"]
    operands = random_operands(problem, config, (1,))
    bodies = [
        kinds.body(problem, space.mapping(index), config, operands.places, operands.numbers)
        for space in kinds.spaces(problem, config)
        for index in {0, len(space) // 2, len(space) - 1}
        if len(space)
    ]
    assert bodies
    for body in bodies:
        check_agreement([body], config, operands.dram)


@EACH_PROBLEM
def test_operands_name_roles_once(problem: Problem) -> None:
    """Memory map and image find constants by role, and by the names of their regions."""
    operands = kinds.operands(problem, SMALL)
    roles = [operand.role for operand in operands if operand.role != "input"]
    assert len(set(roles)) == len(roles) and roles.count("output") == 1
    names = [operand.name for operand in operands]
    assert len(set(names)) == len(names)
    for operand in operands:
        constant = operand.role in (*MAY_BE_CONSTANT, *RECORDS, "bias")
        assert bool(operand.region) == constant
        assert operand.size_bytes % SMALL.bus_bytes == 0


def test_weights_and_addends_are_tensors_where_there_are_enough() -> None:
    sum_of_two = kinds.operands(RowProblem(8, 8, operands=2), SMALL)
    behind = kinds.operands(MatmulProblem(8, 8, 8, parameters=True, residual=True), SMALL)
    product = kinds.operands(MatmulProblem(8, 8, 8), SMALL)
    attention = kinds.operands(AttentionProblem(2, 8, 8, 8, bias=True, mask_rows=1), SMALL)

    def names(operands: tuple[object, ...], tensors: int) -> list[str]:
        return [operand.name for operand in bound(operands, tensors)]  # type: ignore[arg-type]

    assert (names(sum_of_two, 1), names(sum_of_two, 2)) == (["x"], ["x", "y"])
    assert names(behind, 2) == ["a", "residual"]
    assert (names(product, 1), names(product, 2)) == (["a"], ["a", "b"])
    assert names(attention, 4) == ["q", "k", "v"]


def tells_kinds_apart(source: str) -> list[str]:
    """Names of problem classes that a module matches on or compares the type of a thing with."""
    found = []
    for node in ast.walk(ast.parse(source)):
        places: list[ast.AST] = []
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
                places = [classes]
            case ast.MatchClass(cls=classes):
                places = [classes]
            case ast.Compare(left=left, comparators=others):
                places = [left, *others]
        for place in places:
            names = {n.id for n in ast.walk(place) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(place) if isinstance(n, ast.Attribute)}
            found += sorted(names & CLASSES)
    return found


@pytest.mark.parametrize("module", modules())
def test_no_module_tells_kinds_apart(module: str) -> None:
    """A kind's own module need not, and all others ask the kind."""
    assert tells_kinds_apart(modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(p, RowProblem)",
        "isinstance(p, (int, row_kernel.RowProblem))",
        "assert isinstance(p, AttentionProblem | RowProblem)",
        "match p:\n    case MatmulProblem(m=1) as q:\n        pass",
        "type(p) is AttentionProblem",
    ],
)
def test_what_would_be_found(source: str) -> None:
    assert tells_kinds_apart(source)
