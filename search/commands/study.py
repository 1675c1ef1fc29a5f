"""`codesign study two-stage RUN`: what searching jointly gained, kept in the run and its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.hw.platform.processes import cores
from codesign.search.joint.finished_run import FinishedRun, open_run, read_baseline
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.pricing_pool import pool_of
from codesign.search.joint.problem import SearchProblem, priced_problem
from codesign.search.joint.published import PUBLISHED_SOURCE
from codesign.search.joint.search import Listener
from codesign.search.joint.search_records import (
    BASELINE_FILE,
    REPORT_FILE,
    TWO_STAGE,
    TWO_STAGE_FILE,
)
from codesign.search.joint.search_state import LOSSES, Checkpoint, request_digest
from codesign.search.joint.two_stage import Strategy, compare_strategies
from codesign.search.report.strategies import gain, strategy_rows
from codesign.search.runs import output
from codesign.search.runs.records import REMEDY, RunError
from codesign.search.terminal.messages import say


@dataclass(frozen=True)
class StudyRequest:
    """The options of `codesign study two-stage`."""

    run: Path
    quality: Path | None = None
    workers: int | None = None
    dask: str | None = None
    as_json: bool = False


def run_two_stage(request: StudyRequest) -> None:
    """Search in two stages at the budget of a finished joint search; print and keep both fronts.

    Raises RunError for a folder that is no run, OutputError for one that is damaged.
    """
    run = open_run(request.run)
    quality = run.quality(request.quality)
    digest = request_digest(run.run["inputs"])
    joint = Checkpoint(run.path, len(run.space.cardinalities), digest).load()[1]
    workers = cores() if request.workers is None else request.workers
    with (
        pool_of(workers, request.dask) as pool,
        output.run_directory(run.path, run.run) as directory,
    ):
        with priced_problem(
            run.space, run.objective, run.tables, run.area_tables, quality, run.settings.minimize,
            pool, lambda message: say(f"warning: {message}"),
        ) as problem:  # fmt: skip
            strategies = compare_strategies(problem, run.settings, joint, Listener(), say)
        document = _document(run, strategies, _references(joint.reference))
        directory.write_text(TWO_STAGE_FILE, output.json_text(document))
        directory.write_rows(TWO_STAGE, _fronts(problem, strategies), with_csv=False)
        if (run.path / REPORT_FILE).exists():
            from codesign.search.report.pages import report_html

            directory.write_text(REPORT_FILE, report_html(run.path))
        directory.log("compared with two stages")
    if request.as_json:
        output.print_json(document)
    else:
        _print(document, quality.label)
        say(f"both fronts are in {run.path}")


def _references(reference: Any) -> list[float]:
    return [float(value) for value in reference]


def _document(
    run: FinishedRun, strategies: Sequence[Strategy], reference: list[float]
) -> dict[str, Any]:
    """What two_stage.json keeps."""
    baseline = read_baseline(run.path)
    if baseline is None:
        raise RunError(f"{run.path} has no {BASELINE_FILE}: {REMEDY}")
    start, joint = baseline.edp_js, strategies[0]
    return {
        "objectives": list(run.settings.minimize),
        "reference": reference,
        "baseline_edp_js": start,
        "losses": list(LOSSES),
        "published": [entry.published for entry in baseline.improvements],
        "published_source": PUBLISHED_SOURCE,
        "strategies": [
            {
                "name": one.name,
                "winners": one.winners,
                "machines_each": one.machines_each,
                "evaluated": one.evaluated,
                "front_size": one.front_size,
                "hypervolume": one.hypervolume,
                "share": one.hypervolume / joint.hypervolume,
                "edp_js": list(one.best_edp_js),
                "improvement": [None if edp is None else start / edp for edp in one.best_edp_js],
                "beaten_by_joint": _beaten(one, joint),
                "beats_of_joint": _beaten(joint, one),
            }
            for one in strategies
        ],
    }


def _beaten(one: Strategy, by: Strategy) -> int:
    """How many points of a front some point of another dominates."""
    a, b = by.objectives[None], one.objectives[:, None]
    dominates = np.all(a <= b, axis=2) & np.any(a < b, axis=2)
    return int(np.count_nonzero(np.any(dominates, axis=1)))


def _fronts(problem: SearchProblem, strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    """The points of all fronts: strategy, objectives, Transformer, machine."""
    space = problem.space
    columns = [OBJECTIVES[name].column for name in problem.minimize]
    rows: list[dict[str, Any]] = []
    for one in strategies:
        order = np.lexsort(one.objectives.T[::-1])
        for genes, values in zip(one.genes[order], one.objectives[order].tolist(), strict=True):
            number = int(space.machine_numbers(genes[None])[0])
            rows.append(
                {
                    "strategy": one.name,
                    **dict(zip(columns, values, strict=True)),
                    "model": space.transformer.name(space.shape(genes)),
                    "hardware": space.machine(number).name,
                }
            )
    return rows


def _print(document: Mapping[str, Any], label: str) -> None:
    from codesign.search.terminal import tables

    console = tables.console()
    headers, rows = strategy_rows(document)
    title = f"Joint search and two stages, {' and '.join(document['objectives'])}"
    console.print(tables.plain_table(headers, rows, title, console.width))
    for place, loss in enumerate(document["losses"]):
        found = ", ".join(
            f"{one['name']} {gain(one['improvement'][place])}" for one in document["strategies"]
        )
        published = document["published"][place]
        console.print(
            f"less EDP at +{loss:g} {label}: {found}"
            + (f"; published {published:g}× ({document['published_source']})" if published else ""),
            highlight=False,
        )
