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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.hw.files import write_atomic
from codesign.models.families import DecoderConfig

COLUMNS = ("layers", "d_model", "heads", "d_ff", "perplexity")
METADATA = b"codesign"  # key of the Parquet schema's metadata, which holds JSON


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


def measured(config: DecoderConfig, perplexity: float) -> Measured:
    """Return the table's row of a decoder."""
    return Measured(config.layers, config.d_model, config.heads, config.d_ff, perplexity)


def write(table: Perplexities, path: Path) -> None:
    """Write `table` as Parquet or, when `path` ends in .csv, as CSV, whole or not at all.

    Raises ModelError when that is not writable.
    """
    content = _csv(table.rows) if path.suffix == ".csv" else _parquet(table)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read(path: Path) -> Perplexities:
    """Return the table in a Parquet or .csv file; raises ModelError naming what is wrong in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".csv":
            lines = path.read_text(encoding="utf-8").splitlines()
            reader = csv.DictReader(line for line in lines if not line.startswith("#"))
            names: Iterable[str] = reader.fieldnames or ()
            rows: Iterable[Mapping[str, Any]] = list(reader)
            metadata: Mapping[str, Any] = {}
        else:
            table = pq.read_table(path)
            names = table.column_names
            rows = table.select([name for name in COLUMNS if name in names]).to_pylist()
            metadata = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"{path} is no table of perplexities: give Parquet or CSV") from error
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise ModelError(f"{path} has no column {', '.join(absent)}: it takes {', '.join(COLUMNS)}")
    return Perplexities(
        tuple(_row(row, f"{path}, row {i}") for i, row in enumerate(rows)), metadata
    )


def _row(row: Mapping[str, Any], place: str) -> Measured:
    missing = [name for name in COLUMNS if row.get(name) in (None, "")]
    if missing:
        raise ModelError(f"{place}: {', '.join(missing)} missing; the columns are {COLUMNS}")
    try:
        layers = int(row["layers"])
        heads, d_ff = (_numbers(row[name], layers) for name in ("heads", "d_ff"))
        found = Measured(layers, int(row["d_model"]), heads, d_ff, float(row["perplexity"]))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{place}: {error}") from error
    if not len(found.heads) == len(found.d_ff) == found.layers:
        raise ModelError(f"{place}: heads and d_ff must list {found.layers} layers")
    if min(found.layers, found.d_model, *found.heads, *found.d_ff) < 1:
        raise ModelError(f"{place}: layers, d_model, heads and d_ff must be positive")
    if not 1 <= found.perplexity < math.inf:
        raise ModelError(f"{place}: perplexity is {found.perplexity} but must be 1 or more")
    return found


def _numbers(value: Any, layers: int) -> tuple[int, ...]:
    if isinstance(value, str):
        value = value.strip("[]() ").replace(",", " ").split()
    numbers = tuple(int(item) for item in (value if isinstance(value, list) else [value]))
    return numbers * layers if len(numbers) == 1 else numbers


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
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()
