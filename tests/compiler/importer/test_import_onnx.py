"""ONNX models in the styles that exporters and optimisers write become the right operators.

Counts are worked out by formula; every hand-built model is also run by onnxruntime, so that a test
cannot pass on a model that is not one.
"""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_builder import CONTRIB, ModelBuilder, all_of, kinds, only, run

from codesign.compiler.graph import Activation, Add, Gate, Graph, HostOp, LayerNorm, Matmul, Softmax
from codesign.compiler.importer.import_onnx import import_onnx

DATA = Path(__file__).parents[2] / "data"
B, S, D = 2, 6, 8


def activations(builder: ModelBuilder, d: int = D) -> str:
    return builder.input("x", ("batch", "seq", d))


def imported(builder: ModelBuilder, output: str, **more: Any) -> Graph:
    """Import the model and check with onnxruntime that its output has the operator's elements."""
    model = builder.model(output)
    result = run(model, x=np.ones((B, S, D), np.float32), **more)[0]
    graph = import_onnx(model, batch=B, seq=S)
    last = list(graph.operators())[-1]
    assert last.elements == result.size
    return graph


def test_names_of_dimensions_with_a_hyphen() -> None:
    """A word, unless its parts are known: then a difference."""
    b = ModelBuilder()
    y = b.linear(b.input("x", ("batch-size", "seq-len", D)), D, D)
    assert import_onnx(b.model(y), batch=B, seq=S).macs == B * S * D * D
    graph = import_onnx(b.model(y), batch=B, dims={"seq": 7, "len": 2})
    assert graph.macs == B * 5 * D * D


# -- activations -----------------------------------------------------------------------------------


def _erf(b: ModelBuilder, x: str) -> str:
    inner = b.node("Erf", b.node("Div", x, b.const(math.sqrt(2))))
    return str(b.node("Add", inner, b.const(1.0)))


