"""Skipping repetitions of the machine's state changes no number, over whole mapspaces.

A state that is compared wrongly is taken for another, and a kernel comes out a few cycles off. It
shows in one mapping of thousands, so that every mapping of many random machines is timed twice:
with repetitions skipped and with every iteration evaluated.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_model import machines, matmul_problems

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.kinds import spaces
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.views import fast_timing

ELEMENTWISE = ("copy", "relu", "gelu")


def assert_skipping_changes_nothing(problem: Problem, config: HardwareConfig) -> int:
    """Compare every mapping of every space; returns how many there are."""
    mappings = 0
    for space in spaces(problem, config):
        if len(space):
            body = space.kernel(np.arange(len(space)))
            found = fast_timing.evaluate_batch(body, config)
            expected = fast_timing.evaluate_batch(body, config, skip=False)
            different = found.cycles != expected.cycles
            different |= (found.events != expected.events).any(axis=1)
            assert not different.any(), (space.kind, space.mapping(int(different.argmax())))
            mappings += len(space)
    return mappings


@st.composite
def cases(draw: st.DrawFn) -> tuple[Problem, HardwareConfig]:
    """Kernels of many iterations on machines of every balance of their units."""
    config, larger = draw(machines((4, 4, 8, 16))), draw(st.sampled_from((1, 1, 2, 4)))
    config = replace(
        config,
        scratchpad_bytes=larger * config.scratchpad_bytes,
        accumulator_bytes=larger * config.accumulator_bytes,
        dram_latency_cycles=draw(st.sampled_from((1, 2, 3, 5, 7, 13, 50, 200))),
        execute_queue_depth=draw(st.sampled_from((2, 3, 4, 8, 16))),
    )
    dim = config.dim

    def size(most: int) -> int:
        whole = st.integers(1, most).map(lambda blocks: blocks * dim)
        return draw(st.one_of(st.integers(1, most * dim), whole))

    match draw(st.sampled_from(("attention", "attention", "matmul", "matmul", "rows"))):
        case "attention":
            queries, keys, head = size(12), size(8), size(2)
            masked = draw(st.booleans()) and config.parameter_channels >= keys + dim
            mask_rows = -(-keys // dim) if masked else 0
            heads, bias = draw(st.integers(1, 3)), draw(st.booleans())
            shared = draw(st.sampled_from((1, 1, 3)))
            queries = draw(st.sampled_from((queries, 1))) if shared > 1 else queries
            heads *= shared
            return AttentionProblem(heads, queries, keys, head, bias, mask_rows, shared), config
        case "matmul":
            functions = draw(st.sampled_from((ELEMENTWISE, ROW_FUNCTIONS)))
            problem = draw(matmul_problems(config, functions))
            return replace(problem, m=size(12)), config
    function = draw(st.sampled_from((*ELEMENTWISE, *ROW_FUNCTIONS)))
    parameters = int(function in ("layernorm", "rmsnorm"))
    operands, batch = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return RowProblem(size(12), size(6), function, operands, parameters, batch), config


@settings(max_examples=400)
@given(cases())
def test_whole_mapspaces(case: tuple[Problem, HardwareConfig]) -> None:
    assert_skipping_changes_nothing(*case)


@pytest.mark.long
@settings(max_examples=20_000)
@given(cases())
def test_very_many_whole_mapspaces(case: tuple[Problem, HardwareConfig]) -> None:
    assert_skipping_changes_nothing(*case)


# Mapspaces with states that differ by one to three cycles in one thing alone, and what that is:
# there a comparison that is so far off gives other cycles. Found among 77,000 random mappings.
CLOSE_STATES = {
    "the mesh's last compute": (
        AttentionProblem(3, 26, 16, 3, mask_rows=1),
        HardwareConfig(
            dim=16, scratchpad_bytes=2368, scratchpad_banks=4, accumulator_bytes=20480,
            accumulator_banks=4, parameter_channels=64, bus_bytes=64, dram_latency_cycles=7,
            execute_queue_depth=8, drain_queue_depth=4,
        ),
    ),
    "until when a unit is occupied": (
        AttentionProblem(2, 48, 9, 5, mask_rows=3),
        HardwareConfig(
            dim=4, scratchpad_bytes=2816, scratchpad_banks=16, accumulator_bytes=10240,
            accumulator_banks=8, parameter_channels=64, bus_bytes=2, dram_latency_cycles=1,
            drain_queue_depth=4,
        ),
    ),
    "a token's time": (
        AttentionProblem(2, 36, 12, 7, bias=True, mask_rows=3),
        HardwareConfig(
            dim=4, scratchpad_bytes=1536, scratchpad_banks=8, accumulator_bytes=2048,
            accumulator_banks=8, parameter_channels=64, bus_bytes=2, dram_latency_cycles=2,
            execute_queue_depth=4, drain_queue_depth=4,
        ),
    ),
    "a unit's last completion": (
        AttentionProblem(2, 60, 8, 8, bias=True),
        HardwareConfig(
            dim=8, scratchpad_bytes=832, scratchpad_banks=4, accumulator_bytes=9472,
            accumulator_banks=4, parameter_channels=512, bus_bytes=64, dram_latency_cycles=50,
            execute_queue_depth=4, drain_queue_depth=2,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("differs", CLOSE_STATES)
def test_states_that_nearly_agree(differs: str) -> None:
    assert assert_skipping_changes_nothing(*CLOSE_STATES[differs])
