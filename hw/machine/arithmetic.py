"""The integer arithmetic of the drain: every number of the machine to the bit.

All values are two's complement. `>>` is an arithmetic shift, so it rounds down; `rounded` adds half
first, so it rounds to nearest with ties up; `saturate` clamps. Arrays are int64, in which nothing
below overflows while the operands keep the widths stated; the hardware has the widths stated.

    acc int32 -> requantize -> v -> softmax | layernorm | rmsnorm -> requantize_output -> int8
                               v -> value x factor                -> requantize_output -> int8
                               v -> copy | relu                   -> saturate          -> int8

Values and factors are those of GELU here and of sigmoids in `sigmoid`; `functions` says which
function is which.

The polynomials are I-BERT's (arXiv 2101.01321), folded into fixed point. How far the results are
from the real functions is in docs/numerics.md.
"""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]

OUTPUT_BITS = 8
VALUE_BITS = 20  # of scores, GELU inputs and all values before the last requantizer
OPERAND_BITS = 16  # of what two operands are multiplied with
PRODUCT_DROPPED_BITS = 12  # of their product
FACTOR_ONE = 1 << 16  # a factor of 1; factors are unsigned numbers of 17 bits
NORM_BITS = 16  # of what layernorm and rmsnorm take in
SQUARES_BITS = 46  # of a row's sum of squares
MULTIPLIER_BITS = 24
MAX_SHIFT = 62  # of both requantizers
FRACTION_BITS = 10  # of GELU inputs and softmax scores
MAX_COLUMNS = (1 << 16) - 1  # of one row of a row function

# i-GELU: x / 2 (1 + sign(x) (1 + a (min(|x| / sqrt 2, -b) + b)^2)), a = -0.2888, b = -1.769. In
# units of 2^-10 the clip is at b sqrt 2 = 2562, and with u = 2562 - min(|v|, 2562) the bracket is
# 1 + sign(v) (1 - u^2 / ONE), where ONE = 2^21 / 0.2888.
GELU_CLIP = 2562
GELU_ONE = 7261612
GELU_DROPPED_BITS = 7  # of 1 + erf, which keeps 17

# i-exp in base 2: 2^(-f / 1024) for 0 <= f < 1024 is proportional to (1959 - f)^2 + 2108000, within
# 1.55e-3 of the value at f = 0: no integer vertex with an offset in thousands has a smaller maximum
# error. The published quadratic, for e^p, has 1.9e-3.
EXP_VERTEX = 1959
EXP_OFFSET = 2108000
EXP_DROPPED_BITS = 7  # of the quadratic, so that the exponential of 0 is 46451, below 2^16
EXP_MAX_SHIFT = 31  # a barrel shifter's worth of octaves; 16 of them already give 0
EXP_OF_ZERO = (EXP_VERTEX**2 + EXP_OFFSET + 64) >> EXP_DROPPED_BITS

# What one unit stands for.
GELU_INPUT_SCALE = 2.0**-FRACTION_BITS  # of v before gelu: v * this is its argument
SOFTMAX_INPUT_SCALE = math.log(2) * 2.0**-FRACTION_BITS  # of v before softmax: v is in octaves
GELU_SCALE = 2.0**12 / GELU_ONE  # of gelu's value: 2^-10 / 2 (x / 2) * 2^16 (round) * 2^7 / ONE
SOFTMAX_SCALE = 2.0**-16  # of a probability
NORM_SCALE = 2.0**-12  # of a normalized value


