"""A quantized network in plain numpy integers: step after step, whole matrices, no tiles, no kernels.

It knows `hw.arithmetic` and nothing of mappings, layouts or instructions; what the machine computes
must equal it bit for bit. It is also the fast way to measure quality over many inputs.
"""

from collections.abc import Mapping

import numpy as np

from codesign.compiler.constants import column_ranges
from codesign.compiler.fusion import Work
from codesign.compiler.graph import Graph
from codesign.compiler.matrices import Matrices
from codesign.compiler.onnx_float import Array
from codesign.compiler.quantize import (
    Attention,
    Product,
    Projection,
    QuantizedStep,
    Requantizer,
    Rows,
)
from codesign.hw import arithmetic
from codesign.hw.arithmetic import Bools, Ints

Tensors = Mapping[str, Array]  # int8 matrices [rows, heads * columns]


def evaluate(
    step: QuantizedStep, work: Work, graph: Graph, matrices: Matrices, known: Tensors, mask: Ints
) -> dict[str, Array]:
    """The int8 matrices that a step writes. `mask`: offsets [keys] of an attention's scores."""
    match step:
        case Projection():
            out = _projection(step, work, known)
        case Product():
            out = _product(step, work, graph, known)
        case Attention():
            out = _attention(step, work, graph, known, mask)
        case Rows():
            out = _rows(step, work, matrices, known)
    if not work.output_columns:
        return {work.outputs[0]: out}
    widths = [matrices[name].columns for name in work.outputs]
    parts = np.split(out, np.cumsum(widths)[:-1], axis=1)
    return dict(zip(work.outputs, parts, strict=True))


def _projection(step: Projection, work: Work, known: Tensors) -> Array:
    m = work.problem.m  # type: ignore[union-attr]
    x = known[work.inputs[0]][step.first_row : step.first_row + m]
    acc = _matmul(x, step.weights)
    if step.residual_scale:
        acc = acc + known[work.inputs[-1]].astype(np.int64) * step.residual_scale
    return _epilogue(acc, step.first, step.function, step.last)


def _product(step: Product, work: Work, graph: Graph, known: Tensors) -> Array:
    op = graph.dag.nodes[work.operators[0]]["op"]
    a = known[op.inputs[0]]
    turns = (*[op.inputs[1]] * work.b_range, op.inputs[1])
    width = op.batch * (op.k if op.transposed_b else op.n)
    b = column_ranges(turns, width, known)[-1]
    heads = []
    for h in range(op.batch):
        left = a[:, h * op.k : (h + 1) * op.k]
        wide = op.k if op.transposed_b else op.n
        right = b[:, h * wide : (h + 1) * wide]
        acc = _matmul(left, right.T if op.transposed_b else right)
        heads.append(_epilogue(acc, step.first, step.function, step.last, step.causal))
    return np.concatenate(heads, axis=1)


def _attention(step: Attention, work: Work, graph: Graph, known: Tensors, mask: Ints) -> Array:
    op = graph.dag.nodes[work.operators[0]]["op"]
    q, k, v = column_ranges(work.inputs[:3], op.batch * op.k, known)
    heads = []
    for h in range(op.batch):
        columns = slice(h * op.k, (h + 1) * op.k)
        acc = _matmul(q[:, columns], k[:, columns].T) + mask
        scores = step.scores
        p = _epilogue(acc, scores, "softmax", step.probabilities, step.causal)
        heads.append(_epilogue(_matmul(p, v[:, columns]), step.context, "copy", None))
    return np.concatenate(heads, axis=1)


def _rows(step: Rows, work: Work, matrices: Matrices, known: Tensors) -> Array:
    acc = known[work.inputs[0]].astype(np.int64) * step.scales[0]
    if step.operand is not None:
        acc = acc + step.operand.astype(np.int64) * step.scales[1]
    elif len(work.inputs) > 1 and step.function != "softmax":
        acc = acc + known[work.inputs[1]].astype(np.int64) * step.scales[1]
    if step.function != "softmax":
        return _epilogue(acc, step.first, step.function, step.last)
    parts = np.split(acc, matrices[work.inputs[0]].heads, axis=1)
    return np.concatenate(
        [_epilogue(part, step.first, "softmax", step.last, step.causal) for part in parts], axis=1
    )


def _matmul(a: Array, b: Array) -> Ints:
    """Exact: sums of int8 products are far below 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _epilogue(
    acc: Ints, first: Requantizer, function: str, last: Requantizer | None, causal: bool = False
) -> Array:
    """int8 [rows, columns] of sums [rows, columns]."""
    rows, columns = acc.shape
    v = arithmetic.requantize(acc, first.offset, first.multiplier, first.shift)
    if last is None:
        return arithmetic.saturate(np.maximum(v, 0) if function == "relu" else v, 8).astype(np.int8)
    valid: Bools = np.ones(acc.shape, dtype=np.bool_)
    match function:
        case "gelu":
            value = arithmetic.gelu(v)
        case "softmax":
            if causal:
                valid = np.tri(rows, columns, columns - rows, dtype=np.bool_)
            value = arithmetic.softmax(v, valid)
        case "layernorm":
            value = arithmetic.layernorm(v, columns, arithmetic.inverse(columns))
        case _:
            value = arithmetic.rmsnorm(v, columns)
    out = arithmetic.requantize_output(value, last.multiplier, last.offset, last.shift)
    return np.where(valid, out, 0).astype(np.int8)
