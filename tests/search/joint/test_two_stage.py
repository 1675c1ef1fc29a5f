"""Two stages beside the joint search: the same budget, deterministic, and what the joint front gains."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from joint_space import SMALL, problem

from codesign.search.cli.app import main
from codesign.search.joint.front import hypervolume
from codesign.search.joint.search import Settings, search
from codesign.search.joint.two_stage import JOINT, KNEE, compare_strategies
from codesign.search.terminal.figures import times_less

SETTINGS = Settings(budget=1000, population=40)


def test_the_joint_front_covers_more_at_the_same_budget() -> None:
    small = problem()
    done = search(small, SETTINGS, None)
    said: list[str] = []
    found = compare_strategies(small, SETTINGS, done, say=said.append)
    joint, *others = found
    assert "stage one: 500 Transformers" in said[0]
    assert joint.name == JOINT and others[-1].name == KNEE and len(others) >= 2
    for other in others:
        assert other.evaluated <= joint.evaluated
        assert 0 < other.hypervolume < joint.hypervolume
    # Every point of every front is a candidate of the space, at its costs.
    assert done.reference is not None
    for one in found:
        costs, objectives = small.evaluate(one.genes)
        assert costs.feasible.all()
        np.testing.assert_array_equal(objectives, one.objectives)
        assert one.hypervolume == hypervolume(objectives, done.reference)
        assert (one.genes < SMALL.cardinalities).all()
    for one, other in zip(found, compare_strategies(small, SETTINGS, done), strict=True):
        assert one.genes.tobytes() == other.genes.tobytes()
        assert one.best_edp_js == other.best_edp_js


def test_a_worse_result_is_no_gain() -> None:
    assert [times_less(x, 1) for x in (2.25, 1.0, 0.3)] == ["2.2×", "1.0×", "3.3× more"]


def test_the_study_is_kept_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.toml").write_text(SMALL.to_toml(), encoding="utf-8")
    run = tmp_path / "run"
    asked = ["--space", str(tmp_path / "space.toml"), "--budget", "300", "--population", "30"]
    assert main(["search", *asked, "--front", "4", "-j", "1", "-o", str(run)]) == 0
    before = (run / "run.json").read_bytes()
    capsys.readouterr()
    assert main(["study", "two-stage", str(run), "-j", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((run / "two_stage.json").read_text())
    strategies = document["strategies"]
    assert strategies[0]["name"] == JOINT and strategies[0]["share"] == 1
    rows = pq.read_table(run / "two_stage.parquet").to_pylist()
    for one in strategies:
        assert one["front_size"] == sum(row["strategy"] == one["name"] for row in rows)
    assert (run / "run.json").read_bytes() == before
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "two stages, the knee" in report
    kept = (run / "two_stage.json").read_bytes()
    assert main(["study", "two-stage", str(run), "-j", "1"]) == 0
    printed = capsys.readouterr().out
    assert "decades²" in printed
    assert "published 2.2×" in printed and "published 10.6×" in printed
    assert (run / "two_stage.json").read_bytes() == kept
    table = tmp_path / "other.csv"
    table.write_text("layers,d_model,heads,d_ff,perplexity\n" + "".join(
        f"2,48,{h},{f},{30 + h + f / 100}\n" for h in (4, 8, 12) for f in (64, 128, 256)
    ))  # fmt: skip
    assert main(["study", "two-stage", str(run), "--quality", str(table)]) == 2
    assert "drop --quality" in capsys.readouterr().err
