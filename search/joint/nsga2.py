"""NSGA-II on the genes of a search space: pymoo's algorithm with operators for integer genes.

Operators act on candidates whose absent layers repeat the last one, so that a Transformer that grows
goes on as it was; afterwards the genes of absent layers are 0 again. Every candidate is evaluated
once: what has been seen is never asked for again. The state between two generations is a
population and a generator of random numbers, which `state` and `restore` write and read.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection

from codesign.search.space.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

CROSSOVER = 0.9  # of pairs
FAR_JUMP = 0.25  # of mutated genes: any value; the others move by a step or two
ALL_LAYERS = 0.15  # of offspring: the values of all layers on one axis move together
_UNRANKED = -1  # rank of candidates that break constraints: the survival gives them none


class Evolution:
    """One run of NSGA-II: `ask` for candidates, `tell` what they cost."""

    def __init__(
        self, space: SearchSpace, population: int, seed: int, objectives: int, start: Genes
    ) -> None:
        self.space = space
        self.seen: set[bytes] = set()
        self.algorithm: Any = NSGA2(
            pop_size=population,
            sampling=start,
            selection=TournamentSelection(func_comp=_CrowdedTournament()),
            crossover=_Exchange(space),
            mutation=_Steps(space),
            eliminate_duplicates=_Unseen(self.seen),
            output=None,
        )
        problem = Problem(
            n_var=len(space.cardinalities),
            n_obj=objectives,
            n_ieq_constr=3,
            xl=np.zeros(len(space.cardinalities)),
            xu=space.cardinalities - 1,
            vtype=int,
        )
        self.algorithm.setup(problem, termination=NoTermination(), seed=seed)
        self._asked: Any = None

    @property
    def generation(self) -> int:
        """Generations told so far."""
        return int(self.algorithm.n_iter or 1) - 1

    def ask(self) -> Genes:
        """New candidates [n, genes], none seen before; none at all when the space is used up."""
        self._asked = self.algorithm.ask()
        if self._asked is None or not len(self._asked):
            return np.empty((0, len(self.space.cardinalities)), dtype=np.uint8)
        genes: Genes = self._asked.get("X").astype(np.uint8)
        return genes

    def tell(self, objectives: Floats, violation: Floats) -> None:
        """What the candidates last asked for cost [n, objectives], and how they break constraints.

        Of candidates that the budget has no room for nothing is told: they are the last ones.
        """
        self._asked = self._asked[: len(objectives)]
        self._asked.set("F", objectives, "G", violation)
        self.seen.update(_names(self._asked.get("X")))
        self.algorithm.tell(infills=self._asked)

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as arrays of numbers and of text."""
        pop = self.algorithm.pop
        rng = json.dumps(self.algorithm.random_state.bit_generator.state)
        return {
            **{name: pop.get(name) for name in ("X", "F", "G")},
            "rank": _ranks(pop),
            "crowding": _crowding(pop),
            "n_iter": np.array(self.algorithm.n_iter),
            "rng": np.array(rng),
        }

    def restore(self, state: dict[str, Any], seen: Genes) -> None:
        """Go on from a state and from everything evaluated until then."""
        algorithm = self.algorithm
        algorithm._initialize()
        algorithm.pop = Population.new(**{name: state[name] for name in ("X", "F", "G")})
        ranked = zip(algorithm.pop, state["rank"].tolist(), state["crowding"], strict=True)
        for candidate, rank, room in ranked:
            if rank != _UNRANKED:
                candidate.set("rank", rank)
                candidate.set("crowding", room)
        algorithm.n_iter = int(state["n_iter"])
        algorithm.is_initialized = True
        algorithm.random_state.bit_generator.state = json.loads(str(state["rng"]))
        self.seen.update(_names(seen))


def random_search(space: SearchSpace, seed: int, chunk: int) -> Iterator[Genes]:
    """Distinct random candidates, `chunk` at a time, until hardly any are new."""
    rng = np.random.default_rng(seed)
    seen: set[bytes] = set()
    fresh = 1.0
    while fresh > 0.001:
        genes = space.sample(chunk, rng)
        new = []
        for row, name in enumerate(_names(genes)):
            if name not in seen:
                seen.add(name)
                new.append(row)
        fresh = len(new) / chunk
        if new:
            yield genes[new]


def every_candidate(space: SearchSpace, chunk: int) -> Iterator[Genes]:
    """All candidates of a space in order, `chunk` or fewer at a time."""
    t, at = space.transformer, space.columns
    own = [at[name].start for name, _ in t.of_network]
    fixed = [*range(len(space.axes)), *own]  # columns that every candidate has a value of
    fixed_sizes = [len(v) for _, v in space.axes] + [len(v) for _, v in t.of_network]
    for place, depth in enumerate(t.depths):
        chosen = 1 if t.uniform else depth  # layers whose genes are free
        free = [of.start + layer for layer in range(chosen) for of in space.layer_columns]
        sizes = fixed_sizes + [len(values) for _, values in t.of_layer] * chosen
        total = int(np.prod(sizes, dtype=object))
        for start in range(0, total, chunk):
            numbers = np.arange(start, min(start + chunk, total))
            genes = np.zeros((len(numbers), len(space.cardinalities)), dtype=np.uint8)
            genes[:, fixed + free] = np.stack(np.unravel_index(numbers, sizes), axis=1)
            if t.depth is not None:
                genes[:, at[t.depth.name]] = place
            yield space.canonical(genes)


