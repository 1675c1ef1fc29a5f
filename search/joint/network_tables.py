"""Bulk evaluation: what many candidates cost, from tables of what each of their layers costs.

A row of the tables holds cycles and events of one layer on one machine;
a candidate is the sum of its rows, in integers, and is priced by the same functions as a single
`Result`. Rows are filled when a candidate first touches them, from the prices of kernel groups.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from codesign.compiler.plan.pricing import NOWHERE, GroupShape
from codesign.hw.costs.area import AreaOverrides, area_mm2
from codesign.hw.costs.energy import CostTable, EnergyOverrides, cost_table, energy_bound_j
from codesign.hw.costs.sram import timing_warnings
from codesign.hw.errors import ConfigError, MappingError
from codesign.hw.machine.config import HardwareConfig
from codesign.search.joint.blocks import INNER, TAIL, Blocks, blocks
from codesign.search.joint.price_cache import COLUMNS
from codesign.search.joint.price_store import PriceStore, machine_digest, price_key
from codesign.search.joint.pricing_pool import LocalPool, Pool, PriceTask
from codesign.search.space.space import Genes, SearchSpace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

NOMINAL = 1
SHAPES_A_TASK = 24
CHUNK = 4096  # candidates of one machine at a time: their sums stay in the cache of a core


@dataclass(frozen=True)
class Costs:
    """What candidates cost, [n] each; NaN where a candidate is not feasible.

    Energy is nominal. `violation` [n, 3]: by how much (relative) machine and memories, area and
    power break the constraints; 0 where they keep them.
    """

    cycles: Ints
    latency_s: Floats
    energy_j: Floats
    edp_js: Floats
    power_w: Floats
    area_mm2: Floats
    violation: Floats

    @property
    def feasible(self) -> Bools:
        """Which candidates keep all constraints [n]."""
        kept: Bools = np.all(self.violation <= 0, axis=1)
        return kept


@dataclass(frozen=True, eq=False)
class PricedMachine:
    """One machine of the space; `config` is None where none can be built."""

    config: HardwareConfig | None
    table: CostTable | None
    area_mm2: float
    violation: tuple[float, float]  # cannot be or misses the clock; area over the limit


class NetworkTables:
    """The tables of a space under one mapping objective and one set of costs."""

    def __init__(
        self,
        space: SearchSpace,
        objective: str = "edp",
        tables: str | EnergyOverrides = "default",
        area_tables: str | AreaOverrides = "default",
        store: PriceStore | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.space, self.objective = space, objective
        self.tables, self.area_tables = tables, area_tables
        self.store = PriceStore(None, lambda message: None) if store is None else store
        self.pool: Pool = pool or LocalPool()
        self.priced = 0  # groups mapped and priced by this process and its workers
        self._machines: dict[int, PricedMachine] = {}
        self._layers: dict[int, _LayerRows] = {}

    # -- Machines ----------------------------------------------------------------------------------

    def machine(self, number: int) -> PricedMachine:
        """One machine of the space with its costs, remembered."""
        found = self._machines.get(number)
        if found is None:
            found = self._machines[number] = self._make_machine(number)
        return found

    def _make_machine(self, number: int) -> PricedMachine:
        limits = self.space.constraints
        try:
            config = self.space.machine(number)
        except ConfigError:
            return PricedMachine(None, None, np.nan, (1.0, 0.0))
        slow = len(timing_warnings(config)) if limits.sram_timing else 0
        area = float(area_mm2(config, self.area_tables).total[NOMINAL])
        limit = np.inf if limits.area_mm2 is None else limits.area_mm2
        excess = max(0.0, area / limit - 1)
        return PricedMachine(config, cost_table(config, self.tables), area, (float(slow), excess))

    # -- Costs -------------------------------------------------------------------------------------

    def costs(self, genes: Genes, progress: Callable[[int, int], None] | None = None) -> Costs:
        """What candidates [n, genes] cost; fills the tables with what they touch first.

        `progress` is called with the groups priced and those to price.
        """
        numbers = self.space.machine_numbers(genes)
        order = np.argsort(numbers, kind="stable")
        distinct, starts = np.unique(numbers[order], return_index=True)
        groups = dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))
        usable = {n: rows for n, rows in groups.items() if not any(self.machine(n).violation)}
        layers = self._layer_columns(genes)
        self._fill({n: layers[:, rows] for n, rows in usable.items()}, progress)
        costs = self._empty(len(genes))
        for number, rows in groups.items():
            machine = self.machine(number)
            costs.area_mm2[rows] = machine.area_mm2
            costs.violation[rows, :2] = machine.violation
        for number, rows in usable.items():
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                self._price_chunk(costs, self.machine(number), number, chunk, layers[:, chunk])
        return costs

    def events(self, genes: Genes) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] of candidates that are feasible."""
        layers = self._layer_columns(genes)
        numbers = self.space.machine_numbers(genes)
        total = np.empty((len(genes), COLUMNS), dtype=np.int64)
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            self._fill({number: layers[:, rows]}, None)
            total[rows] = self._layers[number].total(layers[:, rows]).T
        return total[:, 0], total[:, 1:]

    def _empty(self, n: int) -> Costs:
        def column() -> Floats:
            return np.full(n, np.nan)

        zeros = np.zeros((n, 3))
        return Costs(np.zeros(n, np.int64), column(), column(), column(), column(), column(), zeros)

    def _price_chunk(
        self, costs: Costs, machine: PricedMachine, number: int, rows: Ints, layers: Places
    ) -> None:
        assert machine.config is not None and machine.table is not None
        total = self._layers[number].total(layers)
        cycles = total[0]
        misfit = cycles < 0
        energy = energy_bound_j(machine.table, total[1:].T, cycles, NOMINAL)
        with np.errstate(divide="ignore", invalid="ignore"):
            seconds = cycles / machine.config.clock_hz
            power = energy / seconds
            limit = self.space.constraints.power_w
            excess = np.zeros(len(rows)) if limit is None else np.maximum(power / limit - 1, 0)
        costs.cycles[rows] = np.where(misfit, 0, cycles)
        columns = ((costs.latency_s, seconds), (costs.energy_j, energy), (costs.power_w, power),
                   (costs.edp_js, energy * seconds))  # fmt: skip
        for column, values in columns:
            column[rows] = np.where(misfit, np.nan, values)
        costs.violation[rows, 0] = misfit
        costs.violation[rows, 2] = np.where(misfit, 0, excess)

    # -- Layers ------------------------------------------------------------------------------------

    def _layer_columns(self, genes: Genes) -> Places:
        """The layer of each position [most_layers, n]: its place in the rows of its machine.

        Where a candidate has no such layer the place is that of the empty row, the last.
        """
        space, width = self.space, self._width
        layered = [np.ascontiguousarray(genes[:, at].T) for at in space.layer_columns]
        sizes = [len(values) for _, values in space.transformer.of_layer]
        steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        start = self._network_numbers(genes) * np.int32(2 * width)
        depth = space.depth(genes).astype(np.int32)
        places: Places = np.empty((space.most_layers, len(genes)), dtype=np.int32)
        for position, place in enumerate(places):
            place[:] = start
            for axis, step in zip(layered, steps, strict=True):
                place += axis[position] if step == 1 else axis[position] * np.int32(step)
            place += np.where(depth == position + 1, TAIL * width, INNER * width).astype(np.int32)
            place[depth <= position] = self._empty_row
        return places

    def _network_numbers(self, genes: Genes) -> Places:
        """Which values of their own the networks of candidates have [n]: a number in their grid."""
        number = np.zeros(len(genes), dtype=np.int32)
        for name, values in self.space.transformer.of_network:
            number *= np.int32(len(values))
            number += genes[:, self.space.columns[name]][:, 0]
        return number

    @cached_property
    def _width(self) -> int:
        """Layers that differ, in networks with the same values of their own."""
        return math.prod(len(values) for _, values in self.space.transformer.of_layer)

    @cached_property
    def _empty_row(self) -> int:
        own = math.prod(len(values) for _, values in self.space.transformer.of_network)
        return own * 2 * self._width

    def _blocks(self, network: int, machine: PricedMachine) -> Blocks:
        assert machine.config is not None
        own = self.space.transformer.of_network
        at = np.unravel_index(network, [len(values) for _, values in own]) if own else ()
        values = tuple(values[int(i)] for (_, values), i in zip(own, at, strict=True))
        return blocks(self.space.transformer, values, machine.config)

    def _fill(
        self, touched: dict[int, Places], progress: Callable[[int, int], None] | None
    ) -> None:
        """Fill the rows of the layers that candidates of each machine touch."""
        missing = []
        for number, layers in touched.items():
            rows = self._layers.setdefault(number, _LayerRows(self._empty_row))
            touched_rows = np.zeros_like(rows.known)
            touched_rows[layers] = True
            new = np.flatnonzero(touched_rows & ~rows.known)
            if len(new):
                missing.append((number, new))
        if not missing:
            return
        self._price_missing(missing, progress)
        for number, new in missing:
            self._compose(number, new)

    def _by_network(self, places: Ints) -> dict[int, Ints]:
        """Places of layers in the rows of a machine, as places in the blocks of their networks."""
        owner = places // (2 * self._width)
        return {int(n): places[owner == n] - n * 2 * self._width for n in np.unique(owner)}

    def _groups(self, number: int, places: Ints) -> dict[bytes, GroupShape]:
        """The groups that layers of a machine consist of, by the names of their prices."""
        machine = self.machine(number)
        assert machine.config is not None and machine.table is not None
        digest = machine_digest(machine.config, self.objective, machine.table)
        found = {}
        for network, layers in self._by_network(places).items():
            parts = self._blocks(network, machine)
            counts = parts.counts.reshape(-1, len(parts.shapes))[layers]
            for i in np.flatnonzero(counts.any(axis=0)):
                found[price_key(digest, parts.shapes[i])] = parts.shapes[i]
        return found

    def _price_missing(
        self, missing: list[tuple[int, Ints]], progress: Callable[[int, int], None] | None
    ) -> None:
        tasks, names = [], []
        for number, new in missing:
            groups = self._groups(number, new)
            unknown = [key for key in groups if key not in self.store.place]
            config = self.machine(number).config
            assert config is not None
            for start in range(0, len(unknown), SHAPES_A_TASK):
                keys = unknown[start : start + SHAPES_A_TASK]
                shapes = tuple(groups[key] for key in keys)
                tasks.append(PriceTask(config, self.objective, self.tables, shapes))
                names.append(keys)
        done, total = 0, sum(map(len, names))
        for place, rows in self.pool.price(tasks) if tasks else ():
            self.store.add(names[place], rows)
            done += len(names[place])
            self.priced += len(names[place])
            if progress is not None:
                progress(done, total)

    def _compose(self, number: int, places: Ints) -> None:
        """Add up the groups of layers."""
        machine = self.machine(number)
        assert machine.config is not None and machine.table is not None
        digest = machine_digest(machine.config, self.objective, machine.table)
        rows = self._layers[number]
        for network, layers in self._by_network(places).items():
            parts = self._blocks(network, machine)
            counts = parts.counts.reshape(-1, len(parts.shapes))[layers]
            used = np.flatnonzero(counts.any(axis=0))
            prices = self.store.get([price_key(digest, parts.shapes[i]) for i in used])
            fits_nowhere = counts[:, used] @ (prices[:, 0] < 0) > 0
            rows.set(layers + network * 2 * self._width, counts[:, used] @ prices, fits_nowhere)

    def require_fit(self, number: int) -> HardwareConfig:
        """The machine of a number; raises MappingError where none can be built."""
        config = self.machine(number).config
        if config is None:
            raise MappingError(f"machine {number} of the space cannot be built")
        return config


