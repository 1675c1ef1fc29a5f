"""Handlers for nodes that choose or rearrange elements: Reshape, Transpose, Slice, Gather, Concat.

Most only change the View; an embedding look-up and joining tensors are the host's work.
"""

from codesign.compiler.onnx_emit import Emitter
from codesign.compiler.onnx_shapes import Node, Origin
from codesign.compiler.onnx_views import expanded_column, gathered_column, reshaped_column


def reshape(emitter: Emitter, node: Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: the same elements in the same order."""
    source, output = node.inputs[0], node.outputs[0]
    column = emitter.views[source].column
    new = reshaped_column(column, emitter.shape(source), emitter.shape(output))
    emitter.alias(output, source, new)


def transpose(emitter: Emitter, node: Node) -> None:
    source = node.inputs[0]
    rank = len(emitter.shape(source))
    permutation = node.attribute("perm", list(range(rank))[::-1])
    emitter.alias(node.outputs[0], source, permutation.index(emitter.views[source].column))


def expand(emitter: Emitter, node: Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    column = emitter.views[source].column
    emitter.alias(
        output, source, expanded_column(column, emitter.shape(source), emitter.shape(output))
    )


def cast(emitter: Emitter, node: Node) -> None:
    emitter.alias(node.outputs[0], node.inputs[0], emitter.views[node.inputs[0]].column)


def part(emitter: Emitter, node: Node) -> None:
    """Slice and Split: some of the elements."""
    source = node.inputs[0]
    for output in filter(None, node.outputs):
        whole = emitter.tensor(output).elements == emitter.tensor(source).elements
        emitter.alias(output, source, emitter.views[source].column, part=not whole)


def gather(emitter: Emitter, node: Node) -> None:
    """Gather from a table of weights is an embedding; with constant indices it is a slice."""
    data, indices = node.inputs[:2]
    output = node.outputs[0]
    if not emitter.is_activation(data):
        emitter.host(node, "embedding", [indices], output, count=emitter.tensor(output).elements)
    elif emitter.origin(indices) == Origin.CONSTANT:
        axis = node.attribute("axis", 0) % len(emitter.shape(data))
        column = emitter.views[data].column
        column = gathered_column(column, axis, len(emitter.shape(indices)))
        column = min(max(column, 0), max(len(emitter.shape(output)) - 1, 0))
        emitter.alias(output, data, column, part=True)
    else:
        count = emitter.tensor(output).elements
        emitter.host(node, "gather", [data, indices], output, count=count)


def concat(emitter: Emitter, node: Node) -> None:
    """Parts of one tensor stay a view of it; otherwise the largest part stays where it is and
    the host copies the others beside it."""
    output = node.outputs[0]
    varying = [n for n in node.inputs if emitter.origin(n) != Origin.CONSTANT]
    sources = {emitter.source(name) for name in varying}
    column = next(emitter.views[n].column for n in varying if n in emitter.views)
    if len(sources) == 1 and len(varying) == len(node.inputs):
        emitter.alias(output, next(n for n in varying if n in emitter.views), column, part=True)
        return
    sizes = [emitter.tensor(name).elements for name in node.inputs]
    emitter.host(node, "concat", varying, output, count=sum(sizes) - max(sizes))
    emitter.views[output] = emitter.views[output].moved(column)
