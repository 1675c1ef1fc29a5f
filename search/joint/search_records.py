"""The records of a search's run: what a row of each of its tables is, written and read as this alone.

A table is named by its stem: STEM.parquet, with STEM.csv beside it. An objective that is no field of
a record here has a column all the same: `front_point_type` and its like add one for each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, make_dataclass
from functools import cache
from typing import TypeVar

from codesign.search.joint.objectives import COSTS

FRONT, SPENDING, HEATMAP, ROBUSTNESS = "front", "spending", "heatmap", "robustness"
GENERATIONS, VERIFICATION, TWO_STAGE = "generations", "verification", "two_stage"
EVALUATED_FILE, BASELINE_FILE, TWO_STAGE_FILE = (
    "evaluated.parquet",
    "baseline.json",
    "two_stage.json",
)
SPACE_FILE, REPORT_FILE = "space.toml", "report.html"
ENERGIES = ("low", "nominal", "high")  # the tables that points are ranked under
HEAT_AXES = ("dim", "scratchpad_bytes", "accumulator_bytes", "bus_bytes")

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class FrontPoint:
    """One Transformer on one machine."""

    point: int
    layers: int
    d_model: int
    heads: str
    d_ff: str
    perplexity: float
    perplexity_is_proxy: bool
    model: str
    hardware: str
    dim: int
    scratchpad_bytes: int
    accumulator_bytes: int
    scratchpad_banks: int
    accumulator_banks: int
    bus_bytes: int
    dram_latency_cycles: int
    clock_hz: int
    technology_nm: int
    cycles: int
    latency_s: float
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    edp_js: float
    edp_low_js: float
    edp_high_js: float
    area_mm2: float
    utilization: float
    macs: int
    dram_bytes: int
    power_w: float
    parameters: int


def each(column: str) -> list[int]:
    """The values of a column that has one a layer, with commas."""
    return list(map(int, column.split(",")))


@dataclass(frozen=True)
class Spending:
    """What one kind of kernel of a point takes; energy is nominal, by component."""

    point: int
    kind: str
    component: str
    cycles: int
    energy_j: float


@dataclass(frozen=True)
class HeatCell:
    """A winner's Transformer on another machine; costs are None where it does not fit."""

    winner: str
    point: int
    dim: int
    scratchpad_bytes: int
    accumulator_bytes: int
    bus_bytes: int
    cycles: int | None
    latency_s: float | None
    energy_j: float | None
    edp_js: float | None
    area_mm2: float | None


@dataclass(frozen=True)
class Rank:
    """A point's place by EDP under one energy table, 1 the least, and whether it is dominated there."""

    point: int
    table: str
    energy_j: float
    edp_js: float
    rank: int
    on_front: bool


@dataclass(frozen=True)
class Improvement:
    """The least EDP within a loss of perplexity, and how many times less than the baseline's it is."""

    loss: float
    edp_js: float | None
    improvement: float | None
    published: float | None


@dataclass(frozen=True)
class Baseline:
    """The largest Transformer of the space on a preset machine."""

    model: str
    hardware: str
    perplexity: float
    perplexity_is_proxy: bool
    cycles: int
    latency_s: float
    energy_j: float
    edp_js: float
    area_mm2: float
    improvements: tuple[Improvement, ...]


@dataclass(frozen=True)
class Generation:
    """What is counted of each generation; its table has the best of every objective beside it."""

    generation: int
    evaluations: int
    feasible: int
    front_size: int
    hypervolume: float


@dataclass(frozen=True)
class StrategyPoint:
    """A point of a front that two-stage search is compared by; its objectives stand beside it."""

    strategy: str
    model: str
    hardware: str


@dataclass(frozen=True)
class PointCheck:
    """What came of one point; counts are summed over its kernels, as often as they run."""

    point: int
    model: str
    hardware: str
    kernels: int
    distinct_kernels: int
    instructions: int
    cycles: int  # as the search found it
    rtl_cycles: int | None  # the RTL's and the host's; None where a kernel did not end
    host_cycles: int  # of them
    times_differing: int
    bytes_differing: int
    counts_differing: int
    verified: bool
    difference: str


def front_point_type() -> type[FrontPoint]:
    """A point of a front, with a column for every objective."""
    return _with_columns(FrontPoint, _missing(FrontPoint, COSTS))


def heat_cell_type() -> type[HeatCell]:
    """A cell of a heat map, with a column for every objective that is mapped."""
    return _with_columns(HeatCell, _missing(HeatCell, _mapped()))


def baseline_type() -> type[Baseline]:
    """A baseline, with a value for every objective that is mapped."""
    return _with_columns(Baseline, _missing(Baseline, _mapped()))


def _mapped() -> list[str]:
    return [column for column, cost in COSTS.items() if cost.mapped]


def _missing(kind: type, columns: Iterable[str]) -> tuple[str, ...]:
    known = {field.name for field in fields(kind)}
    return tuple(column for column in columns if column not in known)


@cache
def _with_columns(kind: type[Kind], columns: tuple[str, ...]) -> type[Kind]:
    """`kind` with columns of numbers that a run may lack: an objective is younger than some runs."""
    if not columns:
        return kind
    more = [(name, float | None, None) for name in columns]
    made: type[Kind] = make_dataclass(
        kind.__name__, more, bases=(kind,), frozen=True, namespace={"__module__": __name__}
    )
    return made
