"""The drain's arithmetic once more, in Python's unbounded integers, one lane and one row at a time.

Written from the formulas, not from hw/machine/arithmetic.py; every intermediate is checked to fit the width
that the hardware has for it. Only the sigmoid's fitted numbers are those of hw/machine/sigmoid.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt

from codesign.hw.machine.sigmoid import segments


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


def gelu_factor(v: int) -> int:
    u = fits(2562 - min(abs(v), 2562), 12, signed=False)
    s = fits(u * u, 23, signed=False)
    g = fits(s if v < 0 else 2 * 7261612 - s, 24, signed=False)
    return fits(g >> 7, 17, signed=False)


def sigmoid_factor(v: int) -> int:
    magnitude = fits(abs(v), 20, signed=False)
    number = min(magnitude // 256, 32)
    segment = segments()[number]
    distance = max(fits(segment.vertex, 14, signed=False) - (magnitude - 256 * number), 0)
    square = fits(fits(distance, 14, signed=False) ** 2, 28, signed=False)
    fall = square // 2 ** fits(segment.shift, 5, signed=False)
    factor = fits(fits(segment.offset, 18, signed=False) - fall, 17, signed=False)
    assert 32768 <= factor <= 65536
    return 65536 - factor if v < 0 else factor


def hard_factor(v: int) -> int:
    half = fits(min(abs(v), 3072) * 43691, 28, signed=False) // 4096
    return fits(32768 - half if v < 0 else 32768 + half, 17, signed=False)


# The value, at most 20 bits, and the factor of a v.
PARTS: dict[str, Callable[[int], tuple[int, int]]] = {
    "linear": lambda v: (v, 65536),
    "rectified": lambda v: (max(v, 0), 65536),
    "gelu": lambda v: (v, gelu_factor(v)),
    "silu": lambda v: (v, sigmoid_factor(v)),
    "sigmoid": lambda v: (32768, sigmoid_factor(v)),
    "tanh": lambda v: (-32768 if v < 0 else 32768, 2 * sigmoid_factor(abs(v)) - 65536),
    "hard_sigmoid": lambda v: (32768, hard_factor(v)),
    "hard_swish": lambda v: (v, hard_factor(v)),
}
GATES = {
    "product": "linear",
    "glu": "sigmoid",
    "reglu": "rectified",
    "geglu": "gelu",
    "swiglu": "silu",
}
UNARY = tuple(PARTS)[2:]


def weighted(value: int, factor: int) -> int:
    product = fits(fits(value, 21) * fits(factor, 17, signed=False), 38)
    return clamp(shifted(product, 16), 20)


def unary(function: str, v: int) -> int:
    value, factor = PARTS[function](clamp(v, 20))
    return weighted(value, factor)


def gelu(v: int) -> int:
    return unary("gelu", v)


def multiplied(one: int, other: int) -> int:
    return fits(fits(one, 17) * fits(other, 17), 32) >> 12


def gated(function: str, v: int, u: int) -> int:
    value, factor = PARTS[GATES[function]](clamp(v, 16))
    return weighted(multiplied(value, clamp(u, 16)), factor)


def rotated(row: Sequence[int], cosines: Sequence[int], sines: Sequence[int]) -> list[int]:
    """Pairs of neighbours, turned."""
    x = [clamp(v, 16) for v in row]
    terms = [
        (multiplied(x[j], clamp(cosines[j], 16)), multiplied(x[j ^ 1], clamp(sines[j], 16)))
        for j in range(len(x))
    ]
    return [weighted(fits(a + b, 21), 65536) for a, b in terms]


def exponential(d: int) -> int:
    fits(d, 21, signed=False)
    z, f = d >> 10, d & 1023
    quadratic = fits((1959 - f) ** 2 + 2108000, 23, signed=False)
    return fits(shifted(quadratic, 7 + min(z, 31)), 16, signed=False)


def softmax(row: Sequence[int], limit: int, first: int = 0) -> list[int]:
    """Of columns `first` to before `limit`."""
    row = [clamp(v, 20) for v in row]
    first = max(first, 0)
    used = row[first : max(limit, first)]
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
    return [0] * first + values + [0] * (len(row) - first - len(used))


@dataclass(frozen=True)
class State:
    """Of a row that comes in parts: its octave and its sum of exponentials."""

    octave: int
    total: int


def exponentials(row: Sequence[int], limit: int, first: int = 0) -> tuple[list[int], State]:
    """Of columns `first` to before `limit` of a part of a row, and its state alone."""
    row = [clamp(v, 20) for v in row]
    used = range(max(first, 0), max(limit, first, 0))
    octave = fits(-(-max((row[j] for j in used), default=-(1 << 19)) // 1024), 11)
    e = [exponential(1024 * octave - v) if j in used else 0 for j, v in enumerate(row)]
    return e, State(octave, fits(sum(e), 32, signed=False))


def joined(before: State, part: State) -> tuple[State, int, bool]:
    """The state behind one more part, by how much what is lower is shifted, and whether that is
    what was there before.
    """
    raised = part.octave > before.octave
    high, low = (part, before) if raised else (before, part)
    shift = min(high.octave - low.octave, 31)
    total = high.total + shifted(fits(low.total, 32, signed=False), shift)
    return State(high.octave, total % 2**32), shift, raised


def quotient(acc: int, total: int, multiplier: int) -> int:
    if not total:
        return 0
    n = total.bit_length() - 1
    v = clamp(shifted(fits(fits(acc, 32) * fits(multiplier, 24), 56), n), 20)
    divisor = fits(total * 2**15 // 2**n, 16, signed=False)
    assert divisor >> 15
    return weighted(v, (1 << 31) // divisor)


def _norm(row: Sequence[int], columns: int, total: int, mean16: int, epsilon: int) -> list[int]:
    used = row[:columns]
    squares = fits(sum(v * v for v in used), 46, signed=False)
    squares += fits(columns * fits(epsilon, 30, signed=False), 46, signed=False)
    squares = min(squares, 2**46 - 1)
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


def layernorm(row: Sequence[int], columns: int, epsilon: int = 0) -> list[int]:
    row = [clamp(v, 16) for v in row]
    total = fits(sum(row[:columns]), 32)
    a = columns.bit_length() - 1
    scaled = 1 << (23 + a)
    inverse = (2 * scaled + columns) // (2 * columns)
    assert abs(inverse * columns - scaled) * 2 <= columns
    mean16 = fits(shifted(fits(total * fits(inverse, 24, signed=False), 56), 19 + a), 21)
    return _norm(row, columns, total, mean16, epsilon)


def rmsnorm(row: Sequence[int], columns: int, epsilon: int = 0) -> list[int]:
    row = [clamp(v, 16) for v in row]
    return _norm(row, columns, 0, 0, epsilon)


NORMS: dict[str, Callable[[Sequence[int], int, int], list[int]]] = {
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
}
ROW_FUNCTIONS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    "softmax": softmax,
    "layernorm": layernorm,
    "rmsnorm": rmsnorm,
}
