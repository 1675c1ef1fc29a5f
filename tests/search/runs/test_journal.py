"""A journal keeps every bit of its records, and tells lines that were written from all others."""

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import SAMPLES, Sample

from codesign.search.runs.journal import journal_line, journal_text, read_journal

WHOLE = journal_text(SAMPLES).encode()


@given(st.floats(0, 1e100), st.text(), st.integers(0, (1 << 63) - 1))
def test_a_line_keeps_every_bit_on_one_line(number: float, text: str, count: int) -> None:
    sample = Sample(count, text, count, number)
    line = journal_line(sample)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert read_journal(line.encode(), Sample) == ([sample], 0)


def test_a_last_line_cut_short_is_no_line_yet() -> None:
    for cut in range(len(journal_line(SAMPLES[-1]).encode())):
        assert read_journal(WHOLE[: len(WHOLE) - cut or None], Sample)[1] == 0
    assert read_journal(WHOLE[:-1], Sample) == (SAMPLES[:-1], 0)


@pytest.mark.parametrize("at", range(0, len(WHOLE) - 1, 3))
def test_no_change_of_a_byte_goes_unseen(at: int) -> None:
    changed = WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :]
    found, bad = read_journal(changed, Sample)
    assert bad and all(sample in SAMPLES for sample in found)


@pytest.mark.parametrize(
    "line",
    [b'{"index": 1}', b"[]", b"7", b"x", b"[" * 100_000, b"\xff", b"", b'{"checksum": "0"}',
     b'{"index": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_damaged_line_costs_itself_alone(line: bytes) -> None:
    first, *rest = WHOLE.splitlines(keepends=True)
    assert read_journal(first + line + b"\n" + b"".join(rest), Sample) == (SAMPLES, 1)


def test_a_line_of_another_kind_of_record_is_none() -> None:
    """Its checksum is right; another version has written it."""

    @dataclass(frozen=True)
    class Other:
        index: int

    assert read_journal(journal_text([Other(1)]).encode() + WHOLE, Sample) == (SAMPLES, 1)
    wrong = replace(SAMPLES[0], index=-1)
    assert read_journal(journal_line(wrong).encode(), Sample) == ([], 1)


def test_the_checksum_is_the_last_value() -> None:
    (line,) = journal_text(SAMPLES[:1]).splitlines()
    assert list(json.loads(line)) == ["index", "name", "cycles", "energy_j", "checksum"]
