"""Benches of the nonlinear operands and of the normalizer, against `arithmetic`."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge
from rtl_bench import run_bench, start_clock

from codesign.hw.machine import arithmetic

ITEMS = 4000
COPY, RELU, WORD, GELU, SOFTMAX, NORM = range(6)  # drain_pkg::mode_e


def signed(value: Any) -> int:
    number: int = value.to_signed()
    return number


@cocotb.test()
async def operands(dut: Any) -> None:
    """Value and factor of every mode, and the squares that a norm's moments need."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    mode, lane, moments = (rng.integers(0, n, ITEMS) for n in (6, 2, 2))
    bits = np.select([mode < GELU, mode == NORM], [32, 16], 20)
    v = rng.integers(-(1 << 31), 1 << 31, ITEMS) >> (32 - bits) >> rng.integers(0, bits)
    v[mode == GELU] = np.where(rng.random(ITEMS) < 0.5, v, rng.integers(-3000, 3000, ITEMS))[
        mode == GELU
    ]
    distance = rng.integers(0, 1 << 20, ITEMS) >> rng.integers(0, 18, ITEMS)
    maximum = np.minimum(v + distance, (1 << 19) - 1)
    mean = rng.integers(-(1 << 19), 1 << 19, ITEMS)
    offset = np.where(mode == SOFTMAX, maximum, mean)
    factor = rng.integers(0, 1 << 17, ITEMS)
    dut.valid_i.value = 7
    start_clock(dut)
    for cycle in range(ITEMS + 3):
        await FallingEdge(dut.clk_i)
        for stage in range(3):
            dut.mode_i[stage].value = int(mode[np.clip(cycle - stage, 0, ITEMS - 1)])
        if cycle < ITEMS:
            dut.v_i.value = int(v[cycle])
            dut.offset_i.value = int(offset[cycle])
            dut.moments_i.value = int(moments[cycle])
            dut.lane_i.value = int(lane[cycle])
        before = int(np.clip(cycle - 2, 0, ITEMS - 1))
        dut.exponential_lane_i.value = int(lane[before])
        dut.reciprocal_i.value = int(factor[before])
        if cycle >= 2 and mode[before] == NORM and moments[before]:
            assert int(dut.square_o.value) == v[before] ** 2 * lane[before], f"item {before}"
        if cycle < 3:
            continue
        item = cycle - 3
        got, by = signed(dut.value_o.value), int(dut.factor_o.value)
        number, what = v[item : item + 1], f"item {item}: mode {mode[item]}, v {v[item]}"
        match int(mode[item]):
            case 3:
                product = arithmetic.rounded(np.array([got * by]), 16)
                assert arithmetic.saturate(product, 20) == arithmetic.gelu(number), what
            case 4:
                e = arithmetic.exponential(maximum[item : item + 1] - number)[0]
                assert (got, by) == (e * lane[item], factor[item]), what
            case 5 if moments[item]:
                assert got == v[item] * lane[item], what
            case 5:
                assert (got, by) == (16 * v[item] - mean[item], factor[item]), what
            case _:
                assert (by << 21 | got & 0x1FFFFF) == v[item] & 0xFFFFFFFF, what


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
