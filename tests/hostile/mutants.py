"""Damage: to the bytes of any file, and to an ONNX model as a model. Deterministic by the generator."""

import random
from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto

from codesign.compiler.importer.operators import HANDLERS

NUMBERS = (-1, 0, 1, 3, 7, 1 << 15, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63))
NAMES = (
    "\x1b[31mred\x07",
    "=1+1",
    "a\nb",
    "\u202egnp",
    "$\\frac{x",
    "n" * 5000,
    "[b]x",
    " ",
    "\x00",
)


def bytes_damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes changed, cut, repeated or put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 2, 9, 100))
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = rng.randbytes(size)
        elif kind == 4:
            data[at:at] = data[at : at + size] * rng.choice((1, 3))
        elif len(data) > 20:
            del data[rng.randrange(len(data)) :]
    return bytes(data)


def model_damaged(source: onnx.ModelProto, rng: random.Random) -> bytes:
    """A model with one to three changes that bytes alone seldom make."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    for _ in range(rng.choice((1, 1, 2, 3))):
        try:
            rng.choice(_CHANGES)(model, rng)
        except (IndexError, ValueError):  # nothing there to change
            continue
    content: bytes = model.SerializeToString()
    return content


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    nodes = list(model.graph.node) + [n for f in model.functions for n in f.node]
    chosen: onnx.NodeProto = rng.choice(nodes)
    return chosen


def _attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    kind = rng.randrange(4)
    if kind == 0 and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif kind == 1:
        name = rng.choice(("axis", "perm", "to", "num_heads", "axes", "value", "keepdims", "alpha"))
        values: list[Any] = [rng.choice(NUMBERS), 1.5, "text", [1, 2], [0.5], TensorProto()]
        value = rng.choice(values)
        node.attribute.append(onnx.helper.make_attribute(name, value))
    else:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(NUMBERS)
        if kind == 2:
            attribute.type = rng.choice(list(AttributeProto.AttributeType.values()))
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)


def _inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    known = [name for other in model.graph.node for name in (*other.input, *other.output)]
    kind = rng.randrange(5)
    if kind == 0:
        node.input.pop(rng.randrange(len(node.input)))
    elif kind == 1:
        node.input.append(rng.choice(known))
    elif kind == 2:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "nowhere", *known))
    elif kind == 3:
        node.input[:] = rng.sample(list(node.input), len(node.input))
    else:
        del node.input[:]


def _outputs(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    kind = rng.randrange(4)
    if kind == 0:
        node.output.append(rng.choice(("", "more", "y", "x")))
    elif kind == 1:
        node.output[0] = rng.choice(("", "x", "y", _node(model, rng).output[0]))
    elif kind == 2:
        del node.output[:]
    else:
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=rng.choice(("x", "h", "no", ""))))


def _operator(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice([*HANDLERS, "Loop", "Constant", "Shape", "Scan", "Nothing", "If"])
    if rng.random() < 0.5:
        node.domain = rng.choice(("", "ai.onnx", "com.microsoft", "own", "evil"))


def _nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    kind = rng.randrange(4)
    if kind == 0:
        nodes.remove(rng.choice(nodes))
    elif kind == 1:
        nodes.append(rng.choice(nodes))
    elif kind == 2:
        rng.shuffle(nodes)
    else:
        nodes = nodes * 3
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constant(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(7)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind == 1:
        tensor.data_type = rng.choice((*range(26), 99, -1))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]
    elif kind == 3:
        model.graph.initializer.remove(tensor)
    elif kind == 4:
        del tensor.dims[:]
        tensor.dims.extend(rng.choice(NUMBERS) for _ in range(rng.randrange(6)))
    elif kind == 5:
        tensor.data_location = TensorProto.EXTERNAL
        place = rng.choice(("no.bin", "../no.bin", "/etc/passwd", "", "a" * 4000, ".", "\x1b[2J"))
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=place))
        length = str(rng.choice(NUMBERS))
        tensor.external_data.append(onnx.StringStringEntryProto(key="length", value=length))
    else:
        tensor.raw_data = rng.randbytes(len(tensor.raw_data))


def _input(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = model.graph.input[0].type.tensor_type
    kind = rng.randrange(6)
    if kind == 0:
        tensor.elem_type = rng.choice((*range(26), 99))
    elif kind == 1:
        tensor.ClearField("shape")
    elif kind == 2:
        rng.choice(tensor.shape.dim).dim_value = rng.choice(NUMBERS)
    elif kind == 3:
        symbols = (
            "batch",
            "seq",
            "batch+1",
            "-",
            "+",
            "9" * 5000,
            "no",
            "seq-seq",
            "+".join("a" * 99),
        )
        rng.choice(tensor.shape.dim).dim_param = rng.choice((*symbols, *NAMES))
    elif kind == 4:
        del tensor.shape.dim[rng.randrange(len(tensor.shape.dim))]
    else:
        model.graph.input.append(model.graph.input[0])


def _name(model: onnx.ModelProto, rng: random.Random) -> None:
    name, old = rng.choice(NAMES), rng.choice(_node(model, rng).output)
    for node in model.graph.node:
        node.name = rng.choice((node.name, name))
        node.input[:] = [name if word == old else word for word in node.input]
        node.output[:] = [name if word == old else word for word in node.output]


def _model(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        rng.choice(model.opset_import).version = rng.choice((1, 7, 11, 13, 22, 99, *NUMBERS))
    elif kind == 1:
        model.ir_version = rng.choice(NUMBERS)
    elif kind == 2:
        graph = onnx.GraphProto(node=model.graph.node, output=model.graph.output)
        wrap = onnx.helper.make_node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)
        model.graph.node.append(wrap)
    else:
        del model.opset_import[:]


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    _attribute, _attribute, _inputs, _inputs, _outputs, _operator, _operator, _nodes, _constant,
    _constant, _input, _name, _model,
)  # fmt: skip
