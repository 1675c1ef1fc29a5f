"""The trace and the counters of the RTL are what the tables of events say, by name."""

import re

import pytest

from codesign.hw.machine import events
from codesign.hw.machine.events import COUNTERS, EVENTS, PULSES, Counter, package
from codesign.hw.machine.isa import UNITS
from codesign.hw.simulation import sources
from codesign.hw.simulation.agreement import COUNTED


def members(struct: str, text: str) -> list[str]:
    """Of a packed struct, from bit 0 up."""
    (body,) = re.findall(rf"typedef struct packed {{([^}}]*)}} {struct};", text)
    return re.findall(r"(\w+);", body)[::-1]


def test_the_package_is_what_the_tables_write() -> None:
    assert sources.module("trace_pkg").read_text(encoding="utf-8") == package()


def test_pulses_and_counters_are_members_in_the_order_of_their_bits() -> None:
    assert members("trace_t", package()) == list(PULSES)
    assert members("counted_t", package()) == [counter.name for counter in COUNTERS]
    assert len(PULSES) <= 32  # of a record of the trace


def test_every_unit_tells_when_it_starts_releases_and_completes() -> None:
    for unit in UNITS:
        assert {f"{unit}_release", f"{unit}_complete"} <= set(PULSES)


def test_a_new_pulse_or_counter_moves_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: nobody knows the others by their position."""
    monkeypatch.setattr(events, "PULSES", ("toy", *PULSES))
    monkeypatch.setattr(events, "COUNTERS", (Counter("toy", "a toy", 4), *COUNTERS))
    text = package()
    assert members("trace_t", text)[:2] == ["toy", PULSES[0]]
    assert f"Counters = {len(COUNTERS) + 1};" in text
    toy = "3'(counted.toy[0]) + 3'(counted.toy[1]) + 3'(counted.toy[2]) + 3'(counted.toy[3])"
    assert f"increments[0] = {toy};" in text
    assert "increments[1] = 3'(counted.busy);" in text


def test_counted_events_are_events() -> None:
    assert set(COUNTED) <= set(EVENTS)
    for event, number in COUNTED.items():
        assert COUNTERS[number].event == event
