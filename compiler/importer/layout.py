"""Handlers for nodes that choose or rearrange elements: Reshape, Transpose, Slice, Gather, Concat.

Most only change the View. What no view can show the host copies, as the int8 values that they are:
rows that are gathered, joined, padded or repeated. An embedding look-up is the host's work too.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.views import expanded_column, gathered_column, reshaped_column
from codesign.compiler.onnx.shapes import Node, Origin

WORD_BYTES = 8  # of the host: it copies shorter runs byte by byte


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
    """Expand and Tile: a view that shows the same elements several times."""
    source, output = node.inputs[0], node.outputs[0]
    column = emitter.views[source].column
    old, new = emitter.shape(source), emitter.shape(output)
    emitter.alias(output, source, expanded_column(column, old, new))
    view = emitter.views[output]
    times = math.prod(new) // math.prod(old)
    emitter.views[output] = replace(view, repeats=view.repeats * times)


def cast(emitter: Emitter, node: Node) -> None:
    emitter.alias(node.outputs[0], node.inputs[0], emitter.views[node.inputs[0]].column)


def part(emitter: Emitter, node: Node) -> None:
    """Slice and Split: a view of neighbouring elements, a copy of every second one."""
    source = node.inputs[0]
    strided = _strided_axes(emitter, node) if node.op_type == "Slice" else []
    if strided:
        _copied(emitter, node, source, strided)
        return
    for output in filter(None, node.outputs):
        whole = emitter.tensor(output).elements == emitter.tensor(source).elements
        emitter.alias(output, source, emitter.views[source].column, part=not whole)


def _strided_axes(emitter: Emitter, node: Node) -> list[int]:
    """The axes along which a Slice takes several elements that are no neighbours in order."""
    steps = emitter.value(node.input(4))
    if steps is None:
        return []
    rank = len(emitter.shape(node.inputs[0]))
    axes = emitter.value(node.input(3))
    named = range(rank) if axes is None else (int(axis) % rank for axis in axes.ravel())
    kept = emitter.shape(node.outputs[0])
    return [a for a, step in zip(named, steps.ravel(), strict=False) if step != 1 and kept[a] > 1]


def gather(emitter: Emitter, node: Node) -> None:
    """Gather from a table of weights is an embedding; with neighbouring constant indices a slice."""
    data, indices = node.inputs[:2]
    output = node.outputs[0]
    if not emitter.is_activation(data):
        emitter.host(node, "embedding", [indices], output, count=emitter.tensor(output).elements)
        return
    axis = node.attribute("axis", 0) % len(emitter.shape(data))
    if not _neighbours(emitter, indices):
        _copied(emitter, node, data, [axis])
        return
    column = emitter.views[data].column
    column = gathered_column(column, axis, len(emitter.shape(indices)))
    column = min(max(column, 0), max(len(emitter.shape(output)) - 1, 0))
    emitter.alias(output, data, column, part=True)


def _neighbours(emitter: Emitter, indices: str) -> bool:
    """Whether indices are constants that count up by one."""
    value = emitter.value(indices)
    if emitter.origin(indices) != Origin.CONSTANT or value is None:
        return False
    flat = value.ravel()
    return bool((flat[1:] - flat[:-1] == 1).all())


def _copied(emitter: Emitter, node: Node, source: str, axes: Sequence[int]) -> None:
    """The host gathers elements of `source` along `axes`: whole rows, or bytes within them."""
    rows = emitter.views[source].column not in axes
    output = node.outputs[0]
    inputs = [n for n in node.inputs if n and emitter.origin(n) != Origin.CONSTANT]
    count = emitter.tensor(output).elements
    copy = "rows" if rows else "bytes"
    emitter.host(node, node.op_type.lower(), inputs, output, count=count, copy=copy)


def concat(emitter: Emitter, node: Node) -> None:
    """Parts of one tensor in their order stay a view of it; otherwise the largest part stays where
    it is, if its place can be left for it, and the host copies the others beside it."""
    output = node.outputs[0]
    varying = [n for n in node.inputs if emitter.origin(n) != Origin.CONSTANT]
    column = next(emitter.views[n].column for n in varying if n in emitter.views)
    whole = node.inputs[0] if len(node.inputs) == 1 else _reassembled(emitter, node)
    if whole:
        emitter.alias(output, whole, column)
        return
    sizes = [emitter.tensor(name).elements for name in node.inputs]
    largest = node.inputs[sizes.index(max(sizes))]
    axis = node.attribute("axis", 0) % len(emitter.shape(output))
    count = sum(sizes)
    if largest not in varying or _can_grow(emitter, largest, axis):
        count -= max(sizes)
    emitter.host(node, "concat", varying, output, count=count, copy="rows")
    emitter.views[output] = emitter.views[output].moved(column)


def _reassembled(emitter: Emitter, node: Node) -> str:
    """The tensor that a Concat puts together again from all the parts of a Split; "" for others."""
    producers = [emitter.graph.producer(name) for name in node.inputs]
    first = producers[0]
    if first is None or first.op_type != "Split" or first.outputs != node.inputs:
        return ""
    source = first.inputs[0]
    axes = (n.attribute("axis", 0) % len(emitter.shape(source)) for n in (first, node))
    return source if len(set(axes)) == 1 else ""


def _can_grow(emitter: Emitter, name: str, axis: int) -> bool:
    """Whether elements fit behind `name` along `axis` while it stays where it is.

    Behind rows or columns of one whole matrix they do. Within it the writer would have to leave gaps: the
    host can, and whoever gives an input.
    """
    if not emitter.is_activation(name) or not emitter.on_mesh(name):
        return True
    view = emitter.views[name]
    return view.whole and (view.column == axis or math.prod(emitter.shape(name)[:axis]) == 1)


def pad(emitter: Emitter, node: Node) -> None:
    """Pad: nothing where it adds nothing; rows behind or before a matrix; else a copy of it all."""
    source, output = node.inputs[0], node.outputs[0]
    shape, padded = emitter.shape(source), emitter.shape(output)
    axes = [a for a, (old, new) in enumerate(zip(shape, padded, strict=True)) if old != new]
    if not axes and not _moves(emitter, node):
        emitter.alias(output, source, emitter.views[source].column)
        return
    count = emitter.tensor(output).elements
    grows = len(axes) == 1 and padded[axes[0]] > shape[axes[0]]
    if grows and _can_grow(emitter, source, axes[0]):
        count -= emitter.tensor(source).elements
    emitter.host(node, "pad", [source], output, count=count, copy="rows")


def _moves(emitter: Emitter, node: Node) -> bool:
    """Whether a Pad that keeps the shape adds what it cuts off at the other end."""
    pads = node.attribute("pads")
    if pads is None:
        value = emitter.value(node.input(1))
        pads = None if value is None else value.ravel().tolist()
    return pads is None or any(pads)


def resize(emitter: Emitter, node: Node) -> None:
    """Resize and Upsample: to the nearest neighbour a copy, else the host's float work."""
    source, output = node.inputs[0], node.outputs[0]
    old, new = emitter.shape(source), emitter.shape(output)
    if old == new and node.attribute("coordinate_transformation_mode") != "tf_crop_and_resize":
        emitter.alias(output, source, emitter.views[source].column)
    elif node.attribute("mode", "nearest") == "nearest":
        axes = [
            a for a, (before, after) in enumerate(zip(old, new, strict=True)) if before != after
        ]
        _copied(emitter, node, source, axes)
    else:
        emitter.host(node, node.op_type.lower(), [source], output)


