"""The float constants of the graph's operators, probed out of the ONNX model.

The importer keeps shapes and drops plumbing, so what an operator multiplies by is found by asking:
the piece of the ONNX graph between its input and its output is run on zeros, one-hot rows and known
rows. Transposes and reshapes in between are included, hence columns come out in the right order.
Every answer is checked on random data; UnsupportedError names an operator that is something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Add, Graph, HostOp, LayerNorm, Matmul, Operator, Softmax
from codesign.compiler.matrices import Matrices
from codesign.compiler.onnx_float import Array, Feeds, FloatModel
from codesign.hw.errors import UnsupportedError

Floats: TypeAlias = npt.NDArray[np.float64]
TOLERANCE = 1e-3  # of the largest value: float32 sums differ by less, anything else by more
HIDDEN = -1e3  # scores lowered by this have no probability


@dataclass(frozen=True)
class Linear:
    """y[m, n] = x[first_row : first_row + m] @ weights[k, n] + bias[n]."""

    weights: Floats
    bias: Floats
    first_row: int = 0


@dataclass(frozen=True)
class Affine:
    """A norm's gamma and beta, [columns]."""

    gamma: Floats
    beta: Floats


@dataclass(frozen=True)
class Scores:
    """What a softmax reads: factor * Q.K^T plus a mask; `tensor` is their sum's name in the file."""

    factor: float
    tensor: str
    causal: bool = False
    keys_hidden: bool = False  # the mask, computed from inputs, hides keys


@dataclass(frozen=True)
class Constants:
    """By operator name."""

    linear: Mapping[str, Linear] = field(default_factory=dict)
    affine: Mapping[str, Affine] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)  # by the softmax
    operand: Mapping[str, Floats] = field(default_factory=dict)  # matrices added by a sum


def probe(model: FloatModel, graph: Graph, matrices: Matrices, feeds: Feeds) -> Constants:
    """The constants of every operator that a kernel can compute; `feeds` is any one sample.

    Raises UnsupportedError for an operator that does not compute what its kind says.
    """
    prober = _Prober(model, graph, matrices, feeds)
    found = Constants({}, {}, {}, {})
    for op in graph.operators():
        match op:
            case Matmul(constant_b=True):
                found.linear[op.name] = prober.linear(op)  # type: ignore[index]
            case LayerNorm():
                found.affine[op.name] = prober.affine(op)  # type: ignore[index]
            case Softmax():
                found.scores[op.name] = prober.scores(op)  # type: ignore[index]
            case Add():
                prober.check_sum(op)
            case HostOp(function="add") if len(op.inputs) == 1:
                found.operand[op.name] = prober.operand(op)  # type: ignore[index]
    return found


