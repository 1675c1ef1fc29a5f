"""What the import makes one of several nodes, made one in the file itself.

`run` asks pieces of a file what operators compute, and has the host compute others: a node that stands
for equal ones, and a softmax written out in steps, have to be there too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx

from codesign.compiler.onnx.equal_nodes import share
from codesign.compiler.onnx.fold import fold
from codesign.compiler.onnx.load import read_model
from codesign.compiler.onnx.shapes import Shape
from codesign.compiler.recognition.patterns import recognise
from codesign.compiler.rewrite.dequantize import Dequantized
from codesign.compiler.rewrite.file_clamps import CLIPPED


@dataclass(frozen=True)
class Recognised:
    """By tensor, the equal one that stays; and by its result, each softmax: its scores and axis.

    `sources`: of what the Clip of a clamp writes, what it reads, for models without that Clip.
    """

    equal: Mapping[str, str] = field(default_factory=dict)
    softmaxes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def rewritten(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The model with one node each; those that it stands for stay where nobody reads them."""
        if not self.equal and not self.softmaxes:
            return model
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        del changed.graph.node[:]
        written = {name for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            first = node.output[0] if node.output else ""
            same = [(name, self.equal[name]) for name in node.output if name in self.equal]
            if same:
                changed.graph.node.extend(
                    onnx.helper.make_node("Identity", [kept], [name], name=f"{name}/equal")
                    for name, kept in same
                )
            elif first in self.softmaxes and node.op_type != "Softmax":
                scores, axis = self.softmaxes[first]
                while scores in self.sources and scores not in written:
                    scores = self.sources[scores]
                title = node.name or first
                changed.graph.node.append(
                    onnx.helper.make_node("Softmax", [scores], [first], name=title, axis=axis)
                )
            else:
                changed.graph.node.append(node)
        return changed


NOTHING = Recognised()
_CLAMP = "clamp"  # a domain of no operator


def recognised(every: Dequantized, plain: Dequantized, shapes: Mapping[str, Shape]) -> Recognised:
    """What is one in a file, of which `every` has all clamps as Clips and `plain` none.

    Results that are quantized with other codes, or read beside them as well, are not equal.
    """
    graph = fold(read_model(every.model), shapes, _codes(every, plain))
    if graph.unsupported:
        return Recognised()
    clamps = [node for node in graph.nodes() if node.outputs[0].endswith(CLIPPED)]
    for node in clamps:  # what kernels write ends there: no pattern reaches across
        graph.rewrite(replace(node, domain=_CLAMP))
    recognise(graph)
    equal = share(graph)
    softmaxes = {}
    for node in graph.nodes():
        if node.op_type == "Softmax" and len(node.inputs) == 1 and len(node.outputs) == 1:
            scores, (output,) = node.inputs[0], node.outputs
            rank = len(graph.tensors[scores].shape)
            axis = node.attribute("axis", -1) % rank
            if graph.opset >= 13 or axis == rank - 1:
                softmaxes[output] = (scores, axis)
    return Recognised(equal, softmaxes, {node.outputs[0]: node.inputs[0] for node in clamps})


def _codes(every: Dequantized, plain: Dequantized) -> Mapping[str, object]:
    """By tensor, in which codes and ranges it is read, and whether also in float."""
    read = {value.name for value in every.model.graph.output}
    for node in every.model.graph.node:
        if not node.output[0].endswith(CLIPPED):
            read.update(node.input)
    ends: dict[str, set[tuple[float, float]]] = {}
    for clamp in every.clamps:
        ends.setdefault(clamp.source, set()).add((clamp.low, clamp.high))
    names = {*ends, *plain.activations}
    return {
        name: (plain.activations.get(name), frozenset(ends.get(name, ())), name in read)
        for name in names
    }
