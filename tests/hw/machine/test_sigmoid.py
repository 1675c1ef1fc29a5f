"""The sigmoid's parabolas fit their widths, hang together, and give what scalar twins give."""

import numpy as np
import pytest
import scalar_model
from gate_errors import UNARY, as_int8, decibels, sigmoid, unary_errors, values

from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.sigmoid import (
    HALF,
    OFFSET_BITS,
    ONE,
    SEGMENTS,
    SHIFT_BITS,
    TAIL,
    VERTEX_BITS,
    WIDTH,
    hard_factor,
    package,
    segments,
    sigmoid_factor,
    tanh_factor,
)

EVERY = np.arange(-(1 << 19), 1 << 19)


def test_numbers_fit_their_widths() -> None:
    assert len(segments()) == SEGMENTS + 1
    for segment in segments():
        assert WIDTH <= segment.vertex < 1 << VERTEX_BITS
        assert 0 < segment.offset < 1 << OFFSET_BITS
        assert 0 < segment.shift < 1 << SHIFT_BITS


def test_no_parabola_of_the_same_curvatures_is_nearer() -> None:
    """Of any vertex near the fitted one, any offset and any shift: not by a unit of the factor."""
    for number, segment in enumerate(segments()[1:-1], start=1):
        f = np.arange(WIDTH)
        exact = ONE * sigmoid((number * WIDTH + f) / 1024)

        def error(vertex: int, shift: int, exact: np.ndarray = exact, f: np.ndarray = f) -> float:
            left = exact + ((vertex - f) ** 2 >> shift)
            return float(left.max() - left.min()) / 2

        found = error(segment.vertex, segment.shift)
        for shift in (segment.shift - 1, segment.shift, segment.shift + 1):
            center = segment.vertex * 2 ** (shift - segment.shift)
            near = range(max(WIDTH, int(center) - 600), min(1 << VERTEX_BITS, int(center) + 600), 7)
            assert found < 1 + min((error(vertex, shift) for vertex in near), default=found)


def test_the_factor_is_monotone_odd_about_a_half_and_ends_in_one() -> None:
    factor = sigmoid_factor(EVERY)
    assert np.diff(factor).min() >= -1  # where one segment meets the next
    assert (factor[1:] + factor[1:][::-1] == ONE).all()
    assert factor[1 << 19] == HALF and factor[-1] == ONE and factor[0] == 0
    assert (factor[EVERY >= TAIL + (4 << 10)] == ONE).all()
    tanh = tanh_factor(EVERY)
    assert tanh.min() == 0 == tanh[1 << 19] and tanh.max() == ONE


def test_factors_equal_their_scalar_twins() -> None:
    v = [*range(-9000, 9001, 7), *range(-300, 301), -(1 << 19), (1 << 19) - 1]
    for found, twin in (
        (sigmoid_factor, scalar_model.sigmoid_factor),
        (hard_factor, scalar_model.hard_factor),
    ):
        assert found(np.array(v)).tolist() == [twin(x) for x in v]


@pytest.mark.parametrize("name", UNARY)
def test_values_equal_their_scalar_twins(name: str) -> None:
    v = [*range(-9000, 9001, 17), *range(-300, 301), -(1 << 40), 1 << 40]
    found = FUNCTION[name].values(np.array(v), np.ones((), dtype=np.bool_), 1, 0)
    assert found.tolist() == [scalar_model.unary(name, x) for x in v]


@pytest.mark.parametrize("name", UNARY)
def test_every_value_is_far_nearer_than_i_gelu(name: str) -> None:
    largest, rms = unary_errors(name)
    assert largest < 0.018 / 20 and rms < 0.0082 / 20


@pytest.mark.parametrize("reach", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", UNARY)
def test_int8_of_a_full_range_is_as_good_as_int8_can_be(name: str, reach: int) -> None:
    """Beside results of float, rounded to int8: within 1 dB."""
    unit = FUNCTION[name].input_scale
    assert unit is not None
    v = np.arange(-int(reach / unit), int(reach / unit))
    exact = UNARY[name](v * unit)
    found = decibels(exact, as_int8(name, values(name, v), exact))
    scale = np.abs(exact).max() / 127
    assert found >= 44 and found > decibels(exact, np.rint(exact / scale) * scale) - 1


def test_the_package_has_every_number() -> None:
    text = package()
    for number, segment in enumerate(segments()[:-1]):
        assert f"{number}: return {VERTEX_BITS}'d{segment.vertex};" in text
    last = segments()[-1]
    assert f"default: return '{{shift: {SHIFT_BITS}'d{last.shift}, offset: " in text