def saturate(x: Ints, bits: int) -> Ints:
    """Clamped to what `bits` signed bits hold."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def rounded(x: Ints, shift: Ints | int) -> Ints:
    """x / 2^shift to the nearest integer, ties up; |x| < 2^62 and shift <= 62."""
    return (x + (np.left_shift(np.int64(1), shift) >> 1)) >> shift


def msb(x: Ints) -> Ints:
    """Position of the highest set bit of 0 < x < 2^62; -1 for 0."""
    high = x >> 31
    exponent = np.frexp(np.where(high > 0, high, x).astype(np.float64))[1]
    return np.where(high > 0, exponent + 31, exponent).astype(np.int64) - 1


# -- Requantizers --------------------------------------------------------------------------------------


def requantize(acc: Ints, bias: Ints | int, multiplier: Ints | int, shift: Ints | int) -> Ints:
    """v = (acc + bias) * multiplier / 2^shift, rounded: 33 x 24 = 57 bits, not saturated yet.

    acc and bias are int32, the multiplier int24, the shift 0 to 62.
    """
    return rounded((acc + bias) * multiplier, shift)


def requantize_output(
    value: Ints, multiplier: Ints | int, offset: Ints | int, shift: Ints | int
) -> Ints:
    """int8 of a value: (value * multiplier + offset) / 2^shift, rounded; 20 x 24 + 32: 45 bits."""
    return saturate(rounded(value * multiplier + offset, shift), OUTPUT_BITS)


def dyadic(real: float) -> tuple[int, int]:
    """The multiplier (int24) and shift with multiplier / 2^shift nearest to a positive real.

    The multiplier has 23 significant bits, fewer for reals below 2^-40. Raises ValueError for what
    is no positive number above 2^-63, up to the largest multiplier.
    """
    if not (math.isfinite(real) and real > 0):
        raise ValueError(f"{real} is no positive factor")
    exponent = math.frexp(real)[1]
    shift = min(MULTIPLIER_BITS - 1 - exponent, MAX_SHIFT)
    multiplier = round(math.ldexp(real, shift))
    if multiplier == 1 << (MULTIPLIER_BITS - 1):
        multiplier, shift = multiplier >> 1, shift - 1
    if shift < 0 or multiplier == 0:
        raise ValueError(f"{real} is no int{MULTIPLIER_BITS} multiplier over 2^0 to 2^{MAX_SHIFT}")
    return multiplier, shift


# -- Values times factors ------------------------------------------------------------------------------


def weighted(value: Ints, factor: Ints | int) -> Ints:
    """value (21 bits) * factor (17) / 2^16 in 20 bits."""
    return saturate(rounded(value * factor, 16), VALUE_BITS)


def product(value: Ints, v: Ints) -> Ints:
    """A value (17 bits) times v, which is saturated to 16: 20 bits, rounded down."""
    found: Ints = value * saturate(v, OPERAND_BITS) >> PRODUCT_DROPPED_BITS
    return found


def rotated(x: Ints, cosine: Ints, sine: Ints) -> Ints:
    """x * cosine + (the other of its pair of columns) * sine: 21 bits; columns are the last axis."""
    x = saturate(x, OPERAND_BITS)
    swapped = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    turned: Ints = product(x, cosine) + product(swapped, sine)
    return turned


# -- GELU ----------------------------------------------------------------------------------------------


def gelu_factor(v: Ints) -> Ints:
    """By what v (20 bits of GELU_INPUT_SCALE) is multiplied: u 12 bits, u^2 23, 1 + erf 24."""
    u = GELU_CLIP - np.minimum(np.abs(v), GELU_CLIP)
    square = u * u
    factor: Ints = np.where(v < 0, square, 2 * GELU_ONE - square) >> GELU_DROPPED_BITS
    return factor


def gelu(v: Ints) -> Ints:
    """The value (20 bits, of GELU_SCALE) of v, which is saturated to 20 bits."""
    v = saturate(v, VALUE_BITS)
    return weighted(v, gelu_factor(v))


# -- Softmax -------------------------------------------------------------------------------------------


def exponential(d: Ints) -> Ints:
    """2^(-d / 1024) * 46451 for d >= 0 (20 bits): the quadratic 23 bits, the result 16."""
    z, f = d >> FRACTION_BITS, d & ((1 << FRACTION_BITS) - 1)
    base: Ints = EXP_VERTEX - f
    return rounded(base * base + EXP_OFFSET, EXP_DROPPED_BITS + np.minimum(z, EXP_MAX_SHIFT))


def softmax_reciprocal(total: Ints) -> tuple[Ints, Ints]:
    """R (17 bits) and n with R / 2^(n + 16) = 1 / total (32 bits); (0, 15) for a total of 0.

    The divisor has 16 bits, the highest of the sum: R = floor(2^31 / (total >> (n - 15))). A softmax
    of at least one valid column sums up to at least 46451, so that n is 15 to 31.
    """
    n = np.where(total > 0, msb(total), 15)
    divisor = np.where(n >= 15, total >> np.maximum(n - 15, 0), total << np.maximum(15 - n, 0))
    return np.where(total > 0, (1 << 31) // np.maximum(divisor, 1), 0), n


def softmax(v: Ints, valid: Bools) -> Ints:
    """Values (20 bits, of SOFTMAX_SCALE) of rows v [rows, columns]; 0 where not valid.

    v is saturated to 20 bits of SOFTMAX_INPUT_SCALE; e is 16 bits, the sum 32, e * R 33.
    """
    v = saturate(v, VALUE_BITS)
    highest = np.where(valid, v, -(1 << (VALUE_BITS - 1))).max(axis=1, keepdims=True)
    e = np.where(valid, exponential(np.maximum(highest - v, 0)), 0)
    factor, shift = softmax_reciprocal(e.sum(axis=1, keepdims=True))
    return saturate(rounded(e * factor, shift), VALUE_BITS)


# -- LayerNorm and RMSNorm -----------------------------------------------------------------------------


def inverse(columns: int) -> int:
    """2^(23 + a) / columns to the nearest integer (24 bits), a the position of columns' highest bit."""
    a = columns.bit_length() - 1
    return ((2 << (23 + a)) + columns) // (2 * columns)


