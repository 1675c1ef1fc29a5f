"""The table of the machine's memories: it names what exists, and everything else follows it."""

from dataclasses import fields, replace

import pytest

from codesign.hw.costs import accelergy, area, energy, sram
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.events import EVENTS, TIMED_EVENTS
from codesign.hw.machine.memories import COUNTED, MEMORIES, SHOWN, Memory, present

IBERT = HardwareConfig()


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: memory.name)
def test_a_memory_names_fields_and_events_that_exist(memory: Memory) -> None:
    assert set(memory.fields) <= {field.name for field in fields(HardwareConfig)}
    assert set(memory.events) <= set(EVENTS)
    assert memory.component in energy.COMPONENTS and memory.component in area.AREA_COMPONENTS
    assert bool(memory.label) == bool(memory.short)
    assert set(memory.fields) <= set(accelergy.MACHINE_FIELDS)


def test_memories_are_told_apart() -> None:
    for values in (
        [memory.name for memory in MEMORIES],
        [memory.size for memory in MEMORIES],
        [memory.label for memory in SHOWN],
        [event for memory in MEMORIES for event in memory.events],
    ):
        assert len(set(values)) == len(values)


def test_the_timing_model_counts_every_access_of_an_instruction() -> None:
    addressed = {event for memory in COUNTED if memory.addressed for event in memory.events}
    assert addressed <= set(TIMED_EVENTS)
    assert EVENTS[: len(TIMED_EVENTS)] == TIMED_EVENTS


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_macros_hold_what_a_memory_holds(config: HardwareConfig) -> None:
    assert set(present(config)) >= {memory for memory in MEMORIES if memory.addressed}
    for memory, macros in zip(present(config), sram.memories(config), strict=True):
        assert macros.banks * macros.bank_bytes == memory.size_bytes(config)
        assert macros.row_bits == 8 * memory.word_bytes * config.dim
        assert macros.name == memory.name


@pytest.mark.parametrize(
    "memory", [m for m in COUNTED if m in present(IBERT)], ids=lambda memory: memory.name
)
def test_a_larger_memory_is_a_larger_macro_in_its_component_alone(memory: Memory) -> None:
    larger = replace(IBERT, **{memory.size: 2 * getattr(IBERT, memory.size)})
    before, after = (area.area_mm2(c).components for c in (IBERT, larger))
    grown = {name for name in before if after[name] != before[name]}
    assert grown == {memory.component}
    macros = [sram.macros(memory, c).area_mm2[1] for c in (IBERT, larger)]
    growth = after[memory.component][1] - before[memory.component][1]
    assert growth == pytest.approx(macros[1] - macros[0])
