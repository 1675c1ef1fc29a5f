"""TOML from outside: whatever is wrong with a file is one ValueError with a short reason."""

import re
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 20
MOST_DEPTH = 32  # of brackets


def load_toml(path: Path) -> dict[str, Any]:
    """Return the document of a file. Raises OSError, or ValueError saying what is wrong in it."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for bracket in re.findall(r"[\[{\]}]", text):  # the parser recurses
            depth = max(0, depth + (1 if bracket in "[{" else -1))
            if depth > MOST_DEPTH:
                raise ValueError("brackets nest too deep")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("brackets nest too deep") from error
