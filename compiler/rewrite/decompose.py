"""Fused ONNX nodes as the standard ones that they stand for, so that a file can be run piece by piece.

`run` asks a file what each operator of the graph computes and lets the host compute what the machine
does not; both need every tensor in between to be one of the file's. Attention in its forms is in
`decompose_attention`. Definitions: onnx.ai/onnx/operators, onnxruntime's docs/ContribOperators.md.
Pricing reads files as they are.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx

from codesign.compiler.onnx.float_model import reads
from codesign.compiler.onnx.fold import fold
from codesign.compiler.onnx.load import read_model
from codesign.compiler.onnx.shapes import Shape
from codesign.compiler.rewrite.decompose_attention import ATTENTION
from codesign.compiler.rewrite.writer import Decomposer, Writer

EPSILON = 1e-12  # of onnxruntime's fused norms where a node does not say


def decomposed(
    model: onnx.ModelProto, shapes: Mapping[str, Shape]
) -> tuple[onnx.ModelProto, Mapping[str, str]]:
    """The model with its fused nodes replaced, where its inputs have these `shapes`; and by the first
    output of each that has a form not known here, why it stays.
    """
    decomposers = {**DECOMPOSERS, **ATTENTION}
    if not any(node.op_type in decomposers for node in model.graph.node):
        return model, {}
    graph = fold(read_model(model), shapes)
    known = {output: node for node in graph.nodes() for output in node.outputs if output}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    read = {name for node in model.graph.node for name in reads(node)}
    read |= {value.name for value in model.graph.output}
    titles = {node.name for node in model.graph.node}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    whole: dict[str, str] = {}
    for proto in model.graph.node:
        first = next(filter(None, proto.output), "")
        node = known.get(first)
        decomposer = decomposers.get(proto.op_type)
        writer = None if node is None else Writer(graph, node, proto, taken, titles, read)
        if writer is None or decomposer is None or not decomposer(writer):
            nodes.append(proto)
            if writer is not None and writer.reason:
                whole[first] = writer.reason
        else:
            nodes += writer.nodes
            constants += writer.constants
    replaced = onnx.ModelProto()
    replaced.CopyFrom(model)
    del replaced.graph.node[:]
    replaced.graph.node.extend(nodes)
    replaced.graph.initializer.extend(constants)
    return replaced, whole


# -- Elementwise, norms and embeddings -----------------------------------------------------------------


def _biased_gelu(w: Writer) -> bool:
    """com.microsoft BiasGelu, FastGelu: gelu(x + bias)."""
    if not w.input(1):
        return False
    total = w.add("Add", w.input(0), w.input(1), label="biased")
    op_type = "Gelu" if w.node.op_type == "BiasGelu" else "FastGelu"
    w.add(op_type, total, into=w.output(0), label="gelu", domain="com.microsoft")
    return True


def _skip_norm(w: Writer) -> bool:
    """com.microsoft SkipLayerNormalization and its RMS form: a norm of input + bias + skip."""
    rms = w.node.op_type.startswith("SkipSimplified")
    bias = w.input(3 if rms else 4)
    total = w.add("Add", w.input(0), bias, label="biased") if bias else w.input(0)
    total = w.add("Add", total, w.input(1), into=w.output(3), label="sum")
    _norm(w, total, "" if rms else w.input(3), rms)
    return True


def _norm(w: Writer, total: str, beta: str, rms: bool, gamma: str = "") -> None:
    """The norm of the last axis, with the statistics that the file asks for."""
    op_type = "SimplifiedLayerNormalization" if rms else "LayerNormalization"
    inputs = [total, gamma or w.input(2), *([beta] if beta else [])]
    outputs = [w.output(0), *(() if gamma else (w.output(1), w.output(2)))]
    while not outputs[-1]:
        outputs.pop()
    epsilon = w.attribute("epsilon", EPSILON)
    w.node_of(op_type, inputs, outputs, "norm", axis=-1, epsilon=epsilon)


def _embed_norm(w: Writer) -> bool:
    """com.microsoft EmbedLayerNormalization: rows of three tables, their sum, its norm."""
    ids, segments, words, positions, kinds, gamma, beta, mask = (w.input(i) for i in range(8))
    length = w.shape(0)[-1]
    total = w.add("Gather", words, ids, label="words")
    if segments:
        total = w.add("Add", total, w.add("Gather", kinds, segments, label="segments"))
    places = w.input(8) or w.constant(np.arange(length), "int64")
    rows = w.add("Gather", positions, places, label="positions")
    total = w.add("Add", total, rows, into=w.output(2), label="sum")
    _norm(w, total, beta, False, gamma)
    if w.output(1):  # how many tokens of each sequence are no padding
        counted = mask or w.constant(np.zeros(w.shape(0)), "int32")
        if w.graph.opset < 13:
            w.add("ReduceSum", counted, into=w.output(1), axes=[1], keepdims=0)
        else:
            axes = w.constant([1], "int64")
            w.add("ReduceSum", counted, axes, into=w.output(1), keepdims=0)
    return True


def _sum(w: Writer) -> bool:
    """A sum of three and more, one after another."""
    if len(w.proto.input) < 3:
        return False
    total = w.input(0)
    for index in range(1, len(w.proto.input)):
        last = index == len(w.proto.input) - 1
        total = w.add("Add", total, w.input(index), into=w.output(0) if last else "")
    return True


def _gemm(w: Writer) -> bool:
    """A Gemm that adds more than a vector along its columns, as a product and a sum."""
    rows = w.shape(2)[-2:-1]
    if not w.input(2) or (not w.varies(2) and rows in ((), (1,))):
        return False
    if w.graph.opset < 11:  # where a Gemm cannot do without
        return False
    alpha, beta = w.attribute("alpha", 1.0), w.attribute("beta", 1.0)
    turned = {name: w.attribute(name, 0) for name in ("transA", "transB")}
    sides = w.input(0), w.input(1)
    if beta == 0:
        w.add("Gemm", *sides, into=w.output(0), label="product", alpha=alpha, **turned)
        return True
    product = w.add("Gemm", *sides, label="product", alpha=alpha, **turned)
    added = w.input(2)
    if beta != 1:
        added = w.add("Mul", added, w.constant(beta), label="scaled")
    w.add("Add", product, added, into=w.output(0), label="sum")
    return True


def _fused_activation(w: Writer) -> bool:
    """com.microsoft FusedGemm and FusedConv: the activation behind, as a node of its own."""
    function = w.attribute("activation", b"")
    function = function.decode() if isinstance(function, bytes) else function
    parameters = list(w.attribute("activation_params", []))
    named = [w.attribute(f"activation_{name}") for name in ("alpha", "beta")]
    parameters = parameters or [number for number in named if number is not None]
    if function not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid") or w.input(3):
        return False
    op_type = w.node.op_type.removeprefix("Fused")
    kept = {a.name: onnx.helper.get_attribute_value(a) for a in w.proto.attribute}
    kept = {name: value for name, value in kept.items() if not name.startswith("activation")}
    inner = w.add(op_type, *w.proto.input, label=op_type.lower(), **kept)
    pairs = dict(zip(("alpha", "beta"), parameters, strict=False))
    w.add(function, inner, into=w.output(0), **pairs)
    return True


# -- Products ------------------------------------------------------------------------------------------


def _matmul(w: Writer) -> bool:
    """A product of activations whose leading axes differ: the host repeats the smaller ones."""
    a, b = w.shape(0), w.shape(1)
    if not (w.varies(0) and w.varies(1)) or min(len(a), len(b)) < 2:
        return False
    lead = np.broadcast_shapes(a[:-2], b[:-2])
    sides = [math.prod(side[:-2]) for side in (a, b)]
    if sides[0] == sides[1] or sides[1] == 1:
        return False
    whole = [_expanded(w, index, (*lead, *side[-2:])) for index, side in enumerate((a, b))]
    w.add("MatMul", *whole, into=w.output(0), label="product")
    return True


def _expanded(w: Writer, index: int, shape: Shape) -> str:
    """An input, its axes of one element repeated to a shape."""
    if math.prod(w.shape(index)) == math.prod(shape):
        return w.input(index)
    return w.add("Expand", w.input(index), w.constant(shape, "int64"))


def _einsum(w: Writer) -> bool:
    """An Einsum of two activations as transpositions around a MatMul."""
    terms = _terms(w)
    if terms is None:
        return False
    left, right, result = terms
    sizes: dict[str, int] = {}
    for index, term in enumerate((left, right)):
        for axis, extent in zip(term, w.shape(index), strict=True):
            sizes[axis] = max(sizes.get(axis, 1), extent)
    lead = [c for c in result if c in left and c in right]
    inner = [c for c in left if c in right and c not in result]
    rows = [c for c in result if c in left and c not in right]
    columns = [c for c in result if c in right and c not in left]
    if sorted((*lead, *inner, *rows)) != sorted(left) or not inner:
        return False
    if sorted((*lead, *inner, *columns)) != sorted(right):
        return False

    def sized(*groups: list[str]) -> tuple[int, ...]:
        return tuple(math.prod(sizes[c] for c in group) for group in groups)

    a, b = (_expanded(w, i, tuple(sizes[c] for c in term)) for i, term in enumerate((left, right)))
    a = w.transpose(a, *map(left.index, (*lead, *rows, *inner)), label="left")
    b = w.transpose(b, *map(right.index, (*lead, *columns, *inner)), label="right")
    a = w.reshape(a, sized(lead, rows, inner), label="rows")
    b = w.reshape(b, sized(lead, columns, inner), label="columns")
    product = w.add("MatMul", a, w.transpose(b, 0, 2, 1, label="turned"), label="product")
    order = [*lead, *rows, *columns]
    product = w.reshape(product, tuple(sizes[c] for c in order), label="axes")
    w.transpose(product, *map(order.index, result), into=w.output(0), label="result")
    return True


def _terms(w: Writer) -> tuple[str, str, str] | None:
    """The axes of two activations and of their product, each of them once."""
    equation = w.attribute("equation")
    equation = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    operands, arrow, result = equation.partition("->")
    terms = operands.split(",")
    plain = arrow and len(terms) == 2 and "." not in equation and w.varies(0) and w.varies(1)
    if not plain or any(len(set(term)) < len(term) for term in (*terms, result)):
        return None
    return terms[0], terms[1], result


DECOMPOSERS: Mapping[str, Decomposer] = {
    "BiasGelu": _biased_gelu,
    "Einsum": _einsum,
    "EmbedLayerNormalization": _embed_norm,
    "FastGelu": _biased_gelu,
    "FusedConv": _fused_activation,
    "FusedGemm": _fused_activation,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "Sum": _sum,
}
