"""Records of a run's files, checked field by field: anybody may have changed them since.

A record is a dataclass of numbers, text and truth values, some of them None.
"""

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from codesign.hw.platform.text import said

Record = TypeVar("Record")

MOST_INTEGER = (1 << 63) - 1
MOST_FLOAT = 1e100  # far above any cost; products of several are numbers still


def read_json(path: Path) -> Any:
    """The document of a JSON file whose numbers are numbers; raises OSError or ValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"it has {name} in place of a number")


def record(kind: type[Record], values: Any, where: str) -> Record:
    """The record of these values; raises ValueError naming `where` a field is missing or of another type."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    names = list(values) if isinstance(values, Mapping) else None
    if names is None:
        raise ValueError(f"{where} is no record")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{where}: it has an unknown {said(unknown[0])}")
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            raise ValueError(f"{where}: it has no {name}")
    require_types(kind, values, where)
    hints = typing.get_type_hints(kind)
    return kind(
        **{n: float(v) if type(v) is int and _is_float(hints[n]) else v for n, v in values.items()}
    )


def require_types(kind: type, values: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a field of `kind` that is there with another type."""
    for name, hint in typing.get_type_hints(kind).items():
        if name not in values:
            continue
        kinds = typing.get_args(hint) or (hint,)
        if not any(_holds(values[name], one) for one in kinds):
            words = " or ".join(_WORDS[one] for one in kinds)
            raise ValueError(f"{where}: {name} is {said(values[name])} but must be {words}")


_WORDS = {int: "a whole number, 0 or more", float: "a number, 0 or more", str: "text",
          bool: "true or false", NoneType: "nothing"}  # fmt: skip


def is_number(value: Any) -> bool:
    """Whether a value is a number that costs may be computed with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST_FLOAT


def _holds(value: Any, kind: type) -> bool:
    if kind is float:
        return is_number(value) and float(value) >= 0
    if type(value) is not kind:
        return False
    return not isinstance(value, int) or 0 <= value <= MOST_INTEGER


def _is_float(hint: Any) -> bool:
    return float in (typing.get_args(hint) or (hint,))
