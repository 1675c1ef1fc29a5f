"""Lists and ranges of the command line, and the grid of machines that they span.

`32K,64K` is a list, `16K:512K:x2` doubles from 16K to 512K, `16K:64K:+16K` counts up in steps of
16K; they mix (`8K,16K:64K:x2`). A grid is their product over a base machine; a combination that no
machine can have stays in it with its reason.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.sizes import parse_size

LARGEST_GRID = 100_000
_FREQUENCY_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Point:
    """One combination of a grid: its number in reading order and its machine.

    `config` is None where the combination contradicts itself; `reason` says why.
    """

    index: int
    values: tuple[tuple[str, int], ...]  # what the axes set, in their order
    config: HardwareConfig | None
    reason: str = ""


def parse_count(text: str) -> int:
    """Return the positive whole number that `text` stands for; raises ValueError."""
    if not re.fullmatch(r"\d+", text.strip()) or int(text) == 0:
        raise ValueError(f"{text!r} is not a positive whole number")
    return int(text)


def parse_frequency(text: str) -> int:
    """Return the hertz of `500M`, `500MHz`, `1.2GHz` or `500000000`; raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(Hz)?", text.strip(), re.IGNORECASE)
    hertz = round(float(match[1]) * _FREQUENCY_UNITS[match[2].upper()]) if match else 0
    if match is None or hertz == 0:
        raise ValueError(f"{text!r} is not a frequency: write for example 500MHz or 1.2G")
    if hertz < 1_000_000 and not (match[2] or match[3]):
        raise ValueError(f"{text!r} has no unit: write {text}M for megahertz, or {text}Hz")
    return hertz


def parse_values(text: str, parse: Callable[[str], int] = parse_size) -> tuple[int, ...]:
    """Return the numbers of a list of values and ranges, in order.

    `parse` reads one value. Raises ValueError naming the part that is wrong and how to write it.
    """
    values: list[int] = []
    for part in text.split(","):
        if not part.strip():
            raise ValueError(f"{text!r} has an empty part: separate values by single commas")
        values += _range(part, parse) if ":" in part else (parse(part),)
        if len(values) > LARGEST_GRID:
            raise ValueError(f"{text!r} has more than {LARGEST_GRID} values: take larger steps")
    return tuple(values)


def points(base: HardwareConfig, axes: Mapping[str, Sequence[int]]) -> list[Point]:
    """Return every combination of `axes` (fields of HardwareConfig) over `base`, last axis fastest.

    A value that an axis repeats counts once.

    Raises ConfigError when there are more than LARGEST_GRID of them.
    """
    axes = {axis: tuple(dict.fromkeys(values)) for axis, values in axes.items()}
    size = math.prod(map(len, axes.values()))
    if size > LARGEST_GRID:
        raise ConfigError([f"the grid has {size} machines but at most {LARGEST_GRID}: thin it"])
    return [
        _point(index, base, dict(zip(axes, combination, strict=True)))
        for index, combination in enumerate(itertools.product(*axes.values()))
    ]


def _point(index: int, base: HardwareConfig, values: Mapping[str, int]) -> Point:
    try:
        return Point(index, tuple(values.items()), replace(base, **values))  # type: ignore[arg-type]
    except ConfigError as error:
        return Point(index, tuple(values.items()), None, str(error))


def _range(text: str, parse: Callable[[str], int]) -> Iterator[int]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) != 3 or parts[2][:1] not in ("x", "+"):
        raise ValueError(
            f"{text!r} is not a range: write START:STOP:xFACTOR or START:STOP:+STEP, "
            "for example 16K:512K:x2 or 16K:64K:+16K"
        )
    start, stop = parse(parts[0]), parse(parts[1])
    factor = parse_count(parts[2][1:]) if parts[2][0] == "x" else 1
    step = parse(parts[2][1:]) if parts[2][0] == "+" else 0
    if factor == 1 and step == 0:
        raise ValueError(f"{text!r} never ends: the factor must be at least 2")
    if start > stop:
        raise ValueError(f"{text!r} is empty: {parts[0]} is above {parts[1]}")
    for _ in range(LARGEST_GRID + 1):
        if start > stop:
            return
        yield start
        start = start * factor + step
