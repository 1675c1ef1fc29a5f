"""Numbers and names as tables show them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.search.terminal import figures


@given(st.floats(1e-12, 1e12), st.integers(2, 6))
def test_significant_digits_are_right_to_half_a_unit(value: float, digits: int) -> None:
    text = figures.significant(value, digits)
    assert "e" not in text
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    assert abs(float(text) - value) <= 0.5001 * unit


@given(st.floats(1e-12, 9e11))
def test_a_prefix_leaves_one_to_three_digits(value: float) -> None:
    factor, si = figures.prefix([value])
    assert 1 <= value * factor * (1 + 1e-9) and value * factor < 1000 * (1 + 1e-9)
    exponent = {"p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}[si]
    assert math.isclose(factor, 10.0**-exponent)


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_a_column_has_equally_many_decimals(values: list[float]) -> None:
    cells = figures.aligned([*values, None])
    assert cells.pop() == ""
    assert len({len(cell.partition(".")[2]) for cell in cells}) == 1
    places = len(cells[0].partition(".")[2])
    for cell, value in zip(cells, values, strict=True):
        assert abs(float(cell) - value) <= 0.5001 * 10.0**-places


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.0, "1.000"), (99.996, "100.0"), (123456, "123500"), (0.05, "0.05000")],
)
def test_significant_examples(value: float, text: str) -> None:
    assert figures.significant(value) == text
