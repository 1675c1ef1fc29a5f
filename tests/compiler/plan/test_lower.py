"""Lowering keeps the graph's work, takes the cheapest alternative and says what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
from machine_model import SMALL
from operator_graphs import (
    HEADS,
    TOKENS,
    WIDTH,
    attention,
    embedding,
    encoder_layer,
    graph_of,
    norm,
    pre_norm_layer,
    projection,
)

from codesign.compiler.graph import Graph, Matmul, Softmax
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES, Prices
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.kinds import body, spaces
from codesign.compiler.plan.lower import Plan, lower
from codesign.compiler.plan.work import Group
from codesign.hw.costs.energy import cost_table, energy_j
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.views.fast_timing import evaluate_batch
from codesign.hw.views.timing import evaluate_unrolled
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

IBERT = preset("ibert")
TINY = replace(SMALL, accumulator_bytes=4096, parameter_channels=1024, bus_bytes=4)


def plan_of(graph: Graph, config: HardwareConfig, objective: str = "cycles") -> Plan:
    return lower(graph, config, objective, cost_table(config))


def layer(config: HardwareConfig, objective: str = "cycles", head_dim: int = 64) -> Plan:
    return plan_of(graph_of(encoder_layer(head_dim), ("norm2",)), config, objective)


# -- Work is neither lost nor doubled ----------------------------------------------------------------


@pytest.mark.parametrize("config", [IBERT, preset("gemmini"), preset("edge"), TINY])
@pytest.mark.parametrize("head_dim", [64, 56])
def test_macs_and_operators_are_those_of_the_graph(config: HardwareConfig, head_dim: int) -> None:
    for operators in (encoder_layer(head_dim), pre_norm_layer()):
        graph = graph_of(operators, (operators[-1].output,))
        plan = plan_of(graph, config)
        macs = sum(op.macs for op in operators)
        assert sum(step.macs for step in plan.steps) == macs == graph.macs
        assert sum(int(s.events[EVENT_INDEX["macs"]]) for s in plan.steps) == macs
        covered = sorted(name for step in plan.steps for name in step.operators)
        assert covered == sorted(op.name for op in operators)


@pytest.mark.parametrize("config", [IBERT, preset("gemmini")])
def test_steps_read_what_earlier_steps_wrote(config: HardwareConfig) -> None:
    graph = import_onnx(export(family("t5-mini"), seq=16, weights="splat"))
    plan = plan_of(graph, config)
    known = set(graph.inputs)
    for step in plan.steps:
        assert set(step.work.inputs) <= known, step.name
        known.update(step.work.outputs)
    assert set(graph.outputs) <= known


def test_every_step_costs_what_its_kernel_takes() -> None:
    plan = layer(IBERT)
    assert sum(step.work.problem is not None for step in plan.steps) >= 5
    for step in plan.steps:
        if step.work.problem is None:
            continue
        timing = evaluate_unrolled(body(step.work.problem, step.mapping, IBERT), IBERT)
        assert timing.cycles == step.cycles
        expected = timing.events.copy()
        expected[EVENT_INDEX["macs"]] = step.macs
        np.testing.assert_array_equal(step.events, expected)


def test_padded_heads_cost_the_mesh_more_than_they_are_worth() -> None:
    """Heads of 56 take as long as heads of 64 on a mesh of 16, and do 56/64 of their work."""
    narrow, wide = layer(IBERT, head_dim=56), layer(IBERT, head_dim=64)
    for name in ("q", "scores"):
        (a,) = (step for step in narrow.steps if name in step.operators)
        (b,) = (step for step in wide.steps if name in step.operators)
        assert a.cycles == pytest.approx(b.cycles, rel=0.02)
        assert a.macs * 64 == b.macs * 56


# -- The cheapest alternative ----------------------------------------------------------------------


def brute_force(group: Group, config: HardwareConfig, objective: str) -> float:
    """The lowest objective over all alternatives, every mapping of every space priced exactly.

    As the mapper does, each kernel takes its own optimum; the objective is of their sum.
    """
    table = cost_table(config)
    prices = Prices.of(table)
    scores = []
    for works in group.alternatives:
        cycles, events = 0, np.zeros(len(EVENTS), dtype=np.int64)
        for work in works:
            if work.problem is None:
                cycles += work.host_cycles
                events[EVENT_INDEX["host_cycles"]] += work.host_cycles
                continue
            best = None
            for space in spaces(work.problem, config):
                if not len(space):
                    continue
                timing = evaluate_batch(space.kernel(np.arange(len(space))), config)
                score = prices.score(objective, timing.events, timing.cycles)
                i = int(np.argmin(score))
                if best is None or score[i] < best[0]:
                    best = (float(score[i]), int(timing.cycles[i]), timing.events[i].copy())
            if best is None:
                break
            best[2][EVENT_INDEX["macs"]] = work.macs
            cycles, events = cycles + best[1], events + best[2]
        else:
            energy = float(energy_j(table, events, cycles)[1])
            by = {"cycles": cycles, "energy": energy, "edp": energy * cycles / config.clock_hz}
            scores.append(by[objective])
    return min(scores)


@pytest.mark.parametrize("objective", MAPPING_OBJECTIVES)
@pytest.mark.parametrize("config", [IBERT, TINY, preset("edge")], ids=["ibert", "tiny", "edge"])
def test_the_cheapest_alternative_is_taken(config: HardwareConfig, objective: str) -> None:
    graph = graph_of(encoder_layer(), ("norm2",))
    plan = plan_of(graph, config, objective)
    table = cost_table(config)
    for group in fuse(graph, config):
        members = {op.name for op in group.operators}
        steps = [step for step in plan.steps if set(step.operators) <= members]
        cycles = sum(step.cycles for step in steps)
        energy = float(energy_j(table, np.sum([s.events for s in steps], axis=0), cycles)[1])
        got = {"cycles": cycles, "energy": energy, "edp": energy * cycles / config.clock_hz}
        assert got[objective] == pytest.approx(brute_force(group, config, objective), rel=1e-9)


def fused_norm(plan: Plan) -> bool:
    """Whether the layer's last norm runs behind the mesh."""
    (step,) = (step for step in plan.steps if "norm2" in step.operators)
    return isinstance(step.work.problem, MatmulProblem)


