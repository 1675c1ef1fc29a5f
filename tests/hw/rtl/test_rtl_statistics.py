"""Benches of the statistics of rows, of the square root and of the reciprocal."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, ReadOnly
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine import arithmetic, functions
from codesign.hw.machine.arithmetic import Ints
from codesign.hw.machine.functions import DIVIDE_INTERVAL, FUNCTION

DIM = 4
SOFTMAX, NORM = FUNCTION["softmax"].latency, FUNCTION["layernorm"].latency
INTERVAL = DIVIDE_INTERVAL
MODES = functions.lane_modes()


async def reset(dut: Any, *idle: Any) -> None:
    for port in idle:
        port.value = 0
    dut.rst_ni.set(Immediate(0))  # what the first value of the clock meets
    await start_clock_and_reset(dut)


async def serve(
    dut: Any,
    operands: Sequence[tuple[int, ...]],
    ports: tuple[Any, ...],
    result: Any,
    expected: Callable[..., int],
) -> None:
    """Feed a divider with pauses and without; each result comes 8 cycles after its start."""
    await reset(dut, dut.start_i)
    started: list[int] = []
    done = cycle = 0
    while done < len(operands):
        assert dut.ready_o.value == (not started or cycle >= started[-1] + INTERVAL)
        assert dut.valid_o.value == (len(started) > done and cycle == started[done] + INTERVAL)
        if dut.valid_o.value:
            assert int(result.value) == expected(*operands[done]), operands[done]
            assert int(dut.side_o.value) == done & 1
            done += 1
        start = bool(dut.ready_o.value) and len(started) < len(operands)
        start = start and random.random() < (0.1 if done % 64 > 32 else 1)
        dut.start_i.value = start
        if start:
            dut.side_i.value = len(started) & 1
            for port, value in zip(ports, operands[len(started)], strict=True):
                port.value = value
            started.append(cycle)
        await FallingEdge(dut.clk_i)
        cycle += 1


@cocotb.test()
async def square_root(dut: Any) -> None:
    operands = [(random.randrange(1 << 30, 1 << 32),) for _ in range(300)]
    operands += [(r * r + d,) for r in (1 << 15, 46341, 65535) for d in (-1, 0, 1, 2 * r)]
    operands += [((1 << 32) - 1,), (0,)]
    await serve(dut, operands, (dut.radicand_i,), dut.root_o, math.isqrt)


@cocotb.test()
async def reciprocal(dut: Any) -> None:
    ends = [1 << 15, (1 << 15) + 1, (1 << 16) - 1]
    operands = [(random.randrange(1 << 15, 1 << 16), random.choice(ends)) for _ in range(50)]
    operands += [(a, random.randrange(1 << 15, 1 << 16)) for a in ends for _ in range(50)]
    operands += [(a, b) for a in ends for b in ends]
    ports = (dut.dividend_i, dut.divisor_i)
    await serve(dut, operands, ports, dut.quotient_o, lambda a, b: (a << 16) // b)


async def feed(dut: Any, rows: Ints, softmax: bool, cycle_of: list[int]) -> None:
    """Stream rows [rows, blocks * DIM] into the sums, a block a cycle; notes each row's last one."""
    blocks = [(r, b) for r in range(len(rows)) for b in range(rows.shape[1] // DIM)]
    for cycle in range(len(blocks) + 1):
        for step, name in ((cycle, "square"), (cycle - 1, "term")):
            valid = 0 <= step < len(blocks)
            getattr(dut, f"{name}_valid_i").value = valid
            if not valid:
                continue
            row, block = blocks[step]
            values = rows[row, block * DIM : (block + 1) * DIM]
            for lane, value in enumerate(values.tolist()):
                if name == "term":
                    dut.term_i[lane].value = value
                else:
                    dut.square_i[lane].value = value * value if not softmax else 0
            if name == "term":
                dut.term_row_i.value = row
                dut.term_first_i.value = block == 0
                dut.term_last_i.value = (block + 1) * DIM == rows.shape[1]
                dut.term_mode_i.value = MODES.index("softmax" if softmax else "norm")
                cycle_of[row] = cycle
        await FallingEdge(dut.clk_i)
    dut.term_valid_i.value = 0


async def measure(dut: Any, rows: Ints, softmax: bool, columns: int) -> list[tuple[int, int, int]]:
    """Feed rows; returns when each row's factor may be used, its factor and its shift."""
    count, latency = len(rows), SOFTMAX if softmax else NORM
    last = [0] * count
    raised: list[int] = []

    async def watch() -> None:
        cycle = 0
        while len(raised) < count:
            await ReadOnly()
            if dut.reciprocal_o.value:
                raised.append(cycle)
            await FallingEdge(dut.clk_i)
            cycle += 1

    dut.columns_i.value, dut.inverse_i.value = columns, arithmetic.inverse(columns)
    watcher = cocotb.start_soon(watch())
    await feed(dut, rows, softmax, last)
    await watcher
    for _ in range(10):
        await FallingEdge(dut.clk_i)
    # Slot x has its term in x + 8, slot y reads in y + 7 and needs reciprocal_o in y - 2.
    ready = [last[0] - 8 + 1 + latency]
    for row in range(1, count):
        ready.append(max(last[row] - 8 + 1 + latency, ready[-1] + INTERVAL))
    assert raised == [time - 2 for time in ready]
    results = []
    for row in range(count):
        dut.factor_row_i.value = dut.offset_row_i.value = row
        await ReadOnly()
        results.append(
            (int(dut.factor_o.value), int(dut.shift_o.value), dut.offset_o.value.to_signed())
        )
        await FallingEdge(dut.clk_i)
    return results


@cocotb.test()
async def factors(dut: Any) -> None:
    """Sums of exponentials and moments, of rows that come faster than the dividers take them."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    await reset(dut, dut.v_valid_i, dut.square_valid_i, dut.term_valid_i)
    for turn in range(12):
        blocks, count = int(rng.choice([1, 2, 5, 9, 40])), int(rng.choice([1, 2, 16]))
        shape = (count, blocks * DIM)
        e = rng.integers(0, 46451, shape) >> rng.integers(0, 3, (count, 1))
        e[:, 0], e[rng.random(count) < 0.2] = 46450, 0
        factor, shift = arithmetic.softmax_reciprocal(e.sum(axis=1))
        results = await measure(dut, e, True, 1)
        assert [r[:2] for r in results] == list(zip(factor, shift, strict=True))

        v = rng.integers(-32768, 32768, shape) >> rng.integers(0, 16, (count, 1))
        if turn % 3 == 0:
            v = np.broadcast_to(v[:, :1], shape).copy()
        columns = int(rng.integers(1, shape[1] + 1))
        v[:, columns:] = 0
        dut.center_i.value = center = turn % 2
        epsilon = int(rng.integers(0, 1 << 30)) >> int(rng.integers(0, 31))
        dut.epsilon_i.value = epsilon
        total, squares = v.sum(axis=1), (v * v).sum(axis=1) + columns * epsilon
        spread = columns * np.minimum(squares, (1 << 46) - 1) - total * total * center
        factor, shift = arithmetic.norm_reciprocal(spread, columns)
        inverse = arithmetic.inverse(columns)
        mean = arithmetic.mean_of_sixteen(total, columns, inverse) * center
        results = await measure(dut, v, False, columns)
        assert results == list(zip(factor, shift, mean, strict=True))


@cocotb.test()
async def saturated_squares(dut: Any) -> None:
    """Rows as long as they can be, of the largest numbers, and an epsilon beyond the sum's width."""
    await reset(dut, dut.v_valid_i, dut.square_valid_i, dut.term_valid_i)
    columns = (1 << 16) - 1
    v = np.full((1, 1 << 16), -(1 << 15))
    v[:, columns:] = 0
    dut.center_i.value = 0
    for epsilon in ((1 << 15) - 1, 1 << 16, (1 << 30) - 1):
        dut.epsilon_i.value = epsilon
        squares = min(columns * ((1 << 30) + epsilon), (1 << 46) - 1)
        factor, shift = arithmetic.norm_reciprocal(np.array([columns * squares]), columns)
        (found,) = await measure(dut, v, False, columns)
        assert found == (factor[0], shift[0], 0)


@cocotb.test()
async def maxima(dut: Any) -> None:
    """Of valid lanes only, readable 3 cycles after the last block."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    await reset(dut, dut.v_valid_i, dut.square_valid_i, dut.term_valid_i)
    for _ in range(100):
        blocks, row = int(rng.integers(1, 4)), int(rng.integers(0, 16))
        v = rng.integers(-(1 << 19), 1 << 19, (blocks, DIM))
        lanes = rng.random((blocks, DIM)) < rng.choice([0.0, 0.3, 1.0])
        for block in range(blocks):
            dut.v_valid_i.value, dut.v_first_i.value = 1, block == 0
            dut.v_row_i.value = row
            dut.v_lane_i.value = sum(int(lane) << i for i, lane in enumerate(lanes[block]))
            for lane in range(DIM):
                dut.v_i[lane].value = int(v[block, lane])
            await FallingEdge(dut.clk_i)
        dut.v_valid_i.value = 0
        dut.offset_row_i.value = row
        for _ in range(2):
            await FallingEdge(dut.clk_i)
        assert dut.offset_o.value.to_signed() == np.where(lanes, v, -(1 << 19)).max()


@pytest.mark.parametrize(
    ("top", "testcase"),
    [
        ("square_root", ["square_root"]),
        ("reciprocal", ["reciprocal"]),
        ("statistics", ["factors", "saturated_squares", "maxima"]),
    ],
)
def test_statistics(top: str, testcase: list[str]) -> None:
    parameters = {"Dim": DIM} if top == "statistics" else {}
    run_bench(top, __name__, parameters, testcase=testcase)
