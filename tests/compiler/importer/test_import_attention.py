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
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.t5 import T5Config

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
@settings(max_examples=25)
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
    assert softmax.bias_elements == 0


def test_a_bias_on_scores_is_a_mask_but_not_causal() -> None:
    b = ModelBuilder()
    scores = b.node("Add", b.input("x", (1, HEADS, S, S)), b.weights(1, HEADS, S, S))
    softmax = only(import_onnx(b.model(b.node("Softmax", scores, axis=-1))), Softmax)
    assert softmax.masked and not softmax.causal
    assert softmax.bias_elements == HEADS * S * S


@pytest.mark.parametrize("form", ["Mul", "Div"])
def test_a_positive_scale_on_scores_vanishes(form: str) -> None:
    b = ModelBuilder()
    scores = b.node(form, b.input("x", (1, HEADS, S, S)), b.const(0.125))
    graph = import_onnx(b.model(b.node("Softmax", scores, axis=-1)))
    assert kinds(graph) == ["softmax"]
    softmax = only(graph, Softmax)
    assert softmax.inputs == ("x",) and not softmax.masked


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
        assert softmax.bias_elements == 0


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


# -- position biases -------------------------------------------------------------------------------


def alibi(heads: int, seq: int) -> Any:
    """Linear biases of arXiv 2108.12409 §3: -slope * distance, slopes 2^(-8 i / heads)."""
    slopes = 2.0 ** (-8 * np.arange(1, heads + 1) / heads)
    distance = np.arange(seq)[:, None] - np.arange(seq)[None, :]
    return (-slopes[:, None, None] * np.abs(distance)).astype(np.float32)


LATER = np.triu(np.full((S, S), -1e9), 1)
WINDOW = np.where(np.abs(np.subtract.outer(np.arange(S), np.arange(S))) > 2, -np.inf, 0)


@pytest.mark.parametrize(
    ("constants", "causal", "elements"),
    [
        ([alibi(HEADS, S)], False, HEADS * S * S),
        ([alibi(HEADS, S), LATER], True, HEADS * S * S),  # two Adds, one after the other
        ([alibi(HEADS, S) + LATER], True, HEADS * S * S),
        ([alibi(1, S)[0]], False, S * S),  # the same for all heads
        ([alibi(HEADS, S)[:, -1:]], False, 0),  # the same for all queries, as in BLOOM
        ([WINDOW], False, S * S),  # hides other keys from each query
        ([alibi(HEADS, S), WINDOW], False, HEADS * S * S),
    ],
)
def test_biases_of_constants(constants: list[Any], causal: bool, elements: int) -> None:
    b = ModelBuilder()
    scores = b.input("x", (B, HEADS, S, S))
    for constant in constants:
        scores = b.node("Add", b.const(constant), scores)
    softmax = only(import_onnx(b.model(b.node("Softmax", scores, axis=-1))), Softmax)
    assert (softmax.masked, softmax.causal, softmax.bias_elements) == (True, causal, elements)
    assert softmax.inputs == ("x",)


@pytest.mark.parametrize("seq", [S, 900])  # the sum of 900 * 900 * 6 elements is not computed
def test_a_bias_broadcast_over_the_batch_counts_once(seq: int) -> None:
    """torch adds the relative positions to a causal mask that it has expanded to the batch."""
    b = ModelBuilder()
    scores = b.input("x", (B, HEADS, seq, seq))
    future = b.node("Unsqueeze", b.const(np.triu(np.full((seq, seq), -1e9), 1)), b.ints(0, 1))
    future = b.node("Expand", future, b.ints(B, 1, seq, seq))
    mask = b.node("Add", b.const(alibi(HEADS, seq)), future)
    model = b.model(b.node("Softmax", b.node("Add", scores, mask), axis=-1))
    softmax = only(import_onnx(model), Softmax)
    assert softmax.causal and softmax.bias_elements == HEADS * seq * seq


