"""Benches of both requantizers: a new operand every cycle, against `arithmetic`."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge
from rtl_bench import run_bench, start_clock

from codesign.hw.machine import arithmetic

ITEMS = 3000
COPY, RELU, WORD, GELU, SOFTMAX, NORM = range(6)  # drain_pkg::mode_e
BITS = {GELU: 20, SOFTMAX: 20, NORM: 16}


def extremes(rng: np.random.Generator, bits: int, shape: int = ITEMS) -> arithmetic.Ints:
    """Signed numbers of up to `bits` bits, of every magnitude, with many at the ends."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    numbers = rng.integers(low, high, shape, endpoint=True) >> rng.integers(0, bits, shape)
    ends = rng.choice([low, low + 1, -1, 0, 1, high - 1, high], shape)
    return np.where(rng.random(shape) < 0.15, ends, numbers)


def record(bias: int, multiplier: int, shift: int) -> int:
    """One channel's record of the parameter memory."""
    return int.from_bytes(arithmetic.pack_parameters(bias, multiplier, shift).tobytes(), "little")


@cocotb.test()
async def first_requantizer(dut: Any) -> None:
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    acc, bias, multiplier = (extremes(rng, bits) for bits in (32, 32, 24))
    shift = rng.integers(0, 63, ITEMS)
    mode, per_channel = rng.integers(0, 6, ITEMS), rng.integers(0, 2, ITEMS)
    v = arithmetic.requantize(acc, bias * per_channel, multiplier, shift)
    expected = np.where(mode == WORD, acc, arithmetic.saturate(v, 8))
    expected = np.where(mode == RELU, np.maximum(expected, 0), expected)
    for wide, bits in BITS.items():
        expected = np.where(mode == wide, arithmetic.saturate(v, bits), expected)
    dut.valid_i.value = 7
    start_clock(dut)
    for cycle in range(ITEMS + 3):
        await FallingEdge(dut.clk_i)
        if cycle >= 3:
            item = cycle - 3
            assert dut.v_o.value.to_signed() == expected[item], f"item {item}: mode {mode[item]}"
        if cycle < ITEMS:
            dut.word_i.value = int(mode[cycle] == WORD)
            dut.per_channel_i.value = int(per_channel[cycle])
            dut.acc_i.value = int(acc[cycle])
            own = (int(multiplier[cycle]), int(shift[cycle]))
            other = (int(rng.integers(-(1 << 23), 1 << 23)), int(rng.integers(0, 63)))
            in_record, in_field = (own, other) if per_channel[cycle] else (other, own)
            dut.parameters_i.value = record(int(bias[cycle]), *in_record)
            dut.multiplier_i.value, dut.shift_i.value = in_field
        if 2 <= cycle < ITEMS + 2:
            dut.mode_i.value = int(mode[cycle - 2])


@cocotb.test()
async def second_requantizer(dut: Any) -> None:
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    value, word = extremes(rng, 20), extremes(rng, 32)
    offset, multiplier = extremes(rng, 32), extremes(rng, 24)
    shift, per_channel, direct, lane = (rng.integers(0, n, ITEMS) for n in (63, 2, 2, 2))
    offset = offset * per_channel
    expected = arithmetic.requantize_output(value, multiplier, offset, shift) * lane
    expected = np.where(direct == 1, word, expected)
    dut.valid_i.value = 31
    start_clock(dut)
    for cycle in range(ITEMS + 5):
        await FallingEdge(dut.clk_i)
        if cycle >= 5:
            item = cycle - 5
            assert dut.word_o.value.to_signed() == expected[item], f"item {item}"
        if cycle < ITEMS:
            dut.per_channel_i.value = int(per_channel[cycle])
            dut.parameters_i.value = record(
                int(offset[cycle]), int(multiplier[cycle]), int(shift[cycle])
            )
            dut.multiplier_i.value = 0 if per_channel[cycle] else int(multiplier[cycle])
            dut.shift_i.value = 0 if per_channel[cycle] else int(shift[cycle])
        late, later = max(0, min(cycle - 3, ITEMS - 1)), max(0, min(cycle - 4, ITEMS - 1))
        dut.value_i.value = int((word if direct[late] else value)[late])
        dut.direct_i.value = int(direct[late] | direct[later] << 1)
        dut.lane_i.value = int(lane[later])


@pytest.mark.parametrize(
    ("top", "testcase"),
    [("requantizer", "first_requantizer"), ("output_requantizer", "second_requantizer")],
)
def test_requantizer(top: str, testcase: str) -> None:
    run_bench(top, __name__, testcase=testcase)
