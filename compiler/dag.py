"""A directed graph without circles: nodes by key, in the order in which they were added, each with a value.

The little of networkx that a compiler of operators needs, typed, and without its hundreds of modules to
load.
"""

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator, ValuesView
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Dag(Generic[K, V]):
    """Values by key, and the edges between them; methods raise KeyError for a key without a value."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._predecessors: dict[K, dict[K, None]] = {}
        self._successors: dict[K, dict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def values(self) -> ValuesView[V]:
        """The values in the order in which their keys were added."""
        return self._values.values()

    @property
    def edges(self) -> Iterator[tuple[K, K]]:
        """Every edge, from what is read to what reads it."""
        return ((key, reader) for key, readers in self._successors.items() for reader in readers)

    def predecessors(self, key: K) -> Collection[K]:
        """What a node reads."""
        return self._predecessors[key].keys()

    def successors(self, key: K) -> Collection[K]:
        """What reads a node, in the order in which the edges were added."""
        return self._successors[key].keys()

    def ancestors(self, keys: Iterable[K]) -> set[K]:
        """Nodes and all that they depend on."""
        found: set[K] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting.extend(self._predecessors[key])
        return found

    def order(self) -> Iterator[K]:
        """Every key after those it depends on; of several that may come, the one that was added first.

        Raises ValueError, at the end of the others, where nodes depend on one another in a circle.
        """
        keys = list(self._values)
        position = {key: index for index, key in enumerate(keys)}
        missing = [len(self._predecessors[key]) for key in keys]
        ready = [index for index, count in enumerate(missing) if count == 0]  # rising: a heap
        left = len(keys)
        while ready:
            key = keys[heapq.heappop(ready)]
            left -= 1
            yield key
            for reader in self._successors[key]:
                index = position[reader]
                missing[index] -= 1
                if missing[index] == 0:
                    heapq.heappush(ready, index)
        if left:
            raise ValueError(f"{left} nodes depend on one another in a circle")

    # -- Changes -----------------------------------------------------------------------------------

    def add(self, key: K, value: V) -> None:
        """Add a node, or give the one of this key another value."""
        self._values[key] = value
        self._predecessors.setdefault(key, {})
        self._successors.setdefault(key, {})

    def connect(self, key: K, reader: K) -> None:
        """Add the edge from a node to another that reads it."""
        readers, sources = self._successors[key], self._predecessors[reader]
        readers[reader], sources[key] = None, None

    def disconnect(self, reader: K) -> None:
        """Remove the edges from what a node reads."""
        for key in self._predecessors[reader]:
            del self._successors[key][reader]
        self._predecessors[reader].clear()

    def keep(self, keys: Collection[K]) -> None:
        """Remove all nodes but these, with their edges."""
        for key in [key for key in self._values if key not in keys]:
            self.disconnect(key)
            for reader in self._successors.pop(key):
                del self._predecessors[reader][key]
            del self._values[key], self._predecessors[key]
