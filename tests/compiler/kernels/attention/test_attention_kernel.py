"""The attention kernel computes softmax(Q.K^T + bias).V on chip: addresses, order, hazards, mapper.

Softmax is replaced by a saturating copy to int8, so that the result is an exact integer function of
the operands: clamp(clamp(Q.K^T + bias).V). Every address, buffer turn and ragged edge shows in it.
"""

from dataclasses import replace

import numpy as np
import pytest
from attention_problems import mappings, problems
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_checks import (
    Int8,
    OnChipMachine,
    assert_fields_fit,
    assert_space_is_sound,
    assert_timing_agrees,
    assert_written_once,
    blocked_bytes,
    explicit,
    lay_out,
    saturate,
    without,
)
from machine_model import WIDER as SMALL
from machine_model import (
    Fault,
    check_hazards,
    from_blocked,
    leftover_tokens,
    machines,
    to_blocked,
)

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionAddresses,
    AttentionMapping,
    AttentionProblem,
    AttentionShape,
    attention_kernel,
)
from codesign.compiler.kernels.attention.attention_space import attention_spaces
from codesign.compiler.kernels.numbers import Numbers
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.isa import FUNCTIONS, TARGETS
from codesign.hw.views.timing import TimedStep, evaluate_unrolled

MOST_COMPUTES = 250


def computes(problem: AttentionProblem, mapping: AttentionMapping, config: HardwareConfig) -> int:
    """Instructions of the mesh, a measure of how long the kernel takes to check."""
    s = AttentionShape(problem, mapping, config)
    return int(2 * problem.in_rows.heads * s.tiles * s.d_blocks * s.key_blocks)


def check(
    problem: AttentionProblem, mapping: AttentionMapping, config: HardwareConfig, seed: int
) -> None:
    """Run one kernel on random operands and look at everything it did, and when."""
    p, rng = problem, np.random.default_rng(seed)

    def operand(heads: int, rows: int, columns: int, largest: int) -> Int8:
        return rng.integers(-largest, largest + 1, (heads, rows, columns), dtype=np.int8)

    kept = p.heads // p.shared
    # Small enough that most sums are not clamped, large enough that some are.
    q, k = operand(p.heads, p.queries, p.head_dim, 7), operand(kept, p.keys, p.head_dim, 7)
    v, bias = operand(kept, p.keys, p.head_dim, 2), operand(p.heads, p.queries, p.keys, 60)
    # Columns past the head are multiplied with each other: one of the operands must hold zeros.
    pads = (77, 0) if seed % 2 else (0, 77)
    parts = [
        np.concatenate([to_blocked(head, config, pad) for head in matrix])
        for matrix, pad in ((q, pads[0]), (k, pads[1]), (v, 77), (bias, 77))
    ]
    parts.append(np.zeros(p.mask_rows * config.dim * 8, dtype=np.uint8))
    out_bytes = blocked_bytes(p.queries, p.head_dim, config)
    image = lay_out(parts, p.heads * out_bytes)
    if not p.bias:
        image.readable[image.places[3] : image.places[3] + len(parts[3])] = False
    at_q, at_k, at_v, at_bias, at_mask = image.places
    addresses = AttentionAddresses(at_q, at_k, at_v, image.out, at_bias, at_mask)
    body = explicit(attention_kernel(p, mapping, config, addresses))
    machine = OnChipMachine(config, image.dram, image.readable)
    machine.run(body)
    assert_written_once(machine, image.out, p.heads, p.queries, p.head_dim)
    keys, values = (np.repeat(x, p.shared, axis=0).astype(np.int64) for x in (k, v))
    scores = q.astype(np.int64) @ keys.transpose(0, 2, 1)
    expected = saturate(saturate(scores + bias if p.bias else scores) @ values)
    for head, matrix in enumerate(expected):
        data = machine.dram[image.out + head * out_bytes :]
        got = from_blocked(data, p.queries, p.head_dim, config, 1)
        np.testing.assert_array_equal(got, matrix)
    steps = assert_timing_agrees(body, config)
    check_hazards(steps, config)
    assert_mask_is_loaded_before_use(p, steps)
    assert leftover_tokens(body) == {}
    assert_fields_fit(body)


