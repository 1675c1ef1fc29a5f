"""What an ONNX file may ask for at most, so that a small file cannot ask for hours or all memory.

Far above what models need, and stated in docs/limits.md. Functions are counted as often as they are
called before anything is inlined: a file of forty nested functions can stand for 2^40 nodes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from codesign.hw.errors import ModelError

MOST_NODES = 100_000  # after inlining, those of branches with them
MOST_DEPTH = 64  # of graphs within graphs, and of functions that call functions
NEWEST_OPSET = 1000  # none is near it; larger numbers are damage

MOST_WORK = 1 << 30  # bytes that folding makes of constants, and what takes as long
_BYTES = 8  # of an element
# Operators that numpy does in one pass.
# fmt: off
_ONE_PASS = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos",
    "CumSum", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather",
    "GatherElements", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max",
    "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Round", "Sign", "Sin", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
})
# Others that masks, positions and tables are made of: ONNX's reference may loop over elements in
# Python. What is in neither is not computed on constants: time may follow values and attributes.
_LOOPS = frozenset({
    "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "Compress",
    "DequantizeLinear", "GatherND", "IsInf", "IsNaN", "LayerNormalization", "MatMul", "NonZero",
    "OneHot", "PRelu", "QuantizeLinear", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare",
    "Relu", "ScatterElements", "ScatterND", "Sigmoid", "Softmax", "Softplus", "TopK",
})
# fmt: on
_SLOW_ELEMENTS = 1 << 14
_SLOWER = 32

_Key = tuple[str, str, str]


def affordable(op_type: str, elements: int) -> bool:
    """Whether a constant of so many elements, read and made, is computed: else only its shape is."""
    return op_type in _ONE_PASS or (op_type in _LOOPS and elements <= _SLOW_ELEMENTS)


def cost(op_type: str, elements: int) -> int:
    """What computing a constant counts towards MOST_WORK."""
    return elements * _BYTES * (1 if op_type in _ONE_PASS else _SLOWER)


def require_limits(model: onnx.ModelProto, where: str) -> None:
    """Raise ModelError for a model of more nodes, deeper or of an opset that cannot be."""
    for opset in model.opset_import:
        if not 1 <= opset.version <= NEWEST_OPSET:
            domain = opset.domain or "ai.onnx"
            raise ModelError(
                f"{where}: no opset {opset.version} of {domain} exists: export it again"
            )
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    if len(bodies) < len(model.functions):
        raise ModelError(f"{where} defines a function twice: export the model again")
    sizes = _sizes(bodies, where)
    count = _expanded(_nodes(model.graph.node, where), sizes)
    if count > MOST_NODES:
        raise ModelError(
            f"{where} has {_rounded(count)} nodes with its functions inlined, and {MOST_NODES:,} are "
            "read at most: give the part of the model that matters"
        )


def _sizes(bodies: dict[_Key, Iterable[onnx.NodeProto]], where: str) -> dict[_Key, int]:
    """How many nodes each function comes to. Raises ModelError where they call each other in a ring."""
    calls = {key: Counter(map(_key, _nodes(body, where))) for key, body in bodies.items()}
    known = {
        key: [called for called in counts if called in bodies] for key, counts in calls.items()
    }
    sizes: dict[_Key, int] = {}
    depths: dict[_Key, int] = {}
    try:
        order = list(TopologicalSorter(known).static_order())
    except CycleError as error:
        name = error.args[1][0][1]
        raise ModelError(
            f"{where}: function {name!r} calls itself, directly or through others: export it again"
        ) from error
    for key in order:
        sizes[key] = sum(count * sizes.get(called, 1) for called, count in calls[key].items())
        depths[key] = 1 + max((depths[called] for called in known[key]), default=0)
        if depths[key] > MOST_DEPTH:
            raise ModelError(
                f"{where}: functions are nested deeper than {MOST_DEPTH} at {key[1]!r}: inline them"
            )
    return sizes


def _expanded(nodes: Iterable[onnx.NodeProto], sizes: dict[_Key, int]) -> int:
    return sum(sizes.get(_key(node), 1) for node in nodes)


def _nodes(nodes: Iterable[onnx.NodeProto], where: str, depth: int = 1) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs in their attributes."""
    if depth > MOST_DEPTH:
        raise ModelError(f"{where}: graphs are nested deeper than {MOST_DEPTH}: export it again")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else []
            for graph in (*graphs, *attribute.graphs):
                yield from _nodes(graph.node, where, depth + 1)


def _key(node: onnx.NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _rounded(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"more than 10^{len(str(count)) - 1}"