@pytest.mark.parametrize("large", [False, True], ids=["read", "unread"])
def test_a_bias_that_is_gathered_and_padded_on_the_host(large: bool) -> None:
    """T5: a table [buckets, heads] looked up for every query and key, plus a padding mask."""
    b = ModelBuilder()
    scores = b.input("x", (B, HEADS, S, S))
    tokens = b.input("attention_mask", (B, S), TensorProto.INT64)
    table = b.weights(6000 if large else 32, HEADS)  # above 2^14 elements the values are not read
    bias = b.node("Gather", table, b.const(np.arange(S * S).reshape(S, S) % 32, "int64"))
    bias = b.node("Unsqueeze", b.node("Transpose", bias, perm=[2, 0, 1]), b.ints(0))
    seen = b.node("Cast", b.node("Unsqueeze", tokens, b.ints(1, 2)), to=TensorProto.FLOAT)
    padding = b.node("Mul", b.node("Sub", b.const(1.0), seen), b.const(-1e9))
    model = b.model(b.node("Softmax", b.node("Add", scores, b.node("Add", bias, padding)), axis=-1))
    run(model, x=np.zeros((B, HEADS, S, S), np.float32), attention_mask=np.ones((B, S), np.int64))
    graph = import_onnx(model)
    host, softmax = only(graph, HostOp), only(graph, Softmax)
    assert (host.function, host.count) == ("mask", B * HEADS * S * S)
    assert softmax.inputs == ("x", host.output)
    assert softmax.masked and not softmax.causal
    assert softmax.bias_elements == HEADS * S * S


def test_a_bias_of_fused_attention_with_padding() -> None:
    b = ModelBuilder()
    x = b.input("x", (B, S, D))
    padding = b.input("attention_mask", (B, S), TensorProto.INT32)
    inputs = (x, x, x, "", padding, b.weights(1, HEADS, S, S))
    model = b.model(
        b.node("MultiHeadAttention", *inputs, num_heads=HEADS, domain=CONTRIB),
    )
    run(model, x=np.ones((B, S, D), np.float32), attention_mask=np.ones((B, S), np.int32))
    softmax = only(import_onnx(model), Softmax)
    assert softmax.inputs[1:] == ("attention_mask",)
    assert softmax.masked and softmax.bias_elements == HEADS * S * S


def by_block(config: ModelConfig, seq: int, dynamic: bool = False, **options: Any) -> Any:
    """The masked, causal, bias_elements and the mask's producers of every softmax, by stack and block;
    they must be the same in every layer."""
    batch, length = (None, None) if dynamic else (B, seq)
    model = export(config, batch=batch, seq=length, **options)
    graph = import_onnx(model, batch=B, seq=seq)
    found: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for op in all_of(graph, Softmax):
        stack, *_, block = op.name.removesuffix("/Softmax").split(".")
        masks = [
            graph.operator(graph.producer(name) or "", HostOp).function for name in op.inputs[1:]
        ]
        facts = (op.masked, op.causal, op.bias_elements, *masks)
        found.setdefault((stack.rstrip("0123456789"), block), set()).add(facts)
    assert all(len(facts) == 1 for facts in found.values())
    return {block: facts.pop() for block, facts in found.items()}


SMALL_T5 = T5Config("small", 2, 2, d_model=24, heads=3, d_kv=8, d_ff=32, vocab_size=50)


@pytest.mark.parametrize(
    ("config", "seq", "weights", "dynamic"),
    [
        (SMALL_T5, 12, "random", False),
        (SMALL_T5, 12, "random", True),
        (SMALL_T5, 200, "random", False),
        (family("t5-mini"), 64, "splat", False),
        (family("t5-mini"), 64, "splat", True),
        (family("t5-mini"), 1024, "splat", False),  # biases too large to be computed
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_relative_positions_of_t5(config: T5Config, seq: int, weights: str, dynamic: bool) -> None:
    elements = config.heads * seq * seq
    assert by_block(config, seq, dynamic, weights=weights) == {
        ("encoder", "attention"): (True, False, elements, "mask"),
        ("decoder", "attention"): (True, True, elements),
        ("decoder", "cross"): (True, False, 0, "mask"),
    }


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("seq", [64, 384])
def test_masks_of_bert_and_gpt2_are_no_biases(seq: int, dynamic: bool) -> None:
    bert = BertConfig("bert", 2, d_model=24, heads=3, d_ff=32, vocab_size=50)
    assert by_block(bert, seq, dynamic) == {("layer", "attention"): (True, False, 0, "mask")}
    gpt2 = lm(layers=2, d_model=24, heads=12, d_ff=32, vocab_size=50)
    assert by_block(gpt2, seq, dynamic) == {("layer", "attention"): (True, True, 0)}
