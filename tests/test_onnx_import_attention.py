"""Attention in the styles that exporters write it: the same matmuls, softmax and mask."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_builder import CONTRIB, ModelBuilder, all_of, kinds, only, run

from codesign.compiler.graph import HostOp, Matmul, Softmax
from codesign.compiler.onnx_import import import_onnx

B, S, HEADS, SIZE = 2, 6, 3, 4
D = HEADS * SIZE


def split_heads(b: ModelBuilder, x: str, *order: int) -> str:
    """[batch, seq, d] to [batch, heads, seq, size], or another order of those axes."""
    heads = b.node("Reshape", x, b.ints(0, 0, HEADS, SIZE))
    return str(b.node("Transpose", heads, perm=order or (0, 2, 1, 3)))


def merge_heads(b: ModelBuilder, context: str) -> str:
    tokens = b.node("Transpose", context, perm=[0, 2, 1, 3])
    return b.linear(str(b.node("Reshape", tokens, b.ints(0, 0, D))), D, D)


def scaled(b: ModelBuilder, x: str) -> str:
    return str(b.node("Div", x, b.const(math.sqrt(SIZE))))


def separate(b: ModelBuilder, x: str) -> str:
    """BERT: three projections, K transposed in one step, scores divided."""
    q, k, v = (b.linear(x, D, D) for _ in range(3))
    scores = scaled(b, b.node("MatMul", split_heads(b, q), split_heads(b, k, 0, 2, 3, 1)))
    weights = b.node("Softmax", scores, axis=-1)
    return merge_heads(b, b.node("MatMul", weights, split_heads(b, v)))


def separate_two_step(b: ModelBuilder, x: str) -> str:
    """K transposed after its heads, the scale on Q, K and V through Unsqueeze and Identity."""
    q, k, v = (b.node("Identity", b.linear(x, D, D)) for _ in range(3))
    q = b.node("Mul", q, b.const(SIZE**-0.5))
    keys = b.node("Transpose", split_heads(b, k), perm=[0, 1, 3, 2])
    scores = b.node("MatMul", split_heads(b, q), keys)
    weights = b.node("Dropout", b.node("Softmax", scores, axis=3))
    return merge_heads(b, b.node("MatMul", weights, split_heads(b, v)))


def rank_three(b: ModelBuilder, x: str) -> str:
    """fairseq: heads folded into the batch axis, the root of the scale on both operands."""
    root = b.const(SIZE**-0.25)
    q, k, v = (
        b.node("Reshape", split_heads(b, b.linear(x, D, D)), b.ints(-1, S, SIZE)) for _ in range(3)
    )
    keys = b.node("Transpose", b.node("Mul", k, root), perm=[0, 2, 1])
    scores = b.node("MatMul", b.node("Mul", q, root), keys)
    context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
    return merge_heads(b, b.node("Reshape", context, b.ints(-1, HEADS, S, SIZE)))


def einsum(b: ModelBuilder, x: str) -> str:
    q, k, v = (b.node("Reshape", b.linear(x, D, D), b.ints(0, 0, HEADS, SIZE)) for _ in range(3))
    scores = scaled(b, b.node("Einsum", q, k, equation="bqhd,bkhd->bhqk"))
    weights = b.node("Softmax", scores, axis=-1)
    context = b.node("Einsum", weights, v, equation="bhqk,bkhd->bqhd")
    return b.linear(str(b.node("Reshape", context, b.ints(0, 0, D))), D, D)


def decomposed_softmax(b: ModelBuilder, x: str) -> str:
    q, k, v = (b.linear(x, D, D) for _ in range(3))
    scores = scaled(b, b.node("MatMul", split_heads(b, q), split_heads(b, k, 0, 2, 3, 1)))
    shifted = b.node("Sub", scores, b.node("ReduceMax", scores, axes=[-1]))
    exponents = b.node("Exp", shifted)
    weights = b.node("Div", exponents, b.node("ReduceSum", exponents, b.ints(-1)))
    return merge_heads(b, b.node("MatMul", weights, split_heads(b, v)))


def fused_attend(b: ModelBuilder, q: str, k: str, v: str) -> str:
    scores = b.node("MatMul", scaled(b, split_heads(b, q)), split_heads(b, k, 0, 2, 3, 1))
    return merge_heads(b, b.node("MatMul", b.node("Softmax", scores, axis=-1), split_heads(b, v)))


def fused_split(b: ModelBuilder, x: str) -> str:
    """GPT-2: one Gemm, then Split."""
    rows = b.node("Reshape", x, b.ints(-1, D))
    qkv = b.node("Gemm", rows, b.weights(D, 3 * D), b.weights(3 * D))
    qkv = b.node("Reshape", qkv, b.ints(-1, S, 3 * D))
    return fused_attend(b, *b.node("Split", qkv, b.ints(D, D, D), axis=2, outputs=3))


def fused_slices(b: ModelBuilder, x: str) -> str:
    """Three slices of one projection, each with its part of the bias."""
    qkv = b.node("MatMul", x, b.weights(D, 3 * D))
    parts = [b.node("Slice", qkv, b.ints(i * D), b.ints((i + 1) * D), b.ints(-1)) for i in range(3)]
    return fused_attend(b, *(b.node("Add", part, b.weights(D)) for part in parts))


def fused_gather(b: ModelBuilder, x: str) -> str:
    """timm: [batch, seq, 3, heads, size], transposed to [3, ...], Gather of 0, 1 and 2."""
    qkv = b.node("Reshape", b.linear(x, D, 3 * D), b.ints(0, 0, 3, HEADS, SIZE))
    qkv = b.node("Transpose", qkv, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.node("Gather", qkv, b.const(i, "int64"), axis=0) for i in range(3))
    scores = scaled(b, b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2])))
    return merge_heads(b, b.node("MatMul", b.node("Softmax", scores, axis=-1), v))


def standard_rank_three(b: ModelBuilder, x: str) -> str:
    b.opset = 23
    q, k, v = (b.linear(x, D, D) for _ in range(3))
    y = b.node("Attention", q, k, v, q_num_heads=HEADS, kv_num_heads=HEADS)
    return b.linear(y, D, D)


def standard_rank_four(b: ModelBuilder, x: str) -> str:
    b.opset = 23
    q, k, v = (split_heads(b, b.linear(x, D, D)) for _ in range(3))
    return merge_heads(b, b.node("Attention", q, k, v))


def contrib_attention(b: ModelBuilder, x: str) -> str:
    weights = b.weights(D, 3 * D), b.weights(3 * D)
    return b.linear(b.node("Attention", x, *weights, num_heads=HEADS, domain=CONTRIB), D, D)


def contrib_multi_head(b: ModelBuilder, x: str) -> str:
    q, k, v = (b.node("MatMul", x, b.weights(D, D)) for _ in range(3))
    y = b.node("MultiHeadAttention", q, k, v, b.weights(3 * D), num_heads=HEADS, domain=CONTRIB)
    return b.linear(y, D, D)


STYLES = [
    separate,
    separate_two_step,
    rank_three,
    einsum,
    decomposed_softmax,
    fused_split,
    fused_slices,
    fused_gather,
    standard_rank_three,
    standard_rank_four,
    contrib_attention,
    contrib_multi_head,
]


@pytest.mark.parametrize("build", STYLES)
def test_attention_styles(build: Any) -> None:
    b = ModelBuilder()
    model = b.model(build(b, b.input("x", ("batch", "seq", D))))
    assert run(model, x=np.ones((B, S, D), np.float32))[0].shape == (B, S, D)
    graph = import_onnx(model, batch=B, seq=S)
    fused = build.__name__.startswith(("fused", "contrib_attention"))
    assert Counter(kinds(graph)) == {"matmul": 4 if fused else 6, "softmax": 1}
    assert graph.macs == B * S * (4 * D * D + 2 * S * D)
    matmuls = all_of(graph, Matmul)
    projections = [op for op in matmuls if op.constant_b]
    assert {(op.batch, op.m, op.k, op.bias) for op in projections} == {(1, B * S, D, True)}
    scores, context = (op for op in matmuls if not op.constant_b)
    assert (scores.batch, scores.m, scores.k, scores.n) == (B * HEADS, S, SIZE, S)
    assert (context.batch, context.m, context.k, context.n) == (B * HEADS, S, S, SIZE)
    assert scores.transposed_b and not context.transposed_b
    writers = [graph.producer(tensor) for tensor in scores.inputs]
    assert (writers[0] == writers[1]) == fused
    softmax = only(graph, Softmax)
    assert (softmax.rows, softmax.cols, softmax.masked) == (B * HEADS * S, S, False)


@given(
    batch=st.integers(1, 3), seq=st.integers(2, 9), heads=st.integers(1, 4), size=st.integers(2, 6)
)
@settings(max_examples=25, deadline=None)
def test_random_attention_sizes(batch: int, seq: int, heads: int, size: int) -> None:
    b = ModelBuilder()
    d = heads * size
    x = b.input("x", ("batch", "seq", d))
    q, k, v = (b.node("Reshape", b.linear(x, d, d), b.ints(0, 0, heads, size)) for _ in range(3))
    q, v = (b.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 3, 1]))
    context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
    graph = import_onnx(b.model(context), batch=batch, seq=seq)
    assert kinds(graph) == ["matmul"] * 4 + ["softmax", "matmul"]
    assert graph.macs == batch * seq * (3 * d * d + 2 * seq * d)
    assert [op.transposed_b for op in all_of(graph, Matmul)] == [False] * 3 + [True, False]


def test_grouped_query_attention_repeats_key_heads() -> None:
    """Llama exports expand two key heads to six query heads before the matmul."""
    b = ModelBuilder()
    x = b.input("x", (B, S, D))
    q = b.node("Reshape", b.linear(x, D, 24), b.ints(B, S, 6, 4))
    q = b.node("Transpose", q, perm=[0, 2, 1, 3])
    k = b.node("Reshape", b.linear(x, D, 8), b.ints(B, S, 2, 4))
    k = b.node("Unsqueeze", b.node("Transpose", k, perm=[0, 2, 1, 3]), b.ints(2))
    k = b.node("Reshape", b.node("Expand", k, b.ints(B, 2, 3, S, 4)), b.ints(B, 6, S, 4))
    model = b.model(b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2])))
    assert run(model, x=np.ones((B, S, D), np.float32))[0].shape == (B, 6, S, S)
    scores = all_of(import_onnx(model), Matmul)[-1]
    assert (scores.batch, scores.m, scores.k, scores.n) == (B * 6, S, 4, S)
    assert scores.transposed_b


# -- masks -----------------------------------------------------------------------------------------


def add_constant(b: ModelBuilder, scores: str) -> str:
    return str(b.node("Add", scores, b.const(np.triu(np.full((S, S), -1e9), 1))))


def where_constant(b: ModelBuilder, scores: str) -> str:
    return str(b.node("Where", b.const(np.tri(S), "bool"), scores, b.const(-np.inf)))


def trilu_of_shape(b: ModelBuilder, scores: str) -> str:
    """The causal mask computed from the scores' own shape."""
    extents = b.node("Slice", b.node("Shape", scores), b.ints(2), b.ints(4))
    ones = b.node("ConstantOfShape", extents)
    future = b.node("Trilu", b.node("Add", ones, b.const(-1e4)), b.const(1, "int64"), upper=1)
    return str(b.node("Add", scores, future))


