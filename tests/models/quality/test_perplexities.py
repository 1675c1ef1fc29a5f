"""Tables of perplexities come back as they were written; broken ones are named."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codesign.hw.errors import ModelError
from codesign.models.quality.perplexities import (
    METADATA,
    Measured,
    Perplexities,
    read_perplexities,
    write_perplexities,
)
from codesign.models.zoo.decoder import DecoderConfig, lm

AXES = DecoderConfig.axes()
TABLE = Perplexities(
    AXES,
    tuple(
        Measured(
            lm(layers=n, d_model=48, heads=tuple(range(1, n + 1)), d_ff=64 * n).chosen, 1 / 3 + n
        )
        for n in (1, 2, 3)
    ),
    {"seed": 3, "versions": {"codesign": "0.1.0"}},
)


def test_round_trips(tmp_path: Path) -> None:
    write_perplexities(TABLE, tmp_path / "table.parquet")
    assert read_perplexities(tmp_path / "table.parquet", AXES) == TABLE
    write_perplexities(TABLE, tmp_path / "table.csv")
    assert read_perplexities(tmp_path / "table.csv", AXES).rows == TABLE.rows
    second = (tmp_path / "table.csv").read_text().splitlines()[2]
    assert second == f"2,48,1 2,128 128,{1 / 3 + 2}"


def test_tables_of_other_hands(tmp_path: Path) -> None:
    """Comments, other columns, commas, brackets, one number for all layers."""
    path = tmp_path / "table.csv"
    path.write_text(
        "# mine\nlayers,d_model,heads,d_ff,perplexity,seed\n"
        '2,48,"1,2",128,3.5,7\n2,48,"[1, 2]",128 128,3.5,7\n'
    )
    first, second = read_perplexities(path, AXES).rows
    assert first == second and first.shape["heads"] == (1, 2) and first.shape["d_ff"] == (128, 128)


@pytest.mark.parametrize(
    ("line", "message"),
    (
        ("1,48,1,64,", "line 3: perplexity missing"),
        ("1,48,one,64,3.5", "line 3: heads is one but must be a whole number"),
        ("2,48,1 2,64 64 64,3.5", "line 3: d_ff must list 2 layers, not 3"),
        ("1,48,0,64,3.5", "line 3: heads is 0 but must be"),
        ("1000000000000,48,1,64,3.5", "line 3: layers is 1000000000000 but .* 1 to 1,000$"),
        (f"1,{10**30},1,64,3.5", "line 3: d_model is 1000000.* 1 to 1,048,576$"),
        ("2.5,48,1,64,3.5", "line 3: layers is 2.5"),
        ("1,48,1,64,inf", "line 3: perplexity is inf"),
        ("1,48,1,64,nan", "line 3: perplexity is nan"),
        ("1,48,1,64,4\n\n# again\n1,48,1,64,5", "4.0 in line 3 and 5.0 in line 6: keep one"),
    ),
)
def test_broken_rows(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"# mine\nlayers,d_model,heads,d_ff,perplexity\n{line}\n")
    with pytest.raises(ModelError, match=message) as error:
        read_perplexities(path, AXES)
    assert "\n" not in str(error.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(ModelError, match="cannot read"):
        read_perplexities(path, AXES)
    path.write_bytes(b"no parquet")
    with pytest.raises(ModelError, match="is no table of perplexities"):
        read_perplexities(path, AXES)
    with pytest.raises(ModelError, match="cannot write .*choose another place"):
        write_perplexities(TABLE, tmp_path / "missing" / "table.csv")


@pytest.mark.parametrize("metadata", [b"{no", b"\xff", b"[1]", b'{"seed": -1}', b'{"seed": "x"}'])
def test_metadata_that_is_none(tmp_path: Path, metadata: bytes) -> None:
    path = tmp_path / "table.parquet"
    write_perplexities(TABLE, path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({METADATA: metadata}), path)
    with pytest.raises(ModelError, match="no JSON object with a seed .*: write the table again"):
        read_perplexities(path, AXES)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("layers", [1.0, math.inf, 3.0]),
        ("heads", [[1], [1, math.inf], [1, 1, 1]]),
        ("d_model", [{"a": 1}] * 3),
    ],
)
def test_values_that_are_no_numbers(tmp_path: Path, column: str, values: list[Any]) -> None:
    rows = pa.Table.from_pylist([row.document() for row in TABLE.rows])
    broken = rows.set_column(rows.column_names.index(column), column, pa.array(values))
    pq.write_table(broken, tmp_path / "table.parquet")
    with pytest.raises(ModelError, match=f"row [12]: {column} is .* but must be a whole number"):
        read_perplexities(tmp_path / "table.parquet", AXES)


def test_a_flipped_byte_changes_no_row(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_perplexities(TABLE, path)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert read_perplexities(path, AXES).rows == TABLE.rows, place
        except ModelError:
            refused += 1
    assert refused > len(content) / 11 / 2
