"""Stages that are matrix products: linear layers in many spellings, products of activations,
convolutions.
"""

import math
from typing import Any

import numpy as np

from .writer import Shape, Value, Writer

SIZES = (4, 6, 8, 12, 16, 24)


def linear(w: Writer, x: Value) -> Value:
    """x @ W + b, as torch writes it."""
    k, n = x.shape[-1], w.pick(*SIZES)
    y = w.apply("MatMul", x, w.matrix(k, n), shape=(*x.shape[:-1], n))
    return biased(w, y) if w.chance(0.7) else y


def biased(w: Writer, x: Value) -> Value:
    """A row added on either side."""
    bias = w.normal(*[1] * w.pick(0, x.rank - 1), x.shape[-1], deviation=0.3)
    w.rounded.pop(x.name, None)
    sides = (x, bias) if w.chance(0.6) else (bias, x)
    return w.apply(w.pick("Add", "Add", "Sub"), *sides, shape=x.shape)


def scaled_linear(w: Writer, x: Value) -> Value:
    """A linear layer between factors: scalars, rows, a negative one."""
    if w.chance(0.5):
        x = w.apply("Mul", x, w.floats(w.pick(0.5, 3.0, -1.0, [0.25])))
    y = linear(w, x)
    factor = w.pick(w.floats(-0.7), w.floats(2.0), w.normal(y.shape[-1], mean=1.0, deviation=0.4))
    return w.apply(w.pick("Mul", "Div"), y, factor)


def weights_first(w: Writer, x: Value) -> Value:
    """W @ x."""
    m, k = w.pick(*SIZES), x.shape[-2]
    return w.apply("MatMul", w.matrix(m, k, inner=-1), x, shape=(*x.shape[:-2], m, x.shape[-1]))


def vector(w: Writer, x: Value) -> Value:
    """A product with a vector of weights, or with a matrix for every leading index."""
    k = x.shape[-1]
    if w.chance(0.4):
        return w.apply("MatMul", x, w.normal(k, deviation=k**-0.5), shape=x.shape[:-1])
    w.require(x.rank > 2)
    n = w.pick(*SIZES)
    weights = w.matrix(*x.shape[:-2], k, n)
    return w.apply("MatMul", x, weights, shape=(*x.shape[:-1], n))


def gemm(w: Writer, x: Value) -> Value:
    """Gemm with alpha, beta, transposed operands, and C as a scalar, row, column or matrix."""
    if x.rank != 2:
        flat = (math.prod(x.shape[:-1]), x.shape[-1])
        x = w.apply("Reshape", x, w.ints(-1, x.shape[-1]), shape=flat)
    more: dict[str, Any] = {}
    if w.chance(0.4):
        more["alpha"] = w.pick(0.5, 2.0, -1.0)
    if w.chance(0.4):
        more["beta"] = w.pick(0.5, 2.0, 0.0)
    trans_a, trans_b = w.chance(0.25), w.chance(0.5)
    k, m = (x.shape if trans_a else x.shape[::-1])[:2]
    n = w.pick(*SIZES)
    weights = w.matrix(n, k, inner=-1) if trans_b else w.matrix(k, n)
    more |= {"transA": int(trans_a)} if trans_a else {}
    more |= {"transB": int(trans_b)} if trans_b else {}
    form = w.pick("none", "row", "row", "scalar", "column", "matrix", "activation")
    shapes: dict[str, Shape] = {"row": (n,), "scalar": (), "column": (m, 1), "matrix": (m, n)}
    c: tuple[Value | str, ...] = ()
    if form in shapes:
        c = (w.normal(*shapes[form], deviation=0.3),)
    elif form == "activation":
        c = (w.apply("MatMul", x, w.matrix(k, n), shape=(m, n)),) if not trans_a else ()
    if w.chance(0.15):
        activation = {"activation": w.pick("Relu", "Tanh", "Sigmoid")}
        return w.contrib("FusedGemm", x, weights, *c, shape=(m, n), **more, **activation)
    return w.apply("Gemm", x, weights, *c, shape=(m, n), **more)


def fused_matmul(w: Writer, x: Value) -> Value:
    """FusedMatMul: transposed operands and a factor."""
    trans_a, trans_b = w.chance(0.3), w.chance(0.5)
    k = x.shape[-2] if trans_a else x.shape[-1]
    m = x.shape[-1] if trans_a else x.shape[-2]
    n = w.pick(*SIZES)
    weights = w.matrix(n, k, inner=-1) if trans_b else w.matrix(k, n)
    more = {"transA": int(trans_a), "transB": int(trans_b), "alpha": w.pick(1.0, 0.3, 2.0)}
    op_type = w.pick("FusedMatMul", "FusedMatMul", "TransposeMatMul")
    return w.contrib(op_type, x, weights, shape=(*x.shape[:-2], m, n), **more)


