"""HardwareConfig refuses machines that cannot be built, all faults at once, and survives TOML."""

import json
import re
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from machine_model import machines

from codesign.hw.errors import CodesignError, ConfigError
from codesign.hw.machine.config import (
    PRESETS,
    HardwareConfig,
    from_dict,
    from_toml,
    preset,
    to_toml,
)


def test_default_is_the_ibert_preset() -> None:
    assert HardwareConfig() == preset("ibert")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(to_toml(PRESETS[name]), encoding="utf-8")
    assert from_toml(path) == PRESETS[name]
    assert PRESETS[name].name == name


def test_presets_are_the_stated_machines() -> None:
    """Mesh side, scratchpad and accumulator KB; gemmini: Genc et al. 2021 (arXiv 1911.09925)."""
    stated = {
        "gemmini": (16, 256, 64, False),
        "ibert": (16, 64, 256, True),
        "edge": (8, 32, 64, True),
        "large": (32, 256, 512, True),
    }
    for name, (dim, scratchpad_kb, accumulator_kb, normalization) in stated.items():
        machine = preset(name)
        assert (machine.dim, machine.normalization) == (dim, normalization)
        assert machine.scratchpad_bytes == scratchpad_kb * 1024
        assert machine.accumulator_bytes == accumulator_kb * 1024


@given(machines())
def test_geometry_adds_up(config: HardwareConfig) -> None:
    """Banks times rows times row bytes is the memory, with nothing left over."""
    rows = config.scratchpad_banks * config.scratchpad_bank_rows
    assert rows == config.scratchpad_rows
    assert rows * config.dim == config.scratchpad_bytes
    rows = config.accumulator_banks * config.accumulator_bank_rows
    assert rows == config.accumulator_rows
    assert rows * config.dim * 4 == config.accumulator_bytes
    assert tomllib.loads(to_toml(config)) == asdict(config)
    assert from_dict(asdict(config)) == config


BAD: list[tuple[str, Any]] = [
    ("dim", 12),
    ("dim", 2),
    ("dim", 256),
    ("dim", 16.0),
    ("dim", True),
    ("scratchpad_bytes", 0),
    ("scratchpad_bytes", -65536),
    ("scratchpad_bytes", 65537),
    ("scratchpad_bytes", 2048),  # 16 banks of 8 rows: fewer than dim
    ("scratchpad_bytes", 2 << 30),
    ("scratchpad_banks", 1),
    ("scratchpad_banks", 3),
    ("scratchpad_banks", 128),
    ("accumulator_bytes", 0),
    ("accumulator_bytes", 100_000),
    ("accumulator_banks", 0),
    ("accumulator_banks", 6),
    ("parameter_channels", 0),
    ("parameter_channels", 100),
    ("parameter_channels", 1 << 17),
    ("bus_bytes", 0),
    ("bus_bytes", 12),
    ("bus_bytes", 256),
    ("dram_latency_cycles", 0),
    ("dram_latency_cycles", 10_001),
    ("load_queue_depth", 1),
    ("execute_queue_depth", 257),
    ("drain_queue_depth", 0),
    ("clock_hz", 0),
    ("clock_hz", 5e8),
    ("technology_nm", 7),
    ("normalization", 1),
    ("name", 3),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_named_with_its_value(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(HardwareConfig(), **{field: value})
    message = str(caught.value)
    assert "\n" not in message
    assert f"{field} is {value!r}" in message or f"{field} is {value}" in message
    assert "must" in message
    assert isinstance(caught.value, CodesignError)


def test_all_violations_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        replace(HardwareConfig(), scratchpad_banks=3, bus_bytes=5, technology_nm=9, clock_hz=-1)
    assert len(caught.value.violations) == 4
    for field in ("scratchpad_banks", "bus_bytes", "technology_nm", "clock_hz"):
        assert any(violation.startswith(field) for violation in caught.value.violations)


def test_every_field_is_guarded() -> None:
    """Each field refuses at least one value (the name only another type)."""
    assert {field for field, _ in BAD} == {field.name for field in fields(HardwareConfig)}


def test_from_dict_starts_from_a_preset_and_reads_sizes() -> None:
    machine = from_dict({"preset": "gemmini", "scratchpad_bytes": "128K", "dram_latency_cycles": 9})
    assert machine == replace(PRESETS["gemmini"], scratchpad_bytes=128 << 10, dram_latency_cycles=9)


def test_from_dict_reports_unknown_fields_bad_sizes_and_violations_together() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({"dimension": 8, "scratchpad_bytes": "64Q", "bus_bytes": 7})
    message = str(caught.value)
    for part in ("'dimension'", "'64Q'", "bus_bytes is 7"):
        assert part in message


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="gemmini, ibert, edge, large"):
        preset("tpu")


def test_files_that_are_missing_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read .*absent.toml"):
        from_toml(tmp_path / "absent.toml")
    path = tmp_path / "bad.toml"
    path.write_text("dim = = 3", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not TOML"):
        from_toml(path)
    path.write_text("scratchpad_byte = 65536", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: .*mean scratchpad_bytes"):
        from_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        from_toml(path)


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_a_blank_name_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f"name = {json.dumps(name)}\n")
    with pytest.raises(ConfigError, match="name is blank"):
        from_toml(path)