class _Prober:
    """Asks one model."""

    def __init__(self, model: FloatModel, graph: Graph, matrices: Matrices, feeds: Feeds) -> None:
        self.model, self.graph, self.matrices, self.feeds = model, graph, matrices, feeds
        self.rng = np.random.default_rng(0)

    def ask(self, op: Operator, known: Mapping[str, Array], wanted: str = "") -> Floats:
        """The matrix of `wanted` (the operator's output) where those of `known` are given."""
        wanted = wanted or op.output
        part = self.model.part(tuple(known), (wanted,))
        feeds = dict(self.feeds)
        for tensor, matrix in known.items():
            shape = self.matrices.shapes[tensor]
            feeds[tensor] = self.matrices[tensor].array(matrix, shape).astype(np.float32)
        result = part(feeds)[wanted].astype(np.float64)
        return result if wanted != op.output else self.matrices[wanted].of(result)

    def random(self, tensor: str) -> Floats:
        matrix = self.matrices[tensor]
        return self.rng.standard_normal((matrix.rows, matrix.heads * matrix.columns))

    # -- Kinds -------------------------------------------------------------------------------------

    def linear(self, op: Matmul) -> Linear:
        """Weights and bias of a projection, by one-hot rows, `m` at a time."""
        (x,) = op.inputs
        shape = self.random(x).shape
        if op.batch != 1 or shape[1] != op.k:
            raise _unlike(op, "a product with one weight matrix")
        bias = self.ask(op, {x: np.zeros(shape)})
        first_row = self._first_row(op, shape, bias)
        weights = np.empty((op.k, op.n))
        for begin in range(0, op.k, op.m):
            count = min(op.m, op.k - begin)
            hot = np.zeros(shape)
            hot[first_row + np.arange(count), begin + np.arange(count)] = 1
            weights[begin : begin + count] = (self.ask(op, {x: hot}) - bias)[:count]
        sample = self.random(x)
        expected = sample[first_row : first_row + op.m] @ weights + bias[0]
        self._check(op, self.ask(op, {x: sample}), expected, "a product with one weight matrix")
        return Linear(weights, bias[0], first_row)

    def _first_row(self, op: Matmul, shape: tuple[int, ...], bias: Floats) -> int:
        """The first row of the input that the output depends on, where it reads but some of them."""
        if shape[0] == op.m:
            return 0
        for row in range(shape[0] - op.m + 1):
            hot = np.zeros(shape)
            hot[row] = self.rng.standard_normal(shape[1])
            if not np.array_equal(self.ask(op, {op.inputs[0]: hot}), bias):
                return row
        raise _unlike(op, "a product of consecutive rows")

    def affine(self, op: LayerNorm) -> Affine:
        """Gamma and beta, by a row whose normalized values are known, and its opposite."""
        (x,) = op.inputs
        places = np.arange(op.cols)
        away = np.where(places % 2, -1.0, 1.0) * (
            2 + places % 3
        )  # from a mean near 0, each of them
        row: Floats = np.tile(1e3 * away, (op.rows, 1)).astype(np.float64)
        up, down = self.ask(op, {x: row})[0], self.ask(op, {x: -row})[0]
        beta, gamma = (up + down) / 2, (up - down) / 2 / _normalized(row, op.rms)[0]
        sample = 1e2 * self.random(x)
        expected = _normalized(sample, op.rms) * gamma + beta
        kind = "an RMSNorm" if op.rms else "a LayerNorm"
        self._check(op, self.ask(op, {x: sample}), expected, kind)
        return Affine(gamma, beta)

    def operand(self, op: HostOp) -> Floats:
        """What a sum adds to its one activation."""
        (x,) = op.inputs
        added = self.ask(op, {x: np.zeros(self.random(x).shape)})
        sample = self.random(x)
        self._check(op, self.ask(op, {x: sample}), sample + added, "a sum with a constant")
        return added

    def check_sum(self, op: Add) -> None:
        a, b = op.inputs
        x, y = self.random(a), self.random(b)
        if a == b or x.shape != y.shape:
            raise _unlike(op, "a sum of two matrices of one size")
        self._check(op, self.ask(op, {a: x, b: y}), x + y, "a sum of two matrices")

    def scores(self, op: Softmax) -> Scores:
        """The factor on Q.K^T, what is added to it, and that P.V follows."""
        product = self._producer(op.inputs[0])
        node = self.model.writers.get(op.output)
        if not isinstance(product, Matmul) or product.constant_b or node is None:
            raise _unlike(op, "a softmax of Q.K^T")
        tensor = self.model.nodes[node].input[0]
        heads, k = product.batch, product.k
        known = {name: self.random(name) for name in product.inputs}
        q, key = column_ranges(product.inputs, heads * k, known)
        if q.shape[1] != heads * k or key.shape != (product.n, heads * k):
            raise _unlike(op, "a softmax of Q.K^T of one sequence")
        raw = np.einsum(
            "mhk,nhk->hmn", q.reshape(product.m, heads, k), key.reshape(product.n, heads, k)
        )
        zeros = {name: np.zeros_like(value) for name, value in known.items()}
        added = self.ask(op, zeros, tensor).reshape(raw.shape[0], -1, raw.shape[2])
        seen = np.broadcast_to(added > HIDDEN, raw.shape)
        total = self.ask(op, known, tensor).reshape(raw.shape)
        if not seen.any():
            raise _unlike(op, "a softmax that sees some keys of the first calibration sample")
        above, below = ((total - added)[seen] * raw[seen]).sum(), (raw[seen] ** 2).sum()
        factor = float(above / below)
        self._check(op, total[seen], (factor * raw + added)[seen], "a softmax of Q.K^T")
        self._check_context(op, heads)
        if op.causal:
            future = np.triu(np.ones(raw.shape[1:], bool), k=1 + raw.shape[2] - raw.shape[1])
            if len(op.inputs) > 1 or (seen == future).any():
                raise _unlike(op, "a softmax with a causal mask alone")
        elif not op.masked and added.any():
            raise _unlike(op, "a softmax without mask")
        elif op.bias_elements:
            raise _unlike(op, "a softmax without position bias, which is not quantized yet")
        return Scores(factor, tensor, op.causal, op.masked and not op.causal)

    def _check_context(self, op: Softmax, heads: int) -> None:
        readers = [self.graph.dag.nodes[name]["op"] for name in self.graph.dag.successors(op.name)]
        for context in readers:
            p, v = context.inputs[:2]
            width = heads * context.n
            known = {name: self.random(name) for name in (p, v)}
            value = known[v][:, -width:]  # the last of Q, K and V where they share a matrix
            weights = known[p].reshape(context.m, heads, context.k)
            expected = np.einsum(
                "mhn,nhk->mhk", weights, value.reshape(context.k, heads, context.n)
            )
            found = self.ask(context, known)
            self._check(context, found, expected.reshape(context.m, -1), "a product of heads")

    def _producer(self, tensor: str) -> Operator | None:
        name = self.graph.producer(tensor)
        return None if name is None else self.graph.dag.nodes[name]["op"]

    def _check(self, op: Operator, found: Floats, expected: Floats, kind: str) -> None:
        if found.shape != expected.shape:
            raise _unlike(op, kind)
        scale = float(np.abs(expected).max(initial=1e-30))
        if not np.abs(found - expected).max(initial=0.0) <= TOLERANCE * scale:
            raise _unlike(op, kind)


def column_ranges(
    tensors: tuple[str, ...], width: int, matrices: Mapping[str, Array]
) -> list[Array]:
    """Q, K, ... by tensor name; a tensor named several times holds one after another."""
    turns: dict[str, int] = {}
    found = []
    for tensor in tensors:
        turn = turns.get(tensor, 0)
        turns[tensor] = turn + 1
        found.append(matrices[tensor][:, turn * width : (turn + 1) * width])
    return found


def _normalized(x: Floats, rms: bool) -> Floats:
    centered = x if rms else x - x.mean(axis=1, keepdims=True)
    result: Floats = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True))
    return result


def _unlike(op: Operator, kind: str) -> UnsupportedError:
    return UnsupportedError(
        f"cannot quantize {op.kind} {op.name!r}: the file does not compute {kind} there"
    )
