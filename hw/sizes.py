"""Sizes in bytes as people write them: `64K`, `64KiB`, `1M`, `65536`; binary multiples throughout."""

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Return the bytes that `text` stands for (`64K` = `64KiB` = 65536).

    Raises ValueError when the text is not a whole, positive number with an optional K, M or G.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size: write bytes or K, M, G, for example 64K")
    return int(match[1]) * _UNITS[match[2].upper()]


def format_size(size_bytes: int) -> str:
    """Return `size_bytes` in the largest binary unit that keeps it whole (65536 -> `64K`)."""
    for unit in ("G", "M", "K"):
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return str(size_bytes)
