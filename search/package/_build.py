"""setuptools' build backend, with editable installs that are found first.

Python looks through all folders of its path, the current one before others, and only then asks the
finder of an editable install: a clone in a folder named codesign would be taken for the package by
whoever stands beside it. Here the finder is asked first, as a real package in site-packages is.
"""

import base64
import hashlib
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# What setuptools warns of: that it may come to spell `ext-modules` in another way, which the next
# build would show, and that folders in the way are imported first, which they are not.
for message in (r".*ext-modules.* is still \*experimental\*", "Editable installation"):
    warnings.filterwarnings("ignore", message)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel that leads to the source tree, and return its name (PEP 660)."""
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    path = Path(wheel_directory, name)
    with ZipFile(path) as wheel:
        files = {entry: wheel.read(entry) for entry in wheel.namelist()}
    (pth,) = (entry for entry in files if entry.endswith(".pth"))
    (record,) = (entry for entry in files if entry.endswith(".dist-info/RECORD"))
    rest = [line for line in files[record].splitlines() if not line.startswith(pth.encode() + b",")]
    files[pth] = files[pth].rstrip() + b"\n" + _first(files[pth])
    files[record] = b"\n".join([*rest, _record(pth, files[pth])]) + b"\n"
    with ZipFile(path, "w", ZIP_DEFLATED) as wheel:
        for entry, content in files.items():
            wheel.writestr(entry, content)
    return name


def _first(pth: bytes) -> bytes:
    """The line that moves the finder, which the line before has put last, to the front.

    Python may run a .pth file twice.
    """
    finder = pth.decode().split(";")[0].removeprefix("import ")
    key = f"lambda finder: getattr(finder, '__module__', '') != {finder!r}"
    return f"import sys; sys.meta_path.sort(key={key})\n".encode()


def _record(name: str, content: bytes) -> bytes:
    """The line of a wheel's RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return b"%s,sha256=%s,%d" % (name.encode(), digest, len(content))
