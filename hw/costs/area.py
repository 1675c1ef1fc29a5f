"""Area: what the machine is built of, and the silicon that takes.

`units.toml` lists the operators and flip-flops of every lane; published operator tables price them,
scaled to the node by Stillmaker and Baas. `energy.py` prices events from the same inventory, so
energy, leakage and area always describe one machine. low / nominal / high everywhere.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from codesign.hw.costs.sram import (
    Range,
    Sram,
    added,
    macros,
    memory,
    read_csv,
    read_toml,
    silicon_factor,
)
from codesign.hw.errors import TableError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.memories import COUNTED, present

AREA_COMPONENTS = ("mesh", *(m.component for m in COUNTED), "nonlinear", "requantize", "control")
CALIBRATIONS = ("none", "22ffl")

LOW_TABLE, NOMINAL_TABLE = "horowitz45", "aladdin40"


@dataclass(frozen=True)
class Unit:
    """One kind of lane: its operators by width, its flip-flops, rows of a memory of its own, and how
    many the machine has.
    """

    name: str
    component: str
    lanes: str  # "pe": dim x dim, "dim", or "one"
    multiply: tuple[tuple[int, int], ...] = ()
    add: tuple[int, ...] = ()
    shift: tuple[int, ...] = ()
    compare: tuple[int, ...] = ()
    register_bits: int = 0
    memory_rows: int = 0
    memory_row_bits: int = 0  # of a macro: a power of two
    steps: int = 1  # cycles that one event keeps the lane busy
    normalization: bool = False  # present only in machines with the normalization units
    shares: str = ""  # the unit in whose lane it works, if it has none of its own

    def count(self, config: HardwareConfig) -> int:
        """Return the lanes of this kind in `config`; those of another unit are not counted again."""
        if self.shares or (self.normalization and not config.normalization):
            return 0
        return {"pe": config.dim * config.dim, "dim": config.dim, "one": 1}[self.lanes]

    def memory(self, technology_nm: int) -> Sram | None:
        """The macro of its own memory, if it has one."""
        size_bytes = self.memory_rows * self.memory_row_bits // 8
        if not size_bytes:
            return None
        return memory(self.name, size_bytes, 1, self.memory_row_bits, technology_nm)

    @property
    def operators(self) -> tuple[tuple[str, int], ...]:
        """(operator, bits) of each; a multiplier's bits are the product of its operand widths."""
        return (
            *(("multiply", a * b) for a, b in self.multiply),
            *(("add", bits) for bits in self.add),
            *(("shift", bits) for bits in self.shift),
            *(("compare", bits) for bits in self.compare),
        )


@dataclass(frozen=True)
class OperatorArea:
    """One entry of an operator table at its own node and supply."""

    energy_pj: float
    area_um2: float
    leakage_uw: float


@dataclass(frozen=True)
class OperatorTable:
    """A published table of operators: node, supply and entries by (operator, bits)."""

    name: str
    node_nm: int
    supply_v: float
    entries: Mapping[tuple[str, int], OperatorArea]


