"""A search space as TOML: read, and checked before anything is made of it.

`SearchSpace.to_toml` writes what this reads.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import from_dict
from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.toml_file import load_toml
from codesign.hw.sizes import parse_size
from codesign.search.inputs.grid import parse_count, parse_values
from codesign.search.space.networks import (
    DEFAULT_FAMILY,
    Networks,
    SpaceError,
    bad_choice,
    networks,
)
from codesign.search.space.space import (
    AXIS_FIELDS,
    DEFAULT_AXES,
    Constraints,
    SearchSpace,
)


def read_space(path: Path) -> SearchSpace:
    """Read a space from a TOML file; raises SpaceError for anything wrong in it."""
    try:
        document = load_toml(path)
    except OSError as error:
        raise SpaceError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SpaceError(f"{path} is not TOML: {error}") from error
    with refuse_damage(path, SpaceError, "see docs/search.md for a space"):
        try:
            return space_of(document)
        except SpaceError as error:
            raise SpaceError(f"{path}: {error}") from error


def space_of(document: Mapping[str, Any]) -> SearchSpace:
    """The space of TOML-like values; what is left out is the default's. Raises SpaceError."""
    known = ("transformer", "hardware", "constraints")
    for name, section in document.items():
        if name not in known:
            raise SpaceError(f"unknown section [{name}]: choose {', '.join(known)}")
        if not isinstance(section, Mapping):
            raise SpaceError(f"{name} must be a section [{name}]")
    transformer = _networks(document.get("transformer", {}))
    constraints = _section(document, "constraints", Constraints)
    constraints = {k: None if v == "none" else v for k, v in constraints.items()}
    machine = dict(document.get("hardware", {}))
    axes = {name: DEFAULT_AXES[name] for name in DEFAULT_AXES}
    if "name" in machine:
        raise SpaceError(
            "unknown field hardware.name: machines are named by their sizes, preset = names the "
            "one that the others vary around"
        )
    for name in list(machine):
        if isinstance(machine[name], list) or (
            name in AXIS_FIELDS and isinstance(machine[name], str) and ":" in machine[name]
        ):
            if name not in AXIS_FIELDS:
                raise SpaceError(f"hardware.{name} cannot be a list: it takes one value")
            axes[name] = _choices(name, machine.pop(name))
        elif name in axes:  # a single value: nothing to choose
            axes[name] = _choices(name, [machine.pop(name)])
    try:
        base = from_dict(machine)
    except ConfigError as error:
        raise SpaceError(f"hardware: {error}") from error
    return SearchSpace(transformer, base, tuple(axes.items()), Constraints(**constraints))


def _networks(section: Mapping[str, Any]) -> Networks:
    """The networks of a section: choices of its family's axes, and what they have in common."""
    given = dict(section)
    known = networks(given.pop("family", DEFAULT_FAMILY))
    axes = {axis.name for axis in known.axes}
    fields = {name: _choices(name, v) if name in axes else v for name, v in given.items()}
    return networks(known.family, **fields)


def _section(document: Mapping[str, Any], name: str, kind: Any) -> dict[str, Any]:
    section = dict(document.get(name, {}))
    known = [f.name for f in fields(kind)]
    for key in section:
        if key not in known:
            raise SpaceError(f"unknown field {name}.{key}: choose {', '.join(known)}")
    return section


def _choices(name: str, values: Any) -> tuple[int, ...]:
    """The choices of one gene: numbers, sizes and ranges, alone or in a list."""
    parse = parse_size if name.endswith("_bytes") else parse_count
    found: list[Any] = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, str):
            try:
                found += parse_values(value, parse)
            except ValueError as error:
                raise SpaceError(f"{name}: {error}") from error
        elif type(value) is int:
            found.append(value)
        else:
            raise SpaceError(bad_choice(name, value))
    return tuple(dict.fromkeys(found))
