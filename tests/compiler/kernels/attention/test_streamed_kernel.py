"""Attention of any length: its reference, its races, its mapspace, and what it costs at great lengths."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_space_is_sound, assert_timing_agrees, without
from kind_checks import assert_as_its_reference
from machine_model import WIDER, machines
from rtl_agreement import MACHINES, check_agreement
from streamed_attention_problems import mappings, problems

from codesign.compiler.kernels.attention.streamed_kernel import streamed_attention_kernel
from codesign.compiler.kernels.attention.streamed_shape import (
    STEPS,
    StreamedAttentionMapping,
    StreamedAttentionProblem,
    StreamedAttentionShape,
)
from codesign.compiler.kernels.attention.streamed_space import streamed_attention_spaces
from codesign.compiler.plan import kinds
from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.limits import STATE_ROWS
from codesign.hw.views.fast_timing import time_kernel
from codesign.hw.views.races import check_races
from codesign.search.checks.operands import random_operands

MOST_COMPUTES = 250


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[StreamedAttentionProblem, StreamedAttentionMapping, HardwareConfig]:
    """A machine, a problem and a mapping, few enough instructions to check each."""
    config = draw(machines())
    larger = draw(st.sampled_from((1, 2, 4)))
    config = replace(
        config,
        scratchpad_bytes=larger * config.scratchpad_bytes,
        accumulator_bytes=larger * config.accumulator_bytes,
        normalization=True,
    )
    problem = draw(problems(config))
    mapping = draw(mappings(problem, config))
    s = StreamedAttentionShape(problem, mapping, config)
    assume(2 * problem.heads * s.d_blocks * s.tile_parts <= MOST_COMPUTES)
    return problem, mapping, config


@settings(max_examples=120)
@given(cases(), st.integers(0, 99))
def test_computes_its_reference_without_races(
    case: tuple[StreamedAttentionProblem, StreamedAttentionMapping, HardwareConfig], seed: int
) -> None:
    problem, mapping, config = case
    assert_as_its_reference(problem, mapping, config, seed)
    body = streamed_attention_kernel(problem, mapping, config)
    assert_timing_agrees(body, config)
    check_races(body, config)


@pytest.mark.parametrize(
    ("channel", "keys", "mapping"),
    [
        ("loaded", 50, StreamedAttentionMapping(32, 2)),
        ("consumed", 50, StreamedAttentionMapping(32, 2)),
        ("computed", 50, StreamedAttentionMapping(32, 2)),
        ("stored", 50, StreamedAttentionMapping(32, 2)),
        ("finished", 16, StreamedAttentionMapping(16, 8, True)),
        ("loaded", 64, StreamedAttentionMapping(32, 2, triangle=True)),
        ("consumed", 64, StreamedAttentionMapping(32, 2, triangle=True)),
        ("computed", 64, StreamedAttentionMapping(32, 2, triangle=True)),
        ("stored", 64, StreamedAttentionMapping(32, 2, triangle=True)),
    ],
)
def test_a_missing_token_is_a_race(
    channel: str, keys: int, mapping: StreamedAttentionMapping
) -> None:
    """The checks are not vacuous. Narrow heads make the drain the slowest unit."""
    problem = StreamedAttentionProblem(2, 64, keys, 8, causal=mapping.triangle)
    config = replace(WIDER, bus_bytes=8 if keys > 16 else 1, load_queue_depth=32,
                     execute_queue_depth=64, drain_queue_depth=32)  # fmt: skip
    assert StreamedAttentionShape(problem, mapping, config).feasible
    body = streamed_attention_kernel(problem, mapping, config)
    check_races(body, config)
    with pytest.raises(ProgramError):
        check_races(without(body, channel), config)


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_that_the_parameter_memory_does_not_hold_comes_part_by_part(causal: bool) -> None:
    """Every byte and every cycle in three views, and what plain integers say."""
    config = MACHINES["dim4"]
    problem = StreamedAttentionProblem(2, 9, 70, 8, mask_rows=18, causal=causal)
    assert problem.mask_rows * config.dim > config.parameter_channels
    operands = random_operands(problem, config, (1,))
    spaces = streamed_attention_spaces(problem, config)
    mappings = [space.mapping(i) for space in spaces for i in (0, -1) if len(space)]
    assert {mapping.triangle for mapping in mappings} == {False, causal}
    for mapping in mappings:
        assert StreamedAttentionShape(problem, mapping, config).mask_slots
        assert_as_its_reference(problem, mapping, config, 1)
        body = kinds.body(problem, mapping, config, operands.places, operands.numbers)
        check_races(body, config)
        check_agreement([body], config, operands.dram)


@pytest.mark.parametrize(
    "problem",
    [
        StreamedAttentionProblem(2, 30, 45, 20),
        StreamedAttentionProblem(1, 64, 16, 16),
        StreamedAttentionProblem(3, 1, 100, 32, mask_rows=2),
        StreamedAttentionProblem(2, 30, 45, 20, causal=True),
        StreamedAttentionProblem(1, 300, 310, 16, causal=True),
    ],
    ids=str,
)
def test_the_space_is_sound(problem: StreamedAttentionProblem) -> None:
    assert_space_is_sound(streamed_attention_spaces(problem, WIDER), WIDER)


def test_two_tiles_have_states() -> None:
    for space in streamed_attention_spaces(StreamedAttentionProblem(1, 2048, 64, 16), WIDER):
        assert (2 * space.mappings.tile_m <= STATE_ROWS).all()


@pytest.mark.parametrize("keys", [2048, 4096, 16384, 32768])
def test_nothing_but_time_grows_with_the_keys(keys: int) -> None:
    """BERT-base's heads on its machine: the mesh is busy, and nothing goes through DRAM but Q, K, V
    and the result.
    """
    config = PRESETS["ibert"]
    problem = StreamedAttentionProblem(12, keys, keys, 64)
    mapping = StreamedAttentionMapping(256, 8)
    assert StreamedAttentionShape(problem, mapping, config).feasible
    timing = time_kernel(streamed_attention_kernel(problem, mapping, config), config)
    macs = timing.events[EVENT_INDEX["macs"]]
    assert macs == 2 * 12 * keys * keys * 64
    assert macs / (timing.cycles * config.dim**2) >= 0.998
    moved = sum(timing.events[EVENT_INDEX[f"dram_{way}_bytes"]] for way in ("read", "write"))
    tiles = keys // 256
    assert moved == 12 * 64 * (2 * keys * tiles + 2 * keys)
    assert keys > 2048 or 12 * moved <= 0.34e9  # of all layers


def test_heads_as_wide_as_the_mesh_are_bound_by_the_drain() -> None:
    config = PRESETS["ibert"]
    mapping = StreamedAttentionMapping(256, 8)
    for head_dim, least, most in ((32, 0.99, 1.0), (16, 0.92, 0.93)):
        problem = StreamedAttentionProblem(12, 2048, 2048, head_dim)
        timing = time_kernel(streamed_attention_kernel(problem, mapping, config), config)
        busy = timing.events[EVENT_INDEX["macs"]] / (timing.cycles * config.dim**2)
        assert least <= busy <= most


@pytest.mark.parametrize(
    ("queries", "keys", "tile_m"), [(40, 40, 40), (100, 100, 32), (33, 50, 16), (7, 130, 7)]
)
def test_only_what_a_causal_mask_leaves_is_computed(queries: int, keys: int, tile_m: int) -> None:
    """A part is computed for a row that sees none of it at most where a step of its tile ends higher."""
    problem = StreamedAttentionProblem(1, queries, keys, WIDER.dim, causal=True)
    mapping = StreamedAttentionMapping(tile_m, 4, triangle=True)
    shape = StreamedAttentionShape(problem, mapping, WIDER)
    seen = np.tri(queries, keys, keys - queries, dtype=np.bool_)
    parts = -(-keys // WIDER.dim)
    blocks = np.pad(seen, ((0, 0), (0, parts * WIDER.dim - keys))).reshape(queries, parts, -1)
    needed = int(blocks.any(axis=2).sum())
    height = -(-tile_m // (STEPS * WIDER.dim)) * WIDER.dim
    assert needed <= shape.score_rows <= needed + height * parts
    assert shape.score_rows < queries * parts or needed == queries * parts


@pytest.mark.parametrize("keys", [2048, 4096, 16384])
def test_the_triangle_of_a_decoder(keys: int) -> None:
    """GPT-2's heads on BERT's machine: the mesh is busy with what the mask leaves."""
    config = PRESETS["ibert"]
    problem = StreamedAttentionProblem(12, keys, keys, 64, causal=True)
    mapping = StreamedAttentionMapping(256, 8, triangle=True)
    timing = time_kernel(streamed_attention_kernel(problem, mapping, config), config)
    left = 2 * 12 * 64 * keys * (keys + 1) // 2
    assert left / (timing.cycles * config.dim**2) >= 0.975
    moved = sum(timing.events[EVENT_INDEX[f"dram_{way}_bytes"]] for way in ("read", "write"))
    assert keys > 2048 or 12 * moved <= 0.21e9  # of all layers
