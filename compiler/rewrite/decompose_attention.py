"""Fused attention nodes as products, masks and a softmax: ONNX Attention (opset 23 and later), and
com.microsoft Attention, MultiHeadAttention and GroupQueryAttention.

softmax(cap(scale Q.K^T) + masks).V, as onnxruntime computes it: the cap before the masks, and a causal
mask that counts from the end of the past. A form that is not known here stays one node, and the host's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from codesign.compiler.onnx.shapes import Shape
from codesign.compiler.rewrite.writer import Decomposer, Writer

LOWEST = float(np.finfo(np.float32).min)  # what hides a key for certain
UNKNOWN = "has inputs or attributes that are not taken apart here"
MASKED = "has a mask of a form that is not taken apart here"
FILTER = -10000.0  # what onnxruntime adds for a hidden key where its node does not say


@dataclass(frozen=True)
class _Operand:
    """Q, K or V as [batch, heads, rows, size]."""

    name: str
    batch: int
    heads: int
    rows: int
    size: int


def _split(w: Writer, name: str, shape: Shape, heads: int, label: str) -> _Operand:
    """[batch, rows, heads * size] by heads."""
    batch, rows, width = shape
    parts = w.reshape(name, (batch, rows, heads, width // heads), label=f"{label}/parts")
    turned = w.transpose(parts, 0, 2, 1, 3, label=f"{label}/heads")
    return _Operand(turned, batch, heads, rows, width // heads)


def _given(name: str, shape: Shape) -> _Operand:
    return _Operand(name, *shape)


def _joined(w: Writer, past: int, new: _Operand, present: str, label: str) -> _Operand:
    """Keys or values behind those of earlier tokens."""
    if not w.input(past):
        if present:
            w.add("Identity", new.name, into=present)
        return new
    rows = w.shape(past)[2] + new.rows
    name = w.add("Concat", w.input(past), new.name, into=present, label=label, axis=2)
    return _Operand(name, new.batch, new.heads, rows, new.size)


def _repeated(w: Writer, x: _Operand, heads: int, label: str) -> str:
    """The heads of `x`, each for as many queries as read it."""
    if x.heads == heads:
        return x.name
    inner = (x.rows, x.size)
    alone = w.reshape(x.name, (x.batch, x.heads, 1, *inner), label=f"{label}/groups")
    shape = w.constant((x.batch, x.heads, heads // x.heads, *inner), "int64")
    every = w.add("Expand", alone, shape, label=f"{label}/repeated")
    return w.reshape(every, (x.batch, heads, *inner), label=f"{label}/all")


def _attend(
    w: Writer,
    operands: tuple[_Operand, _Operand, _Operand],
    masks: list[str],
    scale: float,
    cap: float = 0.0,
    flat: bool = True,
) -> None:
    """softmax(cap(scale Q.K^T) + masks).V into the first output, heads side by side where `flat`."""
    q, k, v = operands
    keys, values = (_repeated(w, x, q.heads, n) for x, n in ((k, "keys"), (v, "values")))
    turned = w.transpose(keys, 0, 1, 3, 2, label="keys/turned")
    scores = w.add("MatMul", q.name, turned, label="scores")
    scores = w.add("Mul", scores, w.constant(scale or 1 / math.sqrt(q.size)), label="scaled")
    if cap:
        ratio = w.add("Div", scores, w.constant(cap), label="ratio")
        scores = w.add("Mul", w.add("Tanh", ratio), w.constant(cap), label="capped")
    for mask in masks:
        scores = w.add("Add", scores, mask, label="masked")
    weights = w.add("Softmax", scores, label="softmax", axis=-1)
    if not flat:
        w.add("MatMul", weights, values, into=w.output(0), label="context")
        return
    context = w.add("MatMul", weights, values, label="context")
    beside = w.transpose(context, 0, 2, 1, 3, label="beside")
    w.reshape(beside, (q.batch, q.rows, q.heads * v.size), into=w.output(0), label="joined")


def _causal(w: Writer, queries: int, keys: int, past: int, window: int = 0) -> str:
    """What hides the future, and with `window` what lies that far back and farther."""
    ones = np.ones((queries, keys), dtype=bool)
    hidden = np.triu(ones, 1 + past)
    if window > 0:
        hidden |= np.tril(ones, past - window)
    return w.constant(np.where(hidden, LOWEST, 0.0))


def _hiding(w: Writer, visible: str, value: float) -> str:
    """What adds `value` where `visible`, a tensor of booleans, is false."""
    return w.add("Where", visible, w.constant(0.0), w.constant(value), label="hidden")


# -- ONNX ----------------------------------------------------------------------------------------------


def _standard(w: Writer) -> bool:
    """ONNX Attention: Q, K, V as [batch, seq, heads * size] or [batch, heads, seq, size]."""
    known = ["is_causal", "kv_num_heads", "q_num_heads", "scale", "softcap", "softmax_precision"]
    known.append("qk_matmul_output_mode")  # of output 3
    if w.output(3) or w.input(6) or not w.only(*known):
        return w.stays(UNKNOWN)
    flat = len(w.shape(0)) == 3
    if flat:
        counts = [w.attribute(f"{side}_num_heads") for side in ("q", "kv", "kv")]
        parts = [
            _split(w, w.input(i), w.shape(i), heads, label)
            for i, (heads, label) in enumerate(zip(counts, ("query", "key", "value"), strict=True))
        ]
    else:
        parts = [_given(w.input(i), w.shape(i)) for i in range(3)]
    q = parts[0]
    k = _joined(w, 4, parts[1], w.output(1), "present/keys")
    v = _joined(w, 5, parts[2], w.output(2), "present/values")
    masks = []
    if w.input(3):
        if w.shape(3)[-1] != k.rows:
            return w.stays("has a mask over some of its keys")
        boolean = w.graph.tensors[w.node.input(3)].dtype == onnx.TensorProto.BOOL
        masks.append(_hiding(w, w.input(3), LOWEST) if boolean else w.input(3))
    if w.attribute("is_causal", 0):
        masks.append(_causal(w, q.rows, k.rows, k.rows - parts[1].rows))
    cap = w.attribute("softcap", 0.0)
    _attend(w, (q, k, v), masks, w.attribute("scale", 0.0) or 0.0, cap, flat)
    return True


# -- com.microsoft -------------------------------------------------------------------------------------


def _padding(w: Writer, index: int, batch: int, keys: int) -> list[str] | None:
    """What a mask over keys adds: of [batch] lengths, or ones and zeros [batch(, queries), keys]."""
    if not w.input(index):
        return []
    shape = w.shape(index)
    value = w.attribute("mask_filter_value", FILTER)
    if shape == (batch,):
        places = w.constant(np.arange(keys).reshape(1, keys), "int32")
        lengths = w.reshape(w.input(index), (batch, 1), label="lengths")
        seen = w.add("Less", places, lengths, label="seen")
    elif len(shape) in (2, 3) and (shape[0], shape[-1]) == (batch, keys):
        seen = w.add("Cast", w.input(index), label="seen", to=onnx.TensorProto.BOOL)
    else:
        return None  # ends and starts of sequences, or a matrix for each head
    inner = (1, 1, keys) if len(shape) < 3 else (1, *shape[1:])
    return [_hiding(w, w.reshape(seen, (batch, *inner), label="over/keys"), value)]


def _projected(w: Writer) -> bool:
    """com.microsoft Attention: one projection of the input to Q, K and V, side by side."""
    known = ("num_heads", "unidirectional", "qkv_hidden_sizes", "mask_filter_value", "scale")
    if w.input(4) or not w.only(*known):
        return w.stays(UNKNOWN)
    batch, rows, _ = w.shape(0)
    width, heads = w.shape(1)[-1], w.attribute("num_heads")
    sizes = list(w.attribute("qkv_hidden_sizes") or [width // 3] * 3)
    masks = _padding(w, 3, batch, rows)
    if masks is None:
        return w.stays(MASKED)
    beside = w.add("MatMul", w.input(0), w.input(1), label="projection")
    if w.input(2):
        beside = w.add("Add", beside, w.input(2), label="projected")
    parts = []
    for label, end, size in zip(("query", "key", "value"), np.cumsum(sizes), sizes, strict=True):
        part = w.slice(beside, 2, int(end) - size, int(end), label=label)
        parts.append(_split(w, part, (batch, rows, size), heads, label))
    if w.output(1):
        both = [
            w.reshape(x.name, (1, batch, heads, rows, x.size), label="present") for x in parts[1:]
        ]
        w.add("Concat", *both, into=w.output(1), axis=0)
    masks += [w.input(5)] if w.input(5) else []
    if w.attribute("unidirectional", 0):
        masks.append(_causal(w, rows, rows, 0))
    _attend(w, (parts[0], parts[1], parts[2]), masks, w.attribute("scale", 0.0))
    return True


def _multi_head(w: Writer) -> bool:
    """com.microsoft MultiHeadAttention: Q, K and V apart, or packed head by head."""
    heads = w.attribute("num_heads")
    packed = 5 in (len(w.shape(0)), len(w.shape(1)))
    known = ("num_heads", "mask_filter_value", "scale", "unidirectional")
    unread = not any((w.output(3), w.input(8), w.input(9)))  # scores, lengths, beams
    if (w.input(3) and packed) or not (unread and w.only(*known)):
        return w.stays(UNKNOWN)
    parts = _packed(w, heads) or _apart(w, heads)
    q = parts[0]
    k = _joined(w, 6, parts[1], w.output(1), "present/keys")
    v = _joined(w, 7, parts[2], w.output(2), "present/values")
    masks = _padding(w, 4, q.batch, k.rows)
    if masks is None:
        return w.stays(MASKED)
    masks += [w.input(5)] if w.input(5) else []
    if w.attribute("unidirectional", 0):
        masks.append(_causal(w, q.rows, k.rows, k.rows - parts[1].rows))
    _attend(w, (q, k, v), masks, w.attribute("scale", 0.0))
    return True


def _apart(w: Writer, heads: int) -> list[_Operand]:
    """Q, K and V as [batch, rows, width], with their parts of the bias, or by heads already."""
    parts, begin = [], 0
    for index, label in enumerate(("query", "key", "value")):
        name, shape = w.input(index), w.shape(index)
        if len(shape) == 4:
            parts.append(_given(name, shape))
            continue
        if w.input(3):
            part = w.slice(w.input(3), 0, begin, begin + shape[-1], label=f"{label}/bias")
            name = w.add("Add", name, part, label=f"{label}/biased")
        begin += shape[-1]
        parts.append(_split(w, name, shape, heads, label))
    return parts


def _packed(w: Writer, heads: int) -> list[_Operand]:
    """Q, K and V of one tensor [batch, rows, heads, 3, size], or Q beside K and V of one."""
    found: list[_Operand] = []
    index, labels = 0, ["query", "key", "value"]
    if len(w.shape(0)) != 5:
        if len(w.shape(1)) != 5:
            return []
        found.append(_split(w, w.input(0), w.shape(0), heads, "query"))
        index, labels = 1, ["key", "value"]
    batch, rows, _, _, size = w.shape(index)
    for turn, label in enumerate(labels):
        part = w.slice(w.input(index), 3, turn, turn + 1, label=label)
        part = w.reshape(part, (batch, rows, heads, size), label=f"{label}/parts")
        turned = w.transpose(part, 0, 2, 1, 3, label=f"{label}/heads")
        found.append(_Operand(turned, batch, heads, rows, size))
    return found


def _grouped_query(w: Writer) -> bool:
    """com.microsoft GroupQueryAttention whose sequences all end where its tensors do."""
    heads, groups = w.attribute("num_heads"), w.attribute("kv_num_heads")
    batch, rows = w.shape(0)[:2]
    past = w.shape(3)[2] if w.input(3) else 0
    lengths = w.value(5)
    whole = lengths is not None and bool(np.all(lengths + 1 == past + rows))
    known = ("num_heads", "kv_num_heads", "scale", "softcap", "local_window_size", "do_rotary")
    if not whole:
        given = "at run time" if lengths is None else "shorter than its tensors"
        return w.stays(f"has lengths of sequences that are given {given}")
    if w.attribute("do_rotary", 0):
        return w.stays("rotates its queries and keys itself")
    if not w.only(*known) or any(w.input(i) for i in (9, 10, 11)):  # positions, a bias, a sink
        return w.stays(UNKNOWN)
    counts = (heads, groups, groups)
    if w.input(1):
        names = [(w.input(i), w.shape(i)) for i in range(3)]
    else:
        size = w.shape(0)[2] // (heads + 2 * groups)
        ends = np.cumsum([count * size for count in counts])
        names = [
            (w.slice(w.input(0), 2, int(end) - count * size, int(end)), (batch, rows, count * size))
            for end, count in zip(ends, counts, strict=True)
        ]
    labels = ("query", "key", "value")
    parts = [
        _split(w, *named, count, label)
        for named, count, label in zip(names, counts, labels, strict=True)
    ]
    k = _joined(w, 3, parts[1], w.output(1), "present/keys")
    v = _joined(w, 4, parts[2], w.output(2), "present/values")
    window = max(w.attribute("local_window_size", -1), 0)
    masks = [_causal(w, rows, k.rows, past, window)]
    cap, scale = w.attribute("softcap", 0.0), w.attribute("scale", 0.0)
    _attend(w, (parts[0], k, v), masks, scale, cap)
    return True


def _attention(w: Writer) -> bool:
    return (_projected if w.node.domain else _standard)(w)


ATTENTION: Mapping[str, Decomposer] = {
    "Attention": _attention,
    "GroupQueryAttention": _grouped_query,
    "MultiHeadAttention": _multi_head,
}
