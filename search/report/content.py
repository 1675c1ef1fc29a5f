"""What a report says: headline figures, the front and the gain over the baseline, for every format.

Every table and chart names its units; a perplexity that is a proxy is called one wherever it is.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesign.hw.machine.memories import SHOWN, Memory
from codesign.hw.sizes import format_size
from codesign.models.zoo.axes import Axis
from codesign.search.joint.objectives import COSTS, OBJECTIVES
from codesign.search.joint.published import PUBLISHED_SOURCE
from codesign.search.joint.search_records import FrontPoint
from codesign.search.report.data import SearchRun, winners_by_role
from codesign.search.report.strategies import strategy_rows
from codesign.search.terminal.figures import count_text, prefix, significant, times_less

_COSTS = "Cost and use"
# What of a space is said, and how; of a length-one list too.
_SPACE = {
    "hardware": {
        "dim": "mesh side {} PEs", **{memory.size: f"{memory.label} {{}} bytes" for memory in SHOWN},
        "bus_bytes": "bus {} bytes a cycle", "technology_nm": "{} nm",
    },
    "constraints": {
        "area_mm2": "area at most {} mm²", "power_w": "power at most {} W",
        "sram_timing": "memory access {}",
    },
}  # fmt: skip
_SRAM_TIMING = {True: "within a clock period", False: "of any duration"}


@dataclass(frozen=True)
class Metric:
    """An axis: its name, and the unit that a raw value has after it is multiplied by `factor`."""

    label: str
    unit: str
    factor: float
    proxy: bool = False

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class ReportTable:
    """Text in rows; `values` are the numbers that columns are sorted by, where they are.

    `groups` says which columns belong together, a name a column; "" is on its own.
    """

    caption: str
    columns: tuple[tuple[str, str], ...]  # name, unit
    rows: list[list[str]]
    values: list[list[float]] | None = None
    groups: tuple[str, ...] = ()

    @property
    def spans(self) -> list[tuple[str, int]]:
        """Name and number of columns of each group, in order."""
        return [(name, len(list(same))) for name, same in itertools.groupby(self.groups)]


@dataclass(frozen=True)
class _Column:
    """A column of points: its heading, what a point has there, and the number it is sorted by."""

    group: str
    name: str
    unit: str
    text: Callable[[FrontPoint], str]
    order: Callable[[FrontPoint], float]


def metrics(run: SearchRun) -> dict[str, Metric]:
    """Return the axes that the run has, perplexity first, each with one SI prefix."""
    label = run.quality_label
    found = {"perplexity": Metric(label[:1].upper() + label[1:], "", 1.0, run.is_proxy)}
    for key, cost in COSTS.items():
        values = [v for p in run.front if (v := getattr(p, key, None)) is not None]
        if not values:
            continue
        factor, si = prefix(values) if cost.prefixed else (1.0, "")
        found[key] = Metric(cost.label, si + cost.unit, factor)
    return found


def architecture(point: FrontPoint) -> str:
    """Return the network of a point in one line."""
    return ", ".join(axis.phrase.format(_alike(point.on(axis))) for axis in point.axes)


def machine_text(point: FrontPoint) -> str:
    """Return the machine of a point in one line."""
    held = [(m.label, getattr(point, m.size, 0)) for m in SHOWN]
    sizes = [f"{label} {format_size(size)}" for label, size in held if size]
    return f"{point.dim}×{point.dim} mesh, {', '.join(sizes)}, bus {point.bus_bytes} B"


def verified(run: SearchRun) -> dict[int, str]:
    """Return what `codesign verify` found of each point: "yes", "no", or "–" where it was not run."""
    said = {row.point: "yes" if row.verified else "no" for row in run.verification}
    return {p.point: said.get(p.point, "–") for p in run.front}


def verified_text(run: SearchRun) -> str:
    """Return how many points the RTL agrees with, in a sentence; "" where none was run."""
    if not run.verification:
        return ""
    agree = sum(row.verified for row in run.verification)
    return (
        f"{agree} of {len(run.front)} points are RTL-verified: every kernel ran on the RTL and took the "
        "cycles of the search, instruction by instruction, with the same bytes and counts."
    )


def two_stage_table(run: SearchRun) -> ReportTable | None:
    """Return the joint search beside two stages, or None where they were not compared."""
    if not run.two_stage:
        return None

    headers, rows = strategy_rows(run.two_stage)
    return ReportTable("Joint search and two stages", tuple(headers), rows)


def report_front(run: SearchRun, axes: Mapping[str, Metric]) -> ReportTable:
    """Return the front, a point a row, the better quality first.

    Quality and EDP come first, then what was chosen, then the other costs.
    """
    costs = {key: _cost(key, metric) for key, metric in axes.items()}
    first = [_Column("", "point", "", lambda p: str(p.point), lambda p: p.point)]
    first += [costs.pop("perplexity"), costs.pop("edp_js")]
    columns = [*first, *_network_columns(run), *_machine_columns(run)]
    edp = axes["edp_js"]
    columns.append(
        _Column(
            _COSTS, "EDP low–high", edp.unit,
            lambda p: _range(p.edp_low_js, p.edp_high_js, edp), lambda p: p.edp_high_js,
        )
    )  # fmt: skip
    columns += costs.values()
    columns.append(
        _Column(
            _COSTS, "util.", "%",
            lambda p: f"{100 * p.utilization:.1f}", lambda p: p.utilization,
        )
    )  # fmt: skip
    if run.verification:
        checked = verified(run)
        columns.append(
            _Column(
                _COSTS, "RTL", "verified", lambda p: checked[p.point],
                lambda p: float(checked[p.point] == "yes"),
            )
        )  # fmt: skip
    return ReportTable(
        "The Pareto front",
        tuple((c.name, c.unit) for c in columns),
        [[c.text(p) for c in columns] for p in run.front],
        [[float(c.order(p)) for c in columns] for p in run.front],
        tuple(c.group for c in columns),
    )


def _cost(key: str, metric: Metric) -> _Column:
    group = "" if key in ("perplexity", "edp_js") else _COSTS
    return _Column(
        group, metric.label, metric.unit,
        lambda p: scaled(getattr(p, key), metric), lambda p: getattr(p, key) or 0.0,
    )  # fmt: skip


def _network_columns(run: SearchRun) -> list[_Column]:
    def on(axis: Axis) -> _Column:
        unit = "per layer" if axis.scope == "layer" else ""
        return _Column("Transformer", axis.label, unit, lambda p: _alike(p.on(axis)),
                       lambda p: sum(p.on(axis)))  # fmt: skip

    def parameters(point: FrontPoint) -> str:
        return significant(point.parameters / 1e6)

    last = _Column("Transformer", "params", "M", parameters, lambda p: p.parameters)
    return [*map(on, run.network_axes), last]


def _machine_columns(run: SearchRun) -> list[_Column]:
    def size(memory: Memory) -> _Column:
        def of(point: FrontPoint) -> int:
            return int(getattr(point, memory.size, 0))

        return _Column("Machine", memory.label, "bytes", lambda p: format_size(of(p)), of)

    return [
        _Column("Machine", "mesh", "PEs", lambda p: f"{p.dim}×{p.dim}", lambda p: p.dim),
        *(size(m) for m in SHOWN if any(getattr(p, m.size, 0) for p in run.front)),
        _Column("Machine", "bus", "bytes", lambda p: str(p.bus_bytes), lambda p: p.bus_bytes),
    ]


def winners_table(run: SearchRun, axes: Mapping[str, Metric]) -> ReportTable:
    """Return the winners, a role a row: what they cost and what they are."""
    quality, edp = axes["perplexity"], axes["edp_js"]
    rows = [
        [role, str(p.point), scaled(p.perplexity, quality), scaled(p.edp_js, edp),
         architecture(p), machine_text(p)]
        for role, p in winners_by_role(run).items()
    ]  # fmt: skip
    columns = (
        ("winner", ""), ("point", ""), (quality.label, ""), (edp.label, edp.unit),
        ("Transformer", ""), ("machine", ""),
    )  # fmt: skip
    return ReportTable("Winners that the sections below look into", columns, rows)


def headlines(run: SearchRun, axes: Mapping[str, Metric]) -> list[tuple[str, str, str]]:
    """Return the figures at the top: what, how much, and a remark."""
    roles = winners_by_role(run)
    least, best = roles["least EDP"], roles["best quality"]
    edp, quality = axes["edp_js"], axes["perplexity"]
    found = []
    if run.evaluated is not None:
        size = (run.inputs.get("space") or {}).get("size")
        of = f"of {count_text(size)} in the space" if isinstance(size, int) else ""
        found.append(("Candidates evaluated", f"{run.evaluated:,}", of))
    stands = run.generations[-1].get("front_size") if run.generations else None
    chosen = f"chosen from {stands:,} non-dominated" if stands and stands > len(run.front) else ""
    found.append(("Points on the front", f"{len(run.front)}", chosen))
    found.append(
        ("Least EDP", f"{scaled(least.edp_js, edp)} {edp.unit}",
         f"{run.quality_label} {scaled(least.perplexity, quality)}")
    )  # fmt: skip
    found.append(
        (f"Best {run.quality_label}", scaled(best.perplexity, quality),
         f"EDP {scaled(best.edp_js, edp)} {edp.unit}")
    )  # fmt: skip
    return found


def improvements(run: SearchRun, axes: Mapping[str, Metric]) -> ReportTable | None:
    """Return the gain in EDP over the baseline at losses of quality, or None without a baseline.

    The search counts every candidate that it evaluated; the point is empty where the thinned front
    has left the best one out.
    """
    if run.baseline is None:
        return None
    perplexity, start = run.baseline.perplexity, run.baseline.edp_js
    edp, quality = axes["edp_js"], axes["perplexity"]
    rows = []
    like = any(entry.published for entry in run.baseline.improvements)
    for entry in run.baseline.improvements:
        within = [p for p in run.front if p.perplexity <= perplexity + entry.loss]
        best = min(within, key=lambda p: p.edp_js, default=None)
        least = entry.edp_js
        here = best if best is not None and best.edp_js == least else None
        rows.append([
            f"+{entry.loss:g}", times_less(start / least, 2) if least else "none found",
            scaled(least, edp), str(here.point) if here else "–",
            scaled(here.perplexity, quality) if here else "–",
            *([f"{entry.published:g}×" if entry.published else "–"] if like else []),
        ])  # fmt: skip
    columns = (
        (f"{run.quality_label} given up", ""), ("EDP improvement", "times"), ("EDP", edp.unit),
        ("point", ""), (quality.label, ""),
        *([(f"published, {PUBLISHED_SOURCE}", "times")] if like else []),
    )  # fmt: skip
    return ReportTable("EDP improvement over the baseline", columns, rows)


def best_is_left_out(table: ReportTable) -> bool:
    """Return whether an improvement of the table is of a candidate that no point shows."""
    names = [name for name, _ in table.columns]
    point, edp = names.index("point"), names.index("EDP")
    return any(row[point] == "–" != row[edp] for row in table.rows)


def baseline_text(run: SearchRun, axes: Mapping[str, Metric]) -> str:
    """Return one sentence that says what the improvements are measured against; "" without one."""
    base, edp, quality = run.baseline, axes["edp_js"], axes["perplexity"]
    if base is None:
        return ""
    return (
        f"Baseline: {base.model} on the machine {base.hardware}, {run.quality_label} "
        f"{scaled(base.perplexity, quality)}, EDP {scaled(base.edp_js, edp)} {edp.unit}."
    )


def start_axes(run: SearchRun, axes: Mapping[str, Metric]) -> list[str]:
    """Return the axes that the front is first drawn over: the first two objectives of the search."""
    chosen = _minimised(run)
    known = [key for key in chosen if key in axes]
    return (known + [key for key in axes if key not in known])[:2]


def objectives_text(run: SearchRun, axes: Mapping[str, Metric]) -> str:
    """Return what was minimised, in words."""
    names = [run.quality_label if key == "perplexity" else words(key) for key in _minimised(run)]
    return " and ".join(names) or "perplexity and EDP"


def _minimised(run: SearchRun) -> list[str]:
    """The columns of what the search minimised; a name that is unknown stands for itself."""
    names = [str(name) for name in run.inputs.get("objectives") or ()]
    return [OBJECTIVES[name].column if name in OBJECTIVES else name for name in names]


def words(key: str) -> str:
    """Return the name of a cost as it stands within a sentence."""
    return COSTS[key].within if key in COSTS else key.lower()


def searched(run: SearchRun) -> list[tuple[str, str]]:
    """Return what the space holds: a name, and its choices in words."""
    space = run.inputs.get("space") or {}
    found = []
    texts = {axis.name: axis.text for axis in run.network_axes}
    network = {"transformer": {**texts, "sequence": "sequence length {}"}}
    for part, names in (network | _SPACE).items():
        values = space.get(part) or {}
        said = [
            say.format(_choices(values[key], key)) for key, say in names.items() if values.get(key) not in (None, "none")
        ]  # fmt: skip
        if said:
            found.append((part.capitalize(), "; ".join(said)))
    return found


def _choices(values: Any, key: str) -> str:
    if key == "sram_timing":
        return _SRAM_TIMING[bool(values)]
    many = values if isinstance(values, list) else [values]
    size = key in {memory.size for memory in SHOWN}
    texts = [format_size(v) if size and isinstance(v, int) else str(v) for v in many]
    if len(many) <= 6:
        return ", ".join(texts)
    return f"{texts[0]} to {texts[-1]} ({len(many)} values)"


def scaled(value: float | None, metric: Metric) -> str:
    """Return a raw value in the metric's unit, to four digits."""
    return "–" if value is None else significant(value * metric.factor)


def _range(low: float, high: float, metric: Metric) -> str:
    return f"{significant(low * metric.factor, 3)}–{significant(high * metric.factor, 3)}"


def _list(values: Iterable[int]) -> str:
    return " ".join(map(str, values))


def _alike(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else _list(values)
