"""Rotary embeddings (arXiv 2104.09864) that an exporter wrote as products with tables of parts of a row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.shapes import Node, Origin

_ROTATING = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Neg",
        "Slice",
        "Split",
        "Gather",
        "Concat",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Cast",
    }
)


_VIEWS = frozenset(
    {"Cast", "Concat", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class NodeRegion:
    """The nodes, in order, between one tensor and another that depends on nothing else."""

    source: str
    output: str
    nodes: tuple[Node, ...]


def rotates(node: Node) -> bool:
    """Whether a rotary embedding is made of it: sums of products with tables, of parts of a row."""
    return not node.domain and node.op_type in _ROTATING


@contextmanager
def looked_up_angles(graph: OnnxGraph) -> Iterator[None]:
    """Within, rows that places look up and that only factors are made of are no activations; nor are
    they behind it where only rotations read them: cosines and sines, which lie in a table.
    """
    found = list(_factors(graph))
    _set_origin(graph, [name for names in found for name in names], Origin.INDEX)
    yield
    for names in found:
        readers = [reader for name in names for reader in graph.consumers(name)]
        if any(reader.op_type == "Mul" for reader in readers):
            _set_origin(graph, names, Origin.ACTIVATION)


def _factors(graph: OnnxGraph) -> Iterator[list[str]]:
    """Tensors that are rows of a table, looked up, in views that nothing but products reads."""
    for node in graph.nodes():
        if node.op_type != "Gather" or graph.tensors[node.outputs[0]].origin < Origin.ACTIVATION:
            continue
        if (
            graph.tensors[node.inputs[0]].origin == Origin.CONSTANT
            and node.attribute("axis", 0) == 0
        ):
            names = [node.outputs[0]]
            ends = [end for name in names for end in _readers(graph, name, names)]
            if ends and all(end.op_type == "Mul" for end in ends):
                yield names


def _readers(graph: OnnxGraph, name: str, names: list[str]) -> Iterator[Node]:
    """What reads a tensor, but for views, whose outputs are added to `names`."""
    for reader in graph.consumers(name):
        others = [n for n in reader.inputs if n and graph.tensors[n].origin == Origin.ACTIVATION]
        if reader.op_type in _VIEWS and set(others) <= set(names):
            names += [output for output in reader.outputs if output not in names]
        else:
            yield reader


def _set_origin(graph: OnnxGraph, names: Sequence[str], origin: Origin) -> None:
    graph.tensors |= {name: replace(graph.tensors[name], origin=origin) for name in names}


def rotary_node(graph: OnnxGraph, region: NodeRegion) -> Node | None:
    """One node for a rotary embedding (arXiv 2104.09864), whatever pairs it turns and however.

    It joins parts of a row again that it has multiplied by tables of numbers, cosines and sines.
    """
    shape = graph.tensors[region.source].shape
    if graph.tensors[region.output].shape != shape or _moves_heads(graph, region, len(shape)):
        return None
    types = Counter(node.op_type for node in region.nodes)
    names = dict.fromkeys(n for node in region.nodes if node.op_type == "Mul" for n in node.inputs)
    tables = [
        name
        for name in names
        if graph.tensors[name].origin < Origin.ACTIVATION and graph.tensors[name].elements > 1
    ]
    if types["Mul"] < 2 or not types["Concat"] or not types.keys() & {"Add", "Sub"} or not tables:
        return None
    last = region.nodes[-1]
    return replace(last, op_type="RotaryEmbedding", inputs=(region.source, *tables), attributes={})


def _moves_heads(graph: OnnxGraph, region: NodeRegion, rank: int) -> bool:
    """Whether a region cuts rows into heads and joins them again: that is no part of a rotation."""
    first, last = region.nodes[0], region.nodes[-1]
    inner = graph.tensors[first.outputs[0]].shape
    cuts = first.op_type == "Reshape" and len(inner) > rank and inner[-1] != 2  # no pairs
    return cuts or "Transpose" in (first.op_type, last.op_type)
