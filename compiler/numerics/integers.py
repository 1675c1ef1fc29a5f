"""A quantized network in plain numpy integers: step after step, whole matrices, no tiles, no kernels.

What a quantized network computes is settled by which of the graph's tensors are int8, and by their
scales. From int8 tensors to the next, all is exact: sums of products, the summands that enter with
them, a requantizer, a function of `hw.arithmetic`, a requantizer. Fusion settles which tensors are
int8, before mapping: what feeds an activation never is; nor does what feeds a residual sum or a norm
behind a matmul, where the sum stays in the accumulator; scores are where attention takes three
kernels, not where it takes one or two. Probabilities always are. Nothing else of a plan
changes a bit: no tile, order, place, objective, memory or dim, nor projections that are merged.

It knows nothing of mappings, layouts or instructions; what the machine computes must equal it bit for
bit. It is also the fast way to measure quality over many inputs.
"""

from collections.abc import Mapping

import numpy as np

from codesign.compiler.graph import Graph
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.quantized import (
    Attention,
    Product,
    Projection,
    QuantizedStep,
    Requantizer,
    Rows,
)
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan.work import Work
from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Bools, Ints
from codesign.hw.machine.functions import FUNCTION

Tensors = Mapping[str, Array]  # int8 matrices [rows, heads * columns]


def evaluate(
    step: QuantizedStep, work: Work, graph: Graph, matrices: Matrices, known: Tensors, mask: Mask
) -> dict[str, Array]:
    """The int8 matrices that a step writes. `mask`: what the run adds to its scores."""
    match step:
        case Projection():
            out = _projection(step, work, known)
        case Product():
            out = _product(step, work, graph, known, mask)
        case Attention():
            out = _attention(step, work, graph, known, mask)
        case Rows():
            out = _rows(step, work, matrices, known, mask)
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


def _product(step: Product, work: Work, graph: Graph, known: Tensors, mask: Mask) -> Array:
    op = graph.dag.nodes[work.operators[0]]["op"]
    wide = op.k if op.transposed_b else op.n
    a, b = known[op.inputs[0]], _range(known[op.inputs[1]], work.b_range, op.batch * wide)
    heads = []
    for h in range(op.batch):
        right = _range(b, h, wide)
        acc = _matmul(_range(a, h, op.k), right.T if op.transposed_b else right)
        heads.append(_scores(acc, step, h, mask))
    return np.concatenate(heads, axis=1)


def _attention(step: Attention, work: Work, graph: Graph, known: Tensors, mask: Mask) -> Array:
    op = graph.dag.nodes[work.operators[0]]["op"]
    q, k, v = (
        _range(known[tensor], turn, op.batch * op.k)
        for tensor, turn in zip(work.inputs[:3], work.ranges, strict=True)
    )
    scores = Product(step.scores, "softmax", step.probabilities, step.causal, step.added)
    heads = []
    for h in range(op.batch):
        p = _scores(_matmul(_range(q, h, op.k), _range(k, h, op.k).T), scores, h, mask)
        heads.append(_epilogue(_matmul(p, _range(v, h, op.k)), step.context, "copy", None))
    return np.concatenate(heads, axis=1)


def _rows(step: Rows, work: Work, matrices: Matrices, known: Tensors, mask: Mask) -> Array:
    acc = known[work.inputs[0]].astype(np.int64) * step.scales[0]
    if step.function == "softmax":
        parts = np.split(acc, matrices[work.outputs[0]].heads, axis=1)
        heads = [_scores(part, step, h, mask) for h, part in enumerate(parts)]
        return np.concatenate(heads, axis=1)
    if step.operand is not None:
        acc = acc + step.operand.astype(np.int64) * step.scales[1]
    elif len(work.inputs) > 1:
        acc = acc + known[work.inputs[1]].astype(np.int64) * step.scales[1]
    return _epilogue(acc, step.first, step.function, step.last)


def _scores(acc: Ints, step: Product | Rows, head: int, mask: Mask) -> Array:
    """The epilogue of one head's sums, with what is added to them."""
    added = step.added
    if added is not None and added.matrix is not None:
        matrix = added.matrix if mask.matrix is None else mask.matrix
        acc = acc + _range(matrix, head, acc.shape[1]).astype(np.int64) * added.matrix_scale
    if mask.offsets is not None:
        acc = acc + mask.offsets
    return _epilogue(acc, step.first, step.function, step.last, step.causal)


def _range(matrix: Array, turn: int, width: int) -> Array:
    """Columns of one head, or of one of Q, K and V."""
    return matrix[:, turn * width : (turn + 1) * width]


def _matmul(a: Array, b: Array) -> Ints:
    """Exact: sums of int8 products are far below 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _epilogue(
    acc: Ints, first: Requantizer, function: str, last: Requantizer | None, causal: bool = False
) -> Array:
    """int8 [rows, columns] of sums [rows, columns]."""
    rows, columns = acc.shape
    v = arithmetic.requantize(acc, first.offset, first.multiplier, first.shift)
    valid: Bools = np.ones((rows, 1), dtype=np.bool_)
    if causal:
        valid = np.tri(rows, columns, columns - rows, dtype=np.bool_)
    value = FUNCTION[function].values(v, valid, columns)
    if last is None:
        return arithmetic.saturate(value, arithmetic.OUTPUT_BITS).astype(np.int8)
    out = arithmetic.requantize_output(value, last.multiplier, last.offset, last.shift)
    return np.where(valid, out, 0).astype(np.int8)
