"""The run directory: what `--out` keeps, written so that no file is ever half there.

Files appear whole, by renaming; the same command writes the same bytes, so times of day are in
`log.txt` alone. Rows that are still being made collect in a journal, one line each, and a later
run of the same command takes them up.
"""

import csv
import io
import json
import os
import platform
import sys
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.hw.platform import files
from codesign.hw.platform.text import csv_cell, printable, reason, said
from codesign.search.runs import lock
from codesign.search.runs.files import JOURNAL_FILE, LOG_FILE, RESULTS, RUN_FILE
from codesign.search.runs.journal import journal_line, journal_text, read_journal
from codesign.search.runs.records import Record, read_json
from codesign.search.terminal.messages import say


class OutputError(CodesignError):
    """A place that cannot be written, is in use, or keeps the run of another command."""


@dataclass(frozen=True)
class RunDirectory:
    """A directory that takes one run, described by `run`; made by `run_directory`."""

    path: Path
    run: Mapping[str, Any]

    def log(self, message: str) -> None:
        """Append a line with the time of day to the log."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        _append(self.path / LOG_FILE, f"{stamp} {printable(message)}\n")

    def append(self, record: Any, name: str = JOURNAL_FILE) -> None:
        """Append one dataclass instance to a journal."""
        _append(self._place(name), journal_line(record))

    def journal(self, kind: type[Record], again: str, name: str = JOURNAL_FILE) -> list[Record]:
        """Return a journal's records; lines that are damaged or edited leave it.

        A warning says so, with what is done `again` for them. What a crash cut short goes unsaid.
        """
        path = self.path / name
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from error
        found, bad = read_journal(content, kind)
        if bad:
            lines = "1 line is" if bad == 1 else f"{bad} lines are"
            say(f"warning: {path}: {lines} damaged or edited and left out: {again}")
        sound = journal_text(found).encode()
        if sound != content:
            write_file(path, sound)
        return found

    def write_text(self, name: str, text: str) -> None:
        """Write one text file."""
        write_file(self._place(name), text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write one binary file."""
        write_file(self._place(name), content)

    def write_records(self, stem: str, records: Sequence[Any]) -> None:
        """Write dataclass instances of one kind as STEM.parquet and STEM.csv."""
        self.write_bytes(f"{stem}.parquet", parquet_bytes(arrow_table(records)))
        self.write_text(f"{stem}.csv", csv_text(list(map(asdict, records))))

    def write_rows(
        self, stem: str, rows: Sequence[Mapping[str, Any]], *, with_csv: bool = True
    ) -> None:
        """Write rows whose columns are no record's, typed by their values, as `write_records`."""
        import pyarrow as pa

        self.write_bytes(f"{stem}.parquet", parquet_bytes(pa.Table.from_pylist(list(rows))))
        if with_csv:
            self.write_text(f"{stem}.csv", csv_text(rows))

    def write_arrays(self, stem: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write arrays by name as STEM.npz."""
        sink = io.BytesIO()
        by_name: dict[str, Any] = dict(arrays)  # a value by the name of no option of savez
        np.savez(sink, **by_name)
        self.write_bytes(f"{stem}.npz", sink.getvalue())

    def finish_journal(self, records: Sequence[Any]) -> None:
        """Put the journal in the order of `records`, whatever the order they finished in."""
        self.write_text(JOURNAL_FILE, journal_text(records))

    def _place(self, name: str) -> Path:
        """Where a file goes: nothing is kept without the run.json that says whose it is."""
        if name not in RESULTS:
            raise ValueError(f"{name} is not listed in run_files.py")
        described = self.path / RUN_FILE
        if name != RUN_FILE and not described.exists():
            write_file(described, json_text(self.run).encode())
        return self.path / name


@contextmanager
def run_directory(
    path: Path, run: Mapping[str, Any], *, resume: bool = False
) -> Iterator[RunDirectory]:
    """Open `path` for the run that `run` describes; what `run["inputs"]` holds decides its results.

    Raises OutputError when it cannot be written, another process is running in it, it keeps results
    of other inputs, or files of no run under names that this one may write: with `resume` the caller finds
    out whose they are. A directory made here in which nothing was kept is removed again.
    """
    _refuse_other_inputs(path, run)
    made = _make(path)
    try:
        with lock.exclusive(path):
            _refuse_other_inputs(path, run)  # again: another may just have finished in it
            if not resume:
                _refuse_files_of_others(path)
            directory = RunDirectory(path, run)
            yield directory
            directory.write_text(RUN_FILE, json_text(run))
    except lock.Busy as busy:
        raise OutputError(
            f"{busy.holder} is writing into {path}: wait for it, or choose another --out"
        ) from None
    except BaseException:
        _remove(made)
        raise


def describe_run(
    command: str, inputs: Mapping[str, Any], seed: int | None = None
) -> dict[str, Any]:
    """Return what `run.json` keeps: how to repeat the run, what went into it, and the versions."""
    return {
        "command": command,
        "inputs": json.loads(json_text(inputs)),
        "seed": seed,
        "versions": versions(),
    }


def run_inputs(path: Path) -> dict[str, Any]:
    """What decided the results of the run in a directory, by its run.json.

    Raises OSError where it cannot be read, ValueError saying what is not there.
    """
    document = read_json(path / RUN_FILE)
    if not isinstance(document, dict) or "inputs" not in document:
        raise ValueError("it has no inputs")
    inputs = document["inputs"]
    if isinstance(inputs, dict):
        return inputs
    raise ValueError(f"inputs is {said(inputs)}")


def versions() -> dict[str, str]:
    """Return the versions of everything that results or files depend on."""
    packages = ("codesign", "numpy", "onnx", "pyarrow", "matplotlib")
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all; raises OutputError."""
    try:
        files.write_atomic(path, content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def require_writable(path: Path) -> None:
    """Raise OutputError where no file can be written as `path`; leaves everything as it was."""
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def json_text(document: Any) -> str:
    """Return a JSON document, one for people to read; dataclasses become objects."""
    return json.dumps(document, indent=2, default=_plain, allow_nan=False) + "\n"


def print_json(document: Any) -> None:
    """Write a JSON document to standard output."""
    sys.stdout.write(json_text(document))


def json_compact(document: Any) -> str:
    """Return a JSON document without white space."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of equal columns as CSV with a header; None is an empty field.

    Text that a spreadsheet would take for a formula is marked as text (`csv_cell`).
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({n: csv_cell(v) if isinstance(v, str) else v for n, v in row.items()})
    return buffer.getvalue()


def parquet_bytes(table: Any, compression: str = "snappy") -> bytes:
    """Return an Arrow table as a Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression=compression)
    return sink.getvalue()


def arrow_table(records: Sequence[Any]) -> Any:
    """Return dataclass instances of one kind as an Arrow table, typed by their annotations."""
    import pyarrow as pa

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
    hints = typing.get_type_hints(type(records[0]))
    schema = pa.schema(
        [pa.field(f.name, types[_scalar(hints[f.name])]) for f in fields(records[0])]
    )
    return pa.Table.from_pylist([asdict(r) for r in records], schema)


def _scalar(hint: Any) -> type:
    """int of both `int` and `int | None`."""
    (kind,) = [part for part in typing.get_args(hint) or (hint,) if part is not NoneType]
    found: type = kind
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value.tolist()


def _append(path: Path, line: str) -> None:
    """Add one line in one write, so that it is there whole or not at all."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _refuse_other_inputs(path: Path, run: Mapping[str, Any]) -> None:
    try:
        before = run_inputs(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else reason(error)
        raise OutputError(
            f"{path / RUN_FILE} is no run of codesign ({why}): choose another --out"
        ) from error
    now = run["inputs"]
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        raise OutputError(
            f"{path} keeps a run with another {', '.join(changed)}: repeat its command (in "
            f"{RUN_FILE}), choose another --out, or remove it"
        )


def _refuse_files_of_others(path: Path) -> None:
    """Every run begins with its run.json: where there is none, nothing here is of a run."""
    if (path / RUN_FILE).exists():
        return
    taken = sorted(RESULTS & {entry.name for entry in path.iterdir()})
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise OutputError(
            f"{path} keeps no run of codesign, but {taken[0]}{more}, which a run may overwrite: choose "
            "another --out, or remove them"
        )


def _make(path: Path) -> list[Path]:
    """Make a directory and try to write in it; return those that were not there, deepest first."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    if path.is_file():
        raise OutputError(f"cannot write into {path}: it is a file; name a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        _remove(missing)
        raise OutputError(
            f"cannot write into {path}: {error.strerror}; choose a folder that is writable"
        ) from error
    return missing


def _remove(directories: Sequence[Path]) -> None:
    """Remove the directories that are empty."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            return


@contextmanager
def optional_directory(out: Path | None, run: Mapping[str, Any]) -> Iterator[RunDirectory | None]:
    """The run directory of a command, where one was asked for."""
    if out is None:
        yield None
        return
    with run_directory(out, run) as directory:
        yield directory
