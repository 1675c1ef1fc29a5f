"""What breaks constraints is selected against in NSGA-II, by how much it breaks them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from joint_space import SMALL, problem

from codesign.search.joint.nsga2 import Evolution, Floats
from codesign.search.joint.search import Settings, search

POPULATION = 24


def _told(seed: int, generations: int) -> tuple[list[bytes], dict[bytes, float], list[bytes]]:
    """All candidates in order, the violation of each, and the population that is left.

    The more a candidate breaks the constraints, the better it is in both objectives.
    """
    rng = np.random.default_rng(seed)
    evolution = Evolution(
        SMALL, POPULATION, seed, 2, SMALL.sample(4 * POPULATION, rng)[:POPULATION]
    )
    violations: dict[bytes, float] = {}
    for _ in range(generations):
        genes = evolution.ask()
        violation = np.where(rng.random((len(genes), 3)) < 0.6, 0.0, rng.random((len(genes), 3)))
        total = violation.sum(axis=1)
        evolution.tell(np.stack([1 - total, 2 - total], axis=1), violation)
        violations.update(zip(map(bytes, genes), total.tolist(), strict=True))
    left = [bytes(row.astype(np.uint8)) for row in evolution.algorithm.pop.get("X")]
    return list(violations), violations, left


@pytest.mark.parametrize("seed", range(4))
def test_the_least_violation_survives(seed: int) -> None:
    _, violations, left = _told(seed, 1)
    assert len(left) == POPULATION
    names, violations, left = _told(seed, 3)
    assert len(names) > 2 * POPULATION - 1
    kept = sorted(violations[name] for name in left)
    assert kept == sorted(violations.values())[: len(left)]
    assert max(kept) < max(violations.values())


def test_parents_break_the_constraints_less() -> None:
    """A tournament of two goes to the lesser violation, whatever the objectives."""
    evolution = Evolution(
        SMALL, POPULATION, 0, 2, SMALL.sample(POPULATION, np.random.default_rng(0))
    )
    count = len(evolution.ask())
    violation = np.zeros((count, 3))
    violation[:, 1] = np.arange(count)
    evolution.tell(np.tile(-np.arange(count, dtype=float)[:, None], (1, 2)), violation)
    pop = evolution.algorithm.pop
    broken = pop.get("CV")[:, 0]
    assert len(set(broken)) == len(pop)
    pairs = np.array([(a, b) for a in range(len(pop)) for b in range(len(pop)) if a != b])
    choose = evolution.algorithm.mating.selection.func_comp
    winners = choose(pop, pairs, random_state=np.random.default_rng(0))[:, 0]
    assert (broken[winners] == broken[pairs].min(axis=1)).all()


def test_a_search_tells_what_the_tables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every constraint that a candidate breaks reaches the algorithm, with its size."""
    constraints = replace(SMALL.constraints, area_mm2=0.5, power_w=0.25)
    small, told = problem(replace(SMALL, constraints=constraints)), []
    tell, asked = Evolution.tell, []
    ask = Evolution.ask

    def spied_ask(self: Evolution) -> Any:
        asked.append(ask(self))
        return asked[-1]

    def spied(self: Evolution, objectives: Floats, violation: Floats) -> None:
        genes = asked[-1][: len(violation)]
        np.testing.assert_array_equal(violation, small.tables.costs(genes).violation)
        told.append(violation)
        tell(self, objectives, violation)
        np.testing.assert_array_equal(self._asked.get("G"), violation)

    monkeypatch.setattr(Evolution, "ask", spied_ask)
    monkeypatch.setattr(Evolution, "tell", spied)
    found = search(small, Settings(budget=240, population=60), None)
    broken = np.concatenate(told) > 0
    assert broken[:, 1].any() and broken[:, 2].any()  # area, power
    assert broken.any(axis=1).sum() == found.evaluated - found.feasible
