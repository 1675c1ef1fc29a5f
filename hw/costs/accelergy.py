"""Accelergy v0.4 energy and area reference tables (ERT, ART): in place of the shipped numbers, and out.

A user's own PDK numbers come in as `EnergyOverrides` and `AreaOverrides`; whatever the file leaves
out keeps its shipped cost. `dump_ert` and `dump_art` write a template to edit. Energies are pJ per
action, areas um2, both of one instance: a name ending in [a..b] stands for b - a + 1 of them.

    component    actions
    mesh         compute (a PE-cycle with work), idle (without), load_weight
    scratchpad   read, write (a row)
    accumulator  read, write (a row), add (one int32)
    nonlinear    gelu, compare, exp, moment, normalize (an element), divide, sqrt (a row)
    requantize   requantize, scale (an element)
    dram         read, write (a byte), leak (background, a cycle)
    host         cycle, instruction
    static       leak (a cycle); `leak` of any on-chip component is added to it

`pe` and `mac` are read as mesh. Of several entries for one action (Accelergy tabulates its
arguments) the most expensive counts. An ART has mesh, scratchpad, accumulator, nonlinear,
requantize and control. Beside `version` and `tables`, `machine` may say whose numbers they are.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from codesign.hw.costs import area
from codesign.hw.costs.area import AreaBreakdown, AreaOverrides
from codesign.hw.costs.energy import COMPONENT_EVENTS, COMPONENTS, CostTable, EnergyOverrides
from codesign.hw.errors import TableError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENTS
from codesign.hw.machine.memories import COUNTED, MEMORIES
from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.text import said
from codesign.hw.platform.yaml_file import read_yaml

VERSION = "0.4"
MOST_INSTANCES = 1 << 31
MOST = 1e30  # pJ or um2: products with counts stay finite

# (component, action) -> event, or the name of a standing cost
ACTIONS: Mapping[tuple[str, str], str] = {
    ("mesh", "compute"): "pe_active",
    ("mesh", "idle"): "pe_idle",
    ("mesh", "load_weight"): "pe_weight_loads",
    **{(m.component, action): event for m in COUNTED for action, event in m.actions},
    **{("nonlinear", event): event for event in COMPONENT_EVENTS["nonlinear"]},
    ("requantize", "requantize"): "requantize",
    ("requantize", "scale"): "scale",
    ("dram", "read"): "dram_read_bytes",
    ("dram", "write"): "dram_write_bytes",
    ("dram", "leak"): "dram_background",
    ("host", "cycle"): "host_cycles",
    ("host", "instruction"): "instructions",
    ("static", "leak"): "leakage",
}
ALIASES = {"pe": "mesh", "mac": "mesh"}

# What costs depend on, of a machine: its other fields decide times alone.
MACHINE_FIELDS = (
    "dim", *(field for memory in MEMORIES for field in memory.fields), "bus_bytes", "clock_hz",
    "technology_nm", "normalization",
)  # fmt: skip


def load_ert(path: Path) -> EnergyOverrides:
    """Read an Accelergy v0.4 ERT; pass the result to `energy.cost_table` as `tables`.

    Raises TableError, one line, when the file is no ERT or names components that we do not have.
    """
    with refuse_damage(path, TableError, "write it as codesign hardware --ert does"):
        return _ert(path)


def _ert(path: Path) -> EnergyOverrides:
    picojoules: dict[str, float] = {}
    body = _body(path, "ERT")
    for table, component, instances in _tables(path, "ERT", body, COMPONENTS):
        actions = table.get("actions")
        if not isinstance(actions, list):
            raise TableError(f"{path}: component {component} has no list of actions")
        worst: dict[str, float] = {}
        for entry in actions:
            action, energy = _entry(path, component, entry, "energy")
            worst[action] = max(energy, worst.get(action, 0.0))
        for action, energy in worst.items():
            name = ACTIONS.get((component, action))
            if action == "leak":
                name = name or "leakage"
                picojoules[name] = picojoules.get(name, 0.0) + instances * energy
            elif name is None:
                known = ", ".join(a for c, a in ACTIONS if c == component)
                raise TableError(
                    f"{path}: {component} has no action {action!r}: rename it to one of {known}, "
                    "leak, or remove it"
                )
            else:
                picojoules[name] = energy
    return EnergyOverrides(str(path), tuple(picojoules.items()), _machine(path, body))


def load_art(path: Path) -> AreaOverrides:
    """Read an Accelergy v0.4 ART; pass the result to `area.area_mm2` as `tables`.

    Raises TableError as `load_ert` does.
    """
    with refuse_damage(path, TableError, "write it as codesign hardware --art does"):
        return _art(path)


def _art(path: Path) -> AreaOverrides:
    mm2: dict[str, float] = {}
    body = _body(path, "ART")
    for table, component, instances in _tables(path, "ART", body, area.AREA_COMPONENTS):
        _, um2 = _entry(path, component, {"name": component, **table}, "area")
        mm2[component] = mm2.get(component, 0.0) + instances * um2 * 1e-6
    return AreaOverrides(str(path), tuple(mm2.items()), _machine(path, body))


def dump_ert(table: CostTable, config: HardwareConfig) -> str:
    """Return the nominal costs of `config`, in `table`, as an ERT that `load_ert` reads back."""
    per_cycle = 1e12 / table.clock_hz
    costs = dict(zip(EVENTS, (1e12 * table.event_j[1]).tolist(), strict=True))
    costs["pe_idle"] = 1e12 * float(table.pe_idle_j[1])
    costs["dram_background"] = per_cycle * float(table.dram_background_w[1])
    costs["leakage"] = per_cycle * float(table.leakage_w[1])
    tables = [
        {
            "name": f"system.{component}",
            "actions": [
                {"name": action, "arguments": {}, "energy": costs[name]}
                for (owner, action), name in ACTIONS.items()
                if owner == component
            ],
        }
        for component in COMPONENTS
    ]
    return _document("ERT", tables, config)


def dump_art(breakdown: AreaBreakdown, config: HardwareConfig) -> str:
    """Return the nominal areas of `config`, in `breakdown`, as an ART that `load_art` reads back."""
    tables = [
        {"name": f"system.{component}", "area": 1e6 * nominal}
        for component, (_, nominal, _) in breakdown.components.items()
    ]
    return _document("ART", tables, config)


def cost_fields(config: HardwareConfig) -> tuple[tuple[str, int], ...]:
    """Return the fields of a machine that its costs depend on."""
    return tuple((name, int(getattr(config, name))) for name in MACHINE_FIELDS)


def _document(kind: str, tables: list[dict[str, Any]], config: HardwareConfig) -> str:
    body = {"version": VERSION, "machine": dict(cost_fields(config)), "tables": tables}
    return str(yaml.safe_dump({kind: body}, sort_keys=False))


def _machine(path: Path, body: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Whose numbers a file says it has: nobody's, where it says nothing."""
    said: Any = body.get("machine", {})
    if not isinstance(said, dict) or not all(
        name in MACHINE_FIELDS and isinstance(value, int) and 0 <= value < 1 << 63
        for name, value in said.items()
    ):
        raise TableError(
            f"{path}: machine must give whole numbers of {', '.join(MACHINE_FIELDS)}, or be left out"
        )
    return tuple((name, int(value)) for name, value in said.items())


