"""Energy: event counts and cycles times a table of costs, with low / nominal / high.

Events come from `timing.py` and know nothing of joules; this module knows nothing of programs. Every
cost is a range, because open models agree on absolute energy to a factor of two or three at best:
docs/energy.md names sources and limits. Energy is linear in events and cycles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.costs.area import (
    LOW_TABLE,
    NOMINAL_TABLE,
    Unit,
    lane_leakage_w,
    node_factor,
    operator_table,
    operator_value,
    units,
)
from codesign.hw.costs.sram import Range, added, flavour_leakage, macros, memories, read_toml
from codesign.hw.errors import TableError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.machine.functions import FUNCTION_EVENTS
from codesign.hw.machine.memories import ACCUMULATOR, COUNTED, PARAMETERS, present

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TABLES = ("default", "timeloop-pat")

# Which events each component of a breakdown gathers. `macs` costs nothing: a PE-cycle is priced
# whether its operands are useful or padding.
COMPONENT_EVENTS: Mapping[str, tuple[str, ...]] = {
    "mesh": ("macs", "pe_active", "pe_weight_loads"),
    **{memory.component: memory.events for memory in COUNTED},
    "nonlinear": tuple(event for event in EVENTS if event in {*FUNCTION_EVENTS, "align"}),
    "requantize": ("scale", "requantize"),
    "dram": ("dram_read_bytes", "dram_write_bytes"),
    "host": ("instructions", "host_cycles"),
    "static": (),
}
COMPONENTS = tuple(COMPONENT_EVENTS)

# Costs that follow time instead of events, with the component that bears them.
STANDING = {"pe_idle": "mesh", "dram_background": "dram", "leakage": "static"}

_UNIT_OF_EVENT = {
    "pe_active": "pe",
    "accumulator_adds": "accumulate",
    "instructions": "instructions",
    **{event: event for event in COMPONENT_EVENTS["nonlinear"] + COMPONENT_EVENTS["requantize"]},
}


@dataclass(frozen=True)
class EnergyOverrides:
    """Costs that replace the shipped ones, from a user's own table.

    `picojoules` holds pairs of a name and pJ per event (names of `EVENTS`), per idle PE-cycle
    (`pe_idle`) or per clock cycle (`dram_background`, `leakage`). `machine` says whose costs they
    are, where the table does: fields of a HardwareConfig.
    """

    source: str
    picojoules: tuple[tuple[str, float], ...]
    machine: tuple[tuple[str, int], ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that keep their shipped cost."""
        given = {name for name, _ in self.picojoules}
        return tuple(name for name in (*EVENTS, *STANDING) if name not in given | {"macs"})


@dataclass(frozen=True, eq=False)
class CostTable:
    """What each event and each cycle of one machine costs; first axis low / nominal / high.

    Arrays are read-only. `physical` is False for tables whose unit is not a joule.
    """

    name: str
    dim: int
    clock_hz: int
    event_j: Floats  # [3, len(EVENTS)]
    pe_idle_j: Floats  # [3], per PE-cycle without work
    leakage_w: Floats  # [3], on chip
    dram_background_w: Floats  # [3]
    physical: bool
    notes: tuple[str, ...]  # what was interpolated, composed or left at the shipped cost

    def __post_init__(self) -> None:
        for array in (self.event_j, self.pe_idle_j, self.leakage_w, self.dram_background_w):
            array.setflags(write=False)

    @property
    def standby_w(self) -> Floats:
        """[3]: power of the machine doing nothing (leakage, clocked PEs, DRAM background)."""
        idle_w = self.dim * self.dim * self.clock_hz * self.pe_idle_j
        return self.leakage_w + self.dram_background_w + idle_w


