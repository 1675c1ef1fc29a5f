"""What a search may minimise: each row of the table equals what is priced, and a row is all it takes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from joint_space import SMALL, problem

from codesign.search.cli.app import main
from codesign.search.joint.objectives import COSTS, OBJECTIVES, Objective
from codesign.search.joint.problem import INFEASIBLE, SearchProblem
from codesign.search.report.pages import report_html
from codesign.search.space.space import Constraints

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def small() -> SearchProblem:
    tight = dataclasses.replace(SMALL, constraints=Constraints(area_mm2=0.4, power_w=None))
    return dataclasses.replace(problem(tight), minimize=tuple(OBJECTIVES))


def test_formulas_are_the_columns_to_the_bit(small: SearchProblem) -> None:
    genes = small.space.sample(500, np.random.default_rng(0))
    costs, found = small.evaluate(genes)
    good = costs.feasible
    assert 0 < good.sum() < len(genes)
    assert (found[~good] == INFEASIBLE).all()
    for place, objective in enumerate(OBJECTIVES.values()):
        if objective.formula is not None:
            priced = {
                field: getattr(costs, field) for field in ("energy_j", "latency_s", "area_mm2")
            }
            told: Any = getattr(costs, objective.column, objective.formula(*priced.values()))
            np.testing.assert_array_equal(found[good, place], told[good])


def test_the_page_on_search_names_them_all() -> None:
    page = " ".join((ROOT / "docs" / "search.md").read_text(encoding="utf-8").split())
    assert ", ".join(OBJECTIVES) in page


def _searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimize: str) -> Path:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    space, run = tmp_path / "space.toml", tmp_path / "run"
    space.write_text(SMALL.to_toml(), encoding="utf-8")
    command = ["search", "--space", str(space), "--budget", "300", "--population", "30"]
    assert main([*command, "--front", "6", "-j", "1", "--minimize", minimize, "-o", str(run)]) == 0
    return run


def test_power_is_minimised_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front of perplexity and power, its report over those axes, and ranks under all energies."""
    run = _searched(tmp_path, monkeypatch, "perplexity,power")
    points = pq.read_table(run / "front.parquet").to_pylist()
    evaluated = pq.read_table(run / "evaluated.parquet").to_pylist()
    for p in points:
        assert p["power_w"] == p["energy_j"] / p["latency_s"]
        assert not any(
            e["feasible"] and e["power_w"] < p["power_w"] and e["perplexity"] < p["perplexity"]
            for e in evaluated
        )
    assert "perplexity (proxy) and power" in report_html(run)


def test_a_row_of_the_table_is_a_new_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energy, delay and area together: searched, kept and reported without another line of code."""
    edap = Objective("edap", "edap", "EDAP", "J·s·mm²", lambda e, t, a: e * t * a, mapped=False)
    monkeypatch.setitem(OBJECTIVES, "edap", edap)
    monkeypatch.setitem(COSTS, "edap", edap)
    run = _searched(tmp_path, monkeypatch, "perplexity,edap")
    points = sorted(
        pq.read_table(run / "front.parquet").to_pylist(), key=lambda p: -p["perplexity"]
    )
    values = [p["edp_js"] * p["area_mm2"] for p in points]
    assert values == sorted(values)
    assert json.loads((run / "run.json").read_text())["inputs"]["objectives"] == [
        "perplexity",
        "edap",
    ]
    assert "edap" in report_html(run).lower()
