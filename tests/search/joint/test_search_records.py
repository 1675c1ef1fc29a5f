"""The records of a search's run: what is written is what is read, and a run has one reader."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import report_run

from codesign.search.cli.app import main
from codesign.search.joint import search_records as records
from codesign.search.joint.objectives import COSTS, Objective
from codesign.search.joint.search_records import baseline_type, front_point_type, heat_cell_type
from codesign.search.runs.files import RESULTS

EDAP = Objective("edap", "edap", "EDAP", "J·s·mm²", lambda e, t, a: e * t * a)


def test_an_objective_is_a_column_without_being_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an older run it is empty."""
    types: list[Callable[[], Any]] = [front_point_type, heat_cell_type, baseline_type]
    assert {field.name for field in fields(front_point_type())} >= set(COSTS)
    before = [kind() for kind in types]
    monkeypatch.setitem(COSTS, "edap", EDAP)
    for kind, old in zip(types, before, strict=True):
        made = kind()
        assert issubclass(made, old) and made is kind() and made.__name__ == old.__name__
        assert [field.name for field in fields(made)] == [f.name for f in fields(old)] + ["edap"]
    monkeypatch.undo()
    assert [kind() for kind in types] == before


def test_objectives_of_the_product_are_fields() -> None:
    for kind in (records.FrontPoint, records.HeatCell, records.Baseline):
        named = {field.name for field in fields(kind)}
        assert {c for c, cost in COSTS.items() if cost.mapped} <= named


def test_every_table_of_a_search_is_a_file_that_runs_may_write() -> None:
    names = {
        value
        for name, value in vars(records).items()
        if isinstance(value, str) and re.fullmatch(r"[A-Z_]+", name)
    }
    assert len(names) > 8
    for name in names:
        assert (name if "." in name else f"{name}.parquet") in RESULTS


@pytest.mark.parametrize("command", [["report"], ["verify"], ["study", "two-stage"]])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run.json": None}, "keeps no finished search (run.json is missing): name the folder"),
        ({"front.parquet": None}, "keeps no finished search (front.parquet is missing)"),
        ({"run.json": b"[]"}, "run.json is damaged (not a JSON object): resume or repeat"),
        ({"run.json": b"{}"}, "run.json is damaged (run.json: it has no inputs): resume or"),
        ({"run.json": b"{"}, "run.json is damaged (JSONDecodeError: "),
        ({"front.parquet": b"PAR1"}, "front.parquet is damaged ("),
    ],
)
def test_every_reader_of_a_run_says_the_same(
    command: list[str],
    change: dict[str, bytes | None],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report_run.write_run(tmp_path)
    for name, content in change.items():
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content)
    assert main([*command, str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error


@pytest.mark.parametrize("command", [["report"], ["verify"], ["study", "two-stage"]])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"heads": "foo"}, "row 1: heads is 'foo' but must be numbers with commas"),
        ({"d_ff": "64,64,64"}, "row 1: d_ff is '64,64,64' but there are 1 layers"),
        ({"cycles": -1}, "row 1: cycles is -1 but must be a whole number, 0 or more"),
        ({"hardware": None}, "row 1: hardware is None but must be text"),
    ],
)
def test_every_reader_of_a_front_says_the_same(
    command: list[str],
    values: dict[str, Any],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = report_run.write_run(tmp_path)
    rows = [row | values if not n else row for n, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "front.parquet")
    assert main([*command, str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"front.parquet is damaged ({said}): resume or repeat its search" in error
