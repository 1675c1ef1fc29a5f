"""Quantized ONNX operators as the float operators they stand for.

Scales and zero points disappear into the machine's own requantization.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from codesign.compiler.onnx_shapes import Node

Array = np.ndarray[Any, Any]

# The float operator and which of the quantized one's inputs it keeps.
_QUANTIZED: dict[str, tuple[str, tuple[int, ...]]] = {
    "ConvInteger": ("Conv", (0, 1)),
    "DynamicQuantizeMatMul": ("DynamicQuantizeMatMul", (0, 1, 4)),
    "MatMulInteger": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMulIntegerToFloat", (0, 1, 6)),
    "QAttention": ("Attention", (0, 1, 2, 5)),
    "QEmbedLayerNormalization": ("EmbedLayerNormalization", (0, 1, 2, 3, 4, 5, 6, 7)),
    "QGemm": ("Gemm", (0, 3, 6)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearConv": ("Conv", (0, 3, 8)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearLeakyRelu": ("LeakyRelu", (0,)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearReduceMean": ("ReduceMean", (0,)),
    "QLinearSigmoid": ("Sigmoid", (0,)),
    "QLinearSoftmax": ("Softmax", (0,)),
}
_CONTRIB_AFTER_REDUCTION = {"Attention", "EmbedLayerNormalization"}
_CONTRIB_AFTER_REDUCTION |= {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


def without_quantization(node: Node) -> Node:
    """Return the float operator that a quantized one stands for, other nodes as they are."""
    if node.op_type == "QLinearConcat":
        return replace(node, op_type="Concat", domain="", inputs=node.inputs[2::3])
    if node.op_type not in _QUANTIZED:
        return node
    op_type, kept = _QUANTIZED[node.op_type]
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
