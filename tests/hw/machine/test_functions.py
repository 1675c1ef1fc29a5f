"""The table of drain functions is consistent, and nobody else writes down what is in it."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gate_errors
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import codesign.hw
from codesign.hw.costs.sram import read_toml
from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Ints
from codesign.hw.machine.attention import QUOTIENT_SCALE
from codesign.hw.machine.events import EVENTS
from codesign.hw.machine.functions import (
    DRAIN_FUNCTIONS,
    FUNCTION,
    FUNCTION_EVENTS,
    PASSES,
    DrainFunction,
)
from codesign.hw.machine.isa import FUNCTIONS, ROW_FUNCTIONS

HW = Path(codesign.hw.__file__).parent
Floats = npt.NDArray[np.float64]
LN2 = np.log(2)


def swapped(x: Floats) -> Floats:
    """Neighbouring columns in each other's place."""
    return x.reshape(len(x), -1, 2)[..., ::-1].reshape(x.shape)


EXACT: dict[str, Callable[..., Any]] = {  # on reals x [rows, columns], or on several
    "copy": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": gate_errors.gelu,
    "exponentials": lambda x: 2.0 ** (x / LN2 - np.ceil(x.max(axis=1, keepdims=True) / LN2)),
    "quotient": lambda x: x,  # of a row whose sum is 1
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
    "layernorm": lambda x: (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True),
    "rmsnorm": lambda x: x / np.sqrt((x * x).mean(axis=1, keepdims=True)),
    **gate_errors.UNARY,
    "product": lambda x, u: x * u,
    "glu": lambda x, u: gate_errors.sigmoid(x) * u,
    "reglu": lambda x, u: np.maximum(x, 0) * u,
    "geglu": lambda x, u: gate_errors.gelu(x) * u,
    "swiglu": lambda x, u: x * gate_errors.sigmoid(x) * u,
    "rotate": lambda x, cosine, sine: x * cosine + swapped(x) * sine,
}


@pytest.mark.parametrize("function", DRAIN_FUNCTIONS, ids=lambda function: function.name)
def test_a_row_is_consistent(function: DrainFunction) -> None:
    assert FUNCTION[function.name] is function
    assert FUNCTIONS.index(function.name) == DRAIN_FUNCTIONS.index(function)
    assert function.by_row == (function.latency > 0)
    assert (function.name in ROW_FUNCTIONS) == (function.by_row and not function.stateful)
    order = [PASSES.index(turn) for turn in function.passes]
    assert order == sorted(set(order)) and function.passes[-1] == "output"
    events = {*function.element_events, *function.row_events}
    assert events <= FUNCTION_EVENTS & set(EVENTS)
    assert len(events) == len(function.element_events) + len(function.row_events)
    assert bool(events) == function.normalization  # what needs units has events that pay for them
    assert not (function.masked or function.centered or function.affine) or function.by_row


@pytest.mark.parametrize("function", DRAIN_FUNCTIONS, ids=lambda function: function.name)
def test_scales_say_what_a_unit_is(function: DrainFunction) -> None:
    most = 7.9 if function.input_scale != QUOTIENT_SCALE else 1.9
    x = np.random.default_rng(0).normal(0, 2, (function.operands, 50, 40)).clip(-most, most)
    units = [function.input_scale or 2.0**-12, *[2.0**-12] * (function.operands - 1)]
    v = np.stack(
        [np.rint(part / unit).astype(np.int64) for part, unit in zip(x, units, strict=True)]
    )
    valid = np.ones(x.shape[1:], dtype=np.bool_)
    value = function.values(v if function.operands > 1 else v[0], valid, x.shape[-1], 0)
    scale = function.value_scale if function.normalization else units[0]
    if function.operands > 1:
        scale *= 2.0**-12 * (1 if function.input_scale else units[0])
    assert function.name in EXACT, "say above what the new function is of reals"
    of_second = np.maximum(np.abs(x[1]), 1) if function.operands > 1 else 1
    assert (np.abs(value * scale - EXACT[function.name](*x)) / of_second).max() < 0.03


@given(arrays(np.int64, (3, 8), elements=st.integers(-(1 << 40), 1 << 40)), st.integers(1, 8))
def test_values_fit_the_second_requantizer(v: Ints, columns: int) -> None:
    valid = np.arange(8) < np.full((3, 1), columns)
    for function in DRAIN_FUNCTIONS:
        operands = np.stack([v, v[::-1], -v][: function.operands])
        value = function.values(operands if function.operands > 1 else v, valid, columns, 0)
        assert value.shape == v.shape
        if function.normalization:
            assert (arithmetic.saturate(value, arithmetic.VALUE_BITS) == value).all()


def test_events_are_counted_of_numbers_and_of_arrays() -> None:
    softmax = FUNCTION["softmax"].events(60, 5)
    assert softmax == {"compare": 60, "exp": 120, "normalize": 60, "divide": 5}
    many = FUNCTION["layernorm"].events(np.array([60, 80]), np.array([5, 7]))
    assert {name: count.tolist() for name, count in many.items()} == {
        "moment": [60, 80], "normalize": [60, 80], "sqrt": [5, 7], "divide": [5, 7]
    }  # fmt: skip
    assert FUNCTION["copy"].events(60, 5) == {}


def test_the_host_knows_what_a_function_is_called() -> None:
    """Or it would cost what anything costs."""
    table = read_toml("host.toml")
    known = {*table["calibrated"], *table["estimated"], *table["dequantized_inputs"]}
    assert {function.host for function in DRAIN_FUNCTIONS} - {""} <= known


def test_no_other_module_of_the_machine_names_a_function() -> None:
    """Events and host operators have names of their own, and a machine that has none says so."""
    named = {f.name for f in DRAIN_FUNCTIONS} - set(EVENTS)
    table = HW / "machine" / "functions.py"
    for path in sorted({*HW.rglob("*.py")} - {table, HW / "costs" / "host.py"}):
        constants = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                     if isinstance(n, ast.Constant) and isinstance(n.value, str))  # fmt: skip
        found = [(n.value, n.lineno) for n in constants if n.value in named]
        assert not [f for f in found if f[0] != "copy"], path
