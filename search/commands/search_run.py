"""What `codesign search` does: reads its request, searches, keeps the run, prints the front."""

import csv
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import CodesignError
from codesign.hw.platform.processes import cores
from codesign.hw.platform.text import printable
from codesign.search.api.inputs import area_costs, energy_costs
from codesign.search.commands.request import recorded
from codesign.search.joint.pricing_pool import Pool, pool_of
from codesign.search.joint.problem import SearchProblem, priced_problem
from codesign.search.joint.results import (
    Results,
    baseline_document,
    collect,
    evaluated_table,
    quality_document,
)
from codesign.search.joint.search import Listener, Settings, search
from codesign.search.joint.search_records import (
    BASELINE_FILE,
    EVALUATED_FILE,
    FRONT,
    GENERATIONS,
    HEATMAP,
    REPORT_FILE,
    ROBUSTNESS,
    SPACE_FILE,
    SPENDING,
)
from codesign.search.joint.search_state import Checkpoint, SearchProgress, request_digest
from codesign.search.runs import output
from codesign.search.runs.files import RUN_FILE
from codesign.search.runs.output import OutputError, RunDirectory
from codesign.search.space.networks import SpaceError
from codesign.search.space.quality import Quality, load_quality
from codesign.search.space.space import Genes, SearchSpace
from codesign.search.space.space_file import read_space
from codesign.search.terminal.messages import say
from codesign.search.terminal.progress import Show, stages

DEFAULT_FOLDER = "codesign-search"


@dataclass(frozen=True)
class SearchRequest:
    """The options of `codesign search`."""

    command: str
    space: Path | None = None
    seq: int | None = None
    uniform: bool = False
    minimize: tuple[str, ...] = ("perplexity", "edp")
    quality: Path | None = None
    method: str = "nsga2"
    budget: int = 100_000
    population: int = 200
    seed: int = 0
    points: int = 40
    warm_start: Path | None = None
    objective: str = "edp"
    energy_table: str = "default"
    area_table: str = "default"
    workers: int | None = None
    dask: str | None = None
    resume: bool = False
    out: Path | None = None
    as_json: bool = False


