"""Gates and rotations equal their scalar twins to the bit, and are near what float gives."""

from itertools import product

import numpy as np
import pytest
import scalar_model
from gate_errors import GATES, gate_decibels, rotation_decibels
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.machine.functions import FUNCTION

ALL = np.ones((), dtype=np.bool_)
EXTREMES = (-(1 << 40), -(1 << 15) - 1, -(1 << 15), -1, 0, 1, (1 << 15) - 1, 1 << 15, 1 << 40)
OPERANDS = st.one_of(st.integers(-(1 << 16), 1 << 16), st.sampled_from(EXTREMES))


@pytest.mark.parametrize("name", GATES)
def test_gates_equal_their_scalar_twins(name: str) -> None:
    rng = np.random.default_rng(0)
    pairs = [*product(EXTREMES, repeat=2), *rng.integers(-(1 << 15), 1 << 15, (2000, 2)).tolist()]
    found = FUNCTION[name].values(np.array(pairs).T, ALL, 1, 0)
    assert found.tolist() == [scalar_model.gated(name, v, u) for v, u in pairs]


@given(st.lists(st.tuples(OPERANDS, OPERANDS, OPERANDS), min_size=2, max_size=2))
def test_rotations_equal_their_scalar_twins(pair: list[tuple[int, int, int]]) -> None:
    x, cosine, sine = (list(column) for column in zip(*pair, strict=True))
    found = FUNCTION["rotate"].values(np.array([x, cosine, sine]), ALL, 2, 0)
    assert found.tolist() == scalar_model.rotated(x, cosine, sine)


def test_a_rotation_turns_neighbours() -> None:
    """By a quarter and by none; blocks and rows stay apart."""
    x = np.arange(16).reshape(2, 2, 4) * 100
    one, sign = np.full_like(x, 1 << 12), np.where(np.arange(4) % 2, 1, -1) << 12
    turned = FUNCTION["rotate"].values(np.stack([x, 0 * one, 0 * one + sign]), ALL, 4, 0)
    assert turned[0, 0].tolist() == [-100, 0, -300, 200]
    still = FUNCTION["rotate"].values(np.stack([x, one, 0 * one]), ALL, 4, 0)
    assert (still == x).all()


def check(count: int) -> None:
    """So many random operands of each."""
    rng = np.random.default_rng(count)
    for name in GATES:
        value, int8 = gate_decibels(name, rng, count)
        assert value > (54 if name == "geglu" else 84) and int8 > 40
    value, int8 = rotation_decibels(rng, count // 64, 64)
    assert value > 96 and int8 > 45


def test_gates_are_near_the_real_ones() -> None:
    check(100_000)


@pytest.mark.long
def test_gates_of_many_operands_are_near_the_real_ones() -> None:
    check(10_000_000)
