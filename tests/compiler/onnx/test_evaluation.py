"""Short ways around ONNX's own tools give what the tools give: evaluation, splats and shapes."""

import tracemalloc
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_builder import ModelBuilder, run

from codesign.compiler.graph import Softmax
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.onnx import evaluation, shapes
from codesign.compiler.onnx.evaluation import node_outputs, splat
from codesign.compiler.onnx.shapes import Node, Origin, Tensor, output_types
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

Array = np.ndarray[Any, Any]
OPSET = 17


def _node(kind: str, inputs: int, **attributes: Any) -> tuple[Node, onnx.NodeProto]:
    names = tuple(f"x{i}" for i in range(inputs))
    proto = helper.make_node(kind, names, ["y"], name="n", **attributes)
    given = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    return Node("n", kind, "", names, ("y",), given), proto


def _runtime(proto: onnx.NodeProto, values: list[Array]) -> Array:
    inputs = [
        helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for i, v in enumerate(values)
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([proto], "one", inputs, [output])
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {f"x{i}": v for i, v in enumerate(values)})[0])


def _reference(proto: onnx.NodeProto, values: list[Array]) -> Array:
    feeds = {f"x{i}": value for i, value in enumerate(values)}
    (result,) = ReferenceEvaluator(proto, opsets={"": OPSET}).run(None, feeds)
    return np.asarray(result)


@pytest.mark.parametrize("kind", sorted(evaluation._ELEMENTWISE))
def test_elementwise_functions_are_those_of_onnxruntime(kind: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.uniform(0.1, 3, (4, 1, 5)).astype(np.float32)
    y = rng.uniform(-2, 2, (3, 1)).astype(np.float32)
    values = [x, y] if onnx.defs.get_schema(kind, OPSET).max_input == 2 else [x]
    node, proto = _node(kind, len(values))
    given = dict(zip(node.inputs, values, strict=True))
    for source in (proto, None):  # attributes from either
        (got,) = node_outputs(node, source, given, OPSET)
        expected = _runtime(proto, values)
        assert got.dtype == np.float32 and got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["Add", "Div", "Pow"])
def test_integers_keep_the_arithmetic_of_onnx(kind: str) -> None:
    values = [np.array([7, -7, 6]), np.array([2, 2, 3])]
    node, proto = _node(kind, 2)
    (got,) = node_outputs(node, proto, dict(zip(node.inputs, values, strict=True)), OPSET)
    expected = _reference(proto, values)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype


def test_one_session_serves_equal_nodes_and_no_others() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for axis in (0, 1, 0):
        node, proto = _node("Concat", 2, axis=axis)
        (got,) = node_outputs(node, proto, {"x0": x, "x1": x + 1}, OPSET)
        np.testing.assert_array_equal(got, np.concatenate([x, x + 1], axis))
    clip = Node("n", "Clip", "", ("x0", "", "x2"), ("y",))  # an optional input left out
    (got,) = node_outputs(clip, None, {"x0": x, "x2": np.array(3, np.float32)}, OPSET)
    np.testing.assert_array_equal(got, np.minimum(x, 3))
    unknown = Node("n", "NoSuchOperator", "", ("x0",), ("y",))
    assert node_outputs(unknown, None, {"x0": x}, OPSET) == []


RESHUFFLED: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("Expand", [np.array([2, 4, 200, 30])], {}),
    ("Flatten", [], {"axis": 1}),
    ("Gather", [np.array([[1, 0], [2, 3]])], {"axis": 0}),
    ("Reshape", [np.array([30, 800])], {}),
    ("Slice", [np.array([1]), np.array([3]), np.array([0])], {}),
    ("Squeeze", [], {}),
    ("Tile", [np.array([2, 1, 3])], {}),
    ("Transpose", [], {"perm": [2, 0, 1]}),
    ("Unsqueeze", [np.array([0, 2])], {}),
]


@pytest.mark.parametrize(("kind", "others", "attributes"), RESHUFFLED, ids=lambda v: str(v)[:9])
def test_a_view_of_one_number_is_one_number(
    kind: str, others: list[Array], attributes: dict[str, Any]
) -> None:
    assert {row[0] for row in RESHUFFLED} == evaluation._RESHUFFLES
    whole = np.full((4, 200, 30), -3.5, np.float32)
    view = np.broadcast_to(np.float32(-3.5), whole.shape)
    node, proto = _node(kind, 1 + len(others), **attributes)
    expected = _reference(proto, [whole, *others])
    got = splat(node, proto, view, expected.shape)
    assert got is not None and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    assert not any(got.strides), "it fills memory"
    assert splat(node, proto, whole, expected.shape) is None


