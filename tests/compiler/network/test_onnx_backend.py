"""ONNX's own node tests on the functional model: all of supported operators, but the listed ones.

A test passes when the model without the machine gives ONNX's result within the test's own tolerance, and
every kernel, on the int8 inputs that it read, is within its bound (`kernel_bounds`); inputs are within half
a unit. What runs no kernel is the host's and has to meet the test's own tolerance.
"""

import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
import pytest
from kernel_bounds import Checked
from onnx import TensorProto, helper, numpy_helper
from onnx_skipped import SKIPPED

from codesign.compiler.importer.import_onnx import NothingToCompute
from codesign.compiler.importer.operators import HANDLERS
from codesign.compiler.network.inference import run
from codesign.compiler.network.onnx_backend import FunctionalBackend, FunctionalModel
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import preset

Array = np.ndarray[Any, Any]
# Operators without a handler of their own: folded away, or evaluated where they are constant.
FOLDED = {"Constant", "ConstantOfShape", "Dropout", "Identity", "Shape", "Size"}
FOLDED |= {"DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QuantizeLinear"}
FOLDED |= {"QLinearMatMul"}
OPERATORS = HANDLERS.keys() | FOLDED
TYPES = {"FLOAT", "FLOAT16", "DOUBLE", "BOOL"}
TYPES |= {f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}
DEVICE = "edge"
LISTED = [(pattern, why) for why, names in SKIPPED.items() for pattern in names.split()]


class Case:
    """A node test of ONNX's suite with numpy inputs and outputs."""

    def __init__(self, case: Any) -> None:
        self.name, self.model = str(case.name), case.model
        self.inputs, self.outputs = ([_array(v) for v in side] for side in case.data_sets[0])
        self.rtol, self.atol = case.rtol, case.atol


def _array(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.HasField("tensor_type")
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)) if tensor else ""


def cases() -> Iterator[Case]:
    """The node tests of supported operators on tensors of types that numpy has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero to make its data
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
    for case in found:
        assert case.model is not None
        values = (*case.model.graph.input, *case.model.graph.output)
        known = all(_type(value) in TYPES for value in values)
        if known and OPERATORS >= {node.op_type for node in case.model.graph.node}:
            yield Case(case)


def failure(case: Case) -> str:
    """Why a case fails, "" when it passes."""
    try:
        rep = FunctionalBackend.prepare(case.model, DEVICE)
        found, worst = outputs(rep, case)
    except CodesignError as error:
        assert "\n" not in str(error)
        return str(error)
    over = {name: share for name, share in worst.items() if not share <= 1}
    if over:
        return f"kernels beyond their bounds: {over}"
    for value, wanted in zip(found, case.outputs, strict=True):
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            return f"{value.dtype}{value.shape} instead of {wanted.dtype}{wanted.shape}"
        exact = wanted.dtype.kind not in "fc"
        same = (
            np.array_equal(value, wanted)
            if exact
            else np.allclose(value, wanted, case.rtol, case.atol, equal_nan=True)
        )
        if not same:
            return "differs from ONNX's result"
    return ""


def outputs(rep: FunctionalModel, case: Case) -> tuple[list[Array], dict[str, float]]:
    """The float model's outputs where kernels ran, else the run's; and the kernels' errors."""
    feeds = rep.feeds(case.inputs)
    try:
        network, left = rep.compiled(feeds)
    except NothingToCompute:
        return list(rep.run(case.inputs)), {}
    checked = Checked(network, left)
    found = run(network, left, checked)
    names = [value.name for value in case.model.graph.output]
    if checked.worst:
        found = network.model.declared(network.model.part((), names)(left))
    return [found[name] for name in names], checked.worst


def reason(name: str) -> str:
    """Why a test is listed, "" when it is not."""
    return next((why for pattern, why in LISTED if fnmatchcase(name, pattern)), "")


def test_the_node_tests_of_onnx() -> None:
    """Every test passes or is listed, and no listed one would pass."""
    failing, passing, kernels = [], [], 0
    unused = {pattern for pattern, _ in LISTED}
    for case in cases():
        why = failure(case)
        listed = reason(case.name)
        unused -= {pattern for pattern in unused if fnmatchcase(case.name, pattern)}
        if why and not listed:
            failing.append(f"{case.name}: {why}")
        elif listed and not why:
            passing.append(case.name)
        kernels += not why
    assert not failing, "\n".join(failing)
    assert not passing, f"listed as skipped, but pass: {passing}"
    assert not unused, f"match no test: {sorted(unused)}"
    assert kernels > 500


