"""Plots of a joint search, as PNG bytes that the same data always reproduce."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.search.joint import COLUMN, Problem, Progress
from codesign.search.plots import figure_style
from codesign.search.search_results import Results
from codesign.search.space import Genes

_UNITS = {"perplexity": "", "edp": "J·s", "latency": "s", "energy": "J", "area": "mm²"}
_NAMES = {"edp": "EDP", "latency": "latency", "energy": "energy", "area": "area"}
_MOST_DOTS = 20_000


def search_plots(
    problem: Problem, done: Progress, results: Results, genes: Genes
) -> dict[str, bytes]:
    """front.png and convergence.png; `genes` is everything evaluated."""
    with figure_style():
        return {
            "front.png": _png(_front(problem, done, results, genes)),
            "convergence.png": _png(_convergence(problem, done)),
        }


def _front(problem: Problem, done: Progress, results: Results, genes: Genes) -> Any:
    from matplotlib.figure import Figure

    x_name, y_name = problem.minimize[:2]
    sample = np.random.default_rng(0).permutation(len(genes))[:_MOST_DOTS]
    _, cloud = problem.evaluate(genes[np.sort(sample)])
    cloud = cloud[(cloud < 1e29).all(axis=1)]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    axis.scatter(
        cloud[:, 0], cloud[:, 1], s=3, c="#B8BFC6", linewidths=0, label="evaluated", rasterized=True
    )
    front = done.archive.objectives
    axis.scatter(
        front[:, 0], front[:, 1], s=8, c="#0072B2", linewidths=0, label=f"front ({len(front):,})"
    )
    points = np.array([[getattr(p, COLUMN[n]) for n in (x_name, y_name)] for p in results.front])
    axis.scatter(points[:, 0], points[:, 1], s=34, facecolors="none", edgecolors="#D55E00",
                 label=f"written out ({len(points)})")  # fmt: skip
    base = results.baseline
    values: dict[str, Any] = {n: getattr(base, COLUMN[n]) for n in (x_name, y_name)}
    axis.scatter(values[x_name], values[y_name], marker="*", s=120, c="#22272B",
                 label=f"largest Transformer on {base.hardware}")  # fmt: skip
    axis.set_xlabel(_label(problem, x_name))
    axis.set_ylabel(_label(problem, y_name))
    axis.set_yscale("log")
    axis.legend()
    axis.set_title(f"{done.evaluated:,} candidates of {problem.space.size:.2g}")
    return figure


def _convergence(problem: Problem, done: Progress) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    evaluations: npt.NDArray[Any] = np.array([g["evaluations"] for g in done.generations])
    axis.plot(evaluations, [g["hypervolume"] for g in done.generations], color="#0072B2")
    axis.set_xscale("log")
    axis.set_xlabel("candidates evaluated")
    axis.set_ylabel("hypervolume (decades" + {2: "²", 3: "³"}.get(len(problem.minimize), "") + ")")
    axis.set_title("Convergence")
    return figure


def _label(problem: Problem, name: str) -> str:
    if name == "perplexity":
        return problem.quality.label
    return f"{_NAMES[name]} ({_UNITS[name]})"


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    sink = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(sink, format="png", dpi=160, metadata={"Software": None})
    return sink.getvalue()