def gelu_torch(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", b.node("Mul", x, _erf(b, x)), b.const(0.5)))


def gelu_half_first(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", b.node("Mul", b.const(0.5), x), _erf(b, x)))


def gelu_half_last(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("Mul", b.const(0.5), _erf(b, x))))


def gelu_by_reciprocal_root(b: ModelBuilder, x: str) -> str:
    inner = b.node("Erf", b.node("Mul", x, b.const(math.sqrt(0.5))))
    gate = b.node("Div", b.node("Add", b.const(1.0), inner), b.const(2.0))
    return str(b.node("Mul", gate, x))


def gelu_tanh(b: ModelBuilder, x: str) -> str:
    cube = b.node("Pow", x, b.const(3.0))
    inner = b.node("Add", x, b.node("Mul", b.const(0.044715), cube))
    gate = b.node("Tanh", b.node("Mul", b.const(math.sqrt(2 / math.pi)), inner))
    half = b.node("Mul", b.const(0.5), x)
    return str(b.node("Mul", half, b.node("Add", b.const(1.0), gate)))


def gelu_tanh_factored(b: ModelBuilder, x: str) -> str:
    """x * sqrt(2/pi) * (1 + 0.044715 x^2), as TensorFlow graphs are optimised to."""
    square = b.node("Mul", b.node("Mul", x, x), b.const(0.044715))
    inner = b.node("Mul", b.node("Add", square, b.const(1.0)), x)
    gate = b.node("Tanh", b.node("Mul", inner, b.const(math.sqrt(2 / math.pi))))
    half = b.node("Mul", b.node("Add", gate, b.const(1.0)), b.const(0.5))
    return str(b.node("Mul", half, x))


def gelu_tanh_by_exponentials(b: ModelBuilder, x: str) -> str:
    cube = b.node("Mul", b.node("Pow", x, b.const(3.0)), b.const(0.044715))
    inner = b.node("Mul", b.node("Add", x, cube), b.const(2 * math.sqrt(2 / math.pi)))
    power = b.node("Exp", inner)
    one = b.const(1.0)
    tanh = b.node("Div", b.node("Sub", power, one), b.node("Add", power, one))
    return str(b.node("Mul", b.node("Mul", b.const(0.5), x), b.node("Add", tanh, one)))


def gelu_sigmoid(b: ModelBuilder, x: str) -> str:
    return str(b.node("Mul", x, b.node("Sigmoid", b.node("Mul", x, b.const(1.702)))))


def gelu_node(b: ModelBuilder, x: str) -> str:
    b.opset = 20
    return str(b.node("Gelu", x, approximate="tanh"))


def gelu_contrib(b: ModelBuilder, x: str) -> str:
    return str(b.node("Gelu", x, domain=CONTRIB))


def gelu_fast(b: ModelBuilder, x: str) -> str:
    return str(b.node("FastGelu", x, domain=CONTRIB))


def gelu_quick(b: ModelBuilder, x: str) -> str:
    return str(b.node("QuickGelu", x, domain=CONTRIB, alpha=1.702))


def relu_by_max(b: ModelBuilder, x: str) -> str:
    return str(b.node("Max", x, b.const(0.0)))


def relu_clip(b: ModelBuilder, x: str) -> str:
    return str(b.node("Clip", x, b.const(0.0), b.const(6.0)))


@pytest.mark.parametrize(
    "build",
    [
        gelu_torch,
        gelu_half_first,
        gelu_half_last,
        gelu_by_reciprocal_root,
        gelu_tanh,
        gelu_tanh_factored,
        gelu_tanh_by_exponentials,
        gelu_sigmoid,
        gelu_node,
        gelu_contrib,
        gelu_fast,
        gelu_quick,
        relu_by_max,
        relu_clip,
    ],
)
def test_activation_styles(build: Any) -> None:
    b = ModelBuilder()
    hidden = b.linear(activations(b), D, 3 * D)
    graph = imported(b, b.linear(build(b, hidden), 3 * D, D))
    assert kinds(graph) == ["matmul", build.__name__[:4], "matmul"]
    assert only(graph, Activation).elements == B * S * 3 * D
    assert [op.bias for op in all_of(graph, Matmul)] == [True, True]
    assert graph.macs == 2 * B * S * D * 3 * D


def test_bias_gelu_folds_its_bias_into_the_matmul() -> None:
    b = ModelBuilder()
    product = b.node("MatMul", activations(b), b.weights(D, 4))
    graph = imported(b, b.node("BiasGelu", product, b.weights(4), domain=CONTRIB))
    assert kinds(graph) == ["matmul", "gelu"]
    assert only(graph, Matmul).bias


@pytest.mark.parametrize("slope", [1.0, 1.4])
def test_silu_is_not_a_gelu(slope: float) -> None:
    b = ModelBuilder()
    x = activations(b)
    gate = b.node("Sigmoid", b.node("Mul", x, b.const(slope)))
    function = "silu" if slope == 1.0 else "elementwise"
    assert kinds(imported(b, b.node("Mul", x, gate))) == [function]


@pytest.mark.parametrize("side", ["argument", "result"])
def test_no_activation_reaches_across_a_limit(side: str) -> None:
    """Far out, where samples near 0 do not show it."""
    b = ModelBuilder()
    x = activations(b)
    limits = b.const(-8.0), b.const(8.0)
    if side == "argument":
        x = b.node("Clip", x, *limits)
    y = b.node("Mul", x, b.node("Sigmoid", x))
    if side == "result":
        y = b.node("Clip", y, *limits)
    assert set(kinds(imported(b, y))) == {"clip", "silu"}


def test_a_gated_feed_forward_has_a_gate() -> None:
    b = ModelBuilder()
    x = activations(b)
    gate = gelu_tanh(b, b.node("MatMul", x, b.weights(D, 16)))
    product = b.node("Mul", gate, b.node("MatMul", x, b.weights(D, 16)))
    graph = imported(b, b.node("MatMul", product, b.weights(16, D)))
    assert Counter(kinds(graph)) == {"matmul": 3, "gelu": 1, "gate": 1}
    assert only(graph, Gate).elements == B * S * 16


# -- normalizations --------------------------------------------------------------------------------


def _mean(b: ModelBuilder, x: str) -> str:
    if b.opset < 18:
        return str(b.node("ReduceMean", x, axes=[-1]))
    return str(b.node("ReduceMean", x, b.ints(-1)))


def _scaled(b: ModelBuilder, x: str, beta: bool) -> str:
    scaled = b.node("Mul", x, b.weights(D))
    return str(b.node("Add", scaled, b.weights(D)) if beta else scaled)


def layernorm_node(b: ModelBuilder, x: str) -> str:
    return str(b.node("LayerNormalization", x, b.weights(D), b.weights(D), axis=-1))


def layernorm_torch(b: ModelBuilder, x: str) -> str:
    centered = b.node("Sub", x, _mean(b, x))
    variance = _mean(b, b.node("Pow", centered, b.const(2.0)))
    root = b.node("Sqrt", b.node("Add", variance, b.const(1e-5)))
    return _scaled(b, b.node("Div", centered, root), True)


def layernorm_opset_18(b: ModelBuilder, x: str) -> str:
    b.opset = 18
    return layernorm_torch(b, x)


def layernorm_reciprocal(b: ModelBuilder, x: str) -> str:
    centered = b.node("Sub", x, _mean(b, x))
    variance = _mean(b, b.node("Mul", centered, centered))
    root = b.node("Sqrt", b.node("Add", b.const(1e-12), variance))
    return _scaled(b, b.node("Mul", b.node("Reciprocal", root), centered), True)


def layernorm_tensorflow(b: ModelBuilder, x: str) -> str:
    """x * (rsqrt * gamma) + (beta - mean * rsqrt * gamma)."""
    mean = _mean(b, x)
    difference = b.node("Sub", x, mean)
    variance = _mean(b, b.node("Mul", difference, difference))
    inverse = b.node("Reciprocal", b.node("Sqrt", b.node("Add", variance, b.const(1e-12))))
    factor = b.node("Mul", inverse, b.weights(D))
    offset = b.node("Sub", b.weights(D), b.node("Mul", mean, factor))
    return str(b.node("Add", b.node("Mul", x, factor), offset))


def layernorm_moments(b: ModelBuilder, x: str) -> str:
    """Variance as E[x^2] - E[x]^2, without gamma and beta."""
    mean = _mean(b, x)
    second = _mean(b, b.node("Mul", x, x))
    variance = b.node("Sub", second, b.node("Mul", mean, mean))
    power = b.node("Pow", b.node("Add", variance, b.const(1e-6)), b.const(-0.5))
    return str(b.node("Mul", b.node("Sub", x, mean), power))


def rmsnorm_opset_23(b: ModelBuilder, x: str) -> str:
    b.opset = 23
    return str(b.node("RMSNormalization", x, b.weights(D), axis=-1))


def rmsnorm_simplified(b: ModelBuilder, x: str) -> str:
    return str(b.node("SimplifiedLayerNormalization", x, b.weights(D), axis=-1))


def rmsnorm_torch(b: ModelBuilder, x: str) -> str:
    square = _mean(b, b.node("Pow", x, b.const(2.0)))
    root = b.node("Sqrt", b.node("Add", square, b.const(1e-6)))
    return _scaled(b, b.node("Mul", x, b.node("Div", b.const(1.0), root)), False)


def rmsnorm_gamma_first(b: ModelBuilder, x: str) -> str:
    square = _mean(b, b.node("Mul", x, x))
    root = b.node("Sqrt", b.node("Add", square, b.const(1e-6)))
    return str(b.node("Div", b.node("Mul", x, b.weights(D)), root))


@pytest.mark.parametrize(
    "build",
    [
        layernorm_node,
        layernorm_torch,
        layernorm_opset_18,
        layernorm_reciprocal,
        layernorm_tensorflow,
        layernorm_moments,
        rmsnorm_opset_23,
        rmsnorm_simplified,
        rmsnorm_torch,
        rmsnorm_gamma_first,
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_normalization_styles(build: Any, residual: bool) -> None:
    b = ModelBuilder()
    x = activations(b)
    y = b.linear(x, D, D)
    y = b.node("Add", y, x) if residual else y
    graph = imported(b, b.linear(build(b, y), D, D))
    assert kinds(graph) == ["matmul", *["add"][: int(residual)], "layernorm", "matmul"]
    norm = only(graph, LayerNorm)
    assert (norm.rows, norm.cols) == (B * S, D)
    assert norm.rms == build.__name__.startswith("rms")


def test_skip_layernorm_is_an_add_and_a_layernorm() -> None:
    b = ModelBuilder()
    x = activations(b)
    product = b.node("MatMul", x, b.weights(D, D))
    y = b.node(
        "SkipLayerNormalization", product, x, *(b.weights(D) for _ in range(3)), domain=CONTRIB
    )
    graph = imported(b, y)
    assert kinds(graph) == ["matmul", "add", "layernorm"]
    assert only(graph, Matmul).bias


@pytest.mark.parametrize("offset", [False, True])
def test_centering_or_scaling_by_the_maximum_is_not_a_layernorm(offset: bool) -> None:
    b = ModelBuilder()
    x = activations(b)
    y = b.node("Sub", x, _mean(b, x)) if offset else x
    largest = b.node("ReduceMax", b.node("Abs", y), axes=[-1])
    graph = imported(b, b.node("Div", y, largest))
    assert "layernorm" not in kinds(graph)


def test_layernorm_of_channels_first_maps() -> None:
    """ConvNeXt normalizes axis 1 of [batch, channels, height, width]."""
    b = ModelBuilder()
    x = b.input("x", ("batch", 3, 8, 8))
    y = b.node("Conv", x, b.weights(12, 3, 2, 2), strides=[2, 2])
    centered = b.node("Sub", y, b.node("ReduceMean", y, axes=[1]))
    variance = b.node("ReduceMean", b.node("Mul", centered, centered), axes=[1])
    root = b.node("Sqrt", b.node("Add", variance, b.const(1e-6)))
    scaled = b.node("Mul", b.node("Div", centered, root), b.weights(12, 1, 1))
    model = b.model(b.node("Add", scaled, b.weights(12, 1, 1)))
    assert run(model, x=np.ones((2, 3, 8, 8), np.float32))[0].shape == (2, 12, 4, 4)
    graph = import_onnx(model, batch=2)
    assert kinds(graph) == ["matmul", "layernorm"]
    assert (only(graph, LayerNorm).rows, only(graph, LayerNorm).cols) == (32, 12)


# -- linear layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["add", "gemm", "gemm_transposed", "fused", "left", "einsum"])
def test_linear_styles(style: str) -> None:
    b = ModelBuilder()
    x = activations(b)
    rows = b.node("Reshape", x, b.ints(-1, D))
    if style == "add":
        y = b.linear(x, D, 5)
    elif style == "gemm":
        y = b.node("Gemm", rows, b.weights(D, 5), b.weights(5))
    elif style == "gemm_transposed":
        y = b.node("Gemm", rows, b.weights(5, D), b.weights(5), transB=1, alpha=0.5)
    elif style == "fused":
        product = b.node("FusedMatMul", x, b.weights(5, D), transB=1, alpha=0.5, domain=CONTRIB)
        y = b.node("Add", product, b.weights(5))
    elif style == "einsum":
        y = b.node(
            "Add", b.node("Einsum", x, b.weights(D, 5), equation="bsd,dn->bsn"), b.weights(5)
        )
    else:  # W @ x^T on [batch, d, seq]
        columns = b.node("Transpose", x, perm=[0, 2, 1])
        y = b.node("Add", b.node("MatMul", b.weights(5, D), columns), b.weights(5, 1))
    op = only(imported(b, y), Matmul)
    assert (op.batch, op.m, op.k, op.n, op.constant_b, op.bias) == (1, B * S, D, 5, True, True)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    batch=st.integers(1, 4),
    seq=st.integers(1, 7),
)
@settings(max_examples=25)
def test_random_mlps(sizes: list[int], batch: int, seq: int) -> None:
    b = ModelBuilder()
    y = activations(b, sizes[0])
    for k, n in pairwise(sizes):
        y = b.node("Relu", b.linear(y, k, n))
    graph = import_onnx(b.model(y), batch=batch, seq=seq)
    layers = list(pairwise(sizes))
    assert kinds(graph) == ["matmul", "relu"] * len(layers)
    assert [(op.k, op.n) for op in all_of(graph, Matmul)] == layers
    assert graph.macs == sum(batch * seq * k * n for k, n in layers)


def test_layer_scale_and_batch_norm_fold_into_the_matmul() -> None:
    b = ModelBuilder()
    y = b.node("Mul", b.linear(activations(b), D, D), b.weights(D))
    y = b.node("Transpose", y, perm=[0, 2, 1])
    statistics = [b.const(np.ones(D)) for _ in range(4)]
    y = b.node("BatchNormalization", y, *statistics)
    assert kinds(imported(b, y)) == ["matmul"]


def test_a_result_that_is_read_before_its_bias_keeps_it_apart() -> None:
    b = ModelBuilder()
    product = b.node("MatMul", activations(b), b.weights(D, D))
    y = b.node("Mul", b.node("Add", product, b.weights(D)), b.node("Tanh", product))
    graph = imported(b, y)
    assert not only(graph, Matmul).bias
    assert Counter(kinds(graph)) == {"matmul": 1, "add": 1, "tanh": 1, "gate": 1}


def test_token_mixing_needs_a_transpose_each_way() -> None:
    """MLP-Mixer: the matmul over tokens reads its operand, and its result, transposed."""
    b = ModelBuilder()
    x = b.linear(b.input("x", (B, S, D)), D, D)
    mixed = b.linear(b.node("Transpose", x, perm=[0, 2, 1]), S, S)
    y = b.node("Add", x, b.node("Transpose", mixed, perm=[0, 2, 1]))
    graph = imported(b, y)
    assert kinds(graph) == ["matmul", "transpose", "matmul", "transpose", "add"]


# -- convolutions ----------------------------------------------------------------------------------


def test_patch_embedding_is_an_im2col_matmul() -> None:
    b = ModelBuilder()
    x = b.input("pixel_values", ("batch", 3, 32, 32))
    patches = b.node("Conv", x, b.weights(24, 3, 8, 8), b.weights(24), strides=[8, 8])
    tokens = b.node("Reshape", patches, b.ints(0, 24, -1))
    tokens = b.node("Transpose", tokens, perm=[0, 2, 1])
    graph = import_onnx(b.model(b.linear(tokens, 24, 10)), batch=2)
    conv, linear = all_of(graph, Matmul)
    assert (conv.m, conv.k, conv.n, conv.bias) == (2 * 16, 3 * 8 * 8, 24, True)
    assert conv.im2col_bytes == 2 * 3 * 32 * 32
    assert (linear.m, linear.k, linear.n) == (2 * 16, 24, 10)


def test_depthwise_convolution_has_one_matmul_a_channel() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 12, 8, 8))
    y = b.node("Conv", x, b.weights(12, 1, 3, 3), group=12, pads=[1, 1, 1, 1])
    y = b.node("GlobalAveragePool", y)
    graph = import_onnx(b.model(y))
    op = only(graph, Matmul)
    assert (op.batch, op.m, op.k, op.n) == (12, 64, 9, 1)
    assert kinds(graph) == ["matmul", "globalaveragepool"]
    assert only(graph, HostOp).count == 12 * 64


