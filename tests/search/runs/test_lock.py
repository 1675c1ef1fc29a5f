"""The lock of a run directory: one process at a time, and none when its holder is gone."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codesign.search.cli import app
from codesign.search.runs import lock, output
from codesign.search.runs.files import RUN_FILE
from codesign.search.runs.lock import Busy
from codesign.search.runs.output import OutputError

RUN = output.describe_run("codesign sweep", {"model": "bert-base"})
HOLD = (
    "import sys; from pathlib import Path; from codesign.search.runs import lock\n"
    "with lock.exclusive(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def _holder(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lock of `directory` until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with _holder(tmp_path) as process:
        with (
            pytest.raises(OutputError, match=f"^process {process.pid} is writing into .*: wait"),
            output.run_directory(tmp_path, RUN),
        ):
            raise AssertionError("must not start")
        assert [path.name for path in tmp_path.iterdir()] == [lock.LOCK_FILE]
    with output.run_directory(tmp_path, RUN):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_the_command_line_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _holder(tmp_path) as process:
        command = ["sweep", "bert-tiny", "--seq", "16", "--jobs", "1", "--out", str(tmp_path)]
        assert app.main(command) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert captured.err.startswith(f"codesign: error: process {process.pid} is writing into")
        assert [path.name for path in tmp_path.iterdir()] == [lock.LOCK_FILE]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with _holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / lock.LOCK_FILE).read_text() == f"{process.pid}\n"
        with lock.exclusive(tmp_path):
            assert (tmp_path / lock.LOCK_FILE).read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_one_process_does_not_enter_twice(tmp_path: Path) -> None:
    with lock.exclusive(tmp_path), pytest.raises(Busy), lock.exclusive(tmp_path):
        raise AssertionError("must not start")
    with lock.exclusive(tmp_path):
        pass


def test_a_file_that_is_taken_away_between_opening_and_locking_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder leaves just then: whoever locks its old file must start again with a new one."""
    (tmp_path / lock.LOCK_FILE).write_text("")
    flock = fcntl.flock
    calls: list[int] = []

    def slow(handle: int, operation: int) -> None:
        if not calls:
            (tmp_path / lock.LOCK_FILE).unlink()
        calls.append(handle)
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with lock.exclusive(tmp_path):
        assert len(calls) == 2
        with _refused(tmp_path) as refused:
            assert refused


@contextmanager
def _refused(directory: Path) -> Iterator[bool]:
    try:
        with lock.exclusive(directory):
            yield False
    except Busy:
        yield True


def test_without_locks_in_the_file_system_runs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with output.run_directory(tmp_path, RUN):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]
