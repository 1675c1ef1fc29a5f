"""Files written whole or not at all, and read with whatever is wrong in them said in one line."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from codesign.hw.errors import CodesignError
from codesign.hw.platform.text import reason


@contextlib.contextmanager
def refuse_damage(path: Path, kind: Callable[[str], CodesignError], remedy: str) -> Iterator[None]:
    """Whatever fails in the block is the fault of the file at `path`: raises `kind` of one line.

    Errors of codesign's own pass; they know more.
    """
    try:
        yield
    except CodesignError:
        raise
    except OSError as error:
        words = error.strerror or reason(error)
        raise kind(f"cannot read {path}: {words}: {remedy}") from error
    except Exception as error:
        raise kind(f"{path} is damaged ({reason(error)}): {remedy}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path` and move it into place.

    A symbolic link is followed; anything else that is not a regular file is left alone. Raises
    OSError, with nothing half-written.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files as `write_atomic` does, all of them or none.

    They are moved into place when all are written, those that were not there first. Raises OSError,
    whose `filename` is the one that could not be written.
    """
    targets = {path: Path(os.path.realpath(path)) for path in contents}
    temporary = {path: t.with_name(f".{t.name}.{os.getpid()}") for path, t in targets.items()}
    moved: list[Path] = []
    try:
        for path, content in contents.items():
            with _naming(path):
                _require_regular(targets[path])
                temporary[path].write_bytes(content)
        for path in sorted(contents, key=lambda path: targets[path].exists()):
            new = not targets[path].exists()
            with _naming(path):
                os.replace(temporary[path], targets[path])
            if new:
                moved.append(targets[path])
    except BaseException:
        _remove(moved)
        raise
    finally:
        _remove(temporary.values())


def _require_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        kind = "Is a directory" if path.is_dir() else "Not a regular file"
        raise OSError(errno.EINVAL, kind)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What fails in the block failed on `path`, whatever its temporary name."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # gone already, or never there
            path.unlink()