@lru_cache(maxsize=4096)
def cost_table(config: HardwareConfig, tables: str | EnergyOverrides = "default") -> CostTable:
    """Return the costs of `config`: "default", "timeloop-pat" (comparable, not physical), or a
    user's overrides on the default.

    Raises TableError for an unknown name or a machine off the tables.
    """
    if tables == "timeloop-pat":
        return _timeloop_pat(config)
    if isinstance(tables, str) and tables != "default":
        raise TableError(f"no energy table is called {tables!r}: choose {' or '.join(TABLES)}")
    costs = _default_costs(config)
    notes = [
        f"{sram.name}: {sram.exactness} SRAM macro"
        for sram in memories(config)
        if sram.exactness != "grid"
    ]
    name = "default"
    if isinstance(tables, EnergyOverrides):
        name = tables.source
        costs.update({key: (pj, pj, pj) for key, pj in tables.picojoules})
        notes += [f"{key}: shipped cost" for key in tables.missing]
    return _build(name, config, costs, physical=True, notes=tuple(notes))


def energy_j(table: CostTable, events: Ints, cycles: Ints | int) -> Floats:
    """Return float[..., 3] joules (low, nominal, high) of events int[..., len(EVENTS)].

    `cycles` int[...] is the time they took; PEs without work in it are clocked and cost `pe_idle_j`.
    Terms are added one after another in the order of `EVENTS`, so that a network costs the same to
    the bit in whatever batch it is priced.
    """
    counts = np.asarray(events)[..., None, :]
    time = np.asarray(cycles, dtype=np.float64)[..., None]
    idle = table.dim * table.dim * time - counts[..., EVENT_INDEX["pe_active"]]
    standing_w = table.leakage_w + table.dram_background_w
    terms: Floats = counts * table.event_j
    terms[..., 0] += idle * table.pe_idle_j + time / table.clock_hz * standing_w
    joules: Floats = np.add.accumulate(terms, axis=-1)[..., -1]
    return joules


def energy_bound_j(table: CostTable, events: Ints, cycles: Ints | int, bound: int) -> Floats:
    """Return float[...] joules of one bound (0 low, 1 nominal, 2 high): to the bit those of `energy_j`,
    without its room for all terms of a batch at once.
    """
    counts = np.asarray(events)
    time = np.asarray(cycles, dtype=np.float64)
    idle = table.dim * table.dim * time - counts[..., EVENT_INDEX["pe_active"]]
    standing_w = table.leakage_w[bound] + table.dram_background_w[bound]
    spent: Floats = idle * table.pe_idle_j[bound] + time / table.clock_hz * standing_w
    for event in np.flatnonzero(table.event_j[bound]):
        spent = spent + counts[..., event] * table.event_j[bound, event]
    return spent


def breakdown(table: CostTable, events: Ints, cycles: Ints | int) -> dict[str, Floats]:
    """Return float[..., 3] joules by component (`COMPONENTS`); they sum to `energy_j`.

    Costs of time are filed under what causes them: idle PEs under mesh, DRAM background under dram,
    leakage on chip under static.
    """
    counts = np.asarray(events, dtype=np.float64)
    time = np.asarray(cycles, dtype=np.float64)
    parts = {}
    for component, names in COMPONENT_EVENTS.items():
        columns = [EVENT_INDEX[name] for name in names]
        parts[component] = counts[..., columns] @ table.event_j[:, columns].T
    idle = table.dim * table.dim * time - counts[..., EVENT_INDEX["pe_active"]]
    seconds = time / table.clock_hz
    parts["mesh"] = parts["mesh"] + idle[..., None] * table.pe_idle_j
    parts["dram"] = parts["dram"] + seconds[..., None] * table.dram_background_w
    parts["static"] = parts["static"] + seconds[..., None] * table.leakage_w
    return parts


def edp_js(energy: Floats, cycles: Ints | int, clock_hz: int) -> Floats:
    """Return the energy-delay product float[..., 3] in J s of energy float[..., 3] in J.

    Total energy times total time of one inference, not a sum over layers.
    """
    return energy * (np.asarray(cycles, dtype=np.float64) / clock_hz)[..., None]


