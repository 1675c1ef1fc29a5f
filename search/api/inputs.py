"""The Python interface: models and machines, by name or as they are.

A model is a file, the name of a built-in one, or what `load_model` returned; a machine is a TOML file,
the name of a preset, or a `HardwareConfig` from `machine`. Nothing in this folder prints or writes a
file. Bad input raises a `CodesignError` whose text is one line that says how to mend it. docs/api.md
shows all of it at work, and the commands of the command line call it where they do just that.
"""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from os import PathLike
from typing import Any, SupportsIndex

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.sizes import parse_size
from codesign.search.api.arguments import (
    Named,
    given_extents,
    not_a_machine,
    not_a_model,
    numbers,
    optional_whole,
    place,
    refused,
    whole,
)
from codesign.search.inputs import grid, sources
from codesign.search.inputs.sources import Model

FIELDS = {field.name: type(field.default) for field in fields_of(HardwareConfig)}


def load_model(
    source: Named,
    *,
    seq: SupportsIndex | None = None,
    batch: SupportsIndex | None = None,
    dimensions: Mapping[str, SupportsIndex] | None = None,
    past: SupportsIndex | None = None,
) -> Model:
    """Read an ONNX file, or a built-in model by its name, as its graph of operators.

    `seq` and `batch` are the extents of dynamic axes (128 and 1 unless given), `dimensions` those of
    other symbolic ones. With a `past` it is a decoder's step of `seq` tokens (1 unless given) behind so many
    in its cache. Raises ModelError, UnsupportedError or ArgumentError.
    """
    return sources.load_model(
        place("model", source, "an ONNX file or the name of a built-in model"),
        optional_whole("seq", seq, 1),
        optional_whole("batch", batch, 1),
        tuple(given_extents("dimensions", dimensions).items()),
        optional_whole("past", past, 0),
    )


def machine(
    source: Named | HardwareConfig = "ibert", **fields: SupportsIndex | str
) -> HardwareConfig:
    """A preset machine, a TOML file's or one at hand, with fields of `HardwareConfig` replaced.

    Numbers may be text, as on the command line: `scratchpad_bytes="64K"`, `clock_hz="1GHz"`. Raises
    ConfigError that names everything that contradicts itself, or ArgumentError.
    """
    base = given_machine("source", source)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise ConfigError([f"a machine has no {unknown[0]!r}: choose {', '.join(FIELDS)}"])
    values = {name: _field(name, value) for name, value in fields.items()}
    return replace(base, **values)


def given_machine(name: str, machine: Named | HardwareConfig) -> HardwareConfig:
    """A machine that is named or at hand, for the argument called `name`."""
    if isinstance(machine, HardwareConfig):
        return machine
    if not isinstance(machine, str | PathLike):
        raise not_a_machine(name, machine)
    return sources.load_machine(place(name, machine, "a name or a file"))


def given_model(model: Model | Named) -> Model:
    """A model that is named or loaded, loaded."""
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | PathLike):
        raise not_a_model(model)
    return load_model(model)


def energy_costs(table: Named | EnergyOverrides) -> str | EnergyOverrides:
    """A table of energies that is named or loaded, as `evaluate` takes it."""
    if isinstance(table, EnergyOverrides):
        return table
    return sources.load_tables(place("energy_table", table, "the name of a table or an ERT file"))


def area_costs(table: Named | AreaOverrides) -> str | AreaOverrides:
    """A table of areas that is named or loaded, as `evaluate` takes it."""
    if isinstance(table, AreaOverrides):
        return table
    return sources.load_area_tables(place("area_table", table, "'default' or an ART file"))


def axis(name: str, values: object) -> tuple[int, ...]:
    """The values of a field of the machine: one or several, or text as on the command line.

    Raises ArgumentError.
    """
    parse = {"bytes": parse_size, "hz": grid.parse_frequency}.get(
        name.rpartition("_")[2], grid.parse_count
    )
    return numbers(name, values, lambda text: grid.parse_values(text, parse))


def _field(name: str, value: object) -> Any:
    """One value of a field of the machine, of its type."""
    kind = FIELDS[name]
    if kind is not int:
        if not isinstance(value, kind):
            raise refused(name, value, "text" if kind is str else "True or False")
        return value
    if not isinstance(value, str):
        return whole(name, value)  # type: ignore[arg-type]
    if not name.endswith(("_bytes", "_hz")):
        raise refused(name, value, "a whole number")
    (number, *more) = axis(name, value)
    if more:
        raise refused(name, value, "one value")
    return number
