"""Elementwise operators: their functions in float, and what a file says of their factors and limits."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from codesign.compiler.graph import Activation, Gate, HostOp
from codesign.compiler.numerics.asking import Asker, unlike
from codesign.compiler.numerics.constants import Constants, Floats
from codesign.hw.errors import ModelError

UNLIMITED = 1e30  # that a relu returns it shows that nothing limits it
LARGE = 1e4  # still so, where a file subtracts what lies beyond a limit: float32 keeps both
LEAST_FACTOR = 1e-5  # of what a relu's argument is multiplied by, and 1 over the largest
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


EXACT: Mapping[str, Callable[[Floats], Floats]] = {
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
    """The factor of the argument: functions are about linear around 0, or far from it."""
    (x,) = op.inputs
    kind = f"the {op.function} of one matrix"
    function = EXACT[op.function]
    sample = asker.random(x)
    at = 1e-3 if op.function in BOUNDED else 1e3
    argument: Floats = np.full(sample.shape, at)
    middle = function(np.zeros(1))
    slope = (function(np.full(1, at)) - function(np.full(1, -at))) / (2 * at)
    odd = (asker.ask(op, {x: argument}) - asker.ask(op, {x: -argument})) / 2
    factor = asker.factor(op, odd, slope * argument, kind)
    reach = 4 / factor
    found, wanted = asker.ask(op, {x: reach * sample}), function(4 * sample)
    asker.check(op, found - middle, wanted - middle, kind)
    return factor


def gate(asker: Asker, op: Gate) -> float:
    """The factor of a product of two matrices, element by element."""
    a, b = op.inputs
    kind = "a product of two matrices of one size, element by element"
    x, y = asker.random(a), asker.random(b)
    if x.shape != y.shape:
        raise unlike(op, kind)
    y = x if a == b else y
    return asker.factor(op, asker.ask(op, {a: x, b: y}), x * y, kind)
