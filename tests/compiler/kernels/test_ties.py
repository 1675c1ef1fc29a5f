"""Of equal alternatives the first is taken: of mappings, and of ways to compute a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from codesign.compiler.kernels.mapspace import Choice, Ints, Mapspace, Prices, best_mapping
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.compiler.plan import pricing
from codesign.compiler.plan.pricing import GroupShape, Part, PriceTables
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import preset
from codesign.hw.machine.events import EVENTS
from codesign.hw.machine.program import Body

CONFIG = preset("edge")
PROBLEM = MatmulProblem(48, 64, 96)


@dataclass
class Repeated:
    """A space whose every mapping occurs several times, each under its own number."""

    of: Mapspace
    times: int
    name: str

    def __len__(self) -> int:
        return self.times * len(self.of)

    def _own(self, chosen: Ints) -> Ints:
        return chosen % len(self.of)

    def kernel(self, chosen: Ints) -> Body:
        return self.of.kernel(self._own(chosen))

    def keys(self, chosen: Ints) -> Ints:
        return self.of.keys(self._own(chosen))

    def bounds(self) -> tuple[Ints, Ints]:
        cycles, events = self.of.bounds()
        return np.tile(cycles, self.times), np.tile(events, (self.times, 1))

    @property
    def kind(self) -> tuple[Any, ...]:
        return self.of.kind

    def mapping(self, index: int) -> Any:
        return self.name, index


@pytest.mark.parametrize("objective", ["cycles", "energy", "edp"])
def test_the_first_of_equal_mappings(objective: str) -> None:
    prices = Prices.of(cost_table(CONFIG))
    for space in matmul_spaces(PROBLEM, CONFIG):
        once = best_mapping([space], CONFIG, prices, objective)
        spaces: Sequence[Any] = [Repeated(space, 3, "first"), Repeated(space, 1, "second")]
        found = best_mapping(spaces, CONFIG, prices, objective)
        assert once is not None and found is not None
        name, index = found.mapping
        assert name == "first" and space.mapping(index) == once.mapping
        assert (found.cycles, found.score) == (once.cycles, once.score)


@pytest.mark.parametrize("dear", [False, True])
def test_the_first_of_equal_alternatives(monkeypatch: pytest.MonkeyPatch, dear: bool) -> None:
    """Three of one price, perhaps behind a dearer one; which they are is told by their numbers."""
    events = np.zeros(len(EVENTS), dtype=np.int64)
    cycles = {16: 2000, 17: 1000, 18: 1000, 19: 1000}

    def choose(problem: MatmulProblem, *_: Any) -> Choice:
        return Choice(problem.m, cycles[problem.m], events, 0.0, True, 1, 1)

    monkeypatch.setattr(pricing, "choose", choose)
    monkeypatch.setattr(pricing, "floor", lambda problem, config: (1, events))
    rows = ([16] if dear else []) + [17, 18, 19]
    shape = GroupShape(tuple((Part(MatmulProblem(m, 16, 16), 0, 0),) for m in rows))
    found = PriceTables(CONFIG, "cycles", cost_table(CONFIG)).cheapest(shape)
    assert found is not None
    assert found.alternative == int(dear) and found.choices[0] is not None
    assert found.choices[0].mapping == 17
