"""Fused attention nodes as the matmuls and softmax they stand for.

ONNX Attention (opset 23), and com.microsoft Attention, MultiHeadAttention and GroupQueryAttention,
which onnxruntime's optimiser writes. Their definitions: onnx.ai/onnx/operators and
onnxruntime's docs/ContribOperators.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from codesign.compiler.graph import Matmul, Softmax
from codesign.compiler.onnx_emit import Emitter
from codesign.compiler.onnx_shapes import FLOAT, Node, Origin, Shape, Tensor, UnknownShape


@dataclass(frozen=True)
class _Heads:
    """Sizes of one attention: `batch` counts sequences times query heads."""

    batch: int
    queries: int
    keys: int
    size: int  # of a query or key vector
    value_size: int


def _intermediate(emitter: Emitter, name: str, shape: Shape) -> str:
    emitter.graph.tensors[name] = Tensor(FLOAT, shape, Origin.ACTIVATION)
    return name


def _attend(
    emitter: Emitter,
    node: Node,
    operands: tuple[str, str, str],
    heads: _Heads,
    masks: tuple[str, ...] = (),
    causal: bool = False,
) -> None:
    """Emit softmax(Q.K^T + masks).V for operator tensors Q, K, V into the node's first output."""
    query, key, value = operands
    output = node.outputs[0]
    scores = _intermediate(emitter, f"{output}/scores", (heads.batch, heads.queries, heads.keys))
    weights = _intermediate(emitter, f"{output}/probabilities", emitter.shape(scores))
    product = Matmul(
        f"{node.name}/scores",
        (query, key),
        scores,
        batch=heads.batch,
        m=heads.queries,
        k=heads.size,
        n=heads.keys,
        constant_b=False,
        transposed_b=True,
    )
    emitter.emit(product, scores)
    softmax = Softmax(
        f"{node.name}/softmax",
        (scores,),
        weights,
        rows=heads.batch * heads.queries,
        cols=heads.keys,
        masked=causal,
        causal=causal,
    )
    softmax = emitter.masked(softmax, [emitter.pending("add", mask) for mask in masks if mask])
    emitter.emit(softmax, weights)
    context = Matmul(
        f"{node.name}/context",
        (weights, value),
        output,
        batch=heads.batch,
        m=heads.queries,
        k=heads.keys,
        n=heads.value_size,
        constant_b=False,
    )
    emitter.emit(context, output)


def _joined(emitter: Emitter, node: Node, past: str, new: str, index: int) -> str:
    """Return the keys or values including those of earlier tokens; the host appends the new."""
    present = node.outputs[index] if len(node.outputs) > index else ""
    if not past:
        if present:
            emitter.alias(present, new, len(emitter.shape(present)) - 1)
        return emitter.source(new)
    name = present or f"{node.outputs[0]}/present{index}"
    if not present:
        emitter.graph.tensors[name] = emitter.tensor(new)
    emitter.host(node, "concat", [past, new], name, count=emitter.tensor(new).elements)
    return emitter.source(name)


def _standard(emitter: Emitter, node: Node) -> None:
    """ONNX Attention: Q, K, V as [batch, seq, heads * size] or [batch, heads, seq, size]."""
    query, key, value = node.inputs[:3]
    if len(node.outputs) > 3 and node.outputs[3]:
        raise UnknownShape("its scores are an output, which the machine keeps on chip")
    mask, past_key, past_value = node.input(3), node.input(4), node.input(5)
    q_shape, k_shape, v_shape = (emitter.shape(name) for name in (query, key, value))
    if len(q_shape) == 4:
        batch, count, queries, size = q_shape
        new_keys, value_size = k_shape[2], v_shape[3]
    else:
        batch, queries, width = q_shape
        count = node.attribute("q_num_heads")
        size = width // count
        new_keys = k_shape[1]
        value_size = v_shape[2] // node.attribute("kv_num_heads")
    keys = new_keys + (emitter.shape(past_key)[2] if past_key else 0)
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1),
        _joined(emitter, node, past_value, value, 2),
    )
    heads = _Heads(batch * count, queries, keys, size, value_size)
    _attend(emitter, node, operands, heads, (mask,), bool(node.attribute("is_causal", 0)))