def assert_mask_is_loaded_before_use(
    problem: AttentionProblem, steps: tuple[TimedStep, ...]
) -> None:
    """Mask rows are complete when the first softmax starts, and every softmax uses them."""
    target = TARGETS.index("parameters")
    loads = [s for s in steps if s.issued.op == "mvin" and s.issued.values["target"] == target]
    masked = [s for s in steps if s.issued.flags.get("channel_scale", False)]
    assert sum(s.issued.values["rows"] for s in loads) == problem.mask_rows
    if problem.mask_rows:
        drains = [step.issued.values for step in steps if step.issued.op == "mvout"]
        softmax = FUNCTIONS.index("softmax")
        assert len(masked) == sum(values["function"] == softmax for values in drains)
        assert loads[-1].complete <= min(step.start for step in masked)
    else:
        assert not masked


@st.composite
def cases(
    draw: st.DrawFn, most_computes: int
) -> tuple[AttentionProblem, AttentionMapping, HardwareConfig]:
    """A machine large enough for attention to fit more often than not, with a problem for it."""
    config = draw(machines())
    larger = draw(st.sampled_from((1, 2, 4)))
    config = replace(
        config,
        scratchpad_bytes=larger * config.scratchpad_bytes,
        accumulator_bytes=larger * config.accumulator_bytes,
    )
    problem = draw(problems(config))
    mapping = draw(mappings(problem, config))
    assume(computes(problem, mapping, config) <= most_computes)
    return problem, mapping, config


@settings(max_examples=150)
@given(cases(MOST_COMPUTES), st.integers(0, 1))
def test_computes_attention_without_hazards(
    case: tuple[AttentionProblem, AttentionMapping, HardwareConfig], seed: int
) -> None:
    check(*case, seed)


@pytest.mark.long
@settings(max_examples=4000)
@given(cases(800), st.integers(0, 1))
def test_many_kernels(
    case: tuple[AttentionProblem, AttentionMapping, HardwareConfig], seed: int
) -> None:
    check(*case, seed)


LARGE = replace(SMALL, scratchpad_bytes=1 << 14, accumulator_bytes=1 << 14)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("heads", "queries"), [(1, 13), (3, 13), (3, 3)])
def test_every_dimension_ragged(hold: bool, bias: bool, heads: int, queries: int) -> None:
    """5 chunks of keys, the last of 1 key; 13 queries in tiles of 6, or 3 in a single tile."""
    problem = AttentionProblem(heads, queries, keys=17, head_dim=6, bias=bias)
    mapping = AttentionMapping(min(6, queries), chunk=1, ring=11 if hold else 3, held=2, hold=hold)
    if AttentionShape(problem, mapping, SMALL).feasible:
        check(problem, mapping, SMALL, 0)
    else:
        assert hold and queries == 3  # a single tile has nothing to hold K and V for


@settings(max_examples=25)
@given(st.data())
def test_best_mapping_is_the_optimum_of_the_space(data: st.DataObject) -> None:
    config = data.draw(machines())
    config = replace(config, scratchpad_bytes=4 * config.scratchpad_bytes)
    problem = data.draw(problems(config))
    assert_space_is_sound(attention_spaces(problem, config), config)


def test_holding_saves_exactly_the_reloads_of_keys_and_values() -> None:
    problem = AttentionProblem(heads=2, queries=20, keys=16, head_dim=8)
    read = {
        hold: evaluate_unrolled(
            attention_kernel(problem, AttentionMapping(4, 2, 4, 1, hold), SMALL), SMALL
        ).events[EVENT_INDEX["dram_read_bytes"]]
        for hold in (False, True)
    }
    more_tiles, k_and_v = 20 // 4 - 1, 2
    assert read[False] - read[True] == 2 * more_tiles * k_and_v * 16 * 8