def mean_of_sixteen(total: Ints, columns: int, inverse_of_columns: int) -> Ints:
    """16 * total / columns (20 bits), rounded, from a sum (32 bits) and `inverse`: 32 x 24 bits."""
    return rounded(total * inverse_of_columns, 19 + columns.bit_length() - 1)


def square_root(x: Ints) -> Ints:
    """floor(sqrt(x)) for x < 2^32. A double's square root is exact enough to be floored."""
    return np.floor(np.sqrt(x.astype(np.float64))).astype(np.int64)


def norm_reciprocal(spread: Ints, columns: int) -> tuple[Ints, Ints]:
    """R (17 bits) and shift with R / 2^shift = 2^8 * columns / sqrt(spread); (0, 0) for 0.

    spread (62 bits) is columns^2 times the variance. It is shifted by an even number to 32 bits,
    whose root has 16 with the highest set; columns are shifted to 16 bits the same way.
    """
    a = columns.bit_length() - 1
    j = np.where(spread > 0, msb(spread), 0) & ~1
    wide = np.where(j >= 30, spread >> np.maximum(j - 30, 0), spread << np.maximum(30 - j, 0))
    root = np.maximum(square_root(wide), 1)
    factor = ((columns << (15 - a)) << 16) // root
    return np.where(spread > 0, factor, 0), np.where(spread > 0, 8 - a + (j >> 1), 0)


def _normalized(centered: Ints, spread: Ints, columns: int) -> Ints:
    """sat20((16 * (v - mean)) * R / 2^shift): 21 x 17 bits."""
    factor, shift = norm_reciprocal(spread, columns)
    return saturate(rounded(centered * factor, shift), VALUE_BITS)


def _squares(used: Ints, epsilon: int) -> Ints:
    """The sum of squares and of epsilon (30 bits) a column, saturated to 46 bits."""
    total: Ints = (used * used).sum(axis=1, keepdims=True) + used.shape[1] * epsilon
    return np.minimum(total, (1 << SQUARES_BITS) - 1)


def layernorm(v: Ints, columns: int, inverse_of_columns: int, epsilon: int = 0) -> Ints:
    """Values (20 bits, of NORM_SCALE) of rows v [rows, >= columns]; 0 from `columns` on.

    v is saturated to 16 bits, its scale does not matter; epsilon counts squares of its unit. Per row:
    the sum S 32 bits, the sum of squares Q 46, columns * Q - S^2 62 and never negative,
    16 * v - 16 * mean 21. A row of equal values gives zeros.
    """
    v = saturate(v, NORM_BITS)
    used = v[:, :columns]
    total = used.sum(axis=1, keepdims=True)
    spread = columns * _squares(used, epsilon) - total * total
    centered = 16 * v - mean_of_sixteen(total, columns, inverse_of_columns)
    return _only(_normalized(centered, spread, columns), columns)


def rmsnorm(v: Ints, columns: int, epsilon: int = 0) -> Ints:
    """As `layernorm`, with a mean of 0: values of v / sqrt(mean of v^2 + epsilon)."""
    v = saturate(v, NORM_BITS)
    spread = columns * _squares(v[:, :columns], epsilon)
    return _only(_normalized(16 * v, spread, columns), columns)


def _only(values: Ints, columns: int) -> Ints:
    values[:, columns:] = 0
    return values


# -- Parameter records ---------------------------------------------------------------------------------


def pack_parameters(bias: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> Bytes:
    """Records [channels, 8] of the parameter memory: int32, int24, uint8, little endian.

    The operands are broadcast to one dimension. Raises ValueError for a number that does not fit.
    """
    arrays = np.broadcast_arrays(np.atleast_1d(np.asarray(bias)), multiplier, shift)
    b, m, s = (np.asarray(array, dtype=np.int64) for array in arrays)
    if (saturate(b, 32) != b).any() or (saturate(m, MULTIPLIER_BITS) != m).any():
        raise ValueError("a bias is no int32 or a multiplier no int24")
    if ((s < 0) | (s > MAX_SHIFT)).any():
        raise ValueError(f"a shift is not from 0 to {MAX_SHIFT}")
    low_multiplier = m & ((1 << MULTIPLIER_BITS) - 1)
    words = (b & 0xFFFFFFFF) | (low_multiplier << 32) | (s << 56)
    return words.astype("<i8").view(np.uint8).reshape(-1, 8)


def unpack_parameters(records: Bytes) -> tuple[Ints, Ints, Ints]:
    """Bias, multiplier and shift [...] of records [..., 8]."""
    words = np.ascontiguousarray(records).view("<i8")[..., 0].astype(np.int64)
    return (words << 32) >> 32, (words << 8) >> 40, (words >> 56) & 0xFF
