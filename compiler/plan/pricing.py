"""Price tables: the cheapest way to compute each group of operators on one machine, kept per shape.

A network is priced by adding up entries, since kernels run one after another. An entry is filled on
first use, by mapping every alternative of the group; after that a whole network costs microseconds.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Graph
from codesign.compiler.kernels.kernel_kind import Problem
from codesign.compiler.kernels.mapspace import ROUNDING, Choice, Ints, Prices
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.kinds import choose, floor
from codesign.compiler.plan.work import Alternative, Group
from codesign.hw.costs.energy import CostTable
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS

NOWHERE = -1  # the cycles of a group that fits no tile


@dataclass(frozen=True)
class Part:
    """One kernel of an alternative, without names: a problem, or the host's cycles and the bytes that
    it copies; and its useful MACs."""

    problem: Problem | None
    host_cycles: int
    macs: int
    copied_bytes: int = 0

    @property
    def host_events(self) -> Ints:
        """Event counts [len(EVENTS)] of the host's work."""
        counts = np.zeros(len(EVENTS), dtype=np.int64)
        counts[EVENT_INDEX["host_cycles"]] = self.host_cycles
        for event in ("dram_read_bytes", "dram_write_bytes"):
            counts[EVENT_INDEX[event]] = self.copied_bytes
        return counts


@dataclass(frozen=True, eq=False)
class GroupShape:
    """What the cost of a group depends on. Equal shapes share one hash, computed once."""

    alternatives: tuple[tuple[Part, ...], ...]

    @cached_property
    def _hash(self) -> int:
        return hash(self.alternatives)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, GroupShape) and self.alternatives == other.alternatives
        )

    @classmethod
    def of(cls, alternatives: tuple[Alternative, ...]) -> "GroupShape":
        """The shape of a group's alternatives."""
        return cls(
            tuple(
                tuple(
                    Part(work.problem, work.host_cycles, work.macs, work.copied_bytes)
                    for work in alternative
                )
                for alternative in alternatives
            )
        )


@dataclass(frozen=True)
class GroupPrice:
    """The cheapest alternative of a group: which, its mappings, cycles and events of each part."""

    alternative: int
    choices: tuple[Choice | None, ...]  # None for the host
    cycles: tuple[int, ...]
    events: tuple[Ints, ...]


@dataclass(frozen=True)
class Workload:
    """The distinct groups of a network, with how often each occurs."""

    shapes: tuple[GroupShape, ...]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, graph: Graph, config: HardwareConfig) -> "Workload":
        """Fuse a graph for a machine (its dim and its units decide) and count equal groups."""
        return cls.of_groups(fuse(graph, config))

    @classmethod
    def of_groups(cls, groups: list[Group]) -> "Workload":
        """Count equal groups."""
        counter = Counter(GroupShape.of(group.alternatives) for group in groups)
        return cls(tuple(counter), np.fromiter(counter.values(), np.int64, len(counter)))


@dataclass
class PriceTables:
    """Entries for one machine, objective and cost table, filled on demand."""

    config: HardwareConfig
    objective: str
    table: CostTable
    _index: dict[GroupShape, int] = field(default_factory=dict)
    _entries: list[GroupPrice | None] = field(default_factory=list)
    _totals: Ints = field(default_factory=lambda: np.zeros((0, 1 + len(EVENTS)), dtype=np.int64))

    def group(self, shape: GroupShape) -> GroupPrice | None:
        """The cheapest way to compute a group; None when no alternative fits the machine."""
        return self._entries[self._slot(shape)]

    def total(self, workload: Workload) -> tuple[int, Ints] | None:
        """Cycles and events [len(EVENTS)] of a network; None when a group fits nowhere."""
        index = self._index
        try:
            slots = [index[shape] for shape in workload.shapes]
        except KeyError:
            slots = [self._slot(shape) for shape in workload.shapes]
        totals = self._totals[slots]
        if (totals[:, 0] < 0).any():
            return None
        total = workload.counts @ totals
        return int(total[0]), total[1:]

    def _slot(self, shape: GroupShape) -> int:
        slot = self._index.get(shape)
        if slot is None:
            entry = self.cheapest(shape)
            slot = self._index[shape] = len(self._entries)
            self._entries.append(entry)
            row = np.full((1, 1 + len(EVENTS)), NOWHERE, dtype=np.int64)
            if entry is not None:
                row[0, 0], row[0, 1:] = sum(entry.cycles), np.sum(entry.events, axis=0)
            self._totals = np.concatenate([self._totals, row])
        return slot

    def cheapest(self, shape: GroupShape) -> GroupPrice | None:
        """The alternative with the lowest objective over all its kernels; ties go to the first.

        None when no alternative fits. `group` remembers what this computes.
        """
        prices = Prices.of(self.table)
        best: tuple[float, GroupPrice] | None = None
        for number, parts in enumerate(shape.alternatives):
            if best is not None and self._floor(prices, parts) >= best[0]:
                continue
            price = self._price(number, parts)
            if price is None:
                continue
            events = np.sum(price.events, axis=0)[None]
            cycles = np.array([sum(price.cycles)])
            score = float(prices.score(self.objective, events, cycles)[0])
            if best is None or score < best[0]:
                best = (score, price)
        return None if best is None else best[1]

    def _floor(self, prices: Prices, parts: tuple[Part, ...]) -> float:
        """An objective that an alternative does not go below, at a fraction of its price."""
        cycles, events = 0, np.zeros(len(EVENTS), dtype=np.int64)
        for part in parts:
            if part.problem is None:
                cycles += part.host_cycles
                events += part.host_events
                continue
            least = floor(part.problem, self.config)
            if least is None:
                return 0.0
            cycles += least[0]
            events += least[1]
        events[EVENT_INDEX["macs"]] = sum(part.macs for part in parts)
        score = prices.score(self.objective, events[None], np.array([cycles]))
        return float(score[0]) * (1 - ROUNDING)

    def _price(self, number: int, parts: tuple[Part, ...]) -> GroupPrice | None:
        choices: list[Choice | None] = []
        cycles: list[int] = []
        events: list[Ints] = []
        for part in parts:
            if part.problem is None:
                choices.append(None)
                cycles.append(part.host_cycles)
                events.append(part.host_events)
                continue
            choice = choose(part.problem, self.config, self.objective, self.table)
            if choice is None:
                return None
            counts = choice.events.copy()
            # Heads padded to whole blocks add work to the mesh, not useful MACs to the network.
            counts[EVENT_INDEX["macs"]] = part.macs
            choices.append(choice)
            cycles.append(choice.cycles)
            events.append(counts)
        return GroupPrice(number, tuple(choices), tuple(cycles), tuple(events))


@lru_cache(maxsize=4096)
def price_tables(config: HardwareConfig, objective: str, table: CostTable) -> PriceTables:
    """The tables of a machine, shared by everyone who asks for them."""
    return PriceTables(config, objective, table)
