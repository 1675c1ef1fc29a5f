"""Bench of state_join: random and extreme states, against the scalar twin."""

from typing import Any

import cocotb
import numpy as np
import scalar_model
from cocotb.triggers import Timer
from rtl_bench import run_bench
from scalar_model import State

from codesign.hw.machine.quantities import ALIGNMENT

OCTAVES = (-512, -511, -1, 0, 1, 511, 512)
TOTALS = (0, 1, 2, 3, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def packed(state: State) -> int:
    return (state.octave & 0x7FF) << 32 | state.total


@cocotb.test()
async def joins(dut: Any) -> None:
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    for turn in range(4000):
        near = rng.integers(-40, 40, 2) + rng.integers(-470, 470)
        octave = near if turn % 2 else rng.choice(OCTAVES, 2)
        total = rng.choice(TOTALS, 2) if turn % 3 else rng.integers(0, 1 << 32, 2)
        before, part = (State(int(o), int(t)) for o, t in zip(octave, total, strict=True))
        fresh = turn % 5 == 0
        dut.before_i.value, dut.part_i.value = packed(before), packed(part)
        dut.fresh_i.value = fresh
        await Timer(1, "ns")
        after, shift, raised = (part, 0, False) if fresh else scalar_model.joined(before, part)
        assert int(dut.state_o.value) == packed(after), (before, part)
        found = ALIGNMENT.unpack(int(dut.alignment_o.value))
        assert found == {"shift": shift, "old": raised}, (before, part)


def test_state_join() -> None:
    run_bench("state_join", __name__)
