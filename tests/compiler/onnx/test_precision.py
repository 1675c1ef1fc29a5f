"""Half and double floats, constants as outputs, tables in Constant nodes: what files also hold."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_builder import ModelBuilder
from onnx_builder import run as float_run

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.numerics.masks import take_apart
from codesign.compiler.onnx.float_model import FloatModel
from codesign.compiler.onnx.precision import OTHER_FLOATS, in_float32
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import preset
from codesign.search.inputs import samples
from codesign.search.inputs.sources import Model

TYPES = {"float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}


def network(dtype: str) -> onnx.ModelProto:
    """A linear layer, a norm in steps and a constant output, all of one float type."""
    b = ModelBuilder(18)
    x = b.input("x", (6, 16), TYPES[dtype])
    y = b.node("MatMul", x, b.const(b.rng.normal(0, 0.3, (16, 12)), dtype))
    y = b.node("Add", y, b.const(b.rng.normal(0, 0.3, 12), dtype))
    centered = b.node("Sub", y, b.node("ReduceMean", y, b.ints(-1), keepdims=1))
    square = b.node("Mul", centered, centered)
    variance = b.node("Add", b.node("ReduceMean", square, b.ints(-1)), b.const(1e-5, dtype))
    y = b.node("Div", centered, b.node("Sqrt", variance))
    y = b.node("Add", y, b.const(np.ones(12), dtype))
    wide = b.node("Cast", y, to=TensorProto.FLOAT)
    y = b.node("Cast", wide, to=TYPES[dtype])
    model = b.model(y)
    model.graph.output[0].type.tensor_type.elem_type = TYPES[dtype]
    model.graph.output.append(helper.make_tensor_value_info("c0", TYPES[dtype], (16, 12)))
    return model


@pytest.mark.parametrize("dtype", TYPES)
def test_other_floats_run_and_keep_their_types(dtype: str) -> None:
    model, rng = network(dtype), np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((6, 16)).astype(dtype)} for _ in range(4)]
    wanted = float_run(model, x=feeds[0]["x"])
    compiled = compile_network(model, preset("ibert"), feeds, batch=None)
    found = list(run(compiled, feeds[0], "integers").values())
    assert [value.dtype for value in found] == [value.dtype for value in wanted]
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    error = found[0].astype(np.float64) - wanted[0].astype(np.float64)
    assert (error**2).sum() < 10**-2.8 * (wanted[0].astype(np.float64) ** 2).sum()
    assert all(step.work.problem is not None for step in compiled.plan.steps)


def test_no_other_float_is_left_in_any_graph() -> None:
    half = numpy_helper.from_array(np.array([-np.inf, 1e300, -2.0]), "half")
    inner = helper.make_node("Constant", [], ["i"], value=half)
    wide = helper.make_node("Cast", ["i"], ["o"], to=TensorProto.DOUBLE)
    output = helper.make_tensor_value_info("o", TensorProto.DOUBLE, (3,))
    branch = helper.make_graph([inner, wide], "branch", [], [output])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    condition = numpy_helper.from_array(np.array(True), "c")
    graph = helper.make_graph([node], "g", [], [output], [condition])
    graph.output[0].name = "y"
    changed = in_float32(helper.make_model(graph))
    then = changed.graph.node[0].attribute[0].g
    values = numpy_helper.to_array(then.node[0].attribute[0].t)
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(values, np.array([-np.inf, largest, -2], np.float32))
    assert then.node[1].attribute[0].i == TensorProto.FLOAT
    assert changed.graph.output[0].type.tensor_type.elem_type in OTHER_FLOATS  # as declared
    plain = network("double")
    assert in_float32(in_float32(plain)) == in_float32(plain) != plain


def test_a_model_of_float32_is_left_as_it_is() -> None:
    b = ModelBuilder()
    model = b.model(b.node("Relu", b.input("x", (2, 3))))
    assert in_float32(model) is model


def test_heads_below_one_another_are_no_causal_matrix() -> None:
    """Two heads of four queries are eight rows: a limit per row hides other keys than theirs."""
    one = np.where(np.tri(4, dtype=np.bool_), 0.0, -1e4)
    assert take_apart(one[np.newaxis], True, False) is not None
    assert take_apart(np.concatenate([one, one])[np.newaxis], True, False) is None


def test_a_softmax_along_another_axis_of_equal_extent() -> None:
    """Of an 8 x 8 matrix, columns are no rows: refused, or right."""
    b = ModelBuilder()
    x = b.input("x", (1, 8, 8))
    y = b.node("Softmax", b.node("Abs", x), axis=1)
    model = b.model(y)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 8)).astype(np.float32)}
    try:
        compiled = compile_network(model, preset("ibert"), [feeds], seq=8)
    except CodesignError as error:
        assert "softmax" in str(error)
        return
    (wanted,) = float_run(model, **feeds)
    (found,) = run(compiled, feeds, "integers").values()
    assert ((found - wanted) ** 2).sum() < 10**-2.5 * (wanted**2).sum()


def quantized_gemm(beta: float) -> onnx.ModelProto:
    """A Gemm of int8 weights that adds a column."""
    b = ModelBuilder()
    x = b.input("x", (6, 16))
    codes = b.const(b.rng.integers(-127, 128, (16, 8)), "int8")
    weights = b.node("DequantizeLinear", codes, b.const(0.01), b.const(0, "int8"))
    unit, zero = b.const(0.03), b.const(0, "int8")
    given = b.node("DequantizeLinear", b.node("QuantizeLinear", x, unit, zero), unit, zero)
    return b.model(b.node("Gemm", given, weights, b.weights(6, 1), alpha=0.5, beta=beta))


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_a_quantized_gemm_adds_a_column(beta: float) -> None:
    model, rng = quantized_gemm(beta), np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((6, 16)).astype(np.float32)} for _ in range(4)]
    (wanted,) = float_run(model, **feeds[0])
    compiled = compile_network(model, preset("ibert"), feeds, batch=None)
    (found,) = run(compiled, feeds[0], "integers").values()
    assert ((found - wanted) ** 2).sum() < 10**-3.0 * (wanted**2).sum()
    assert any(step.work.kind == "matmul" for step in compiled.plan.steps)


@pytest.mark.parametrize("as_node", [False, True])
def test_tables_of_indices_are_found(as_node: bool, tmp_path: Path) -> None:
    b = ModelBuilder()
    ids = b.input("ids", (1, 8), TensorProto.INT32)
    found: Any = b.node("Gather", b.const(b.rng.normal(0, 1, (9, 4))), ids)
    model = b.model(found)
    if as_node:
        (table,) = model.graph.initializer
        node = helper.make_node("Constant", [], [table.name], value=table)
        nodes = [node, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(nodes)
    graph = FloatModel(model)
    (given,) = samples.inputs_of(graph, _priced(), {})
    assert given.rows == 9


def _priced() -> Model:
    from codesign.compiler.graph import Graph

    return Model("m", Graph("m"), None, 1)


def test_tables_of_embedding_norms_are_found() -> None:
    b = ModelBuilder()
    ids = b.input("ids", (1, 8), TensorProto.INT32)
    tables = [b.const(b.rng.normal(0, 1, (rows, 4))) for rows in (30, 8)]
    affine = [b.const(np.ones(4)), b.const(np.zeros(4))]
    names = (ids, "", tables[0], tables[1], "", *affine)
    found, _ = b.node("EmbedLayerNormalization", *names, outputs=2, domain="com.microsoft")
    (given,) = samples.inputs_of(FloatModel(b.model(found)), _priced(), {})
    assert given.rows == 30
