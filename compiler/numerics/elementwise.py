"""Elementwise operators: their functions in float, and what a file says of their factors and limits."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from codesign.compiler.graph import Activation, Gate, Graph, HostOp, Rotary
from codesign.compiler.kernels.kernel_kind import Int8
from codesign.compiler.kernels.rotary_kind import angle_table
from codesign.compiler.numerics.asking import Asker, OtherOrder, unlike
from codesign.compiler.numerics.constants import Constants, Floats
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.hw.errors import ModelError

UNLIMITED = 1e30  # that a relu returns it shows that nothing limits it
LARGE = 1e4  # still so, where a file subtracts what lies beyond a limit: float32 keeps both
LEAST_FACTOR = 1e-5  # of what a relu's argument is multiplied by, and 1 over the largest
LEAST_TURN = 1e-6  # of a sine: float32 keeps less
ROTATION = "a rotation of pairs of columns, the same in every head"
GELU_TOLERANCE = 0.025  # between the forms of GELU that one unit computes: erf, tanh, sigmoid

# -- Functions -----------------------------------------------------------------------------------------


def _gelu(x: Floats) -> Floats:
    found: Floats = x / 2 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))
    return found


def _sigmoid(x: Floats) -> Floats:
    found: Floats = (1 + np.tanh(x / 2)) / 2
    return found


def _hard_sigmoid(x: Floats) -> Floats:
    found: Floats = np.clip(x / 6 + 0.5, 0.0, 1.0)
    return found


def _tanh(x: Floats) -> Floats:
    found: Floats = np.tanh(x)
    return found


FUNCTIONS_IN_FLOAT: Mapping[str, Callable[[Floats], Floats]] = {
    "gelu": _gelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": _tanh,
}
BOUNDED = frozenset({"hard_sigmoid", "sigmoid", "tanh"})  # and steepest at 0

# -- What a file says ----------------------------------------------------------------------------------


def relu(asker: Asker, op: Activation) -> tuple[float, float]:
    """The factor of the argument, and the limit of the result."""
    (x,) = op.inputs
    sample = asker.random(x)
    sample.flat[0] = 1.0
    kind = "a relu of one matrix"
    limit = float(asker.ask(op, {x: np.full(sample.shape, UNLIMITED)}).max())
    if limit >= UNLIMITED * LEAST_FACTOR:
        found = asker.ask(op, {x: sample})
        return asker.factor(op, found, np.maximum(sample, 0), kind), np.inf
    if limit <= 0:
        limit = float(asker.ask(op, {x: np.full(sample.shape, LARGE)}).max())
    if limit <= 0:
        raise unlike(op, kind)
    small = limit * LEAST_FACTOR * sample
    factor = asker.factor(op, asker.ask(op, {x: small}), np.maximum(small, 0), kind)
    wide = 2 * limit / factor * sample
    asker.check(op, asker.ask(op, {x: wide}), np.clip(factor * wide, 0, limit), kind)
    return factor, limit


def host_clip(asker: Asker, op: HostOp, found: Constants) -> None:
    """Between which arguments it limits nothing; nothing where it does not clip one matrix."""
    (x,) = op.inputs
    try:
        sample = asker.random(x)
        ends = [np.full(sample.shape, end) for end in (-UNLIMITED, UNLIMITED)]
        low, high = (float(asker.ask(op, {x: end}).flat[0]) for end in ends)
        width = min(max(-low, high), UNLIMITED)
        if not width > 0:
            return
        small = width * LEAST_FACTOR * sample
        answer, at = asker.ask(op, {x: small}), np.argmax(sample if high > 0 else -sample)
        factor = float(answer.flat[at] / small.flat[at])
        if not (np.isfinite(factor) and factor > 0):
            return
        wide = 2 * width / factor * sample
        asker.check(op, asker.ask(op, {x: wide}), np.clip(factor * wide, low, high), "a clip")
    except ModelError:
        return
    found.clips[op.name] = (low / factor, high / factor)  # type: ignore[index]


def gelu(asker: Asker, op: Activation) -> float:
    """The factor of the argument."""
    (x,) = op.inputs
    sample = asker.random(x)
    kind = "a gelu of one matrix"
    large: Floats = np.full(sample.shape, 1e3)
    factor = asker.factor(op, asker.ask(op, {x: large}), large, kind)
    reach = 4 / factor
    _check_gelu(asker, op, asker.ask(op, {x: reach * sample}), 4 * sample)
    return factor


def _check_gelu(asker: Asker, op: Activation, found: Floats, argument: Floats) -> None:
    cubic = argument + 0.044715 * argument**3  # the tanh form, arXiv 1606.08415
    wanted = argument / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * cubic))
    if found.shape != wanted.shape or not np.abs(found - wanted).max() <= GELU_TOLERANCE:
        raise unlike(op, "a gelu of one matrix")


def activation(asker: Asker, op: Activation) -> float:
    """The factor of the argument: functions are about linear behind 0, or far from it, on one side."""
    (x,) = op.inputs
    kind = f"the {op.function} of one matrix"
    function = FUNCTIONS_IN_FLOAT[op.function]
    sample = asker.random(x)
    at, middle, factor = 1e-3 if op.function in BOUNDED else 1e3, function(np.zeros(1)), 1.0
    if function(np.full(1, at)) == middle:  # as of what 0 bounds from above
        at = -at
    rise = function(np.full(1, at)) - middle
    for _ in range(2):  # the second time where the argument is that, whatever the factor
        argument: Floats = np.full(sample.shape, at / factor)
        found = asker.ask(op, {x: argument}) - asker.ask(op, {x: 0 * argument})
        factor *= asker.factor(op, found, np.broadcast_to(rise, sample.shape), kind)
    reach = 4 / factor
    found, wanted = asker.ask(op, {x: reach * sample}), function(4 * sample)
    asker.check(op, found - middle, wanted - middle, kind)
    return factor


def gate_factor(asker: Asker, op: Gate) -> float:
    """The factor of a product of two matrices, element by element."""
    a, b = op.inputs
    kind = "a product of two matrices of one size, element by element"
    x, y = asker.random(a), asker.random(b)
    if x.shape != y.shape:
        raise unlike(op, kind)
    y = x if a == b else y
    return asker.factor(op, asker.ask(op, {a: x, b: y}), x * y, kind)


def rotary_angles(asker: Asker, op: Rotary) -> Floats:
    """Cosines and sines [rows, 2, columns] of what turns pairs of neighbouring columns.

    Raises OtherOrder where pairs lie otherwise.
    """
    if order := _pairs_apart(op, partial(_turned, asker, op)):
        raise OtherOrder(op, order)
    return neighbours_angles(asker, op)


def neighbours_angles(asker: Asker, op: Rotary) -> Floats:
    """As `rotary_angles`, where pairs are known to lie side by side. Raises Refusal where they do not."""
    (x,) = op.inputs
    turned = partial(_turned, asker, op)
    places = np.arange(op.cols)
    even, odd = turned(places % 2 == 0), turned(places % 2 == 1)
    cosines = np.where(places % 2 == 0, even, odd)
    sines = np.where(places % 2 == 0, odd, even)
    sample = asker.random(x)
    heads = sample.reshape(op.rows, op.heads, -1, 2)
    others = heads[..., ::-1].reshape(op.rows, op.heads, op.cols)
    wanted = heads.reshape(others.shape) * cosines[:, np.newaxis] + others * sines[:, np.newaxis]
    asker.check(op, asker.ask(op, {x: sample}), wanted.reshape(sample.shape), ROTATION)
    return np.stack((cosines, sines), axis=1)


def run_table(
    model: FloatModel, graph: Graph, matrices: Matrices, name: str, step: float, feeds: Feeds
) -> Int8:
    """The table of the rotation `name` on one input, whose places give its angles, in `step`s."""
    op = graph.operator(name, Rotary)
    return angle_table(neighbours_angles(Asker(model, graph, matrices, feeds), op), step)


def _turned(asker: Asker, op: Rotary, columns: Floats) -> Floats:
    """Of a head of which these columns are 1, the others 0."""
    heads, (x,) = np.tile(columns, (op.rows, op.heads)), op.inputs
    if heads.shape != asker.random(x).shape:
        raise unlike(op, ROTATION)
    answer = asker.ask(op, {x: heads}).reshape(op.rows, op.heads, op.cols)[:, 0]
    found: Floats = answer.astype(np.float64)
    return found


def _pairs_apart(op: Rotary, turned: Callable[[Floats], Floats]) -> tuple[int, ...]:
    """The columns of a head with pairs side by side, those of none last; () where they are so already.

    A column's partner has the bits of its number in which the column's result is neither all of it nor
    nothing.
    """
    places, whole = np.arange(op.cols), turned(np.ones(op.cols))
    partner = places.copy()
    for bit in range((op.cols - 1).bit_length()):
        own = places >> bit & 1
        differs = np.abs(turned(own.astype(np.float64)) - whole * own).max(axis=0) > LEAST_TURN
        partner = np.where(differs, partner ^ (1 << bit), partner)
    if (partner >= op.cols).any() or (partner[partner % op.cols] != places).any():
        raise unlike(op, ROTATION)
    pairs = [(i, int(p)) for i, p in enumerate(partner) if i < p]
    alone = [i for i, p in enumerate(partner) if i == p]
    order = (*(column for pair in pairs for column in pair), *alone)
    aside = all(i ^ 1 == p for i, p in pairs)
    return () if aside else order
