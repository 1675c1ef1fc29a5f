"""Records and documents of a run's files, checked as they are read: anybody may have changed them since.

A record is a dataclass of numbers, text and truth values, some of them None; its fields are the
columns of its table. In a document it may also have a tuple of records. `output` writes what is read
here.
"""

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from codesign.hw.errors import CodesignError
from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.parquet_file import ParquetTable
from codesign.hw.platform.text import said

Record = TypeVar("Record")

MOST_INTEGER = (1 << 63) - 1
MOST_FLOAT = 1e100  # far above any cost; products of several are numbers still
REMEDY = "resume or repeat its search"


class RunError(CodesignError):
    """A folder that is not, or no longer, the run of a finished search."""


def read_records(file: Path, kind: type[Record]) -> list[Record] | None:
    """The rows of a table as records; None where there is no such file.

    Columns that `kind` does not have are of another version, and left out. Raises RunError naming
    the file, the row and the column.
    """
    rows = _rows(file, kind)
    if rows is None:
        return None
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    with refuse_damage(file, RunError, REMEDY):
        return [
            record(kind, {name: row[name] for name in known & row.keys()}, f"row {number}")
            for number, row in enumerate(rows, 1)
        ]


def read_record(file: Path, kind: type[Record]) -> Record | None:
    """The object of a JSON file as a record; None where there is no such file. Raises RunError."""
    document = read_document(file)
    if document is None:
        return None
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    with refuse_damage(file, RunError, REMEDY):
        return record(kind, {n: v for n, v in document.items() if n in known}, "it")


def read_numbers(file: Path, kind: type) -> list[dict[str, Any]] | None:
    """The rows of a table that has columns of numbers, or None, beside those of `kind`.

    None where there is no such file. Raises RunError naming the file, the row and the column.
    """
    rows = _rows(file, kind)
    if rows is None:
        return None
    known = {field.name for field in fields(kind)}
    with refuse_damage(file, RunError, REMEDY):
        for number, row in enumerate(rows, 1):
            where = f"row {number}"
            require_types(kind, row, where)
            for name, value in row.items():
                if name not in known and value is not None and not is_number(value):
                    raise ValueError(f"{where}: {name} is {said(value)} but must be a number")
    return rows


def _rows(file: Path, kind: type) -> list[dict[str, Any]] | None:
    if not file.exists():
        return None
    with refuse_damage(file, RunError, REMEDY):
        table = ParquetTable(file)
        needed = [field.name for field in fields(kind) if field.default is MISSING]
        missing = [name for name in needed if name not in table.columns]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}")
        return table.records()


def read_document(file: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is no such file. Raises RunError naming it."""
    if not file.exists():
        return None
    with refuse_damage(file, RunError, REMEDY):
        document = read_json(file)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - of a file, not of an argument
    return document


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
    hints = _hints(kind)  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], value, where) for name, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value of a field as the field has it: whole numbers as floats, lists as tuples of records."""
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return tuple(record(kind, one, f"{where}: {n}") for n, one in enumerate(value, 1))
    return float(value) if type(value) is int and _is_float(hint) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def require_types(kind: type, values: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a field of `kind` that is there with another type."""
    for name, hint in _hints(kind).items():
        if name not in values:
            continue
        of_records = typing.get_origin(hint) is tuple
        kinds = (list,) if of_records else typing.get_args(hint) or (hint,)
        if not any(_holds(values[name], one) for one in kinds):
            words = " or ".join(_WORDS[one] for one in kinds)
            raise ValueError(f"{where}: {name} is {said(values[name])} but must be {words}")


_WORDS = {int: "a whole number, 0 or more", float: "a number, 0 or more", str: "text",
          bool: "true or false", NoneType: "nothing", list: "a list"}  # fmt: skip


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
