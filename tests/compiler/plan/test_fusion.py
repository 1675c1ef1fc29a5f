"""Which operators are computed together: the patterns, and what every grouping must keep."""

from collections.abc import Iterable
from dataclasses import replace

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_graphs import (
    HEADS,
    TOKENS,
    WIDTH,
    add,
    attention,
    embedding,
    encoder_layer,
    graph_of,
    norm,
    pre_norm_layer,
    projection,
    random_graphs,
)

from codesign.compiler.graph import (
    Activation,
    Graph,
    HostOp,
)
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.work import Group, Work
from codesign.hw.costs.host import host_cycles
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

ON_CHIP = preset("ibert")
ON_HOST = preset("gemmini")


def names(groups: Iterable[Group]) -> list[tuple[str, ...]]:
    return [tuple(op.name for op in group.operators) for group in groups]


def group_of(groups: Iterable[Group], name: str) -> Group:
    return next(g for g in groups if any(op.name == name for op in g.operators))


def only_work(group: Group) -> Work:
    ((work,),) = group.alternatives
    return work


# -- What every grouping keeps -----------------------------------------------------------------------


def assert_grouping_is_sound(graph: Graph, config: HardwareConfig) -> None:
    """Each operator once, inputs before readers, the same MACs, and no output swallowed."""
    groups = fuse(graph, config)
    covered = [op.name for group in groups for op in group.operators]
    assert sorted(covered) == sorted(op.name for op in graph.operators())
    position = {op.name: i for i, group in enumerate(groups) for op in group.operators}
    for u, v in graph.dag.edges:
        assert position[u] <= position[v], (u, v)
    for group in groups:
        assert_alternatives_are_equivalent(graph, group)


def assert_alternatives_are_equivalent(graph: Graph, group: Group) -> None:
    """Every alternative computes what the group's operators do, from tensors that exist by then."""
    members = {op.name: op for op in group.operators}
    inside = {op.output for op in group.operators}
    needed_outside = {
        op.output
        for op in group.operators
        if op.output in graph.outputs
        or any(reader not in members for reader in graph.dag.successors(op.name))
    }
    assert group.alternatives
    for works in group.alternatives:
        assert sum(work.macs for work in works) == sum(op.macs for op in group.operators)
        written: set[str] = set()
        copies: set[str] = set()  # that the host makes for one kernel
        for work in works:
            assert not {t for t in work.inputs if t in inside} - written, work
            copies -= set(work.inputs)
            kept = inside.intersection(work.outputs)
            written |= kept
            copies |= set(work.outputs) - kept
            assert set(work.operators) <= set(members)
        assert needed_outside <= written
        assert not copies, "copied for nobody"


CONFIGS = [ON_CHIP, ON_HOST, preset("edge"), preset("large")]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("model", ["bert-tiny", "t5-mini", "vit-tiny", "gpt2", "resnet50"])
def test_families_are_grouped_soundly(model: str, config: HardwareConfig) -> None:
    assert_grouping_is_sound(import_onnx(export(family(model), seq=32, weights="splat")), config)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_hand_made_layers_are_grouped_soundly(config: HardwareConfig) -> None:
    assert_grouping_is_sound(graph_of(encoder_layer(), ("norm2",)), config)
    assert_grouping_is_sound(graph_of(pre_norm_layer(), ("sum2",)), config)
    assert_grouping_is_sound(graph_of(encoder_layer(head_dim=56), ("norm2",)), config)


def test_every_tensor_may_be_an_output() -> None:
    """Whatever tensor is declared an output, some kernel writes it in every alternative."""
    for layer in (encoder_layer(), pre_norm_layer()):
        for op in layer:
            assert_grouping_is_sound(graph_of(layer, (op.output, layer[-1].output)), ON_CHIP)


@settings(max_examples=300)
@given(random_graphs(), st.sampled_from((ON_CHIP, ON_HOST)))
def test_any_wiring_is_grouped_soundly(graph: Graph, config: HardwareConfig) -> None:
    assert_grouping_is_sound(graph, config)


def test_groups_follow_the_order_of_the_model() -> None:
    """Where inputs allow it, kernels come in the order in which the model lists its operators."""
    operators = [
        embedding(),
        norm("a", "x"),
        norm("b", "a"),
        HostOp("embed2", ("ids",), "y", "embedding", TOKENS * WIDTH),
        norm("c", "y"),
    ]
    groups = fuse(graph_of(operators, ("b", "c")), ON_CHIP)
    assert names(groups) == [("embed",), ("a",), ("b",), ("embed2",), ("c",)]


