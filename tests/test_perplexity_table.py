"""Tables of perplexities come back as they were written; broken ones are named."""

from pathlib import Path

import pytest

from codesign.hw.errors import ModelError
from codesign.models.families import lm
from codesign.models.perplexities import Perplexities, measured, read, write

TABLE = Perplexities(
    tuple(
        measured(lm(layers=n, d_model=48, heads=tuple(range(1, n + 1)), d_ff=64 * n), 1 / 3 + n)
        for n in (1, 2, 3)
    ),
    {"seed": 3, "versions": {"codesign": "0.1.0"}},
)


def test_round_trips(tmp_path: Path) -> None:
    write(TABLE, tmp_path / "table.parquet")
    assert read(tmp_path / "table.parquet") == TABLE
    write(TABLE, tmp_path / "table.csv")
    assert read(tmp_path / "table.csv").rows == TABLE.rows
    second = (tmp_path / "table.csv").read_text().splitlines()[2]
    assert second == f"2,48,1 2,128 128,{1 / 3 + 2}"


def test_tables_of_other_hands(tmp_path: Path) -> None:
    """Comments, other columns, commas, brackets, one number for all layers."""
    path = tmp_path / "table.csv"
    path.write_text(
        "# mine\nlayers,d_model,heads,d_ff,perplexity,seed\n"
        '2,48,"1,2",128,3.5,7\n2,48,"[1, 2]",128 128,3.5,7\n'
    )
    first, second = read(path).rows
    assert first == second and first.heads == (1, 2) and first.d_ff == (128, 128)


@pytest.mark.parametrize(
    ("line", "message"),
    (
        ("1,48,1,64,", "row 0: perplexity missing"),
        ("1,48,one,64,3.5", "row 0: invalid literal.*'one'"),
        ("2,48,1 2,64 64 64,3.5", "row 0: heads and d_ff must list 2 layers"),
        ("1,48,0,64,3.5", "row 0: .* must be positive"),
        ("1,48,1,64,inf", "row 0: perplexity is inf"),
        ("1,48,1,64,nan", "row 0: perplexity is nan"),
    ),
)
def test_broken_rows(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"layers,d_model,heads,d_ff,perplexity\n{line}\n")
    with pytest.raises(ModelError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(ModelError, match="cannot read"):
        read(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(ModelError, match="is no table of perplexities"):
        read(path)
    with pytest.raises(ModelError, match="cannot write .*choose another place"):
        write(TABLE, tmp_path / "missing" / "table.csv")
