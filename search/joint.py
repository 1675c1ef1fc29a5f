"""The joint search: NSGA-II (or random, or exhaustive) over Transformers and machines together.

A generation is asked for, filled into the tables, priced in bulk and told; then the state is written
as a whole, so that a search that is killed goes on to the same front. This module knows the run's
state and nothing of how results are shown: `search_results` writes them.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.search.front import Archive, hypervolume
from codesign.search.network_tables import Costs, NetworkTables
from codesign.search.output import OutputError, write_atomic
from codesign.search.quality import Quality
from codesign.search.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

OBJECTIVES = ("perplexity", "edp", "latency", "energy", "area")
COLUMN = {"perplexity": "perplexity", "edp": "edp_js", "latency": "latency_s",
          "energy": "energy_j", "area": "area_mm2"}  # fmt: skip
METHODS = ("nsga2", "random", "exhaustive")
CHECKPOINT_FILE, CANDIDATES_FILE = "checkpoint.npz", "candidates.bin"
LOSSES = (0.1, 1.0)  # of perplexity, at which improvements are quoted
LARGEST_BUDGET = 20_000_000  # all that was seen is in memory
POPULATION = (8, 5_000)  # least and most: sorting takes memory as its square
CHUNK = 8192  # candidates of a random or exhaustive search at a time
INFEASIBLE = 1e30  # objective of what breaks a constraint: never compared


@dataclass(frozen=True)
class Settings:
    """What decides the result of a search besides space, costs and quality."""

    minimize: tuple[str, ...] = ("perplexity", "edp")
    method: str = "nsga2"
    budget: int = 100_000
    population: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.minimize if name not in OBJECTIVES]
        if unknown:
            raise CodesignError(f"unknown objective {unknown[0]!r}: choose {', '.join(OBJECTIVES)}")
        if not 2 <= len(set(self.minimize)) == len(self.minimize):
            raise CodesignError("name two or more different objectives: --minimize perplexity,edp")
        least, most = POPULATION
        if not least <= self.population <= most:
            raise CodesignError(
                f"a population of {self.population:,}: take one from {least} to {most:,}"
            )
        if not 1 <= self.budget <= LARGEST_BUDGET:
            raise CodesignError(f"a budget of {self.budget:,}: take one of 1 to {LARGEST_BUDGET:,}")

    def within(self, size: int) -> "Settings":
        """The same for a space of `size` candidates, which budget and population do not exceed.

        Raises CodesignError for a budget that the method cannot do with.
        """
        least = POPULATION[0]
        if self.method == "exhaustive":
            if size > LARGEST_BUDGET:
                raise CodesignError(
                    f"the space has {size:,} candidates, too many to try all: "
                    f"at most {LARGEST_BUDGET:,}"
                )
            if self.budget < size:
                raise CodesignError(
                    f"the space has {size:,} candidates: give --budget {size} to try all"
                )
        elif self.method == "nsga2" and self.budget < least:
            raise CodesignError(
                f"--budget {self.budget} is less than the least generation: take {least} or more"
            )
        budget = min(self.budget, size)
        return replace(self, budget=budget, population=max(least, min(self.population, budget)))


@dataclass(frozen=True)
class Problem:
    """A space with what prices and judges its candidates."""

    space: SearchSpace
    tables: NetworkTables
    quality: Quality
    minimize: tuple[str, ...]

    def evaluate(
        self, genes: Genes, progress: Callable[[int, int], None] | None = None
    ) -> tuple[Costs, Floats]:
        """Costs and objectives [n, objectives] of candidates; INFEASIBLE where they are not."""
        costs = self.tables.costs(genes, progress)
        return costs, self.objectives(genes, costs)

    def objectives(self, genes: Genes, costs: Costs) -> Floats:
        """The objectives [n, objectives] of candidates with known costs."""
        columns = [
            self.quality.perplexity(self.space, genes)
            if name == "perplexity"
            else getattr(costs, COLUMN[name])
            for name in self.minimize
        ]
        found = np.stack(columns, axis=1)
        found[~costs.feasible] = INFEASIBLE
        return found


@dataclass
class Progress:
    """Everything a search has done so far."""

    archive: Archive
    evaluated: int = 0
    feasible: int = 0
    reference: Floats | None = None  # of hypervolumes: the worst of the first generation
    generations: list[dict[str, Any]] = field(default_factory=list)
    best_edp: list[float] = field(default_factory=lambda: [np.inf] * len(LOSSES))

    def add(self, problem: Problem, genes: Genes, costs: Costs, objectives: Floats,
            baseline: float) -> None:  # fmt: skip
        """Take one generation. `baseline` is the perplexity that losses are counted from."""
        good = np.flatnonzero(costs.feasible)
        self.evaluated += len(genes)
        self.feasible += len(good)
        self.archive.add(genes[good], objectives[good])
        if self.reference is None and len(good):
            self.reference = objectives[good].max(axis=0) * 1.01
        perplexity = problem.quality.perplexity(problem.space, genes[good])
        for place, loss in enumerate(LOSSES):
            within = costs.edp_js[good][perplexity <= baseline + loss]
            self.best_edp[place] = min([self.best_edp[place], *within.tolist()])
        self.generations.append(self._record(problem.minimize))

    def _record(self, minimize: tuple[str, ...]) -> dict[str, Any]:
        front, reference = self.archive.objectives, self.reference
        covered = 0.0 if reference is None else hypervolume(front, reference)
        best = {
            f"best_{COLUMN[name]}": float(front[:, k].min()) if len(front) else None
            for k, name in enumerate(minimize)
        }
        at_loss = {
            f"edp_js_at_{loss:g}": None if np.isinf(edp) else edp
            for loss, edp in zip(LOSSES, self.best_edp, strict=True)
        }
        return {
            "generation": len(self.generations) + 1,
            "evaluations": self.evaluated,
            "feasible": self.feasible,
            "front_size": len(front),
            "hypervolume": covered,
            **best,
            **at_loss,
        }


class Checkpoint:
    """The state of a search in its folder, and every candidate that it has evaluated.

    `request` is the digest of what was asked (`request_digest`): the state of another is refused.
    """

    def __init__(self, folder: Path, width: int, request: str = "") -> None:
        self.folder, self.width, self.request = folder, width, request
        self.evaluated = 0  # candidates that are kept
        self._digest = hashlib.sha256()  # of their bytes

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return (self.folder / CHECKPOINT_FILE).exists()

    def start(self) -> None:
        """Begin anew."""
        write_atomic(self.folder / CANDIDATES_FILE, b"")
        (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        self.evaluated, self._digest = 0, hashlib.sha256()

    def append(self, genes: Genes, done: Progress, state: dict[str, Any]) -> None:
        """Keep one generation and the state after it. Raises OutputError, with the last one kept."""
        path = self.folder / CANDIDATES_FILE
        content = np.ascontiguousarray(genes).tobytes()
        try:
            with path.open("r+b") as file:
                file.seek(self.evaluated * self.width)
                file.write(content)
                file.truncate()
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        self._digest.update(content)
        history = {"generations": done.generations, "best_edp": done.best_edp}
        arrays = {
            **{f"state_{name}": value for name, value in state.items()},
            "front_genes": done.archive.genes,
            "front_objectives": done.archive.objectives,
            "reference": np.empty(0) if done.reference is None else done.reference,
            "counts": np.array([done.evaluated, done.feasible]),
            "history": np.array(json.dumps(history)),
            "request": np.array(self.request),
            "candidates": np.array(self._digest.hexdigest()),
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(self.folder / CHECKPOINT_FILE, buffer.getvalue())
        self.evaluated = done.evaluated

    def load(self) -> tuple[Genes, Progress, dict[str, Any]]:
        """Everything evaluated, the progress and the state.

        Raises OutputError where it is damaged or of another request.
        """
        path = self.folder / CHECKPOINT_FILE
        try:
            arrays = _arrays(path)
            if str(arrays["request"]) != self.request:
                raise OutputError(
                    f"{path} is of another search (other options, seed or inputs): remove "
                    f"{self.folder}, or choose another --out"
                )
            history = json.loads(str(arrays["history"]))
            evaluated, feasible = arrays["counts"].tolist()
            genes = self.candidates(evaluated)
            self._digest = hashlib.sha256(genes.tobytes())
            if str(arrays["candidates"]) != self._digest.hexdigest():
                raise ValueError(f"{CANDIDATES_FILE} has other candidates than it was written with")
            done = Progress(
                Archive(arrays["front_genes"], arrays["front_objectives"]),
                evaluated,
                feasible,
                arrays["reference"] if len(arrays["reference"]) else None,
                history["generations"],
                history["best_edp"],
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise OutputError(
                f"{path} is damaged ({reason}): remove it and search again without --resume"
            ) from error
        self.evaluated = evaluated
        state = {n.removeprefix("state_"): a for n, a in arrays.items() if n.startswith("state_")}
        return genes, done, state

    def candidates(self, count: int) -> Genes:
        """The first `count` candidates evaluated; raises ValueError where there are fewer."""
        content = (self.folder / CANDIDATES_FILE).read_bytes()
        if len(content) < count * self.width:
            raise ValueError(f"{CANDIDATES_FILE} is too short")
        genes: Genes = np.frombuffer(content[: count * self.width], np.uint8).reshape(
            -1, self.width
        )
        return genes


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a checkpoint; raises ValueError, KeyError or OSError where it is none."""
    content = io.BytesIO(path.read_bytes())
    if not zipfile.is_zipfile(content):
        raise ValueError("it is cut short or no checkpoint")
    with np.load(content, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def request_digest(inputs: Mapping[str, Any]) -> str:
    """The digest of the `inputs` of a run.json."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Listener:
    """Whom a search tells how far it is: groups being priced, and generations done."""

    pricing: Callable[[int, int], None] = lambda done, total: None
    generation: Callable[[Progress], None] = lambda progress: None


def search(
    problem: Problem,
    settings: Settings,
    checkpoint: Checkpoint | None,
    *,
    resume: bool = False,
    start: Genes | None = None,
    listener: Listener | None = None,
) -> Progress:
    """Search until the budget of distinct candidates is spent, or none are left.

    `start` are candidates to begin with. Raises CodesignError when the first generations have no
    feasible candidate, OutputError when the checkpoint cannot be written or read; what was kept
    stays. With `resume` and no checkpoint yet it begins. The result does not depend on how often
    the search was interrupted and resumed.
    """
    listener = listener or Listener()
    space = problem.space
    baseline = float(problem.quality.perplexity(space, space.corners()[1:])[0])
    empty = np.empty((0, len(space.cardinalities)), dtype=np.uint8)
    done, past, state = Progress(Archive(empty)), empty, None
    if resume and checkpoint is not None and checkpoint.exists:
        past, done, state = checkpoint.load()
    elif checkpoint is not None:
        checkpoint.start()
    generations = _method(problem, settings, start, past, state)
    genes, snapshot = next(generations)
    while len(genes):
        room = settings.budget - done.evaluated
        if room <= 0:
            break
        genes = genes[:room]
        costs, objectives = problem.evaluate(genes, listener.pricing)
        done.add(problem, genes, costs, objectives, baseline)
        following, snapshot = generations.send((objectives, costs.violation))
        if checkpoint is not None:
            checkpoint.append(genes, done, snapshot)
        listener.generation(done)
        genes = following
    if not len(done.archive.genes):
        raise CodesignError(
            f"none of {done.evaluated:,} candidates keeps the constraints of the space: relax "
            "area_mm2, power_w or sram_timing in [constraints], or widen [hardware]"
        )
    return done


Asked = tuple[Genes, dict[str, Any]]  # candidates, and the state that they were asked from
Told = tuple[Floats, Floats]  # objectives and violation
Generations = Generator[Asked, Told, None]


def _method(
    problem: Problem,
    settings: Settings,
    start: Genes | None,
    past: Genes,
    state: dict[str, Any] | None,
) -> Generations:
    if settings.method == "nsga2":
        return _evolve(problem, settings, start, past, state)
    return _enumerate(problem, settings, len(past))


def _evolve(
    problem: Problem,
    settings: Settings,
    start: Genes | None,
    past: Genes,
    state: dict[str, Any] | None,
) -> Generations:
    """Generations of NSGA-II, each with the state that it was asked from."""
    from codesign.search.nsga2 import Evolution

    first = _first_generation(problem.space, settings, start)
    evolution = Evolution(
        problem.space, settings.population, settings.seed, len(problem.minimize), first
    )
    snapshot: dict[str, Any] = {}
    if state is not None:
        evolution.restore(state, past)
        snapshot = state
    while True:
        told = yield evolution.ask(), snapshot
        evolution.tell(*told)
        snapshot = evolution.state()


def _first_generation(space: SearchSpace, settings: Settings, start: Genes | None) -> Genes:
    """The corners of the space, candidates to begin with, and random ones."""
    rng = np.random.default_rng([settings.seed, 1])
    given = [space.corners()] + ([] if start is None else [space.canonical(start)])
    known = np.unique(np.concatenate(given), axis=0)
    known = np.concatenate([space.corners(), known])
    drawn = space.sample(settings.population, rng)
    every = np.concatenate([known, drawn])
    _, first = np.unique(every, axis=0, return_index=True)
    distinct: Genes = every[np.sort(first)][: max(settings.population, len(known))]
    return distinct


def _enumerate(problem: Problem, settings: Settings, skip: int) -> Generations:
    """Chunks of a random or exhaustive search, without the first `skip` candidates."""
    from codesign.search.nsga2 import every_candidate, random_search

    space = problem.space
    chunks = (
        random_search(space, settings.seed, CHUNK)
        if settings.method == "random"
        else every_candidate(space, CHUNK)
    )
    for genes in chunks:
        rest = genes[min(skip, len(genes)) :]
        skip -= len(genes) - len(rest)
        if len(rest):
            yield rest, {}
    while True:
        yield np.empty((0, len(space.cardinalities)), dtype=np.uint8), {}
