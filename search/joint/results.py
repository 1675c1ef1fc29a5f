"""What a joint search leaves behind: the points of its front in full, and the files of its run.

Every point of the front is compiled and priced once more by `evaluate`, kernel by kernel; bulk and
full evaluation must agree exactly, or the run stops with an error.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.costs.energy import breakdown
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.models.zoo.axes import NetworkShape
from codesign.models.zoo.weights import parameter_count
from codesign.search.joint.blocks import graph
from codesign.search.joint.front import non_dominated, thinned
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.objectives import COSTS, OBJECTIVES, Objective, costs_of
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.published import PUBLISHED, PUBLISHED_FAMILY, PUBLISHED_SOURCE
from codesign.search.joint.search_records import (
    ENERGIES,
    HEAT_AXES,
    Baseline,
    EnergyRank,
    FrontPoint,
    HeatCell,
    Improvement,
    Spending,
    baseline_type,
    front_point_type,
    heat_cell_type,
)
from codesign.search.joint.search_state import LOSSES, SearchProgress
from codesign.search.joint.winners import winners
from codesign.search.pricing.evaluate import KernelResult, Result, cost_columns, evaluate
from codesign.search.pricing.sweep import MACHINE_FIELDS
from codesign.search.space.quality import Quality
from codesign.search.space.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

BASELINE_MACHINE = "ibert"
HEAT_SHARE = 10  # of the heat map: machines priced, at most one for so many candidates evaluated


class Mismatch(CodesignError):
    """Bulk and full evaluation of a candidate differ: a bug of ours."""

    exit_code = 1


@dataclass(frozen=True)
class Results:
    """A search's front, thinned, with everything that the report shows of it."""

    front: list[FrontPoint]
    stands_for: int  # points before thinning
    genes: Genes
    spending: list[Spending]
    heatmap: list[HeatCell]
    robustness: list[EnergyRank]
    baseline: Baseline


