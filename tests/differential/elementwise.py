"""Stages that leave a tensor's shape: functions, sums and products with constants, comparisons."""

import math
from typing import Any

from .writer import Value, Writer

# Functions of one tensor: the opset that brought them, attributes to draw from.
FUNCTIONS: dict[str, tuple[int, dict[str, tuple[Any, ...]]]] = {
    "Abs": (1, {}),
    "Ceil": (1, {}),
    "Celu": (12, {"alpha": (0.7, 1.0)}),
    "Cos": (7, {}),
    "Elu": (1, {"alpha": (0.5, 1.0)}),
    "Erf": (9, {}),
    "Floor": (1, {}),
    "HardSigmoid": (1, {"alpha": (0.2, 1 / 6), "beta": (0.5,)}),
    "HardSwish": (14, {}),
    "LeakyRelu": (1, {"alpha": (0.01, 0.3)}),
    "Mish": (18, {}),
    "Neg": (1, {}),
    "Relu": (1, {}),
    "Round": (11, {}),
    "Selu": (1, {}),
    "Sigmoid": (1, {}),
    "Sign": (9, {}),
    "Sin": (7, {}),
    "Softplus": (1, {}),
    "Softsign": (1, {}),
    "Swish": (24, {"alpha": (1.0, 1.702)}),
    "Tanh": (1, {}),
    "ThresholdedRelu": (10, {"alpha": (0.2, 1.0)}),
}
BOUNDS = ((0.0, None), (0.0, 6.0), (0.0, 0.7), (-0.5, 1.5), (None, 0.5), (-1.0, 1.0), (0.3, 2.0))


def function(w: Writer, x: Value) -> Value:
    """A function of each element."""
    op_type = w.pick(*(name for name, (since, _) in FUNCTIONS.items() if since <= w.opset))
    _, attributes = FUNCTIONS[op_type]
    drawn = {name: w.pick(*values) for name, values in attributes.items() if w.chance(0.7)}
    return w.apply(op_type, x, **drawn)


def positive(w: Writer, x: Value) -> Value:
    """Functions that take only what is positive, or not zero, or not large."""
    op_type = w.pick("Log", "Sqrt", "Reciprocal", "Exp", "Pow")
    if op_type == "Exp":
        return w.apply("Exp", w.apply("Tanh", x))
    away = w.apply("Add", w.apply("Abs", x), w.floats(w.pick(0.5, [1.0])))
    if op_type == "Pow":
        return w.apply("Pow", away, w.floats(w.pick(0.5, -0.5, 1.5)))
    return w.apply(op_type, away)


def power(w: Writer, x: Value) -> Value:
    """A square or cube."""
    if w.chance(0.3):
        return w.apply("Mul", x, x)
    exponent = w.pick(2.0, 3.0)
    return w.apply("Pow", x, w.pick(w.floats(exponent), w.const(int(exponent), "int64")))


def relu(w: Writer, x: Value) -> Value:
    """Relu as an operator, as a Clip or as a Max."""
    form = w.pick("Relu", "Clip", "Max")
    if form == "Clip":
        return w.apply("Clip", x, w.floats(0.0))
    return w.apply("Max", x, w.floats(0.0)) if form == "Max" else w.apply("Relu", x)


def clip(w: Writer, x: Value) -> Value:
    """Clip with bounds, or the same of Max, Min and Relu."""
    low, high = w.pick(*BOUNDS)
    if w.chance(0.5):
        bounds = [w.floats(low) if low is not None else ""]
        return w.apply("Clip", x, *bounds, *([w.floats(high)] if high is not None else []))
    if low is not None:
        x = w.apply("Relu", x) if low == 0 else w.apply("Max", x, w.floats(low))
    return x if high is None else w.apply("Min", x, w.floats(high))


def gelu(w: Writer, x: Value) -> Value:
    """GELU in the forms that there are."""
    form = w.pick("Gelu", "contrib", "fast", "biased", "quick", "erf", "erf", "tanh", "sigmoid")
    if form == "Gelu":
        w.since(20)
        return w.apply("Gelu", x, approximate=w.pick("none", "tanh"))
    if form in ("contrib", "quick"):
        return w.contrib("Gelu" if form == "contrib" else "QuickGelu", x)
    if form in ("fast", "biased"):
        bias = w.normal(x.shape[-1], deviation=0.3)
        given = () if form == "fast" and w.chance(0.4) else (bias,)
        return w.contrib("FastGelu" if form == "fast" else "BiasGelu", x, *given)
    return written_gelu(w, x, form)


