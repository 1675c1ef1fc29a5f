"""The tables of a joint search for a terminal: its front, and what it gains over the baseline."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from codesign.hw.machine.memories import SHOWN
from codesign.hw.sizes import format_size
from codesign.search.joint.objectives import COSTS, Objective
from codesign.search.joint.published import PUBLISHED_SOURCE
from codesign.search.joint.results import Results
from codesign.search.joint.search_records import Baseline, FrontPoint
from codesign.search.joint.search_state import SearchProgress
from codesign.search.space.networks import each
from codesign.search.terminal.figures import prefix, significant, times_less
from codesign.search.terminal.tables import plain_table


def front_table(
    results: Results, done: SearchProgress, minimize: Sequence[str], label: str, width: int
) -> RenderableType:
    """The front, best quality first, with units in its headers.

    Its costs are those that are known of any machine, and whatever else was minimised.
    """
    front = results.front
    title = (
        f"Front: {len(front)} points standing for {results.stands_for:,}, of {done.evaluated:,} "
        f"candidates evaluated ({done.feasible:,} keep the constraints)"
    )
    costs = [cost for cost in COSTS.values() if cost.mapped or cost.name in minimize]
    shown = [_scaled([cost.of(p) for p in front], cost) for cost in costs]
    axes = front[0].axes
    headers = [("", ""), (label, ""),
               *((axis.header, "") for axis in axes),
               ("machine", f"mesh, {', '.join(memory.short for memory in SHOWN)}, bus"),
               *((cost.within, unit) for cost, (_, unit) in zip(costs, shown, strict=True))]  # fmt: skip
    cells = [
        [
            str(p.point),
            f"{p.perplexity:.2f}",
            *(each(p.on(axis)) for axis in axes),
            _machine(p),
            *(texts[k] for texts, _ in shown),
        ]
        for k, p in enumerate(front)
    ]
    return plain_table(headers, cells, title, width)


def improvement_lines(baseline: Baseline, label: str, source: str) -> Iterator[str]:
    """What the search gains over the largest Transformer on the baseline machine, and the published."""
    yield (
        f"Baseline: {baseline.model} on {baseline.hardware}, {label} {baseline.perplexity:.2f}, "
        f"EDP {_one(baseline.edp_js, 'J·s')}"
    )
    for entry in baseline.improvements:
        ours = _less_edp(entry.improvement)
        published = (
            f"; published, with measured perplexity: {entry.published:g}× ({PUBLISHED_SOURCE})"
            if entry.published
            else ""
        )
        yield f"  at +{entry.loss:g} {label}: {ours}{published}"
    if baseline.perplexity_is_proxy:
        yield f"Every perplexity here is a proxy, not measured: {source}."


def _less_edp(improvement: float | None) -> str:
    if improvement is None:
        return "no candidate"
    return times_less(improvement, 1) + (" less EDP" if improvement >= 1 else " EDP")


def _scaled(values: Sequence[float], cost: Objective) -> tuple[list[str], str]:
    """Values of a cost as text, and the unit that they are in."""
    if not cost.prefixed:
        return [f"{value:.2f}" for value in values], cost.unit
    factor, symbol = prefix(values)
    return [significant(value * factor) for value in values], f"{symbol}{cost.unit}"


def _one(value: float, unit: str) -> str:
    factor, symbol = prefix([value])
    return f"{significant(value * factor)} {symbol}{unit}"


def _machine(p: FrontPoint) -> str:
    sizes = " ".join(format_size(memory.size_bytes(p)) for memory in SHOWN)
    return f"{p.dim}×{p.dim} {sizes} {p.bus_bytes}B"