def positions_compared(b: ModelBuilder, scores: str) -> str:
    length = b.node("Squeeze", b.node("Shape", scores, start=3))
    keys = b.node("Range", b.const(0, "int64"), length, b.const(1, "int64"))
    queries = b.node("Unsqueeze", keys, b.ints(1))
    return str(b.node("Where", b.node("Greater", keys, queries), b.const(-np.inf), scores))


def old_gpt(b: ModelBuilder, scores: str) -> str:
    """scores * mask - 10000 * (1 - mask)."""
    kept = b.node("Mul", scores, b.const(np.tri(S)))
    return str(b.node("Sub", kept, b.const(1e4 * (1 - np.tri(S)))))


@pytest.mark.parametrize(
    "mask", [add_constant, where_constant, trilu_of_shape, positions_compared, old_gpt]
)
def test_causal_masks(mask: Any) -> None:
    b = ModelBuilder()
    scores = b.input("x", ("batch", HEADS, S, S))
    model = b.model(b.node("Softmax", mask(b, scores), axis=-1))
    x = np.zeros((B, HEADS, S, S), np.float32)
    triangle = np.tri(S) / np.arange(1, S + 1)[:, None]
    np.testing.assert_allclose(run(model, x=x)[0], x + triangle, atol=1e-6)
    graph = import_onnx(model, batch=B)
    assert kinds(graph) == ["softmax"]
    softmax = only(graph, Softmax)
    assert softmax.masked and softmax.causal and softmax.inputs == ("x",)


