"""What a report reads of a joint search: the files of its run directory, checked as they are read.

`run.json` and the front are needed; of an interrupted run or a space without a baseline the others
may be missing, and the report says so. A file that is there and cannot be understood is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.hw.platform.files import refuse_damage
from codesign.hw.platform.parquet_file import ParquetTable
from codesign.search.joint.finished_run import RunFiles, read_baseline, read_run
from codesign.search.joint.objectives import COSTS
from codesign.search.joint.search_records import (
    EVALUATED_FILE,
    GENERATIONS,
    HEATMAP,
    ROBUSTNESS,
    SPACE_FILE,
    SPENDING,
    TWO_STAGE,
    TWO_STAGE_FILE,
    VERIFICATION,
    Baseline,
    EnergyRank,
    FrontPoint,
    Generation,
    HeatCell,
    PointCheck,
    Spending,
    StrategyPoint,
    heat_cell_type,
)
from codesign.search.joint.winners import BEST_QUALITY, KNEE, LEAST_EDP
from codesign.search.joint.winners import winners as winners_of
from codesign.search.runs.records import (
    REMEDY,
    RunError,
    read_document,
    read_numbers,
    read_records,
)

JsonObject = dict[str, Any]

CLOUD_POINTS = 4000  # candidates drawn behind the front
_CLOUD_SEED = 0
_ROLES = (LEAST_EDP, KNEE, BEST_QUALITY)


@dataclass(frozen=True)
class SearchRun(RunFiles):
    """A finished search with all that a report shows of it. A list is empty where its file is not.

    `front` is in order of perplexity, `cloud` a sample of what was evaluated and feasible.
    """

    space_toml: str
    cloud: dict[str, list[float]]
    evaluated: int | None
    feasible: int | None
    generations: list[JsonObject]
    spending: list[Spending]
    heatmap: list[HeatCell]
    robustness: list[EnergyRank]
    baseline: Baseline | None
    verification: list[PointCheck]
    two_stage: JsonObject
    two_stage_fronts: list[JsonObject]

    @property
    def is_proxy(self) -> bool:
        """Whether any perplexity of the run is an analytic proxy instead of a measurement."""
        return bool(self.quality.get("is_proxy")) or any(
            point.perplexity_is_proxy for point in self.front
        )

    @property
    def quality(self) -> JsonObject:
        """Where the perplexities come from: source, label, is_proxy."""
        return dict(self.inputs.get("quality") or {})

    @property
    def quality_label(self) -> str:
        """What a perplexity is called wherever it is shown; of a proxy it says so."""
        label = str(self.quality.get("label") or "perplexity")
        return label if not self.is_proxy or "proxy" in label else f"{label} (proxy)"


def read_search(path: Path) -> SearchRun:
    """Read the run directory of a search; raises RunError naming the file and the remedy."""
    found = read_run(path)
    cloud, evaluated, feasible = _cloud(path / EVALUATED_FILE)
    return SearchRun(
        path=path,
        run=found.run,
        front=tuple(sorted(found.front, key=lambda p: (p.perplexity, p.edp_js))),
        space_toml=_text(path / SPACE_FILE),
        cloud=cloud,
        evaluated=evaluated,
        feasible=feasible,
        generations=read_numbers(path / f"{GENERATIONS}.parquet", Generation) or [],
        spending=read_records(path / f"{SPENDING}.parquet", Spending) or [],
        heatmap=read_records(path / f"{HEATMAP}.parquet", heat_cell_type()) or [],
        robustness=read_records(path / f"{ROBUSTNESS}.parquet", EnergyRank) or [],
        baseline=read_baseline(path),
        verification=read_records(path / f"{VERIFICATION}.parquet", PointCheck) or [],
        two_stage=read_document(path / TWO_STAGE_FILE) or {},
        two_stage_fronts=read_numbers(path / f"{TWO_STAGE}.parquet", StrategyPoint) or [],
    )


def winners_by_role(run: SearchRun) -> dict[str, FrontPoint]:
    """The points of the front that the report looks into, by role; one point may have two.

    Where the run has heat maps, they say whom the search has looked into.
    """
    found = {role: run.front[place] for role, place in winners_of(run.front).items()}
    by_point = {point.point: point for point in run.front}
    named = {cell.winner: cell.point for cell in run.heatmap}
    found |= {role: by_point[point] for role, point in named.items() if point in by_point}
    return {role: found[role] for role in _ROLES if role in found}


def kept_order(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the share of pairs that two rankings put in the same order, 0..1."""
    a, b = np.asarray(first), np.asarray(second)
    upper = np.triu_indices(len(a), 1)
    same = np.sign(a[:, None] - a)[upper] == np.sign(b[:, None] - b)[upper]
    return float(same.mean()) if same.size else 1.0


def _cloud(file: Path) -> tuple[dict[str, list[float]], int | None, int | None]:
    """A sample of the feasible candidates by column, and how many there are, feasible or not."""
    if not file.exists():
        return {}, None, None
    with refuse_damage(file, RunError, REMEDY):
        table = ParquetTable(file)
        columns = table.numbers(("perplexity", *COSTS, "feasible"))
    feasible = np.flatnonzero(columns.pop("feasible", np.ones(table.rows, dtype=bool)))
    rng = np.random.default_rng(_CLOUD_SEED)
    if len(feasible) > CLOUD_POINTS:
        sample = np.sort(rng.choice(feasible, CLOUD_POINTS, replace=False))
    else:
        sample = feasible
    finite = [c for c in columns.values() if np.issubdtype(c.dtype, np.floating)]
    sample = sample[np.all([np.isfinite(c[sample]) for c in finite], axis=0)] if finite else sample
    drawn = {n: [float(f"{v:.4g}") for v in c[sample]] for n, c in columns.items()}
    return drawn, table.rows, len(feasible)


def _text(file: Path) -> str:
    if not file.exists():
        return ""
    with refuse_damage(file, RunError, REMEDY):
        return file.read_text(encoding="utf-8")
