"""The drain's arithmetic once more, in Python's unbounded integers, one lane and one row at a time.

Written from the formulas, not from hw/machine/arithmetic.py; every intermediate is checked to fit the width
that the hardware has for it.
"""

from collections.abc import Callable, Sequence
from math import isqrt


def fits(x: int, bits: int, *, signed: bool = True) -> int:
    """x, which must fit."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    assert low <= x <= high, f"{x} does not fit {bits} bits"
    return x


def clamp(x: int, bits: int) -> int:
    return max(-(1 << (bits - 1)), min(x, (1 << (bits - 1)) - 1))


def shifted(x: int, n: int) -> int:
    return x if n == 0 else (x + (1 << (n - 1))) >> n


def first_requantizer(acc: int, bias: int, multiplier: int, shift: int) -> int:
    total = fits(fits(acc, 32) + fits(bias, 32), 33)
    return shifted(fits(total * fits(multiplier, 24), 57), shift)


def second_requantizer(value: int, multiplier: int, offset: int, shift: int) -> int:
    product = fits(fits(value, 20) * fits(multiplier, 24), 44)
    return clamp(shifted(fits(product + fits(offset, 32), 45), shift), 8)


def gelu(v: int) -> int:
    v = clamp(v, 20)
    u = fits(2562 - min(abs(v), 2562), 12, signed=False)
    s = fits(u * u, 23, signed=False)
    g = fits(s if v < 0 else 2 * 7261612 - s, 24, signed=False)
    factor = fits(g >> 7, 17, signed=False)
    return clamp(shifted(fits(v * factor, 37), 16), 20)


def exponential(d: int) -> int:
    fits(d, 20, signed=False)
    z, f = d >> 10, d & 1023
    quadratic = fits((1959 - f) ** 2 + 2108000, 23, signed=False)
    return fits(shifted(quadratic, 7 + min(z, 31)), 16, signed=False)


def softmax(row: Sequence[int], limit: int) -> list[int]:
    row = [clamp(v, 20) for v in row]
    used = row[: max(limit, 0)]
    if not used:
        return [0] * len(row)
    highest = max(used)
    e = [exponential(highest - v) for v in used]
    total = fits(sum(e), 32, signed=False)
    assert total >= 46451
    n = total.bit_length() - 1
    divisor = fits(total >> (n - 15), 16, signed=False)
    factor = fits((1 << 31) // divisor, 17, signed=False)
    values = [clamp(shifted(fits(x * factor, 33, signed=False), n), 20) for x in e]
    return values + [0] * (len(row) - len(used))


def _norm(row: Sequence[int], columns: int, total: int, mean16: int) -> list[int]:
    used = row[:columns]
    squares = fits(sum(v * v for v in used), 46, signed=False)
    spread = fits(columns * squares - total * total, 62, signed=False)
    a = columns.bit_length() - 1
    factor = shift = 0
    if spread:
        j = (spread.bit_length() - 1) // 2 * 2
        wide = fits(spread >> (j - 30) if j >= 30 else spread << (30 - j), 32, signed=False)
        root = fits(isqrt(wide), 16, signed=False)
        divisor = fits(columns << (15 - a), 16, signed=False)
        assert root >> 15 and divisor >> 15
        factor = fits((divisor << 16) // root, 17, signed=False)
        shift = 8 - a + j // 2
        assert 0 <= shift <= 39
    centered = [fits(16 * v - mean16, 21) for v in used]
    values = [clamp(shifted(fits(c * factor, 38), shift), 20) for c in centered]
    return values + [0] * (len(row) - columns)


def layernorm(row: Sequence[int], columns: int) -> list[int]:
    row = [clamp(v, 16) for v in row]
    total = fits(sum(row[:columns]), 32)
    a = columns.bit_length() - 1
    scaled = 1 << (23 + a)
    inverse = (2 * scaled + columns) // (2 * columns)
    assert abs(inverse * columns - scaled) * 2 <= columns
    mean16 = fits(shifted(fits(total * fits(inverse, 24, signed=False), 56), 19 + a), 21)
    return _norm(row, columns, total, mean16)


def rmsnorm(row: Sequence[int], columns: int) -> list[int]:
    row = [clamp(v, 16) for v in row]
    return _norm(row, columns, 0, 0)


ROW_FUNCTIONS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    "softmax": softmax,
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
}
