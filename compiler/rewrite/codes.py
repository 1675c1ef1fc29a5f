"""What the integers of a quantized ONNX file stand for: a scale, a zero point, and a range.

Integers have a meaning through the nodes that write and read them. It must be one: `Meanings` gives each
constant that is read in two ways a second name, and refuses activations that are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.onnx.quantized_operators import PRODUCTS, QLINEAR, every_operand
from codesign.compiler.rewrite.given_scales import LOWEST, Codes
from codesign.hw.errors import UnsupportedError

Array = npt.NDArray[Any]
BITS = 8  # of the machine's codes
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
# The operators whose elements are those of their first input, and those that keep all in order or not.
PARTS = frozenset({"Expand", "Gather", "GatherElements", "GatherND", "MaxPool", "Slice", "Split"})
VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


class Code(NamedTuple):
    """What integers mean: the names of scale ("" for 1) and zero point, and where they vary."""

    scale: str
    zero: str = ""
    axis: int = -1
    block: int = 0


@dataclass(frozen=True)
class Reach:
    """What the integers of an activation stand for: codes of the machine, and from where to where."""

    codes: Codes
    low: float
    high: float
    bits: int

    @classmethod
    def of(cls, scale: Array, zero: Array | None, low: int, high: int) -> "Reach | None":
        """Of integers from `low` to `high`; None where there is more than one scale.

        Codes of up to 8 bits are the integers, moved; those of fewer around 0, or from the lowest on
        where nothing lies below 0. Raises ValueError for a scale that is not positive and finite.
        """
        if scale.size != 1 or (zero is not None and zero.size != 1):
            return None
        middle, unit = 0 if zero is None else int(zero.reshape(())), float(scale.reshape(()))
        if not (unit > 0 and np.isfinite(unit)):
            raise ValueError(f"its scale is {unit:g} and must be above 0")
        bits = (high - low).bit_length()
        ends = (low - middle) * unit, (high - middle) * unit
        if bits > BITS:
            codes = Codes.over(*ends)
        elif bits == BITS or middle == low:
            codes = Codes(unit, middle - low + LOWEST)
        else:
            codes = Codes(unit)
        return cls(codes, *ends, bits)


class Meanings:
    """The code of every tensor of integers, by name, and the nodes as they read them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Raises UnsupportedError for activations that are written and read by different codes."""
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.tensors |= {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self.codes: dict[str, Code] = {}
        self.nodes = [self._read(node) for node in graph.node]
        moves = [node for node in self.nodes if node.op_type in VIEWS | PARTS]
        self.fixed = set(self.tensors)  # constants, and what only moves them
        for node in moves:
            self.fixed.update(node.output if node.input[0] in self.fixed else ())
        for node in reversed(moves):
            if node.output[0] in self.codes:
                self._agree(node.input[0], self._before(node), node)

    def value(self, name: str) -> Array | None:
        """The value of a constant."""
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def scale(self, name: str) -> Array | None:
        """The scale of this name, 1 without a name; None for one that is computed."""
        value = np.ones(()) if not name else self.value(name)
        return None if value is None else value.astype(np.float32)

    def _zero(self, name: str) -> Array | None:
        return self.value(name) if name else np.zeros(1)

    def _read(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Learn from a node what it reads and writes; itself, or a copy that reads other names."""
        for name, code in _written(node):
            self._agree(name, code, node)
        for index, code in self._codes_read(node):
            name = node.input[index]
            known = self.codes.get(name)
            if name in self.tensors and known is not None and not self._equal(known, code):
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                node, again = copy, f"{name}/{node.output[0]}"
                node.input[index] = again
                self.tensors[again], self.codes[again] = self.tensors[name], code
            else:
                self._agree(name, code, node)
        return node

    def _codes_read(self, node: onnx.NodeProto) -> Iterator[tuple[int, Code]]:
        """Which inputs of a node are integers, and their codes."""
        kind = node.op_type
        if kind == "DequantizeLinear":
            yield 0, code_of(node, 1)
        elif kind in QLINEAR:
            form = QLINEAR[kind]
            axis = 0 if kind == "QGemm" and attribute(node, "transB", 0) else form.axis
            for at in every_operand(kind, len(node.input)):
                yield at, Code(node.input[at + 1], given(node, at + 2), axis)
        elif kind in PRODUCTS:
            product = PRODUCTS[kind]
            if product.a_scale > 0:
                yield 0, Code(given(node, product.a_scale), given(node, product.a_zero))
            yield 1, Code(given(node, product.b_scale), given(node, product.b_zero))
        elif kind == "Cast" and attribute(node, "to", 0) in _FLOATS:
            tensor = self.tensors.get(node.input[0])
            if tensor is not None and tensor.data_type in (TensorProto.INT8, TensorProto.UINT8):
                yield 0, Code("")

    def _before(self, node: onnx.NodeProto) -> Code:
        """The code of what a node moves, from that of its result: scales may vary along another axis."""
        code = self.codes[node.output[0]]
        scale = self.scale(code.scale)
        varies = scale is None or scale.size > 1
        if not varies or node.input[0] not in self.fixed or node.op_type == "Identity":
            return code
        held = self.tensors.get(node.input[0])
        order = attribute(node, "perm", [] if held is None else [*range(len(held.dims))][::-1])
        if node.op_type != "Transpose" or not order or code.block:
            name = node.name or node.output[0]
            raise unsupported(name, "it moves integers whose scales vary along an axis")
        return code._replace(axis=order[code.axis % len(order)])

    def _agree(self, name: str, code: Code, node: onnx.NodeProto) -> None:
        known = self.codes.setdefault(name, code)
        if not self._alike(known, code):
            raise unsupported(
                node.name or node.output[0], f"{name!r} is written and read with different scales"
            )

    def _equal(self, one: Code, other: Code) -> bool:
        """Whether two codes of a constant are one, along the same axis."""
        scale = self.scale(one.scale)
        uniform = scale is not None and scale.size == 1
        return self._alike(one, other) and (uniform or one[2:] == other[2:])

    def _alike(self, one: Code, other: Code) -> bool:
        """Whether two codes have the same numbers; views may move the axis that they vary along."""
        if one[:2] == other[:2]:
            return True
        for a, b in (
            (self.scale(one.scale), self.scale(other.scale)),
            (self._zero(one.zero), self._zero(other.zero)),
        ):
            if a is None or b is None or not np.array_equal(a.ravel(), b.ravel()):
                return False
        return True


