"""Files are written whole or not at all, through links, and never over what is no file."""

import os
from pathlib import Path

import pytest

from codesign.hw.platform.files import write_atomic, write_together
from codesign.search.cli.app import main


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "file"
    for content in (b"one", b"two"):
        write_atomic(target, content)
        assert target.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"content"


def test_leaves_a_pipe_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        write_atomic(tmp_path / "pipe", b"content")
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        write_atomic(tmp_path / "file" / "x", b"content")


@pytest.mark.parametrize("bad", ["folder", "nowhere/x"])
def test_several_files_are_written_or_none(tmp_path: Path, bad: str) -> None:
    """Whichever of them it is that cannot be; what was there before is as it was."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_bytes(b"before")
    for names in (("new", "old", bad), (bad, "old", "new")):
        with pytest.raises(OSError, match="directory") as raised:
            write_together({tmp_path / name: b"content" for name in names})
        assert raised.value.filename == str(tmp_path / bad)
        assert sorted(os.listdir(tmp_path)) == ["folder", "old"]
        assert (tmp_path / "old").read_bytes() == b"before"
    write_together({tmp_path / name: name.encode() for name in ("old", "new")})
    assert [(tmp_path / name).read_text() for name in ("old", "new")] == ["old", "new"]


def test_what_was_moved_before_a_failure_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = os.replace

    def replace(source: Path, target: Path) -> None:
        if target.name == "second":
            raise OSError(5, "Input/output error", str(source))
        move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output") as raised:
        write_together({tmp_path / name: b"content" for name in ("first", "second")})
    assert raised.value.filename == str(tmp_path / "second") and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "bert-tiny", "-o", ""],
        ["sweep", "bert-tiny", "--out", ""],
        ["sweep", ""],
        ["sweep", "bert-tiny", "--clock", "500"],
        ["hardware", "ibert", "--ert", "--art"],
    ],
    ids=" ".join,
)
def test_an_empty_or_doubtful_value_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("codesign: error: ") and err.count("\n") == 1
