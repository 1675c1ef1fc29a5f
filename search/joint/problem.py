"""What a search evaluates: a space, with what prices and judges its candidates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.search.joint.network_tables import Costs, NetworkTables
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.price_store import PriceStore, cache_folder
from codesign.search.joint.pricing_pool import Pool
from codesign.search.space.quality import Quality
from codesign.search.space.space import Genes, SearchSpace

Floats = npt.NDArray[np.float64]

INFEASIBLE = 1e30  # objective of what breaks a constraint: never compared


@dataclass(frozen=True)
class SearchProblem:
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
        good = costs.feasible
        priced = costs.energy_j[good], costs.latency_s[good], costs.area_mm2[good]
        found = np.full((len(genes), len(self.minimize)), INFEASIBLE)
        for place, name in enumerate(self.minimize):
            formula = OBJECTIVES[name].formula
            if formula is None:
                found[good, place] = self.quality.perplexity(self.space, genes)[good]
            else:
                found[good, place] = formula(*priced)
        return found


@contextmanager
def priced_problem(
    space: SearchSpace,
    objective: str,
    tables: str | EnergyOverrides,
    areas: str | AreaOverrides,
    quality: Quality,
    minimize: tuple[str, ...],
    pool: Pool,
    warn: Callable[[str], None],
) -> Iterator[SearchProblem]:
    """A problem that a pool prices, kernels mapped for `objective`, with the user's cache of prices.

    The cache is saved in the end, whatever ends it; `warn` is told of what it cannot read or write.
    """
    store = PriceStore(cache_folder(), warn)
    try:
        yield SearchProblem(
            space, NetworkTables(space, objective, tables, areas, store, pool), quality, minimize
        )
    finally:
        store.save()