def test_a_node_by_itself() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((5, 7), (7, 3)))
    (found,) = FunctionalBackend.run_node(helper.make_node("MatMul", ["a", "b"], ["y"]), [a, b])
    units = (np.abs(a).max() / 127, np.abs(b).max() / 127, np.abs(a @ b).max() / 127)
    inputs = units[0] * np.abs(b).sum(axis=0) + units[1] * np.abs(a).sum(axis=1)[:, np.newaxis]
    assert (np.abs(found - a @ b) <= 0.51 * (inputs + units[2])).all()
    assert np.abs(found - a @ b).max() > 0  # it is not the float model that answers


def test_graphs_without_a_kernel_run_on_the_host() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (turned,) = FunctionalBackend.run_node(helper.make_node("Transpose", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(turned, x.T)
    node = helper.make_node("Add", ["x", "x"], ["y"])
    (doubled,) = FunctionalBackend.run_node(node, [x.astype(np.int64)] * 2)
    np.testing.assert_array_equal(doubled, 2 * x)


def test_devices_are_preset_machines() -> None:
    assert FunctionalBackend.supports_device("CPU") and FunctionalBackend.supports_device("large")
    assert not FunctionalBackend.supports_device("CUDA")
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "relu", value[:1], value[1:]))
    assert FunctionalBackend.prepare(model).config == preset("ibert")
    assert FunctionalBackend.prepare(model, "edge").config == preset("edge")
    assert FunctionalBackend.is_compatible(model)
    node.op_type = "Det"
    unknown = helper.make_model(helper.make_graph([node], "det", value[:1], value[1:]))
    assert not FunctionalBackend.is_compatible(unknown)


def test_inputs_by_name_and_their_number() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "relu", value[:1], value[1:]))
    rep = FunctionalBackend.prepare(model)
    x = np.array([[-1, 0, 127]], np.float32)
    np.testing.assert_array_equal(rep.run({"x": x})[0], [[0, 0, 127]])
    np.testing.assert_array_equal(rep.run([x]).y, [[0, 0, 127]])  # type: ignore[attr-defined]
    with pytest.raises(CodesignError, match="has 1 inputs, not 2"):
        rep.run([x, x])
    with pytest.raises(CodesignError, match=r"the model needs 'x': its inputs are \['x'\]"):
        rep.run({})
    with pytest.raises(CodesignError, match="the model does not take 'z'"):
        rep.run({"x": x, "z": x})
    with pytest.raises(CodesignError, match=r"MatMul has 2 inputs, not 1: \['a', 'b'\]"):
        FunctionalBackend.run_node(helper.make_node("MatMul", ["a", "b"], ["y"]), [x])


def test_what_is_zero_needs_no_range() -> None:
    """Zeros in, zeros that cancel, and zeros by the function: the machine computes each."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal((4, 2), dtype=np.float32)
    zeros, negative = np.zeros((3, 4), np.float32), -np.ones((3, 4), np.float32)
    alternating = np.array([[1, -1, 1, -1]], np.float32)
    ones = np.ones_like(b)
    for operator, inputs in (
        ("MatMul", [zeros, b]),
        ("MatMul", [alternating, ones]),
        ("Relu", [negative]),
        ("Add", [zeros, zeros]),
    ):
        node = helper.make_node(operator, ["a", "b"][: len(inputs)], ["y"])
        (found,) = FunctionalBackend.run_node(node, inputs)
        assert found.shape == (len(inputs[0]), 2 if operator == "MatMul" else 4)
        assert not found.any()


def test_what_is_zero_whatever_comes_in_runs() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    value = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("a", [3, 4]), ("y", [3, 2]))
    }
    weights = numpy_helper.from_array(np.zeros((4, 2), np.float32), "b")
    graph = helper.make_graph([node], "zero", [value["a"]], [value["y"]], [weights])
    rep = FunctionalBackend.prepare(helper.make_model(graph))
    (y,) = rep.run([np.ones((3, 4), np.float32)])
    np.testing.assert_array_equal(y, np.zeros((3, 2), np.float32))
