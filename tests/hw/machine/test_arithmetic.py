"""The integer arithmetic equals its scalar twin at every extreme, and is as near to the real
functions as docs/numerics.md says.
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gate_errors
import numpy as np
import numpy.typing as npt
import pytest
import scalar_model
from hypothesis import example, given
from hypothesis import strategies as st

from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Ints

INT32 = st.one_of(
    st.sampled_from((-(1 << 31), (1 << 31) - 1, 0)), st.integers(-(1 << 31), 2**31 - 1)
)
INT24 = st.one_of(
    st.sampled_from((-(1 << 23), (1 << 23) - 1, 1)), st.integers(-(1 << 23), 2**23 - 1)
)
SHIFTS = st.integers(0, 62)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "numerics.md"


def column(*numbers: int) -> Ints:
    return np.array(numbers, dtype=np.int64)


# -- To the bit ----------------------------------------------------------------------------------------


@given(acc=INT32, bias=INT32, multiplier=INT24, shift=SHIFTS)
@example(acc=-(1 << 31), bias=-(1 << 31), multiplier=-(1 << 23), shift=62)
@example(acc=-(1 << 31), bias=-(1 << 31), multiplier=-(1 << 23), shift=0)
def test_the_first_requantizer(acc: int, bias: int, multiplier: int, shift: int) -> None:
    found = arithmetic.requantize(column(acc), column(bias), column(multiplier), column(shift))
    assert found[0] == scalar_model.first_requantizer(acc, bias, multiplier, shift)


@given(st.integers(-(1 << 19), 2**19 - 1), INT24, INT32, SHIFTS)
@example(-(1 << 19), -(1 << 23), (1 << 31) - 1, 0)
def test_the_last_requantizer(value: int, multiplier: int, offset: int, shift: int) -> None:
    found = arithmetic.requantize_output(
        column(value), column(multiplier), column(offset), column(shift)
    )
    assert found[0] == scalar_model.second_requantizer(value, multiplier, offset, shift)


def test_rounding_is_to_nearest_with_ties_up() -> None:
    x = column(-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 5, 6)
    assert arithmetic.rounded(x, 2).tolist() == [-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2]
    assert arithmetic.rounded(x, 0).tolist() == x.tolist()


@given(st.integers(1, (1 << 62) - 1))
@example((1 << 62) - 1)
@example((1 << 54) - 1)
@example((1 << 31) - 1)
@example(1 << 31)
def test_the_highest_bit(x: int) -> None:
    assert arithmetic.msb(column(x, 0)).tolist() == [x.bit_length() - 1, -1]


def test_gelu_equals_its_scalar_twin() -> None:
    near = range(-2600, 2601)
    far = [sign * (1 << n) + d for n in range(12, 40) for sign in (-1, 1) for d in (-1, 0, 1)]
    v = [*near, *far]
    assert arithmetic.gelu(column(*v)).tolist() == [scalar_model.gelu(x) for x in v]


def test_the_exponential_equals_its_scalar_twin() -> None:
    d = [*range(20 << 10), *range(20 << 10, 1 << 20, 997), (1 << 20) - 1]
    assert arithmetic.exponential(column(*d)).tolist() == [scalar_model.exponential(x) for x in d]
    assert arithmetic.EXP_OF_ZERO == arithmetic.exponential(column(0))[0]


def rows_of(function: str, matrix: Ints, columns: int, epsilon: int = 0) -> Ints:
    """A row function over the first `columns` of every row."""
    match function:
        case "softmax":
            valid = np.broadcast_to(np.arange(matrix.shape[1]) < columns, matrix.shape)
            return arithmetic.softmax(matrix, valid)
        case "layernorm":
            return arithmetic.layernorm(matrix, columns, arithmetic.inverse(columns), epsilon)
    return arithmetic.rmsnorm(matrix, columns, epsilon)


@given(
    st.sampled_from(("softmax", "layernorm", "rmsnorm")),
    st.integers(1, 40),
    st.integers(0, 4),
    st.integers(0, 33),
    st.integers(-(1 << 20), 1 << 20),
    st.integers(0, 1 << 32),
)
def test_row_functions_equal_their_scalar_twins(
    function: str, columns: int, extra: int, bits: int, center: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    row = center + rng.integers(-(1 << bits), (1 << bits) + 1, columns + extra)
    twin = scalar_model.ROW_FUNCTIONS[function]([int(v) for v in row], columns)
    assert rows_of(function, row[np.newaxis], columns)[0].tolist() == twin


@given(
    st.sampled_from(tuple(scalar_model.NORMS)),
    st.integers(1, 40),
    st.integers(0, 15),
    st.integers(0, (1 << 30) - 1),
    st.integers(0, 1 << 32),
)
def test_norms_with_an_epsilon_equal_their_scalar_twins(
    function: str, columns: int, bits: int, epsilon: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    row = rng.integers(-(1 << bits), (1 << bits) + 1, columns + 2)
    twin = scalar_model.NORMS[function](row.tolist(), columns, epsilon)
    assert rows_of(function, row[np.newaxis], columns, epsilon)[0].tolist() == twin


def extreme_rows(columns: int) -> Iterator[tuple[str, Ints]]:
    """Rows in which sums, squares and spreads are as large, or as small, as they can be."""
    low, high = -(1 << 15), (1 << 15) - 1
    yield "all lowest", np.full(columns, low)
    yield "all highest", np.full(columns, high)
    yield "half and half", np.where(np.arange(columns) < columns // 2, low, high)
    yield "one differs", np.where(np.arange(columns) == 0, high, low)
    yield "one differs by one", np.where(np.arange(columns) == columns - 1, 1, 0)
    yield "one differs by one at the end", np.where(np.arange(columns) == 0, high - 1, high)
    yield "zero", np.zeros(columns, dtype=np.int64)
    yield "beyond saturation", np.where(np.arange(columns) % 2, -(1 << 40), 1 << 40)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 255, 256, 257, 16384, 65535])
def test_row_functions_at_their_extremes(columns: int) -> None:
    for name, row in extreme_rows(columns):
        for function, twin in scalar_model.ROW_FUNCTIONS.items():
            found = rows_of(function, row[np.newaxis].astype(np.int64), columns)[0]
            assert (found == np.array(twin(row.tolist(), columns))).all(), (name, function)
        for function, norm in scalar_model.NORMS.items():
            for epsilon in (1, 1 << 16, (1 << 30) - 1):  # the sum of squares saturates
                found = rows_of(function, row[np.newaxis].astype(np.int64), columns, epsilon)[0]
                assert (found == np.array(norm(row.tolist(), columns, epsilon))).all(), name


@pytest.mark.parametrize("columns", range(1, 33))
def test_the_least_spread_of_each_width(columns: int) -> None:
    """The smallest shift is never negative: the spread of a row that is not constant is at least
    columns - 1.
    """
    shifts = [
        int(arithmetic.norm_reciprocal(column(max(1, n - 1)), n)[1][0])
        for n in (columns, (1 << 15) + columns, (1 << 14) - columns, (1 << 16) - columns)
    ]
    assert min(shifts) >= 0


def test_roots_are_floored_exactly() -> None:
    roots = np.arange(1, 1 << 16, dtype=np.int64)
    squares = roots * roots
    assert (arithmetic.square_root(squares) == roots).all()
    assert (arithmetic.square_root(squares - 1) == roots - 1).all()
    assert arithmetic.square_root(column((1 << 32) - 1))[0] == (1 << 16) - 1


def test_inverses_of_every_column_count() -> None:
    for columns in range(1, arithmetic.MAX_COLUMNS + 1):
        scaled = 1 << (23 + columns.bit_length() - 1)
        found = arithmetic.inverse(columns)
        assert abs(found * columns - scaled) * 2 <= columns and found < 1 << 24


def test_rows_without_a_valid_column_are_zero() -> None:
    nothing = np.zeros((1, 8), dtype=np.bool_)
    assert not arithmetic.softmax(np.arange(8)[np.newaxis], nothing).any()
    assert [int(x[0]) for x in arithmetic.softmax_reciprocal(column(0))] == [0, 15]


# -- Factors and records -------------------------------------------------------------------------------


@given(st.floats(2.0**-62.9, 2.0**23 - 1))
@example(1.0)
@example(float(np.nextafter(1.0, 0.0)))
@example(2.0**23 - 1)
def test_a_dyadic_factor_is_the_nearest(real: float) -> None:
    multiplier, shift = arithmetic.dyadic(real)
    assert 1 <= multiplier < 1 << 23 and 0 <= shift <= 62
    assert multiplier >= 1 << 22 or shift == 62
    assert abs(math.ldexp(multiplier, -shift) - real) <= math.ldexp(0.5, -shift)


@pytest.mark.parametrize("real", [0.0, -1.0, math.inf, math.nan, 2.0**23, 2.0**-63])
def test_no_dyadic_factor(real: float) -> None:
    with pytest.raises(ValueError):
        arithmetic.dyadic(real)


@given(st.lists(st.tuples(INT32, INT24, SHIFTS), min_size=1, max_size=9))
def test_parameter_records(records: list[tuple[int, int, int]]) -> None:
    packed = arithmetic.pack_parameters(*zip(*records, strict=True))
    for data, (bias, multiplier, shift) in zip(packed, records, strict=True):
        assert data.tobytes() == b"".join(
            (
                bias.to_bytes(4, "little", signed=True),
                multiplier.to_bytes(3, "little", signed=True),
                bytes([shift]),
            )
        )
    found = arithmetic.unpack_parameters(packed)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == records


@pytest.mark.parametrize("record", [(1 << 31, 0, 0), (0, 1 << 23, 0), (0, 0, 63), (0, 0, -1)])
def test_records_that_do_not_fit(record: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        arithmetic.pack_parameters(*record)


# -- Against the real functions ------------------------------------------------------------------------

Floats = npt.NDArray[np.float64]


@cache
def exponential_errors() -> tuple[float, float]:
    """Largest error against 2^-d / 1024 in units of the value at 0: of f alone, and over all d."""
    d = np.arange(1 << 20)
    found = arithmetic.exponential(d) / arithmetic.EXP_OF_ZERO
    error = np.abs(found - np.exp2(-d / 1024))
    return float(error[:1024].max()), float(error.max())


@cache
def gelu_errors() -> tuple[float, float, float]:
    """RMS and largest error for |x| <= 4, largest for |x| <= 8."""
    v = np.arange(-(8 << 10), (8 << 10) + 1)
    x = v * arithmetic.GELU_INPUT_SCALE
    exact = x / 2 * (1 + np.array([math.erf(t / math.sqrt(2)) for t in x]))
    error = np.abs(arithmetic.gelu(v) * arithmetic.GELU_SCALE - exact)
    inner = error[np.abs(x) <= 4]
    return float(np.sqrt((inner**2).mean())), float(inner.max()), float(error.max())


def softmax_error(rng: np.random.Generator, rows: int, columns: int) -> float:
    """Largest error of a probability; scores are normal with standard deviations of 0.1 to 8."""
    deviation = np.exp(rng.uniform(math.log(0.1), math.log(8), (rows, 1)))
    v = np.rint(rng.normal(size=(rows, columns)) * deviation / arithmetic.SOFTMAX_INPUT_SCALE)
    scores = v * arithmetic.SOFTMAX_INPUT_SCALE
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    found = rows_of("softmax", v.astype(np.int64), columns) * arithmetic.SOFTMAX_SCALE
    return float(np.abs(found - e / e.sum(axis=1, keepdims=True)).max())


def norm_error(rng: np.random.Generator, rows: int, columns: int, function: str) -> float:
    """Largest error of a normalized value, relative to 1 + |value|.

    Inputs have standard deviations of 100 to 4000 about a mean of at most as much again, as scales
    should make them; half of the calls add an epsilon of up to 2^26.
    """
    deviation = np.exp(rng.uniform(math.log(100), math.log(4000), (rows, 1)))
    mean = rng.uniform(-1, 1, (rows, 1)) * deviation
    v = np.rint(rng.normal(size=(rows, columns)) * deviation + mean)
    v = np.clip(v, -(1 << 15), (1 << 15) - 1)
    centered = v - v.mean(axis=1, keepdims=True) if function == "layernorm" else v
    epsilon = int(2 ** rng.uniform(0, 26)) if rng.random() < 0.5 else 0
    exact = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + epsilon)
    found = rows_of(function, v.astype(np.int64), columns, epsilon) * arithmetic.NORM_SCALE
    return float((np.abs(found - exact) / (1 + np.abs(exact))).max())


WIDTHS = (64, 128, 512, 1024)
SOFTMAX_BOUND = {64: 1e-3, 128: 1e-3, 512: 1e-3, 1024: 1.5e-3}
NORM_BOUND = {"layernorm": 6e-4, "rmsnorm": 1.5e-4}


def check_random_rows(rows: int, seed: int) -> None:
    """`rows` random rows of each row function, shared among the widths, keep the bounds."""
    rng = np.random.default_rng(seed)
    for columns in WIDTHS:
        left = rows // len(WIDTHS)
        while left:
            chunk = min(left, (1 << 20) // columns)
            left -= chunk
            assert softmax_error(rng, chunk, columns) <= SOFTMAX_BOUND[columns]
            for function, bound in NORM_BOUND.items():
                assert norm_error(rng, chunk, columns, function) <= bound


def test_row_functions_are_near_the_real_ones() -> None:
    check_random_rows(2000, seed=1)


@pytest.mark.long
def test_a_million_rows_are_near_the_real_ones() -> None:
    check_random_rows(1_000_000, seed=2)


# -- docs/numerics.md ----------------------------------------------------------------------------------


def claims() -> Iterator[str]:
    """The numbers of the page as computed; bounds are those that the random rows keep."""
    exp_of_fraction, exp = exponential_errors()
    assert exp_of_fraction == exp
    rms, inner, outer = gelu_errors()
    assert inner == outer
    yield f"every d | largest {exp:.2e} of the value at 0 | 1.9e-3 |"
    yield f"every v within +-8 | RMS {rms:.4f} and largest {inner:.4f} within +-4, no larger up to"
    for name in gate_errors.UNARY:
        largest, rms = gate_errors.unary_errors(name)
        yield f"| {name} | every v | largest {largest:.1e}, RMS {rms:.1e} within +-8 |"
    for name in gate_errors.GATES:
        value, int8 = gate_errors.gate_decibels(name, np.random.default_rng(0), 100_000)
        yield f"| {name} | {value:.0f} dB | {int8:.1f} dB |"
    value, int8 = gate_errors.rotation_decibels(np.random.default_rng(0), 1000, 64)
    yield f"| rotate | {value:.0f} dB | {int8:.1f} dB |"
    for columns, bound in SOFTMAX_BOUND.items():
        yield f"| {columns} columns | largest {bound:.1e} of a probability |"
    for function, bound in NORM_BOUND.items():
        yield f"| {function} | largest {bound:.1e} x (1 + |value|) |"
    yield f"GELU_SCALE = {arithmetic.GELU_SCALE:.4e}"
    yield f"a = -{2**21 / arithmetic.GELU_ONE:.4f}"
    yield f"({arithmetic.EXP_VERTEX} - f)^2 + {arithmetic.EXP_OFFSET}"
    yield f"exponential of 0 is {arithmetic.EXP_OF_ZERO}"


@pytest.mark.parametrize("claim", tuple(claims()))
def test_the_page_says_what_is_computed(claim: str) -> None:
    assert claim in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_the_page_has_no_other_errors() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    published_and_settings = ("| 0.0082, 0.018 |", "deviations of 0.1 to 8 in scores")
    for known in (*sorted(claims(), key=len, reverse=True), *published_and_settings):
        text = text.replace(known, "~")
    assert not re.findall(r"\d+\.?\d*e-?\d+|\d+ ?%|\d+\.\d+(?!\d*\))", text.replace("-1.769", ""))