def _names(genes: npt.NDArray[Any]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(genes, dtype=np.uint8)]


def _unfolded(space: SearchSpace, genes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Candidates [n, genes] whose absent layers repeat the last one."""
    genes = genes.astype(np.int64)
    layer = np.minimum(np.arange(space.most_layers), space.depth(genes)[:, None] - 1)
    for at in space.layer_columns:
        genes[:, at] = np.take_along_axis(genes[:, at], layer, axis=1)
    return genes


class _Exchange(Crossover):  # type: ignore[misc]
    """Each gene comes from either parent; the genes of a layer come together."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=CROSSOVER)
        self.space = space

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any) -> Any:
        first, second = (_unfolded(self.space, parents) for parents in X)
        swap = random_state.random(first.shape) < 0.5
        for at in self.space.layer_columns[1:]:
            swap[:, at] = swap[:, self.space.layer_columns[0]]
        children = np.where(swap, second, first), np.where(swap, first, second)
        return np.stack([self.space.canonical(child) for child in children])


class _Steps(Mutation):  # type: ignore[misc]
    """A gene or two take a step along their choices, or jump."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any) -> Any:
        rng, most = random_state, self.space.cardinalities
        genes = _unfolded(self.space, X)
        count, width = genes.shape
        chosen = rng.random(genes.shape) < 1.5 / width
        jump = rng.random(genes.shape) < FAR_JUMP
        step = rng.integers(1, 3, genes.shape) * rng.choice((-1, 1), genes.shape)
        moved = np.where(jump, rng.integers(0, most, genes.shape), genes + step)
        genes = np.where(chosen, moved, genes)
        shift = rng.choice((-1, 1), count)
        together = rng.random(count) < ALL_LAYERS
        axis = (rng.random(count) * len(self.space.layer_columns)).astype(int)
        for number, at in enumerate(self.space.layer_columns):
            genes[:, at] += (shift * (together & (axis == number)))[:, None]
        return self.space.canonical(np.clip(genes, 0, most - 1))


class _Unseen(DuplicateElimination):  # type: ignore[misc]
    """Drops candidates that were evaluated before, or that come twice."""

    def __init__(self, seen: set[bytes]) -> None:
        super().__init__()
        self.seen = seen

    def do(self, pop: Any, *others: Any, to_itself: bool = True, **kwargs: Any) -> Any:
        # Of `others` the first is the population, which was seen; the second, offspring so far.
        known: set[bytes] = set()
        for other in others[1:]:
            if len(other):
                known.update(_names(_genes_of(other)))
        kept = []
        for place, name in enumerate(_names(_genes_of(pop)) if len(pop) else ()):
            if name not in self.seen and name not in known:
                known.add(name)
                kept.append(place)
        return pop[kept]


def _ranks(pop: Any) -> npt.NDArray[np.int64]:
    """The rank of each candidate [n]; `_UNRANKED` where it has none."""
    return np.array([_UNRANKED if rank is None else rank for rank in pop.get("rank")], np.int64)


def _crowding(pop: Any) -> Floats:
    """The crowding distance of each candidate [n]; 0 where it has none."""
    return np.array([0.0 if room is None else room for room in pop.get("crowding")], np.float64)


def _genes_of(pop: Any) -> npt.NDArray[Any]:
    """`pop.get("X")`, faster."""
    return np.array([individual.X for individual in pop])


class _CrowdedTournament:
    """The better of each pair [n, 2]: less violation, lower rank, more room; else either."""

    def __init__(self) -> None:
        self._of: Any = None  # the population that the columns are of: a generation mates often
        self._columns: tuple[Floats, ...] = ()

    def __call__(self, pop: Any, pairs: Any, random_state: Any = None, **kwargs: Any) -> Any:
        if self._of is not pop:
            ranks = _ranks(pop)
            last = np.where(ranks == _UNRANKED, np.inf, ranks)
            self._columns = pop.get("CV")[:, 0], last, _crowding(pop)
            self._of = pop
        violation, rank, room = self._columns
        a, b = pairs[:, 0], pairs[:, 1]
        second = random_state.random(len(pairs)) < 0.5
        for worse, better in (
            (room[a] < room[b], room[a] > room[b]),
            (rank[a] > rank[b], rank[a] < rank[b]),
            (violation[a] > violation[b], violation[a] < violation[b]),
        ):
            second = np.where(worse, True, np.where(better, False, second))
        return np.where(second, b, a)[:, None]
