"""Plots of a sweep and of a simulation, as PNG and SVG bytes that the same data always reproduce.

Colours are those of Okabe and Ito, which people with any colour vision tell apart, and viridis. No
pyplot: figures are drawn without a display and leave no global state.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from codesign.hw.sizes import format_size
from codesign.search.pricing.breakdown import KernelRow, by_kind, groups, roof
from codesign.search.pricing.evaluate import Result
from codesign.search.pricing.machine_tables import machine_label, size_names, varying
from codesign.search.pricing.sweep import Row, best, pareto
from codesign.search.terminal.figures import prefix, significant

_BLUE, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#B8BFC6", "#22272B"
_KINDS = {
    "matmul": "#0072B2",
    "attention": "#E69F00",
    "softmax": "#CC79A7",
    "layernorm": "#009E73",
    "activation": "#56B4E9",
    "add": "#8C7A00",
    "host": "#999999",
}
_OTHER_KIND = "#D55E00"
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8A9299",
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E9EC",
    "grid.linewidth": 0.7,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "svg.hashsalt": "codesign",  # element names of an SVG are random otherwise
    "svg.fonttype": "path",
}
_MOST_CELLS = 14  # a side of a heat map whose cells say their values
_MOST_BARS = 60  # machines behind a Pareto front that show their range
_MOST_LABELS = 16  # machines of a Pareto front that are named
_LOGARITHMIC = 3.0  # slowest over fastest machine from which latency has a log axis
_LEAST_SPREAD = 1.25  # of a heat map's colours, highest over lowest


def sweep_plots(rows: Sequence[Row], title: str) -> dict[str, bytes]:
    """Return the files of a sweep by name: heat maps and Pareto front; none for a single machine."""
    feasible = [row for row in rows if row.feasible]
    if len(feasible) < 2:
        return {}
    files = _files("pareto", lambda: pareto_front(feasible, title))
    sizes = {(row.scratchpad_bytes, row.accumulator_bytes) for row in rows}
    if len(sizes) > 1:
        files |= _files("heatmap", lambda: heatmaps(rows, title))
    return files


def simulation_plots(result: Result, title: str) -> dict[str, bytes]:
    """Return the files of a simulation by name: break-down by kind and roofline."""
    return _files("breakdown", lambda: cost_breakdown(result, title)) | _files(
        "roofline", lambda: roofline(result, title)
    )


def figure_style() -> Any:
    """The context in which every figure is drawn."""
    return mpl.rc_context(_STYLE)


def _files(stem: str, draw: Callable[[], Figure]) -> dict[str, bytes]:
    with figure_style():
        figure = draw()
        FigureCanvasAgg(figure)
        return {
            f"{stem}.{kind}": _bytes(figure, kind, metadata)
            for kind, metadata in (
                ("png", {"Software": None}),
                ("svg", {"Date": None, "Creator": None}),
            )
        }


def _bytes(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160, metadata=dict(metadata))
    return buffer.getvalue()


def _figure(width: float, height: float, columns: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def heatmaps(rows: Sequence[Row], title: str) -> Figure:
    """EDP and cycles over scratchpad and accumulator, the best of every other axis."""
    scratchpads = sorted({row.scratchpad_bytes for row in rows})
    accumulators = sorted({row.accumulator_bytes for row in rows})
    width = 2 * (1.6 + min(9.0, 0.72 * max(3, len(scratchpads))))
    height = 1.6 + min(8.0, 0.52 * max(3, len(accumulators)))
    others = varying(rows)
    if others:
        title += f"; each cell is the best over {', '.join(others)}"
    figure, axes = _figure(width, height, 2, title)
    with_text = max(len(scratchpads), len(accumulators)) <= _MOST_CELLS
    for axis, column, unit in zip(axes, ("edp_js", "cycles"), ("J·s", "cycles"), strict=True):
        grid = np.full((len(accumulators), len(scratchpads)), np.nan)
        for i, accumulator in enumerate(accumulators):
            for j, scratchpad in enumerate(scratchpads):
                here = (scratchpad, accumulator)
                found = best(
                    (r for r in rows if (r.scratchpad_bytes, r.accumulator_bytes) == here), column
                )
                if found is not None:
                    grid[i, j] = getattr(found, column)
        _heatmap(axis, grid, unit, with_text)
        name = "Energy-delay product" if column == "edp_js" else "Latency"
        axis.set_title(f"{name} ({_scale(grid, unit)[1]})")
        axis.set_xticks(range(len(scratchpads)), [format_size(s) for s in scratchpads])
        axis.set_yticks(range(len(accumulators)), [format_size(a) for a in accumulators])
        axis.set_xlabel("scratchpad (bytes)")
        axis.set_ylabel("accumulator (bytes)")
    return figure


def _scale(grid: Any, unit: str) -> tuple[float, str]:
    factor, si = prefix(grid[np.isfinite(grid)].tolist())
    return factor, f"{si}{unit}" if unit != "cycles" else f"{si} cycles".strip()


def _heatmap(axis: Axes, grid: Any, unit: str, with_text: bool) -> None:
    factor, _ = _scale(grid, unit)
    colours = mpl.colormaps["viridis_r"].with_extremes(bad="#F1F3F4")
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    high = max(high, _LEAST_SPREAD * low)  # or a difference of a percent would look like much
    axis.imshow(
        np.ma.masked_invalid(grid),
        cmap=colours,
        norm=LogNorm(low, high),
        origin="lower",
        aspect="auto",
    )
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    for (i, j), value in np.ndenumerate(grid) if with_text else ():
        if np.isnan(value):
            axis.text(j, i, "–", ha="center", va="center", color="#8A9299")
            continue
        dark = np.log(value / low) > 0.45 * np.log(high / low)
        text = significant(value * factor)
        axis.text(j, i, text, ha="center", va="center", color="white" if dark else _INK, size=8)
    row, column = divmod(int(np.nanargmin(grid)), grid.shape[1])
    corner = (column - 0.47, row - 0.46)
    axis.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, edgecolor=_ORANGE, linewidth=2))


def pareto_front(rows: Sequence[Row], title: str) -> Figure:
    """Latency against energy with its range; the front is drawn and its machines are named."""
    figure, (axis,) = _figure(9.0, 4.4, 1, title)
    front = pareto(rows)
    winner = best(rows)
    x_factor, x_si = prefix(row.latency_s for row in rows if row.latency_s)
    y_factor, y_si = prefix(row.energy_j for row in rows if row.energy_j)

    def position(some: Sequence[Row]) -> tuple[Any, Any, Any]:
        x = x_factor * np.array([row.latency_s for row in some])
        bounds = [(row.energy_low_j, row.energy_j, row.energy_high_j) for row in some]
        y = y_factor * np.array(bounds).reshape(-1, 3)
        return x, y[:, 1], np.abs(y[:, (0, 2)] - y[:, 1:2]).T

    in_front = {row.index for row in front}
    behind = [row for row in rows if row.index not in in_front]
    for some, colour, name in ((behind, _GREY, "dominated"), (front, _BLUE, "Pareto front")):
        if not some:
            continue
        x, y, bars = position(some)
        if some is front or len(some) <= _MOST_BARS:
            axis.errorbar(x, y, bars, fmt="none", ecolor=colour, elinewidth=1, alpha=0.45)
        axis.scatter(x, y, s=30, color=colour, label=name, zorder=3)
    x, y, _ = position(front)
    axis.step(x, y, where="post", color=_BLUE, linewidth=1.2, zorder=2.5)
    names = [machine_label(row, rows) for row in front]
    best_x, best_y, _ = position([winner] if winner is not None else [])
    axis.scatter(best_x, best_y, s=130, marker="*", color=_ORANGE, label="best EDP", zorder=4)
    axis.set_xlabel(f"latency ({x_si}s)")
    axis.set_ylabel(f"energy ({y_si}J), bars: low to high")
    axis.set_ylim(bottom=0)
    axis.margins(x=0.12)
    latencies, _, _ = position(rows)
    if latencies.max() > _LOGARITHMIC * latencies.min():
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    _name_front(axis, x, y, names, size_names(rows))
    axis.legend(loc="lower left", bbox_to_anchor=(1.02, 0), fontsize=8)
    return figure


def _name_front(axis: Axes, x: Any, y: Any, names: Sequence[str], sizes: str) -> None:
    """Number the machines of a front from left to right, and list them beside the axes."""
    lines = [f"Pareto front: {sizes}"]
    lines += [f"{number:>2}  {name}" for number, name in enumerate(names[:_MOST_LABELS], 1)]
    if len(names) > _MOST_LABELS:
        lines.append(f"      and {len(names) - _MOST_LABELS} more to the right")
    text = "\n".join(lines)
    axis.text(1.03, 1, text, transform=axis.transAxes, va="top", size=8, linespacing=1.5)
    axis.autoscale_view()
    pixels = axis.transData.transform(np.column_stack([x, y]))
    first = 0
    for last in range(len(pixels)):  # numbers that would lie on each other become one: 1–3
        if last + 1 < len(pixels) and np.ptp(pixels[[first, last + 1]], axis=0).max() < 12:
            continue
        number = f"{first + 1}" if first == last else f"{first + 1}–{last + 1}"
        at = (x[first], y[first])
        axis.annotate(number, at, (0, 9), textcoords="offset points", ha="center", size=8)
        first = last + 1


def cost_breakdown(result: Result, title: str) -> Figure:
    """Cycles and energy by kind of kernel, and energy by component, as stacked bars."""
    figure, axes = _figure(8.4, 3.3, 2, title)
    totals = by_kind(result)
    cycle_factor, cycle_si = prefix([result.cycles])
    nominal = result.energy_j.tolist()
    energy_factor, energy_si = prefix([nominal[1]])
    kinds = [total.kind for total in totals]
    colours = [_KINDS.get(kind, _OTHER_KIND) for kind in kinds]
    _stack(axes[0], 1, [float(total.cycles) for total in totals], colours)
    _stack(axes[0], 0, [total.energy_j[1] for total in totals], colours)
    total_cycles = f"cycles\n{significant(result.cycles * cycle_factor)} {cycle_si}".strip()
    total_energy = f"energy\n{significant(nominal[1] * energy_factor)} {energy_si}J"
    axes[0].set_yticks([1, 0], [total_cycles, total_energy])
    axes[0].set_title("by kind of kernel")
    _legend(axes[0], kinds, colours)
    parts = {name: joules.tolist() for name, joules in result.breakdown().items()}
    parts = {name: joules for name, joules in parts.items() if joules[2] > 0}
    names = sorted(parts, key=lambda name: parts[name][1])
    values = energy_factor * np.array([parts[name] for name in names])
    errors = np.abs(values[:, (0, 2)] - values[:, 1:2]).T
    axes[1].barh(names, values[:, 1], color=_BLUE, height=0.62)
    axes[1].errorbar(
        values[:, 1], names, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1, capsize=2
    )
    axes[1].set_xlabel(f"{energy_si}J, bars: low to high")
    axes[1].set_title("energy by component")
    axes[1].grid(axis="y", visible=False)
    return figure


def _stack(axis: Axes, y: float, values: Sequence[float], colours: Sequence[str]) -> None:
    left, whole = 0.0, sum(values)
    for value, colour in zip(values, colours, strict=True):
        share = 100 * value / whole if whole else 0.0
        axis.barh(y, share, left=left, color=colour, height=0.55, edgecolor="white", linewidth=0.8)
        if share >= 7:
            axis.text(
                left + share / 2,
                y,
                f"{share:.0f} %",
                ha="center",
                va="center",
                color="white",
                size=8,
            )
        left += share
    axis.set_xlim(0, 100)
    axis.set_xlabel("%")
    axis.grid(axis="y", visible=False)


def _legend(axis: Axes, kinds: Sequence[str], colours: Sequence[str]) -> None:
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    axis.legend(
        handles,
        kinds,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=4,
        fontsize=8,
        handlelength=1.0,
        columnspacing=1.2,
    )


def roofline(result: Result, title: str) -> Figure:
    """Each group of kernels under the roofs of mesh and bus; area says its share of the cycles."""
    figure, (axis,) = _figure(7.2, 4.6, 1, title)
    rows = [row for row in groups(result) if row.intensity is not None and row.macs_per_cycle > 0]
    config = result.config
    ridge = config.macs_per_cycle / config.bus_bytes
    points = [row.intensity for row in rows if row.intensity is not None]
    x = np.geomspace(min([*points, ridge]) / 3, max([*points, ridge]) * 4, 200)
    for directions, style, name in ((1, "-", "one way"), (2, ":", "both ways")):
        y = [roof(config, float(value), directions) for value in x]
        label = f"bus {config.bus_bytes} B/cycle, {name}"
        axis.plot(x, y, style, color=_INK, linewidth=1.3, zorder=2, label=label)
    peak = f"mesh {config.macs_per_cycle} MACs/cycle"
    corner = (float(x[-1]), config.macs_per_cycle)
    axis.annotate(peak, corner, (0, 14), textcoords="offset points", ha="right", size=8)
    for kind, members in _by_kind(rows):
        sizes = [30 + 400 * row.cycles / result.cycles for row in members]
        axis.scatter(
            [row.intensity or 0.0 for row in members],
            [row.macs_per_cycle for row in members],
            s=sizes,
            color=_KINDS.get(kind, _OTHER_KIND),
            alpha=0.75,
            edgecolor="white",
            zorder=3,
        )
        axis.scatter([], [], s=36, color=_KINDS.get(kind, _OTHER_KIND), label=kind)
    axis.set_xscale("log")
    axis.set_yscale("log")
    slowest = min([row.macs_per_cycle for row in rows] + [config.macs_per_cycle / 10])
    axis.set_ylim(slowest / 2, 3 * config.macs_per_cycle)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(StrMethodFormatter("{x:g}"))
        scale.set_minor_formatter(NullFormatter())
    axis.set_xlabel("arithmetic intensity (MACs per DRAM byte)")
    axis.set_ylabel("MACs per cycle")
    axis.legend(loc="lower right", fontsize=8)
    return figure


def _by_kind(rows: Sequence[KernelRow]) -> Iterator[tuple[str, list[KernelRow]]]:
    for kind in dict.fromkeys(row.kind for row in rows):
        yield kind, [row for row in rows if row.kind == kind]
