"""A bug that shows on one machine of a sweep costs the user that machine and no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.search.cli import app
from codesign.search.inputs import grid
from codesign.search.inputs.sources import load_model
from codesign.search.pricing import evaluate
from codesign.search.pricing import sweep as sweeping
from codesign.search.pricing.sweep import Row, SweepJob, best, sweep

K = 1024
GRID = ["--scratchpad", "16K,32K,64K"]
COMMAND = ["sweep", "bert-tiny", "--seq", "32", *GRID, "--jobs", "1"]
MESSAGE = "kernel 3 waits for a token\nthat nobody signals"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _break(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], error: Exception) -> None:
    """Make evaluate raise `error` on machines with scratchpads of these sizes."""
    sound = evaluate.evaluate

    def broken(graph: Any, config: HardwareConfig, *others: Any) -> evaluate.Result:
        if config.scratchpad_bytes in sizes:
            raise error
        return sound(graph, config, *others)

    monkeypatch.setattr(sweeping, "evaluate", broken)


@pytest.mark.parametrize("error", [ProgramError(MESSAGE), IndexError(MESSAGE)])
def test_the_other_machines_are_priced(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    base, graph = PRESETS["ibert"], load_model("bert-tiny", seq=32).graph
    points = grid.points(base, {"scratchpad_bytes": (16 * K, 32 * K, 64 * K)})
    job = SweepJob(graph, "edp", "default")
    sound: list[Row] = []
    sweep(job, points, base, 1, sound.append)
    _break(monkeypatch, (32 * K,), error)
    rows: list[Row] = []
    sweep(job, points, base, 1, rows.append)
    assert [rows[0], rows[2]] == [sound[0], sound[2]]
    failed = rows[1]
    assert failed.failed == f"{type(error).__name__}: {MESSAGE}".replace("\n", " ")
    assert not failed.feasible and not failed.infeasible and failed.cycles is None
    assert failed.scratchpad_bytes == 32 * K
    assert best([failed]) is None


def test_the_table_and_the_exit_code_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break(monkeypatch, (32 * K,), ProgramError(MESSAGE))
    assert app.main(COMMAND) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("codesign: error: 1 of 3 machines failed")
    assert "report it" in captured.err and "ProgramError: kernel 3" in captured.err
    lines = captured.out.splitlines()
    assert [line for line in lines if " 32K " in line and "failed" in line]
    assert any(line.startswith("failed (1): ProgramError: kernel 3 waits") for line in lines)
    assert app.main([*COMMAND, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [bool(row["failed"]) for row in document["rows"]] == [False, True, False]
    assert document["best"] in (0, 2)


def test_a_kept_run_asks_the_failed_machines_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        _break(patched, (16 * K, 32 * K), ProgramError(MESSAGE))
        assert app.main([*COMMAND, "--out", "run"]) == 1
    rows = [json.loads(line) for line in (folder / "run" / "rows.jsonl").read_text().splitlines()]
    assert [bool(row["failed"]) for row in rows] == [True, True, False]
    assert (folder / "run" / "results.parquet").exists()
    assert app.main([*COMMAND, "--out", "run"]) == 0
    assert app.main([*COMMAND, "--out", "sound"]) == 0
    for name in ("rows.jsonl", "results.parquet", "results.csv"):
        assert (folder / "run" / name).read_bytes() == (folder / "sound" / name).read_bytes()


def test_nothing_but_failures_keeps_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break(monkeypatch, (16 * K, 32 * K, 64 * K), ProgramError(MESSAGE))
    assert app.main([*COMMAND, "--out", "run"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "3 of 3 machines failed" in captured.err
    assert list(folder.iterdir()) == []
