"""By which codes the nodes of a quantized file read and write its float tensors.

Prices forget scales. Three things they must know: codes from zero up are a relu, which onnxruntime's
quantizer deletes for that reason; so are codes that end where a clip does; and tensors of different
codes are different tensors.
"""

from collections import Counter
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
    """The names of a scale and zero point, whether the lowest code stands for 0, and all that codes
    stand for, where it is known.
    """

    scale: str
    zero: str
    from_zero: bool
    reach: tuple[float, float] | None = None


class FileCodes:
    """Follows the nodes of one file in order; tensors go by their names in the file."""

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self.reaches: dict[str, tuple[float, float]] = {}  # of tensors that are read by codes alone
        self._read: dict[str, Code] = {}
        self._quantizers: dict[str, list[onnx.NodeProto]] = {}
        self._readers: Counter[str] = Counter()
        for node in nodes:
            self._readers.update(node.input)
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
            code = self._read[node.output[0]] = _code(node, at, resolve, tensors)
            source = node.input[0] if node.op_type == "QuantizeLinear" else node.output[0]
            written = self._quantizers.get(source, ())
            alone = len({tuple(node.input[1:]) for node in written}) == 1
            alone = alone and len(written) == self._readers[source]
            if code.reach and resolve(source) == source and (alone or source == node.output[0]):
                self.reaches[source] = code.reach
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
        limits, at = np.iinfo(value.dtype), int(value.item())
        step = tensors[scale].value if scale in tensors else None
        if step is None or step.size != 1:
            return Code(scale, zero, at == limits.min)
        low, high = (float(step.item()) * (end - at) for end in (limits.min, limits.max))
        return Code(scale, zero, at == limits.min, (low, high))
    kinds = [a.i for a in node.attribute if a.name == "output_dtype"]
    unsigned = (0, onnx.TensorProto.UINT8, onnx.TensorProto.UINT16)
    return Code(scale, "", all(kind in unsigned for kind in kinds))
