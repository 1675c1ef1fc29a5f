"""Plots: valid PNG and SVG, the same bytes each time, and the numbers of the rows in them."""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from codesign.hw.machine.config import PRESETS
from codesign.search.inputs import grid
from codesign.search.inputs.sources import load_model
from codesign.search.pricing import plots
from codesign.search.pricing.evaluate import Result, evaluate
from codesign.search.pricing.sweep import Row, SweepJob, best, pareto, sweep

K = 1024


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    base = PRESETS["ibert"]
    axes = {
        "scratchpad_bytes": (4 * K, 16 * K, 64 * K),
        "accumulator_bytes": (4 * K, 16 * K, 64 * K),  # 4K cannot be built
        "bus_bytes": (8, 16),
    }
    found: list[Row] = []
    job = SweepJob(load_model("bert-tiny", seq=32).graph, "edp", "default")
    sweep(job, grid.points(base, axes), base, 1, found.append)
    return found


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate(load_model("bert-tiny", seq=32).graph, PRESETS["gemmini"])


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Plots must leave matplotlib as it was."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


def _check_files(files: dict[str, bytes], stems: set[str]) -> None:
    assert set(files) == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for name, content in files.items():
        if name.endswith(".png"):
            assert content[:8] == b"\x89PNG\r\n\x1a\n"
            width, height = struct.unpack(">II", content[16:24])
            assert width >= 800 and height >= 400
        else:
            assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
            assert b"<dc:date>" not in content


def test_a_sweep_has_heat_maps_and_a_front(rows: list[Row]) -> None:
    files = plots.sweep_plots(rows, "bert-tiny")
    _check_files(files, {"pareto", "heatmap"})
    assert plots.sweep_plots(rows, "bert-tiny") == files


def test_a_simulation_has_a_breakdown_and_a_roofline(result: Result) -> None:
    files = plots.simulation_plots(result, "bert-tiny")
    _check_files(files, {"breakdown", "roofline"})
    assert plots.simulation_plots(result, "bert-tiny") == files


def test_one_machine_has_nothing_to_compare(rows: list[Row]) -> None:
    feasible = [row for row in rows if row.feasible]
    assert plots.sweep_plots(feasible[:1], "bert-tiny") == {}
    same_size = [replace(row, index=i) for i, row in enumerate(feasible[:2])]
    assert {row.scratchpad_bytes for row in same_size} == {4 * K}
    assert set(plots.sweep_plots(same_size, "t")) == {"pareto.png", "pareto.svg"}


def test_heat_maps_show_the_best_of_every_cell(rows: list[Row]) -> None:
    for axes, column in zip(plots.heatmaps(rows, "t").axes, ("edp_js", "cycles"), strict=True):
        (image,) = axes.get_images()
        values = image.get_array()
        assert values is not None
        shown = np.ma.filled(values, np.nan)
        for i, accumulator in enumerate((4 * K, 16 * K, 64 * K)):
            for j, scratchpad in enumerate((4 * K, 16 * K, 64 * K)):
                here = [
                    getattr(row, column)
                    for row in rows
                    if (row.scratchpad_bytes, row.accumulator_bytes) == (scratchpad, accumulator)
                    and row.feasible
                ]
                np.testing.assert_equal(shown[i, j], min(here) if here else np.nan)
        winner = best(rows, column)
        assert winner is not None
        (box,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        centre = (box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2)
        cell = [
            (4 * K, 16 * K, 64 * K).index(s)
            for s in (winner.scratchpad_bytes, winner.accumulator_bytes)
        ]
        np.testing.assert_allclose(centre, cell, atol=0.02)


def test_the_front_is_drawn_at_its_latencies_and_energies(rows: list[Row]) -> None:
    (axes,) = plots.pareto_front(rows := [row for row in rows if row.feasible], "t").axes
    drawn = np.vstack(
        [
            scatter.get_offsets()
            for scatter in axes.collections
            if hasattr(scatter, "get_sizes") and len(scatter.get_sizes())
        ]
    )
    unit = {"latency (µs)": 1e6, "latency (ms)": 1e3}[axes.get_xlabel()]
    for row in pareto(rows):
        assert row.latency_s is not None
        assert np.isclose(drawn[:, 0], row.latency_s * unit, rtol=1e-9).any()


def test_the_breakdown_adds_up_to_all_cycles_and_joules(result: Result) -> None:
    kinds, components = plots.cost_breakdown(result, "t").axes
    for y in (0, 1):
        bars = [
            p
            for p in kinds.patches
            if isinstance(p, Rectangle) and p.get_y() < y < p.get_y() + p.get_height()
        ]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(100)
    total = sum(p.get_width() for p in components.patches if isinstance(p, Rectangle))
    unit = {"p": 1e12, "n": 1e9, "µ": 1e6, "m": 1e3}[components.get_xlabel()[0]]
    assert total == pytest.approx(float(result.energy_j[1]) * unit)