def _written(node: onnx.NodeProto) -> Iterator[tuple[str, Code]]:
    """The integers that a quantizing node writes."""
    if node.op_type == "QuantizeLinear":
        yield node.output[0], code_of(node, 1)
    elif node.op_type == "DynamicQuantizeLinear":
        yield node.output[0], Code(node.output[1], node.output[2])
    elif node.op_type in QLINEAR:
        at = QLINEAR[node.op_type].output_scale
        if given(node, at):
            yield node.output[0], Code(given(node, at), given(node, at + 1))


def code_of(node: onnx.NodeProto, at: int) -> Code:
    """The code of a QuantizeLinear or DequantizeLinear, whose scale is input `at`."""
    axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)
    return Code(given(node, at), given(node, at + 1), axis, block)


def along(values: Array, shape: tuple[int, ...], code: Code) -> Array:
    """Scales or zero points broadcast to the shape of what they scale."""
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), shape)
    if code.block:
        repeated = np.repeat(values, code.block, axis=code.axis)
        return repeated[tuple(slice(extent) for extent in shape)]
    if values.ndim == 1:
        axis = code.axis % len(shape)
        values = values.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    return np.broadcast_to(values, shape)


def integer_range(zero: Array | None, data_type: int, where: str) -> tuple[int, int]:
    """The least and largest integer of a quantized tensor; uint8 where nothing says another.

    Raises UnsupportedError for codes that are no integers (float8), of the node named `where`.
    """
    if zero is not None:
        kind = zero.dtype
    else:
        kind = helper.tensor_dtype_to_np_dtype(data_type or TensorProto.UINT8)
    if not kind.name.startswith(("int", "uint")):
        raise unsupported(where, f"its codes are {kind.name}, no integers")
    bits = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}.get(kind.name, 8 * kind.itemsize)
    if kind.name.startswith("uint"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def given(node: onnx.NodeProto, index: int) -> str:
    """The name of an input, "" where it is left out or has no place."""
    return str(node.input[index]) if 0 <= index < len(node.input) else ""


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute."""
    for each in node.attribute:
        if each.name == name:
            return helper.get_attribute_value(each)
    return default


def unsupported(where: str, reason: str) -> UnsupportedError:
    """What is said of a place in a quantized file that has no float form here."""
    return UnsupportedError(
        f"cannot read the quantized model at {where!r}: {reason}; give the float model, or one with "
        "QuantizeLinear and DequantizeLinear pairs"
    )