@dataclass(frozen=True)
class _Prepared:
    """A request with everything read and checked."""

    request: SearchRequest
    settings: Settings
    space: SearchSpace
    quality: Quality
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides
    start: Genes | None

    def describe(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        run_inputs = {
            "action": "search",
            "space": self.space.document() | {"size": self.space.size},
            "objectives": list(self.settings.minimize),
            "method": self.settings.method,
            "budget": self.settings.budget,
            "population": self.settings.population,
            "points": self.request.points,
            "quality": quality_document(self.quality),
            "mapping_objective": self.request.objective,
            "base_machine": self.space.base.name,
            "energy_table": recorded(self.tables),
            "area_table": recorded(self.area_tables),
            "warm_start": None if self.start is None else self.start.tolist(),
            "seed": self.settings.seed,
        }
        described = output.describe_run(self.request.command, run_inputs, self.settings.seed)
        versions = {p: metadata.version(p) for p in ("pymoo", "moocore")}
        return {**described, "versions": described["versions"] | versions}


def run_search(request: SearchRequest) -> None:
    """Search, write the run and print its front. Raises CodesignError for bad input.

    Its KeyboardInterrupt says what was kept.
    """
    prepared = _prepare(request)
    run = prepared.describe()
    out = _folder(request, run)
    say(f"{_described(prepared)}; files go to {out}")
    if prepared.quality.doubt:
        say(f"warning: {prepared.quality.doubt}")
    workers = cores() if request.workers is None else request.workers
    with (
        pool_of(workers, request.dask) as pool,
        output.run_directory(out, run, resume=request.resume) as directory,
    ):
        digest = request_digest(run["inputs"])
        checkpoint = Checkpoint(out, len(prepared.space.cardinalities), digest)
        _require_state(checkpoint, request, out)
        directory.write_text(RUN_FILE, output.json_text(run))
        directory.write_text(SPACE_FILE, prepared.space.to_toml())
        results, done = _searched(prepared, directory, checkpoint, pool)
    if request.as_json:
        output.print_json(_document(run, out, done, results))
    else:
        _print(prepared, done, results)
        print(printable(f"report, plots and tables are in {out}"), file=sys.stderr)


def _prepare(request: SearchRequest) -> _Prepared:
    if importlib.util.find_spec("pymoo") is None:
        raise CodesignError("searching needs pymoo: pip install pymoo")
    space = SearchSpace() if request.space is None else read_space(request.space)
    if request.seq is not None:
        space = replace(space, transformer=replace(space.transformer, sequence=request.seq))
    if request.uniform:
        space = replace(space, transformer=replace(space.transformer, uniform=True))
    settings = _settings(request, space)
    quality = load_quality(request.quality, space)
    start = None if request.warm_start is None else _start(request.warm_start, space)
    tables = energy_costs(request.energy_table)
    area_tables = area_costs(request.area_table)
    return _Prepared(request, settings, space, quality, tables, area_tables, start)


def _settings(request: SearchRequest, space: SearchSpace) -> Settings:
    """What decides the search, no more than the space holds; says where that is less than asked."""
    asked = Settings(
        request.minimize, request.method, request.budget, request.population, request.seed
    )
    settings = asked.within(space.size)
    if settings.budget < asked.budget:
        say(f"the space has {space.size:,} candidates: the budget is {settings.budget:,}")
    if settings.population < asked.population and settings.method == "nsga2":
        say(f"the population is {settings.population:,}: the budget has room for no more")
    return settings


def _searched(
    prepared: _Prepared, directory: RunDirectory, checkpoint: Checkpoint, pool: Pool
) -> tuple[Results, SearchProgress]:
    request = prepared.request
    with (
        stages() as show,
        priced_problem(
            prepared.space, request.objective, prepared.tables, prepared.area_tables,
            prepared.quality, prepared.settings.minimize, pool,
            lambda message: say(f"warning: {message}"),
        ) as problem,
    ):  # fmt: skip
        store = problem.tables.store
        kept = checkpoint.evaluated if request.resume else 0
        listener = _listener(show, prepared.settings.budget, kept)

        def generation(done: SearchProgress) -> None:
            if len(store) - store.saved > 5000:
                store.save()
            listener.generation(done)

        try:
            done = search(
                problem,
                prepared.settings,
                checkpoint,
                resume=request.resume,
                start=prepared.start,
                listener=Listener(listener.pricing, generation),
            )
            results = _finish(problem, done, directory, checkpoint, request.points, listener)
        except KeyboardInterrupt:
            left = _left(checkpoint, prepared.settings.budget, directory.path)
            raise KeyboardInterrupt(left) from None
    return results, done


def _left(checkpoint: Checkpoint, budget: int, folder: Path) -> str:
    """What a search that is stopped leaves, and how to go on from it."""
    if checkpoint.evaluated:
        found = f"{checkpoint.evaluated:,} of {budget:,} candidates are kept in {folder}"
    elif checkpoint.exists:  # the first generation, stopped as it was written
        found = f"{folder} keeps candidates"
    else:
        return "no candidate is kept yet: repeat the command"
    return f"{found}: repeat the command with --resume"


def _finish(
    problem: SearchProblem,
    done: SearchProgress,
    directory: RunDirectory,
    checkpoint: Checkpoint,
    points: int,
    listener: Listener,
) -> Results:
    """Write every file of the run."""
    from codesign.search.commands.search_plots import search_plots
    from codesign.search.report.pages import report_html

    results = collect(problem, done, points, listener.pricing)
    genes = checkpoint.candidates(done.evaluated)
    for stem, records in (
        (FRONT, results.front),
        (SPENDING, results.spending),
        (HEATMAP, results.heatmap),
        (ROBUSTNESS, results.robustness),
    ):
        directory.write_records(stem, records)
    directory.write_rows(GENERATIONS, done.generations)
    evaluated = evaluated_table(problem, genes)
    directory.write_bytes(EVALUATED_FILE, output.parquet_bytes(evaluated, compression="zstd"))
    directory.write_text(BASELINE_FILE, output.json_text(baseline_document(results.baseline)))
    for name, content in search_plots(problem, done, results, genes).items():
        directory.write_bytes(name, content)
    directory.write_text(REPORT_FILE, report_html(directory.path))
    directory.log(f"searched {done.evaluated} candidates")
    return results


# -- Where the run is kept -----------------------------------------------------------------------------


def _folder(request: SearchRequest, run: Mapping[str, Any]) -> Path:
    """--out, or the first default folder that is free or keeps this very search."""
    if request.out is not None:
        return request.out
    for number in range(1, 1000):
        path = Path(DEFAULT_FOLDER if number == 1 else f"{DEFAULT_FOLDER}-{number}")
        if not path.exists() or _keeps(path, run):
            return path
    raise OutputError(f"{DEFAULT_FOLDER} and its successors are taken: name one with --out")


def _keeps(path: Path, run: Mapping[str, Any]) -> bool:
    try:
        return bool(output.run_inputs(path) == run["inputs"])
    except (OSError, ValueError):
        return False


def _require_state(checkpoint: Checkpoint, request: SearchRequest, out: Path) -> None:
    """--resume needs a search that was begun, and its checkpoint, if there is one, to be sound.

    Without it none of an unfinished search is overwritten.
    """
    if request.resume and checkpoint.exists:
        checkpoint.load()
    elif request.resume and not (out / RUN_FILE).exists():
        raise OutputError(f"{out} keeps no search to resume: drop --resume")
    unfinished = checkpoint.exists and not (out / REPORT_FILE).exists()  # the last file
    if unfinished and not request.resume:
        raise OutputError(
            f"{out} keeps a search that was stopped: add --resume to go on, or remove the folder"
        )


# -- Beginnings ----------------------------------------------------------------------------------------


def _start(path: Path, space: SearchSpace) -> Genes:
    """The candidates of another front that the space has; raises SpaceError when it has none."""
    file = path / f"{FRONT}.csv" if path.is_dir() else path
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise SpaceError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise SpaceError(f"{file} is not CSV: {error}") from error
    found = [genes for row in rows if (genes := _genes(row, space)) is not None]
    if not found:
        raise SpaceError(f"{file} has no candidate of this space: drop --warm-start")
    return np.array(found, dtype=np.uint8)


def _genes(row: Mapping[str, str], space: SearchSpace) -> Genes | None:
    try:
        machine = {name: int(row[name]) for name, _ in space.axes}
        return space.genes(machine, space.transformer.told(row))
    except (KeyError, ValueError, AttributeError, TypeError, SpaceError):
        return None


# -- What is said ----------------------------------------------------------------------------------------


def _described(prepared: _Prepared) -> str:
    space, settings = prepared.space, prepared.settings
    return (
        f"{space.transformer.size:.3g} Transformers x {space.machines:,} machines, sequence "
        f"{space.transformer.sequence}; minimizing {' and '.join(settings.minimize)} by "
        f"{settings.method}, {settings.budget:,} candidates, seed {settings.seed}; "
        f"quality: {prepared.quality.source}" + (" (a proxy)" if prepared.quality.is_proxy else "")
    )


def _listener(show: Show, budget: int, kept: int) -> Listener:
    """Shows candidates of the budget, from those that are `kept` on, and between generations the
    kernels that are mapped."""
    evaluated = kept
    show("candidates", evaluated, budget)

    def pricing(done: int, total: int) -> None:
        show("candidates", evaluated, budget, f"mapping kernels {done:,} of {total:,}", False)

    def generation(done: SearchProgress) -> None:
        nonlocal evaluated
        evaluated = done.evaluated
        show("candidates", evaluated, budget, _front_said(done))

    return Listener(pricing, generation)


def _front_said(done: SearchProgress) -> str:
    return f"front of {len(done.archive.genes):,}, generation {len(done.generations):,}"


def _print(prepared: _Prepared, done: SearchProgress, results: Results) -> None:
    from codesign.search.commands.search_tables import front_table, improvement_lines
    from codesign.search.terminal import tables

    console = tables.console()
    label = prepared.quality.label
    console.print(front_table(results, done, prepared.settings.minimize, label, console.width))
    for line in improvement_lines(results.baseline, label, prepared.quality.source):
        console.print(line, highlight=False)


def _document(
    run: Mapping[str, Any], out: Path, done: SearchProgress, results: Results
) -> dict[str, Any]:
    return {
        **run,
        "out": str(out),
        "evaluated": done.evaluated,
        "feasible": done.feasible,
        "hypervolume": done.generations[-1]["hypervolume"],
        "front_size": results.stands_for,
        "front": results.front,
        "baseline": baseline_document(results.baseline),
    }