@dataclass(frozen=True)
class AreaOverrides:
    """Areas in mm2 by component that replace the shipped ones, from a user's own table.

    `machine` says whose areas they are, where the table does: fields of a HardwareConfig.
    """

    source: str
    mm2: tuple[tuple[str, float], ...]
    machine: tuple[tuple[str, int], ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Components that keep their shipped area."""
        return tuple(name for name in AREA_COMPONENTS if name not in dict(self.mm2))


@dataclass(frozen=True)
class AreaBreakdown:
    """Silicon area in mm2 by component (`COMPONENTS`), each low / nominal / high.

    The host CPU, the memory controller and the pads are not part of it.
    """

    components: Mapping[str, Range]

    @property
    def total(self) -> Range:
        """Sum over the components."""
        low, nominal, high = (
            math.fsum(area[bound] for area in self.components.values()) for bound in range(3)
        )
        return low, nominal, high


def area_mm2(
    config: HardwareConfig,
    tables: str | AreaOverrides = "default",
    calibration: str = "none",
) -> AreaBreakdown:
    """Return the area of `config` in mm2 by component.

    Logic: low = Horowitz operators, nominal = Aladdin operators, both with flip-flops; high =
    nominal over a placement density of 0.7. SRAM: `sram.area_spread`. With calibration "22ffl" the
    mesh, memories and control are those of Gemmini in Intel 22FFL (DAC 2021) scaled by count and
    size: a fit to two memories and one mesh, 22 nm only. Raises TableError for an unknown table or
    calibration.
    """
    if isinstance(tables, str) and tables not in ("default", "timeloop-pat"):
        raise TableError(f"no area table is called {tables!r}: choose default or timeloop-pat")
    if calibration not in CALIBRATIONS:
        raise TableError(f"no calibration is called {calibration!r}: choose none or 22ffl")
    areas = {component: _logic_area(config, component) for component in AREA_COMPONENTS}
    for which in present(config):
        component = which.component
        areas[component] = added(areas[component], macros(which, config).area_mm2)
    for unit in units().values():
        own = unit.memory(config.technology_nm) if unit.count(config) else None
        if own is not None:
            areas[unit.component] = added(areas[unit.component], own.area_mm2)
    areas["control"] = added(areas["control"], _control_area(config))
    if calibration == "22ffl":
        areas.update(_calibrated(config))
    if isinstance(tables, AreaOverrides):
        areas.update({component: (mm2, mm2, mm2) for component, mm2 in tables.mm2})
    return AreaBreakdown(areas)


@cache
def units() -> Mapping[str, Unit]:
    """Return the inventory of logic by unit name (tables/units.toml)."""
    inventory = {}
    for name, fields in read_toml("units.toml").items():
        values: dict[str, Any] = {
            key: _tuples(value) if isinstance(value, list) else value
            for key, value in fields.items()
        }
        inventory[name] = Unit(name=name, **values)
    return inventory


@cache
def operator_table(name: str) -> OperatorTable:
    """Return the published operator table `name` (tables/logic.csv); raises TableError."""
    rows = [row for row in read_csv("logic.csv") if row["table"] == name]
    if not rows:
        raise TableError(f"no operator table is called {name!r}: look into tables/logic.csv")
    entries = {
        (row["operator"], int(row["bits"])): OperatorArea(
            float(row["energy_pj"]), float(row["area_um2"]), float(row["leakage_uw"] or "nan")
        )
        for row in rows
    }
    return OperatorTable(name, int(rows[0]["node_nm"]), float(rows[0]["supply_v"]), entries)


def operator_value(
    table: OperatorTable, operator: str, bits: int, value: Callable[[OperatorArea], float]
) -> float:
    """Return `value` of an operator of `bits` bits at the table's own node and supply.

    One published width scales in proportion (a multiplier by the product of its operand widths, as
    Accelergy does); two give a power law through both. An operator that the table lacks takes the
    Aladdin value times the ratio of the two tables' 32-bit adders.
    """
    anchors = sorted((b, value(e)) for (name, b), e in table.entries.items() if name == operator)
    if not anchors:
        nominal = operator_table(NOMINAL_TABLE)
        adders = value(table.entries["add", 32]) / value(nominal.entries["add", 32])
        return adders * operator_value(nominal, operator, bits, value)
    (first_bits, first), (last_bits, last) = anchors[0], anchors[-1]
    if first_bits == last_bits:
        return first * bits / first_bits
    exponent = math.log(last / first) / math.log(last_bits / first_bits)
    return float(first * (bits / first_bits) ** exponent)


def node_factor(values: Mapping[str, float], node_nm: float) -> float:
    """Return a per-node factor at `node_nm`, interpolated log-log between the nodes of `values`.

    Raises TableError outside them.
    """
    nodes = sorted(map(int, values))
    if not nodes[0] <= node_nm <= nodes[-1]:
        raise TableError(f"no scaling for {node_nm} nm: it is known from {nodes[0]} to {nodes[-1]}")
    upper = next(node for node in nodes if node >= node_nm)
    if upper == nodes[0]:
        return values[str(upper)]
    lower = nodes[nodes.index(upper) - 1]
    share = math.log(node_nm / lower) / math.log(upper / lower)
    return math.exp(
        share * math.log(values[str(upper)]) + (1 - share) * math.log(values[str(lower)])
    )


def area_scale(from_nm: float, to_nm: float) -> float:
    """Return the factor on a logic area from one node to another (Stillmaker and Baas 2017)."""
    relative: dict[str, float] = read_toml("technology.toml")["stillmaker"]["area"]
    return node_factor(relative, to_nm) / node_factor(relative, from_nm)


@cache
def lane_area_um2(unit: Unit, table_name: str, technology_nm: int) -> float:
    """Return the area of one lane of `unit` in um2, flip-flops included."""
    table = operator_table(table_name)
    parts = (*unit.operators, ("register", unit.register_bits))
    total = sum(operator_value(table, op, bits, lambda e: e.area_um2) for op, bits in parts)
    return total * area_scale(table.node_nm, technology_nm)


@cache
def lane_leakage_w(unit: Unit, technology_nm: int) -> float:
    """Return the leakage of one lane in W by Aladdin's table, flip-flops included.

    From 40 nm it is scaled by node length and supply: constant leakage per micron of transistor
    width. That is an assumption; Stillmaker and Baas have no leakage.
    """
    table = operator_table(NOMINAL_TABLE)
    parts = (*unit.operators, ("register", unit.register_bits))
    total_uw = sum(operator_value(table, op, bits, lambda e: e.leakage_uw) for op, bits in parts)
    supply_v: float = read_toml("technology.toml")["supply_v"][str(technology_nm)]
    return total_uw * 1e-6 * technology_nm / table.node_nm * supply_v / table.supply_v


def _logic_area(config: HardwareConfig, component: str) -> Range:
    density = read_toml("technology.toml")["area"]["placement_density"]
    low = nominal = 0.0
    for unit in units().values():
        if unit.component == component:
            lanes = unit.count(config) * 1e-6
            low += lanes * lane_area_um2(unit, LOW_TABLE, config.technology_nm)
            nominal += lanes * lane_area_um2(unit, NOMINAL_TABLE, config.technology_nm)
    return low, nominal, nominal / density


def _control_area(config: HardwareConfig) -> Range:
    """Return command queues, DMA and address generation: what Gemmini's published total leaves.

    Half of it is taken to grow with the bus; low and high are half and twice (judgement).
    """
    silicon = read_toml("technology.toml")["gemmini_22ffl"]
    parts = ("mesh_um2", "scratchpad_um2", "accumulator_um2", "cpu_um2")
    rest_mm2 = (silicon["total_um2"] - sum(silicon[part] for part in parts)) * 1e-6
    bus = 0.5 + 0.5 * config.bus_bytes / silicon["bus_bytes"]
    nominal = rest_mm2 * bus * area_scale(silicon["node_nm"], config.technology_nm)
    return 0.5 * nominal, nominal, 2 * nominal


def _calibrated(config: HardwareConfig) -> dict[str, Range]:
    silicon = read_toml("technology.toml")["gemmini_22ffl"]
    if config.technology_nm != silicon["node_nm"]:
        raise TableError(
            f"the 22ffl calibration is for 22 nm, not {config.technology_nm} nm: "
            "set technology_nm to 22 or leave the calibration out"
        )
    pe_mm2 = silicon["mesh_um2"] * 1e-6 / silicon["dim"] ** 2
    areas = {"mesh": pe_mm2 * config.dim**2} | {
        which.component: silicon_factor() * macros(which, config, "1RW").area_mm2[1]
        for which in present(config)
        if which in COUNTED
    }
    return {component: (area, area, area) for component, area in areas.items()}


def _tuples(value: list[object]) -> tuple[object, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)
