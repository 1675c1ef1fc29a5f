"""A journal: records of one kind, a line each, added as they are made and taken up by a later run.

Every line carries a checksum of what it says, so that one that was damaged or edited is told from
one that was written; the record of such a line is made again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from codesign.search.runs.records import Record, record

CHECKSUM = "checksum"  # a line's last value


def journal_line(kept: Any) -> str:
    """A dataclass instance as one line of JSON with its checksum; floats survive exactly."""
    values = asdict(kept)
    line = values | {CHECKSUM: _checksum(values)}
    return json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n"


def journal_text(records: Iterable[Any]) -> str:
    """A journal of these records."""
    return "".join(map(journal_line, records))


def read_journal(content: bytes, kind: type[Record]) -> tuple[list[Record], int]:
    """The records of a journal, and how many of its lines are damaged or were edited.

    A last line that was cut short is no line yet, and left out.
    """
    found: list[Record] = []
    lines = content.split(b"\n")[:-1]
    for line in lines:
        try:
            values = json.loads(line)
            checksum = values.pop(CHECKSUM)
            if checksum != _checksum(values):
                raise ValueError("another checksum")
            found.append(record(kind, values, "line"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found, len(lines) - len(found)


def _checksum(values: Any) -> str:
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
