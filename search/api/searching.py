"""The Python interface: machines and Transformers, searched together."""

from collections.abc import Sequence
from pathlib import Path

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.search.api.inputs import Named, area_costs, energy_costs
from codesign.search.joint.pricing_pool import pool_of
from codesign.search.joint.problem import priced_problem
from codesign.search.joint.results import Results, collect
from codesign.search.joint.search import Settings, search
from codesign.search.space.quality import load_quality
from codesign.search.space.space import SearchSpace
from codesign.search.space.space_file import read_space


def joint_search(
    space: SearchSpace | Named | None = None,
    *,
    minimize: Sequence[str] = ("perplexity", "edp"),
    quality: Named | None = None,
    method: str = "nsga2",
    budget: int = 10_000,
    population: int = 200,
    seed: int = 0,
    points: int = 40,
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
    workers: int = 1,
) -> Results:
    """Search machines and Transformers together; at most `points` of the front, priced in full.

    `space` is that of UCB/EECS-2023-92 unless given, `quality` a file of measured subnets; without
    one perplexity is a scaling law's, and every point says that it is a proxy. Nothing is kept but
    prices in the user's cache: `codesign search` keeps runs, and resumes them. Raises CodesignError
    where a setting is wrong or no candidate keeps the constraints.
    """
    if not isinstance(space, SearchSpace):
        space = SearchSpace() if space is None else read_space(Path(space))
    judged = load_quality(None if quality is None else Path(quality), space)
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    asked = Settings(tuple(minimize), method, budget, population, seed)
    with (
        pool_of(workers, None) as pool,
        priced_problem(
            space, "edp", tables, areas, judged, asked.minimize, pool, lambda message: None
        ) as problem,
    ):
        done = search(problem, asked.within(space.size), None)
        return collect(problem, done, points)