def few_bits(w: Writer, x: Value) -> Value:
    """MatMulNBits: weights of four bits in blocks of rows, with a scale each."""
    k, n, block = x.shape[-1], w.pick(8, 16), 16
    w.require(k % block == 0)
    codes = w.const(w.rng.integers(0, 256, (n, k // block, block // 2)), "uint8")
    scales = w.floats(w.rng.uniform(0.5, 1.5, n * (k // block)) / (4 * k**0.5))
    more = {"K": k, "N": n, "bits": 4, "block_size": block}
    return w.contrib("MatMulNBits", x, codes, scales, shape=(*x.shape[:-1], n), **more)


def products(w: Writer, x: Value) -> Value:
    """A product of two activations: with its own transpose, or of two projections."""
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    rows, k = x.shape[-2:]
    y = linear(w, x) if w.chance(0.6) else x
    if y.shape[-1] != k:
        other = w.apply("Transpose", y, perm=order, shape=(*y.shape[:-2], y.shape[-1], rows))
        shape = (*x.shape[:-2], y.shape[-1], k)
        return w.apply("Mul", w.apply("MatMul", other, x, shape=shape), w.floats(rows**-0.5))
    turned = w.apply("Transpose", y, perm=order, shape=(*y.shape[:-2], k, rows))
    product = w.apply("MatMul", x, turned, shape=(*x.shape[:-1], rows))
    return w.apply("Mul", product, w.floats(k**-0.5))


def einsum(w: Writer, x: Value) -> Value:
    """An Einsum with weights, in the order of axes that exporters of attention write."""
    w.require(x.rank in (2, 3))
    k, heads, n = x.shape[-1], 2, w.pick(4, 8)
    form = w.pick("plain", "heads", "turned", "swapped", "dots")
    lead = "b" if x.rank == 3 else ""
    if form == "plain":
        equation, shape, weights = f"{lead}id,dn->{lead}in", (*x.shape[:-1], n), w.matrix(k, n)
    elif form == "dots":
        equation, shape, weights = "...d,dn->...n", (*x.shape[:-1], n), w.matrix(k, n)
    elif form == "swapped":
        equation, shape = f"nd,{lead}id->{lead}in", (*x.shape[:-1], n)
        weights = w.matrix(n, k, inner=-1)
        return w.apply("Einsum", weights, x, equation=equation, shape=shape)
    elif form == "heads":
        equation, shape = f"{lead}id,dhn->{lead}ihn", (*x.shape[:-1], heads, n)
        weights = w.floats(w.rng.normal(0, k**-0.5, (k, heads, n)))
    else:
        equation, shape = f"{lead}id,hdn->{lead}hin", (*x.shape[:-2], heads, x.shape[-2], n)
        weights = w.floats(w.rng.normal(0, k**-0.5, (heads, k, n)))
    return w.apply("Einsum", x, weights, equation=equation, shape=shape)


def einsum_scores(w: Writer, x: Value) -> Value:
    """An Einsum of two activations."""
    w.require(x.rank == 3)
    y = linear(w, x)
    if y.shape[-1] == x.shape[-1]:
        shape = (x.shape[0], x.shape[1], x.shape[1])
        found = w.apply("Einsum", x, y, equation="bid,bjd->bij", shape=shape)
    else:
        shape = (x.shape[0], x.shape[2], y.shape[2])
        found = w.apply("Einsum", x, y, equation="bid,bie->bde", shape=shape)
    return w.apply("Mul", found, w.floats(0.25))


def convolution(w: Writer, x: Value) -> Value:
    """A convolution over images or rows: patches, overlapping, padded, of one pixel, in groups."""
    w.require(x.rank in (3, 4))
    channels, spatial = x.shape[1], x.rank - 2
    n = w.pick(4, 8)
    form = w.pick("pixel", "patch", "patch", "overlap", "group")
    kernel, stride, pad, group = {
        "pixel": (1, 1, 0, 1),
        "patch": (2, 2, 0, 1),
        "overlap": (3, 1, 1, 1),
        "group": (1, 1, 0, 2),
    }[form]
    w.require(channels % group == 0 and all(n >= kernel and n % stride == 0 for n in x.shape[2:]))
    fan = channels // group * kernel**spatial
    size = (n, channels // group, *[kernel] * spatial)
    weights = w.floats(w.rng.normal(0, fan**-0.5, size))
    bias = (w.normal(n, deviation=0.3),) if w.chance(0.5) else ()
    out = tuple((extent + 2 * pad - kernel) // stride + 1 for extent in x.shape[2:])
    more: dict[str, Any] = {"kernel_shape": [kernel] * spatial, "strides": [stride] * spatial}
    more |= {"pads": [pad] * 2 * spatial, "group": group}
    shape = (x.shape[0], n, *out)
    if spatial == 2 and w.chance(0.15):
        fused = {**more, "activation": "Relu"}
        return w.contrib("FusedConv", x, weights, *bias, shape=shape, **fused)
    y = w.apply("Conv", x, weights, *bias, shape=shape, **more)
    if w.chance(0.3):
        w.rounded.pop(y.name)
        return normalised(w, y)
    return y


def normalised(w: Writer, x: Value) -> Value:
    """BatchNormalization over the channels, of axis 1."""
    w.require(x.rank > 1)
    channels = x.shape[1]
    rows = [w.normal(channels, mean=m, deviation=0.2) for m in (1.0, 0.0, 0.0)]
    variance = w.floats(np.abs(w.rng.normal(1.0, 0.3, channels)) + 0.2)
    return w.apply("BatchNormalization", x, *rows, variance)


STAGES = (
    linear,
    linear,
    linear,
    scaled_linear,
    weights_first,
    vector,
    gemm,
    gemm,
    fused_matmul,
    few_bits,
    products,
    einsum,
    einsum_scores,
    convolution,
    convolution,
    normalised,
)
