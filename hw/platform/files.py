"""Files written whole or not at all, and read with whatever is wrong in them said in one line."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
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
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        kind = "Is a directory" if path.is_dir() else "Not a regular file"
        raise OSError(errno.EINVAL, kind)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # gone already, or never there
            temporary.unlink()
