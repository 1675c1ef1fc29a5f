"""Benches of the nonlinear operands and of the normalizer, against `arithmetic` and scalar twins."""

from typing import Any

import cocotb
import numpy as np
import pytest
import scalar_model
from cocotb.triggers import FallingEdge
from rtl_bench import run_bench, start_clock

from codesign.hw.machine import arithmetic, functions

ITEMS = 6000
MODES = functions.lane_modes()
DIRECT = ("copy", "relu", "word")
BITS = {"norm": 16} | dict.fromkeys(DIRECT, 32)  # of v; 20 of others, 16 of operands


def signed(value: Any) -> int:
    number: int = value.to_signed()
    return number


def modes(rng: np.random.Generator) -> list[str]:
    """What the lane does, item by item; products only behind what holds their first operand."""
    found: list[str] = []
    while len(found) < ITEMS:
        mode = rng.choice([m for m in MODES if m not in ("product", "rotate")])
        found.append(mode)
        if mode in scalar_model.PARTS and rng.random() < 0.5:
            found.append("product")
            if rng.random() < 0.5:
                found.append("rotate")
    return found[:ITEMS]


def numbers(rng: np.random.Generator, mode: list[str]) -> arithmetic.Ints:
    """v of every item, of every magnitude, with many at the ends and where functions bend."""
    paired = [m in ("product", "rotate") for m in mode]
    operand = (
        np.array(paired) | np.array([*paired[1:], False]) | np.array([*paired[2:], False, False])
    )
    bits = np.where(operand, 16, [BITS.get(m, 20) for m in mode])
    v = rng.integers(-(1 << 31), 1 << 31, ITEMS) >> (32 - bits) >> rng.integers(0, bits)
    ends = rng.choice([-1, 0, 1], ITEMS) + rng.choice([-(1 << 15), 0, (1 << 15) - 1], ITEMS)
    v = np.where(rng.random(ITEMS) < 0.1, np.clip(ends, -(1 << 15), (1 << 15) - 1), v)
    bends = rng.integers(-9000, 9000, ITEMS)
    curved = [m in scalar_model.PARTS for m in mode]
    v = np.where(np.array(curved) & (rng.random(ITEMS) < 0.5), bends, v)
    return np.where(np.array(mode) == "rectified", np.maximum(v, 0), v)  # as it is requantized


@cocotb.test()
async def operands(dut: Any) -> None:
    """Value and factor of every mode, and the squares that a norm's moments need."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    mode, (lane, moments) = modes(rng), (rng.integers(0, 2, ITEMS) for _ in range(2))
    v = numbers(rng, mode)
    distance = rng.integers(0, 1 << 20, ITEMS) >> rng.integers(0, 18, ITEMS)
    maximum = np.minimum(v + distance, (1 << 19) - 1)
    masked = np.isin(mode, ("softmax", "exponentials"))
    offset = np.where(masked, maximum, rng.integers(-(1 << 19), 1 << 19, ITEMS))
    beside = rng.integers(-(1 << 15), 1 << 15, ITEMS)
    factor = rng.integers(0, 1 << 17, ITEMS)
    dut.valid_i.value = 7
    start_clock(dut)
    held, expected = 0, (0, 0)
    for cycle in range(ITEMS + 3):
        await FallingEdge(dut.clk_i)
        for stage in range(3):
            place = int(np.clip(cycle - stage, 0, ITEMS - 1))
            dut.mode_i[stage].value = MODES.index(mode[place])
        if cycle < ITEMS:
            dut.v_i.value = int(v[cycle])
            dut.offset_i.value = int(offset[cycle])
            dut.beside_i.value = int(beside[cycle])
            dut.moments_i.value = int(moments[cycle])
            dut.lane_i.value = int(lane[cycle])
        before = int(np.clip(cycle - 2, 0, ITEMS - 1))
        dut.exponential_lane_i.value = int(lane[before])
        dut.reciprocal_i.value = int(factor[before])
        if cycle >= 2 and mode[before] == "norm" and moments[before]:
            assert int(dut.square_o.value) == v[before] ** 2 * lane[before], f"item {before}"
        if cycle < 3:
            continue
        item = cycle - 3
        number, what = int(v[item]), f"item {item}: {mode[item]} of {v[item]}"
        match mode[item]:
            case name if name in scalar_model.PARTS:
                expected = scalar_model.PARTS[name](number)
                held = expected[0]
            case "product":
                expected = (scalar_model.multiplied(held, number), expected[1])
            case "rotate":
                turned = scalar_model.multiplied(int(beside[item]), number)
                expected = (expected[0] + turned, expected[1])
            case "softmax" | "exponentials" as name:
                e = arithmetic.exponential(maximum[item : item + 1] - number)[0]
                behind = int(factor[item]) if name == "softmax" else 1 << 16
                expected = (int(e * lane[item]), behind)
            case "quotient":
                expected = (number, int(factor[item]))
            case "norm" if moments[item]:
                expected = (number * int(lane[item]), int(factor[item]))
            case "norm":
                expected = (16 * number - int(offset[item]), int(factor[item]))
            case _:
                word = number & 0xFFFFFFFF
                low = word & 0x1FFFFF
                expected = (low - ((low >> 20) << 21), word >> 21)
        assert (signed(dut.value_o.value), int(dut.factor_o.value)) == expected, what


@cocotb.test()
async def product(dut: Any) -> None:
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    value = rng.integers(-(1 << 20), 1 << 20, ITEMS) >> rng.integers(0, 21, ITEMS)
    factor = rng.integers(0, 1 << 17, ITEMS)
    shift, direct = rng.integers(0, 40, ITEMS), rng.integers(0, 2, ITEMS)
    expected = arithmetic.saturate(arithmetic.rounded(value * factor, shift), 20)
    word = (((factor << 21 | value & 0x1FFFFF) & 0xFFFFFFFF) ^ (1 << 31)) - (1 << 31)
    expected = np.where(direct == 1, word, expected)
    dut.valid_i.value = 3
    start_clock(dut)
    for cycle in range(ITEMS + 2):
        await FallingEdge(dut.clk_i)
        now, before = min(cycle, ITEMS - 1), int(np.clip(cycle - 1, 0, ITEMS - 1))
        if cycle >= 2:
            assert signed(dut.value_o.value) == expected[cycle - 2], f"item {cycle - 2}"
        dut.value_i.value = int(value[now])
        dut.factor_i.value = int(factor[now])
        dut.shift_i.value = int(shift[before])
        dut.direct_i.value = int(direct[now] | direct[before] << 1)


@pytest.mark.parametrize(
    ("top", "testcase"), [("nonlinear", "operands"), ("normalizer", "product")]
)
def test_nonlinear(top: str, testcase: str) -> None:
    run_bench(top, __name__, testcase=testcase)
