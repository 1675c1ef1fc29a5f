"""Counts are 64-bit wherever arrays hold them, and equal what exact integers give, at any size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from joint_space import SMALL
from machine_model import machines

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem, AttentionShape
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.matmul_shape import MatmulProblem, MatmulShape
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan import kinds
from codesign.compiler.plan.pricing import NOWHERE, GroupShape, Part, PriceTables, Workload
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import MappingError, ProgramError
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.events import EVENTS
from codesign.hw.machine.isa import FUNCTIONS
from codesign.hw.machine.program import Cases, Instruction, Loop, take
from codesign.hw.views.fast_timing import encode
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.pricing_pool import PriceTask

Ints = npt.NDArray[np.int64]
EXTENTS = st.sampled_from((1, 5, 16, 129, 4096, (1 << 20) + 3, 1 << 30, 1 << 47))
COLUMNS = st.sampled_from((1, 5, 16, 129, 500))  # of a head, or a row: whole ones lie in memories
LONG = 1 << 41  # cycles: more than once they would hide a mark of -2^40


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Kernels of every kind, small and far larger than 32 bits count."""
    match draw(st.sampled_from(("matmul", "row", "attention"))):
        case "matmul":
            return MatmulProblem(
                draw(EXTENTS),
                draw(EXTENTS),
                draw(EXTENTS),
                batch=draw(st.sampled_from((1, 3, 1 << 20))),
                transposed_b=draw(st.booleans()),
                parameters=draw(st.booleans()),
                function=draw(st.sampled_from(("copy", "gelu", "softmax", "layernorm"))),
            )
        case "row":
            function = draw(st.sampled_from(FUNCTIONS))
            return RowProblem(draw(EXTENTS), draw(COLUMNS), function, draw(st.integers(1, 2)))
        case _:
            heads, bias = draw(st.integers(1, 1 << 20)), draw(st.booleans())
            return AttentionProblem(heads, draw(EXTENTS), draw(COLUMNS), draw(COLUMNS), bias)


def countable(problem: Problem, config: HardwareConfig) -> bool:
    """Whether it is within what is counted."""
    try:
        kinds.spaces(problem, config)
    except MappingError:
        return False
    return True


