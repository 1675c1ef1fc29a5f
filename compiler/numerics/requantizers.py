"""Requantizers: real factors and offsets as the integers that fit the machine's fields."""

import numpy as np

from codesign.compiler.numerics.calibrate import LEVELS
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.numerics.quantized import QuantizationError, Requantizer
from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Ints


def probabilities(unit: float, name: str) -> Requantizer:
    """From 2^-16 to `unit`, of which 1 / 127 is the largest: a probability of 1 becomes 127."""
    one = np.ones(1, dtype=np.int64)
    if unit == 1 / LEVELS:
        return Requantizer(LEVELS * one, 16 * one, 0 * one)
    return requantizer(arithmetic.SOFTMAX_SCALE / unit, 0, name)


def requantizer(real: Floats | float, offset: Ints | int, name: str) -> Requantizer:
    """The requantizers of positive factors. Raises QuantizationError where one is out of range."""
    factors = np.atleast_1d(np.asarray(real, dtype=np.float64))
    try:
        pairs = np.array([arithmetic.dyadic(float(f)) for f in factors], dtype=np.int64)
    except ValueError as error:
        raise QuantizationError(f"{name!r}: requantizer {error}") from error
    offsets = np.broadcast_to(np.asarray(offset, dtype=np.int64), factors.shape)
    return Requantizer(pairs[:, 0], pairs[:, 1], offsets)


def affine(factor: Floats, added: Floats, name: str) -> Requantizer:
    """value * factor + added in int8 codes: the largest shift at which multiplier and offset fit."""
    bits = arithmetic.MULTIPLIER_BITS - 1
    multiplier_room = bits - 1 - np.frexp(factor)[1]
    offset_room = 30 - np.frexp(added)[1]
    shift = np.minimum(np.minimum(multiplier_room, offset_room), 40).astype(np.int64)
    if (shift < 0).any():
        raise QuantizationError(
            f"{name!r}: its scale or bias is too large for the range of its output"
        )
    power = np.ldexp(1.0, shift)
    return Requantizer(
        np.round(factor * power).astype(np.int64), shift, np.round(added * power).astype(np.int64)
    )


def within(values: Floats | Ints, largest: int, name: str, what: str) -> Ints:
    """The values as integers; QuantizationError when one's magnitude is above `largest`."""
    worst = float(np.abs(values).max(initial=0))
    if not worst <= largest:
        raise QuantizationError(
            f"{name!r}: a {what} reaches {worst:.3g} but an int32 holds {largest}: "
            "split the operator, or calibrate on data with a wider range"
        )
    return np.asarray(values).astype(np.int64)