@pytest.mark.parametrize("number", [None, np.float32(2.5), np.int64(-1), np.bool_(True)])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (500, 400)])
def test_constants_of_a_shape(number: Any, shape: tuple[int, ...]) -> None:
    attributes = {}
    if number is not None:
        attributes["value"] = onnx.numpy_helper.from_array(np.array([number]))
    node, proto = _node("ConstantOfShape", 1, **attributes)
    extents = np.array(shape, np.int64)
    expected = _reference(proto, [extents])
    given = {"x0": Tensor(TensorProto.INT64, extents.shape, Origin.CONSTANT, extents)}
    ((dtype, found),) = output_types(node, proto, given, OPSET)
    assert found == expected.shape
    assert dtype == helper.np_dtype_to_tensor_dtype(expected.dtype)
    got = splat(node, proto, extents, found)
    assert got is not None and got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [(kind, {}) for kind in sorted(shapes._LIKE_FIRST - shapes._NOT_INFERRED)]
    + [("Transpose", {}), ("Transpose", {"perm": [1, 2, 0]})],
)
def test_direct_shapes_are_what_onnx_infers(kind: str, attributes: dict[str, Any]) -> None:
    inputs = 2 if kind == "LayerNormalization" else 1
    node, proto = _node(kind, inputs, **attributes)
    shapes = [(2, 3, 5), (5,)][:inputs]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
        for n, shape in zip(node.inputs, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        helper.make_graph([proto], "g", infos, [output]), opset_imports=opsets
    )
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0]
    expected = tuple(d.dim_value for d in inferred.type.tensor_type.shape.dim)
    given = {
        n: Tensor(TensorProto.FLOAT, shape, Origin.ACTIVATION)
        for n, shape in zip(node.inputs, shapes, strict=True)
    }
    assert output_types(node, proto, given, OPSET) == [(TensorProto.FLOAT, expected)]


def test_weights_written_as_one_number_fill_no_memory() -> None:
    """BERT-large has 1.3 GB of weights."""
    model = export(family("bert-large"), seq=128, weights="splat")
    tracemalloc.start()
    try:
        import_onnx(model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("length", [8, 256])
def test_a_causal_mask_that_starts_as_one_number_is_still_one(length: int) -> None:
    """torch.full(...).triu(1) as it is exported, on both sides of where a number fills an array."""
    lowest = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(np.finfo(np.float32).min)])
    nodes = [
        helper.make_node("ConstantOfShape", ["extents"], ["full"], value=lowest),
        helper.make_node("Trilu", ["full", "one"], ["mask"], upper=1),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["y"], axis=-1),
    ]
    shapes = {"q": [length, 16], "k": [16, length]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [length, length])]
    constants = {"extents": np.array([length, length]), "one": np.array(1)}
    initializers = [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "masked", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    (softmax,) = (op for op in import_onnx(model).operators() if isinstance(op, Softmax))
    assert softmax.masked and softmax.causal and softmax.bias_elements == 0


def test_the_shape_of_a_group_normalization_is_what_it_computes() -> None:
    """ONNX infers none, so onnxruntime tells."""
    node, proto = _node("GroupNormalization", 3, num_groups=2)
    arrays = [np.ones(shape, np.float32) for shape in ((2, 4, 5), (4,), (4,))]
    given = {
        name: Tensor(TensorProto.FLOAT, array.shape, Origin.ACTIVATION)
        for name, array in zip(node.inputs, arrays, strict=True)
    }
    b = ModelBuilder(21)
    names = [b.input(name, array.shape) for name, array in zip("xsb", arrays, strict=True)]
    model = b.model(b.node("GroupNormalization", *names, num_groups=2))
    (computed,) = run(model, **dict(zip(names, arrays, strict=True)))
    assert output_types(node, proto, given, OPSET) == [(TensorProto.FLOAT, computed.shape)]


def test_the_shape_of_a_mean_variance_normalization_is_its_inputs() -> None:
    node, proto = _node("MeanVarianceNormalization", 1, axes=[1])
    x = np.ones((2, 4, 5), np.float32)
    b = ModelBuilder()
    model = b.model(b.node("MeanVarianceNormalization", b.input("x", x.shape), axes=[1]))
    (computed,) = run(model, x=x)
    given = {node.inputs[0]: Tensor(TensorProto.FLOAT, x.shape, Origin.ACTIVATION)}
    assert output_types(node, proto, given, OPSET) == [(TensorProto.FLOAT, computed.shape)]