@cache
def energy_scale(from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Return the factor on a logic energy between two nodes, each at its supply in volts.

    Stillmaker and Baas 2017: each node's quadratic in the supply, log-log between nodes. Raises
    TableError outside 20 to 45 nm.
    """
    polynomials = read_toml("technology.toml")["stillmaker"]["energy"]

    def energy(node_nm: float, supply_v: float) -> float:
        at_supply = {n: (a * supply_v + b) * supply_v + c for n, (a, b, c) in polynomials.items()}
        return node_factor(at_supply, node_nm)

    return energy(to_nm, to_v) / energy(from_nm, from_v)


@cache
def operators_pj(unit: Unit, table_name: str) -> float:
    """Return the energy of one event's operators in pJ at the table's own node and supply.

    An iterative lane works `steps` cycles and writes its registers in each; other lanes are priced
    without registers.
    """
    table = operator_table(table_name)
    parts = list(unit.operators)
    if unit.steps > 1:
        parts.append(("register", unit.register_bits))
    return unit.steps * sum(
        operator_value(table, op, bits, lambda e: e.energy_pj) for op, bits in parts
    )


def _registers_pj(bits: float) -> float:
    return operator_value(operator_table(NOMINAL_TABLE), "register", 1, _energy_pj) * bits


def _energy_pj(operator: Any) -> float:
    return float(operator.energy_pj)


def _to_node(config: HardwareConfig, table_name: str) -> float:
    table = operator_table(table_name)
    supply_v = read_toml("technology.toml")["supply_v"][str(config.technology_nm)]
    return energy_scale(table.node_nm, table.supply_v, config.technology_nm, supply_v)


def _event_range(config: HardwareConfig, unit: Unit) -> Range:
    """pJ of an event: Horowitz operators, Aladdin operators, Aladdin operators and flip-flops."""
    low = operators_pj(unit, LOW_TABLE) * _to_node(config, LOW_TABLE)
    nominal = operators_pj(unit, NOMINAL_TABLE)
    whole = nominal if unit.steps > 1 else nominal + _registers_pj(unit.register_bits)
    scale = _to_node(config, NOMINAL_TABLE)
    return low, nominal * scale, whole * scale


def _default_costs(config: HardwareConfig) -> dict[str, Range]:
    """pJ by event, and per cycle for the standing costs."""
    costs = {
        event: _event_range(config, units()[unit_name])
        for event, unit_name in _UNIT_OF_EVENT.items()
    }
    for memory in present(config):
        sram, events = macros(memory, config), dict(memory.actions)
        if events:
            costs[events["read"]] = _scaled(sram.read_j, 1e12)
            costs[events["write"]] = _scaled(sram.write_j, 1e12)
    # A row of parameters serves all rows of a block; high is a drain that reads it for every row.
    low, nominal, high = costs["requantize"]
    row_pj = 1e12 * macros(PARAMETERS, config).read_j[1]
    costs["requantize"] = (low, nominal, high + row_pj / config.dim)
    for event, access in _own_accesses(config).items():
        costs[event] = added(costs[event], access)
    scale = _to_node(config, NOMINAL_TABLE)
    low_scale = costs["accumulator_adds"][0] / costs["accumulator_adds"][1]
    # A weight reaches its PE through the registers of those above it: (dim + 1) / 2 on average.
    weight = _registers_pj(8 * (config.dim + 1) / 2) * scale
    costs["pe_weight_loads"] = (weight * low_scale, weight, 2 * weight)
    # An idle PE still clocks its flip-flops. Low: its clock is gated; high: Aladdin's flip-flops.
    idle = read_toml("technology.toml")["mesh"]["idle_share"] * costs["pe_active"][1]
    costs["pe_idle"] = (0.0, idle, _registers_pj(units()["pe"].register_bits) * scale)
    costs["host_cycles"] = _host_pj(config)
    dram, background = _dram_pj(config)
    costs["dram_read_bytes"] = costs["dram_write_bytes"] = dram
    costs["dram_background"] = background
    costs["leakage"] = _scaled(_leakage_w(config), 1e12 / config.clock_hz)
    return costs


def _own_accesses(config: HardwareConfig) -> dict[str, Range]:
    """pJ by event of the memory that holds rows' states and alignments: a state is read and written,
    and so is an alignment, which is read again for each row that it aligns.
    """
    states = units()["state"].memory(config.technology_nm)
    assert states is not None
    read, write = _scaled(states.read_j, 1e12), _scaled(states.write_j, 1e12)
    return {"state": added(read, write), "align": _scaled(read, 1 / config.dim)}


def _dram_pj(config: HardwareConfig) -> tuple[Range, Range]:
    """pJ per byte, and per cycle of background for a channel of the bus's peak bandwidth."""
    dram = read_toml("technology.toml")["dram"]
    low, nominal, high = (8.0 * pj for pj in dram["energy_pj_per_bit"])
    watts = [
        mw * 1e-3 / channel * config.bus_bytes * config.clock_hz * 1e-9
        for mw, channel in zip(dram["background_mw"], dram["bandwidth_gb_per_s"], strict=True)
    ]
    per_cycle = 1e12 / config.clock_hz
    return (low, nominal, high), _scaled((watts[0], watts[1], watts[2]), per_cycle)


def _host_pj(config: HardwareConfig) -> Range:
    technology = read_toml("technology.toml")
    host, supply_v = technology["host"], technology["supply_v"][str(config.technology_nm)]
    low, nominal = (
        host[f"{core}_pj_per_cycle"]
        * energy_scale(
            host[f"{core}_node_nm"], host[f"{core}_supply_v"], config.technology_nm, supply_v
        )
        for core in ("rocket", "ariane")
    )
    return low, nominal, nominal * host["high_factor"]


def _leakage_w(config: HardwareConfig) -> Range:
    """On-chip leakage: low and high take logic to the SRAM's cells and to hot, fast cells."""
    logic = sum(u.count(config) * lane_leakage_w(u, config.technology_nm) for u in _machine_units())
    cool, hot = flavour_leakage(config.technology_nm)
    own = (unit.memory(config.technology_nm) for unit in _machine_units() if unit.count(config))
    srams = (*memories(config), *(sram for sram in own if sram is not None))
    low, nominal, high = (sum(sram.leakage_w[bound] for sram in srams) for bound in range(3))
    return low + cool * logic, nominal + logic, high + hot * logic


def _machine_units() -> list[Unit]:
    return [unit for unit in units().values() if unit.component]


def _timeloop_pat(config: HardwareConfig) -> CostTable:
    """The units of Timeloop's placeholder and Aladdin at 5 ns; nothing else costs anything."""
    pat = read_toml("technology.toml")["timeloop_pat"]
    aladdin = operator_table("aladdin40-5ns")
    mac = operator_value(aladdin, "multiply", 64, _energy_pj)
    mac += operator_value(aladdin, "add", 8, _energy_pj)
    costs: dict[str, float] = dict.fromkeys((*EVENTS, *STANDING), 0.0)
    costs["pe_active"] = mac + pat["register"]
    costs["pe_weight_loads"] = pat["register"]
    for memory in COUNTED:  # one that the table does not name costs as the scratchpad does
        word, kb = pat.get(memory.name, pat["scratchpad"])
        columns = config.dim if memory is ACCUMULATOR else 1  # it is a memory a column there
        row_pj = config.dim * (word + kb * (memory.size_bytes(config) / 1024 / columns))
        events = dict(memory.actions)
        costs[events["read"]] = costs[events["write"]] = row_pj
    costs["dram_read_bytes"] = costs["dram_write_bytes"] = pat["dram"]
    ranges: dict[str, Range] = {name: (pj, pj, pj) for name, pj in costs.items()}
    note = "memories in Eyeriss-normalised units, not joules"
    return _build("timeloop-pat", config, ranges, physical=False, notes=(note,))


def _build(
    name: str,
    config: HardwareConfig,
    picojoules: Mapping[str, Range],
    physical: bool,
    notes: tuple[str, ...],
) -> CostTable:
    zero = (0.0, 0.0, 0.0)
    per_event = [picojoules.get(event, zero) for event in EVENTS]
    standing = {key: np.array(picojoules[key]) * 1e-12 for key in STANDING}
    return CostTable(
        name=name,
        dim=config.dim,
        clock_hz=config.clock_hz,
        event_j=np.array(per_event).T * 1e-12,
        pe_idle_j=standing["pe_idle"],
        leakage_w=standing["leakage"] * config.clock_hz,
        dram_background_w=standing["dram_background"] * config.clock_hz,
        physical=physical,
        notes=notes,
    )


def _scaled(values: Range, factor: float) -> Range:
    return values[0] * factor, values[1] * factor, values[2] * factor
