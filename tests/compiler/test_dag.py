"""The graph of the compiler beside networkx's."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.compiler.dag import Dag

EDGES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda e: e[0] != e[1]))
ORDER = st.permutations(range(12))


def both(order: list[int], edges: list[tuple[int, int]]) -> tuple[Dag[int, str], "nx.DiGraph[int]"]:
    """The same graph twice: of two nodes, what comes first in `order` is read by the other."""
    rank = {key: place for place, key in enumerate(order)}
    ours: Dag[int, str] = Dag()
    theirs: nx.DiGraph[int] = nx.DiGraph()
    for key in range(12):
        ours.add(key, f"value {key}")
        theirs.add_node(key)
    for pair in edges:
        first, second = sorted(pair, key=rank.__getitem__)
        ours.connect(first, second)
        theirs.add_edge(first, second)
    return ours, theirs


def same(ours: Dag[int, str], theirs: "nx.DiGraph[int]") -> None:
    assert list(ours) == list(theirs) and len(ours) == len(theirs)
    assert set(ours.edges) == set(theirs.edges)
    for key in ours:
        assert ours[key] == f"value {key}"
        assert list(ours.successors(key)) == list(theirs.successors(key))
        assert list(ours.predecessors(key)) == list(theirs.predecessors(key))
        assert ours.ancestors([key]) == nx.ancestors(theirs, key) | {key}
    assert list(ours.order()) == list(nx.lexicographical_topological_sort(theirs))


@given(order=ORDER, edges=EDGES, reader=st.integers(0, 11), kept=st.sets(st.integers(0, 11)))
def test_order_and_changes_are_those_of_networkx(
    order: list[int], edges: list[tuple[int, int]], reader: int, kept: set[int]
) -> None:
    ours, theirs = both(order, edges)
    same(ours, theirs)
    ours.disconnect(reader)
    theirs.remove_edges_from(list(theirs.in_edges(reader)))
    same(ours, theirs)
    ours.keep(kept)
    theirs.remove_nodes_from([key for key in list(theirs) if key not in kept])
    same(ours, theirs)


def test_circles_and_unknown_keys_are_errors() -> None:
    dag: Dag[str, int] = Dag()
    for index, key in enumerate("abc"):
        dag.add(key, index)
    dag.connect("b", "c")
    dag.connect("c", "b")
    with pytest.raises(ValueError, match="2 nodes depend on one another in a circle"):
        list(dag.order())
    with pytest.raises(KeyError):
        dag.connect("a", "d")
    assert "d" not in dag and list(dag.successors("a")) == []
