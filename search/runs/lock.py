"""One run at a time in a directory: a lock file that its process holds as long as it lives.

The lock is the kernel's (flock) on a file that names its holder: a run that was killed leaves the
file but not the lock, so that nobody has to clean up and a process number that returns is no trap.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system: runs are trusted to stay apart
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".codesign.lock"


class Busy(Exception):
    """Another process holds the lock; `holder` is "process" and its number."""

    def __init__(self, number: str) -> None:
        self.holder = f"process {number}" if number else "another process"
        super().__init__(f"{self.holder} holds the lock")


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory`, which must exist; raises Busy at once when another has it.

    Where the file system has no locks nothing is held. Raises OSError where it cannot be written.
    """
    if fcntl is None:
        yield
        return
    path = directory / LOCK_FILE
    handle = _acquire(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is released: nobody removes another's file
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise Busy(number) from None
        except OSError:
            return handle  # this file system has no locks
        if _is_still(path, handle):
            return handle
        os.close(handle)  # its holder removed the file while we waited to be let in


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
