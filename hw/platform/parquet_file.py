"""Tables from a Parquet file of anybody: nothing is unpacked before its footer says how long it is.

A few kilobytes can stand for a billion equal rows, and what was damaged since it was written may raise
anything while it is read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.platform.text import reason

MOST_RECORDS = 1 << 20  # rows that are read as records, which take kilobytes each
MOST_NUMBERS = 1 << 25  # and as columns of numbers


class ParquetTable:
    """A Parquet file: its columns by name, and `metadata` of its schema.

    Raises OSError, or ValueError saying why it is no table.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = path.read_bytes()
        try:
            self._file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            self.rows: int = self._file.metadata.num_rows
            self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
            self.metadata: dict[bytes, bytes] = dict(self._file.schema_arrow.metadata or {})
        except Exception as error:  # of pyarrow's own kinds, and of Python's
            raise ValueError(_words(error)) from error

    def records(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Every row as a dict of all columns, or of those named that there are."""
        names = [name for name in self.columns if columns is None or name in columns]
        self._require(MOST_RECORDS)
        try:
            found: list[dict[str, Any]] = self._file.read(names).to_pylist()
        except Exception as error:  # a date beyond all years, text that is not UTF-8
            raise ValueError(_words(error)) from error
        return found

    def numbers(self, columns: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Columns [rows] by name, those that there are; all of numbers or booleans, None is nan."""
        names = [name for name in columns if name in self.columns]
        self._require(MOST_NUMBERS)
        try:
            table = self._file.read(names)
            found = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        except Exception as error:
            raise ValueError(_words(error)) from error
        for name, values in found.items():
            if values.dtype.kind not in "biuf":
                raise ValueError(f"column {name} is not of numbers")
        return {n: np.asarray(v) for n, v in found.items()}

    def _require(self, most: int) -> None:
        if self.rows > most:
            raise ValueError(f"it has {self.rows:,} rows, and {most:,} are read at most")


def _words(error: Exception) -> str:
    """What is wrong, without the name of an exception where it says enough."""
    words = " ".join(str(error).split())
    return words if type(error).__module__.startswith("pyarrow") and words else reason(error)
