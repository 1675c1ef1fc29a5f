"""The row kernel sums its operands row by row, never collides, and its mapper finds the optimum.

Row functions are replaced by a saturating copy: what is checked is which rows are loaded, added,
drained and stored where, and when. `OnChipMachine` and `assert_space_is_sound` also serve the
tests of the attention kernel.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_checks import (
    OnChipMachine,
    assert_fields_fit,
    assert_space_is_sound,
    assert_timing_agrees,
    assert_written_once,
    blocked_bytes,
    explicit,
    lay_out,
    row_problems,
    saturate,
    without,
)
from machine_model import (
    SMALL,
    Fault,
    check_hazards,
    from_blocked,
    leftover_tokens,
    machines,
    to_blocked,
)

from codesign.compiler.kernels.row_kernel import (
    RowAddresses,
    RowMapping,
    RowProblem,
    RowSpace,
    flattened,
    row_kernel,
)
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import (
    take,
)
from codesign.hw.views.timing import evaluate_unrolled

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


def check_any(data: st.DataObject) -> None:
    """`check` of any mapping of any problem on any machine."""
    config = data.draw(machines())
    problem = data.draw(row_problems(config))
    space = RowSpace.build(problem, config)
    assume(len(space))
    check(problem, space.mapping(data.draw(st.integers(0, len(space) - 1))), config, 0)


@settings(max_examples=150)
@given(st.data())
def test_sums_operands_without_hazards(data: st.DataObject) -> None:
    check_any(data)


@pytest.mark.long
@settings(max_examples=4000)
@given(st.data())
def test_many_kernels(data: st.DataObject) -> None:
    check_any(data)


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
