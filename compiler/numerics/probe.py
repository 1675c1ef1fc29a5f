"""Probes: the float constants of the graph's operators, asked of the ONNX model.

The importer keeps shapes and drops plumbing, so what an operator multiplies by is found by asking:
the piece of the ONNX graph between its input and its output is run on zeros, one-hot rows and known
rows. Transposes and reshapes in between are included, hence columns come out in the right order.
Every answer is checked on random data; a Refusal says of an operator that it is something else.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from codesign.compiler.graph import (
    Activation,
    Add,
    Gate,
    Graph,
    HostOp,
    LayerNorm,
    Matmul,
    Operator,
    Rotary,
    Softmax,
)
from codesign.compiler.numerics import elementwise
from codesign.compiler.numerics.asking import Asker, Refusal, unlike
from codesign.compiler.numerics.calibrate import CalibrationError
from codesign.compiler.numerics.constants import Constants, Floats, Linear, NormConstants, Scores
from codesign.compiler.numerics.file_weights import file_weights
from codesign.compiler.numerics.masks import HIDDEN, raised, take_apart
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, Part
from codesign.compiler.plan.operator_work import role
from codesign.hw.errors import ModelError

MOST_ASKED = 64  # runs of a product for its weights, where the file may show them
EPSILON_SHARE = 1 / 127  # of the largest output of a norm: what its epsilon may change
NORM_STEPS = (1 << 15) / 1.125  # of a norm's largest input
NORM_NOISE = 1e-3  # of the variance of rows


def probe(
    model: FloatModel, graph: Graph, matrices: Matrices, feeds: Feeds
) -> tuple[Constants, Mapping[str, Refusal]]:
    """The constants of every operator that a kernel can compute, and by name those that none can.

    `feeds` is any one sample. Raises CalibrationError for a sample whose mask hides everything.
    """
    prober = _Prober(model, graph, matrices, feeds)
    found = Constants({}, {}, {}, {}, {}, {}, {}, {}, {})
    refused: dict[str, Refusal] = {}
    for op in graph.operators():
        try:
            prober.probe(op, found)
        except Refusal as refusal:
            refused[op.name] = refusal
        except ModelError as error:  # onnxruntime's, or of a tensor without a matrix
            refused[op.name] = Refusal(op, f"cannot be probed ({error})")
    return found, refused


class _Prober(Asker):
    """Asks one model about every kind of operator."""

    @cached_property
    def normed(self) -> Mapping[str, Array]:
        """What norms read of the sample: all of it in one run, of which nothing else is kept."""
        read = (op.inputs[0] for op in self.graph.operators() if isinstance(op, LayerNorm))
        names = tuple(name for name in dict.fromkeys(read) if self.model.has(name))
        return Part(self.model, (), names)(self.feeds)

    def probe(self, op: Operator, found: Constants) -> None:
        """Add the constants of one operator. Raises ModelError for one that is something else."""
        match op:
            case Matmul(constant_b=True):
                found.linear[op.name] = self.linear(op)  # type: ignore[index]
            case Matmul():
                found.factors[op.name] = (self.product(op),)  # type: ignore[index]
            case LayerNorm():
                affine = self.affine(op)
                found.affine[op.name] = affine  # type: ignore[index]
                if reason := self.unfit_norm(op, affine):
                    found.unfit[op.name] = reason  # type: ignore[index]
            case Softmax():
                found.scores[op.name] = self.scores(op)  # type: ignore[index]
            case Activation(function="relu"):
                factor, limit = elementwise.relu(self, op)
                found.factors[op.name] = (factor,)  # type: ignore[index]
                if limit < elementwise.UNLIMITED:
                    found.limits[op.name] = limit  # type: ignore[index]
            case Activation(function="gelu"):
                found.factors[op.name] = (elementwise.gelu(self, op),)  # type: ignore[index]
            case Activation():
                found.factors[op.name] = (elementwise.activation(self, op),)  # type: ignore[index]
            case Rotary():
                found.angles[op.name] = elementwise.rotary_angles(self, op)  # type: ignore[index]
            case Gate():
                found.factors[op.name] = (elementwise.gate_factor(self, op),)  # type: ignore[index]
            case Add():
                found.factors[op.name] = self.sum(op)  # type: ignore[index]
            case HostOp(function="clip", inputs=(x,)) if x in self.matrices.shapes:
                elementwise.host_clip(self, op, found)
            case HostOp(function="add"):
                self.host_sum(op, found)

    # -- Kinds -------------------------------------------------------------------------------------

    def linear(self, op: Matmul) -> Linear:
        """Weights and bias of a projection: of many columns from the file, else by one-hot rows, `m` at
        a time."""
        (x,) = op.inputs
        shape = self.random(x).shape
        if op.batch != 1 or shape[1] != op.k:
            raise unlike(op, "a product with one weight matrix")
        bias = self.ask(op, {x: np.zeros(shape)})
        first_row = self._first_row(op, shape, bias)
        weights = None
        if op.k > MOST_ASKED * op.m:
            self._check_rows(op, bias, first_row, shape)
            weights = file_weights(self.model, self.matrices, op, self.feeds)
        if weights is None:
            weights = self._asked(op, bias, first_row, shape)
        sample = self.random(x)
        expected = sample[first_row : first_row + op.m] @ weights + bias[0]
        self.check(op, self.ask(op, {x: sample}), expected, "a product with one weight matrix")
        return Linear(weights, bias[0], first_row)

    def _check_rows(self, op: Matmul, bias: Floats, first_row: int, shape: tuple[int, ...]) -> None:
        """Refuse a product whose rows are not those of its input, before it is asked often."""
        one = np.zeros(shape)
        one[first_row] = np.cos(np.arange(shape[1]))
        if not np.array_equal(self.ask(op, {op.inputs[0]: one})[1:], bias[1:]):
            raise unlike(op, "a product with one weight matrix")

    def _asked(self, op: Matmul, bias: Floats, first_row: int, shape: tuple[int, ...]) -> Floats:
        """The weights of a projection by one-hot rows."""
        weights = np.empty((op.k, op.n))
        for begin in range(0, op.k, op.m):
            count = min(op.m, op.k - begin)
            hot = np.zeros(shape)
            hot[first_row + np.arange(count), begin + np.arange(count)] = 1
            weights[begin : begin + count] = (self.ask(op, {op.inputs[0]: hot}) - bias)[:count]
        return weights

    def _first_row(self, op: Matmul, shape: tuple[int, ...], bias: Floats) -> int:
        """The first row of the input that the output depends on, where it reads but some of them."""
        if shape[0] == op.m:
            return 0
        for row in range(shape[0] - op.m + 1):
            hot = np.zeros(shape)
            hot[row] = self.rng.standard_normal(shape[1])
            if not np.array_equal(self.ask(op, {op.inputs[0]: hot}), bias):
                return row
        raise unlike(op, "a product of consecutive rows")

    def affine(self, op: LayerNorm) -> NormConstants:
        """Gamma and beta, by a row whose normalized values are known, and its opposite."""
        (x,) = op.inputs
        if self.random(x).shape[1] != op.cols:
            raise unlike(op, "a norm of whole rows")
        if op.cols == 1 and not op.rms:  # nothing but beta, whatever comes in
            return NormConstants(np.zeros(1), self.ask(op, {x: self.random(x)})[0])
        places = np.arange(op.cols)
        # Each of them is away from their mean, which is near 0.
        away = np.where(places % 2, -1.0, 1.0) * (2 + places % 3)
        row: Floats = np.tile(1e3 * away, (op.rows, 1)).astype(np.float64)
        up, down = self.ask(op, {x: row})[0], self.ask(op, {x: -row})[0]
        beta, gamma = (up + down) / 2, (up - down) / 2 / _normalized(row, op.rms)[0]
        sample = 1e2 * self.random(x)
        expected = _normalized(sample, op.rms) * gamma + beta
        kind = "an RMSNorm" if op.rms else "a LayerNorm"
        self.check(op, self.ask(op, {x: sample}), expected, kind)
        return NormConstants(gamma, beta)

    def unfit_norm(self, op: LayerNorm, affine: NormConstants) -> str:
        """Why the machine's norm is not this one on real data: it has no epsilon, and 16 bits."""
        (x,) = op.inputs
        real = self.matrices[x].of(self.normed[x].astype(np.float64))
        spread = np.ptp(real, axis=1) > 0
        if spread.any():
            expected = (_normalized(real[spread], op.rms) * affine.gamma) + affine.beta
            moved = np.abs(self.ask(op, {x: real})[spread] - expected).max()
            if moved > EPSILON_SHARE * np.abs(expected).max():
                return "its epsilon is not small beside the variance of its rows"
            centered = real if op.rms else real - real.mean(axis=1, keepdims=True)
            deviations = np.sqrt((centered[spread] ** 2).mean(axis=1))
            step = np.abs(real).max() / NORM_STEPS
            noise = float(((step / deviations) ** 2).mean()) / 12
            if noise > NORM_NOISE:
                return "its largest row is so far above others that 16 bits do not hold them all"
        return ""

    def sum(self, op: Add | HostOp) -> tuple[float, float]:
        """The factors of a sum's operands."""
        kind = "a sum of two matrices of one size"
        a, b = op.inputs
        x, y = self.random(a), self.random(b)
        if x.shape != y.shape:
            raise unlike(op, kind)
        if a == b:
            half = self.factor(op, self.ask(op, {a: x}), x, kind) / 2
            return half, half
        factors = (
            self.factor(op, self.ask(op, {a: x, b: 0 * y}), x, kind),
            self.factor(op, self.ask(op, {a: 0 * x, b: y}), y, kind),
        )
        self.check(op, self.ask(op, {a: x, b: y}), factors[0] * x + factors[1] * y, kind)
        return factors

    def host_sum(self, op: HostOp, found: Constants) -> None:
        """A sum that the host or the machine may compute; nothing where only the host can."""
        if any(name not in self.matrices.shapes for name in op.inputs):
            return
        try:
            if len(op.inputs) == 2:
                found.factors[op.name] = self.sum(op)  # type: ignore[index]
            elif len(op.inputs) == 1:
                found.operand[op.name] = self.operand(op)  # type: ignore[index]
        except ModelError:
            return

    def operand(self, op: HostOp) -> Floats:
        """What a sum adds to its one activation."""
        (x,) = op.inputs
        kind = "a sum with a constant"
        sample = self.random(x)
        added = self.ask(op, {x: 0 * sample})
        if added.shape != sample.shape:
            raise unlike(op, kind)
        self.check(op, self.ask(op, {x: sample}), sample + added, kind)
        return added

    def product(self, op: Matmul) -> float:
        """The factor of a product of two activations, head by head; several may have one B."""
        a, b = op.inputs[:2]
        kind = "a product of heads"
        known = {name: self.random(name) for name in (a, b)}
        inner = op.k if op.transposed_b else op.n
        turn, heads = role(self.graph, op), op.batch // op.shared
        right = known[b][:, turn * heads * inner : (turn + 1) * heads * inner]
        left = known[a][:, : op.batch * op.k]
        rows = op.n if op.transposed_b else op.k
        if left.shape != (op.m, op.batch * op.k) or right.shape != (rows, heads * inner):
            raise unlike(op, kind)
        right = right.reshape(rows, heads, inner).repeat(op.shared, axis=1)
        sides = left.reshape(op.m, op.batch, op.k), right
        form = "mhk,nhk->mhn" if op.transposed_b else "mhk,khn->mhn"
        expected = np.einsum(form, *sides).reshape(op.m, -1)
        return self.factor(op, self.ask(op, known), expected, kind)

    def scores(self, op: Softmax) -> Scores:
        """The factor on the scores and what is added to them."""
        kind = "a softmax of one matrix and a mask"
        source = op.inputs[0]
        node = self.model.writers.get(op.output)
        if node is None or self.model.nodes[node].op_type != "Softmax":
            raise unlike(op, kind)
        if any(isinstance(self._producer(name), Matmul | Activation) for name in op.inputs[1:]):
            raise unlike(op, kind)
        tensor = self.model.nodes[node].input[0]
        matrix = self.matrices[op.output]
        x = self.random(source)
        added = self.ask(op, {source: 0 * x}, tensor)
        total = self.ask(op, {source: x}, tensor)
        if added.size != x.size or matrix.heads * matrix.columns != x.shape[1]:
            raise unlike(op, kind)
        if len(op.inputs) > 1 and not op.bias_elements and added.ndim > 3 and len(added) > 1:
            raise unlike(op, "a softmax whose mask is the same in all of a batch")
        added, total = matrix.of(added), matrix.of(total)
        seen = added > HIDDEN
        computed = len(op.inputs) > 1
        if not seen.any() and computed:
            raise CalibrationError(
                f"the mask of the first calibration sample hides every key from {op.name!r}: "
                "remove that sample, or unmask its tokens"
            )
        if not seen.any():
            raise unlike(op, "a softmax that sees any key")
        shown = np.where(seen, added, 0.0)
        factor = self.factor(op, np.where(seen, total - shown, 0.0), np.where(seen, x, 0.0), kind)
        shape = (matrix.rows, matrix.heads, matrix.columns)
        found = self.ask(op, {source: x})  # along that axis and no other of its extent
        rows = _softmax(np.where(seen, total, -np.inf).reshape(shape))
        rows = np.where(seen.reshape(shape).any(axis=-1, keepdims=True), rows, found.reshape(shape))
        self.check(op, found, rows.reshape(found.shape), "a softmax of rows")
        heads = raised(added.reshape(shape).transpose(1, 0, 2))
        apart = take_apart(heads, op.causal, op.bias_elements > 0)
        if apart is None:
            raise unlike(op, "a softmax whose mask is causal or the same for every query")
        hides = bool(np.any(apart.keys))
        if hides and not computed and (not op.masked or op.causal or op.bias_elements):
            raise unlike(op, "a softmax with one kind of constant mask")
        whole = None
        if op.bias_elements:
            whole = apart.matrix.transpose(1, 0, 2).reshape(added.shape)
        return Scores(factor, tensor, op.causal, computed or hides, whole, computed)

    def _producer(self, tensor: str) -> Operator | None:
        name = self.graph.producer(tensor)
        return None if name is None else self.graph.dag[name]


def _normalized(x: Floats, rms: bool) -> Floats:
    centered = x if rms else x - x.mean(axis=1, keepdims=True)
    result: Floats = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True))
    return result


def _softmax(scores: Floats) -> Floats:
    """Probabilities along the last axis; none where every score is hidden."""
    top = scores.max(axis=-1, keepdims=True)
    exponents = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = exponents.sum(axis=-1, keepdims=True)
    result: Floats = exponents / np.where(total > 0, total, 1.0)
    return result
