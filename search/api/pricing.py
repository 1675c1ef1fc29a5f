"""The Python interface: a model priced on one machine, or on every machine of a grid."""

from collections.abc import Callable, Iterable, Mapping
from typing import SupportsIndex

from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES
from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.arguments import (
    ArgumentError,
    Named,
    choice,
    collected,
    named,
    of_kind,
    refused,
)
from codesign.search.api.inputs import area_costs, axis, energy_costs, given_machine, given_model
from codesign.search.api.workers import lost_workers, worker_count
from codesign.search.inputs import grid
from codesign.search.inputs.sources import Model
from codesign.search.pricing import breakdown
from codesign.search.pricing import sweep as sweeping
from codesign.search.pricing.breakdown import KernelRow
from codesign.search.pricing.evaluate import Result, evaluate
from codesign.search.pricing.sweep import Row, SweepJob


def price(
    model: Model | Named,
    config: HardwareConfig | Named,
    *,
    objective: str = "edp",
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
) -> Result:
    """Map one inference of a model onto a machine and price it, kernel by kernel.

    Kernels are mapped for `objective`: "cycles", "energy" or "edp". Energies, EDP and areas of the
    result are arrays of low, nominal and high, in J, J s and mm2. A decoder's has its time to first token,
    and of a step its tokens a second and joules a token. Raises MappingError, TableError or
    ArgumentError.
    """
    choice("objective", objective, MAPPING_OBJECTIVES)
    given, machine = given_model(model), given_machine("config", config)
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    return evaluate(given.graph, machine, objective, tables, areas, given.decoder)


def kernels(result: Result) -> list[KernelRow]:
    """What each kernel of a priced network takes, a row each, in order."""
    return breakdown.kernels(of_kind("result", result, Result, "a Result, as `price` gives it"))


def sweep(
    model: Model | Named,
    base: HardwareConfig | Named,
    axes: Mapping[str, SupportsIndex | str | Iterable[SupportsIndex | str]],
    *,
    objective: str = "edp",
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
    workers: SupportsIndex = 1,
    done: Iterable[Row] = (),
    keep: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Price a model on every machine of a grid: a row each, in order, the last axis fastest.

    `axes` are fields of `HardwareConfig` with one value or several, in text as on the command line:
    `{"dim": [8, 16], "scratchpad_bytes": "16K:64K:x2"}`. A machine that cannot be, or cannot run
    the model, is a row whose `infeasible` says why; `table` takes rows. More than one of `workers`
    are processes; a script that asks for them does so under `if __name__ == "__main__":`. Rows that
    are `done` are not made again; `keep` gets the others as they are made. Raises ConfigError for a
    grid that is too large, or ArgumentError.
    """
    choice("objective", objective, MAPPING_OBJECTIVES)
    processes = worker_count(workers)
    if keep is not None and not callable(keep):
        raise refused("keep", keep, "a function of a row, or None")
    asked = named("axes", axes, "fields of a machine with their values")
    unknown = [name for name in asked if name not in sweeping.MACHINE_FIELDS]
    if unknown:
        known = ", ".join(sweeping.MACHINE_FIELDS)
        raise ArgumentError(f"axes: a machine has no {unknown[0]!r}: choose {known}")
    values = {name: axis(name, chosen) for name, chosen in asked.items()}
    given, machine = given_model(model), given_machine("base", base)
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    job = SweepJob(given.graph, objective, tables, areas, given.decoder)
    known_rows = collected("done", done, "rows of a sweep")
    rows = {of_kind("done", row, Row, "rows of a sweep").index: row for row in known_rows}
    points = list(grid.points(machine, values))
    for row in rows.values():
        if row.index >= len(points) or not job.describes(row, points[row.index], machine):
            raise ArgumentError(
                f"done has row {row.index}, {row.model} on {row.hardware}, which is of another sweep: "
                "give rows of this model and grid, or none"
            )

    def take(row: Row) -> None:
        rows[row.index] = row
        if keep is not None:
            keep(row)

    todo = [point for point in points if point.index not in rows]
    with lost_workers():
        sweeping.sweep(job, todo, machine, processes, take)
    return [rows[index] for index in sorted(rows)]
