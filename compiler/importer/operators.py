"""One handler per ONNX operator type: how it enters the operator graph.

A handler reads its node's inputs through the Emitter and leaves a View for every output. Types
without a handler are unsupported.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from codesign.compiler.graph import Activation, Gate
from codesign.compiler.importer.attention import ATTENTION_HANDLERS
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.layout import (
    cast,
    concat,
    depth_to_space,
    expand,
    gather,
    gather_elements,
    pad,
    part,
    reshape,
    resize,
    scatter,
    transpose,
)
from codesign.compiler.importer.matmul import (
    bias,
    convolution_matmul,
    einsum,
    gemm,
    leave_pending,
    matmul,
    matmul_nbits,
)
from codesign.compiler.importer.norms import (
    batch_norm,
    embed_norm,
    recognised_norm,
    skip_norm,
    standard_norm,
)
from codesign.compiler.importer.sums import add, sum_
from codesign.compiler.importer.views import expanded_column
from codesign.compiler.onnx.shapes import Node, Origin

Handler = Callable[[Emitter, Node], None]

# The function of the drain that an elementwise operator is.
ACTIVATIONS = {
    "BiasGelu": "gelu",
    "FastGelu": "gelu",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "QuickGelu": "gelu",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Swish": "silu",
    "Tanh": "tanh",
}

# Elementwise work, reductions and pooling without a unit on the chip.
# fmt: off
HOST_OPERATORS = frozenset({
    "Abs", "ArgMax", "ArgMin", "AveragePool", "Ceil", "Celu", "Clip", "Cos", "CumSum",
    "Div", "Elu", "Equal", "Erf", "Exp", "Floor", 
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool", "Max", 
    "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "And", "Or", "PRelu",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Round",
    "Selu", "Sign", "Sin", "Softplus", "Softsign",
    "Sqrt", "Sub", "Sum", "ThresholdedRelu",
    "TopK", "Trilu", "Where", "Xor",
})
# fmt: on


def host(emitter: Emitter, node: Node) -> None:
    """Give the whole node to the host."""
    inputs = [n for n in node.inputs if n and emitter.origin(n) != Origin.CONSTANT]
    for output in filter(None, node.outputs):
        emitter.host(node, node.op_type.lower(), inputs, output)


def max_pool(emitter: Emitter, node: Node) -> None:
    """MaxPool: int8 values of every window are compared as they are."""
    output = node.outputs[0]
    if any(node.outputs[1:]):
        host(emitter, node)  # the indices too
        return
    window = math.prod(node.attribute("kernel_shape"))
    count = emitter.tensor(output).elements * window
    emitter.host(node, "maxpool", [node.inputs[0]], output, count=count)


def subtract(emitter: Emitter, node: Node) -> None:
    a, b = node.inputs
    if emitter.is_activation(a) and not emitter.is_activation(b):
        bias(emitter, node, a, b, node.outputs[0])
    elif emitter.origin(a) == Origin.CONSTANT:
        _scale_by(emitter, node, "sub", b, a)
    else:
        host(emitter, node)


def scale(emitter: Emitter, node: Node) -> None:
    """Mul and Div: a positive scalar becomes part of the next requantization, a vector along the
    columns part of the weights before it; activations of one shape are multiplied by the drain."""
    a, b = node.inputs
    output = node.outputs[0]
    both = emitter.is_activation(a) and emitter.is_activation(b)
    alike = emitter.shape(a) == emitter.shape(b) == emitter.shape(output)
    if both and alike and node.op_type == "Mul" and not (emitter.on_host(a) and emitter.on_host(b)):
        emitter.pairwise(Gate, node.name, a, b, output)
        return
    if both or (node.op_type == "Div" and not emitter.is_activation(a)):
        host(emitter, node)
        return
    name, other = (a, b) if emitter.is_activation(a) else (b, a)
    value = emitter.value(other)
    constant = emitter.origin(other) == Origin.CONSTANT
    column = expanded_column(emitter.views[name].column, emitter.shape(name), emitter.shape(output))
    if constant and emitter.tensor(other).elements == 1 and (value is None or np.all(value > 0)):
        emitter.alias(output, name, column)
    else:
        _scale_by(emitter, node, node.op_type.lower(), name, other)


def power(emitter: Emitter, node: Node) -> None:
    """A square is a product of a matrix with itself."""
    x, output = node.inputs[0], node.outputs[0]
    exponent = emitter.value(node.inputs[1])
    square = exponent is not None and exponent.size == 1 and float(exponent.flat[0]) == 2.0
    if square and emitter.is_activation(x) and not emitter.on_host(x):
        emitter.pairwise(Gate, node.name, x, x, output)
    else:
        host(emitter, node)


def _scale_by(emitter: Emitter, node: Node, function: str, name: str, other: str) -> None:
    """A product with `other`, or `other` - name: part of the weights or norm before, else pending."""
    output = node.outputs[0]
    if not (
        emitter.origin(other) == Origin.CONSTANT
        and emitter.tensor(name).elements == emitter.tensor(output).elements
        and emitter.along_columns(other, name)
        and emitter.fold_into_weights(node, name, output, bias=function == "sub")
    ):
        leave_pending(emitter, function, name, other, output)


def where(emitter: Emitter, node: Node) -> None:
    """A mask when the condition is constant or computed from token inputs.

    Guards against rows without any unmasked score (IsNaN, all -inf) leave the result as it is.
    """
    condition, a, b = node.inputs
    chosen = [name for name in (a, b) if emitter.is_activation(name)]
    output = node.outputs[0]
    if len(chosen) != 1:
        host(emitter, node)
        return
    column = emitter.views[chosen[0]].column
    column = expanded_column(column, emitter.shape(chosen[0]), emitter.shape(output))
    if not emitter.is_activation(condition):
        leave_pending(emitter, "where", chosen[0], condition, output)
    elif _guards(emitter, condition, chosen[0]):
        emitter.alias(output, chosen[0], column)
    else:
        host(emitter, node)


def _guards(emitter: Emitter, condition: str, chosen: str) -> bool:
    """True when the condition only asks if values are finite: it is never so in integers."""
    names, seen = [condition], 0
    while names and seen < 8:
        producer = emitter.graph.producer(names.pop())
        seen += 1
        if producer is None:
            continue
        if producer.op_type in ("IsNaN", "IsInf"):
            return True
        if producer.op_type == "Equal":
            values = [emitter.value(name) for name in producer.inputs]
            return any(v is not None and v.size == 1 and np.isinf(v).all() for v in values)
        if producer.op_type in ("Not", "And", "Or", "ReduceMax", "ReduceMin", "Cast", "ReduceSum"):
            names += [name for name in producer.inputs if emitter.is_activation(name)]
    return False


def softmax(emitter: Emitter, node: Node) -> None:
    """Softmax along one axis; before opset 13 over all axes from `axis` on."""
    scores = node.inputs[0]
    shape = emitter.shape(scores)
    flattens = emitter.graph.opset < 13
    axis = node.attribute("axis", 1 if flattens else -1) % len(shape)
    cols = shape[axis]
    if flattens:
        cols = math.prod(shape[axis:])
        axis = axis if cols == shape[axis] else len(shape) - 1
    emitter.softmax(node.name, scores, node.outputs[0], axis, cols)


def activation(emitter: Emitter, node: Node) -> None:
    """An elementwise function of the drain; BiasGelu and FastGelu have a bias in front."""
    x, output = node.inputs[0], node.outputs[0]
    if node.input(1) and node.op_type in ("BiasGelu", "FastGelu"):
        biased = f"{output}/biased"
        emitter.graph.tensors[biased] = emitter.tensor(x)
        bias(emitter, node, x, node.input(1), biased)
        x = biased
    function = _function(node)
    if not function or _given_out(emitter, output, function):
        host(emitter, node)
        return
    source = emitter.source(x)
    column = emitter.views[x].column
    cols = emitter.shape(x)[column] if emitter.shape(x) else 1
    rows = emitter.tensor(x).elements // max(cols, 1)
    op = Activation(node.name, (source,), output, function=function, rows=rows, cols=cols)
    emitter.emit(op, output, column)


def _function(node: Node) -> str:
    """The function of the drain that a node is; "" where it is none."""
    match node.op_type:
        case "Clip":
            return "relu"
        case "QuickGelu" | "Swish":  # x * sigmoid(alpha * x)
            alpha = node.attribute("alpha", 1.702 if node.op_type == "QuickGelu" else 1.0)
            near = [
                name for name, of in (("gelu", 1.702), ("silu", 1.0)) if abs(alpha - of) <= 0.01
            ]
            return near[0] if near else ""
        case "HardSigmoid":  # of any slope: a factor of the argument
            fits = node.attribute("beta", 0.5) == 0.5 and node.attribute("alpha", 0.2) > 0
            return "hard_sigmoid" if fits else ""
    return ACTIVATIONS[node.op_type]


def _given_out(emitter: Emitter, output: str, function: str) -> bool:
    """Whether a function of bounded values is itself an output of the file, and read by nobody else:
    the host, which makes floats of it in any case, computes a pooler's or a classifier's on its way.
    """
    bounded = function in ("hard_sigmoid", "sigmoid", "tanh")
    return bounded and output in emitter.graph.outputs and emitter.uses(output) == 1


def _fused_activation(emitter: Emitter, node: Node) -> None:
    """The activation that onnxruntime's optimiser has put inside a FusedConv or FusedGemm."""
    function = node.attribute("activation", "")
    if not function:
        return
    output = node.outputs[0]
    inner = f"{output}/{function}"
    emitter.graph.tensors[inner] = emitter.tensor(output)
    view = emitter.views.pop(output)
    if view.source == output:  # else something is pending on it, which the host writes to `inner`
        emitter.operators[inner] = replace(emitter.operators.pop(output), output=inner)
        view = replace(view, source=inner)
    emitter.views[inner] = view
    step = replace(node, name=f"{node.name}/{function}", op_type=function, inputs=(inner,))
    (activation if function in ("Relu", "Sigmoid", "Tanh") else host)(emitter, step)


