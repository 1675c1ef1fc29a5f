"""The mapper: the best mapping of a kernel onto a machine, with what was proved about it.

A `Space` is a finite, stated set of mappings of one kernel: it can bound the cost of all of them
from below at once and write any of them as a kernel. `best_mapping` prices candidates exactly, by the
timing of the very kernels they would emit, in order of their bounds, and stops when no bound left
can beat the best price: the result is then the optimum of the space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.hw.config import HardwareConfig
from codesign.hw.energy import CostTable
from codesign.hw.events import EVENT_INDEX, EVENTS
from codesign.hw.fast_timing import evaluate_batch
from codesign.hw.program import Body

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OBJECTIVES = ("cycles", "energy", "edp")
FIRST_BATCH = 16


@dataclass(frozen=True)
class Prices:
    """Nominal energy as a linear form: joules per event [len(EVENTS)] and per cycle."""

    event_j: Floats
    cycle_j: float
    clock_hz: int

    @classmethod
    def of(cls, table: CostTable) -> "Prices":
        """Fold idle PEs and standing power of a cost table into the linear form."""
        return _prices(table)

    def energy_j(self, events: Ints, cycles: Ints) -> Floats:
        """Joules [batch] of events [batch, len(EVENTS)] and cycles [batch]."""
        # Summed row by row, so that a price does not depend on the batch it is computed in.
        joules: Floats = (events * self.event_j).sum(axis=1) + cycles * self.cycle_j
        return joules

    def score(self, objective: str, events: Ints, cycles: Ints) -> Floats:
        """What the objective minimises: cycles, J or J s, [batch]."""
        if objective == "cycles":
            return cycles.astype(np.float64)
        energy = self.energy_j(events, cycles)
        return energy if objective == "energy" else energy * cycles / self.clock_hz


@lru_cache(maxsize=4096)
def _prices(table: CostTable) -> Prices:
    nominal = 1
    event_j = table.event_j[nominal].copy()
    event_j[EVENT_INDEX["pe_active"]] -= table.pe_idle_j[nominal]
    event_j.setflags(write=False)
    return Prices(event_j, float(table.standby_w[nominal]) / table.clock_hz, table.clock_hz)


class Space(Protocol):
    """A stated, finite set of mappings of one kernel."""

    def __len__(self) -> int:
        """Number of feasible mappings."""

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""

    def mapping(self, index: int) -> Any:
        """One mapping, for people and for writing the Program."""


@dataclass(frozen=True)
class Choice:
    """The best mapping of a kernel and its exact price.

    `proved`: no mapping of the space (`space_size` of them) is better; `priced` were timed exactly.
    """

    mapping: Any
    cycles: int
    events: Ints
    score: float
    proved: bool
    priced: int
    space_size: int


def best_mapping(
    spaces: Sequence[Space], config: HardwareConfig, prices: Prices, objective: str
) -> Choice | None:
    """The mapping of all spaces with the lowest objective; None when none is feasible.

    Ties go to the lower energy, then to the earlier candidate.
    """
    origin, index, bound = _order_by_bound(spaces, prices, objective)
    if not len(bound):
        return None
    best: tuple[float, float] | None = None
    choice: tuple[int, int, int, Ints] | None = None
    done, batch = 0, FIRST_BATCH
    while done < len(bound) and (best is None or bound[done] < best[0]):
        step = slice(done, done + batch)
        for s in np.unique(origin[step]):
            chosen = index[step][origin[step] == s]
            timing = evaluate_batch(spaces[s].kernel(chosen), config)
            score = prices.score(objective, timing.events, timing.cycles)
            energy = prices.energy_j(timing.events, timing.cycles)
            at = int(np.lexsort((energy, score))[0])
            found = (float(score[at]), float(energy[at]))
            if best is None or found < best:
                best = found
                choice = (int(s), int(chosen[at]), int(timing.cycles[at]), timing.events[at])
        done = min(done + batch, len(bound))
        batch *= 2
    assert best is not None and choice is not None
    s, i, cycles, events = choice
    return Choice(
        spaces[s].mapping(i), cycles, events, best[0], True, done, sum(len(sp) for sp in spaces)
    )


def _order_by_bound(
    spaces: Sequence[Space], prices: Prices, objective: str
) -> tuple[Ints, Ints, Floats]:
    """Space and index of every candidate, and its bound, lowest bound first."""
    origins, indices, bounds = [], [], []
    for s, space in enumerate(spaces):
        if not len(space):
            continue
        cycles, events = space.bounds()
        origins.append(np.full(len(space), s))
        indices.append(np.arange(len(space)))
        bounds.append(prices.score(objective, events, cycles))
    if not bounds:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    bound = np.concatenate(bounds)
    order = np.argsort(bound, kind="stable")
    return np.concatenate(origins)[order], np.concatenate(indices)[order], bound[order]


def splits(extent: int, granule: int = 1) -> Ints:
    """Tile sizes that cut `extent` into near-equal parts, rounded up to multiples of `granule`.

    Counts of parts are all up to 32, then grow by half octaves to one granule a part; sizes are
    distinct and never above the extent.
    """
    most = -(-extent // granule)
    octaves = np.arange(5, max(6, np.log2(most) + 0.5), 0.5)
    counts = np.concatenate([np.arange(1, 33), np.round(2**octaves).astype(np.int64), [most]])
    sizes = -(-extent // np.minimum(counts, most))
    return np.unique(np.minimum(-(-sizes // granule) * granule, extent))


def doublings(extent: int) -> Ints:
    """1, 2, 4, ... and the extent itself."""
    return np.unique([*(1 << i for i in range(extent.bit_length()) if 1 << i <= extent), extent])


def zero_events(n: int) -> Ints:
    """Event counts [n, len(EVENTS)], all zero."""
    return np.zeros((n, len(EVENTS)), dtype=np.int64)
