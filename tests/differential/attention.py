"""Stages of attention: written out, and as the operators that stand for it."""

from typing import Any

import numpy as np

from .writer import Value, Writer


def _heads(w: Writer, x: Value, width: int) -> int:
    w.require(x.rank == 3)
    return w.pick(*(h for h in (1, 2, 4) if width % h == 0))


def _project(w: Writer, x: Value, n: int) -> Value:
    y = w.apply("MatMul", x, w.matrix(x.shape[-1], n), shape=(*x.shape[:-1], n))
    if w.chance(0.6):
        w.rounded.pop(y.name)
        y = w.apply("Add", y, w.normal(n, deviation=0.3))
    return y


def _split(w: Writer, x: Value, heads: int, order: tuple[int, ...]) -> Value:
    batch, rows, width = x.shape
    apart = (batch, rows, heads, width // heads)
    y = w.apply("Reshape", x, w.ints(*apart), shape=apart)
    return w.apply("Transpose", y, perm=list(order), shape=tuple(apart[axis] for axis in order))


def written(w: Writer, x: Value) -> Value:
    """Multi-head attention as exporters write it, with the masks that there are."""
    width = w.pick(8, 16, 24)
    masks = w.pick("none", "none", "causal", "bias", "keys")
    return attend(w, x, width, _heads(w, x, width), masks)


def attend(w: Writer, x: Value, width: int, heads: int, form: str) -> Value:
    """Attention of x to itself, with one form of mask."""
    batch, rows, _ = x.shape
    q, k, v = (_project(w, x, width) for _ in range(3))
    size = width // heads
    query, value = (_split(w, each, heads, (0, 2, 1, 3)) for each in (q, v))
    key = _split(w, k, heads, (0, 2, 3, 1))
    if w.chance(0.3):
        query = w.apply("Mul", query, w.floats(size**-0.25))
        key = w.apply("Mul", key, w.floats(size**-0.25))
        factor = None
    else:
        factor = w.floats(size**-0.5)
    shape = (batch, heads, rows, rows)
    scores = w.apply("MatMul", query, key, shape=shape)
    if factor is not None:
        scores = w.apply("Mul", scores, factor, inner=True)
    if form != "none":
        seen = np.tri(rows, dtype=np.bool_)
        mask = {
            "causal": w.floats(np.where(seen, 0.0, -1e4)),
            "bias": w.normal(1, heads, rows, rows),
            "keys": w.floats(np.where(np.arange(rows) < rows - 2, 0.0, -1e4)[None, None, None]),
        }[form]
        scores = w.apply("Add", scores, mask, inner=True)
    p = w.apply("Softmax", scores, axis=w.pick(-1, 3))
    context = w.apply("MatMul", p, value, shape=(batch, heads, rows, size))
    context = w.apply("Transpose", context, perm=[0, 2, 1, 3], shape=(batch, rows, heads, size))
    return w.apply("Reshape", context, w.ints(0, 0, -1), shape=(batch, rows, width))


def standard(w: Writer, x: Value) -> Value:
    """Attention of opset 23: heads apart or not, causal, masked, fewer heads of keys."""
    w.since(23)
    width = 16
    heads = _heads(w, x, width)
    batch, rows, _ = x.shape
    kv_heads = w.pick(heads, heads, 1)
    q = _project(w, x, width)
    k, v = (_project(w, x, width // heads * kv_heads) for _ in range(2))
    more: dict[str, Any] = {}
    if w.chance(0.4):
        more["is_causal"] = 1
    elif w.chance(0.3):
        more["scale"] = 0.3
    mask = (w.normal(rows, rows),) if w.chance(0.3) else ()
    if w.chance(0.5):
        split = [
            _split(w, each, n, (0, 2, 1, 3))
            for each, n in ((q, heads), (k, kv_heads), (v, kv_heads))
        ]
        return w.apply(
            "Attention", *split, *mask, shape=(batch, heads, rows, width // heads), **more
        )
    more |= {"q_num_heads": heads, "kv_num_heads": kv_heads}
    return w.apply("Attention", q, k, v, *mask, shape=(batch, rows, width), **more)


def contrib(w: Writer, x: Value) -> Value:
    """com.microsoft Attention, MultiHeadAttention and GroupQueryAttention."""
    width, form = 16, w.pick("Attention", "MultiHeadAttention", "GroupQueryAttention")
    heads = _heads(w, x, width)
    batch, rows, d = x.shape
    shape = (batch, rows, width)
    if form == "Attention":
        weights, bias = w.matrix(d, 3 * width), w.normal(3 * width, deviation=0.3)
        more = {"num_heads": heads, "unidirectional": w.pick(0, 1)}
        return w.contrib("Attention", x, weights, bias, shape=shape, **more)
    if form == "MultiHeadAttention":
        q, k, v = (_project(w, x, width) for _ in range(3))
        bias = w.normal(3 * width, deviation=0.3) if w.chance(0.4) else ""
        given = (q, k, v, bias) if bias else (q, k, v)
        return w.contrib("MultiHeadAttention", *given, shape=shape, num_heads=heads)
    w.require(heads > 1)
    size, kv_heads = width // heads, heads // 2
    q = _project(w, x, width)
    k, v = (_project(w, x, kv_heads * size) for _ in range(2))
    lengths = (w.const([rows - 1] * batch, "int32"), w.const(rows, "int32"))
    more = {"num_heads": heads, "kv_num_heads": kv_heads}
    return w.contrib("GroupQueryAttention", q, k, v, "", "", *lengths, shape=shape, **more)


def rotated(w: Writer, x: Value) -> Value:
    """RotaryEmbedding of heads."""
    w.require(x.rank == 3)
    w.since(23)
    batch, rows, _ = x.shape
    size, heads = 8, 2
    q = _split(w, _project(w, x, heads * size), heads, (0, 2, 1, 3))
    angles = np.arange(rows)[:, None] / 10 ** (np.arange(size // 2) / 2)
    tables = [
        w.floats(np.broadcast_to(f(angles), (batch, rows, size // 2))) for f in (np.cos, np.sin)
    ]
    return w.apply("RotaryEmbedding", q, *tables)


STAGES = (written, written, written, standard, contrib, rotated)