def collect(
    problem: SearchProblem,
    done: SearchProgress,
    most: int,
    pricing: Callable[[int, int], None] = lambda done, total: None,
) -> Results:
    """Price the points of a front in full. Raises Mismatch where bulk evaluation differs."""
    chosen = thinned(done.archive.objectives, most)
    genes = done.archive.genes[chosen]
    perplexity = problem.quality.perplexity(problem.space, genes)
    order = np.lexsort((done.archive.objectives[chosen][:, 0], perplexity))
    genes, perplexity = genes[order], perplexity[order]
    full = [_full(problem, row) for row in genes]
    space, is_proxy = problem.space, problem.quality.is_proxy
    names = space.transformer.kind.kernel_names()
    front = [
        front_point(space, space.shape(row), number, float(p), is_proxy, result)
        for number, (row, p, result) in enumerate(zip(genes, perplexity, full, strict=True))
    ]
    return Results(
        front,
        len(done.archive.genes),
        genes,
        [entry for number, result in enumerate(full) for entry in _spending(number, result, names)],
        list(_heatmap(problem, genes, front, done.evaluated // HEAT_SHARE, pricing)),
        _robustness(front, problem.minimize),
        _baseline(problem, done),
    )


def evaluated_table(problem: SearchProblem, genes: Genes) -> Any:
    """Every candidate that was evaluated: its genes' values, objectives and whether it is feasible."""
    import pyarrow as pa

    space = problem.space
    costs = problem.tables.costs(genes)
    columns: dict[str, Any] = {
        name: np.array(values, dtype=np.int64)[genes[:, k]]
        for k, (name, values) in enumerate(space.axes)
    }
    for axis in space.transformer.axes:
        found = space.values(axis.name, genes)
        if axis.scope == "layer":
            for layer in range(space.most_layers):
                columns[f"{axis.name}_{layer}"] = found[:, layer].astype(np.int32)
        else:
            columns[axis.name] = found.astype(np.int16 if axis.scope == "depth" else np.int32)
    columns["perplexity"] = problem.quality.perplexity(space, genes)
    for name in ("cycles", "latency_s", "energy_j", "edp_js", "power_w", "area_mm2"):
        columns[name] = getattr(costs, name)
    priced = costs_of(costs.energy_j, costs.latency_s, costs.area_mm2)
    columns |= {name: values for name, values in priced.items() if name not in columns}
    columns["feasible"] = costs.feasible
    return pa.table(columns)


def _full(problem: SearchProblem, genes: Any) -> Result:
    """Compile and price one candidate; it must cost what bulk evaluation says."""
    space, tables = problem.space, problem.tables
    number = int(space.machine_numbers(genes[None])[0])
    config = tables.require_fit(number)
    network = graph(space.transformer, space.shape(genes))
    result = evaluate(network, config, tables.objective, tables.tables, tables.area_tables)
    bulk = tables.costs(genes[None])
    cycles, events = tables.events(genes[None])
    same = (
        result.cycles == cycles[0]
        and np.array_equal(result.events, events[0])
        and result.energy_j[1] == bulk.energy_j[0]
        and result.edp_js[1] == bulk.edp_js[0]
    )
    if not same:
        raise Mismatch(
            f"{space.transformer.name(space.shape(genes))} on {config.name} takes {result.cycles:,} cycles "
            f"compiled and {cycles[0]:,} in bulk: this is a bug in codesign, report the command"
        )
    return result


def front_point(
    space: SearchSpace,
    shape: NetworkShape,
    number: int,
    perplexity: float,
    is_proxy: bool,
    result: Result,
) -> FrontPoint:
    """The row of a front that a Transformer of the space has by its `result` on a machine."""
    config = result.config
    shown: dict[str, Any] = {name: told(value) for name, value in shape.values}
    costs = cost_columns(result)
    priced = costs_of(costs["energy_j"], costs["latency_s"], costs["area_mm2"])
    return front_point_type(space.transformer.family)(
        point=number,
        **shown,
        perplexity=perplexity,
        perplexity_is_proxy=is_proxy,
        model=space.transformer.name(shape),
        hardware=config.name,
        **{name: getattr(config, name) for name in MACHINE_FIELDS},
        **{**priced, **costs},
        parameters=parameter_count(space.network(shape)),
    )


def told(value: int | tuple[int, ...]) -> int | str:
    """A value on an axis as a column holds it: of a layer axis one a layer, with commas."""
    return value if isinstance(value, int) else ",".join(map(str, value))


# -- What a point spends -----------------------------------------------------------------------------


def _spending(number: int, result: Result, names: Mapping[str, str]) -> Iterator[Spending]:
    kinds = [kernel_kind(kernel, names) for kernel in result.kernels]
    for kind in dict.fromkeys(kinds):
        kernels = [one for one, its in zip(result.kernels, kinds, strict=True) if its == kind]
        cycles = sum(kernel.cycles for kernel in kernels)
        events = np.sum([kernel.events for kernel in kernels], axis=0)
        for component, joules in breakdown(result.table, events, cycles).items():
            yield Spending(number, kind, component, cycles, float(joules[1]))


def kernel_kind(kernel: KernelResult, names: Mapping[str, str]) -> str:
    """What part of a network a kernel computes, by the `names` of its family (`kernel_names`)."""
    if kernel.kind == "host":
        return "host"
    name = re.sub(r"^layer\d+\.", "", kernel.name)
    for prefix, kind in names.items():
        if name.startswith(prefix):
            return kind
    kinds = {"layernorm": "norm", "softmax": "attention"}
    return kinds.get(kernel.kind, kernel.kind)


# -- Other machines for the winners ------------------------------------------------------------------


def _heatmap(
    problem: SearchProblem,
    genes: Genes,
    front: Sequence[FrontPoint],
    most: int,
    pricing: Callable[[int, int], None],
) -> Iterator[HeatCell]:
    """Each winner over dim x scratchpad x accumulator at its bus, and over dim x bus at its memories.

    Of more than `most` machines those nearest to the winners' own are taken, by steps along the axes;
    the winners' own always are. Constraints do not hide a machine here: only what does not fit is
    left out.
    """
    space = problem.space
    axes = dict(space.axes)
    places = [[name for name, _ in space.axes].index(a) if a in axes else None for a in HEAT_AXES]
    free = SearchSpace(
        space.transformer, space.base, space.axes, replace(space.constraints, area_mm2=None,
                                                           power_w=None, sram_timing=False)
    )  # fmt: skip
    tables = NetworkTables(free, problem.tables.objective, problem.tables.tables,
                           problem.tables.area_tables, problem.tables.store, problem.tables.pool)  # fmt: skip
    cells: dict[tuple[str, int, bytes], Any] = {}
    for winner, point in winners(front).items():
        for varied in ((0, 1, 2), (0, 3)):
            for row in _variants(space, genes[point], [places[k] for k in varied]):
                cells[winner, point, row.tobytes()] = row
    steps = np.array(
        [np.abs(row.astype(int) - genes[at]).sum() for (_, at, _), row in cells.items()]
    )
    taken = max(most, int(np.count_nonzero(steps == 0)))
    near = set(np.argsort(steps, kind="stable")[:taken].tolist())
    cells = {key: row for k, (key, row) in enumerate(cells.items()) if k in near}
    rows = np.stack(list(cells.values()))
    costs = tables.costs(rows, pricing)
    priced = costs_of(costs.energy_j, costs.latency_s, costs.area_mm2)
    mapped = {name: values for name, values in priced.items() if COSTS[name].mapped}
    for (winner, point, _), row, at in zip(cells, rows, range(len(rows)), strict=True):
        machine = tables.machine(int(space.machine_numbers(row[None])[0]))
        fits = bool(costs.feasible[at])
        sizes = {
            name: axes[name][row[place]] if place is not None else getattr(space.base, name)
            for name, place in zip(HEAT_AXES, places, strict=True)
        }
        known: dict[str, Any] = {
            name: float(values[at]) if fits else None for name, values in mapped.items()
        }
        known["area_mm2"] = None if machine.config is None else machine.area_mm2
        cycles = int(costs.cycles[at]) if fits else None
        yield heat_cell_type()(winner=winner, point=point, **sizes, cycles=cycles, **known)


def _variants(space: SearchSpace, genes: Any, places: Sequence[int | None]) -> Iterator[Any]:
    """A candidate with every combination of the genes at `places`."""
    varied = [place for place in places if place is not None]
    for values in product(*(range(int(space.cardinalities[place])) for place in varied)):
        row = genes.copy()
        row[varied] = values
        yield row


# -- Robustness and baseline -------------------------------------------------------------------------


def _robustness(front: Sequence[FrontPoint], minimize: Sequence[str]) -> list[EnergyRank]:
    """The ranking of the points by EDP under each energy table, and who stays on the front."""
    ranks = []
    for table in ENERGIES:
        suffix = "" if table == "nominal" else f"_{table}"
        energy = [getattr(p, f"energy{suffix}_j") for p in front]
        edp = [getattr(p, f"edp{suffix}_js") for p in front]
        columns = [_under(OBJECTIVES[name], front, energy) for name in minimize]
        stays = non_dominated(np.array(columns, dtype=np.float64).T)
        place = np.empty(len(front), dtype=int)
        place[np.argsort(edp, kind="stable")] = np.arange(1, len(front) + 1)
        ranks += [
            EnergyRank(p.point, table, energy[k], edp[k], int(place[k]), bool(stays[k]))
            for k, p in enumerate(front)
        ]
    return ranks


def _under(
    objective: Objective, front: Sequence[FrontPoint], energy_j: Sequence[float]
) -> list[float]:
    """An objective of every point, with the energies of another table."""
    priced = (replace(p, energy_j=joules) for p, joules in zip(front, energy_j, strict=True))
    return [objective.of(point) for point in priced]


def _baseline(problem: SearchProblem, done: SearchProgress) -> Baseline:
    space, tables = problem.space, problem.tables
    shape = space.largest
    config: HardwareConfig = preset(BASELINE_MACHINE)
    result = evaluate(
        graph(space.transformer, shape), config, tables.objective, tables.tables, tables.area_tables
    )
    perplexity = float(problem.quality.perplexity(space, space.corners()[1:])[0])
    edp = float(result.edp_js[1])
    like = space.transformer.family == PUBLISHED_FAMILY
    improvements = []
    for loss, best in zip(LOSSES, done.best_edp, strict=True):
        found = np.isfinite(best)
        improvements.append(
            Improvement(
                loss,
                best if found else None,
                edp / best if found else None,
                PUBLISHED[loss] if like else None,
            )
        )
    costs = cost_columns(result)
    priced = costs_of(costs["energy_j"], costs["latency_s"], costs["area_mm2"])
    mapped = {name: costs.get(name, value) for name, value in priced.items() if COSTS[name].mapped}
    return baseline_type()(
        model=space.transformer.name(shape),
        hardware=config.name,
        perplexity=perplexity,
        perplexity_is_proxy=problem.quality.is_proxy,
        cycles=result.cycles,
        improvements=tuple(improvements),
        **mapped,
    )


def quality_document(quality: Quality) -> dict[str, Any]:
    """Where perplexities come from, as run.json keeps it."""
    return {
        "source": quality.source,
        "label": quality.label,
        "is_proxy": quality.is_proxy,
        "fingerprint": quality.fingerprint,
    }


def baseline_document(baseline: Baseline) -> dict[str, Any]:
    """The baseline as baseline.json keeps it."""
    return {**asdict(baseline), "published": PUBLISHED_SOURCE}
