"""The names of an If's branch, where its nodes take the If's place."""

from collections.abc import Mapping

import onnx


def renamed(proto: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy of a node with the branch's own tensors renamed, also where nested branches read them.

    What nested branches write is renamed when they are inlined, and hides what they do not read then.
    """
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    copy.output[:] = [names.get(name, name) for name in proto.output]
    _rename_read(copy, names)
    return copy


def _rename_read(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            own = own_names(attribute.g)
            outer = {name: new for name, new in names.items() if name not in own}
            for inner in attribute.g.node:
                _rename_read(inner, outer)
            for output in attribute.g.output:
                output.name = outer.get(output.name, output.name)


def own_names(graph: onnx.GraphProto) -> set[str]:
    """The names of tensors that a branch makes itself."""
    written = {name for node in graph.node for name in node.output if name}
    return written | {weights.name for weights in graph.initializer}
