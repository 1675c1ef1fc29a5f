"""The mapper: the best mapping of a kernel onto a machine, with what was proved about it.

A `Space` is a finite, stated set of mappings of one kernel: it can bound the cost of all of them
from below at once and write any of them as a kernel. `best_mapping` prices candidates exactly, by the
timing of the very kernels they would emit, in order of their bounds, and stops when no bound left
can beat the best price: the result is then the optimum of the space.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.hw.costs.energy import CostTable
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.machine.program import Body
from codesign.hw.views.fast_timing import evaluate_batch, machine_words

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAPPING_OBJECTIVES = ("cycles", "energy", "edp")
FIRST_BATCH = 16
ROUNDING = 1e-9  # relative, far beyond what sums of some twenty terms lose
MOST_TIMED = 200_000  # exact timings kept in memory, some 300 bytes each


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

    def floor(self, objective: str, events: Floats, cycles: Ints) -> Floats:
        """A score that `score` does not go below, faster: rounding is allowed for, not repeated."""
        if objective == "cycles":
            return cycles.astype(np.float64)
        energy = (events @ self.event_j + cycles * self.cycle_j) * (1 - ROUNDING)
        least: Floats = energy if objective == "energy" else energy * cycles / self.clock_hz
        return least


@lru_cache(maxsize=4096)
def _prices(table: CostTable) -> Prices:
    nominal = 1
    event_j = table.event_j[nominal].copy()
    event_j[EVENT_INDEX["pe_active"]] -= table.pe_idle_j[nominal]
    event_j.setflags(write=False)
    return Prices(event_j, float(table.standby_w[nominal]) / table.clock_hz, table.clock_hz)


class Mapspace(Protocol):
    """A stated, finite set of mappings of one kernel."""

    def __len__(self) -> int:
        """Number of feasible mappings."""

    def bounds(self) -> tuple[Ints, Ints]:
        """Cycles [n] and events [n, len(EVENTS)] that no mapping goes below."""

    def floor(self) -> tuple[Ints, Ints]:
        """Cycles and events that no mapping goes below on any machine with as much memory or less."""

    def kernel(self, chosen: Ints) -> Body:
        """The kernels of the chosen mappings, as one batch."""

    def keys(self, chosen: Ints) -> Ints:
        """Numbers [n, fields] that decide the timing of the chosen mappings on machines that move
        and compute alike, whatever their memories hold.
        """

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all mappings of the space have in common: the problem, and the kernel's structure."""

    def mapping(self, index: int) -> Any:
        """One mapping, for people and for writing the Program."""


@dataclass(frozen=True)
class Choice:
    """The best mapping of a kernel and its exact price.

    `proved`: no mapping of the space is better. `space_size` of its mappings were bounded one by one,
    `priced` of them timed exactly.
    """

    mapping: Any
    cycles: int
    events: Ints
    score: float
    proved: bool
    priced: int
    space_size: int


def best_mapping(
    spaces: Sequence[Mapspace], config: HardwareConfig, prices: Prices, objective: str
) -> Choice | None:
    """The mapping of all spaces with the lowest objective; None when none is feasible.

    Ties go to the lower energy, then to the earlier candidate.
    """
    origins, indices, bounds = _bounds(spaces, prices, objective)
    if not len(bounds):
        return None
    order = _lowest(bounds, FIRST_BATCH)
    best: tuple[float, float] | None = None
    choice: tuple[int, int, int, Ints] | None = None
    done, batch = 0, FIRST_BATCH
    while done < len(bounds):
        if done == len(order):
            order = np.argsort(bounds, kind="stable")
        if best is not None and bounds[order[done]] >= best[0]:
            break
        step = order[done : done + batch]
        for s in sorted(set(origins[step].tolist())):
            chosen = indices[step][origins[step] == s]
            cycles, events = _timed(spaces[s], chosen, config)
            score = prices.score(objective, events, cycles)
            energy = prices.energy_j(events, cycles)
            at = int(np.lexsort((energy, score))[0])
            found = (float(score[at]), float(energy[at]))
            if best is None or found < best:
                best = found
                choice = (s, int(chosen[at]), int(cycles[at]), events[at].copy())
        done += len(step)
        batch *= 2
    assert best is not None and choice is not None
    s, i, least, counts = choice
    size = sum(len(space) for space in spaces)
    return Choice(spaces[s].mapping(i), least, counts, best[0], True, done, size)


