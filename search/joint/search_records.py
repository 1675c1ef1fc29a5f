"""The records of a search's run: what a row of each of its tables is, written and read as this alone.

A table is named by its stem: STEM.parquet, with STEM.csv beside it. An objective that is no field of
a record here has a column all the same: `front_point_type` and its like add one for each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, make_dataclass
from functools import cache
from typing import Any, ClassVar

from codesign.models.zoo.axes import Axis
from codesign.models.zoo.families import SEARCHED
from codesign.search.joint.objectives import COSTS
from codesign.search.space import networks

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


@dataclass(frozen=True)
class _Numbered:
    """A point of a front."""

    point: int


@dataclass(frozen=True)
class FrontPoint(_Numbered):
    """One network on one machine. Behind its number stand the values on the axes of its family."""

    axes: ClassVar[tuple[Axis, ...]] = ()

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

    def on(self, axis: Axis) -> list[int]:
        """The network's value on an axis, or on a layer axis its values, one a layer."""
        column = getattr(self, axis.name)
        return list(map(int, column.split(","))) if axis.scope == "layer" else [column]


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
class EnergyRank:
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


def front_point_type(family: str = networks.DEFAULT_FAMILY) -> type[FrontPoint]:
    """A point of a front of a family, with a column for each of its axes and for every objective.

    On a layer axis a column holds the values of all layers with commas between.
    """
    kind: Any = _of_family(SEARCHED[family].axes())
    made: type[FrontPoint] = _with_columns(kind, _missing(kind, COSTS))
    return made


@cache
def _of_family(axes: tuple[Axis, ...]) -> type[FrontPoint]:
    columns = [(axis.name, str if axis.scope == "layer" else int) for axis in axes]
    valued = make_dataclass(
        "Valued", columns, bases=(_Numbered,), frozen=True, namespace={"__module__": __name__}
    )
    made: type[FrontPoint] = make_dataclass(
        FrontPoint.__name__,
        [],
        bases=(FrontPoint, valued),
        frozen=True,
        namespace={"__module__": __name__, "axes": axes},
    )
    return made


def heat_cell_type() -> type[HeatCell]:
    """A cell of a heat map, with a column for every objective that is mapped."""
    made: type[HeatCell] = _with_columns(HeatCell, _missing(HeatCell, _mapped()))
    return made


def baseline_type() -> type[Baseline]:
    """A baseline, with a value for every objective that is mapped."""
    made: type[Baseline] = _with_columns(Baseline, _missing(Baseline, _mapped()))
    return made


def _mapped() -> list[str]:
    return [column for column, cost in COSTS.items() if cost.mapped]


def _missing(kind: type, columns: Iterable[str]) -> tuple[str, ...]:
    known = {field.name for field in fields(kind)}
    return tuple(column for column in columns if column not in known)


@cache
def _with_columns(kind: Any, columns: tuple[str, ...]) -> Any:
    """`kind` with columns of numbers that a run may lack: an objective is younger than some runs."""
    if not columns:
        return kind
    more = [(name, float | None, None) for name in columns]
    return make_dataclass(
        kind.__name__, more, bases=(kind,), frozen=True, namespace={"__module__": __name__}
    )
