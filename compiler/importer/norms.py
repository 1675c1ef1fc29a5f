"""Norms: LayerNorm and RMSNorm, by themselves or with the sum before them, and BatchNorm."""

import math
from dataclasses import replace

from codesign.compiler.graph import Add
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.matmul import bias, leave_pending
from codesign.compiler.importer.sums import add
from codesign.compiler.onnx.shapes import Node, Origin, UnknownShape


def standard_norm(emitter: Emitter, node: Node) -> None:
    """LayerNormalization and the RMS forms, over the axes from `axis` on."""
    x = node.inputs[0]
    if any(emitter.is_activation(name) for name in node.inputs[1:]):
        raise UnknownShape("its scale or bias is not constant")
    rank = len(emitter.shape(x))
    axis = node.attribute("axis", -1) % rank
    rms = node.op_type != "LayerNormalization"
    cols = math.prod(emitter.shape(x)[axis:])
    emitter.layernorm(node.name, x, node.outputs[0], rank - 1, cols, rms)
    for moment in filter(None, node.outputs[1:]):
        if emitter.uses(moment):
            emitter.host(node, "reducemean", [x], moment, count=emitter.tensor(x).elements)


def recognised_norm(emitter: Emitter, node: Node) -> None:
    """A LayerNorm or RMSNorm that the pattern matcher found, along one axis."""
    x, axis = node.inputs[0], node.attribute("axis")
    cols = emitter.shape(x)[axis]
    emitter.layernorm(node.name, x, node.outputs[0], axis, cols, node.op_type == "RMSNorm")


def skip_norm(emitter: Emitter, node: Node) -> None:
    """com.microsoft SkipLayerNormalization: LayerNorm(input + skip + bias)."""
    simplified = node.op_type.startswith("SkipSimplified")
    x, skip = node.inputs[:2]
    constant = node.input(3 if simplified else 4)
    total = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3] else ""
    total = total or f"{node.outputs[0]}/sum"
    emitter.graph.tensors.setdefault(total, emitter.tensor(x))
    if constant:
        biased = f"{node.outputs[0]}/biased"
        emitter.graph.tensors[biased] = emitter.tensor(x)
        bias(emitter, node, x, constant, biased)
        x = biased
    add(emitter, replace(node, name=f"{node.name}/add", inputs=(x, skip), outputs=(total,)))
    cols = emitter.shape(x)[-1]
    axis = len(emitter.shape(total)) - 1
    emitter.layernorm(node.name, total, node.outputs[0], axis, cols, simplified)


def embed_norm(emitter: Emitter, node: Node) -> None:
    """com.microsoft EmbedLayerNormalization: three look-ups, their sum, LayerNorm."""
    output = node.outputs[0]
    hidden = emitter.tensor(output)
    total = node.outputs[2] if len(node.outputs) > 2 and node.outputs[2] else f"{output}/sum"
    words, segments = node.inputs[:2]
    names = [f"{output}/word", f"{output}/segment"][: 2 if segments else 1]
    for name in (*names, total, f"{output}/words_segments"):
        emitter.graph.tensors[name] = hidden
    constant = bool(segments) and emitter.origin(segments) == Origin.CONSTANT
    for ids, name in zip((words, segments), names, strict=False):
        if emitter.origin(ids) == Origin.INDEX:
            lookup = replace(node, name=name)
            emitter.host(lookup, "embedding", [ids], name, count=hidden.elements)
    summed = names[0]
    if constant:
        summed = f"{output}/words_segments"
        leave_pending(emitter, "add", names[0], node.inputs[4], summed)
    elif segments:
        summed = f"{output}/words_segments"
        emitter.pairwise(Add, f"{node.name}/segments", names[0], names[1], summed)
    leave_pending(emitter, "add", summed, node.inputs[3], total)  # the position table
    emitter.layernorm(node.name, total, output, len(hidden.shape) - 1, hidden.shape[-1], False)
    if len(node.outputs) > 1 and node.outputs[1]:
        mask = replace(node, inputs=(node.input(7) or words,), outputs=(node.outputs[1],))
        emitter.index_node(mask)


def batch_norm(emitter: Emitter, node: Node) -> None:
    """BatchNormalization folds into the convolution or linear layer before it."""
    x, output = node.inputs[0], node.outputs[0]
    channels = 1 if len(emitter.shape(x)) > 1 else 0
    if any(node.outputs[1:]):
        raise UnknownShape("it is in training mode")
    if emitter.views[x].column == channels and emitter.fold_into_weights(node, x, output, True):
        return
    emitter.host(node, "batchnormalization", [x], output)
