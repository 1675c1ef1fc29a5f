"""Attention in parts: against unbounded integers, and against real numbers at every length."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scalar_model
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.machine import arithmetic, attention
from codesign.hw.machine.arithmetic import Ints
from codesign.hw.machine.attention import Alignment, RowState

Floats = npt.NDArray[np.float64]
DIM = 16  # keys of a part
OUT = arithmetic.dyadic(127 / arithmetic.EXP_OF_ZERO)  # exponentials to int8
V = st.one_of(
    st.integers(-(1 << 19), (1 << 19) - 1),
    st.sampled_from((-(1 << 40), -(1 << 19), -1024, -1, 0, 1, 1023, 1024, 1 << 19, 1 << 40)),
)
OCTAVE = st.one_of(st.integers(-512, 512), st.integers(-40, 40))
TOTAL = st.one_of(st.integers(0, (1 << 31) - 1), st.integers(0, 4))
STATE = st.builds(
    lambda octave, total: RowState(np.array([octave]), np.array([total])), OCTAVE, TOTAL
)


@given(st.lists(V, min_size=1, max_size=20), st.integers(-3, 24), st.integers(-3, 24))
def test_exponentials_of_a_part(row: list[int], first: int, limit: int) -> None:
    column = np.arange(len(row))
    valid = (column >= first) & (column < limit)
    e, state = attention.exponentials(np.array([row]), valid[np.newaxis])
    twin, alone = scalar_model.exponentials(row, min(limit, len(row)), first)
    assert e[0].tolist() == twin
    assert (state.octave[0], state.total[0]) == (alone.octave, alone.total)
    assert not valid.any() or state.total[0] >= arithmetic.EXP_OF_ZERO // 2


@given(STATE, STATE)
def test_states_join(before: RowState, part: RowState) -> None:
    state, by = attention.joined(before, part)
    twin, shift, raised = scalar_model.joined(
        *(scalar_model.State(int(s.octave[0]), int(s.total[0])) for s in (before, part))
    )
    assert (state.octave[0], state.total[0]) == (twin.octave, twin.total)
    assert (by.shift[0], by.old[0]) == (shift, raised)


@given(
    st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 20), 1 << 20), st.integers(0, 31),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_is_lower_is_shifted_to_the_nearest(
    total: int, product: int, shift: int, old: bool, rescale: bool
) -> None:
    by = Alignment(np.array([shift]), np.array([old]))
    found = attention.shifted_sum(np.array([[total]]), np.array([[product]]), by, rescale=rescale)
    so_far = scalar_model.shifted(total, shift if old and rescale else 0)
    assert found[0, 0] == so_far + scalar_model.shifted(product, 0 if old else shift)


@given(
    st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, (1 << 32) - 1),
    st.integers(-(1 << 23), (1 << 23) - 1),
)  # fmt: skip
def test_quotients(acc: int, total: int, multiplier: int) -> None:
    found = attention.quotient(np.array([[acc]]), np.array([total]), multiplier)
    assert found[0, 0] == scalar_model.quotient(acc, total, multiplier)


def attend(v: Ints, values: Ints, keys: int = DIM) -> Floats:
    """softmax(v).values of scores v [rows, keys] in 2^-10 octaves, in parts of so many keys."""
    state, sums = None, np.zeros((len(v), values.shape[1]), dtype=np.int64)
    for at in range(0, v.shape[1], keys):
        scores = v[:, at : at + keys]
        e, part = attention.exponentials(scores, np.ones_like(scores, dtype=np.bool_))
        state, by = attention.begun(part) if state is None else attention.joined(state, part)
        p = arithmetic.requantize_output(e, OUT[0], 0, OUT[1])
        for tile in range(0, scores.shape[1], DIM):
            products = p[:, tile : tile + DIM] @ values[at + tile : at + tile + DIM]
            sums = attention.shifted_sum(sums, products, by, rescale=tile == 0)
        assert (np.abs(sums) < 1 << 31).all()
    assert state is not None
    value = attention.quotient(sums, state.total, 1 << attention.QUOTIENT_BITS)
    assert (np.abs(value) < (1 << 19) - 1).all()  # nothing is clamped
    return value * attention.QUOTIENT_SCALE * arithmetic.EXP_OF_ZERO / 127


def whole(v: Ints, values: Ints) -> Floats:
    """The same by the softmax of whole rows, whose int8 probabilities count 1/127."""
    p = arithmetic.softmax(v, np.ones_like(v, dtype=np.bool_))
    multiplier, shift = arithmetic.dyadic(127 * arithmetic.SOFTMAX_SCALE)
    found: Floats = arithmetic.requantize_output(p, multiplier, 0, shift) @ values / 127
    return found


def decibels(found: Floats, v: Ints, values: Ints) -> float:
    """Signal over error, against real numbers."""
    weight = 2.0 ** ((v - v.max(axis=1, keepdims=True)) / 1024)
    exact = weight @ values / weight.sum(axis=1, keepdims=True)
    return float(10 * np.log10((exact**2).sum() / ((found - exact) ** 2).sum()))


def normal(rng: np.random.Generator, rows: int, keys: int, spread: float) -> Floats:
    return rng.normal(0, spread, (rows, keys))


def sink(rng: np.random.Generator, rows: int, keys: int) -> Floats:
    """Half the mass on key 0, the rest spread over all others."""
    scores = rng.normal(0, 0.5, (rows, keys))
    scores[:, 0] = np.log(np.exp(scores[:, 1:]).sum(axis=1))
    return scores


def near(rng: np.random.Generator, rows: int, keys: int) -> Floats:
    """A sink, and a peak around each query's own place."""
    scores = rng.normal(0, 1, (rows, keys))
    place = rng.integers(0, keys, (rows, 1))
    scores += 4 * np.exp(-np.abs(np.arange(keys) - place) / 16)
    scores[:, 0] = np.log(np.exp(scores[:, 1:]).sum(axis=1))
    return scores