@pytest.mark.parametrize(("queries", "hold"), [(20, True), (1, False)])
def test_heads_that_share_keys_load_them_once(queries: int, hold: bool) -> None:
    """Of several tokens where they are held, of one always: its heads are rows of one."""
    grouped = AttentionProblem(heads=6, queries=queries, keys=16, head_dim=8, shared=3)
    few, many = (
        evaluate_unrolled(
            attention_kernel(
                problem, AttentionMapping(min(4, problem.in_rows.queries), 2, 4, 1, hold), SMALL
            ),
            SMALL,
        ).events[EVENT_INDEX["dram_read_bytes"]]
        for problem in (grouped, replace(grouped, shared=1))
    )
    assert many - few == 4 * 2 * 16 * 8  # K and V of all query heads but one a group


def test_the_heads_of_one_token_are_rows_of_a_tile() -> None:
    """Keys go into the mesh once for all of them; a causal limit, which hides nothing, is left out."""
    grouped = AttentionProblem(heads=8, queries=1, keys=16, head_dim=6, mask_rows=4, shared=4)
    alike = replace(grouped, heads=2, queries=4, shared=1)
    mapping = AttentionMapping(4, 2, 2, 1)
    causal = Numbers(causal=True)
    bodies = [attention_kernel(p, mapping, SMALL, scores=causal) for p in (grouped, alike)]
    found, wanted = (evaluate_unrolled(body, SMALL) for body in bodies)
    for event in ("macs", "pe_weight_loads", "scratchpad_reads", "requantize"):
        assert found.events[EVENT_INDEX[event]] == wanted.events[EVENT_INDEX[event]]
    flags = [
        any("causal" in step.issued.flags for step in evaluate_unrolled(b, SMALL, trace=True).steps)
        for b in bodies
    ]
    assert flags == [False, True]


@pytest.mark.parametrize(
    ("channel", "held"),
    [("loaded", 1), ("consumed", 1), ("computed", 1), ("drained", 1), ("stored", 2)],
)
def test_a_missing_token_is_a_hazard(channel: str, held: int) -> None:
    """The checks are not vacuous: a kernel without any one channel collides.

    Narrow heads and many keys make softmax the slowest unit, so that the mesh runs into it.
    """
    problem = AttentionProblem(heads=3, queries=24, keys=64, head_dim=4)
    mapping = AttentionMapping(8, chunk=2, ring=2, held=held)
    assert AttentionShape(problem, mapping, LARGE).feasible
    body = explicit(attention_kernel(problem, mapping, LARGE))
    check_hazards(evaluate_unrolled(body, LARGE, trace=True).steps, LARGE)
    racing = without(body, channel)
    with pytest.raises(Fault):
        check_hazards(evaluate_unrolled(racing, LARGE, trace=True).steps, LARGE)


@pytest.mark.parametrize("bias", [False, True])
def test_held_keys_do_not_let_a_tile_outrun_its_queries(bias: bool) -> None:
    """From the fourth tile of a head on no load of K or V tells that the queries have come."""
    slow = replace(SMALL, bus_bytes=1, dram_latency_cycles=200)
    problem = AttentionProblem(heads=2, queries=24, keys=9, head_dim=4, bias=bias)
    check(problem, AttentionMapping(4, chunk=1, ring=6, held=2, hold=True), slow, 0)


@pytest.mark.parametrize("held", [1, 2])
def test_a_bias_enters_with_the_scores(held: int) -> None:
    """Even where the only score tile is drained before the next bias may come."""
    problem = AttentionProblem(heads=2, queries=9, keys=10, head_dim=4, bias=True)
    check(problem, AttentionMapping(4, chunk=1, ring=2, held=held), SMALL, 0)


def test_a_mask_wider_than_the_parameter_memory_fits_no_tile() -> None:
    keys = SMALL.parameter_channels
    roomy = replace(SMALL, scratchpad_bytes=1 << 16, accumulator_bytes=1 << 16)
    problem = AttentionProblem(1, 8, keys, 4, mask_rows=keys // 4)
    assert any(len(space) for space in attention_spaces(problem, roomy))
    wider = replace(problem, keys=keys + 1, mask_rows=keys // 4 + 1)
    assert not any(len(space) for space in attention_spaces(wider, roomy))