def written_gelu(w: Writer, x: Value, form: str) -> Value:
    """GELU in steps, its factors in some order."""
    if form == "sigmoid":
        gate = w.apply("Mul", x, w.floats(1.702), inner=True)
        return w.apply("Mul", x, w.apply("Sigmoid", gate, inner=True))
    if form == "tanh":
        cube = w.apply("Pow", x, w.floats(3.0), inner=True)
        inside = w.apply("Add", x, w.apply("Mul", cube, w.floats(0.044715), inner=True), inner=True)
        inside = w.apply("Mul", inside, w.floats(math.sqrt(2 / math.pi)), inner=True)
        gate = w.apply("Tanh", inside, inner=True)
    else:
        gate = w.apply("Erf", w.apply("Div", x, w.floats(math.sqrt(2)), inner=True), inner=True)
    gate = w.apply("Add", gate, w.floats(1.0), inner=True)
    if w.chance(0.5):
        return w.apply("Mul", w.apply("Mul", x, w.floats(0.5), inner=True), gate)
    return w.apply("Mul", w.apply("Mul", x, gate, inner=True), w.floats(0.5))


def _constant(w: Writer, x: Value, deviation: float, mean: float) -> str:
    """A constant that broadcasts to x: a scalar, a row, a column, a block, or all of it."""
    form = w.pick("scalar", "one", "row", "row", "column", "all", "lead")
    if form == "scalar":
        return w.floats(w.rng.normal(mean, deviation))
    shape = [1] * x.rank
    if form in ("row", "all"):
        shape[-1] = x.shape[-1]
    if form in ("column", "all") and x.rank > 1:
        shape[-2] = x.shape[-2]
    if form in ("lead", "all"):
        shape[0] = x.shape[0]
    cut = int(w.rng.integers(0, x.rank)) if form in ("row", "one") else 0
    return w.normal(*shape[cut:], deviation=deviation, mean=mean)


def constant_operand(w: Writer, x: Value) -> Value:
    """Add, Sub, Mul, Div, Max, Min or Sum with a constant, on either side."""
    op_type = w.pick("Add", "Add", "Sub", "Mul", "Mul", "Div", "Max", "Min", "Sum", "Mean")
    if op_type == "Div":
        return w.apply("Div", x, _constant(w, x, 0.2, w.pick(1.5, -1.5)))
    other = _constant(w, x, 0.5, w.pick(0.0, 1.0))
    sides = (x, other) if w.chance(0.6) else (other, x)
    return w.apply(op_type, *sides, shape=x.shape)


def two_tensors(w: Writer, x: Value) -> Value:
    """A node with two activations that depend on x, of one size or broadcast."""
    y = w.apply(w.pick("Tanh", "Neg", "Sigmoid"), x) if w.chance(0.7) else x
    if w.chance(0.3):
        axis = w.axis(x)
        narrow = tuple(1 if at == axis % x.rank else n for at, n in enumerate(x.shape))
        y = w.apply("ReduceSum", y, w.ints(axis), shape=narrow, keepdims=1)
        y = w.apply("Mul", y, w.floats(0.25))
    op_type = w.pick("Add", "Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Div")
    if op_type == "Div":
        y = w.apply("Add", w.apply("Abs", y), w.floats(0.5))
    elif op_type in ("Sum", "Mean", "Max") and w.chance(0.5):
        return w.apply(op_type, x, y, x, shape=x.shape)
    sides = (x, y) if w.chance(0.5) or op_type == "Div" else (y, x)
    return w.apply(op_type, *sides, shape=x.shape)


def choice(w: Writer, x: Value) -> Value:
    """Where, by a constant or by a comparison."""
    y = w.apply("Mul", x, w.floats(-0.5))
    if w.chance(0.4):
        keep = w.const(w.rng.random(x.shape[-w.pick(1, 2) :]) < 0.6, "bool")
        other: Value | str = y if w.chance(0.5) else w.floats(0.0)
        return w.apply("Where", keep, x, other, shape=x.shape)
    limit = w.floats(w.pick(0.0, 0.4))
    tests = [
        w.apply(w.pick("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), x, limit, inner=True),
        w.apply("Equal", w.apply("Abs", x), x, inner=True),
        w.apply(w.pick("IsNaN", "IsInf"), x, inner=True) if w.dtype == "float32" else None,
    ]
    chosen = [test for test in tests if test is not None]
    condition = w.pick(*chosen)
    if w.chance(0.3):
        condition = w.apply("Not", condition, inner=True)
    if w.chance(0.3):
        condition = w.apply(w.pick("And", "Or", "Xor"), condition, chosen[0], inner=True)
    return w.apply("Where", condition, x, y, shape=x.shape)


def remainder(w: Writer, x: Value) -> Value:
    """Mod, and PRelu with a slope a channel."""
    if w.chance(0.5):
        return w.apply("Mod", x, w.floats(1.5), fmod=1)
    return w.apply("PRelu", x, w.normal(x.shape[-1], deviation=0.3))


STAGES = (
    function,
    function,
    function,
    function,
    positive,
    power,
    relu,
    clip,
    gelu,
    constant_operand,
    constant_operand,
    constant_operand,
    two_tensors,
    two_tensors,
    choice,
    remainder,
)
