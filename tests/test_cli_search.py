"""`codesign search` from outside: files, JSON, resume, and one line for what a user can mend."""

import errno
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from joint_space import SMALL

from codesign.hw import files
from codesign.search.cli import main


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
    assert len(document["front"]) == 6 and document["evaluated"] >= 300
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


def test_an_interrupted_search_resumes_to_the_same_bytes(
    space: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from codesign.search import joint

    asked = ["search", "--space", str(space), *QUICK, "-j", "1"]
    append, calls = joint.Checkpoint.append, []

    def interrupted(self: joint.Checkpoint, *arguments: object) -> None:
        append(self, *arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(joint.Checkpoint, "append", interrupted)
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
        (["--population", "2"], "too small"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["search", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("codesign: error:") and said in error
