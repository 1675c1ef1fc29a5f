"""The perplexities of measured decoders as a table: what a supernet gives the search.

Columns layers, d_model, heads, d_ff, perplexity; others are ignored. A Parquet file holds heads and
d_ff as lists and carries what the table is of (seed, configuration, versions) in its metadata; a CSV
file holds them as numbers with spaces or commas between, may begin with comments (#), and carries
none. One number is of all layers.
"""

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import write_atomic
from codesign.hw.platform.parquet_file import ParquetTable
from codesign.models.zoo.decoder import DecoderConfig

COLUMNS = ("layers", "d_model", "heads", "d_ff", "perplexity")
METADATA = b"codesign"  # key of the Parquet schema's metadata, which holds JSON
MOST_LAYERS, WIDEST = 1000, 1 << 20  # far beyond any decoder
SEEDS = 1 << 32  # what scikit-learn takes


@dataclass(frozen=True)
class Measured:
    """One decoder and its perplexity on validation text."""

    layers: int
    d_model: int
    heads: tuple[int, ...]
    d_ff: tuple[int, ...]
    perplexity: float


@dataclass(frozen=True)
class Perplexities:
    """Measured decoders, and what they were measured with."""

    rows: tuple[Measured, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


# Names of columns, rows with their places, metadata.
_Content = tuple[Collection[str], Iterable[tuple[str, Mapping[str, Any]]], Mapping[str, Any]]


def measured(config: DecoderConfig, perplexity: float) -> Measured:
    """Return the table's row of a decoder."""
    return Measured(config.layers, config.d_model, config.heads, config.d_ff, perplexity)


def write_perplexities(table: Perplexities, path: Path) -> None:
    """Write `table` as Parquet or, when `path` ends in .csv, as CSV, whole or not at all.

    Raises ModelError when that is not writable.
    """
    content = _csv(table.rows) if path.suffix == ".csv" else _parquet(table)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_perplexities(path: Path) -> Perplexities:
    """Return the table in a Parquet or .csv file.

    Raises ModelError naming what is wrong in it and where: the line of a CSV file, the row of a
    Parquet file, both from 1; a decoder may come twice, but with one perplexity.
    """
    try:
        names, rows, metadata = (_from_csv if path.suffix == ".csv" else _from_parquet)(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ModelError(
            f"{path} is no table of perplexities ({why}): give Parquet or CSV"
        ) from error
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise ModelError(f"{path} has no column {', '.join(absent)}: it takes {', '.join(COLUMNS)}")
    seen: dict[tuple[int, Sequence[int], Sequence[int]], tuple[str, float]] = {}
    found = []
    for place, values in rows:
        row = _row(values, f"{path}, {place}")
        before, perplexity = seen.setdefault(
            (row.d_model, row.heads, row.d_ff), (place, row.perplexity)
        )
        if perplexity != row.perplexity:
            raise ModelError(
                f"{path} gives one decoder two perplexities, {perplexity} in {before} and "
                f"{row.perplexity} in {place}: keep one of them"
            )
        found.append(row)
    return Perplexities(tuple(found), metadata)


def _from_csv(path: Path) -> _Content:
    lines = path.read_bytes().decode().splitlines()
    numbered = [(i, line) for i, line in enumerate(lines, 1) if not line.startswith("#")]
    reader = csv.DictReader(line for _, line in numbered)
    rows = [(f"line {numbered[reader.line_num - 1][0]}", row) for row in reader]
    return reader.fieldnames or (), rows, {}


def _from_parquet(path: Path) -> _Content:
    table = ParquetTable(path)
    rows = table.records(COLUMNS)
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


def _row(row: Mapping[str, Any], place: str) -> Measured:
    missing = [name for name in COLUMNS if row.get(name) in (None, "")]
    if missing:
        raise ModelError(
            f"{place}: {', '.join(missing)} missing; the columns are {', '.join(COLUMNS)}"
        )
    try:
        layers = _whole("layers", row["layers"], MOST_LAYERS)
        heads, d_ff = (_numbers(name, row[name], layers) for name in ("heads", "d_ff"))
        d_model = _whole("d_model", row["d_model"])
        return Measured(layers, d_model, heads, d_ff, _perplexity(row["perplexity"]))
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


def _csv(rows: Iterable[Measured]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        heads, d_ff = (" ".join(map(str, values)) for values in (row.heads, row.d_ff))
        writer.writerow((row.layers, row.d_model, heads, d_ff, row.perplexity))
    return text.getvalue().encode()


def _parquet(table: Perplexities) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.list_(pa.int32())
    types = (pa.int32(), pa.int32(), lists, lists, pa.float64())
    columns = {
        name: pa.array([getattr(row, name) for row in table.rows], kind)
        for name, kind in zip(COLUMNS, types, strict=True)
    }
    metadata = {METADATA: json.dumps(table.metadata).encode()}
    buffer = io.BytesIO()
    rows = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(rows, buffer, write_page_checksum=True)
    return buffer.getvalue()