def test_contraction_keeps_the_graph_acyclic() -> None:
    graph = graph_of(encoder_layer(), ("norm2",))
    groups = fuse(graph, ON_CHIP)
    owner = {op.name: i for i, group in enumerate(groups) for op in group.operators}
    contracted = nx.DiGraph(
        (owner[u], owner[v]) for u, v in graph.dag.edges if owner[u] != owner[v]
    )
    assert nx.is_directed_acyclic_graph(contracted)


# -- Patterns ------------------------------------------------------------------------------------------


def test_a_post_norm_layer_becomes_six_groups() -> None:
    groups = fuse(graph_of(encoder_layer(), ("norm2",)), ON_CHIP)
    assert names(groups) == [
        ("embed",),
        ("q", "k", "v"),
        ("scores", "probabilities", "context"),
        ("o", "sum1", "norm1"),
        ("up", "gelu"),
        ("down", "sum2", "norm2"),
    ]


def test_projections_of_one_input_lie_side_by_side() -> None:
    group = group_of(fuse(graph_of(encoder_layer(), ("norm2",)), ON_CHIP), "q")
    (merged,), apart = group.alternatives
    assert merged.problem == MatmulProblem(TOKENS, WIDTH, 3 * WIDTH, parameters=True)
    assert merged.outputs == ("q", "k", "v")
    assert merged.output_columns == (WIDTH, WIDTH, WIDTH)
    assert [work.outputs for work in apart] == [("q",), ("k",), ("v",)]


def test_projections_of_different_inputs_stay_apart() -> None:
    operators = [
        embedding(),
        HostOp("embed2", ("ids",), "y", "embedding", TOKENS * WIDTH),
        projection("a", "x"),
        projection("b", "y"),
    ]
    groups = fuse(graph_of(operators, ("a", "b")), ON_CHIP)
    assert {"a", "b"} <= {name for (name,) in names(groups)}


def test_projections_of_ragged_width_start_on_blocks_of_their_own() -> None:
    operators = [embedding(), projection("a", "x"), projection("ragged", "x", n=WIDTH + 1)]
    group = group_of(fuse(graph_of(operators, ("a", "ragged")), ON_CHIP), "ragged")
    (together,), apart = group.alternatives
    assert together.output_columns == (WIDTH, WIDTH + ON_CHIP.dim)
    assert isinstance(together.problem, MatmulProblem)
    assert together.problem.n == 2 * WIDTH + ON_CHIP.dim
    assert [work.problem.n for work in apart] == [WIDTH, WIDTH + 1]  # type: ignore[union-attr]


def test_an_activation_fuses_behind_its_projection() -> None:
    group = group_of(fuse(graph_of(encoder_layer(), ("norm2",)), ON_CHIP), "gelu")
    work = only_work(group)
    assert work.problem == MatmulProblem(TOKENS, WIDTH, 4 * WIDTH, parameters=True, function="gelu")
    assert work.operators == ("up", "gelu")


def test_an_activation_with_a_second_reader_of_its_input_is_apart() -> None:
    operators = [*encoder_layer(), projection("probe", "up", k=4 * WIDTH)]
    groups = fuse(graph_of(operators, ("norm2", "probe")), ON_CHIP)
    assert ("up",) in names(groups) and ("gelu",) in names(groups)
    assert only_work(group_of(groups, "gelu")).problem == RowProblem(TOKENS, 4 * WIDTH, "gelu")


