"""The perplexities of measured networks as a table: what a supernet gives the search.

A column for each axis of the family (of `lm` layers, d_model, heads, d_ff), and perplexity; others are
ignored. A Parquet file holds layer axes as lists and carries what the table is of (seed, configuration,
versions) in its metadata; a CSV file holds them as numbers with spaces or commas between, may begin
with comments (#), and carries none. One number is of all layers.
"""

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import write_atomic
from codesign.hw.platform.parquet_file import ParquetTable
from codesign.models.zoo.axes import Axis, NetworkShape, depth_axis

PERPLEXITY = "perplexity"  # the last column
METADATA = b"codesign"  # key of the Parquet schema's metadata, which holds JSON
MOST_LAYERS, WIDEST = 1000, 1 << 20  # far beyond any network
SEEDS = 1 << 32  # what scikit-learn takes


@dataclass(frozen=True)
class Measured:
    """One network and its perplexity on validation text."""

    shape: NetworkShape
    perplexity: float

    def document(self) -> dict[str, Any]:
        """Its values by column."""
        return {**dict(self.shape.values), PERPLEXITY: self.perplexity}


@dataclass(frozen=True)
class Perplexities:
    """Measured networks of the family that has these axes, and what they were measured with."""

    axes: tuple[Axis, ...]
    rows: tuple[Measured, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


# Names of columns, rows with their places, metadata.
_Content = tuple[Collection[str], Iterable[tuple[str, Mapping[str, Any]]], Mapping[str, Any]]


def write_perplexities(table: Perplexities, path: Path) -> None:
    """Write `table` as Parquet or, when `path` ends in .csv, as CSV, whole or not at all.

    Raises ModelError when that is not writable.
    """
    content = _csv(table) if path.suffix == ".csv" else _parquet(table)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_perplexities(path: Path, axes: tuple[Axis, ...]) -> Perplexities:
    """Return the table in a Parquet or .csv file, of networks of the family that has these axes.

    Raises ModelError naming what is wrong in it and where: the line of a CSV file, the row of a
    Parquet file, both from 1; a network may come twice, but with one perplexity.
    """
    try:
        names, rows, metadata = (_from_csv if path.suffix == ".csv" else _from_parquet)(path, axes)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ModelError(
            f"{path} is no table of perplexities ({why}): give Parquet or CSV"
        ) from error
    columns = _columns(axes)
    absent = [name for name in columns if name not in names]
    if absent:
        raise ModelError(f"{path} has no column {', '.join(absent)}: it takes {', '.join(columns)}")
    seen: dict[NetworkShape, tuple[str, float]] = {}
    found = []
    for place, values in rows:
        row = _row(values, axes, f"{path}, {place}")
        before, perplexity = seen.setdefault(row.shape, (place, row.perplexity))
        if perplexity != row.perplexity:
            raise ModelError(
                f"{path} gives one network two perplexities, {perplexity} in {before} and "
                f"{row.perplexity} in {place}: keep one of them"
            )
        found.append(row)
    return Perplexities(axes, tuple(found), metadata)


def _columns(axes: tuple[Axis, ...]) -> tuple[str, ...]:
    return (*(axis.name for axis in axes), PERPLEXITY)


def _from_csv(path: Path, _axes: tuple[Axis, ...]) -> _Content:
    lines = path.read_bytes().decode().splitlines()
    numbered = [(i, line) for i, line in enumerate(lines, 1) if not line.startswith("#")]
    reader = csv.DictReader(line for _, line in numbered)
    rows = [(f"line {numbered[reader.line_num - 1][0]}", row) for row in reader]
    return reader.fieldnames or (), rows, {}


def _from_parquet(path: Path, axes: tuple[Axis, ...]) -> _Content:
    table = ParquetTable(path)
    rows = table.records(_columns(axes))
    metadata = _metadata(table.metadata.get(METADATA, b"{}"), path)
    return table.columns, [(f"row {i}", row) for i, row in enumerate(rows, 1)], metadata


def _metadata(text: bytes, path: Path) -> Mapping[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    seed = metadata.get("seed", 0) if isinstance(metadata, dict) else None
    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise ModelError(
            f"{path}: what its metadata says ({METADATA.decode()}) is no JSON object with a seed "
            f"from 0 to {SEEDS - 1}: write the table again, or give it as CSV"
        )
    found: dict[str, Any] = metadata
    return found


def _row(row: Mapping[str, Any], axes: tuple[Axis, ...], place: str) -> Measured:
    columns = _columns(axes)
    missing = [name for name in columns if row.get(name) in (None, "")]
    if missing:
        raise ModelError(
            f"{place}: {', '.join(missing)} missing; the columns are {', '.join(columns)}"
        )
    depth = depth_axis(axes)
    try:
        layers = 1 if depth is None else _whole(depth.name, row[depth.name], MOST_LAYERS)
        values: dict[str, int | tuple[int, ...]] = {}
        for axis in axes:
            if axis.scope == "layer":
                values[axis.name] = _numbers(axis.name, row[axis.name], layers)
            else:
                values[axis.name] = (
                    layers if axis.scope == "depth" else _whole(axis.name, row[axis.name])
                )
        return Measured(NetworkShape(tuple(values.items())), _perplexity(row[PERPLEXITY]))
    except ValueError as error:
        raise ModelError(f"{place}: {error}") from error


def _numbers(name: str, value: Any, layers: int) -> tuple[int, ...]:
    """One number a layer; raises ValueError."""
    if isinstance(value, str):
        value = value.strip("[]() ").replace(",", " ").split()
    items = value if isinstance(value, list) else [value]
    if len(items) not in (1, layers):
        raise ValueError(f"{name} must list {layers} layers, not {len(items)}")
    numbers = tuple(_whole(name, item) for item in items)
    return numbers * layers if len(numbers) == 1 else numbers


def _whole(name: str, value: Any, most: int = WIDEST) -> int:
    """Raises ValueError for anything but a whole number from 1 to `most`."""
    try:
        number = 0 if isinstance(value, float) and not value.is_integer() else int(value)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= most:
        raise ValueError(f"{name} is {str(value)[:40]} but must be a whole number, 1 to {most:,}")
    return number


def _perplexity(value: Any) -> float:
    """Raises ValueError."""
    try:
        perplexity = float(value)
    except (TypeError, ValueError):
        perplexity = math.nan
    if not 1 <= perplexity < math.inf:
        raise ValueError(f"perplexity is {str(value)[:40]} but must be a number, 1 or more")
    return perplexity


def _csv(table: Perplexities) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(table.axes))
    for row in table.rows:
        values = row.document().values()
        writer.writerow(" ".join(map(str, v)) if isinstance(v, tuple) else v for v in values)
    return text.getvalue().encode()


def _parquet(table: Perplexities) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {a.name: pa.list_(pa.int32()) if a.scope == "layer" else pa.int32() for a in table.axes}
    types[PERPLEXITY] = pa.float64()
    rows = [row.document() for row in table.rows]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()}
    metadata = {METADATA: json.dumps(table.metadata).encode()}
    buffer = io.BytesIO()
    whole = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(whole, buffer, write_page_checksum=True)
    return buffer.getvalue()
