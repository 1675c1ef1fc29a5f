"""Fused attention nodes as the matmuls and softmax they stand for, and rotary positions.

ONNX Attention (opset 23), and com.microsoft Attention, MultiHeadAttention and GroupQueryAttention,
which onnxruntime's optimiser writes. Their definitions: onnx.ai/onnx/operators and
onnxruntime's docs/ContribOperators.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from codesign.compiler.graph import Activation, Matmul, Rotary, Softmax
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.onnx.shapes import FLOAT, Node, Origin, Shape, Tensor, UnknownShape


@dataclass(frozen=True)
class _Heads:
    """Sizes of one attention: `batch` counts sequences times query heads, of which `shared` read one
    key head.
    """

    batch: int
    queries: int
    keys: int
    size: int  # of a query or key vector
    value_size: int
    shared: int = 1


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
    window: int = 0,
) -> None:
    """Emit softmax(Q.K^T + masks).V for operator tensors Q, K, V into the node's first output.

    A `softcap` of the node is a tanh of the scores. With a `window` a query sees so
    many keys up to its own: one matrix that hides the others from it, where there are several.
    """
    query, key, value = operands
    output = node.outputs[0]
    scores = _intermediate(emitter, f"{output}/scores", (heads.batch, heads.queries, heads.keys))
    weights = _intermediate(emitter, f"{output}/probabilities", emitter.shape(scores))

    def product(
        name: str, operands: tuple[str, str], k: int, n: int, into: str, transposed_b: bool = False
    ) -> None:
        """Of a matrix a head, whose rows are those of the queries."""
        op = Matmul(
            f"{node.name}/{name}",
            operands,
            into,
            batch=heads.batch,
            m=heads.queries,
            k=k,
            n=n,
            constant_b=False,
            transposed_b=transposed_b,
            shared=heads.shared,
        )
        emitter.emit(op, into)

    product("scores", (query, key), heads.size, heads.keys, scores, transposed_b=True)
    if node.attribute("softcap", 0.0):
        capped = _intermediate(emitter, f"{output}/capped", emitter.shape(scores))
        rows, name = heads.batch * heads.queries, f"{node.name}/softcap"
        cap = Activation(name, (scores,), capped, function="tanh", rows=rows, cols=heads.keys)
        emitter.emit(cap, capped)
        scores = capped
    hides = 0 < window < heads.keys
    softmax = Softmax(
        f"{node.name}/softmax",
        (scores,),
        weights,
        rows=heads.batch * heads.queries,
        cols=heads.keys,
        masked=causal or hides,
        causal=causal and not (hides and heads.queries == 1),
        bias_elements=heads.queries * heads.keys if hides and heads.queries > 1 else 0,
    )
    softmax = emitter.masked(softmax, [emitter.pending("add", mask) for mask in masks if mask])
    emitter.emit(softmax, weights)
    product("context", (weights, value), heads.keys, heads.value_size, output)


def _joined(emitter: Emitter, node: Node, past: str, new: str, index: int, count: int) -> str:
    """Return the keys or values including those of earlier tokens; the host appends the `count`
    elements of the new, which may be a part of `new`. A past may be of no tokens."""
    present = node.outputs[index] if len(node.outputs) > index else ""
    if not past or not emitter.tensor(past).elements:
        if present:
            emitter.alias(present, new, len(emitter.shape(present)) - 1)
        return emitter.source(new)
    name = present or f"{node.outputs[0]}/present{index}"
    if not present:
        emitter.graph.tensors[name] = emitter.tensor(new)
    emitter.host(node, "concat", [past, new], name, count=count, copy="rows")
    return emitter.source(name)


def _standard(emitter: Emitter, node: Node) -> None:
    """ONNX Attention: Q, K, V as [batch, seq, heads * size] or [batch, heads, seq, size]."""
    query, key, value = node.inputs[:3]
    if len(node.outputs) > 3 and node.outputs[3] and emitter.uses(node.outputs[3]):
        raise UnknownShape("its scores are an output, which the machine keeps on chip")
    mask, past_key, past_value = node.input(3), node.input(4), node.input(5)
    q_shape, k_shape, v_shape = (emitter.shape(name) for name in (query, key, value))
    if len(q_shape) == 4:
        batch, count, queries, size = q_shape
        new_keys, value_size, kept = k_shape[2], v_shape[3], k_shape[1]
    else:
        batch, queries, width = q_shape
        count = node.attribute("q_num_heads")
        size = width // count
        new_keys = k_shape[1]
        kept = node.attribute("kv_num_heads")
        value_size = v_shape[2] // kept
    keys = new_keys + (emitter.shape(past_key)[2] if past_key else 0)
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1, emitter.tensor(key).elements),
        _joined(emitter, node, past_value, value, 2, emitter.tensor(value).elements),
    )
    heads = _Heads(batch * count, queries, keys, size, value_size, count // kept)
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
    rows = batch * count * keys
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1, rows * size),
        _joined(emitter, node, past_value, value, 2, rows * (width // count)),
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
    kept = node.attribute("kv_num_heads")
    added = batch * queries * kept * size  # elements of the new keys, and of the new values
    if node.attribute("do_rotary", 0):
        if node.input(1):
            query = _rotated(emitter, node, query, "query", batch * queries * width)
            key = _rotated(emitter, node, key, "key", added)
        else:
            query = _rotated(emitter, node, query, "query", batch * queries * width + added)
            key = query
    operands = (
        emitter.source(query),
        _joined(emitter, node, past_key, key, 1, added),
        _joined(emitter, node, past_value, value, 2, added),
    )
    keys = queries + (emitter.shape(past_key)[2] if past_key else 0)
    heads = _Heads(batch * count, queries, keys, size, size, count // kept)
    window = node.attribute("local_window_size", -1)
    _attend(emitter, node, operands, heads, causal=True, window=window)


def _rotated(emitter: Emitter, node: Node, name: str, label: str, count: int) -> str:
    """Rotate `count` elements of a tensor: all of it, or the queries and keys of a packed one."""
    output = _intermediate(emitter, f"{node.outputs[0]}/{label}", emitter.shape(name))
    step = replace(node, name=f"{node.name}/{label}")
    emitter.host(step, "rotaryembedding", [name], output, count=count)
    return output


def _attention(emitter: Emitter, node: Node) -> None:
    (_projected if node.domain else _standard)(emitter, node)


def _rotary(emitter: Emitter, node: Node) -> None:
    """A rotary embedding by tables of constants, or of what places make; of heads [batch, heads,
    tokens, columns] or [batch, tokens, heads, columns], which the axes of the tables tell, or side by side
    as nodes have them.
    """
    x, output = node.inputs[0], node.outputs[0]
    tables = [name for name in node.inputs[1:] if name]
    origins = [emitter.origin(name) for name in tables]
    shape, beside = emitter.shape(x), node.attribute("num_heads", 0)
    if len(shape) == 3 and beside and shape[2] % beside == 0:
        shape = (*shape[:2], beside, shape[2] // beside)
    if max(origins) > Origin.INDEX or len(shape) != 4 or emitter.on_host(x):
        _turned_by_host(emitter, node)
        return
    axes = {
        axis + 4 - len(emitter.shape(name))
        for name in tables
        for axis, extent in enumerate(emitter.shape(name)[:-1])
        if extent > 1
    }
    axes = {1} if len(emitter.shape(x)) == 3 else axes
    rows = shape[0] * math.prod(shape[axis] for axis in axes)
    if not axes <= {1, 2} or len(axes) > 1 or shape[3] % 2:
        _turned_by_host(emitter, node)
        return
    heads = math.prod(shape[:3]) // rows
    source = emitter.aligned(x, len(emitter.shape(x)) - 1)
    computed = Origin.INDEX in origins
    op = Rotary(node.name, (source,), output, rows, shape[3], heads, computed=computed)
    emitter.emit(op, output)


def _turned_by_host(emitter: Emitter, node: Node) -> None:
    inputs = [name for name in node.inputs if name and emitter.origin(name) != Origin.CONSTANT]
    emitter.host(node, "rotaryembedding", inputs, node.outputs[0])


ATTENTION_HANDLERS: dict[str, Callable[[Emitter, Node], None]] = {
    "Attention": _attention,
    "GroupQueryAttention": _grouped_query,
    "MultiHeadAttention": _multi_head,
    "RotaryEmbedding": _rotary,
}