def fused_conv(emitter: Emitter, node: Node) -> None:
    convolution_matmul(emitter, node)
    _fused_activation(emitter, node)


def fused_gemm(emitter: Emitter, node: Node) -> None:
    gemm(emitter, node)
    _fused_activation(emitter, node)


def clip(emitter: Emitter, node: Node) -> None:
    """Clip from 0 up is a relu (relu6 saturates by its int8 scale), otherwise the host's."""
    low = node.attribute("min")
    if node.input(1):
        value = emitter.value(node.input(1))
        low = None if value is None else float(value)
    (activation if low == 0 else host)(emitter, node)


_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(ACTIVATIONS, activation),
    "Add": add,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Concat": concat,
    "Conv": convolution_matmul,
    "DepthToSpace": depth_to_space,
    "Div": scale,
    "DynamicQuantizeMatMul": matmul,
    "Einsum": einsum,
    "Elementwise": host,
    "EmbedLayerNormalization": embed_norm,
    "Expand": expand,
    "Flatten": reshape,
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "FusedMatMul": matmul,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_elements,
    "Gemm": gemm,
    "LayerNorm": recognised_norm,
    "LayerNormalization": standard_norm,
    "MatMul": matmul,
    "MatMulIntegerToFloat": matmul,
    "MatMulNBits": matmul_nbits,
    "MaxPool": max_pool,
    "Mul": scale,
    "Pad": pad,
    "Pow": power,
    "RMSNorm": recognised_norm,
    "RMSNormalization": standard_norm,
    "Reshape": reshape,
    "Resize": resize,
    "ScatterElements": scatter,
    "ScatterND": scatter,
    "SimplifiedLayerNormalization": standard_norm,
    "SkipLayerNormalization": skip_norm,
    "SkipSimplifiedLayerNormalization": skip_norm,
    "Slice": part,
    "Softmax": softmax,
    "SpaceToDepth": depth_to_space,
    "Split": part,
    "Squeeze": reshape,
    "Sub": subtract,
    "Sum": sum_,
    "TensorScatter": scatter,
    "Tile": expand,
    "Transpose": transpose,
    "TransposeMatMul": matmul,
    "Unsqueeze": reshape,
    "Upsample": resize,
    "Where": where,
}

HANDLERS: Mapping[str, Handler] = (
    dict.fromkeys(sorted(HOST_OPERATORS), host) | _HANDLERS | ATTENTION_HANDLERS
)
