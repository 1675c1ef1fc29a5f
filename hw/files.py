"""Files written whole or not at all."""

import contextlib
import errno
import os
from pathlib import Path


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
