"""The Python interface: machines and Transformers, searched together."""

from collections.abc import Iterable
from pathlib import Path
from typing import SupportsIndex

from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.search.api.arguments import Named, choice, collected, place, refused, whole
from codesign.search.api.inputs import area_costs, energy_costs
from codesign.search.api.workers import lost_workers, worker_count
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.pricing_pool import pool_of
from codesign.search.joint.problem import priced_problem
from codesign.search.joint.results import Results, collect
from codesign.search.joint.search import POPULATION, SEARCH_METHODS, Settings, search
from codesign.search.space.quality import load_quality
from codesign.search.space.space import SearchSpace
from codesign.search.space.space_file import read_space


def joint_search(
    space: SearchSpace | Named | None = None,
    *,
    minimize: str | Iterable[str] = ("perplexity", "edp"),
    quality: Named | None = None,
    method: str = "nsga2",
    budget: SupportsIndex = 10_000,
    population: SupportsIndex = 200,
    seed: SupportsIndex = 0,
    points: SupportsIndex = 40,
    energy_table: Named | EnergyOverrides = "default",
    area_table: Named | AreaOverrides = "default",
    workers: SupportsIndex = 1,
) -> Results:
    """Search machines and Transformers together; at most `points` of the front, priced in full.

    `space` is that of UCB/EECS-2023-92 unless given, `quality` a file of measured subnets; without
    one perplexity is a scaling law's, and every point says that it is a proxy. Nothing is kept but
    prices in the user's cache: `codesign search` keeps runs, and resumes them. More than one of `workers`
    are processes, as of `sweep`. Raises CodesignError where a setting is wrong or no candidate keeps the
    constraints.
    """
    goals = (
        minimize.split(",")
        if isinstance(minimize, str)
        else collected("minimize", minimize, "names")
    )
    chosen = tuple(choice("minimize", goal, OBJECTIVES) for goal in goals)
    if not 2 <= len(set(chosen)) == len(chosen):
        raise refused("minimize", minimize, f"two or more different of {', '.join(OBJECTIVES)}")
    choice("method", method, SEARCH_METHODS)
    tries = whole("budget", budget, POPULATION[0] if method == "nsga2" else 1)
    asked = Settings(
        chosen, method, tries, whole("population", population, 1), whole("seed", seed, 0)
    )
    most, processes = whole("points", points, 1), worker_count(workers)
    if not isinstance(space, SearchSpace):
        wanted = "a SearchSpace or a TOML file of one"
        space = SearchSpace() if space is None else read_space(Path(place("space", space, wanted)))
    wanted = "a file of measured subnets"
    judged = load_quality(
        None if quality is None else Path(place("quality", quality, wanted)), space
    )
    tables, areas = energy_costs(energy_table), area_costs(area_table)
    with (
        lost_workers(),
        pool_of(processes, None) as pool,
        priced_problem(
            space, "edp", tables, areas, judged, asked.minimize, pool, lambda message: None
        ) as problem,
    ):
        done = search(problem, asked.within(space.size), None)
        return collect(problem, done, most)