def test_a_bias_on_scores_is_a_mask_but_not_causal() -> None:
    b = ModelBuilder()
    scores = b.node("Add", b.input("x", (1, HEADS, S, S)), b.weights(1, HEADS, S, S))
    softmax = only(import_onnx(b.model(b.node("Softmax", scores, axis=-1))), Softmax)
    assert softmax.masked and not softmax.causal


def test_a_mask_of_zeros_masks_nothing() -> None:
    b = ModelBuilder()
    scores = b.node("Add", b.input("x", (1, HEADS, S, S)), b.const(np.zeros((1, 1, S, S))))
    graph = import_onnx(b.model(b.node("Softmax", scores, axis=-1)))
    assert not only(graph, Softmax).masked


@pytest.mark.parametrize("style", ["bert", "where", "causal"])
@pytest.mark.parametrize("layers", [1, 3])
def test_masks_computed_from_the_input_are_shared_host_work(style: str, layers: int) -> None:
    b = ModelBuilder()
    y = b.input("x", ("batch", HEADS, "seq", "seq"))
    tokens = b.input("attention_mask", ("batch", "seq"), TensorProto.INT64)
    elements = B * S * (S if style == "causal" else 1)
    for _ in range(layers):  # every layer computes the mask again, as torch's sdpa exports do
        mask = b.node("Unsqueeze", tokens, b.ints(1, 2))
        if style == "bert":
            zero_one = b.node("Sub", b.const(1.0), b.node("Cast", mask, to=TensorProto.FLOAT))
            masked = b.node("Add", y, b.node("Mul", zero_one, b.const(-1e4)))
        else:
            seen = b.node("Cast", mask, to=TensorProto.BOOL)
            if style == "causal":
                seen = b.node("And", seen, b.const(np.tri(S), "bool"))
            masked = b.node("Where", seen, y, b.const(-np.inf))
        weights = b.node("Softmax", masked, axis=-1)
        y = b.node("Where", b.node("IsNaN", weights), b.const(0.0), weights)
    model = b.model(y)
    x = np.ones((B, HEADS, S, S), np.float32)
    run(model, x=x, attention_mask=np.ones((B, S), np.int64))
    graph = import_onnx(model, batch=B, seq=S)
    assert sorted(kinds(graph)) == ["mask"] + ["softmax"] * layers
    host = only(graph, HostOp)
    assert (host.inputs, host.count) == (("attention_mask",), elements)
    for softmax in all_of(graph, Softmax):
        assert softmax.inputs[1] == host.output
        assert softmax.causal == (style == "causal")


def test_opset_23_attention_with_mask_and_past() -> None:
    b = ModelBuilder(23)
    past_length = 5
    x = b.input("x", (B, S, D))
    past = [b.input(name, (B, HEADS, past_length, SIZE)) for name in ("past_key", "past_value")]
    mask = b.const(np.tri(S, S + past_length, past_length), "bool")
    heads = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
    y, key, value = b.node("Attention", x, x, x, mask, *past, outputs=3, **heads)
    model = b.model(y, key, value)
    cache = np.ones((B, HEADS, past_length, SIZE), np.float32)
    result = run(model, x=np.ones((B, S, D), np.float32), past_key=cache, past_value=cache)
    assert result[1].shape == (B, HEADS, past_length + S, SIZE)
    graph = import_onnx(model)
    assert graph.macs == 2 * B * S * (S + past_length) * D
    assert only(graph, Softmax).causal
    assert [op.count for op in all_of(graph, HostOp)] == [B * S * D] * 2  # appended, not copied
    assert len(graph.outputs) == 3
