"""The run directory: whole files or none, exact numbers, one run a directory."""

import csv
import io
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from record_samples import SAMPLES, Sample

from codesign.search.runs import output
from codesign.search.runs.files import JOURNAL_FILE, RESULTS
from codesign.search.runs.output import OutputError

RUN = output.describe_run("codesign sweep", {"model": "bert-base", "grid": {"dim": [8, 16]}})


def test_parquet_reads_back_equal_and_typed() -> None:
    table = pq.read_table(io.BytesIO(output.parquet_bytes(output.arrow_table(SAMPLES))))
    assert [str(t) for t in table.schema.types] == ["int64", "string", "int64", "double"]
    assert [Sample(**row) for row in table.to_pylist()] == SAMPLES


def test_csv_reads_back_equal() -> None:
    rows = list(csv.DictReader(io.StringIO(output.csv_text(list(map(asdict, SAMPLES))))))
    assert [row["name"] for row in rows] == [sample.name for sample in SAMPLES]
    assert rows[1]["cycles"] == "" and rows[1]["energy_j"] == ""
    assert float(rows[0]["energy_j"]) == 0.1 + 0.2


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError):
        output.json_text({"energy_j": float("nan")})


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    output.write_file(target, b"old")
    with pytest.raises(TypeError):
        output.write_file(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_journal_survives_a_crash_in_its_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.run_directory(tmp_path / "run", RUN) as directory:
        for sample in SAMPLES:
            directory.append(sample)
    journal = tmp_path / "run" / JOURNAL_FILE
    whole = journal.read_text()
    journal.write_text(whole[:-7])
    with output.run_directory(tmp_path / "run", RUN) as directory:
        assert directory.journal(Sample, "again") == SAMPLES[:-1]
        directory.append(SAMPLES[-1])
        assert directory.journal(Sample, "again") == SAMPLES
    assert "warning" not in capsys.readouterr().err  # what a crash cuts short is nobody's damage
    assert journal.read_text() == whole


def test_damaged_lines_leave_the_journal_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.run_directory(tmp_path, RUN) as directory:
        for sample in SAMPLES:
            directory.append(sample)
        journal = tmp_path / JOURNAL_FILE
        journal.write_text(journal.read_text().replace('"cycles":0', '"cycles":1'))
        assert directory.journal(Sample, "they are made again") == SAMPLES[:-1]
        (said,) = capsys.readouterr().err.splitlines()
        assert said.endswith(
            "rows.jsonl: 1 line is damaged or edited and left out: they are made again"
        )
        assert directory.journal(Sample, "they are made again") == SAMPLES[:-1]
        assert capsys.readouterr().err == ""


def test_a_finished_journal_is_in_order_whatever_the_order_of_finishing(tmp_path: Path) -> None:
    with output.run_directory(tmp_path, RUN) as directory:
        for sample in reversed(SAMPLES):
            directory.append(sample)
        directory.finish_journal(SAMPLES)
        assert directory.journal(Sample, "again") == SAMPLES


def test_another_command_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with output.run_directory(tmp_path, RUN):
        pass
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    other = output.describe_run("codesign sweep", {"model": "gpt2", "grid": {"dim": [8, 16]}})
    with (
        pytest.raises(OutputError, match="keeps a run with another model:"),
        output.run_directory(tmp_path, other),
    ):
        raise AssertionError("must not start")
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "JSONDecodeError: Expecting value"),
        ("{", "JSONDecodeError: Expecting property name"),
        ("[]", "it has no inputs"),
        ('{"other": 1}', "it has no inputs"),
        ('{"inputs": "all"}', "inputs is 'all'"),
        ('{"inputs": {"a": NaN}}', "it has NaN in place of a number"),
        ("[" * 100_000, "it is nested too deep"),
    ],
)
def test_a_file_of_someone_else_is_not_overwritten(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with (
        pytest.raises(OutputError, match=rf"no run of codesign \({re.escape(why)}.*\): choose"),
        output.run_directory(tmp_path, RUN),
    ):
        raise AssertionError("must not start")
    assert (tmp_path / "run.json").read_text() == content


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match="cannot write into"), output.run_directory(path, RUN):
            raise AssertionError("must not start")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_before_anything_was_kept_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output.run_directory(tmp_path / "a" / "b", RUN):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_error_later_keeps_the_journal_and_what_it_belongs_to(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output.run_directory(tmp_path / "run", RUN) as directory:
        directory.append(SAMPLES[0])
        raise RuntimeError
    kept: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["inputs"] == RUN["inputs"]
    with output.run_directory(tmp_path / "run", RUN) as directory:
        assert directory.journal(Sample, "again") == SAMPLES[:1]


@pytest.mark.parametrize("name", ["results.csv", "report.html", "checkpoint.npz"])
def test_results_of_someone_else_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(OutputError, match=f"keeps no run of codesign, but {name}, which a run may"),
        output.run_directory(tmp_path, RUN),
    ):
        raise AssertionError("must not start")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        name: "mine",
        "notes.txt": "mine",
    }


def test_a_folder_with_other_files_takes_a_run(tmp_path: Path) -> None:
    others = ("model.onnx", "notes.txt", ".lock", "log.txt")
    for name in others:
        (tmp_path / name).write_text("mine\n")
    with output.run_directory(tmp_path, RUN) as directory:
        directory.write_records("results", SAMPLES)
        directory.log("done")
    assert all((tmp_path / name).read_text().startswith("mine\n") for name in others)


def test_a_run_that_is_killed_at_any_file_can_be_repeated(tmp_path: Path) -> None:
    """Whatever is there, it says whose it is."""
    for name in sorted(RESULTS - {"run.json"}):
        folder = tmp_path / name
        with pytest.raises(RuntimeError), output.run_directory(folder, RUN) as directory:
            directory.write_text(name, "half of the run")
            raise RuntimeError
        with output.run_directory(folder, RUN) as directory:
            directory.write_text(name, "the run")


def test_a_file_that_is_not_listed_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"new\.csv is not listed"),
        output.run_directory(tmp_path / "run", RUN) as directory,
    ):
        directory.write_text("new.csv", "")
    assert not (tmp_path / "run").exists()
