"""Nodes that compute again what one before them does, as in files without common-subexpression elimination.

`fold` numbers the values of a file, `share` lets one node stand for equal ones behind `patterns`:
normalizations that an exporter wrote out share steps and stay what they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import onnx

from codesign.compiler.onnx.file_codes import FileCodes
from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.quantized_operators import QLINEAR
from codesign.compiler.onnx.shapes import Node, Tensor

_RANDOM = frozenset({"Bernoulli", "Multinomial"})  # and what has it in its name
_PLACEHOLDERS = frozenset({"ConstantOfShape", "Expand", "Tile"})  # of one number: some weights each
_COMMUTATIVE = frozenset({"Add", "And", "Equal", "Max", "Mean", "Min", "Mul", "Or", "Sum", "Xor"})
_QUANTIZED_COMMUTATIVE = frozenset({"QLinearAdd", "QLinearMul"})
_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
Key = tuple[object, ...]


def is_random(op_type: str) -> bool:
    """Whether an operator gives other numbers each time."""
    return op_type in _RANDOM or "Random" in op_type


def attribute_key(proto: onnx.NodeProto, domain: str, opset: int) -> tuple[bytes, ...]:
    """The attributes of a node that are not what its operator, in float, takes for granted."""
    op_type = QLINEAR[proto.op_type].op_type if proto.op_type in QLINEAR else proto.op_type
    defaults = _defaults(op_type, domain, opset)
    found = []
    for attribute in proto.attribute:
        value = attribute
        if attribute.doc_string:
            value = onnx.AttributeProto()
            value.CopyFrom(attribute)
            value.ClearField("doc_string")
        data = value.SerializeToString(deterministic=True)
        if data != defaults.get(attribute.name):
            found.append(data)
    return tuple(sorted(found))


@lru_cache(maxsize=1024)
def _defaults(op_type: str, domain: str, opset: int) -> Mapping[str, bytes]:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except (onnx.defs.SchemaError, ValueError, TypeError):
        return {}
    return {
        name: attribute.default_value.SerializeToString(deterministic=True)
        for name, attribute in schema.attributes.items()
    }


@lru_cache(maxsize=1024)
def _default_axis(op_type: str, domain: str, opset: int) -> int | None:
    """The axis that an operator without one runs along; None for one that has none."""
    data = _defaults(op_type, domain, opset).get("axis", b"")
    default = onnx.AttributeProto.FromString(data)
    return default.i if default.type == onnx.AttributeProto.INT else None


@dataclass
class EqualValues:
    """Numbers the values of one file: by tensor, in `first`, the first that holds the same.

    `codes` are those of the file, `resolve` gives a tensor the name that it goes by in `tensors`, and
    those that differ in `apart` are other values.
    """

    codes: FileCodes
    resolve: Callable[[str], str]
    tensors: Mapping[str, Tensor]
    apart: Mapping[str, object]
    first: dict[str, str] = field(default_factory=dict)
    _made: dict[Key, tuple[str, ...]] = field(default_factory=dict)

    def add(self, node: Node, proto: onnx.NodeProto, opset: int, constant: bool) -> None:
        """Number what a node writes, a `constant` or not. What is read or written in other codes is
        another value.
        """
        if is_random(node.op_type) or (constant and node.op_type in _PLACEHOLDERS):
            return
        inputs: list[Key] = []
        for name in proto.input:
            source = self.resolve(name)
            inputs.append((self.first.get(source, source), self.codes.of(name)))
        if proto.op_type in _COMMUTATIVE:
            inputs.sort(key=str)
        elif proto.op_type in _QUANTIZED_COMMUTATIVE:  # (value, scale, zero point) of each operand
            operands = sorted((inputs[:3], inputs[3:6]), key=str)
            inputs[:6] = [*operands[0], *operands[1]]
        written = tuple(
            (self.codes.written(name, self.resolve), self.apart.get(name)) for name in proto.output
        )
        there = tuple(map(bool, proto.output))
        op_type, attributes = proto.op_type, self._attributes(node, proto, opset)
        if op_type in _VIEWS and not node.domain:  # whichever leads to the shape
            op_type, inputs = "Reshape", inputs[:1]
            attributes = self.tensors[node.outputs[0]].shape
        key = (op_type, node.domain, tuple(inputs), attributes, written, there)
        outputs = self._made.setdefault(key, node.outputs)
        if outputs is not node.outputs:
            self.first.update(zip(node.outputs, outputs, strict=True))

    def _attributes(self, node: Node, proto: onnx.NodeProto, opset: int) -> Key:
        """The attributes of a node, an axis counted from the front."""
        found = attribute_key(proto, node.domain, opset)
        axis = node.attribute("axis", _default_axis(node.op_type, node.domain, opset))
        if (
            not isinstance(axis, int)
            or node.domain
            or node.op_type == "OneHot"
            or not node.input(0)
        ):
            return found
        rank = len(self.tensors[node.inputs[0]].shape)
        data = onnx.helper.make_attribute("axis", axis).SerializeToString(deterministic=True)
        return (*(each for each in found if each != data), axis % rank if rank else axis)


def share(graph: OnnxGraph) -> dict[str, str]:
    """Take nodes away whose results another one has: by the tensors that go, those that stay."""
    kept: dict[str, str] = {}
    gone: dict[str, str] = {}
    for node in list(graph.nodes()):
        written = [name for name in node.outputs if name]
        values = [graph.first.get(name, name) for name in written]
        if all(value in kept for value in values):
            gone.update((name, kept[value]) for name, value in zip(written, values, strict=True))
            continue
        kept.update(zip(values, written, strict=True))
        if not gone.keys().isdisjoint(node.inputs):
            inputs = tuple(gone.get(name, name) for name in node.inputs)
            graph.rewrite(replace(node, inputs=inputs))
    if gone:
        graph.outputs = tuple(gone.get(name, name) for name in graph.outputs)
        graph.prune()
    return gone
