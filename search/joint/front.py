"""Pareto fronts: what is not dominated, how much of the objectives' space it covers, and a thinner one.

Objectives are minimised. Hypervolume is of the logarithms of the objectives up to a reference point,
so that an EDP in J s and a perplexity weigh alike: square decades of two objectives.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from codesign.search.space.space import Genes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def non_dominated(objectives: Floats) -> npt.NDArray[np.bool_]:
    """Which rows of [n, objectives] no other beats; the first of equal ones."""
    from moocore import is_nondominated

    found: npt.NDArray[np.bool_] = np.zeros(len(objectives), dtype=np.bool_)
    if len(objectives):
        found[:] = is_nondominated(objectives, keep_weakly=False)
    return found


def hypervolume(objectives: Floats, reference: Floats) -> float:
    """Decades^objectives that a front [n, objectives] covers up to the reference point."""
    from moocore import hypervolume as exact

    inside = objectives[(objectives < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    return float(exact(np.log10(inside), ref=np.log10(reference)))


@dataclass
class Archive:
    """The non-dominated of all feasible candidates that were ever added."""

    genes: Genes
    objectives: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def add(self, genes: Genes, objectives: Floats) -> None:
        """Take candidates [n] with their objectives [n, objectives]; all feasible."""
        if not len(genes):
            return
        if not len(self.genes):
            self.objectives = np.empty((0, objectives.shape[1]))
        every = np.concatenate([self.objectives, objectives])
        keep = non_dominated(every)
        self.genes = np.concatenate([self.genes, genes])[keep]
        self.objectives = every[keep]


def thinned(objectives: Floats, most: int) -> Ints:
    """Places of at most `most` points of a front [n, objectives]: its ends, then what covers most.

    With two objectives each point taken adds the most hypervolume to those before it;
    with more, it is the farthest from them. Deterministic: the first of equal ones.
    """
    n, width = objectives.shape
    if n <= most:
        return np.arange(n)
    logs = np.log10(objectives)
    span = np.ptp(logs, axis=0)
    scaled = (logs - logs.min(axis=0)) / np.where(span > 0, span, 1)
    taken = list(
        dict.fromkeys(int(np.lexsort((logs.sum(axis=1), logs[:, k]))[0]) for k in range(width))
    )
    taken = taken[:most]
    while len(taken) < most:
        gain = _area_gained(scaled, taken) if width == 2 else _distance(scaled, taken)
        gain[taken] = -1.0
        taken.append(int(np.argmax(gain)))
    return np.sort(np.array(taken))


def _area_gained(points: Floats, taken: list[int]) -> Floats:
    """Area [n] that each point of a two-dimensional front adds to those taken, ends among them."""
    have = points[taken]
    have = have[np.argsort(have[:, 0], kind="stable")]
    right = np.searchsorted(have[:, 0], points[:, 0], side="right")
    upper = have[np.clip(right - 1, 0, len(have) - 1), 1]
    beyond = np.where(right < len(have), have[np.clip(right, 0, len(have) - 1), 0], points[:, 0])
    gained: Floats = (beyond - points[:, 0]) * (upper - points[:, 1])
    return gained


def _distance(points: Floats, taken: list[int]) -> Floats:
    """Distance [n] of each point to the nearest of those taken."""
    nearest = np.full(len(points), np.inf)
    for place in taken:
        nearest = np.minimum(nearest, ((points - points[place]) ** 2).sum(axis=1))
    return nearest
