"""Stages that normalize rows: LayerNorm and its kin as operators and in steps, softmax."""

import numpy as np

from .writer import Value, Writer

EPSILON = 1e-5


def layer_norm(w: Writer, x: Value) -> Value:
    """LayerNormalization over the last axis or the last two, with or without beta."""
    w.since(17)
    axis = w.pick(-1, -1, -1, x.rank - 1, -2)
    w.require(x.rank + min(axis, 0) >= 1)
    own = x.shape[axis:]
    affine = [w.normal(*own, mean=1.0, deviation=0.3), w.normal(*own, deviation=0.3)]
    return w.apply("LayerNormalization", x, *affine[: w.pick(1, 2, 2)], axis=axis, epsilon=EPSILON)


def rms_norm(w: Writer, x: Value) -> Value:
    """RMSNormalization, or onnxruntime's own before there was one."""
    gamma = w.normal(x.shape[-1], mean=1.0, deviation=0.3)
    if w.opset >= 23 and w.chance(0.6):
        return w.apply("RMSNormalization", x, gamma, axis=-1, epsilon=EPSILON)
    w.require(w.dtype == "float32")
    return w.apply("SimplifiedLayerNormalization", x, gamma, axis=-1, epsilon=EPSILON)


def written_norm(w: Writer, x: Value) -> Value:
    """LayerNorm or RMSNorm in steps."""
    axis = w.pick(-1, x.rank - 1)
    shape = (*x.shape[:-1], 1)

    def mean(of: Value) -> Value:
        if w.opset >= 18:
            return w.apply("ReduceMean", of, w.ints(axis), keepdims=1, shape=shape, inner=True)
        return w.apply("ReduceMean", of, axes=[axis], keepdims=1, shape=shape, inner=True)

    rms = w.chance(0.5)
    centered = x if rms else w.apply("Sub", x, mean(x), inner=True)
    square = (
        w.apply("Mul", centered, centered, inner=True)
        if w.chance(0.5)
        else w.apply("Pow", centered, w.floats(2.0), inner=True)
    )
    variance = w.apply("Add", mean(square), w.floats(EPSILON), inner=True)
    root = w.apply("Sqrt", variance, inner=True)
    if w.chance(0.5):
        normed = w.apply("Mul", centered, w.apply("Reciprocal", root, inner=True), inner=True)
    else:
        normed = w.apply("Div", centered, root, inner=True)
    gamma = w.normal(x.shape[-1], mean=1.0, deviation=0.3)
    if rms:
        return w.apply("Mul", normed, gamma)
    beta = w.normal(x.shape[-1], deviation=0.3)
    return w.apply("Add", w.apply("Mul", normed, gamma, inner=True), beta)


def skip_norm(w: Writer, x: Value) -> Value:
    """com.microsoft SkipLayerNormalization and its simplified form, with and without bias."""
    w.require(x.rank == 3)
    skip = w.apply("Tanh", x)
    gamma, beta = w.normal(x.shape[-1], mean=1.0, deviation=0.3), w.normal(x.shape[-1])
    bias = (w.normal(x.shape[-1], deviation=0.3),) if w.chance(0.5) else ()
    if w.chance(0.5):
        given = (x, skip, gamma, *bias)
        return w.contrib("SkipSimplifiedLayerNormalization", *given, epsilon=EPSILON)
    return w.contrib("SkipLayerNormalization", x, skip, gamma, beta, *bias, epsilon=EPSILON)


def other_norm(w: Writer, x: Value) -> Value:
    """InstanceNormalization, GroupNormalization, LpNormalization, MeanVarianceNormalization."""
    form = w.pick("instance", "group", "lp", "moments")
    if form == "lp":
        return w.apply("LpNormalization", x, axis=w.pick(-1, x.rank - 1), p=w.pick(1, 2))
    if form == "moments":
        axes = w.pick([-1], [x.rank - 1], list(range(1, x.rank)))
        return w.apply("MeanVarianceNormalization", x, axes=axes)
    w.require(x.rank >= 3)
    channels = x.shape[1]
    affine = w.normal(channels, mean=1.0, deviation=0.3), w.normal(channels, deviation=0.3)
    if form == "instance":
        return w.apply("InstanceNormalization", x, *affine, epsilon=EPSILON)
    w.since(21)
    w.require(channels % 2 == 0)
    return w.apply("GroupNormalization", x, *affine, num_groups=2, epsilon=EPSILON)


def softmax(w: Writer, x: Value) -> Value:
    """Softmax or its logarithm along any axis."""
    axis = w.pick(-1, -1, x.rank - 1, w.axis(x))
    if w.chance(0.2):
        return w.apply("LogSoftmax", x, axis=axis)
    return w.apply("Softmax", x, axis=axis)


def masked_softmax(w: Writer, x: Value) -> Value:
    """A softmax of scores with a constant mask or bias under it."""
    rows, columns = x.shape[-2:]
    scores = w.apply("Mul", x, w.floats(w.pick(0.5, 2.0)))
    form = w.pick("causal", "bias", "keys", "where")
    seen = np.tri(rows, columns, max(columns - rows, 0), dtype=np.bool_)
    if form == "where":
        low = w.floats(-1e4)
        keep = w.const(seen, "bool")
        hidden = w.apply("Where", keep, scores, low, shape=x.shape, inner=True)
        return w.apply("Softmax", hidden, axis=-1)
    if form == "causal":
        mask = w.floats(np.where(seen, 0.0, -1e4))
    elif form == "bias":
        mask = w.normal(rows, columns)
    else:
        mask = w.floats(np.where(np.arange(columns) < columns - 2, 0.0, -1e4))
    return w.apply("Softmax", w.apply("Add", scores, mask, inner=True), axis=-1)


def written_softmax(w: Writer, x: Value) -> Value:
    """Softmax in steps."""
    shape = (*x.shape[:-1], 1)

    def reduce(op_type: str, of: Value) -> Value:
        if op_type == "ReduceSum" or w.opset >= 18:
            return w.apply(op_type, of, w.ints(-1), keepdims=1, shape=shape, inner=True)
        return w.apply(op_type, of, axes=[-1], keepdims=1, shape=shape, inner=True)

    exponents = w.apply("Sub", x, reduce("ReduceMax", x), inner=True)
    exponents = w.apply("Exp", exponents, inner=True)
    return w.apply("Div", exponents, reduce("ReduceSum", exponents))


STAGES = (
    layer_norm,
    layer_norm,
    rms_norm,
    written_norm,
    written_norm,
    skip_norm,
    other_norm,
    softmax,
    softmax,
    masked_softmax,
    written_softmax,
)
