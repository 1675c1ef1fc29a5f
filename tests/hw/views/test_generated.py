"""Generated files are what the tables write, and a library of other tables is refused."""

import re
from pathlib import Path

import pytest

from codesign.hw.errors import StaleEvaluator
from codesign.hw.machine import functions
from codesign.hw.machine.functions import DRAIN_FUNCTIONS, DrainFunction
from codesign.hw.machine.isa import CHANNELS, OPERATIONS
from codesign.hw.views import evaluator_tables, fast_timing, generated
from codesign.hw.views.evaluator_tables import COUNTED_FLAGS, header
from codesign.hw.views.generated import GENERATED


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_files_are_what_the_tables_write(path: Path) -> None:
    """`python -m codesign.hw.views.generated` writes them anew."""
    assert path.read_text(encoding="utf-8") == GENERATED[path]()


def test_only_what_differs_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same, other, new = tmp_path / "same", tmp_path / "other", tmp_path / "in" / "new"
    same.write_text("text")
    other.write_text("old")
    before = same.stat()
    texts = dict.fromkeys((same, other, new), lambda: "text")
    monkeypatch.setattr(generated, "GENERATED", texts)
    generated.write()
    assert {path.read_text() for path in texts} == {"text"}
    assert same.stat().st_ino == before.st_ino and same.stat().st_mtime_ns == before.st_mtime_ns


def test_the_header_has_what_the_tables_have() -> None:
    text = header()
    for channel, at_complete in zip(
        CHANNELS, re.findall(r"kChannelAtComplete\[kChannels\] = {(.*)}", text)[0].split(", "),
        strict=True,
    ):  # fmt: skip
        assert (channel.at == "complete") == (at_complete == "1")
    for function in DRAIN_FUNCTIONS:
        numbers = f"{len(function.passes)}, {function.operands}, "
        assert f"/* {function.name} */ {{{numbers}" in text
    assert "{kExp, 2, 0}" in text and "{kDivide, 0, 1}" in text
    assert "kDramReadBytes = 1," in text and "kMvoutDestination = 3," in text


def test_flags_that_change_events_are_their_operations_first() -> None:
    """The word form has room for one of an instruction."""
    flags = {operation.name: operation.flags for operation in OPERATIONS}
    assert all(flags[name][0].name == flag for name, flag in COUNTED_FLAGS.items())


def test_another_table_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the library that was compiled from the one before does not time by it."""
    digest = evaluator_tables.tables_digest()
    assert fast_timing._library().codesign_tables_digest() == digest
    more = (*DRAIN_FUNCTIONS, DrainFunction("toy", lambda v, valid, columns, epsilon: v, latency=1))
    monkeypatch.setattr(evaluator_tables, "DRAIN_FUNCTIONS", more)
    assert evaluator_tables.tables_digest() != digest
    assert "/* toy */ {1, 1, false, false, false, 1, 0, {}}" in header()
    with pytest.raises(StaleEvaluator, match="other tables of the machine: run pip install again"):
        fast_timing._library.__wrapped__()


def test_a_new_function_reaches_the_rtl(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = DrainFunction("toy", lambda v, valid, columns, epsilon: v, normalization=False)
    rows = DrainFunction(
        "sums", lambda v, valid, columns, epsilon: v, passes=("statistics", "output")
    )
    monkeypatch.setattr(functions, "DRAIN_FUNCTIONS", (*DRAIN_FUNCTIONS, toy, rows))
    text = functions.package()
    assert f"localparam int unsigned Functions = {len(DRAIN_FUNCTIONS) + 2};" in text
    assert "MODE_COPY, MODE_RELU, MODE_TOY, MODE_WORD, MODE_GELU" in text
    assert "FUNCTION_TOY: return MODE_TOY;" in text
    assert "FUNCTION_SUMS: return PASS_STATISTICS;" in text
