"""`codesign search` from outside: files, JSON, resume, and one line for what a user can mend."""

import errno
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from joint_space import SMALL
from quality_table import write_table

from codesign.hw.platform import files
from codesign.search.cli import search_commands
from codesign.search.cli.app import main
from codesign.search.commands import search_run
from codesign.search.joint import search, search_state
from codesign.search.joint.price_store import PriceStore
from codesign.search.joint.search_records import HEAT_AXES
from codesign.search.terminal import tables


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.toml"
    path.write_text(SMALL.to_toml(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path_factory.getbasetemp() / "prices"))


FILES = {
    "run.json", "space.toml", "front.parquet", "front.csv", "evaluated.parquet", "baseline.json",
    "generations.parquet", "generations.csv", "spending.parquet", "heatmap.parquet",
    "robustness.parquet", "checkpoint.npz", "front.png", "convergence.png", "report.html",
}  # fmt: skip
QUICK = ("--budget", "300", "--population", "30", "--front", "6")


def test_a_search_leaves_its_files_and_says_the_front(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ["search", "--space", str(space), *QUICK]
    assert main([*asked, "-j", "1", "-o", str(one), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["front"]) == 6 and document["evaluated"] == 300
    assert {path.name for path in one.iterdir()} >= FILES
    front = pq.read_table(one / "front.parquet").to_pylist()
    assert [row["edp_js"] for row in front] == [row["edp_js"] for row in document["front"]]
    assert all(row["perplexity_is_proxy"] for row in front)
    assert pq.read_table(one / "evaluated.parquet").num_rows == document["evaluated"]
    spent = pq.read_table(one / "spending.parquet").to_pylist()
    for row in front:
        joules = sum(entry["energy_j"] for entry in spent if entry["point"] == row["point"])
        assert joules == pytest.approx(row["energy_j"], rel=1e-9)
    # The same bytes whoever prices, log and journal of times aside.
    assert main([*asked, "-j", "2", "-o", str(two)]) == 0
    printed = capsys.readouterr().out
    assert "perplexity (proxy)" in printed and "published" in printed
    for name in sorted(FILES - {"report.html"}):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.fixture(scope="module")
def whole(space: Path) -> Path:
    """A run that nothing disturbed."""
    run = space.parent / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODESIGN_CACHE", str(space.parent / "prices"))
        assert main(["search", "--space", str(space), *QUICK, "-j", "1", "-o", str(run)]) == 0
    return run


@pytest.mark.parametrize("generation", [1, 4])
def test_an_interrupted_search_resumes_to_the_same_bytes(
    generation: int,
    space: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["search", "--space", str(space), *QUICK, "-j", "1"]
    append, calls = search_state.Checkpoint.append, []

    def interrupted(self: search_state.Checkpoint, *arguments: object) -> None:
        append(self, *arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == generation:
            raise KeyboardInterrupt

    monkeypatch.setattr(search_state.Checkpoint, "append", interrupted)
    part = ["-o", str(tmp_path / "part")]
    assert main([*asked, *part]) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*asked, *part]) == 2  # nothing is overwritten
    assert "add --resume" in capsys.readouterr().err
    assert main([*asked, *part, "--resume"]) == 0
    for name in sorted(FILES - {"report.html"}):
        assert (whole / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


@pytest.mark.parametrize("file", ["checkpoint.npz", "candidates.bin", "front.csv"])
def test_a_full_disk_is_one_line_and_loses_nothing(
    file: str, space: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = ["search", "--space", str(space), *QUICK, "-j", "1"]
    run = tmp_path / "part"
    write, calls = files.write_atomic, {file: 0}

    def full(path: Path, content: bytes) -> None:
        """Half of the content fits, in the temporary file, from the third time on."""
        if path.name == file:
            calls[file] += 1
            if calls[file] > 3 or file == "front.csv":
                path.with_name(".half").write_bytes(content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    class FullFile(io.FileIO):
        def write(self, content: Any) -> int:
            calls[file] += 1
            if calls[file] > 3:
                super().write(bytes(content)[:7])
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    opened = Path.open

    def open_file(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if self.name == file == "candidates.bin" and mode == "r+b":
            return FullFile(self, mode)
        return opened(self, mode, *rest, **named)

    monkeypatch.setattr(files, "write_atomic", full)
    monkeypatch.setattr(Path, "open", open_file)
    assert main([*asked, "-o", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("codesign: error: cannot write") and error.endswith(
        f"{file}: No space left on device"
    )
    monkeypatch.setattr(files, "write_atomic", write)
    monkeypatch.setattr(Path, "open", opened)
    assert main([*asked, "-o", str(run)]) == 2  # nothing is overwritten
    assert "add --resume" in capsys.readouterr().err
    assert main([*asked, "-o", str(run), "--resume"]) == 0
    for name in sorted(FILES - {"report.html"}):
        assert (whole / name).read_bytes() == (run / name).read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space", "none.toml"], "cannot read none.toml"),
        (["--minimize", "perplexity,speed"], "unknown objective 'speed'"),
        (["--minimize", "edp"], "two or more"),
        (["--quality", "none.csv"], "cannot read none.csv"),
        (["--warm-start", "none.csv"], "cannot read none.csv"),
        (["--resume"], "keeps no search to resume"),
        (["--method", "exhaustive"], "too many to try all"),
        (["--method", "exhaustive", "--uniform", "--budget", "10"], "give --budget 820800"),
        (["--population", "2"], "not in the range 8<=x<=5000"),
        (["--population", "1000000000"], "not in the range 8<=x<=5000"),
        (["--budget", "5"], "take 8 or more"),
        (["--budget", "9" * 20], "not in the range"),
        (["--seq", "1000000000"], "sequence is 1000000000 but must be"),
        (["-o", "file"], "file: it is a file; name a folder"),
        (["--warm-start", "file"], "has no candidate of this space"),
        (["--dask", ""], "--dask '' is no address"),
        (["--dask", "garbage"], "is no address: write tcp://HOST:PORT"),
        (["--dask", "://"], "is no address"),
        (["--dask", "tcp://127.0.0.1"], "is no address"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a,b\n")
    assert main(["search", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("codesign: error:") and said in error and "[Errno" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # no folder was made


def test_the_options_have_the_bounds_of_a_search() -> None:
    limits = {option.name: option.type for option in search_commands.search.params}
    population, budget = limits["population"], limits["budget"]
    assert isinstance(population, click.IntRange) and isinstance(budget, click.IntRange)
    assert (population.min, population.max) == search.POPULATION
    assert budget.max == search.LARGEST_BUDGET


@pytest.mark.parametrize(
    ("asked", "evaluated", "said"),
    [
        (["--budget", "25", "--population", "20"], 25, ""),
        (["--budget", "12"], 12, "the population is 12"),
        (["--method", "exhaustive"], 768, "768 candidates: the budget is 768"),
        (["--method", "random", "--budget", "100"], 100, ""),
    ],
)
def test_a_search_spends_its_budget_or_the_space_and_no_more(
    asked: list[str], evaluated: int, said: str, space: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = ["-j", "1", "-o", str(tmp_path / "run"), "--json"]
    assert main(["search", "--space", str(space), "--uniform", *asked, *out]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["evaluated"] == evaluated == document["inputs"]["budget"]
    assert said in printed.err


def test_a_checkpoint_of_another_request_is_refused(
    space: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "run.json").unlink()
    asked = ["search", "--space", str(space), *QUICK, "-j", "1", "-o", str(run), "--resume"]
    assert main([*asked, "--seed", "7"]) == 2
    assert "is of another search" in capsys.readouterr().err
    assert not (run / "run.json").exists()
    assert main(asked) == 0
    assert (run / "run.json").read_bytes() == (whole / "run.json").read_bytes()


def test_a_search_stopped_before_its_first_generation_begins_with_resume(
    space: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    asked = ["search", "--space", str(space), *QUICK, "-j", "1", "-o", str(tmp_path / "run")]
    monkeypatch.setattr(search_state.Checkpoint, "append", stop)
    assert main(asked) == 130
    assert "no candidate is kept yet: repeat the command\n" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*asked, "--resume"]) == 0
    assert (tmp_path / "run/front.csv").read_bytes() == (whole / "front.csv").read_bytes()
    monkeypatch.setattr(search_run, "_finish", stop)
    assert main([*asked, "--resume"]) == 130
    assert "300 of 300 candidates are kept" in capsys.readouterr().err


def test_a_search_stopped_as_its_first_generation_is_written_goes_on_with_resume(
    space: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    append = search_state.Checkpoint.append

    def stopped(self: search_state.Checkpoint, *given: Any) -> None:
        append(self, *given)
        self.evaluated = 0  # as where the file is in place, and nothing has counted it
        raise KeyboardInterrupt

    run = tmp_path / "run"
    asked = ["search", "--space", str(space), *QUICK, "-j", "1", "-o", str(run)]
    monkeypatch.setattr(search_state.Checkpoint, "append", stopped)
    assert main(asked) == 130
    assert "run keeps candidates: repeat the command with --resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*asked, "--resume"]) == 0
    assert (run / "front.csv").read_bytes() == (whole / "front.csv").read_bytes()


def test_progress_after_resume_counts_what_is_kept(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    shown: list[tuple[object, ...]] = []

    @contextmanager
    def stages() -> Iterator[Callable[..., None]]:
        yield lambda *arguments: shown.append(arguments[:3])

    asked = ["search", "--space", str(space), *QUICK, "-j", "1", "-o", str(tmp_path / "run")]
    monkeypatch.setattr(search_run, "stages", stages)
    with monkeypatch.context() as patch:
        patch.setattr(PriceStore, "save", lambda self: None)
        listener = search_run._listener

        def stopping(*arguments: Any) -> search.Listener:
            return replace(listener(*arguments), generation=stop)

        patch.setattr(search_run, "_listener", stopping)
        assert main(asked) == 130
    first = search_state.Checkpoint(tmp_path / "run", 0)
    assert first.exists
    shown.clear()
    assert main([*asked, "--resume"]) == 0
    kept = pq.read_table(tmp_path / "run/generations.parquet")["evaluations"][0].as_py()
    assert shown[0] == ("candidates", kept, 300) and kept > 0
    counts = [int(str(done)) for what, done, _ in shown if what == "candidates"]
    assert counts == sorted(counts)


def test_a_small_budget_prices_few_machines_for_its_heat_map(space: Path, tmp_path: Path) -> None:
    cells = {}
    for budget in (40, 400):
        run = tmp_path / str(budget)
        asked = ["--budget", str(budget), "--population", "20", "--front", "6", "-j", "1"]
        assert main(["search", "--space", str(space), *asked, "-o", str(run)]) == 0
        cells[budget] = pq.read_table(run / "heatmap.parquet").to_pylist()
        front = {p["point"]: p for p in pq.read_table(run / "front.parquet").to_pylist()}
        own = {
            cell["winner"]
            for cell in cells[budget]
            if all(cell[axis] == front[cell["point"]][axis] for axis in HEAT_AXES)
        }
        assert own == {cell["winner"] for cell in cells[budget]}
    assert len(cells[40]) <= 4
    # Each of up to three winners on 2 x 2 x 2 machines at its bus, and on two more at the other.
    assert len(cells[400]) == 10 * len({cell["winner"] for cell in cells[400]})


@pytest.mark.parametrize(("noise", "warned"), [(0.0, False), (1.0, True)])
def test_a_table_that_predicts_badly_is_warned_of(
    noise: float, warned: bool, space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "subnets.csv", 40, noise)
    asked = ["--budget", "20", "--population", "20", "--front", "2", "-j", "1", "--json"]
    where = ["--quality", str(table), "-o", str(tmp_path / "run")]
    assert main(["search", "--space", str(space), *asked, *where]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "weak guess" in line]
    assert len(said) == warned
    for line in said:
        assert line.startswith("codesign: warning: perplexities") and "below 0.5" in line


def test_a_point_that_is_exported_costs_what_the_search_says(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = pq.read_table(whole / "front.parquet").to_pylist()[0]
    file = str(tmp_path / "point.onnx")
    shape = ["--layers", point["layers"], "--d-model", point["d_model"], "--heads", point["heads"],
             "--ffn", point["d_ff"], "--vocab", 500, "--seq", 32]  # fmt: skip
    assert main(["export", "lm", "--no-head", *map(str, shape), "-o", file]) == 0
    options = {"--dim": "dim", "--scratchpad": "scratchpad_bytes", "--acc": "accumulator_bytes",
               "--bus": "bus_bytes", "--scratchpad-banks": "scratchpad_banks",
               "--acc-banks": "accumulator_banks"}  # fmt: skip
    machine = [text for option, name in options.items() for text in (option, str(point[name]))]
    capsys.readouterr()
    assert main(["sweep", file, *machine, "-j", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    for column in ("cycles", "energy_j", "edp_js", "area_mm2", "dram_bytes", "macs"):
        assert row[column] == point[column], column


def test_units_are_spelled_where_the_output_has_no_such_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(sink, "ascii"))
    console = tables.console()
    console.print("12.5 µJ·s, 2 mm², 1.0×, decades³, 3–4 漢")
    console.file.flush()
    assert sink.getvalue() == b"12.5 uJ*s, 2 mm2, 1.0x, decades3, 3-4 ?\n"