def test_attention_stays_on_chip_or_is_taken_apart() -> None:
    group = group_of(fuse(graph_of(encoder_layer(), ("norm2",)), ON_CHIP), "scores")
    (whole,), behind, apart = group.alternatives
    assert whole.problem == AttentionProblem(HEADS, TOKENS, TOKENS, WIDTH // HEADS)
    assert whole.inputs == ("q", "k", "v")
    assert [work.outputs for work in behind] == [("probabilities",), ("context",)]
    softmax = behind[0].problem
    assert isinstance(softmax, MatmulProblem) and softmax.function == "softmax"
    assert [work.kind for work in apart] == ["matmul", "softmax", "matmul"]
    assert apart[1].problem == RowProblem(TOKENS, TOKENS, "softmax", batch=HEADS)


@pytest.mark.parametrize(
    ("softmax", "mask_rows", "bias"),
    [
        ({"masked": True}, TOKENS // 16, False),
        ({"masked": True, "causal": True}, 0, False),
        ({"masked": True, "bias_elements": HEADS * TOKENS * TOKENS}, 0, True),
    ],
)
def test_masks_are_parameters_and_biases_are_operands(
    softmax: dict[str, bool | int], mask_rows: int, bias: bool
) -> None:
    operators = [
        embedding(),
        *(projection(name, "x") for name in "qkv"),
        *attention("q", "k", "v", **softmax),
    ]
    group = group_of(fuse(graph_of(operators, ("context",)), ON_CHIP), "scores")
    problem = group.alternatives[0][0].problem
    assert isinstance(problem, AttentionProblem)
    assert (problem.mask_rows, problem.bias) == (mask_rows, bias)
    row = group.alternatives[-1][1].problem
    assert isinstance(row, RowProblem) and row.operands == 1 + bias
    assert len(group.alternatives) == (2 if bias else 3)


def test_scores_that_someone_else_reads_are_not_swallowed() -> None:
    operators = [
        embedding(),
        *(projection(name, "x") for name in "qkv"),
        *attention("q", "k", "v"),
    ]
    groups = fuse(graph_of(operators, ("context", "probabilities")), ON_CHIP)
    assert ("scores",) in names(groups) and ("context",) in names(groups)
    probe = HostOp("probe", ("scores",), "probe", "tanh", 1)
    groups = fuse(graph_of([*operators, probe], ("context", "probe")), ON_CHIP)
    assert ("scores",) in names(groups) and ("probabilities",) in names(groups)


def test_post_norm_fuses_residual_and_norm_behind_the_projection() -> None:
    group = group_of(fuse(graph_of(encoder_layer(), ("norm2",)), ON_CHIP), "norm1")
    (fused,), (plain, alone) = group.alternatives
    assert fused.problem == MatmulProblem(
        TOKENS, WIDTH, WIDTH, parameters=True, function="layernorm", residual=True
    )
    assert fused.inputs == ("context", "x") and fused.outputs == ("norm1",)
    assert plain.outputs == ("o",)
    assert alone.problem == RowProblem(TOKENS, WIDTH, "layernorm", operands=2, parameters=1)
    assert set(alone.inputs) == {"o", "x"}


def test_pre_norm_leaves_the_sum_to_its_two_readers() -> None:
    groups = fuse(graph_of(pre_norm_layer(), ("sum2",)), ON_CHIP)
    assert names(groups) == [
        ("embed",),
        ("norm1",),
        ("up", "gelu"),
        ("down", "sum"),
        ("norm2",),
        ("next", "sum2"),
    ]
    for (behind,), (_, total) in (group_of(groups, name).alternatives for name in ("sum", "sum2")):
        assert isinstance(behind.problem, MatmulProblem)
        assert behind.problem.residual and behind.problem.function == "copy"
        assert total.problem == RowProblem(TOKENS, WIDTH, "copy", operands=2)


def test_rms_norm_keeps_its_function() -> None:
    operators = [embedding(), projection("o", "x"), add("sum", "o", "x"), norm("rms", "sum", True)]
    (fused,), (_, alone) = group_of(
        fuse(graph_of(operators, ("rms",)), ON_CHIP), "rms"
    ).alternatives
    assert isinstance(fused.problem, MatmulProblem) and fused.problem.function == "rmsnorm"
    assert isinstance(alone.problem, RowProblem) and alone.problem.function == "rmsnorm"


def test_a_sum_of_activations_takes_its_norm_along() -> None:
    operators = [
        embedding(),
        HostOp("embed2", ("ids",), "y", "embedding", TOKENS * WIDTH),
        add("sum", "x", "y"),
        norm("norm", "sum"),
    ]
    groups = fuse(graph_of(operators, ("norm",)), ON_CHIP)
    work = only_work(group_of(groups, "norm"))
    assert names(groups)[-1] == ("sum", "norm")
    assert work.problem == RowProblem(TOKENS, WIDTH, "layernorm", operands=2, parameters=1)
    assert set(work.operators) == {"sum", "norm"}


def test_a_sum_of_a_tensor_with_itself_is_never_a_residual() -> None:
    operators = [embedding(), projection("o", "x"), add("sum", "o", "o"), norm("norm", "sum")]
    group = group_of(fuse(graph_of(operators, ("norm",)), ON_CHIP), "norm")
    assert len(group.alternatives) == 1
    assert group.alternatives[0][1].inputs == ("o", "o")


def test_works_name_every_operator_of_their_group() -> None:
    """What a kernel covers is reported by these names: none may be missing, none doubled."""
    for layer in (encoder_layer(), pre_norm_layer()):
        graph = graph_of(layer, (layer[-1].output,))
        for config in (ON_CHIP, ON_HOST):
            for group in fuse(graph, config):
                expected = sorted(op.name for op in group.operators)
                for works in group.alternatives:
                    assert sorted(n for work in works for n in work.operators) == expected


# -- Heads that fill no whole blocks -------------------------------------------------------------------


def test_heads_are_padded_to_whole_blocks() -> None:
    """Heads of 56 columns take 64 on a mesh of 16; useful MACs stay those of 56."""
    head_dim, wide = 56, 64
    graph = graph_of(encoder_layer(head_dim), ("norm2",))
    groups = fuse(graph, ON_CHIP)
    merged = group_of(groups, "q").alternatives[0][0]
    assert isinstance(merged.problem, MatmulProblem)
    assert merged.problem.n == 3 * HEADS * wide
    assert merged.macs == 3 * TOKENS * WIDTH * HEADS * head_dim
    after = group_of(groups, "o").alternatives[0][0]
    assert isinstance(after.problem, MatmulProblem)
    assert after.problem.k == HEADS * wide
    assert after.macs == TOKENS * HEADS * head_dim * WIDTH
    whole = group_of(groups, "scores").alternatives[0][0].problem
    assert whole == AttentionProblem(HEADS, TOKENS, TOKENS, head_dim)


def test_heads_of_whole_blocks_are_not_padded() -> None:
    groups = fuse(graph_of(encoder_layer(48), ("norm2",)), ON_CHIP)
    merged = group_of(groups, "q").alternatives[0][0].problem
    assert isinstance(merged, MatmulProblem) and merged.n == 3 * HEADS * 48


# -- A machine without normalization units -------------------------------------------------------------


def test_without_normalization_units_the_host_takes_over() -> None:
    groups = fuse(graph_of(encoder_layer(), ("norm2",)), ON_HOST)
    on_host = {
        work.operators[0]: work
        for group in groups
        for work in group.alternatives[0]
        if work.problem is None
    }
    assert set(on_host) == {
        "embed",
        "probabilities",
        "sum1",
        "norm1",
        "gelu",
        "sum2",
        "norm2",
    }
    assert all(
        ("matmul" == w.kind) == (w.problem is not None) for g in groups for w in g.alternatives[0]
    )


@pytest.mark.parametrize(
    ("name", "function", "elements", "dequantized", "quantized"),
    [
        ("probabilities", "softmax", HEADS * TOKENS * TOKENS, 1, 1),
        ("norm1", "layernorm", TOKENS * WIDTH, 1, 1),
        ("gelu", "gelu", TOKENS * 4 * WIDTH, 1, 1),
        ("sum1", "add", TOKENS * WIDTH, 2, 1),
    ],
)
def test_host_work_pays_for_its_conversions(
    name: str, function: str, elements: int, dequantized: int, quantized: int
) -> None:
    """docs/host.md: a pass out of int8 for every operand before, a pass into int8 after."""
    groups = fuse(graph_of(encoder_layer(), ("norm2",)), ON_HOST)
    (work,) = (w for w in group_of(groups, name).alternatives[0] if name in w.operators)
    assert work.host_cycles == (
        host_cycles(function, elements)
        + dequantized * host_cycles("dequantize", elements)
        + quantized * host_cycles("quantize", elements)
    )


def test_relu_needs_no_normalization_unit() -> None:
    layer = [
        replace(op, function="relu") if isinstance(op, Activation) else op for op in encoder_layer()
    ]
    groups = fuse(graph_of(layer, ("norm2",)), ON_HOST)
    work = only_work(group_of(groups, "up"))
    assert isinstance(work.problem, MatmulProblem) and work.problem.function == "relu"