def _projected(emitter: Emitter, node: Node) -> None:
    """com.microsoft Attention: one projection [d, 3d] of the input, then attention."""
    x, weights, bias, mask, past, extra = (node.input(i) for i in range(6))
    batch, queries, d = emitter.shape(x)
    width = emitter.shape(weights)[-1]
    sizes = node.attribute("qkv_hidden_sizes") or [width // 3] * 3
    count = node.attribute("num_heads")
    if past:
        raise UnknownShape("with a past state: export without a cache")
    qkv = _intermediate(emitter, f"{node.outputs[0]}/qkv", (batch, queries, width))
    projection = Matmul(
        f"{node.name}/qkv",
        (emitter.aligned(x, 2),),
        qkv,
        m=batch * queries,
        k=d,
        n=width,
        bias=bool(bias),
        weights_name=emitter.root(weights),
    )
    emitter.emit(projection, qkv)
    if len(node.outputs) > 1 and node.outputs[1]:
        emitter.alias(node.outputs[1], qkv, 4, part=True)
    heads = _Heads(batch * count, queries, queries, sizes[0] // count, sizes[2] // count)
    causal = bool(node.attribute("unidirectional", 0))
    _attend(emitter, node, (qkv, qkv, qkv), heads, (mask, extra), causal)


def _multi_head(emitter: Emitter, node: Node) -> None:
    """com.microsoft MultiHeadAttention: separate or packed Q, K and V, already projected."""
    names = [node.input(i) for i in range(8)]
    query, key, value, bias, padding, extra, past_key, past_value = names
    count = node.attribute("num_heads")
    shape = emitter.shape(query)
    width = emitter.shape(node.outputs[0])[-1]
    batch, queries = shape[:2]
    if len(shape) == 5:  # [batch, seq, heads, 3, size]
        keys, size, key, value = queries, shape[4], query, query
    elif len(emitter.shape(key)) == 5:  # [batch, seq, heads, 2, size]
        keys, size, value = emitter.shape(key)[1], emitter.shape(key)[4], key
    else:
        keys = emitter.shape(key)[2 if len(emitter.shape(key)) == 4 else 1]
        size = shape[2] // count
    if bias:
        query, key, value = (
            _biased(emitter, node, name, bias, label)
            for name, label in ((query, "query"), (key, "key"), (value, "value"))
        )
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1),
        _joined(emitter, node, past_value, value, 2),
    )
    keys += emitter.shape(past_key)[2] if past_key else 0
    heads = _Heads(batch * count, queries, keys, size, width // count)
    causal = bool(node.attribute("unidirectional", 0))
    _attend(emitter, node, operands, heads, (padding, extra), causal)


def _biased(emitter: Emitter, node: Node, name: str, bias: str, label: str) -> str:
    """Add a third of the fused bias: folded into the projection when it is a Matmul."""
    output = _intermediate(emitter, f"{node.outputs[0]}/{label}", emitter.shape(name))
    if not emitter.fold_into_weights(node, name, output, bias=True):
        step = replace(node, name=f"{node.name}/{label}")
        emitter.host(step, "add", [name], output)
    return output


def _grouped_query(emitter: Emitter, node: Node) -> None:
    """com.microsoft GroupQueryAttention: causal, several query heads to one key head."""
    query, key, value, past_key, past_value = (node.input(i) for i in range(5))
    key, value = key or query, value or query
    batch, queries, width = emitter.shape(node.outputs[0])
    count = node.attribute("num_heads")
    size = width // count
    if node.attribute("do_rotary", 0):
        query = _rotated(emitter, node, query, "query")
        key = query if not node.input(1) else _rotated(emitter, node, key, "key")
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1),
        _joined(emitter, node, past_value, value, 2),
    )
    keys = queries + (emitter.shape(past_key)[2] if past_key else 0)
    heads = _Heads(batch * count, queries, keys, size, size)
    _attend(emitter, node, operands, heads, causal=True)


def _rotated(emitter: Emitter, node: Node, name: str, label: str) -> str:
    output = _intermediate(emitter, f"{node.outputs[0]}/{label}", emitter.shape(name))
    emitter.host(replace(node, name=f"{node.name}/{label}"), "rotaryembedding", [name], output)
    return output


def _attention(emitter: Emitter, node: Node) -> None:
    (_projected if node.domain else _standard)(emitter, node)


ATTENTION_HANDLERS: dict[str, Callable[[Emitter, Node], None]] = {
    "Attention": _attention,
    "GroupQueryAttention": _grouped_query,
    "MultiHeadAttention": _multi_head,
}
