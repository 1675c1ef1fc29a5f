"""What machines with other memories share: timings by key, floors, and the mapping found with them."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_model import machines, matmul_problems

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES, Prices, best_mapping
from codesign.compiler.kernels.matmul_space import best_matmul_mapping, matmul_spaces
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.kinds import floor, spaces
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.views.fast_timing import evaluate_batch

FUNCTIONS = ("copy", "gelu", *ROW_FUNCTIONS)


def _resized(config: HardwareConfig, draw: st.DataObject) -> HardwareConfig:
    """The machine with other memories and banks, where it can have them."""
    sizes: dict[str, Any] = {
        name: getattr(config, name) * draw.draw(st.sampled_from((1, 2, 4)))
        for name in ("scratchpad_bytes", "accumulator_bytes")
    }
    banks: dict[str, Any] = {
        name: draw.draw(st.sampled_from((2, 4, 8)))
        for name in ("scratchpad_banks", "accumulator_banks")
    }
    try:
        return dataclasses.replace(config, **sizes, **banks)
    except ConfigError:
        return dataclasses.replace(config, **sizes)


def _problem(config: HardwareConfig, data: st.DataObject) -> Problem:
    kind = data.draw(st.sampled_from(("matmul", "matmul", "attention", "row")))
    if kind == "matmul":
        found: Problem = data.draw(matmul_problems(config, FUNCTIONS))
        return found
    size = st.integers(1, 5 * config.dim)
    if kind == "attention":
        return AttentionProblem(
            data.draw(st.integers(1, 3)), data.draw(size), data.draw(size), data.draw(size)
        )
    function = data.draw(st.sampled_from(("copy", "layernorm", "softmax")))
    return RowProblem(data.draw(size), data.draw(size), function, data.draw(st.integers(1, 2)))


@settings(max_examples=60)
@given(st.data())
def test_equal_keys_take_as_long_on_machines_with_other_memories(data: st.DataObject) -> None:
    config = data.draw(machines((4, 8)))
    problem = _problem(config, data)
    known: dict[Any, Any] = {}
    for machine in (config, _resized(config, data), _resized(config, data)):
        for space in spaces(problem, machine):
            if not len(space):
                continue
            every = np.arange(len(space))[:60]
            timing = evaluate_batch(space.kernel(every), machine)
            for key, cycles, events in zip(
                space.keys(every).tolist(), timing.cycles, timing.events, strict=True
            ):
                costs = int(cycles), events.tolist()
                assert known.setdefault((space.kind, tuple(key)), costs) == costs


@settings(max_examples=60)
@given(st.data())
def test_no_machine_goes_below_the_floor(data: st.DataObject) -> None:
    config = data.draw(machines((4, 8)))
    problem = _problem(config, data)
    least = floor(problem, config)
    for machine in (config, _resized(config, data)):
        for space in spaces(problem, machine):
            if len(space):
                assert least is not None
                cycles, events = space.bounds()
                assert cycles.min() >= least[0]
                assert (events.min(axis=0) >= least[1]).all()


@settings(max_examples=40)
@given(st.data())
def test_sharing_bounds_finds_the_same_mapping(data: st.DataObject) -> None:
    """On spaces too large to look at as a whole, ties included."""
    dim = data.draw(st.sampled_from((4, 8, 16)))
    config = HardwareConfig(
        dim=dim,
        scratchpad_bytes=data.draw(st.sampled_from((8, 16, 64))) << 10,
        scratchpad_banks=8,
        accumulator_bytes=data.draw(st.sampled_from((8, 32, 128))) << 10,
        accumulator_banks=4,
    )
    m, k, n = (data.draw(st.sampled_from(sizes)) for sizes in ((96, 128), (192, 320), (256, 416)))
    problem = dataclasses.replace(data.draw(matmul_problems(config, FUNCTIONS)), m=m, k=k, n=n)
    price = Prices.of(cost_table(config))
    for objective in MAPPING_OBJECTIVES:
        shared = best_matmul_mapping(problem, config, price, objective)
        whole = best_mapping(matmul_spaces(problem, config), config, price, objective)
        if shared is None or whole is None:
            assert shared is whole
            continue
        assert shared.mapping == whole.mapping
        assert (shared.cycles, shared.score) == (whole.cycles, whole.score)
        np.testing.assert_array_equal(shared.events, whole.events)