@pytest.mark.parametrize(
    ("file", "giga_macs"),
    [("resnet50", 4.089), ("vgg19", 19.632), ("densenet121", 2.834), ("squeezenet", 0.349)],
)
def test_published_networks(file: str, giga_macs: float) -> None:
    """Multiply-adds as torchvision's model table publishes them, to the last digit; the files are
    Caffe2 exports without weights that the onnx package tests itself with."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    graph = import_onnx(folder / f"light_{file}.onnx")
    assert round(graph.macs / 1e9, 3) == giga_macs
    relus = [op for op in all_of(graph, Activation) if op.function == "relu"]
    assert len(relus) == {"resnet50": 49, "vgg19": 18, "densenet121": 121, "squeezenet": 26}[file]


# -- whole exports ---------------------------------------------------------------------------------


def bert_macs(layers: int, batch: int, seq: int, d: int, feed_forward: int) -> int:
    """Four projections, two feed-forward matmuls, Q.K^T and P.V."""
    return layers * batch * seq * (4 * d * d + 2 * d * feed_forward + 2 * seq * d)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize(("batch", "seq"), [(1, 16), (3, 5)])
def test_torch_exports_of_bert(exporter: str, batch: int, seq: int) -> None:
    graph = import_onnx(DATA / f"bert_tiny_{exporter}.onnx", batch=batch, seq=seq)
    assert graph.name == f"bert_tiny_{exporter}"
    assert graph.macs == bert_macs(2, batch, seq, 32, 40)
    counts = Counter(kinds(graph))
    assert counts.pop("embedding") == 1
    assert counts.pop("mask") == 1
    assert counts.pop("add") == 2 * 2 + 2  # residuals, and two embedding sums of the host
    assert counts == {"matmul": 2 * 8, "softmax": 2, "layernorm": 2 * 2 + 1, "gelu": 2}
    assert len(all_of(graph, Add)) == 2 * 2
    for softmax in all_of(graph, Softmax):
        assert (softmax.rows, softmax.cols) == (batch * 4 * seq, seq)
        assert softmax.masked and not softmax.causal and len(softmax.inputs) == 2
    products = [op for op in all_of(graph, Matmul) if not op.constant_b]
    assert [op.transposed_b for op in products] == [True, False] * 2
    assert [(op.batch, op.m, op.k, op.n) for op in products[:2]] == [
        (batch * 4, seq, 8, seq),
        (batch * 4, seq, seq, 8),
    ]
    assert all(op.bias for op in all_of(graph, Matmul) if op.constant_b)


def test_both_exports_compute_the_same_from_inputs_of_the_same_names() -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "input_ids": rng.integers(16, size=(2, 9)),
        "attention_mask": np.arange(9)[None] < np.array([[9], [5]]),
    }
    feeds["attention_mask"] = feeds["attention_mask"].astype(np.int64)
    script, dynamo = (
        run(onnx.load(DATA / f"bert_tiny_{exporter}.onnx"), **feeds)[0]
        for exporter in ("script", "dynamo")
    )
    seen = feeds["attention_mask"] == 1
    np.testing.assert_allclose(script[seen], dynamo[seen], atol=1e-5)


def test_external_weights_may_be_missing(tmp_path: Path) -> None:
    model = onnx.load(DATA / "bert_tiny_dynamo.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    (tmp_path / "m.data").unlink()
    graph = import_onnx(tmp_path / "m.onnx", batch=1, seq=16)
    assert graph.macs == bert_macs(2, 1, 16, 32, 40)


def test_importing_leaves_the_given_model_alone() -> None:
    model = onnx.load(DATA / "bert_tiny_script.onnx")
    before = model.SerializeToString(deterministic=True)
    import_onnx(model, batch=1, seq=4)
    assert model.SerializeToString(deterministic=True) == before


# -- control flow and functions --------------------------------------------------------------------


def test_constant_if_is_inlined() -> None:
    b = ModelBuilder()
    x = activations(b)
    branches = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Tanh")):
        node = onnx.helper.make_node(op, ["x"], ["inner"], name=op)
        output = onnx.helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branches[name] = onnx.helper.make_graph([node], name, [], [output])
    extent = b.node("Gather", b.node("Shape", x), b.ints(1))
    condition = b.node("Squeeze", b.node("Greater", extent, b.ints(S - 1)))
    y = b.node("If", condition, **branches)
    again = b.node("If", condition, **branches)
    model = b.model(b.node("Add", y, again))
    graph = import_onnx(model, batch=B, seq=S, shares=False)
    assert kinds(graph) == ["relu", "relu", "add"]
    assert kinds(import_onnx(model, batch=B, seq=S - 1)) == ["elementwise"]


def test_local_functions_are_inlined() -> None:
    b = ModelBuilder()
    y = b.node("Block", activations(b), b.weights(D, 4), domain="local")
    model = b.model(y)
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    body = [
        onnx.helper.make_node("MatMul", ["a", "w"], ["p"]),
        onnx.helper.make_node("Relu", ["p"], ["r"]),
    ]
    opsets = [onnx.helper.make_opsetid("", 17)]
    model.functions.append(
        onnx.helper.make_function("local", "Block", ["a", "w"], ["r"], body, opsets)
    )
    assert kinds(import_onnx(model, batch=B, seq=S)) == ["matmul", "relu"]


def test_embeddings_are_summed_by_the_host() -> None:
    b = ModelBuilder()
    ids = b.input("input_ids", ("batch", "seq"), TensorProto.INT64)
    types = b.input("token_type_ids", ("batch", "seq"), TensorProto.INT64)
    length = b.node("Gather", b.node("Shape", ids), b.const(1, "int64"))
    positions = b.node("Range", b.const(0, "int64"), length, b.const(1, "int64"))
    total = b.node(
        "Add", b.node("Gather", b.weights(50, D), ids), b.node("Gather", b.weights(2, D), types)
    )
    total = b.node("Add", total, b.node("Gather", b.weights(40, D), positions))
    model = b.model(layernorm_node(b, total))
    zeros = np.zeros((B, S), np.int64)
    assert run(model, input_ids=zeros, token_type_ids=zeros)[0].size == B * S * D
    graph = import_onnx(model, batch=B, seq=S)
    assert kinds(graph) == ["embedding", "embedding", "add", "add", "layernorm"]
    hosts = all_of(graph, HostOp)
    assert [op.count for op in hosts] == [B * S * D] * 4
    assert [op.inputs for op in hosts[:2]] == [("input_ids",), ("token_type_ids",)]


def test_what_no_output_needs_is_left_out() -> None:
    b = ModelBuilder()
    x = activations(b)
    b.node("Tanh", b.linear(x, D, 32))
    assert kinds(imported(b, b.node("Relu", x))) == ["relu"]


@pytest.mark.parametrize("form", ["qdq", "integer", "dynamic"])
def test_quantized_linear_layers_keep_their_operators(form: str) -> None:
    b = ModelBuilder()
    x = activations(b)
    weights = b.const(b.rng.integers(-127, 128, size=(D, 4)), "int8")
    zero, scale = b.const(0, "int8"), b.const(0.02)
    if form == "dynamic":
        q, q_scale, q_zero = b.node("DynamicQuantizeLinear", x, outputs=3)
        product = b.node("MatMulInteger", q, weights, q_zero, zero)
        factor = b.node("Mul", q_scale, b.const(np.full(4, 0.02)))  # one scale a column
        y = b.node("Mul", b.node("Cast", product, to=TensorProto.FLOAT), factor)
    elif form == "integer":
        q = b.node("QuantizeLinear", x, scale, zero)
        product = b.node("QLinearMatMul", q, scale, zero, weights, scale, zero, scale, zero)
        y = b.node("DequantizeLinear", product, scale, zero)
    else:
        x = b.node("DequantizeLinear", b.node("QuantizeLinear", x, scale, zero), scale, zero)
        y = b.node("MatMul", x, b.node("DequantizeLinear", weights, scale, zero))
        y = b.node("DequantizeLinear", b.node("QuantizeLinear", y, scale, zero), scale, zero)
    graph = imported(b, b.node("Relu", b.node("Add", y, b.weights(4))))
    assert kinds(graph) == ["matmul", "relu"]
    op = only(graph, Matmul)
    assert (op.m, op.k, op.n, op.bias) == (B * S, D, 4, True)
    assert op.weights_name == weights


def test_fused_activations_of_onnxruntime_are_operators_of_their_own() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4, 8, 8))
    more: dict[str, Any] = {
        "strides": [2, 2],
        "kernel_shape": [2, 2],
        "activation": "Relu",
        "domain": CONTRIB,
    }
    y = b.node("FusedConv", x, b.weights(6, 4, 2, 2), b.weights(6), **more)
    y = b.node("Flatten", y)
    y = b.node("FusedGemm", y, b.weights(96, 5), b.weights(5), activation="Tanh", domain=CONTRIB)
    assert kinds(import_onnx(b.model(y))) == ["matmul", "relu", "matmul", "tanh"]


def test_group_normalization_has_the_shape_of_its_input() -> None:
    b = ModelBuilder(21)
    x = b.input("x", (1, 4, 8, 8))
    y = b.node("GroupNormalization", x, b.weights(4), b.weights(4), num_groups=2)
    assert kinds(import_onnx(b.model(y))) == ["groupnormalization"]


def test_a_fused_activation_behind_what_the_host_adds() -> None:
    """A Gemm adds a matrix, which is no bias: the host does it before the activation."""
    b = ModelBuilder()
    x = b.input("x", (4, 8))
    more: dict[str, Any] = {"activation": "Relu", "domain": CONTRIB}
    y = b.node("FusedGemm", x, b.weights(8, 6), b.weights(4, 6), **more)
    assert kinds(import_onnx(b.model(y))) == ["matmul", "add", "relu"]
    other = b.node("Relu", b.node("MatMul", x, b.weights(8, 6)))
    y = b.node("FusedGemm", x, b.weights(8, 6), other, **more)
    assert kinds(import_onnx(b.model(y))) == ["matmul", "relu", "matmul", "add", "relu"]


@pytest.mark.parametrize(("exponent", "kind"), [(2, "gate"), (3, "pow")])
def test_a_power_has_the_type_of_its_base(exponent: int, kind: str) -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4, 8))
    y = b.node("Softplus", b.node("Pow", x, b.const(exponent, "int64")))
    assert kinds(import_onnx(b.model(y), seq=4)) == [kind, "softplus"]


@pytest.mark.parametrize("equation", ["...d,dn->...n", "bid,...dn->bi...n", "bi...,...n->bin"])
def test_an_einsum_with_dots(equation: str) -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4, 8))
    y = b.node("Einsum", x, b.weights(8, 6), equation=equation)
    (op,) = all_of(import_onnx(b.model(y), seq=4), Matmul)
    assert (op.m, op.k, op.n, op.constant_b) == (4, 8, 6, True)


def test_a_mask_of_keys_is_no_bias() -> None:
    """A row that hides keys would set the scale of the sums, were it folded into the weights."""
    b = ModelBuilder()
    x = b.input("x", (1, 4, 8))
    scores = b.node("MatMul", x, b.weights(8, 6))
    mask = b.const(np.where(np.arange(6) < 4, 0.0, -1e4))
    graph = import_onnx(b.model(b.node("Softmax", b.node("Add", scores, mask))), seq=4)
    assert only(graph, Softmax).masked
    assert not only(graph, Matmul).bias
