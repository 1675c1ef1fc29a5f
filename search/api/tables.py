"""The Python interface: rows of any kind as a table."""

from collections.abc import Iterable
from typing import Any

from codesign.search.api.arguments import ArgumentError, collected, of_kind
from codesign.search.checks.verify import Check
from codesign.search.joint.search_records import FrontPoint
from codesign.search.pricing.breakdown import KernelRow
from codesign.search.pricing.sweep import Row
from codesign.search.runs.output import arrow_table


def table(records: Iterable[Any]) -> Any:
    """Rows of one kind (of a sweep, of kernels, of a front, of checks) as a pyarrow.Table.

    Columns have the names and units of the command line's files; `.to_pandas()` makes it a frame.
    Raises ArgumentError for no rows, whose columns nobody knows, and for anything else.
    """
    wanted = "rows of a sweep, of kernels, of a front or of checks"
    rows = collected("records", records, wanted)
    if not rows:
        raise ArgumentError("a table of no rows has no columns: give at least one row")
    for row in rows:
        of_kind("a row", row, (Row, KernelRow, FrontPoint, Check), wanted)
        if type(row) is not type(rows[0]):
            kinds = f"{type(rows[0]).__name__} and {type(row).__name__}"
            raise ArgumentError(f"the rows are of different kinds, {kinds}: make a table of each")
    return arrow_table(rows)
