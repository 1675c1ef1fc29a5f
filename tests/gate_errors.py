"""How far gates and what is made of a sigmoid are from the real functions, over every input or at random."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.machine import arithmetic
from codesign.hw.machine.functions import FUNCTION

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
NO_MASK = np.ones((), dtype=np.bool_)


def sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def gelu(x: Floats) -> Floats:
    found: Floats = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return found


def hard(x: Floats) -> Floats:
    return np.clip(x / 6 + 0.5, 0, 1)


UNARY: dict[str, Callable[[Floats], Floats]] = {
    "silu": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid": hard,
    "hard_swish": lambda x: x * hard(x),
}
GATES: dict[str, Callable[[Floats], Floats]] = {
    "product": lambda x: x,
    "glu": sigmoid,
    "reglu": lambda x: np.maximum(x, 0),
    "geglu": gelu,
    "swiglu": UNARY["silu"],
}


def values(name: str, v: Ints) -> Floats:
    """What the machine computes of v, or of several operands, in the units of `value_scale`."""
    of = FUNCTION[name]
    return of.values(v, NO_MASK, v.shape[-1], 0) * of.value_scale


def unary_errors(name: str) -> tuple[float, float]:
    """The largest error over every v of 20 bits, and the RMS within +-8."""
    of = FUNCTION[name]
    assert of.input_scale is not None
    v = np.arange(-(1 << 19), 1 << 19)
    x = v * of.input_scale
    error = np.abs(values(name, v) - UNARY[name](x))
    return float(error.max()), float(np.sqrt((error[np.abs(x) <= 8] ** 2).mean()))


def decibels(exact: Floats, found: Floats) -> float:
    """Power of what is exact over that of the error."""
    return float(10 * np.log10((exact**2).sum() / ((found - exact) ** 2).sum()))


def as_int8(name: str, value: Floats, exact: Floats) -> Floats:
    """Values in int8, scaled to the largest of what is exact, by the last requantizer."""
    scale = float(np.abs(exact).max()) / 127
    of_unit = FUNCTION[name].value_scale
    multiplier, shift = arithmetic.dyadic(of_unit / scale)
    counted = np.rint(value / of_unit).astype(np.int64)
    return arithmetic.requantize_output(counted, multiplier, 0, shift) * scale


def gate_decibels(name: str, rng: np.random.Generator, count: int) -> tuple[float, float]:
    """Of values and of int8 results; operands are uniform, the first in +-8, the second in 16 bits."""
    unit = FUNCTION[name].input_scale or 8 / (1 << 15)
    first = rng.integers(-int(8 / unit), int(8 / unit), count)
    second = rng.integers(-(1 << 15), 1 << 15, count)
    exact = GATES[name](first * unit) * second
    if FUNCTION[name].input_scale is None:
        exact = exact / unit
    found = values(name, np.stack([first, second]))
    return decibels(exact, found), decibels(exact, as_int8(name, found, exact))


def rotation_decibels(rng: np.random.Generator, rows: int, columns: int) -> tuple[float, float]:
    """Of values and of int8 results of pairs of uniform numbers of 16 bits, turned by any angle."""
    x = rng.integers(-(1 << 15), 1 << 15, (rows, columns))
    angle = np.repeat(rng.uniform(0, 2 * math.pi, (rows, columns // 2)), 2, axis=1)
    sign = np.where(np.arange(columns) % 2, 1, -1)
    cosine, sine = np.cos(angle), sign * np.sin(angle)
    other = x.reshape(rows, -1, 2)[..., ::-1].reshape(rows, columns)
    exact = x * cosine + other * sine
    largest = (1 << 15) - 1
    tables = [np.rint(table * largest).astype(np.int64) for table in (cosine, sine)]
    found, wanted = values("rotate", np.stack([x, *tables])), exact * largest
    return decibels(wanted, found), decibels(wanted, as_int8("rotate", found, wanted))