class _LayerRows:
    """Cycles and events [layers + 1, COLUMNS] of the layers of one machine, filled as needed."""

    def __init__(self, layers: int) -> None:
        self.place = np.zeros(layers + 1, dtype=np.int32)
        self.known = np.zeros(layers + 1, dtype=np.bool_)
        self.known[layers] = True  # no layer: nothing
        self.fits_nowhere = np.zeros(layers + 1, dtype=np.bool_)
        self.rows: Ints = np.zeros((1, COLUMNS), dtype=np.int64)

    def set(self, layers: Ints, values: Ints, fits_nowhere: Bools) -> None:
        """Take the costs of layers, and which of them have a group that fits nowhere."""
        self.place[layers] = len(self.rows) + np.arange(len(layers))
        self.rows = np.concatenate([self.rows, values])
        self.known[layers] = True
        self.fits_nowhere[layers] = fits_nowhere

    def total(self, layers: Places) -> Ints:
        """Sums [COLUMNS, n] over the layers [positions, n] of candidates; NOWHERE cycles where one
        of them fits nowhere.
        """
        places = self.place[layers]
        total = np.take(self.rows, places[0], axis=0)
        part = np.empty_like(total)
        for position in places[1:]:
            np.take(self.rows, position, axis=0, out=part)
            total += part
        total[self.fits_nowhere[layers].any(axis=0), 0] = NOWHERE
        return np.ascontiguousarray(total.T)
