"""Masks of constants: what they hold, against its definition, however many rows are looked at at once;
and large ones, which files store or compute."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from codesign.compiler.graph import Softmax
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.onnx import masks
from codesign.compiler.onnx.load import LARGEST_INTEGER_CONSTANT

Array = np.ndarray[Any, Any]
LONG = 2100  # tokens, with a mask of more elements than other constants that are read
assert LONG**2 > LARGEST_INTEGER_CONSTANT


def is_triangle(value: Array) -> bool:
    """By definition: later keys are hidden, or have another value than all others."""
    if value.ndim < 2 or min(value.shape[-2:]) < 2 or value.shape[-1] < value.shape[-2]:
        return False
    rows, cols = value.shape[-2:]
    future = np.triu(np.ones((rows, cols), bool), k=1 + cols - rows)
    late, early = value[..., future], value[..., ~future]
    if value.dtype.kind == "f" and (late <= -1e3).all():
        return bool((early > -1e3).all())
    return bool((late == late.flat[0]).all() and (early == early.flat[0]).all()) and bool(
        late.flat[0] != early.flat[0]
    )


@st.composite
def constants(draw: st.DrawFn) -> Array:
    """Triangles of several kinds and shapes, some with one element changed."""
    heads, rows, past = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(-1, 3))
    shape = (heads, rows, max(1, rows + past))
    future = np.broadcast_to(np.triu(np.ones(shape[1:], bool), k=1 + shape[2] - rows), shape)
    numbers = st.sampled_from((0.0, 1.0, -1e4, -2e4, -np.inf, 2.0))
    kind = draw(st.sampled_from((np.float32, np.bool_, np.int64)))
    low, high = draw(numbers), draw(numbers)
    if kind is not np.float32:
        low, high = float(np.isfinite(low)), float(high > 0)
    value = np.where(future, low, high)
    if kind is np.float32 and draw(st.booleans()):
        value = value + np.random.default_rng(draw(st.integers(0, 9))).uniform(0, 1, shape)
    if draw(st.booleans()):
        value[tuple(draw(st.integers(0, extent - 1)) for extent in shape)] = draw(numbers)
    if kind is np.int64:
        value = np.nan_to_num(value, neginf=-9)
    return value.astype(kind)


@given(value=constants(), strip=st.sampled_from((1, 7, 1 << 22)))
def test_what_a_constant_holds(value: Array, strip: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_STRIP", strip)
        assert masks.lower_triangle(value) == is_triangle(value)
        assert masks._same_rows(value) == bool((value == value[..., :1, :]).all())
        only = value.dtype == np.bool_ or ((value == 0) | (np.abs(value) >= 1e3)).all()
        assert masks._only_hides(value) == bool(only)


def stored() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A mask that the file holds."""
    later = np.triu(np.full((LONG, LONG), -1e4, np.float32), k=1)
    return [], [numpy_helper.from_array(later, "mask")]


def computed() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A mask that the file computes of places."""
    values: dict[str, Array] = {
        "zero": np.array(0), "one": np.array(1), "length": np.array(LONG), "axis": np.array([1]),
        "low": np.array(-1e4, np.float32), "none": np.array(0, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Range", ["zero", "length", "one"], ["keys"]),
        helper.make_node("Unsqueeze", ["keys", "axis"], ["queries"]),
        helper.make_node("Greater", ["keys", "queries"], ["later"]),
        helper.make_node("Where", ["later", "low", "none"], ["mask"]),
    ]
    return nodes, [numpy_helper.from_array(v, name) for name, v in values.items()]


@pytest.mark.parametrize("made", (stored, computed))
def test_a_large_triangle_is_a_causal_mask(made: Any) -> None:
    """And not a bias as large as the scores."""
    nodes, tensors = made()
    nodes = [
        *nodes,
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    shapes = {"q": [1, 2, LONG, 16], "k": [1, 2, 16, LONG], "v": [1, 2, LONG, 16]}
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shapes["q"])
    graph = helper.make_graph(nodes, "long", inputs, [output], tensors)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    (softmax,) = (op for op in import_onnx(model).operators() if isinstance(op, Softmax))
    assert softmax.causal and softmax.masked and not softmax.bias_elements
