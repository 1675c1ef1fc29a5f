"""Sums: of two activations, of one and a constant or a mask, of several."""

from dataclasses import replace

from codesign.compiler.graph import Add
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.layout import cast
from codesign.compiler.importer.matmul import bias
from codesign.compiler.onnx.shapes import Node


def add(emitter: Emitter, node: Node) -> None:
    """A residual sum, a bias, a mask, or an embedding sum, by what the operands are."""
    a, b = node.inputs
    if emitter.is_activation(a) and emitter.is_activation(b):
        emitter.pairwise(Add, node.name, a, b, node.outputs[0])
    elif emitter.is_activation(a):
        bias(emitter, node, a, b, node.outputs[0])
    else:
        bias(emitter, node, b, a, node.outputs[0])


def sum_(emitter: Emitter, node: Node) -> None:
    """Variadic Sum as a chain of Adds."""
    total = node.inputs[0]
    for index, name in enumerate(node.inputs[1:], 1):
        last = index == len(node.inputs) - 1
        output = node.outputs[0] if last else f"{node.outputs[0]}/{index}"
        emitter.graph.tensors.setdefault(output, emitter.tensor(node.outputs[0]))
        add(emitter, replace(node, inputs=(total, name), outputs=(output,)))
        total = output
    if len(node.inputs) == 1:
        cast(emitter, node)