# Scores in units of e, and whether key 0 has a V of almost nothing, as sinks of trained networks.
ROWS: dict[str, tuple[Callable[..., Floats], dict[str, Any], bool]] = {
    "diffuse": (normal, {"spread": 0.3}, False),
    "normal": (normal, {"spread": 1.0}, False),
    "steep": (normal, {"spread": 4.0}, False),
    "sink": (sink, {}, False),
    "empty sink": (sink, {}, True),
    "sink and peak": (near, {}, False),
}
LENGTHS = (128, 512, 2048, 16384)
PAGE = Path(__file__).parents[3] / "docs" / "attention.md"


def documented(kind: str) -> list[list[int]]:
    """Decibels of each length: in parts of 16 keys, of 64, and whole."""
    line = re.search(rf"^\| {kind} \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None, kind
    return [[int(number) for number in cell.split("/")] for cell in line[1].split("|")]


def case(kind: str, keys: int) -> tuple[Ints, Ints]:
    """Scores in 2^-10 octaves [rows, keys] and V [keys, 64]."""
    rng = np.random.default_rng(keys)
    values = np.rint(rng.normal(0, 32, (keys, 64)) + rng.normal(0, 12, 64)).clip(-127, 127)
    draw, numbers, empty = ROWS[kind]
    if empty:
        values[0] = np.rint(rng.normal(0, 2, 64))
    scores = draw(rng, 32, keys, **numbers)
    v = np.rint(scores / arithmetic.SOFTMAX_INPUT_SCALE)
    return v.astype(np.int64), values.astype(np.int64)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("keys", LENGTHS)
def test_rows_keep_their_bits_at_every_length(kind: str, keys: int) -> None:
    v, values = case(kind, keys)
    ways = (attend(v, values), attend(v, values, 64), whole(v, values))
    found = tuple(decibels(way, v, values) for way in ways)
    assert all(
        said <= max(of, 0) < said + 1
        for of, said in zip(found, documented(kind)[LENGTHS.index(keys)], strict=True)
    ), found
    assert found[0] > 25
