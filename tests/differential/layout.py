"""Stages that choose, move, repeat or reduce elements."""

import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .writer import Shape, Value, Writer


def reshape(w: Writer, x: Value) -> Value:
    """Reshape with 0 and -1, Flatten, Squeeze and Unsqueeze."""
    form = w.pick("merge", "split", "flatten", "unsqueeze", "squeeze")
    if form == "flatten":
        axis = w.axis(x, 1) if x.rank > 1 else 0
        at = axis % x.rank if axis else 0
        flat = (math.prod(x.shape[:at]), math.prod(x.shape[at:]))
        return w.apply("Flatten", x, axis=axis, shape=flat)
    if form == "unsqueeze":
        w.require(x.rank < 4)
        at = w.pick(0, x.rank, -1, 1)
        return w.apply("Unsqueeze", x, w.ints(at), shape=_widened(x.shape, at))
    if form == "squeeze":
        w.require(1 in x.shape[:-1] and x.rank > 2)
        at = x.shape.index(1)
        shape = (*x.shape[:at], *x.shape[at + 1 :])
        return w.apply("Squeeze", x, w.ints(w.pick(at, at - x.rank)), shape=shape)
    if form == "merge":
        w.require(x.rank > 2)
        return w.apply("Reshape", x, w.ints(-1, x.shape[-1]), shape=_merged(x.shape))
    w.require(x.rank < 4 and x.shape[-1] % 2 == 0)
    heads = w.pick(*(h for h in (2, 3, 4) if x.shape[-1] % h == 0))
    wanted = [0] * (x.rank - 1) + [heads, -1]
    return w.apply(
        "Reshape", x, w.ints(*wanted), shape=(*x.shape[:-1], heads, x.shape[-1] // heads)
    )


def _merged(shape: Shape) -> Shape:
    return (math.prod(shape[:-1]), shape[-1])


def _widened(shape: Shape, at: int) -> Shape:
    at %= len(shape) + 1
    return (*shape[:at], 1, *shape[at:])


def transpose(w: Writer, x: Value) -> Value:
    """Any permutation, or the default one."""
    if w.chance(0.2):
        return w.apply("Transpose", x, shape=x.shape[::-1])
    order = [int(axis) for axis in w.rng.permutation(x.rank)]
    return w.apply("Transpose", x, perm=order, shape=tuple(x.shape[axis] for axis in order))


def repeat(w: Writer, x: Value) -> Value:
    """Expand or Tile."""
    if w.chance(0.5):
        times = [1] * x.rank
        times[w.axis(x)] = 2
        shape = tuple(t * n for t, n in zip(times, x.shape, strict=True))
        return w.apply("Tile", x, w.ints(*times), shape=shape)
    w.require(x.rank < 4)
    shape = (2, *x.shape)
    return w.apply("Expand", x, w.ints(*w.pick(shape, (2, *[1] * x.rank))), shape=shape)


def cut(w: Writer, x: Value) -> Value:
    """Slice, with steps and from behind, or one part or the sum of the parts of a Split."""
    axis = w.axis(x)
    extent = x.shape[axis]
    w.require(extent >= 4)
    at = axis % x.rank
    if w.chance(0.6):
        start, step = int(w.rng.integers(0, extent // 2)), w.pick(1, 1, 2, -1)
        end = w.pick(extent, -1, 1 << 40)
        if step < 0:
            start, end = -1, w.pick(-(1 << 40), 0)
        length = len(
            range(extent)[slice(start, end if abs(end) < 1 << 30 or step > 0 else None, step)]
        )
        shape = (*x.shape[:at], length, *x.shape[at + 1 :])
        limits = (w.ints(start), w.ints(end), w.ints(axis), w.ints(step))
        return w.apply("Slice", x, *limits[: 3 if step == 1 else 4], shape=shape)
    w.require(extent % 2 == 0)
    even = w.chance(0.5)
    sizes = (extent // 2, extent // 2) if even else (1, extent - 1)
    given = () if even and w.opset < 18 else (w.ints(*sizes),)
    names = w.node("Split", x.name, *given, outputs=2, axis=axis)
    parts = [
        Value(str(name), (*x.shape[:at], size, *x.shape[at + 1 :]))
        for name, size in zip(names, sizes, strict=True)
    ]
    w.rounded |= dict.fromkeys(part.name for part in parts)
    if even and w.chance(0.6):
        gate = w.apply(w.pick("Sigmoid", "Tanh"), parts[1])
        return w.apply(w.pick("Mul", "Add"), parts[0], gate)
    return parts[1]


def join(w: Writer, x: Value) -> Value:
    """Concat with another activation, with itself or with a constant."""
    at = int(w.rng.integers(0, x.rank))
    form = w.pick("other", "self", "constant")
    if form == "constant":
        shape = (*x.shape[:at], 2, *x.shape[at + 1 :])
        other = Value(w.normal(*shape), shape)
    else:
        other = w.apply("Neg", x) if form == "other" else x
    parts = (x, other) if w.chance(0.6) else (other, x)
    extent = x.shape[at] + other.shape[at]
    axis = w.pick(at, at - x.rank)
    return w.apply("Concat", *parts, axis=axis, shape=(*x.shape[:at], extent, *x.shape[at + 1 :]))


def gather(w: Writer, x: Value) -> Value:
    """Gather with constant indices: some of them, one, or a table of them; or by their elements."""
    axis = w.axis(x)
    at, extent = axis % x.rank, x.shape[axis]
    form = w.pick("some", "one", "table", "elements", "nd", "compress")
    if form == "one":
        w.require(x.rank > 2)
        index = w.const(w.pick(0, -1, extent // 2), "int64")
        return w.apply("Gather", x, index, axis=axis, shape=(*x.shape[:at], *x.shape[at + 1 :]))
    if form in ("some", "compress"):
        kept = w.rng.integers(-extent, extent, 6)
        shape = (*x.shape[:at], 6, *x.shape[at + 1 :])
        return w.apply("Gather", x, w.ints(*map(int, kept)), axis=axis, shape=shape)
    if form == "table":
        w.require(x.rank < 4)
        table = w.const(w.rng.integers(0, extent, (2, 3)), "int64")
        return w.apply(
            "Gather", x, table, axis=axis, shape=(*x.shape[:at], 2, 3, *x.shape[at + 1 :])
        )
    if form == "nd":
        rows = w.const(w.rng.integers(0, x.shape[0], (5, 1)), "int64")
        return w.apply("GatherND", x, rows, shape=(5, *x.shape[1:]))
    indices = w.const(w.rng.integers(0, extent, x.shape), "int64")
    return w.apply("GatherElements", x, indices, axis=axis)


def scatter(w: Writer, x: Value) -> Value:
    """ScatterElements and ScatterND of other elements, TensorScatter into a cache."""
    if w.opset >= 24 and x.rank == 3 and w.chance(0.6):
        batch, rows, columns = x.shape
        shape = (batch, rows + 4, columns)
        places = w.ints(*(index % 4 for index in range(batch)))
        return w.apply("TensorScatter", w.normal(*shape), x, places, axis=1, shape=shape)
    if w.chance(0.5):
        axis = w.axis(x)
        updates = w.apply("Neg", x)
        one = np.broadcast_to(w.rng.permutation(x.shape[axis]), (*x.shape[:-1], x.shape[axis]))
        w.require(axis % x.rank == x.rank - 1)
        return w.apply("ScatterElements", x, w.const(one, "int64"), updates, axis=axis)
    first = w.const([[0]], "int64")
    return w.apply("ScatterND", x, first, w.normal(1, *x.shape[1:]))


def pad(w: Writer, x: Value) -> Value:
    """Pad with zeros, a value, the edge or what is beside it."""
    before, after = w.pick((1, 2), (0, 1), (2, 0))
    at = int(w.rng.integers(0, x.rank))
    pads = [0] * 2 * x.rank
    pads[at], pads[at + x.rank] = before, after
    shape = (*x.shape[:at], x.shape[at] + before + after, *x.shape[at + 1 :])
    mode = w.pick("constant", "constant", "reflect", "edge")
    w.require(mode != "reflect" or x.shape[at] > 2)
    value = (w.floats(0.5),) if mode == "constant" and w.chance(0.4) else ()
    return w.apply("Pad", x, w.ints(*pads), *value, mode=mode, shape=shape)


def triangle(w: Writer, x: Value) -> Value:
    """Trilu, CumSum, or the largest elements."""
    form = w.pick("Trilu", "CumSum", "TopK")
    if form == "Trilu":
        w.since(14)
        return w.apply("Trilu", x, upper=w.pick(0, 1))
    if form == "CumSum":
        small = w.apply("Mul", x, w.floats(0.2))
        return w.apply("CumSum", small, w.const(w.axis(x), "int64"), exclusive=w.pick(0, 1))
    axis = w.axis(x)
    at, count = axis % x.rank, min(3, x.shape[axis])
    values, _ = w.node("TopK", x.name, w.ints(count), outputs=2, axis=axis)
    found = Value(str(values), (*x.shape[:at], count, *x.shape[at + 1 :]))
    w.rounded[found.name] = None
    return found


def images(w: Writer, x: Value) -> Value:
    """DepthToSpace, SpaceToDepth, Resize and pooling of [batch, channels, high, wide]."""
    w.require(x.rank == 4)
    batch, channels, high, wide = x.shape
    form = w.pick("depth", "space", "resize", "pool", "pool", "global", "lrn")
    if form == "depth":
        w.require(channels % 4 == 0)
        shape = (batch, channels // 4, high * 2, wide * 2)
        return w.apply("DepthToSpace", x, blocksize=2, mode=w.pick("DCR", "CRD"), shape=shape)
    if form == "space":
        w.require(high % 2 == 0 and wide % 2 == 0)
        return w.apply(
            "SpaceToDepth", x, blocksize=2, shape=(batch, channels * 4, high // 2, wide // 2)
        )
    if form == "resize":
        scales = w.const([1, 1, 2, 2], "float32")
        mode, shape = w.pick("nearest", "linear"), (batch, channels, high * 2, wide * 2)
        modes: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric"}
        return w.apply("Resize", x, "", scales, mode=mode, shape=shape, **modes)
    if form == "global":
        op_type = w.pick("GlobalAveragePool", "GlobalMaxPool")
        return w.apply(op_type, x, shape=(batch, channels, 1, 1))
    if form == "lrn":
        return w.apply("LRN", x, size=3)
    w.require(high >= 4 and wide >= 4)
    shape = (batch, channels, (high - 2) // 2 + 1, (wide - 2) // 2 + 1)
    op_type = w.pick("MaxPool", "AveragePool", "LpPool")
    return w.apply(op_type, x, kernel_shape=[2, 2], strides=[2, 2], shape=shape)


def branch(w: Writer, x: Value) -> Value:
    """An If whose condition is a constant; seldom one of data, or a Loop, which are refused."""
    k, n = x.shape[-1], w.pick(4, 8)
    weights, other = w.matrix(k, n), w.floats(0.5)
    shape = (*x.shape[:-1], n)
    floats = helper.np_dtype_to_tensor_dtype(np.dtype(w.dtype))
    graphs = {}
    for index, name in enumerate(("then_branch", "else_branch")):
        stem = f"{name}{len(w.nodes)}"
        nodes = [helper.make_node("MatMul", [x.name, weights], [f"{stem}/y"], f"{stem}/MatMul")]
        if index:
            nodes.append(
                helper.make_node("Mul", [f"{stem}/y", other], [f"{stem}/z"], f"{stem}/Mul")
            )
        found = helper.make_tensor_value_info(nodes[-1].output[0], floats, shape)
        graphs[name] = helper.make_graph(nodes, stem, [], [found])
    if w.chance(0.15):
        largest = w.apply("ReduceMax", x, keepdims=0, shape=(), inner=True)
        condition = w.apply("Greater", largest, w.floats(0.0), inner=True).name
    else:
        condition = w.const(w.chance(0.5), "bool")
    return w.apply("If", condition, shape=shape, **graphs)


REDUCTIONS = (
    "ReduceMean",
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceSumSquare",
    "ReduceProd",
)


def reduction(w: Writer, x: Value) -> Value:
    """A reduction along one or two axes, keeping them or not, in the opset's own form."""
    op_type = w.pick(*REDUCTIONS)
    axes = sorted({w.axis(x), w.axis(x)}) if w.chance(0.3) else [w.axis(x)]
    w.require(len({axis % x.rank for axis in axes}) == len(axes))
    if op_type == "ReduceProd":
        x = w.apply("Add", w.apply("Mul", x, w.floats(0.05)), w.floats(1.0))
    reduced = {axis % x.rank for axis in axes}
    keep = w.pick(0, 1, 1)
    w.require(keep == 1 or x.rank - len(reduced) >= 1)
    shape = tuple(
        1 if at in reduced else n for at, n in enumerate(x.shape) if keep or at not in reduced
    )
    if op_type == "ReduceSum" or w.opset >= 18:
        return w.apply(op_type, x, w.ints(*axes), keepdims=keep, shape=shape)
    return w.apply(op_type, x, axes=axes, keepdims=keep, shape=shape)


def cast(w: Writer, x: Value) -> Value:
    """To another float type and back, or nothing at all."""
    form = w.pick("Identity", "Dropout", "Cast", "CastLike")
    if form in ("Identity", "Dropout"):
        return w.apply(form, x)
    own = {"float32": 1, "float16": 10, "double": 11}[w.dtype]
    if form == "CastLike":
        w.since(15)
        return w.apply("CastLike", x, w.floats(1.0))
    other = w.pick(TensorProto.DOUBLE, TensorProto.FLOAT16)
    return w.apply("Cast", w.apply("Cast", x, to=other, inner=True), to=own)


STAGES = (
    reshape,
    reshape,
    transpose,
    transpose,
    repeat,
    cut,
    cut,
    join,
    gather,
    scatter,
    pad,
    triangle,
    images,
    images,
    reduction,
    reduction,
    branch,
    cast,
)
