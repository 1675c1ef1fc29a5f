"""The instruction table is consistent, and its fields hold what the machines can need."""

from dataclasses import replace

import pytest

from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.isa import (
    CHANNEL_INDEX,
    CHANNELS,
    DESTINATIONS,
    FUNCTIONS,
    OPERATION,
    OPERATIONS,
    ROW_FUNCTIONS,
    TARGETS,
    UNITS,
    VARIANTS,
    Operation,
)


def width(operation: str, field: str) -> int:
    """Bits of a field."""
    table = OPERATION[operation]
    every = (*table.values, *table.addresses, *table.flags)
    return next(entry.bits for entry in every if entry.name == field)


def test_opcodes_are_distinct_and_never_zero() -> None:
    """Zeroed memory is not an instruction."""
    opcodes = [operation.opcode for operation in OPERATIONS]
    assert len(set(opcodes)) == len(opcodes) and 0 not in opcodes
    assert len(OPERATION) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_fields_are_well_formed(operation: Operation) -> None:
    every = (*operation.values, *operation.addresses, *operation.flags)
    names = [field.name for field in every]
    assert len(set(names)) == len(names)
    assert all(field.bits >= 1 and field.meaning for field in every)
    assert all(flag.bits == 1 for flag in operation.flags)
    assert all(not field.variant for field in (*operation.values, *operation.flags))
    assert {field.variant for field in operation.addresses} <= {"", *VARIANTS}
    assert operation.unit in UNITS and operation.meaning


def test_index_fields_hold_their_tables() -> None:
    assert len(TARGETS) <= 1 << width("mvin", "target")
    assert len(FUNCTIONS) <= 1 << width("mvout", "function")
    assert len(DESTINATIONS) <= 1 << width("mvout", "destination")
    assert set(ROW_FUNCTIONS) < set(FUNCTIONS)


def test_every_unit_can_pass_tokens_without_work() -> None:
    assert {unit for unit in UNITS if OPERATION[f"{unit}_sync"].unit == unit} == set(UNITS)


def test_channels_connect_different_units() -> None:
    assert len(CHANNEL_INDEX) == len(CHANNELS)
    for channel in CHANNELS:
        assert {channel.source, channel.target} <= set(UNITS)
        assert channel.source != channel.target


def test_results_are_announced_at_completion_and_space_at_release() -> None:
    """Who reads results must wait until they are written; who overwrites, until they are read."""
    for channel in CHANNELS:
        gives_space = "overwritten" in channel.meaning
        assert (channel.at == "release") == gives_space, channel


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
def test_addresses_reach_every_row_of_the_presets(config: HardwareConfig) -> None:
    assert config.scratchpad_rows <= 1 << width("mvin", "local")
    assert config.scratchpad_rows <= 1 << width("compute", "local")
    assert config.scratchpad_rows <= 1 << width("preload", "local")
    assert config.accumulator_rows <= 1 << width("compute", "accumulator")
    assert config.accumulator_rows <= 1 << width("mvout", "accumulator")
    assert config.parameter_channels // config.dim <= 1 << width("mvout", "parameters")
    assert config.dim < 1 << width("preload", "rows")
    assert config.dim < 1 << width("compute", "width")


def test_addresses_reach_every_row_of_the_largest_machines() -> None:
    """Whatever HardwareConfig accepts, instructions can address."""
    largest = HardwareConfig(
        dim=4, scratchpad_bytes=4 << 20, accumulator_bytes=16 << 20, parameter_channels=1 << 12
    )
    for field in ("scratchpad_bytes", "accumulator_bytes", "parameter_channels"):
        with pytest.raises(ConfigError, match=field):
            replace(largest, **{field: 2 * getattr(largest, field)})
    assert largest.scratchpad_rows <= 1 << width("mvin", "local")
    assert largest.accumulator_rows <= 1 << width("mvout", "accumulator")
    assert largest.parameter_channels // largest.dim <= 1 << width("mvout", "parameters")