def _bounds(
    spaces: Sequence[Mapspace], prices: Prices, objective: str
) -> tuple[Ints, Ints, Floats]:
    """Space and index of every candidate, and its bound."""
    filled = [(s, space) for s, space in enumerate(spaces) if len(space)]
    if not filled:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    origins = [np.full(len(space), s) for s, space in filled]
    indices = [np.arange(len(space)) for _, space in filled]
    bounds = []
    for _, space in filled:
        cycles, events = space.bounds()
        bounds.append(prices.score(objective, events, cycles))
    return np.concatenate(origins), np.concatenate(indices), np.concatenate(bounds)


def _lowest(bounds: Floats, count: int) -> Ints:
    """The candidates with the `count` lowest bounds, lowest first, the earlier of equal ones."""
    if len(bounds) <= count:
        return np.argsort(bounds, kind="stable")
    last = np.partition(bounds, count - 1)[count - 1]
    near = np.flatnonzero(bounds <= last)
    first: Ints = near[np.argsort(bounds[near], kind="stable")][:count]
    return first


# Exact timings by kind of kernel and machine, then by the mapping's keys. The mappings that come
# first on one machine come first on those with other memories too, where they take as long.
_timings: dict[tuple[Any, ...], dict[bytes, Ints]] = {}
_timings_kept = 0


def _timed(space: Mapspace, chosen: Ints, config: HardwareConfig) -> tuple[Ints, Ints]:
    """Exact cycles [n] and events [n, len(EVENTS)] of the chosen mappings."""
    global _timings_kept
    if _timings_kept > MOST_TIMED:
        _timings.clear()
        _timings_kept = 0
    known = _timings.setdefault((space.kind, machine_words(config).tobytes()), {})
    keys = [row.tobytes() for row in space.keys(chosen)]
    new = [place for place, key in enumerate(keys) if key not in known]
    if new:
        timing = evaluate_batch(space.kernel(chosen[new]), config)
        rows = np.concatenate([timing.cycles[:, None], timing.events], axis=1)
        known.update(zip((keys[place] for place in new), rows, strict=True))
        _timings_kept += len(new)
    found = np.stack([known[key] for key in keys])
    return found[:, 0], found[:, 1:]


def splits(extent: int, granule: int = 1) -> Ints:
    """Tile sizes that cut `extent` into near-equal parts, rounded up to multiples of `granule`.

    Counts of parts are all up to 32, then grow by half octaves to one granule a part; sizes are
    distinct and never above the extent.
    """
    most = -(-extent // granule)
    octaves = np.arange(5, max(6, np.log2(most) + 0.5), 0.5)
    counts = np.concatenate([np.arange(1, 33), np.round(2**octaves).astype(np.int64), [most]])
    sizes = -(-extent // np.minimum(counts, most))
    return distinct(np.minimum(-(-sizes // granule) * granule, extent).tolist())


def doublings(extent: int) -> Ints:
    """1, 2, 4, ... and the extent itself."""
    return distinct([*(1 << i for i in range(extent.bit_length()) if 1 << i <= extent), extent])


def distinct(sizes: Iterable[int]) -> Ints:
    """Sizes in rising order, each once; np.unique would load numpy.ma."""
    return np.array(sorted(set(sizes)))


def zero_events(n: int) -> Ints:
    """Event counts [n, len(EVENTS)], all zero."""
    return np.zeros((n, len(EVENTS)), dtype=np.int64)
