"""An If whose condition is a constant runs as the branch that it takes."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_builder import ModelBuilder
from onnx_builder import run as float_run

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.onnx.float_model import FloatModel
from codesign.compiler.rewrite.branches import without_branches
from codesign.hw.machine.config import preset

FLOAT = TensorProto.FLOAT


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    found = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [found])


def choosing(condition: str, b: ModelBuilder, x: str, columns: int) -> str:
    """x @ w, and where the condition does not hold also a sum, in an If of its own."""
    weights, factor = b.weights(columns, 8), b.const(np.full(8, 0.5))
    product = helper.make_node("MatMul", [x, weights], ["y"], "product")
    inner = branch("inner", helper.make_node("Add", ["y", factor], ["z"], "sum"))
    nested = helper.make_node("If", [condition], ["u"], then_branch=inner, else_branch=inner)
    graphs = {
        "then_branch": branch("then", product),
        "else_branch": branch("else", product, nested),
    }
    return str(b.node("If", condition, **graphs))


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("from_shape", [True, False])
def test_a_constant_condition(holds: bool, from_shape: bool) -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 6, 12))
    if from_shape:
        rows: Any = b.node("Gather", b.node("Shape", x), b.const(1, "int64"))
        condition = b.node("Equal", rows, b.const(6 if holds else 7, "int64"))
    else:
        condition = b.const(holds, "bool")
    y = choosing(condition, b, x, 12)
    y = choosing(condition, b, str(b.node("Relu", y)), 8)
    model = b.model(y)
    plain = without_branches(model, {"x": (1, 6, 12)})
    assert not any(node.op_type == "If" for node in plain.graph.node)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 6, 12)).astype(np.float32)}
    (wanted,) = float_run(model, **feeds)
    np.testing.assert_array_equal(float_run(plain, **feeds)[0], wanted)
    own = FloatModel(model)  # with what only the branches read
    np.testing.assert_array_equal(own.part((), own.outputs)(feeds)[y], wanted)
    compiled = compile_network(model, preset("ibert"), [feeds], seq=6)
    found = run(compiled, feeds, "integers")[y]
    assert ((found - wanted) ** 2).sum() < 10**-2.5 * (wanted**2).sum()


def test_a_condition_of_data_stays() -> None:
    b = ModelBuilder()
    x, flag = b.input("x", (1, 6, 12)), b.input("flag", (1,), TensorProto.BOOL)
    model = b.model(choosing(flag, b, x, 12))
    assert without_branches(model, {"x": (1, 6, 12), "flag": (1,)}) == model
