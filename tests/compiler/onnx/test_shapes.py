"""Shapes that are told without ONNX's inference are those that it tells."""

import numpy as np
import onnx
import pytest

from codesign.compiler.onnx import shapes
from codesign.compiler.onnx.shapes import Node, Origin, Tensor, UnknownShape


def test_reshapes_are_as_onnx_infers_them() -> None:
    """Where one has the elements it asks for, and none but the unknown extent is left to be told."""
    rng = np.random.default_rng(0)
    node = Node("n", "Reshape", "", ("x", "s"), ("y",))
    proto = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    told = 0
    for _ in range(2000):
        shape = rng.choice([1, 2, 3, 4, 6], size=rng.integers(5)).tolist()
        wanted = rng.permutation(shape) if rng.integers(2) else rng.integers(-2, 13, len(shape))
        if len(wanted) and rng.integers(2):
            wanted[rng.integers(len(wanted))] = rng.integers(-1, 1)
        asked = np.asarray(wanted, dtype=np.int64)
        x = Tensor(onnx.TensorProto.FLOAT, tuple(shape), Origin.ACTIVATION)
        s = Tensor(onnx.TensorProto.INT64, asked.shape, Origin.CONSTANT, asked)
        direct = shapes._direct(node, [x, s])
        if direct is not None:
            told += 1
            assert [direct] == shapes._inferred(node, proto, {"x": x, "s": s}, 17)
    assert told > 500


def test_a_reshape_that_does_not_fit_is_refused() -> None:
    node = Node("n", "Reshape", "", ("x", "s"), ("y",))
    proto = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    x = Tensor(onnx.TensorProto.FLOAT, (2, 3), Origin.ACTIVATION)
    s = Tensor(onnx.TensorProto.INT64, (2,), Origin.CONSTANT, np.array([4, -1]))
    with pytest.raises(UnknownShape):
        shapes.output_types(node, proto, {"x": x, "s": s}, 17)
