"""What a report reads of a joint search: the files of its run directory, checked as they are read.

`run.json` and the front are needed; of an interrupted run or a space without a baseline the others
may be missing, and the report says so. A file that is there and cannot be understood is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codesign.hw.errors import CodesignError
from codesign.hw.machine.memories import SHOWN
from codesign.hw.platform.parquet_file import Table
from codesign.hw.platform.text import reason, said
from codesign.search.joint.objectives import COSTS
from codesign.search.joint.results import HEAT_AXES, FrontPoint, HeatCell, Rank, Spending
from codesign.search.runs.records import is_number, read_json, require_types

Record = dict[str, Any]

CLOUD_POINTS = 4000  # candidates drawn behind the front
_CLOUD_SEED = 0
_FRONT_COLUMNS = (
    "point", "layers", "d_model", "heads", "d_ff", "perplexity", "dim",
    *(memory.size for memory in SHOWN if memory.addressed), "bus_bytes", "clock_hz", "technology_nm", "cycles",
    "latency_s", "energy_j", "energy_low_j", "energy_high_j", "edp_js", "edp_low_js", "edp_high_js", "area_mm2",
)  # fmt: skip
REMEDY = "resume or repeat its search"
ROLES = ("least EDP", "knee", "best quality")


class ReportError(CodesignError):
    """A run directory that no report can be made of."""


@dataclass(frozen=True)
class _Generation:
    """What every generation has, beside its best costs."""

    generation: int
    evaluations: int


@dataclass(frozen=True)
class _Strategy:
    """What is drawn of a point of a compared search: its objectives."""

    strategy: str
    perplexity: float
    edp_js: float
    latency_s: float
    energy_j: float
    area_mm2: float


@dataclass(frozen=True)
class _Verified:
    """What is read of a point that was verified."""

    point: int
    verified: bool
    cycles: int
    rtl_cycles: int | None


@dataclass(frozen=True)
class SearchRun:
    """One finished search. Records are rows of its tables; a list is empty where the file is not.

    `front` is in order of perplexity, `cloud` a sample of what was evaluated and feasible.
    """

    path: Path
    run: Record
    space_toml: str
    front: list[Record]
    cloud: dict[str, list[float]]
    evaluated: int | None
    feasible: int | None
    generations: list[Record]
    spending: list[Record]
    heatmap: list[Record]
    robustness: list[Record]
    baseline: Record
    verification: list[Record]
    two_stage: Record
    two_stage_fronts: list[Record]

    @property
    def inputs(self) -> Record:
        """What decided the results."""
        return dict(self.run["inputs"])

    @property
    def is_proxy(self) -> bool:
        """Whether any perplexity of the run is an analytic proxy instead of a measurement."""
        return bool(self.quality.get("is_proxy")) or any(
            row["perplexity_is_proxy"] for row in self.front
        )

    @property
    def quality(self) -> Record:
        """Where the perplexities come from: source, label, is_proxy."""
        return dict(self.inputs.get("quality") or {})

    @property
    def quality_label(self) -> str:
        """What a perplexity is called wherever it is shown; of a proxy it says so."""
        label = str(self.quality.get("label") or "perplexity")
        return label if not self.is_proxy or "proxy" in label else f"{label} (proxy)"


def read_run(path: Path) -> SearchRun:
    """Read the run directory of a search; raises ReportError naming the file and the remedy."""
    if not path.is_dir():
        raise ReportError(f"{path} is no folder: name the run directory of a codesign search")
    run = _json(path, "run.json")
    if run is None or not isinstance(run.get("inputs"), dict):
        raise ReportError(f"{path} has no usable run.json: name the folder of a codesign search")
    front = _table(path, "front.parquet", _FRONT_COLUMNS, FrontPoint)
    if front is None:
        raise ReportError(f"{path} has no front.parquet: finish its search with --resume first")
    if not front:
        raise ReportError(f"{path / 'front.parquet'} has no points: search a wider space")
    cloud, evaluated, feasible = _cloud(path)
    return SearchRun(
        path=path,
        run=run,
        space_toml=_text(path / "space.toml"),
        front=sorted((_point(path, row) for row in front), key=lambda p: (p["perplexity"], p["edp_js"])),
        cloud=cloud,
        evaluated=evaluated,
        feasible=feasible,
        generations=_table(path, "generations.parquet", ("generation", "evaluations"), _Generation, numeric=True) or [],
        spending=_table(path, "spending.parquet", ("point", "kind", "component", "cycles", "energy_j"), Spending) or [],
        heatmap=_table(path, "heatmap.parquet", ("point", *HEAT_AXES, "edp_js"), HeatCell) or [],
        robustness=_table(path, "robustness.parquet", ("point", "table", "edp_js", "rank", "on_front"), Rank) or [],
        baseline=_json(path, "baseline.json") or {},
        verification=_table(path, "verification.parquet", ("point", "verified", "cycles", "rtl_cycles"), _Verified) or [],
        two_stage=_json(path, "two_stage.json") or {},
        two_stage_fronts=_table(path, "two_stage.parquet", ("strategy",), _Strategy) or [],
    )  # fmt: skip


def winners(run: SearchRun) -> dict[str, Record]:
    """Return the points of the front that the report looks into, by role; one point may have two.

    The knee is the point farthest below the line between the ends of the front, with logarithmic
    EDP (Das, Struct. Optim. 18, 1999). As perplexities are sorted, the first has the best quality.
    """
    front = run.front
    found = {"least EDP": min(front, key=lambda p: p["edp_js"]), "best quality": front[0]}
    x = np.array([p["perplexity"] for p in front])
    y = np.log(np.array([p["edp_js"] for p in front]))
    if len(front) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
        x, y = (x - x[0]) / np.ptp(x), (y - y.min()) / np.ptp(y)
        line = y[0] + (y[-1] - y[0]) * x / x[-1] if x[-1] else y
        found["knee"] = front[int(np.argmax(line - y))]
    named = {row["winner"]: row["point"] for row in run.heatmap if row.get("winner")}
    by_point = {p["point"]: p for p in front}
    found |= {role: by_point[point] for role, point in named.items() if point in by_point}
    order = {role: i for i, role in enumerate(ROLES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def kept_order(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the share of pairs that two rankings put in the same order, 0..1."""
    a, b = np.asarray(first), np.asarray(second)
    upper = np.triu_indices(len(a), 1)
    same = np.sign(a[:, None] - a)[upper] == np.sign(b[:, None] - b)[upper]
    return float(same.mean()) if same.size else 1.0


