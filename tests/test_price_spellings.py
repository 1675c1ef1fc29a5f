"""One computation has one price, however its file spells it.

Every family is one computation in several spellings: fused and decomposed, float and quantized,
operators of the standard and of com.microsoft. All cost the same cycles, DRAM bytes,
multiply-accumulates and energy. Where two differ in truth, a test of its own says why.
"""

import math
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx_builder import ModelBuilder
from onnxruntime.quantization import QuantFormat
from price_forms import price, quantized

Step = Callable[[ModelBuilder, str], str]
SEQ, WIDTH, WIDE = 8, 32, 64


def between_layers(step: Step, opset: int = 17) -> onnx.ModelProto:
    """A projection [8, 32] -> [8, 64], `step` on its result, and a projection back."""
    b = ModelBuilder(opset)
    x = b.input("x", (1, SEQ, WIDTH))
    y = step(b, b.node("MatMul", x, b.weights(WIDTH, WIDE)))
    return b.model(b.node("MatMul", y, b.weights(WIDE, WIDTH)))


def gelu_tanh(b: ModelBuilder, x: str) -> str:
    cubed = b.node("Mul", b.node("Pow", x, b.const(3.0)), b.const(0.044715))
    inner = b.node("Mul", b.node("Add", x, cubed), b.const(math.sqrt(2 / math.pi)))
    half = b.node("Mul", x, b.const(0.5))
    return str(b.node("Mul", half, b.node("Add", b.node("Tanh", inner), b.const(1.0))))


@pytest.mark.parametrize("written", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_quantized_file_costs_what_the_float_one_does(
    written: QuantFormat, tmp_path: Path
) -> None:
    model = between_layers(gelu_tanh)
    assert price(quantized(model, tmp_path, written)) == price(model)