def _body(path: Path, kind: str) -> dict[str, Any]:
    """What a file keeps under ERT or ART; nothing where it is no such file."""
    document = read_yaml(path)
    body: Any = document.get(kind) if isinstance(document, dict) else None
    return body if isinstance(body, dict) else {}


def _tables(
    path: Path, kind: str, body: dict[str, Any], known: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Yield (table, component, instances) of a file, after every name in it was recognised."""
    tables = body.get("tables")
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise TableError(f"{path} is no Accelergy {kind}: it needs {kind}: version, tables")
    version = str(body.get("version"))
    if version != VERSION:
        raise TableError(f"{path}: {kind} version is {version}: only version {VERSION} is read")
    named = [(table, *_component(str(table.get("name", "")))) for table in tables]
    unknown = sorted({component for _, component, _ in named if component not in known})
    if unknown:
        raise TableError(
            f"{path}: unknown components {', '.join(unknown)}: rename them to one of "
            f"{', '.join((*known, *ALIASES))}, or remove them"
        )
    yield from named


def _component(name: str) -> tuple[str, int]:
    """Return the last part of a hierarchical name and its instances: `a.pe[0..255]` -> pe, 256."""
    last = re.split(r"\.(?!\.)(?<!\.\.)", name)[-1]
    match = re.fullmatch(r"(.*?)(?:\[(\d+)\.\.(\d+)\])?", last)
    base = match[1].lower() if match else last
    instances = int(match[3]) - int(match[2]) + 1 if match and match[2] else 1
    if not 1 <= instances <= MOST_INSTANCES:
        raise TableError(f"component {name[:60]!r} has no number of instances from 1 to 2^31")
    return ALIASES.get(base, base), instances


def _entry(path: Path, component: str, entry: Any, key: str) -> tuple[str, float]:
    value: Any = entry.get(key) if isinstance(entry, dict) else None
    if type(value) not in (int, float) or not 0 <= value <= MOST:
        raise TableError(
            f"{path}: {component}: {key} is {said(value)} but must be a number >= 0, at most {MOST:g}"
        )
    return str(entry.get("name")), float(value)
