"""By which codes the nodes of a quantized file read and write its float tensors.

Prices forget scales. Two things they must know: codes from zero up are a relu, which onnxruntime's
quantizer deletes for that reason; and tensors of different codes are different tensors.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx

from codesign.compiler.onnx.quantized_operators import QLINEAR
from codesign.compiler.onnx.shapes import Tensor

# Operators that compare with their operands, so that a relu in front of one is part of a clip.
LIMITING = frozenset({"Clip", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Min", "Where"})
_KEEPING = frozenset(
    {"Cast", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)


class Code(NamedTuple):
    """The names of a scale and zero point, and whether the lowest code stands for 0."""

    scale: str
    zero: str
    from_zero: bool


class FileCodes:
    """Follows the nodes of one file in order; tensors go by their names in the file."""

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self._read: dict[str, Code] = {}
        self._quantizers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            if node.op_type == "QuantizeLinear" and len(node.input) > 1:
                self._quantizers.setdefault(node.input[0], []).append(node)

    def follow(
        self, node: onnx.NodeProto, resolve: Callable[[str], str], tensors: Mapping[str, Tensor]
    ) -> None:
        """Learn from a node what its first output is written with, or shows."""
        at = 1 if node.op_type == "QuantizeLinear" else 0
        if node.op_type in QLINEAR:
            at = QLINEAR[node.op_type].output_scale
        if at and at < len(node.input):
            self._read[node.output[0]] = _code(node, at, resolve, tensors)
        elif node.op_type in _KEEPING and node.input[0] in self._read:
            self._read[node.output[0]] = self._read[node.input[0]]

    def of(self, name: str) -> Code | None:
        """The code in which a tensor is read under this name; None for floats."""
        return self._read.get(name)

    def written(self, name: str, resolve: Callable[[str], str]) -> frozenset[tuple[str, ...]]:
        """The scales and zero points that a float tensor is quantized with, under this name."""
        nodes = self._quantizers.get(name, ())
        return frozenset(tuple(map(resolve, node.input[1:])) for node in nodes)


def _code(
    node: onnx.NodeProto, at: int, resolve: Callable[[str], str], tensors: Mapping[str, Tensor]
) -> Code:
    scale, zero = resolve(node.input[at]), ""
    if at + 1 < len(node.input):
        zero = resolve(node.input[at + 1])
    if zero:
        value = tensors[zero].value if zero in tensors else None
        if value is None or value.size != 1 or value.dtype.kind not in "iu":
            return Code(scale, zero, False)
        return Code(scale, zero, int(value.item()) == np.iinfo(value.dtype).min)
    kinds = [a.i for a in node.attribute if a.name == "output_dtype"]
    unsigned = (0, onnx.TensorProto.UINT8, onnx.TensorProto.UINT16)
    return Code(scale, "", all(kind in unsigned for kind in kinds))
