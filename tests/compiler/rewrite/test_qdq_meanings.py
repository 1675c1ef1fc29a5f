"""What the integers of a quantized file mean: the float model beside onnxruntime's answer.

The same integers read with two scales, scales that vary along an axis which moves, codes that are none.
"""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_builder import CONTRIB, Array, ModelBuilder

from codesign.compiler.rewrite.dequantize import dequantized
from codesign.hw.errors import UnsupportedError

ROWS, WIDTH = 6, 16
STEP = 0.03  # of the input's codes
Form = Callable[[ModelBuilder, str], list[str]]


def exactly(model: onnx.ModelProto, x: Array) -> list[Array]:
    """onnxruntime's answer without its optimizer, whose 8-bit products saturate on some processors."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


def built(form: Form, opset: int = 13) -> onnx.ModelProto:
    b = ModelBuilder(opset)
    return b.model(*form(b, b.input("x", (ROWS, WIDTH))))


def codes(b: ModelBuilder, x: str, scale: float = STEP) -> tuple[str, list[str]]:
    parameters = [b.const(scale), b.const(3, "int8")]
    return b.node("QuantizeLinear", x, *parameters), parameters


def floats(b: ModelBuilder, x: str) -> str:
    integers, parameters = codes(b, x)
    return str(b.node("DequantizeLinear", integers, *parameters))


def integers(b: ModelBuilder, *shape: int) -> str:
    return b.const(b.rng.integers(-120, 120, shape), "int8")


def two_scales(b: ModelBuilder, x: str) -> list[str]:
    weights, zero = integers(b, WIDTH, WIDTH), b.const(0, "int8")
    x = floats(b, x)
    return [
        b.node("MatMul", x, b.node("DequantizeLinear", weights, b.const(scale), zero))
        for scale in (0.01, 0.05)
    ]


def two_axes(b: ModelBuilder, x: str) -> list[str]:
    weights, scales = integers(b, WIDTH, WIDTH), b.const(b.rng.uniform(0.001, 0.05, WIDTH))
    zeros = b.const(np.zeros(WIDTH), "int8")
    x = floats(b, x)
    return [
        b.node("MatMul", x, b.node("DequantizeLinear", weights, scales, zeros, axis=axis))
        for axis in (0, 1)
    ]


def turned(b: ModelBuilder, x: str) -> list[str]:
    """The scales of columns, of weights that the file has as rows."""
    weights = b.node("Transpose", integers(b, WIDTH, WIDTH), perm=[1, 0])
    scales = b.const(b.rng.uniform(0.001, 0.05, WIDTH)), b.const(np.zeros(WIDTH), "int8")
    turned = b.node("DequantizeLinear", weights, *scales, axis=1)
    return [b.node("MatMul", floats(b, x), turned)]


def one_bias(b: ModelBuilder, x: str) -> list[str]:
    """A bias counts products, whose units differ from operator to operator."""
    bias = b.const(b.rng.integers(-3000, 3000, WIDTH), "int32")
    read, parameters = codes(b, x)
    found = []
    for scale in (0.01, 0.002):
        weights = integers(b, WIDTH, WIDTH), b.const(scale), b.const(0, "int8")
        made = [b.const(20 * scale), b.const(0, "int8")]
        y = b.node("QGemm", read, *parameters, *weights, bias, *made, domain=CONTRIB)
        found.append(b.node("DequantizeLinear", y, *made))
    return found


@pytest.mark.parametrize("form", [two_scales, two_axes, turned, one_bias])
def test_integers_mean_what_each_reader_says(form: Form) -> None:
    model = built(form)
    before = model.SerializeToString()
    x = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    plain = dequantized(model, None).model
    for wanted, found in zip(exactly(model, x), exactly(plain, x), strict=True):
        # The float model rounds nothing; a QGemm rounds its result.
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert error < 0.02
    assert model.SerializeToString() == before


def test_weights_that_a_file_rounds_in_blocks() -> None:
    def form(b: ModelBuilder, x: str) -> list[str]:
        scales = b.const(b.rng.uniform(0.005, 0.05, (WIDTH // 4, WIDTH)))
        settings = {"axis": 0, "block_size": 4}
        weights = b.const(b.rng.normal(size=(WIDTH, WIDTH)))
        rounded = b.node("QuantizeLinear", weights, scales, **settings, output_dtype=3)
        return [b.node("MatMul", x, b.node("DequantizeLinear", rounded, scales, **settings))]

    model = built(form, 21)
    x = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    (wanted,), (found,) = exactly(model, x), exactly(dequantized(model, None).model, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def other_scale(b: ModelBuilder, x: str) -> list[str]:
    read, (_, zero) = codes(b, x)
    return [b.node("DequantizeLinear", read, b.const(2 * STEP), zero)]


def other_zero(b: ModelBuilder, x: str) -> list[str]:
    read, (scale, _) = codes(b, x)
    view = b.node("Reshape", read, b.ints(WIDTH, ROWS))
    return [b.node("DequantizeLinear", view, scale, b.const(4, "int8"))]


def rows_of_a_table(b: ModelBuilder, x: str) -> list[str]:
    table = b.node("Gather", integers(b, ROWS, WIDTH), b.ints(3, 1))
    scales = b.const(b.rng.uniform(0.01, 0.05, WIDTH)), b.const(np.zeros(WIDTH), "int8")
    return [b.node("MatMul", x, b.node("DequantizeLinear", table, *scales, axis=1), transB=1)]


def small_floats(b: ModelBuilder, x: str) -> list[str]:
    b.constants.append(helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    scale = b.const(STEP)
    read = b.node("QuantizeLinear", x, scale, "zero")
    return [b.node("DequantizeLinear", read, scale, "zero")]


def scale_of(number: float) -> Form:
    def form(b: ModelBuilder, x: str) -> list[str]:
        read, parameters = codes(b, x, number)
        return [b.node("DequantizeLinear", read, *parameters)]

    return form


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (other_scale, "written and read with different scales"),
        (other_zero, "written and read with different scales"),
        (rows_of_a_table, "it moves integers whose scales vary along an axis"),
        (small_floats, "its codes are float8_e4m3fn, no integers"),
        (scale_of(-STEP), "its scale is -0.03 and must be above 0"),
        (scale_of(0.0), "its scale is 0 and"),
        (scale_of(float("nan")), "its scale is nan and"),
    ],
)
def test_what_has_no_one_meaning_is_refused(form: Form, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        dequantized(built(form, 19), None)
