"""Writes the standard ONNX nodes that stand for a fused one: see `decompose`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx

from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.shapes import Node, Origin, Shape

Array = np.ndarray[Any, Any]


@dataclass
class Writer:
    """The nodes that stand for one node. `node` is the folded one, whose inputs have shapes."""

    graph: OnnxGraph
    node: Node
    proto: onnx.NodeProto
    taken: set[str]  # names of tensors
    titles: set[str]  # and of nodes
    read: set[str]  # tensors that somebody reads
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    reason: str = ""  # why it stays one node

    def stays(self, reason: str) -> bool:
        """Leave the node whole: what a decomposer then returns. `reason` goes on from its name."""
        self.reason = reason
        return False

    def input(self, index: int) -> str:
        """The name of an input in the file, "" where it is left out."""
        return self.proto.input[index] if index < len(self.proto.input) else ""

    def output(self, index: int) -> str:
        """The name of an output, "" where nobody reads it."""
        name = self.proto.output[index] if index < len(self.proto.output) else ""
        return name if name in self.read else ""

    def shape(self, index: int) -> Shape:
        """The shape of an input, () where it is left out."""
        name = self.node.input(index)
        return self.graph.tensors[name].shape if name else ()

    def value(self, index: int) -> Array | None:
        """An input's value, where it is a small constant."""
        name = self.node.input(index)
        return self.graph.tensors[name].value if name else None

    def varies(self, index: int) -> bool:
        """Whether an input is an activation."""
        name = self.node.input(index)
        return bool(name) and self.graph.tensors[name].origin == Origin.ACTIVATION

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attribute(name, default)

    def add(
        self, op_type: str, *inputs: str, into: str = "", label: str = "", **attributes: Any
    ) -> str:
        """Append a node; its output is `into`, or a new tensor called after `label`."""
        label = label or op_type.lower()
        output = into or self._name(label)
        self.node_of(op_type, inputs, [output], label, **attributes)
        return output

    def node_of(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        label: str,
        **attributes: Any,
    ) -> None:
        """Append a node of several outputs."""
        title = self._unused(f"{self.node.name}/{label}", self.titles)
        node = onnx.helper.make_node(op_type, inputs, outputs, name=title, **attributes)
        self.nodes.append(node)

    def constant(self, value: object, dtype: str = "float32") -> str:
        """A constant, in the floats of every model that runs where no `dtype` is given."""
        name = self._name("constant")
        array = np.asarray(value, dtype)
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def reshape(self, name: str, shape: tuple[int, ...], into: str = "", label: str = "") -> str:
        return self.add("Reshape", name, self.constant(shape, "int64"), into=into, label=label)

    def transpose(self, name: str, *perm: int, into: str = "", label: str = "") -> str:
        return self.add("Transpose", name, into=into, label=label, perm=list(perm))

    def slice(self, name: str, axis: int, start: int, end: int, label: str = "") -> str:
        ends = [self.constant([number], "int64") for number in (start, end, axis)]
        return self.add("Slice", name, *ends, label=label)

    def only(self, *attributes: str) -> bool:
        """Whether the node has no attributes but these, all of whose meaning is known."""
        return {attribute.name for attribute in self.proto.attribute} <= set(attributes)

    def _name(self, label: str) -> str:
        return self._unused(f"{next(filter(None, self.proto.output))}/{label}", self.taken)

    def _unused(self, stem: str, taken: set[str]) -> str:
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}{count}"
        taken.add(name)
        return name


Decomposer: TypeAlias = Callable[[Writer], bool]  # False: the node stays as it is