def _point(path: Path, row: Record) -> Record:
    """One point of the front, its per-layer lists as integers."""
    try:
        heads, d_ff = ([int(v) for v in str(row[name]).split(",")] for name in ("heads", "d_ff"))
        if not len(heads) == len(d_ff) == row["layers"]:
            raise ValueError("heads and d_ff are not one value a layer")
        if any(not np.isfinite(row[name]) for name in ("perplexity", "edp_js", "energy_j")):
            raise ValueError("a cost is not a number")
    except (ValueError, TypeError) as error:
        raise ReportError(
            f"{path / 'front.parquet'}, point {row['point']}: {error}: repeat the search"
        ) from error
    proxy = row.get("perplexity_is_proxy")
    return row | {"heads": heads, "d_ff": d_ff, "perplexity_is_proxy": bool(proxy)}


def _cloud(path: Path) -> tuple[dict[str, list[float]], int | None, int | None]:
    """A sample of the feasible candidates by column, and how many there are, feasible or not."""
    file = path / "evaluated.parquet"
    if not file.exists():
        return {}, None, None
    try:
        table = Table(file)
        columns = table.numbers(("perplexity", *COSTS, "feasible"))
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
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


def _table(
    path: Path, name: str, needed: Sequence[str], kind: type, *, numeric: bool = False
) -> list[Record] | None:
    """The rows of a table, whose columns are those of `kind` as far as they are there.

    `numeric`: others are numbers or None.
    """
    file = path / name
    if not file.exists():
        return None
    try:
        table = Table(file)
        missing = [column for column in needed if column not in table.columns]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}")
        records = table.records()
        for number, row in enumerate(records, 1):
            require_types(kind, row, f"row {number}")
            if numeric:
                _require_numbers(row, f"row {number}")
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    return records


def _require_numbers(row: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a column that is neither a number nor None."""
    for name, value in row.items():
        if value is not None and not is_number(value):
            raise ValueError(f"{where}: {name} is {said(value)} but must be a number")


def _json(path: Path, name: str) -> Record | None:
    file = path / name
    try:
        document = read_json(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    if not isinstance(document, dict):
        raise _damaged(file, "not a JSON object")
    return document


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: object) -> ReportError:
    words = reason(error) if isinstance(error, BaseException) else error
    return ReportError(f"{file} is damaged ({words}): {REMEDY}")
