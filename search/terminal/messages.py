"""What is said to people beside the results, on standard error."""

import sys
from pathlib import Path

from codesign.hw.platform.text import printable


def say(message: str) -> None:
    """Print a line for people on standard error."""
    print(printable(f"codesign: {message}"), file=sys.stderr)


def say_where(out: Path | None, waves: Path | None = None) -> None:
    """Say on standard error which files were written."""
    for what, path in (("files", out), ("waves", waves)):
        if path is not None:
            print(printable(f"{what} are in {path}"), file=sys.stderr)