def arrays(thing: object) -> Iterator[npt.NDArray[Any]]:
    """Every array in a body, a mapping or a shape."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from arrays(value)
    elif isinstance(thing, tuple):
        for value in thing:
            yield from arrays(value)
    elif is_dataclass(thing) or isinstance(thing, MatmulShape | AttentionShape):
        yield from arrays(vars(thing))


def exact(thing: Any) -> Any:
    """What it holds, with numpy's scalars as Python's."""
    if isinstance(thing, np.ndarray | np.generic):
        return thing.item()
    if isinstance(thing, tuple):
        return tuple(map(exact, thing))
    if isinstance(thing, Mapping):
        return {name: exact(value) for name, value in thing.items()}
    if is_dataclass(thing):
        return type(thing), exact(vars(thing))
    return thing


@settings(max_examples=150)
@given(st.data())
def test_counts_are_64_bit_and_a_batch_is_its_members(data: st.DataObject) -> None:
    config = data.draw(st.one_of(machines(), st.sampled_from([*PRESETS.values()])))
    problem = data.draw(problems())
    assume(countable(problem, config))
    for space in kinds.spaces(problem, config):
        if not len(space):
            continue
        chosen = np.unique(np.linspace(0, len(space) - 1, 5).astype(np.int64))
        batch = space.kernel(chosen)
        assert {array.dtype for array in arrays((batch, space))} <= {np.dtype(np.int64)}
        for place, index in enumerate(chosen):
            mapping = space.mapping(int(index))
            assert exact(take(batch, place)) == exact(kinds.body(problem, mapping, config))


@settings(max_examples=150)
@given(st.data())
def test_a_matmul_has_as_many_banks_as_exact_integers_say(data: st.DataObject) -> None:
    config = data.draw(st.one_of(machines(), st.sampled_from([*PRESETS.values()])))
    problem = MatmulProblem(data.draw(EXTENTS), data.draw(EXTENTS), data.draw(EXTENTS))
    assume(countable(problem, config))
    for space in matmul_spaces(problem, config):
        if not len(space):
            continue
        shape = MatmulShape(problem, space.mappings, config)
        dtypes = {array.dtype for array in arrays(shape)}
        assert dtypes <= {np.dtype(np.int64), np.dtype(np.bool_)}
        for index in range(0, len(space), 1 + len(space) // 50):
            m = space.mapping(index)
            rows = m.tile_m * -(-m.tile_n // m.groups)
            banks = config.accumulator_banks // -(-rows // config.accumulator_bank_rows)
            window = 1 << (banks.bit_length() - 1)
            assert (int(shape.accumulator.window[index]), int(shape.accumulator.pitch[index])) == (
                window,
                -(-rows // window) * window,
            )


@pytest.mark.parametrize("narrow", [np.int8, np.uint8, np.int32, np.uint64, np.float64])
def test_a_kernel_of_narrower_numbers_is_refused(narrow: type[np.generic]) -> None:
    sync = Instruction("load_sync")
    assert encode((Loop("i", np.array([1, 2]), (sync,)),)).shape[0] == 2
    with pytest.raises(ProgramError, match=f"{np.dtype(narrow)}, in which counts may wrap"):
        encode((Loop("i", Cases(np.array([1, 2]).astype(narrow)), (sync,)),))


def test_work_beyond_64_bits_is_refused_in_one_line() -> None:
    config = HardwareConfig()
    far = 1 << 31
    for problem in (
        MatmulProblem(far, far, far),
        AttentionProblem(12, far, far, 64),
        RowProblem(far, far, "gelu"),
    ):
        for choose in (kinds.spaces, kinds.floor):
            with pytest.raises(
                MappingError, match=f"{far}.* is beyond what is counted, 1.1e.15 MACs"
            ):
                choose(problem, config)
        with pytest.raises(MappingError, match="beyond what is counted"):
            kinds.choose(problem, config, "edp", cost_table(config))


def test_a_kernel_that_takes_long_to_time_is_refused_in_one_line() -> None:
    longest = kinds.MOST_EXTENT
    for problem in (
        MatmulProblem(longest + 1, 32, 16),
        MatmulProblem(16, 32, longest + 1),
        AttentionProblem(1, 1, longest + 1, 16),
        RowProblem(longest + 1, 16, "gelu"),
    ):
        with pytest.raises(MappingError, match=r"67108865.* beyond what is timed, 67,108,864 rows"):
            kinds.choose(problem, HardwareConfig(), "edp", cost_table(HardwareConfig()))
    assert kinds.spaces(MatmulProblem(longest, 32, 16), HardwareConfig())


class _FixedPool:
    """Answers every group with the same cycles, but one of each task fits nowhere."""

    def price(self, tasks: Sequence[PriceTask]) -> Iterator[tuple[int, Ints]]:
        for place, task in enumerate(tasks):
            rows = np.full((len(task.shapes), 1 + len(EVENTS)), LONG, dtype=np.int64)
            rows[0] = NOWHERE
            yield place, rows


def test_no_work_is_long_enough_to_hide_what_fits_nowhere() -> None:
    """Not of a network, nor of a candidate of a search."""
    config = HardwareConfig()
    tables = PriceTables(config, "edp", cost_table(config))
    wide = MatmulProblem(4, 4, 1 << 20, function="softmax")  # a row is longer than the accumulator
    misfit = GroupShape(((Part(wide, 0, 0),),))
    host = GroupShape(((Part(None, LONG, 0),),))
    assert tables.group(misfit) is None and tables.group(host) is not None
    assert tables.total(Workload((host, misfit), np.array([3, 1]))) is None
    total = tables.total(Workload((host,), np.array([3])))
    assert total is not None and total[0] == 3 * LONG

    large = replace(SMALL, axes=(("dim", (8,)),))
    genes = large.sample(20, np.random.default_rng(0))
    costs = NetworkTables(large, pool=_FixedPool()).costs(genes)
    assert (costs.violation[:, 0] > 0).all() and np.isnan(costs.edp_js).all()