def test_a_norm_behind_the_mesh_wins_and_loses() -> None:
    """Whole rows in the accumulator cost little where it is large and weight reloads where not."""
    assert fused_norm(layer(IBERT))
    cramped = replace(IBERT, accumulator_bytes=16 << 10, scratchpad_bytes=16 << 10)
    assert not fused_norm(layer(cramped))


def test_attention_leaves_the_chip_only_where_it_must() -> None:
    def kinds(config: HardwareConfig) -> list[str]:
        operators = [
            embedding(),
            *(projection(name, "x") for name in "qkv"),
            *attention("q", "k", "v"),
        ]
        return [step.kind for step in plan_of(graph_of(operators, ("context",)), config).steps]

    assert kinds(IBERT)[-1] == "attention"
    # Four banks of the smallest size: Q, P and the ring of K and V cannot have one each.
    assert "attention" not in kinds(replace(TINY, scratchpad_bytes=512, scratchpad_banks=2))


@pytest.mark.parametrize("config", [IBERT, TINY], ids=["ibert", "tiny"])
def test_each_objective_is_best_at_itself(config: HardwareConfig) -> None:
    """Groups are chosen one by one: cycles and energy are sums of theirs and so minimal."""
    table = cost_table(config)
    score = {}
    for objective in MAPPING_OBJECTIVES:
        plan = layer(config, objective)
        cycles = sum(step.cycles for step in plan.steps)
        events = np.sum([step.events for step in plan.steps], axis=0)
        score[objective] = (cycles, float(energy_j(table, events, cycles)[1]))
    assert score["cycles"][0] == min(cycles for cycles, _ in score.values())
    assert score["energy"][1] == min(energy for _, energy in score.values())


# -- What does not fit -------------------------------------------------------------------------------


def assert_one_line(error: MappingError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_a_scratchpad_without_room_for_two_tiles_is_named() -> None:
    bare = replace(TINY, name="bare", scratchpad_banks=2, scratchpad_bytes=2 * 4 * 4)
    graph = graph_of([embedding(), projection("wide", "x")], ("wide",))
    with pytest.raises(MappingError) as caught:
        plan_of(graph, bare)
    assert_one_line(
        caught.value, "matmul 'wide'", f"{TOKENS}x{WIDTH}x{WIDTH}", "'bare'", "32 scratchpad"
    )


def test_a_norm_wider_than_the_parameter_memory_is_named() -> None:
    config = replace(IBERT, parameter_channels=WIDTH - 16)
    graph = graph_of([embedding(), norm("norm", "x")], ("norm",))
    with pytest.raises(MappingError) as caught:
        plan_of(graph, config)
    assert_one_line(caught.value, "layernorm 'norm'", f"{WIDTH - 16} parameter channels")
    plan_of(graph, replace(config, parameter_channels=WIDTH))


def test_a_fused_norm_falls_back_when_its_parameters_do_not_fit() -> None:
    """Behind the mesh, bias, scale, gamma and beta of a whole row are needed at once."""
    assert fused_norm(layer(IBERT))
    assert not fused_norm(layer(replace(IBERT, parameter_channels=WIDTH)))


def test_a_sequence_whose_row_exceeds_the_accumulator_is_named() -> None:
    """Softmax needs a whole row at once, where attention is no kernel: here V is wider than Q and K."""
    longest = TINY.accumulator_rows * TINY.dim
    for keys, fits in ((longest, True), (longest + 1, False)):
        operators = attention("q", "k", "v")
        scores, softmax, context = operators
        assert isinstance(scores, Matmul) and isinstance(softmax, Softmax)
        assert isinstance(context, Matmul)
        operators = [
            replace(scores, n=keys, m=4, k=8),
            replace(softmax, cols=keys, rows=HEADS * 4),
            replace(context, k=keys, m=4, n=16),
        ]
        graph = graph_of(operators, ("context",))
        if fits:
            plan_of(graph, TINY)
            continue
        with pytest.raises(MappingError) as caught:
            plan_of(graph, TINY)
        assert_one_line(caught.value, "'scores'", f"{keys}", "4K accumulator")


def test_an_unknown_objective_is_named() -> None:
    with pytest.raises(MappingError, match="'speed'.*cycles, energy, edp"):
        layer(IBERT, "speed")


def test_a_tall_or_wide_matmul_fits_whenever_a_smaller_one_does() -> None:
    """Tiles are bounded by the machine, not by how many pieces a matrix is cut into."""
    for m, n in ((16, 16), (200_000, 16), (16, 50_000)):
        graph = graph_of(
            [embedding(), replace(projection("o", "x"), m=m, n=n, k=64)],
            ("o",),
        )
        plan = plan_of(graph, TINY)
        assert plan.steps[-1].macs == m * n * 64
