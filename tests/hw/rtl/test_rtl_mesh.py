"""Bench of the mesh: random preloads and A rows against numpy, to the cycle."""

import os
import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.triggers import FallingEdge, Timer
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.quantities import SUMS, WEIGHTS

TILES = 60
Int8s = npt.NDArray[np.int8]


@dataclass
class Stimulus:
    """What enters the mesh in each cycle, and what has to come out."""

    slots: dict[int, dict[str, int]] = field(default_factory=dict)
    slot_data: dict[int, Int8s] = field(default_factory=dict)
    swaps: set[int] = field(default_factory=set)
    rows: dict[int, Int8s] = field(default_factory=dict)
    sums: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    end: int = 0


def random_bytes(rng: np.random.Generator, *shape: int) -> Int8s:
    """Random int8 numbers; one array in six holds extremes only."""
    if rng.integers(6) == 0:
        return rng.choice(np.array([-128, 127], np.int8), shape)
    return rng.integers(-128, 128, shape, np.int8)


def stimulus(dim: int, tiles: int, rng: np.random.Generator) -> Stimulus:
    """Tiles in a random rhythm: as tight as the contract allows, loosely, or with weight reuse."""
    s = Stimulus()
    preload, rows_from = 0, 0  # earliest cycles for the next preload and the next A row
    rhythm = 0
    for tile in range(tiles):
        if tile % 5 == 0:
            rhythm = int(rng.integers(4))
        preload += int(rng.integers(0, 2 * dim)) if rhythm == 3 else 0
        transposed = bool(rng.integers(2))
        given = dim if rng.integers(2) else int(rng.integers(1, dim + 1))
        data = random_bytes(rng, dim, dim)  # what is read beyond the tile does not matter
        weights = np.where(np.arange(dim)[:, None] < given, data, np.int8(0)).astype(np.int64)
        for i in range(dim):
            s.slots[preload + i] = {
                "first": i == 0,
                "zero": i >= given,
                "transposed": transposed,
            }
            s.slot_data[preload + i] = data[i]
        weights = weights.T if transposed else weights
        cycle = max(preload + dim, rows_from)
        cycle += int(rng.integers(0, 3 * dim)) if rhythm == 3 else 0
        s.swaps.add(cycle - 1)
        next_preload = max(preload + dim, cycle)
        computes = 1 if rhythm < 2 else int(rng.integers(1, 4))  # the later ones reuse the weights
        for _ in range(computes):
            count = (dim, 1, int(rng.integers(1, 3 * dim)), int(rng.integers(1, dim)))[rhythm]
            for _ in range(count):
                s.rows[cycle] = random_bytes(rng, dim)
                s.sums[cycle + 2 * dim] = s.rows[cycle].astype(np.int64) @ weights
                cycle += 1
                if rhythm == 3 and rng.integers(3) == 0:
                    cycle += int(rng.integers(1, 3))
            if rhythm == 3:
                cycle += int(rng.integers(0, 3 * dim))
        rows_from, preload = cycle, next_preload
    s.end = rows_from + 2 * dim + 2
    return s


def word(data: npt.NDArray[Any], dtype: str = "int8") -> int:
    """Lanes as one little-endian number."""
    return int.from_bytes(data.astype(dtype).tobytes(), "little")


def side(cycle: int) -> dict[str, int]:
    """What comes along with the A row of a cycle."""
    bits = random.Random(cycle)
    return {
        "row": bits.getrandbits(20),
        "accumulate": bits.getrandbits(1),
        "last": bits.getrandbits(1),
        "tag": cycle,
        "align": bits.getrandbits(5),
        "align_old": bits.getrandbits(1),
    }


async def reset(dut: Any) -> None:
    """Reset with all inputs idle."""
    for port in ("a_valid", "a_swap", "b_valid", "b_slot"):
        getattr(dut, f"{port}_i").value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ps")
    await start_clock_and_reset(dut)


@cocotb.test()
async def sums_of_every_row(dut: Any) -> None:
    """Every row comes out 2 * Dim cycles after it entered, and nothing else does."""
    dim = int(os.environ["DIM"])
    rng = np.random.default_rng(int(os.environ["SEED"]))
    await reset(dut)
    s = stimulus(dim, TILES, rng)
    for cycle in range(s.end):
        slot = s.slots.get(cycle)
        dut.b_valid_i.value = slot is not None
        dut.b_slot_i.value = WEIGHTS.pack(slot or {"zero": int(rng.integers(2))})
        dut.b_data_i.value = word(s.slot_data.get(cycle, random_bytes(rng, dim)))
        dut.a_valid_i.value = cycle in s.rows
        dut.a_swap_i.value = cycle in s.swaps
        dut.a_data_i.value = word(s.rows.get(cycle, random_bytes(rng, dim)))
        dut.a_sums_i.value = SUMS.pack(side(cycle))
        assert dut.row_valid_o.value == (cycle in s.sums), f"cycle {cycle}"
        if cycle in s.sums:
            assert int(dut.row_data_o.value) == word(s.sums[cycle], "int32"), f"cycle {cycle}"
            beside = SUMS.unpack(int(dut.row_sums_o.value))
            assert beside == side(cycle - 2 * dim), f"cycle {cycle}"
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def tile_with_a_gap(dut: Any) -> None:
    await reset(dut)
    for valid, first in ((1, 1), (0, 0), (1, 0), (0, 0)):
        dut.b_valid_i.value, dut.b_slot_i.value = valid, WEIGHTS.pack({"first": first})
        await FallingEdge(dut.clk_i)


@cocotb.test()
async def swap_after_swap(dut: Any) -> None:
    await reset(dut)
    dut.a_swap_i.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk_i)


@pytest.mark.parametrize(("dim", "seed"), [(4, 1), (4, 2), (8, 3), (16, 4)])
def test_mesh(dim: int, seed: int) -> None:
    run_bench(
        "mesh",
        __name__,
        {"Dim": dim},
        testcase="sums_of_every_row",
        environment={"DIM": str(dim), "SEED": str(seed)},
        seed=seed,
    )


@pytest.mark.parametrize(
    ("testcase", "words"),
    [
        ("tile_with_a_gap", "a slot of a preload follows a gap"),
        ("swap_after_swap", "weights are swapped less than 4 cycles after the last swap"),
    ],
)
def test_misuse_of_mesh_stops_the_simulation(testcase: str, words: str) -> None:
    run_bench("mesh", __name__, {"Dim": 4}, testcase=testcase, fails_with=words)