def depth_to_space(emitter: Emitter, node: Node) -> None:
    """DepthToSpace and SpaceToDepth: runs of channels, or single ones where they are interleaved."""
    source, output = node.inputs[0], node.outputs[0]
    channels = min(emitter.shape(source)[1], emitter.shape(output)[1])
    runs = node.attribute("mode", "DCR") == "DCR" and emitter.views[source].column == 1
    copy = "rows" if runs and channels >= WORD_BYTES else "bytes"
    count = emitter.tensor(output).elements
    emitter.host(node, node.op_type.lower(), [source], output, count=count, copy=copy)


def gather_elements(emitter: Emitter, node: Node) -> None:
    """GatherElements and GatherND: single values, or rows where GatherND leaves axes whole."""
    data, indices = node.inputs[:2]
    inputs = [name for name in (data, indices) if emitter.origin(name) != Origin.CONSTANT]
    output = node.outputs[0]
    shape = emitter.shape(data)
    named = emitter.shape(indices)[-1] + node.attribute("batch_dims", 0)
    left = shape[named:] if node.op_type == "GatherND" else ()
    copy = "rows" if math.prod(left) >= WORD_BYTES else "bytes"
    count = emitter.tensor(output).elements
    emitter.host(node, node.op_type.lower(), inputs, output, count=count, copy=copy)


def scatter(emitter: Emitter, node: Node) -> None:
    """ScatterND, ScatterElements and TensorScatter: only what is written over moves."""
    updates = node.inputs[1 if node.op_type == "TensorScatter" else 2]
    inputs = [n for n in node.inputs if n and emitter.origin(n) != Origin.CONSTANT]
    copy = "bytes" if node.op_type == "ScatterElements" else "rows"
    count = emitter.tensor(updates).elements
    emitter.host(node, node.op_type.lower(), inputs, node.outputs[0], count=count, copy=copy)
