"""Two stages against one: Transformers searched on a fixed machine, then machines for the winners.

This is what one does without joint search. Stage one spends at most half the budget of the joint
search on Transformers alone, on the machine `ibert`; stage two spends the rest on machines for its
winners, in each of three ways; either evaluates at least one candidate. All fronts are measured in the same objectives, to the same reference point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from codesign.hw.machine.config import preset
from codesign.search.joint.front import Archive, hypervolume, thinned
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.problem import SearchProblem
from codesign.search.joint.results import BASELINE_MACHINE
from codesign.search.joint.search import Listener, Settings, search
from codesign.search.joint.search_state import LOSSES, SearchProgress
from codesign.search.space.space import Constraints, Genes, SearchSpace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

JOINT = "joint"
EVERY_WINNER, FEWER_WINNERS, KNEE = "every winner", "fewer winners", "the knee"


@dataclass(frozen=True)
class Strategy:
    """A front found in one way, and what it took."""

    name: str
    winners: int | None  # of stage one, that were given machines; None for the joint search
    machines_each: int | None
    evaluated: int
    hypervolume: float  # decades^objectives
    best_edp_js: tuple[float | None, ...]  # within each of LOSSES
    genes: Genes
    objectives: Floats

    @property
    def front_size(self) -> int:
        """Points on its front."""
        return len(self.genes)


def fixed_space(space: SearchSpace) -> SearchSpace:
    """The Transformers of a space, all on the machine `ibert`, without constraints."""
    machine = preset(BASELINE_MACHINE)
    axes = tuple((name, (int(getattr(machine, name)),)) for name, _ in space.axes)
    return replace(space, axes=axes, constraints=Constraints(None, None, False))


def compare_strategies(
    problem: SearchProblem,
    settings: Settings,
    joint: SearchProgress,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> list[Strategy]:
    """The joint front, then those of two stages at its budget, knee alone last.

    Deterministic: `settings.seed` decides. Raises CodesignError when stage one finds nothing.
    """
    listener = listener or Listener()
    space = problem.space
    assert joint.reference is not None
    budget = max(joint.evaluated, 2)
    alone = fixed_space(space)
    tables = problem.tables
    first = replace(
        problem,
        space=alone,
        tables=NetworkTables(
            alone, tables.objective, tables.tables, tables.area_tables, tables.store, tables.pool
        ),
    )
    half = replace(settings, method="nsga2", budget=budget // 2)
    found = search(first, half, None, listener=listener)
    say(
        f"stage one: {found.evaluated:,} Transformers on {BASELINE_MACHINE}, "
        f"{len(found.archive.genes)} winners"
    )
    rest = max(budget - found.evaluated, 1)
    strategies = [
        Strategy(
            JOINT, None, None, joint.evaluated,
            hypervolume(joint.archive.objectives, joint.reference),
            tuple(None if np.isinf(edp) else edp for edp in joint.best_edp),
            joint.archive.genes, joint.archive.objectives,
        )
    ]  # fmt: skip
    for name, winners, each in _shares(found.archive, rest, space.machines):
        genes = _on_machines(space, found.archive.genes[winners], each, settings.seed)
        strategies.append(
            _second_stage(problem, joint, name, genes, len(winners), each, found.evaluated)
        )
        say(f"stage two, {name}: {len(genes):,} candidates")
    return strategies


def _shares(front: Archive, rest: int, machines: int) -> Iterator[tuple[str, Ints, int]]:
    """Which winners of stage one get how many machines each, within `rest` candidates."""
    count = len(front.genes)
    every = thinned(front.objectives, min(count, rest))
    yield EVERY_WINNER, every, min(machines, rest // len(every))
    if rest // count < machines:
        fewer = thinned(front.objectives, max(1, rest // machines))
        yield FEWER_WINNERS, fewer, min(machines, rest // len(fewer))
    yield KNEE, knee(front.objectives), min(machines, rest)


def knee(objectives: Floats) -> Ints:
    """Place [1] of the point with the least sum of logarithmic objectives, each over its range."""
    logs = np.log10(objectives)
    span = np.ptp(logs, axis=0)
    scaled = (logs - logs.min(axis=0)) / np.where(span > 0, span, 1)
    return np.array([int(np.argmin(scaled.sum(axis=1)))])


def _on_machines(space: SearchSpace, winners: Genes, each: int, seed: int) -> Genes:
    """Winners [n] on `each` machines: the nearest to the base, then random ones; all distinct."""
    rng = np.random.default_rng([seed, 2])
    sizes = [len(values) for _, values in space.axes]
    at = space.columns["machine"]
    home = int(space.machine_numbers(space.corners()[:1])[0])
    rows = []
    for winner in winners:
        order = rng.permutation(space.machines)
        order = np.concatenate([[home], order[order != home]])[:each]
        genes = np.repeat(winner[None], len(order), axis=0)
        genes[:, at] = np.stack(np.unravel_index(order, sizes), axis=1)
        rows.append(genes)
    return np.concatenate(rows)


def _second_stage(
    problem: SearchProblem,
    joint: SearchProgress,
    name: str,
    genes: Genes,
    winners: int,
    each: int,
    spent: int,
) -> Strategy:
    costs, objectives = problem.evaluate(genes)
    good = np.flatnonzero(costs.feasible)
    archive = Archive(np.empty((0, genes.shape[1]), dtype=np.uint8))
    archive.add(genes[good], objectives[good])
    space, quality = problem.space, problem.quality
    baseline = float(quality.perplexity(space, space.corners()[1:])[0])
    perplexity = quality.perplexity(space, genes[good])
    best = []
    for loss in LOSSES:
        within = costs.edp_js[good][perplexity <= baseline + loss]
        best.append(float(within.min()) if len(within) else None)
    assert joint.reference is not None
    covered = hypervolume(archive.objectives, joint.reference) if len(good) else 0.0
    return Strategy(
        name, winners, each, spent + len(genes), covered, tuple(best), archive.genes,
        archive.objectives,
    )  # fmt: skip
