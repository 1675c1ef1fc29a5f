"""Recognise normalizations, softmax and activations that an exporter wrote out in small steps.

A region of elementwise and row-reducing nodes with one activation input is evaluated on sample
rows and compared with the definitions: a function is what it computes, whatever the order of its
factors. Constant vectors along the row (gamma, beta) are replaced by random ones, and the result
only has to be the definition times one constant per column plus another.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from codesign.compiler.onnx.boundary import node_place, reading_node
from codesign.compiler.onnx.evaluation import node_outputs
from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.shapes import FLOAT_TYPES, Node, Origin
from codesign.compiler.recognition.activations import DEFINITIONS
from codesign.compiler.recognition.rotation import (
    NodeRegion,
    looked_up_angles,
    rotary_node,
    rotates,
)

Array = np.ndarray[Any, Any]
Limits = Mapping[str, tuple[float, float]]  # by tensor
_NONE: Limits = MappingProxyType({})

# fmt: off
_ELEMENTWISE = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Neg",
    "Abs", "Exp", "Erf", "Tanh", "Sigmoid", "Relu", "Max", "Min",
    "Clip", "HardSigmoid", "Cast", "Log", "Expand",
})
# fmt: on
# What runs along a row: to one number, or to a row again.
_REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceSumSquare", "ReduceL2", "ReduceLogSumExp"}
)
_ROWS = frozenset({"LogSoftmax", "LpNormalization", "Softmax"})
_REDUCTIONS |= _ROWS
_NONLINEAR = _ROWS | {"Exp", "Log", "Pow", "ReduceL2", "ReduceLogSumExp", "Sqrt"}
# With these too a relu is written; comparisons and choices are in no other pattern.
# fmt: off
_THRESHOLDS = frozenset({
    "Abs", "Celu", "Clip", "Elu", "Greater", "GreaterOrEqual", "HardSigmoid", "LeakyRelu", "Less",
    "LessOrEqual", "Max", "Min", "Not", "PRelu", "Relu", "Selu", "Sign", "ThresholdedRelu", "Where",
})
# fmt: on
_LIMITS = frozenset({"Abs", "Clip", "HardSigmoid", "Max", "Min", "Relu"})
_SIGNS_OF_ACTIVATION = frozenset(
    {"Clip", "Erf", "Exp", "HardSigmoid", "Max", "Min", "Relu", "Sigmoid", "Tanh"}
)
_ON_HOST = frozenset({"Pow", "Sqrt", "Reciprocal", "Neg", "Abs", "Exp"})
_ON_HOST |= {"Erf", "Tanh", "Sigmoid", "HardSigmoid", "Log"}
_ON_CHIP = frozenset({"HardSigmoid", "Sigmoid", "Tanh"})
_SCALED = _ON_CHIP | {"Cast", "Div", "Mul"}  # with factors that are no work
_LARGEST_REGION = 24
_SAMPLE_ROWS = 6
_SPREAD, _FAR = 2.0, 2000.0  # standard deviations of rows; limits of half precision lie beyond
_TOLERANCE = 2e-3
_BEYOND = 40.0  # where a limit of an argument or a result shows; its exponential is in range
_WITHIN = 0.98  # of what codes reach: where codes of two tensors end is apart by a step


def recognise(graph: OnnxGraph) -> None:
    """Replace every recognised region by one node: LayerNorm, RMSNorm, Softmax, LogSoftmax, or an
    elementwise function of the chip.

    What is left of elementwise steps between one tensor and another becomes one Elementwise: the
    host computes it in one pass. The new nodes have no domain, one input and, for those that
    reduce, the attribute `axis`.
    """
    _replace(graph, _classify, _computes)
    present = {node.op_type for node in graph.nodes()}
    if present & _THRESHOLDS:
        _replace(graph, _rectifier, _rectifies)
    if present >= {"Concat", "Mul"}:
        with looked_up_angles(graph):
            _replace(graph, rotary_node, rotates)
    _replace(graph, _elementwise, _computes)


def _replace(
    graph: OnnxGraph,
    classify: Callable[[OnnxGraph, NodeRegion], Node | None],
    belongs: Callable[[Node], bool],
) -> None:
    """Replace the widest region in front of every node that `classify` has a node for."""
    position = {name: index for index, name in enumerate(graph.dag)}
    order = list(graph.nodes())
    replaced: set[str] = set()
    for node in reversed(order):
        if node.name in replaced or not belongs(node):
            continue
        with reading_node(node_place(node.op_type, node.name), partial(graph.held, node)):
            matches = [
                (fused, region)
                for region in _regions(graph, node, position, belongs)
                if (fused := classify(graph, region)) is not None
            ]
        if matches:
            fused, region = matches[-1]  # the widest
            graph.rewrite(fused)
            replaced |= {inner.name for inner in region.nodes}
    if replaced:
        graph.prune()


def _computes(node: Node) -> bool:
    return not node.domain and node.op_type in _ELEMENTWISE | _REDUCTIONS


def _rectifies(node: Node) -> bool:
    return not node.domain and node.op_type in _ELEMENTWISE | _THRESHOLDS


def _rectifier(graph: OnnxGraph, region: NodeRegion) -> Node | None:
    """A Relu for what is clip(x, 0, limit) in any spelling, or a multiple of it in one node."""
    shape = graph.tensors[region.source].shape
    types = {node.op_type for node in region.nodes}
    if not types & _THRESHOLDS or graph.tensors[region.output].shape != shape:
        return None
    if len(region.nodes) == 1 and "Relu" in types:
        return None  # it is one already
    near = [0.002, 0.01, 0.03]  # where a leak or a threshold would show
    x = np.array([*near, *np.linspace(-6, 6, 97), *np.negative(near)], np.float32)
    y = _run(graph, region, x.reshape((1,) * (len(shape) - 1) + (-1,)), None)
    if y is None or y.size != x.size or not np.isfinite(y).all():
        return None
    y = y.reshape(-1).astype(np.float64)
    factor, limit = y[0] / x[0], y.max()
    if not factor > 0 or (len(region.nodes) > 1 and abs(factor - 1) > _TOLERANCE):
        return None
    if not np.allclose(y, np.clip(factor * x, 0, limit), rtol=0, atol=_TOLERANCE * limit / 6):
        return None
    return replace(region.nodes[-1], op_type="Relu", inputs=(region.source,), attributes={})


def _regions(
    graph: OnnxGraph, last: Node, position: Mapping[str, int], belongs: Callable[[Node], bool]
) -> Iterator[NodeRegion]:
    """Regions that end in `last`, from the narrowest to the widest.

    The latest open input is replaced by its producer's inputs again and again; whenever one
    input is left open, everything between it and `last` is a region.
    """
    inside: list[Node] = []
    pending, opened = last, {}
    while len(inside) < _LARGEST_REGION:
        inside.append(pending)
        for name in pending.inputs:
            if not name:
                continue
            tensor = graph.tensors[name]
            if tensor.origin == Origin.INDEX and belongs is _computes:
                return
            if tensor.origin == Origin.ACTIVATION:
                producer = graph.producer(name)
                opened[name] = -1 if producer is None else position[producer.name]
        if not opened:
            return
        if len(opened) == 1 and not _escapes(graph, inside, last):
            yield NodeRegion(next(iter(opened)), last.outputs[0], tuple(reversed(inside)))
        latest = max(opened, key=lambda name: opened[name])
        producer = graph.producer(latest)
        if producer is None or not belongs(producer):
            return
        for name in producer.outputs:
            opened.pop(name, None)
        pending = producer


def _escapes(graph: OnnxGraph, inside: list[Node], last: Node) -> bool:
    """True when a tensor other than the last is also read outside the region."""
    names = {node.name for node in inside}
    return any(
        not names.issuperset(graph.dag.successors(node.name))
        or not set(graph.outputs).isdisjoint(node.outputs)
        for node in inside
        if node is not last
    )


def _elementwise(graph: OnnxGraph, region: NodeRegion) -> Node | None:
    """One node for steps that only the host can do, where single numbers are their constants."""
    types = {node.op_type for node in region.nodes}
    names = {name for node in region.nodes for name in node.inputs}
    constants = [n for n in names if n and graph.tensors[n].origin == Origin.CONSTANT]
    products = [node for node in region.nodes if node.op_type in ("Mul", "Div")]
    squares = [n for n in products if all(graph.tensors[i].origin > Origin.INDEX for i in n.inputs)]
    if types & _REDUCTIONS or len(region.nodes) == 1 or not (types & _ON_HOST or squares):
        return None
    if region.nodes[0].op_type == "Relu":  # which the chip does on the way out
        return None
    if types <= _SCALED and types & _ON_CHIP and not squares:
        return None
    if graph.tensors[region.output].shape != graph.tensors[region.source].shape:
        return None
    if any(graph.tensors[name].elements != 1 for name in constants):
        return None
    last = region.nodes[-1]
    return replace(last, op_type="Elementwise", inputs=(region.source,), attributes={})


def _classify(graph: OnnxGraph, region: NodeRegion) -> Node | None:
    types = {node.op_type for node in region.nodes}
    last = region.nodes[-1]
    shape = graph.tensors[region.source].shape
    if graph.tensors[region.output].shape != shape or not shape:
        return None
    fused = replace(last, inputs=(region.source,), attributes={})
    reductions = [node for node in region.nodes if node.op_type in _REDUCTIONS]
    if not reductions:
        clipped = types & {"Max", "Clip"}
        signs = types & _SIGNS_OF_ACTIVATION or _limited(graph, region)
        product = types & {"Mul", "Div", "Reciprocal"} and signs
        if not clipped and not product:  # a gelu is x times something, a sigmoid 1 over it
            return None
        function = _activation(graph, region)
        return None if function is None else replace(fused, op_type=function)
    axes = {_reduced_axis(graph, node) for node in reductions}
    axis = axes.pop()
    if axes or axis is None or shape[axis] < 3:
        return None
    alone = len(region.nodes) == 1 and types & {"LogSoftmax", "Softmax"}
    if not types & _NONLINEAR or alone:  # what is one already stays it
        return None
    kind = _row_function(graph, region, axis)
    return None if kind is None else replace(fused, op_type=kind, attributes={"axis": axis})


def _reduced_axis(graph: OnnxGraph, node: Node) -> int | None:
    """The one axis that a reduction with keepdims or a function of rows runs over, counted from 0."""
    rank = len(graph.tensors[node.inputs[0]].shape)
    if node.op_type in _ROWS:
        flattens = graph.opset < 13 and node.op_type != "LpNormalization"
        axis = int(node.attribute("axis", 1 if flattens else -1)) % rank
        return None if flattens and axis != rank - 1 else axis
    axes = node.attribute("axes")
    if axes is None and node.input(1):
        values = graph.tensors[node.input(1)].value
        axes = None if values is None else values.tolist()
    if axes is None or len(axes) != 1 or not node.attribute("keepdims", 1):
        return None
    return int(axes[0]) % rank


def _activation(graph: OnnxGraph, region: NodeRegion) -> str | None:
    """Name the elementwise function of a region: "Gelu" in any of its forms, "Relu", "Swish" and
    others, or None.

    Where a quantizer has dropped a clip for codes that end there, it is the function within what the
    codes of its argument stand for.
    """
    x = np.array([-_BEYOND, *np.linspace(-6, 6, 97), _BEYOND], np.float32)
    function = _activation_at(graph, region, x, {})
    limits = _limited(graph, region)
    if function is None and limits and region.source in graph.reaches:
        low, high = graph.reaches[region.source]
        near = np.linspace(max(low * _WITHIN, -6), min(high * _WITHIN, 6), 97)
        x = np.array([-_BEYOND, *near, _BEYOND], np.float32).clip(low * _WITHIN, high * _WITHIN)
        function = _activation_at(graph, region, x, limits)
    return function


def _limited(graph: OnnxGraph, region: NodeRegion) -> Limits:
    """Between which numbers tensors within a region lie, because their codes begin at 0."""
    inner = (node.outputs[0] for node in region.nodes[:-1])
    return {name: graph.reaches[name] for name in inner if graph.reaches.get(name, (1.0,))[0] == 0}


def _activation_at(graph: OnnxGraph, region: NodeRegion, x: Array, limits: Limits) -> str | None:
    """What a region is of these numbers, where some of its tensors are limited.

    The outermost do not count where its steps overflow: float32 holds no exponential of their cubes.
    """
    rank = len(graph.tensors[region.source].shape)
    y = _run(graph, region, x.reshape((1,) * (rank - 1) + (-1,)), None, limits)
    if y is None or y.size != x.size:
        return None
    y = y.reshape(-1)
    held = np.isfinite(y)
    if not held[1:-1].all():
        return None
    x, y = x[held], y[held]
    for function, expected in DEFINITIONS:
        wanted = expected(x)
        scale = min(float(np.abs(wanted).max()) / 2, 1.0)
        if np.allclose(y, wanted, rtol=0, atol=_TOLERANCE * scale if limits else _TOLERANCE):
            return function
    return None


def _row_function(graph: OnnxGraph, region: NodeRegion, axis: int) -> str | None:
    """Name the row function of a region: "Softmax", its logarithm, "LayerNorm", "RMSNorm", or None.

    One that limits what it reads has to be that far beyond as well: a limit shows where it bites.
    """
    shape = graph.tensors[region.source].shape
    limited = any(
        node.op_type in _LIMITS and graph.tensors[node.outputs[0]].shape == shape
        for node in region.nodes
    )
    kind = _row_function_at(graph, region, axis, _SPREAD)
    if limited and kind != _row_function_at(graph, region, axis, _FAR):
        return None
    return kind


def _row_function_at(graph: OnnxGraph, region: NodeRegion, axis: int, spread: float) -> str | None:
    """What a region is of rows with this standard deviation."""
    shape = graph.tensors[region.source].shape
    sample = [1] * len(shape)
    sample[axis] = shape[axis]
    other = next((a for a in range(len(shape)) if a != axis), None)
    if other is None:
        return None
    sample[other] = _SAMPLE_ROWS
    rng = np.random.default_rng(0)
    x = rng.normal(spread / 4, spread, size=sample).astype(np.float32)
    y = _run(graph, region, x, axis)
    if y is None or y.shape != x.shape or not np.isfinite(y).all():
        return None
    rows, got = (np.moveaxis(t, axis, -1).reshape(_SAMPLE_ROWS, -1) for t in (x, y))
    below = rows - rows.max(axis=1, keepdims=True)
    logarithm = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    if np.allclose(got, np.exp(logarithm), rtol=_TOLERANCE, atol=1e-6):
        return "Softmax"
    if np.allclose(got, logarithm, rtol=_TOLERANCE, atol=_TOLERANCE):
        return "LogSoftmax"
    if any(node.op_type in ("LogSoftmax", "Softmax") for node in region.nodes):
        return None
    centered = rows - rows.mean(axis=1, keepdims=True)
    normalized = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True))
    if _affine(normalized, got, with_offset=True):
        return "LayerNorm"
    if _affine(rows / np.sqrt((rows**2).mean(axis=1, keepdims=True)), got, with_offset=False):
        return "RMSNorm"
    return None


def _affine(definition: Array, got: Array, with_offset: bool) -> bool:
    """True when every column of `got` is a multiple of the definition's, plus an offset.

    The fit is least squares, a column at a time.
    """
    x, y = (
        t.astype(np.float64) - (t.mean(axis=0, dtype=np.float64) if with_offset else 0.0)
        for t in (definition, got)
    )
    slope = (x * y).sum(axis=0) / (x * x).sum(axis=0)
    error = np.abs(slope * x - y).max(axis=0)
    scale = np.abs(got).max(axis=0)
    return bool(np.all(error <= _TOLERANCE * scale) and np.all(np.abs(slope) >= 1e-9))


def _run(
    graph: OnnxGraph, region: NodeRegion, x: Array, axis: int | None, limits: Limits = _NONE
) -> Array | None:
    """Evaluate a region on a sample; None when a constant does not lie along the row."""
    rng = None if axis is None else np.random.default_rng(1)  # slow to load
    values: dict[str, Array | None] = {region.source: x}
    for node in region.nodes:
        if node.op_type == "Expand":
            shapes = [graph.tensors[name].shape for name in (node.outputs[0], region.source)]
            value = values.get(node.inputs[0])
            if value is None or shapes[0] != shapes[1]:
                return None
            values[node.outputs[0]] = np.broadcast_to(value, x.shape)
            continue
        for name in node.inputs:
            if name and name not in values:
                if axis is None or rng is None:
                    value = _number(graph, name, node)
                else:
                    value = _constant_sample(graph, name, x.ndim, axis, rng)
                if value is None and not (node.op_type in _REDUCTIONS and name == node.input(1)):
                    return None
                values[name] = graph.tensors[name].value if value is None else value
        if node.op_type == "Cast":
            cast = values[node.inputs[0]]
            if cast is None or node.attribute("to") not in FLOAT_TYPES:
                return None
            values[node.outputs[0]] = cast.astype(np.float32)
            continue
        needed = {name: values[name] for name in node.inputs if name}
        results = node_outputs(node, None, needed, graph.opset)
        if not results:
            return None
        result = results[0]
        if node.outputs[0] in limits:
            result = np.clip(result, *limits[node.outputs[0]])
        values[node.outputs[0]] = result
    return values[region.output]


def _number(graph: OnnxGraph, name: str, reader: Node) -> Array | None:
    """The number that a constant is; of a slope or limit also in many places. A bias is one of its own."""
    value = graph.tensors[name].value
    if value is None or value.size == 0:
        return None
    if value.size > 1 and not (reader.op_type in _THRESHOLDS and (value == value.flat[0]).all()):
        return None
    return value if value.size == 1 else np.asarray(value.flat[0])


def _constant_sample(
    graph: OnnxGraph, name: str, rank: int, axis: int, rng: "np.random.Generator"
) -> Array | None:
    tensor = graph.tensors[name]
    if tensor.elements == 1:
        return tensor.value
    lead = rank - len(tensor.shape)
    along = [a + lead for a, extent in enumerate(tensor.shape) if extent != 1]
    if along != [axis]:
        return None
    return rng.uniform(0.5, 1.5, size=tensor.shape).astype(np.float32)
