"""Sweeps: rows are what `evaluate` says, in parallel as alone; best and Pareto by definition."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.machine.config import PRESETS
from codesign.search.inputs import grid
from codesign.search.inputs.sources import Model, load_model
from codesign.search.pricing.evaluate import evaluate
from codesign.search.pricing.sweep import Row, SweepJob, best, pareto, sweep

K = 1024
BASE = PRESETS["ibert"]
AXES = {"scratchpad_bytes": (1000, 16 * K, 64 * K), "accumulator_bytes": (16 * K, 64 * K)}


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("bert-tiny", seq=64)


def _rows(job: SweepJob, jobs: int) -> list[Row]:
    rows: list[Row] = []
    sweep(job, grid.points(BASE, AXES), BASE, jobs, rows.append)
    return sorted(rows, key=lambda row: row.index)


def test_a_row_is_what_evaluate_says(model: Model) -> None:
    rows = _rows(SweepJob(model.graph, "energy", "default"), 1)
    row = rows[3]
    config = replace(BASE, scratchpad_bytes=16 * K, accumulator_bytes=64 * K)
    result = evaluate(model.graph, config, "energy")
    assert (row.scratchpad_bytes, row.accumulator_bytes) == (16 * K, 64 * K)
    assert row.cycles == result.cycles
    assert row.latency_s == result.cycles / config.clock_hz
    assert [row.energy_low_j, row.energy_j, row.energy_high_j] == result.energy_j.tolist()
    assert [row.edp_low_js, row.edp_js, row.edp_high_js] == result.edp_js.tolist()
    assert row.macs == model.graph.macs
    assert row.dram_bytes == result.dram_bytes
    assert row.utilization == model.graph.macs / (16 * 16 * result.cycles)


def test_what_cannot_be_built_is_a_row_with_a_reason(model: Model) -> None:
    rows = _rows(SweepJob(model.graph, "edp", "default"), 1)
    assert [row.feasible for row in rows] == [False, False, True, True, True, True]
    assert "scratchpad_bytes is 1000" in rows[0].infeasible
    assert rows[0].scratchpad_bytes == 1000 and rows[0].cycles is None


def test_what_fits_no_tile_is_a_row_with_a_reason() -> None:
    # A LayerNorm over 128 channels has parameters for more than the drain holds.
    wide = load_model("bert-tiny", seq=16)
    config = replace(BASE, parameter_channels=16)
    rows: list[Row] = []
    sweep(SweepJob(wide.graph, "edp", "default"), grid.points(config, {}), config, 1, rows.append)
    assert "fits no tile" in rows[0].infeasible and rows[0].cycles is None


def test_processes_give_the_same_rows(model: Model) -> None:
    tables = EnergyOverrides("mine", (("dram_read_bytes", 100.0),))
    job = SweepJob(model.graph, "edp", tables)
    assert _rows(job, 2) == _rows(job, 1)


def _row(index: int, latency: float, energy: float) -> Row:
    return Row(
        index=index,
        model="m",
        hardware="h",
        dim=16,
        scratchpad_bytes=1,
        accumulator_bytes=1,
        bus_bytes=16,
        scratchpad_banks=4,
        accumulator_banks=2,
        dram_latency_cycles=50,
        clock_hz=1,
        technology_nm=22,
        latency_s=latency,
        energy_j=energy,
        edp_js=latency * energy,
    )


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=30))
def test_the_front_is_what_no_row_dominates(values: list[tuple[int, int]]) -> None:
    rows = [_row(i, float(x), float(y)) for i, (x, y) in enumerate(values)]
    rows.append(replace(_row(99, 0.5, 0.5), infeasible="too small"))

    def dominated(point: tuple[int, int]) -> bool:
        return any(
            other != point and other[0] <= point[0] and other[1] <= point[1] for other in values
        )

    expected = sorted({point for point in values if not dominated(point)})
    front = pareto(rows)
    assert [(row.latency_s, row.energy_j) for row in front] == expected
    winner = best(rows)
    assert (winner is None) == (not values)
    if winner is not None:
        assert winner.edp_js == min(x * y for x, y in values)
        assert winner in front or any(row.edp_js == winner.edp_js for row in front)
