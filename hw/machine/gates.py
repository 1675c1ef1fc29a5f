"""Functions of single elements, each a value times a factor of v, and gates of two operands.

    v -> value x factor          v of 20 bits
    v, u -> (value x u) x factor       both of 16: the gate of the same function

Factors are unsigned numbers of 17 bits that count 2^-16.
"""

from collections.abc import Callable

import numpy as np

from codesign.hw.machine import arithmetic, sigmoid
from codesign.hw.machine.arithmetic import FACTOR_ONE, OPERAND_BITS, VALUE_BITS, Bools, Ints

Parts = Callable[[Ints], tuple[Ints, Ints | int]]  # the value and the factor of v
IntegerFunction = Callable[[Ints, Bools, int, int], Ints]  # see functions.DrainFunction

PRODUCT_SCALE = 2.0**arithmetic.PRODUCT_DROPPED_BITS  # of a product, in units of its operands


def unary(parts: Parts) -> IntegerFunction:
    """A function of single elements."""

    def values(v: Ints, valid: Bools, columns: int, epsilon: int) -> Ints:
        return arithmetic.weighted(*parts(arithmetic.saturate(v, VALUE_BITS)))

    return values


def gate(parts: Parts) -> IntegerFunction:
    """Its gate, of operands [2, ...]."""

    def values(v: Ints, valid: Bools, columns: int, epsilon: int) -> Ints:
        first, second = v
        value, factor = parts(arithmetic.saturate(first, OPERAND_BITS))
        return arithmetic.weighted(arithmetic.product(value, second), factor)

    return values


def rotation(v: Ints, valid: Bools, columns: int, epsilon: int) -> Ints:
    """Pairs of neighbouring columns, turned; operands [3, ...] are x, cosines and sines."""
    x, cosine, sine = v
    return arithmetic.weighted(arithmetic.rotated(x, cosine, sine), FACTOR_ONE)


def linear_parts(v: Ints) -> tuple[Ints, int]:
    """v itself."""
    return v, FACTOR_ONE


def rectified_parts(v: Ints) -> tuple[Ints, int]:
    """max(v, 0)."""
    return np.maximum(v, 0), FACTOR_ONE


def gelu_parts(v: Ints) -> tuple[Ints, Ints]:
    """i-GELU: v (1 + erf) / 2."""
    return v, arithmetic.gelu_factor(v)


def silu_parts(v: Ints) -> tuple[Ints, Ints]:
    """v times its sigmoid."""
    return v, sigmoid.sigmoid_factor(v)


def sigmoid_parts(v: Ints) -> tuple[Ints, Ints]:
    """1 times the sigmoid."""
    return np.full_like(v, sigmoid.HALF), sigmoid.sigmoid_factor(v)


def tanh_parts(v: Ints) -> tuple[Ints, Ints]:
    """The sign times |tanh|."""
    return np.where(v < 0, -sigmoid.HALF, sigmoid.HALF), sigmoid.tanh_factor(v)


def hard_sigmoid_parts(v: Ints) -> tuple[Ints, Ints]:
    """1 times the hard sigmoid."""
    return np.full_like(v, sigmoid.HALF), sigmoid.hard_factor(v)


def hard_swish_parts(v: Ints) -> tuple[Ints, Ints]:
    """v times its hard sigmoid."""
    return v, sigmoid.hard_factor(v)
