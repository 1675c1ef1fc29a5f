"""The Python interface: models and machines, by name or as they are.

A model is a file, the name of a built-in one, or what `load_model` returned; a machine is a
`HardwareConfig` from `machine`. Nothing in this folder prints or writes a file. Bad input raises a
`CodesignError` whose text is one line that says how to mend it. docs/api.md shows all of it at work,
and the commands of the command line call it where they do just that.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from os import PathLike

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.sizes import parse_size
from codesign.search.inputs import sources
from codesign.search.inputs.sources import Model

Named = str | PathLike[str]


def load_model(
    source: Named,
    *,
    seq: int | None = None,
    batch: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    past: int | None = None,
) -> Model:
    """Read an ONNX file, or a built-in model by its name, as its graph of operators.

    `seq` and `batch` are the extents of dynamic axes (128 and 1 unless given), `dimensions` those of
    other symbolic ones. With a `past` it is a decoder's step of `seq` tokens (1 unless given) behind so many
    in its cache. Raises ModelError or UnsupportedError.
    """
    return sources.load_model(str(source), seq, batch, tuple((dimensions or {}).items()), past)


def machine(source: Named = "ibert", **fields: int | str) -> HardwareConfig:
    """A preset machine or a TOML file's, with fields of `HardwareConfig` replaced.

    Sizes in bytes may be text, as on the command line: `scratchpad_bytes="64K"`. Raises ConfigError
    that names everything that contradicts itself.
    """
    base = sources.load_machine(str(source))
    known = asdict(base)
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError([f"a machine has no {unknown[0]!r}: choose {', '.join(known)}"])
    return replace(base, **{name: size_of(value) for name, value in fields.items()})  # type: ignore[arg-type]


def given_model(model: Model | Named) -> Model:
    """A model that is named or loaded, loaded."""
    return model if isinstance(model, Model) else load_model(model)


def energy_costs(table: Named | EnergyOverrides) -> str | EnergyOverrides:
    """A table of energies that is named or loaded, as `evaluate` takes it."""
    return table if isinstance(table, EnergyOverrides) else sources.load_tables(str(table))


def area_costs(table: Named | AreaOverrides) -> str | AreaOverrides:
    """A table of areas that is named or loaded, as `evaluate` takes it."""
    return table if isinstance(table, AreaOverrides) else sources.load_area_tables(str(table))


def size_of(value: int | str) -> int:
    """A number, or the bytes that text stands for."""
    return parse_size(value) if isinstance(value, str) else value
