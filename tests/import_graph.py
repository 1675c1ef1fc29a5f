"""Who imports whom: the modules of the product, their folders, and the circles among them.

    python tests/import_graph.py [FOLDER]

prints what each folder imports; with a folder such as `search/joint` what each of its modules does.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("hw", "compiler", "models", "search")
PACKAGE = "codesign"


@dataclass(frozen=True)
class Import:
    """One module that a file imports, and whether at the top of the file."""

    module: str  # in full: codesign.hw.machine.config, numpy.typing
    line: int
    top: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the four layers, by its name in full; packages are left out."""
    paths = (path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")))
    return {
        ".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]): path
        for path in paths
        if path.name != "__init__.py" and "package" not in path.relative_to(ROOT).parts
    }


def folder(module: str) -> str:
    """The folder of a module: `search/joint`, or `hw` for what lies in the layer itself."""
    return "/".join(module.split(".")[1:-1])


def imports(source: str) -> Iterator[Import]:
    """What a module's source imports, wherever in it. Raises ValueError at a relative import."""
    tree = ast.parse(source)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in top)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: relative import")
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                name = whole if whole in modules() or module == PACKAGE else module
                yield Import(name, node.lineno, id(node) in top)


@cache
def graph() -> "nx.DiGraph[str]":
    """An arrow from each module of ours to each that it imports, at the top or later."""
    found: nx.DiGraph[str] = nx.DiGraph()
    found.add_nodes_from(modules())
    for name, path in modules().items():
        for one in imports(path.read_text(encoding="utf-8")):
            if one.module in modules():
                found.add_edge(name, one.module)
    return found


def folder_graph() -> "nx.DiGraph[str]":
    """An arrow from each folder to each other one of which it imports a module."""
    found: nx.DiGraph[str] = nx.DiGraph()
    found.add_nodes_from(map(folder, modules()))
    found.add_edges_from((folder(a), folder(b)) for a, b in graph().edges if folder(a) != folder(b))
    return found


def circles(of: "nx.DiGraph[str]") -> list[list[str]]:
    """Groups that import one another, directly or through others."""
    return [sorted(group) for group in nx.strongly_connected_components(of) if len(group) > 1]


def main(arguments: list[str]) -> int:
    """Print the graph; 1 where it has a circle."""
    if arguments:
        chosen = arguments[0].strip("/")
        inside = [name for name in modules() if folder(name) == chosen]
        for name in inside:
            used = sorted(target.removeprefix(f"{PACKAGE}.") for target in graph()[name])
            print(f"{name.rsplit('.', 1)[1]:24} {' '.join(used)}")
        return 0 if inside else 1
    found = folder_graph()
    order = list(nx.lexicographical_topological_sort(found)) if not circles(found) else list(found)
    count = {name: sum(folder(module) == name for module in modules()) for name in found}
    order.reverse()
    for name in sorted(order, key=lambda n: LAYERS.index(n.split("/")[0])):
        print(f"{name:20} {count[name]:3} modules  imports {' '.join(sorted(found[name]))}")
    knots = circles(graph()) + circles(found)
    print(f"{len(modules())} modules, {graph().number_of_edges()} arrows between them; "
          f"{len(found)} folders, {found.number_of_edges()} arrows; {len(knots)} circles")  # fmt: skip
    for knot in knots:
        print("circle:", " ".join(knot))
    return 1 if knots else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
