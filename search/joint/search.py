"""The joint search: NSGA-II (or random, or exhaustive) over Transformers and machines together.

A generation is asked for, filled into the tables, priced in bulk and told; then the state is written
as a whole, so that a search that is killed goes on to the same front. This module knows the run's
state and nothing of how results are shown: `results` writes them.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import CodesignError
from codesign.search.joint.front import Archive
from codesign.search.joint.misses import Misses
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.search_state import Checkpoint, SearchProgress
from codesign.search.space.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

LARGEST_BUDGET = 20_000_000  # all that was seen is in memory
POPULATION = (8, 5_000)  # least and most: sorting takes memory as its square
SEARCH_METHODS = ("nsga2", "random", "exhaustive")
CHUNK = 8192  # candidates of a random or exhaustive search at a time


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
        if self.method not in SEARCH_METHODS:
            raise CodesignError(
                f"unknown method {self.method!r}: choose {', '.join(SEARCH_METHODS)}"
            )
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
class Listener:
    """Whom a search tells how far it is: groups being priced, and generations done."""

    pricing: Callable[[int, int], None] = lambda done, total: None
    generation: Callable[[SearchProgress], None] = lambda progress: None


def search(
    problem: SearchProblem,
    settings: Settings,
    checkpoint: Checkpoint | None,
    *,
    resume: bool = False,
    start: Genes | None = None,
    listener: Listener | None = None,
) -> SearchProgress:
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
    done, past, state = SearchProgress(Archive(empty)), empty, None
    if resume and checkpoint is not None and checkpoint.exists:
        past, done, state = checkpoint.load()
    elif checkpoint is not None:
        checkpoint.start()
    misses = Misses(problem.tables)  # of a search that has found nothing feasible yet
    if not done.feasible and len(past):
        misses.add(past, problem.tables.costs(past))
    generations = (
        _evolve(problem, settings, start, past, state)
        if settings.method == "nsga2"
        else _enumerate(problem, settings, len(past))
    )
    genes, snapshot = next(generations)
    while len(genes):
        room = settings.budget - done.evaluated
        if room <= 0:
            break
        genes = genes[:room]
        costs, objectives = problem.evaluate(genes, listener.pricing)
        done.add(problem, genes, costs, objectives, baseline)
        if not done.feasible:
            misses.add(genes, costs)
        following, snapshot = generations.send((objectives, costs.violation))
        if checkpoint is not None:
            checkpoint.append(genes, done, snapshot)
        listener.generation(done)
        genes = following
    if not len(done.archive.genes):
        raise CodesignError(
            f"none of {done.evaluated:,} candidates keeps the constraints of the space: "
            f"{misses.describe()}: relax that in [constraints], or widen [hardware]"
        )
    return done


Asked = tuple[Genes, dict[str, Any]]  # candidates, and the state that they were asked from
Told = tuple[Floats, Floats]  # objectives and violation
Generations = Generator[Asked, Told, None]


def _evolve(
    problem: SearchProblem,
    settings: Settings,
    start: Genes | None,
    past: Genes,
    state: dict[str, Any] | None,
) -> Generations:
    """Generations of NSGA-II, each with the state that it was asked from."""
    from codesign.search.joint.nsga2 import Evolution

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


def _enumerate(problem: SearchProblem, settings: Settings, skip: int) -> Generations:
    """Chunks of a random or exhaustive search, without the first `skip` candidates."""
    from codesign.search.joint.nsga2 import every_candidate, random_search

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
