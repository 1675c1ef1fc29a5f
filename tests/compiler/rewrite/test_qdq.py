"""Quantized ONNX files: their scales and integers are kept, and onnxruntime on the file agrees within LSBs.

What differs from onnxruntime, which computes every operator in float between two roundings: the machine
adds bias, residual and mask before it rounds (QDQ files round once more), its softmax, GELU and norms are polynomials
(docs/numerics.md), and its probabilities are always 1 / 127.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from float_reference import random_inputs
from kernel_bounds import Checked
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from codesign.compiler.graph import Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Integers, Network, run
from codesign.compiler.numerics.quantized import QuantizedStep
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.rewrite.dequantize import Dequantized, dequantized
from codesign.compiler.rewrite.given_scales import Codes
from codesign.hw.errors import UnsupportedError
from codesign.hw.machine.config import preset
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export

SEQ = 16
ROW = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)}
CONFIG = BertConfig(
    "bert", layers=2, d_model=64, heads=4, d_ff=128, vocab_size=50, max_positions=32
)
# A mask of the lowest float makes infinities out of int8: it stays float, as is usual.
MASK = ["mask/Sub", "mask/Mul"]
SYMMETRIC: dict[str, Any] = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True},
    "nodes_to_exclude": MASK,
}
STATIC: dict[str, dict[str, Any]] = {
    "tensor": SYMMETRIC,
    "channel": {**SYMMETRIC, "per_channel": True},
    "default": {"nodes_to_exclude": MASK},
    "operators": {**SYMMETRIC, "quant_format": QuantFormat.QOperator},
}
DYNAMIC: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "dynamic-channel": {"per_channel": True},
    "dynamic-uint8": {"weight_type": QuantType.QUInt8},
}


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Random tokens without padding."""

    def __init__(self) -> None:
        self.feeds = iter([inputs(seed) for seed in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def inputs(seed: int) -> dict[str, Array]:
    return random_inputs(CONFIG, batch=1, seq=SEQ, seed=seed)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of every quantized form of one model."""
    folder = tmp_path_factory.mktemp("quantized")
    logging.disable(
        logging.WARNING
    )  # onnxruntime advises shape inference, which changes nothing here
    for name, options in STATIC.items():
        quantize_static(export(CONFIG, batch=1, seq=SEQ), folder / name, Samples(), **options)
    for name, options in DYNAMIC.items():
        quantize_dynamic(export(CONFIG, batch=1, seq=SEQ), folder / name, **options)
    logging.disable(logging.NOTSET)
    cached.cache_clear()
    yield folder


@cache
def cached(path: Path) -> tuple[onnx.ModelProto, Network]:
    model = onnx.load(path)
    return model, compile_network(model, preset("ibert"), [inputs(seed) for seed in range(4)])


def outputs(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str]) -> list[Array]:
    """Tensors of a model by onnxruntime, without its own fusions."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(names, feeds))


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def file_scales(model: onnx.ModelProto) -> dict[str, float]:
    """The scales of a QDQ file by quantized tensor."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        node.input[0]: float(constants[node.input[1]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def file_integers(model: onnx.ModelProto, op: Matmul) -> Array:
    """The int8 weights [k, n] of a matmul, as the file has them."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return constants[op.weights_name.removesuffix("_quantized") + "_quantized"]


@pytest.mark.parametrize("name", ("tensor", "channel", "default", "operators"))
def test_weights_are_the_integers_of_the_file(files: Path, name: str) -> None:
    """Every weight, in the columns of its kernel; nothing is quantized twice."""
    model, network = cached(files / name)
    checked = 0
    for index, step in network.quantized.steps.items():
        if step.weights is None:
            continue
        names = network.plan.steps[index].operators
        ops = [network.plan.graph.dag[each] for each in names]
        if name == "operators" and names == ("pooler/Gemm_quant",):
            continue  # only the one row that it reads has a scale
        wanted = [file_integers(model, op) for op in ops if isinstance(op, Matmul)]
        np.testing.assert_array_equal(step.weights, np.concatenate(wanted, axis=1))
        checked += len(wanted)
    assert checked == 6 * CONFIG.layers + (name != "operators")
    assert any("made anew" in note for note in network.notes) == (name == "operators")


@pytest.mark.parametrize("name", ("tensor", "channel"))
def test_symmetric_scales_are_those_of_the_file(files: Path, name: str) -> None:
    model, network = cached(files / name)
    scales = file_scales(model)
    known = [tensor for tensor in network.quantized.scales if tensor in scales]
    assert len(known) > 8 * CONFIG.layers
    for tensor in known:
        np.testing.assert_allclose(network.quantized.scales[tensor], scales[tensor], rtol=1e-6)
    assert network.notes == ()


@pytest.mark.parametrize(("name", "largest"), (("tensor", 12), ("channel", 12), ("default", 18)))
def test_onnxruntime_agrees_within_lsbs(files: Path, name: str, largest: float) -> None:
    """Tensor by tensor on unseen inputs, in units of its scale: 2 on average, 7 for 99 % of values."""
    model, network = cached(files / name)
    quantized = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    rounded = {
        quantized[n.input[0]]: n.output[0]
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in quantized
    }
    for seed in (100, 101):
        plain = Integers(network)
        found = run(network, inputs(seed), plain)
        names = [tensor for tensor in plain.known if tensor in rounded]
        assert len(names) > 8 * CONFIG.layers
        values = outputs(model, inputs(seed), [rounded[tensor] for tensor in names])
        for tensor, value in zip(names, values, strict=True):
            ours = network.quantized.values(tensor, plain.known[tensor])
            scale = network.quantized.scales[tensor]
            off = np.abs(ours - network.matrices[tensor].of(value)) / scale
            assert off.mean() <= 2 and np.quantile(off, 0.99) <= 7, tensor
            assert off.max() <= largest, tensor
        (wanted,) = outputs(model, inputs(seed), ["last_hidden_state"])
        assert cosine(found["last_hidden_state"], wanted) > 0.997


@pytest.mark.parametrize("name", (*STATIC, *DYNAMIC))
def test_the_machine_equals_plain_integers(files: Path, name: str) -> None:
    """Bit for bit, every kernel within its bound, and the result near onnxruntime's on the file."""
    model, network = cached(files / name)
    feeds = inputs(0)
    checked = Checked(network, feeds)
    found, plain = run(network, feeds, checked), run(network, feeds, "integers")
    for output in network.model.outputs:
        np.testing.assert_array_equal(found[output], plain[output])
    assert max(checked.worst.values()) <= 1
    (wanted,) = outputs(model, feeds, ["last_hidden_state"])
    # Without VNNI, onnxruntime's products of uint8 and int8 saturate in 16 bits.
    assert cosine(found["last_hidden_state"], wanted) > (0.99 if name in DYNAMIC else 0.998)
    floats = network.model.part((), network.model.outputs)(feeds)["last_hidden_state"]
    assert cosine(found["last_hidden_state"], floats) > 0.999


def test_what_cannot_be_kept_is_said(files: Path) -> None:
    """Codes around 0 where activations are multiplied; weights around one not in the middle are new."""
    model, network = cached(files / "default")
    note, softmaxes = network.notes
    assert "up to one bit coarser" in note and "\n" not in note
    assert softmaxes.startswith(f"{CONFIG.layers} softmaxes have a zero point in the file")
    tensor = "layer0.attention.query/Add_output"
    scale = file_scales(model)[tensor]
    assert scale * 128 / 127 <= network.quantized.scales[tensor] <= scale * 255 / 127
    assert network.quantized.zero(tensor) == 0
    for name in DYNAMIC:
        (note,) = cached(files / name)[1].notes
        assert note.startswith(f"{6 * CONFIG.layers + 1} matmuls read a tensor") and "anew" in note


def test_weights_that_the_machine_cannot_hold() -> None:
    """uint8 around 20 reaches 220; half of it is within int8, and exact."""
    codes = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4)
    for zero, kept in ((20, False), (0, False)):
        _, network = quantized_product(codes, np.uint8(zero))
        assert any("made anew" in note for note in network.notes) != kept
    step, network = quantized_product(codes // 2, np.uint8(20))
    np.testing.assert_array_equal(step.weights, codes.astype(int) // 2 - 20)
    (note,) = network.notes
    assert note == "1 tensors are rounded to eight-bit codes that are not the file's, 'y' first"


@pytest.mark.parametrize(("step", "coarse"), ((40.0, True), (0.1, False)))
def test_scores_that_a_file_rounds_coarsely_are_said(step: float, coarse: bool) -> None:
    """As quantizers do where a mask of -10,000 is added to scores: its scale is both's."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "t", "o"], ["q"]),
        node("DequantizeLinear", ["q", "t", "o"], ["d"]),
        node("MatMul", ["d", "w"], ["p"]),
        node("Add", ["p", "m"], ["s"]),
        node("QuantizeLinear", ["s", "u", "o"], ["r"]),
        node("DequantizeLinear", ["r", "u", "o"], ["e"]),
        node("Softmax", ["e"], ["y"], axis=-1),
    ]
    constants = {"w": np.eye(4, dtype=np.float32), "t": np.float32(1 / 50), "o": np.int8(0)}
    mask = np.where(np.arange(4) < 3, 0, -127 * step).astype(np.float32)
    model = model_of(nodes, m=mask, u=np.float32(step), **constants)
    network = compile_network(model, preset("edge"), [ROW], batch=None)
    said = [note for note in network.notes if "softmaxes read scores in steps of" in note]
    assert len(said) == coarse
    assert all("steps of 40 in the file" in note for note in said)


def test_a_rounding_more_than_the_file_has_is_said() -> None:
    """The host adds a bias of several rows to a product that a kernel rounds."""
    node, scales = helper.make_node, ["t", "o"]
    nodes = [
        node("QuantizeLinear", ["x", *scales], ["q"]),
        node("DequantizeLinear", ["q", *scales], ["d"]),
        node("Gemm", ["d", "w", "c"], ["p"]),
        node("QuantizeLinear", ["p", *scales], ["r"]),
        node("DequantizeLinear", ["r", *scales], ["y"]),
    ]
    weights = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    constants = {"w": weights, "t": np.float32(1 / 50), "o": np.int8(0)}
    for bias, roundings in ((np.arange(8, dtype=np.float32).reshape(2, 4), 1), (weights[0], 0)):
        network = compile_network(
            model_of(nodes, c=bias, **constants), preset("edge"), [ROW], batch=None
        )
        said = [note for note in network.notes if "codes that are not the file's" in note]
        assert len(said) == roundings
        assert all(note.startswith("1 tensors") and "'p/product' first" in note for note in said)


def quantized_product(codes: Array, zero: Any) -> tuple[QuantizedStep, Network]:
    """x @ W, both quantized, on a machine."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "t", "o"], ["q"]),
        node("DequantizeLinear", ["q", "t", "o"], ["d"]),
        node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    scales = {"s": np.float32(0.1), "t": np.float32(1 / 127)}
    model = model_of(nodes, w=codes, z=zero, o=np.int8(0), **scales)
    network = compile_network(model, preset("edge"), [ROW], batch=None)
    (step,) = network.quantized.steps.values()
    assert step.weights is not None
    return step, network


@pytest.mark.parametrize("name", (*STATIC, *DYNAMIC))
def test_the_graph_is_that_of_the_file(files: Path, name: str) -> None:
    """The importer prices a quantized file and its float form alike."""
    model = onnx.load(files / name)
    before, after = import_onnx(model), import_onnx(dequantized(model).model)
    assert [op.name for op in before.operators()] == [op.name for op in after.operators()]
    assert [op.shape_key for op in before.operators()] == [op.shape_key for op in after.operators()]


def model_of(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A model from x to y, float[2, 4] each."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in "xy"]
    tensors = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def same(model: onnx.ModelProto) -> Dequantized:
    """The float form, which onnxruntime computes as the file but for rounding of activations."""
    found = dequantized(model)
    (wanted,), (value,) = (outputs(each, ROW, ["y"]) for each in (model, found.model))
    np.testing.assert_allclose(value, wanted, atol=0.02 * np.abs(wanted).max())
    return found


def test_weights_stored_as_int8_and_multiplied_by_their_scale() -> None:
    node = helper.make_node
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    nodes = [
        node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "s"], ["v"]),
        node("QuantizeLinear", ["x", "t", "z"], ["q"]),
        node("DequantizeLinear", ["q", "t", "z"], ["d"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    constants = {"w": codes, "s": scale, "t": np.float32(1 / 127), "z": np.int8(0)}
    found = same(model_of(nodes, **constants))
    assert found.weights == {"v", "w"} and found.units is not None
    network = compile_network(model_of(nodes, **constants), preset("edge"), [ROW], batch=None)
    (step,) = network.quantized.steps.values()
    assert step.weights is not None
    np.testing.assert_array_equal(step.weights, codes)


@pytest.mark.parametrize("function", ("Mul", "Div", "Add", "Sub"))
def test_a_number_a_column_before_weights_of_the_file_leaves_them_alone(function: str) -> None:
    """Folded into weights they would be new ones, coarser where the numbers differ much."""
    node = helper.make_node
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4) * 15
    nodes = [
        node(function, ["x", "c"], ["p"]),
        node("QuantizeLinear", ["p", "t", "o"], ["q"]),
        node("DequantizeLinear", ["q", "t", "o"], ["d"]),
        node("DequantizeLinear", ["w", "s", "o"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    constants = {"c": np.array([0.05, -0.6, 1, 0.1], np.float32), "t": np.float32(0.01)}
    model = model_of(nodes, w=codes, s=np.float32(0.1), o=np.int8(0), **constants)
    network = compile_network(model, preset("edge"), [ROW], batch=None)
    (weights,) = (s.weights for s in network.quantized.steps.values() if s.weights is not None)
    np.testing.assert_array_equal(weights, codes)
    assert len(import_onnx(model).dag) == len(network.plan.graph.dag) == 2


def test_float_weights_between_quantize_and_dequantize() -> None:
    """As quantization-aware training exports them; codes clip where the file's do."""
    node = helper.make_node
    weights = np.linspace(-2, 2, 16, dtype=np.float32).reshape(4, 4)
    nodes = [
        node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("MatMul", ["x", "d"], ["y"]),
    ]
    same(model_of(nodes, w=weights, s=np.float32(0.01), z=np.int8(0)))


@pytest.mark.parametrize(
    ("zero", "codes"),
    (
        (np.int8(0), Codes(0.5, 0)),
        (np.int8(-128), Codes(0.5, -128)),
        (np.int8(127), Codes(0.5, 127)),
        (np.int8(3), Codes(0.5, 3)),
        (np.uint8(128), Codes(0.5, 0)),
        (np.uint8(0), Codes(0.5, -128)),
        (np.uint8(255), Codes(0.5, 127)),
        (np.uint16(0), Codes(0.5 * 65535 / 255, -128)),
        (np.int16(0), Codes(0.5 * 32767 / 127, 0)),
    ),
)
def test_codes_of_activations(zero: Any, codes: Codes) -> None:
    """8 bits are the file's integers, moved by 128 where they have no sign; 16 are said to be cut."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    found = dequantized(model_of(nodes, s=np.float32(0.5), z=zero))
    assert found.activations["x"].zero == codes.zero
    assert found.activations["x"].scale == pytest.approx(codes.scale, rel=1e-4)
    assert bool(found.notes) == (zero.itemsize > 1)


def test_quantized_operators_without_a_float_form() -> None:
    nodes = [helper.make_node("QAttention", ["x"], ["y"], name="attend", domain="com.microsoft")]
    with pytest.raises(UnsupportedError, match="'attend': QAttention has no float form") as error:
        dequantized(model_of(nodes))
    assert "\n" not in str(error.value)
    nodes = [helper.make_node("DequantizeLinear", ["x", "s"], ["y"])]
    model = model_of(nodes, s=np.float32(1))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(UnsupportedError, match="integers 'x' are an input"):
        dequantized(model)
