"""Benches of both requantizers: a new operand every cycle, against `arithmetic`."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge
from rtl_bench import run_bench, start_clock

from codesign.hw.machine import arithmetic, functions

ITEMS = 3000
MODES = functions.lane_modes()
COPY, RELU, WORD, RECTIFIED = (MODES.index(name) for name in ("copy", "relu", "word", "rectified"))
NARROW = [MODES.index(name) for name in ("norm", "product", "rotate", "rectified")]


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
    mode, per_channel, hold = (rng.integers(0, n, ITEMS) for n in (len(MODES), 2, 2))
    v = arithmetic.requantize(acc, bias * per_channel, multiplier, shift)
    bits = np.where(np.isin(mode, NARROW) | (hold == 1), 16, 20)
    bits = np.where((mode == COPY) | (mode == RELU), 8, bits)
    v = np.where((mode == RELU) | (mode == RECTIFIED), np.maximum(v, 0), v)
    expected = np.clip(v, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    expected = np.where(mode == WORD, acc, expected)
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
            dut.hold_i.value = int(hold[cycle - 2])


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
