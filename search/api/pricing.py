"""The Python interface: a model priced on one machine, or on every machine of a grid."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.inputs import Named, area_costs, energy_costs, given_model, size_of
from codesign.search.inputs import grid
from codesign.search.inputs.sources import Model
from codesign.search.pricing import breakdown
from codesign.search.pricing import sweep as sweeping
from codesign.search.pricing.breakdown import KernelRow
from codesign.search.pricing.evaluate import Result, evaluate
from codesign.search.pricing.sweep import Row, SweepJob
from codesign.search.runs.output import arrow_table


def price(
    model: Model | Named,
    config: HardwareConfig,
    *,
    objective: str = "edp",
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
) -> Result:
    """Map one inference of a model onto a machine and price it, kernel by kernel.

    Kernels are mapped for `objective`: "cycles", "energy" or "edp". Energies, EDP and areas of the
    result are arrays of low, nominal and high, in J, J s and mm2. A decoder's has its time to first token,
    and of a step its tokens a second and joules a token. Raises MappingError or TableError.
    """
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    given = given_model(model)
    return evaluate(given.graph, config, objective, tables, areas, given.decoder)


def kernels(result: Result) -> list[KernelRow]:
    """What each kernel of a priced network takes, a row each, in order."""
    return breakdown.kernels(result)


def sweep(
    model: Model | Named,
    base: HardwareConfig,
    axes: Mapping[str, Iterable[int | str]],
    *,
    objective: str = "edp",
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
    workers: int = 1,
    done: Iterable[Row] = (),
    keep: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Price a model on every machine of a grid: a row each, in order, the last axis fastest.

    `axes` are fields of `HardwareConfig` with their values. A machine that cannot be, or cannot run
    the model, is a row whose `infeasible` says why; `table` takes rows. More than one of `workers`
    are processes. Rows that are `done` are not made again; `keep` gets the others as they are made. Raises
    ConfigError for a grid that is too large.
    """
    values = {name: tuple(map(size_of, chosen)) for name, chosen in axes.items()}
    unknown = [name for name in values if name not in sweeping.MACHINE_FIELDS]
    if unknown:
        known = ", ".join(sweeping.MACHINE_FIELDS)
        raise ConfigError([f"a machine has no axis {unknown[0]!r}: choose {known}"])
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    given = given_model(model)
    job = SweepJob(given.graph, objective, tables, areas, given.decoder)
    rows = {row.index: row for row in done}

    def take(row: Row) -> None:
        rows[row.index] = row
        if keep is not None:
            keep(row)

    todo = [point for point in grid.points(base, values) if point.index not in rows]
    sweeping.sweep(job, todo, base, workers, take)
    return [rows[index] for index in sorted(rows)]


def table(records: Sequence[Any]) -> Any:
    """Rows of one kind (of a sweep, of kernels, of a front, of checks) as a pyarrow.Table.

    Columns have the names and units of the command line's files; `.to_pandas()` makes it a frame.
    Raises ValueError for no rows, whose columns nobody knows.
    """
    if not records:
        raise ValueError("a table of no rows has no columns")
    return arrow_table(records)
