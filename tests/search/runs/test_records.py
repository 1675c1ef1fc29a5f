"""Records, JSON documents and Parquet tables of a run say what is wrong in them, and where."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codesign.hw.platform import parquet_file
from codesign.hw.platform.parquet_file import ParquetTable
from codesign.search.runs.records import read_json, record


@dataclass(frozen=True)
class Sample:
    """A record of every kind of field."""

    number: int
    share: float
    name: str
    known: bool
    cost: float | None = None


SOUND = Sample(3, 0.5, "a", True, 2.0)


@pytest.mark.parametrize("sample", [SOUND, replace(SOUND, cost=None), replace(SOUND, number=0)])
def test_a_record_is_what_it_was(sample: Sample) -> None:
    assert record(Sample, asdict(sample), "here") == sample


def test_a_whole_number_in_place_of_a_float_is_one() -> None:
    found = record(Sample, asdict(SOUND) | {"share": 1}, "here")
    assert type(found.share) is float and found.share == 1.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": -1}, "number is -1 but must be a whole number, 0 or more"),
        ({"number": 1.0}, "number is 1.0"),
        ({"number": True}, "number is True"),
        ({"number": 1 << 63}, "number is 9223372036854775808"),
        ({"number": None}, "number is None"),
        ({"share": "x"}, "share is 'x' but must be a number, 0 or more"),
        ({"share": float("nan")}, "share is nan"),
        ({"share": 1e308}, r"share is 1e\+308"),
        ({"share": 10**400}, "share is 1000"),
        ({"name": 5}, "name is 5 but must be text"),
        ({"known": 1}, "known is 1 but must be true or false"),
        ({"cost": []}, r"cost is \[\] but must be a number, 0 or more or nothing"),
        ({"other": 1}, "it has an unknown 'other'"),
    ],
)
def test_a_field_of_another_kind_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^here: {reason}"):
        record(Sample, asdict(SOUND) | change, "here")


def test_what_is_no_record() -> None:
    with pytest.raises(ValueError, match="here: it has no number"):
        record(Sample, {"name": "a"}, "here")
    others: tuple[Any, ...] = ([], None, 3, "number")
    for values in others:
        with pytest.raises(ValueError, match="here is no record"):
            record(Sample, values, "here")


def test_numbers_of_a_document_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"a": [1, 2.5, None]}))
    assert read_json(file) == {"a": [1, 2.5, None]}
    for text in ('{"a": NaN}', "[" * 100_000, "x", '"\\'):
        file.write_text(text)
        with pytest.raises(ValueError):
            read_json(file)


def test_a_table_of_a_billion_rows_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [7] * 1000, "b": ["x"] * 1000}), file)
    assert len(ParquetTable(file).records()) == 1000
    assert ParquetTable(file).numbers(["a", "c"])["a"].tolist() == [7] * 1000
    monkeypatch.setattr(parquet_file, "MOST_RECORDS", 999)
    monkeypatch.setattr(parquet_file, "MOST_NUMBERS", 999)
    for read in (ParquetTable(file).records, lambda: ParquetTable(file).numbers(["a"])):
        with pytest.raises(ValueError, match="1,000 rows, and 999 are read at most"):
            read()


def test_a_table_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    far = pa.array([1 << 62]).cast(pa.timestamp("us"))
    for table in (pa.table({"a": far}), pa.table({"a": ["x"]})):
        pq.write_table(table, file)
        with pytest.raises(ValueError, match="column a is not of numbers"):
            ParquetTable(file).numbers(["a"])
    for content in (b"", b"PAR1PAR1", b"\xff" * 99):
        file.write_bytes(content)
        with pytest.raises(ValueError):
            ParquetTable(file)
    with pytest.raises(OSError):
        ParquetTable(tmp_path / "none")
