"""Quantized ONNX operators, and the float operators that they stand for.

Pricing needs no more than that: scales and zero points disappear into the machine's own requantization.
What they say of a file's numbers is `dequantize`'s.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from codesign.compiler.onnx.shapes import Node

Array = np.ndarray[Any, Any]


class QLinear(NamedTuple):
    """A QLinear operator: its float form, and which inputs are what.

    `operands`: where each (value, scale, zero point) starts. `output_scale`: where the output's (scale,
    zero point) starts. `bias`: an int32 bias, 0 for none. `axis`: along which the scales of the second
    operand vary.
    """

    op_type: str
    operands: tuple[int, ...]
    output_scale: int
    bias: int = 0
    axis: int = -1


class Product(NamedTuple):
    """A product of integers: where the scale and zero point of A, those of B, and the bias are, -1 for
    none. Without a scale the product counts units of that operand.
    """

    a_scale: int
    a_zero: int
    b_scale: int
    b_zero: int
    bias: int = -1


QLINEAR: Mapping[str, QLinear] = {
    "QGemm": QLinear("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": QLinear("Add", (0, 3), 6),
    "QLinearAveragePool": QLinear("AveragePool", (0,), 3),
    "QLinearConcat": QLinear("Concat", (), 0),  # as many operands as there are, see `every_operand`
    "QLinearConv": QLinear("Conv", (0, 3), 6, bias=8, axis=0),
    "QLinearGlobalAveragePool": QLinear("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": QLinear("LeakyRelu", (0,), 3),
    "QLinearMatMul": QLinear("MatMul", (0, 3), 6),
    "QLinearMul": QLinear("Mul", (0, 3), 6),
    "QLinearSigmoid": QLinear("Sigmoid", (0,), 3),
    "QLinearSoftmax": QLinear("Softmax", (0,), 3),
}
PRODUCTS: Mapping[str, Product] = {
    "MatMulInteger": Product(-1, 2, -1, 3),
    "MatMulIntegerToFloat": Product(2, 4, 3, 5, 6),
    "DynamicQuantizeMatMul": Product(-1, -1, 2, 3, 4),  # of a float A
}
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})

# The float operator and which of the quantized one's inputs it keeps, where only pricing knows it.
_PRICED: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "ConvInteger": ("Conv", (0, 1)),
    "DynamicQuantizeMatMul": ("DynamicQuantizeMatMul", (0, 1, 4)),
    "MatMulInteger": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMulIntegerToFloat", (0, 1, 6)),
    "QAttention": ("Attention", (0, 1, 2, 5)),
    "QEmbedLayerNormalization": ("EmbedLayerNormalization", (0, 1, 2, 3, 4, 5, 6, 7)),
    "QLinearReduceMean": ("ReduceMean", (0,)),
}
_CONTRIB_AFTER_REDUCTION = frozenset(
    {"Attention", "DynamicQuantizeMatMul", "EmbedLayerNormalization", "MatMulIntegerToFloat"}
)


def every_operand(op_type: str, inputs: int) -> tuple[int, ...]:
    """Where the operands of a QLinear operator with so many inputs start."""
    return tuple(range(2, inputs, 3)) if op_type == "QLinearConcat" else QLINEAR[op_type].operands


def without_quantization(node: Node) -> Node:
    """Return the float operator that a quantized one stands for, other nodes as they are."""
    if node.op_type in _PRICED:
        op_type, kept = _PRICED[node.op_type]
    elif node.op_type in QLINEAR:
        form = QLINEAR[node.op_type]
        op_type = form.op_type
        kept = every_operand(node.op_type, len(node.inputs)) + (form.bias,) * (form.bias > 0)
    else:
        return node
    domain = node.domain if op_type in _CONTRIB_AFTER_REDUCTION else ""
    return replace(node, op_type=op_type, domain=domain, inputs=tuple(map(node.input, kept)))


def dequantize(
    value: Array | None, scale: Array | None = None, zero: Array | None = None
) -> Array | None:
    """Return (value - zero) * scale, None when value or scale is unknown."""
    if value is None or scale is None:
        return None
    offset = 0.0 if zero is None else zero.astype(np.float32)
    with np.errstate(over="ignore"):  # the lowest float as a mask
        floats: Array = (value.astype(np.float32) - offset) * scale
    return floats
