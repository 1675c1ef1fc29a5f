"""The user's cache of prices: a folder of segments for each state of the code, shared by processes.

A segment is a file that is written once, whole, under a name that nobody else takes, with a checksum.
When there are many of them they are merged: everything is read, written as one, and only what was
read is removed. So processes that write, merge or are killed at any moment lose nothing of each
other's, without a lock: what is removed is in another file by then.

The cache is bounded: of each state of the code the latest `MOST_ENTRIES` prices are kept, and of the
states only the latest used `VERSIONS`.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.hw.machine.events import EVENTS
from codesign.hw.platform import files

Ints = npt.NDArray[np.int64]

KEY_BYTES = 16
COLUMNS = 1 + len(EVENTS)  # cycles, events
MOST_SEGMENTS = 8  # then they are merged into one
MOST_ENTRIES = 500_000  # of one state of the code: 96 MB
VERSIONS = 2  # states of the code: who goes back and forth between two keeps both
ABANDONED_S = 24 * 3600  # age of a file that a killed process left half-written

_SUFFIX = ".prices"
_CHECKSUM_BYTES = 16
_ENTRY_BYTES = KEY_BYTES + 8 * COLUMNS
_VERSION_NAME = re.compile(r"[0-9a-f]{32}")
_FORMER_SEGMENT = re.compile(r"[0-9a-f]{16}\.npz")  # of versions that kept all in one folder


class PriceCache:
    """The segments of one state of the code, `version`, in the folder `root`.

    `warn` is told of segments that are damaged. Reading and writing raise OSError.
    """

    def __init__(self, root: Path, version: str, warn: Callable[[str], None]) -> None:
        self.root, self.folder, self.warn = root, root / version, warn
        self._read: set[Path] = set()  # and what was written here

    def unread(self) -> Iterator[tuple[list[bytes], Ints]]:
        """Keys and prices [n, COLUMNS] of each segment that was not read yet, the oldest first."""
        for path in self._segments():
            if path in self._read:
                continue
            try:
                found = _entries(path)
            except FileNotFoundError:
                continue  # another process has merged it
            except OSError as error:
                self.warn(f"cannot read {path} ({error.strerror}): its prices are computed again")
                continue
            except ValueError as error:
                self.warn(f"{path} is damaged ({error}): its prices are computed again")
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            self._read.add(path)
            yield found
        with suppress(OSError):
            os.utime(self.folder)  # used: other states of the code are forgotten before it

    @property
    def crowded(self) -> bool:
        """Whether it is time to merge."""
        return len(self._segments()) >= MOST_SEGMENTS

    def write(self, keys: list[bytes], rows: Ints) -> None:
        """Write prices [n, COLUMNS] as a segment."""
        self.folder.mkdir(parents=True, exist_ok=True)
        keys, rows = keys[-MOST_ENTRIES:], rows[-MOST_ENTRIES:]
        content = b"".join(keys) + np.ascontiguousarray(rows, "<i8").tobytes()
        path = self.folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        files.write_atomic(path, _checksum(content) + content)
        self._read.add(path)

    def merge(self, keys: list[bytes], rows: Ints) -> None:
        """Write everything that was read as one segment, in place of those it was read from."""
        before = list(self._read)
        self.write(keys, rows)
        for path in before:
            path.unlink(missing_ok=True)
            self._read.discard(path)

    def prune(self) -> None:
        """Forget what was priced by code that is no longer used, and what killed processes left."""
        others = [
            path
            for path in self.root.iterdir()
            if path.is_dir() and path != self.folder and _VERSION_NAME.fullmatch(path.name)
        ]
        for path in _oldest_first(others)[: 1 - VERSIONS]:
            shutil.rmtree(path, ignore_errors=True)
        for path in self.root.iterdir():
            if _FORMER_SEGMENT.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f".*{_SUFFIX}.*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    def _segments(self) -> list[Path]:
        """The segments that are there, the oldest first."""
        return _oldest_first(p for p in self.folder.glob(f"*{_SUFFIX}") if p.is_file())


def _oldest_first(paths: Iterable[Path]) -> list[Path]:
    """By the time of their last change; without those that another process has removed by now."""
    found = []
    for path in paths:
        with suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def _entries(path: Path) -> tuple[list[bytes], Ints]:
    """Keys and prices [n, COLUMNS] of a segment. Raises ValueError where it is damaged."""
    size = path.stat().st_size - _CHECKSUM_BYTES
    if size < 0 or size % _ENTRY_BYTES or size > MOST_ENTRIES * _ENTRY_BYTES:
        raise ValueError("its size is that of no segment")
    content = path.read_bytes()
    checksum, content = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if checksum != _checksum(content):
        raise ValueError("its checksum differs")
    count = size // _ENTRY_BYTES
    keys = [content[i * KEY_BYTES : (i + 1) * KEY_BYTES] for i in range(count)]
    rows = np.frombuffer(content, "<i8", offset=count * KEY_BYTES).reshape(count, COLUMNS)
    return keys, rows.astype(np.int64, copy=False)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES).digest()
