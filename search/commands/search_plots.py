"""Plots of a joint search, as PNG bytes that the same data always reproduce."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.results import Results
from codesign.search.joint.search_state import SearchProgress
from codesign.search.pricing.plots import figure_style
from codesign.search.space.space import Genes
from codesign.search.terminal.figures import count_text, prefix

_MOST_DOTS = 20_000
_WIDE = 20.0  # highest over lowest value of an axis whose ticks are at 1, 2 and 5


def search_plots(
    problem: SearchProblem, done: SearchProgress, results: Results, genes: Genes
) -> dict[str, bytes]:
    """front.png and convergence.png; `genes` is everything evaluated."""
    with figure_style():
        return {
            "front.png": _png(_front(problem, done, results, genes)),
            "convergence.png": _png(_convergence(problem, done)),
        }


def _front(problem: SearchProblem, done: SearchProgress, results: Results, genes: Genes) -> Any:
    from matplotlib.figure import Figure

    names = problem.minimize[:2]
    written = np.array([[OBJECTIVES[n].of(p) for n in names] for p in results.front])
    x, y = (_axis(problem, n, written[:, i].tolist()) for i, n in enumerate(names))
    factors = np.array([x[1], y[1]])
    sample = np.random.default_rng(0).permutation(len(genes))[:_MOST_DOTS]
    _, cloud = problem.evaluate(genes[np.sort(sample)])
    cloud = cloud[(cloud < 1e29).all(axis=1), :2] * factors
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    axis.scatter(
        cloud[:, 0], cloud[:, 1], s=3, c="#B8BFC6", linewidths=0, label="evaluated", rasterized=True
    )
    front = done.archive.objectives[:, :2] * factors
    axis.scatter(
        front[:, 0], front[:, 1], s=8, c="#0072B2", linewidths=0, label=f"front ({len(front):,})"
    )
    points = written * factors
    axis.scatter(points[:, 0], points[:, 1], s=34, facecolors="none", edgecolors="#D55E00",
                 label=f"written out ({len(points)})")  # fmt: skip
    base = results.baseline
    values = factors * [OBJECTIVES[n].of(base) for n in names]
    axis.scatter(values[0], values[1], marker="*", s=120, c="#22272B",
                 label=f"largest Transformer on {base.hardware}")  # fmt: skip
    axis.set_xlabel(x[0])
    axis.set_ylabel(y[0])
    axis.set_yscale("log")
    _plain_ticks(axis.yaxis)
    axis.legend()
    size = count_text(problem.space.size)
    axis.set_title(f"{done.evaluated:,} candidates evaluated of {size} in the space")
    return figure


def _convergence(problem: SearchProblem, done: SearchProgress) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    evaluations: npt.NDArray[Any] = np.array([g["evaluations"] for g in done.generations])
    axis.plot(evaluations, [g["hypervolume"] for g in done.generations], color="#0072B2")
    axis.set_xscale("log")
    _plain_ticks(axis.xaxis)
    axis.set_xlabel("candidates evaluated")
    axis.set_ylabel("hypervolume (decades" + {2: "²", 3: "³"}.get(len(problem.minimize), "") + ")")
    axis.set_title("Convergence")
    return figure


def _axis(problem: SearchProblem, name: str, values: list[float]) -> tuple[str, float]:
    """Title of an objective's axis, and what its SI values are multiplied by: the report's units."""
    objective = OBJECTIVES[name]
    if objective.formula is None:
        return problem.quality.label, 1.0
    factor, si = prefix(values) if objective.prefixed else (1.0, "")
    return f"{objective.label} ({si}{objective.unit})", factor


def _plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, within a decade at more of its multiples."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    multiples = (1, 2, 5) if high >= _WIDE * low else (1, 1.5, 2, 3, 4, 6, 8)
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    sink = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(sink, format="png", dpi=160, metadata={"Software": None})
    return sink.getvalue()
