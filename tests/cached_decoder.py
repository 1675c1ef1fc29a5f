"""A small causal decoder whose key-value cache is an input, in the spellings of several exporters."""

import math

import onnx
from onnx import TensorProto
from onnx_builder import CONTRIB, ModelBuilder

HEADS, SIZE, VOCABULARY, LAYERS = 2, 8, 53, 2
WIDTH = HEADS * SIZE
SPELLINGS = (
    "halves",
    "tokens first",
    "stacked",
    "MultiHeadAttention",
    "GroupQueryAttention",
    "Attention",
)

Extent = int | str


def decoder(
    spelling: str = "halves",
    past: Extent = "past_sequence_length",
    seq: Extent = "sequence_length",
    total: Extent = "past_sequence_length + sequence_length",
    batch: Extent = "batch_size",
    names: str = "past_key_values.{}.{}",
    mask: str = "attention_mask",
) -> onnx.ModelProto:
    """input_ids int64[batch, seq] -> logits[batch, seq, VOCABULARY], behind `past` tokens.

    The cache is a key and a value of [batch, HEADS, past, SIZE] a layer ("halves"), of
    [batch, past, HEADS, SIZE] ("tokens first"), one of [2, batch, HEADS, past, SIZE] ("stacked"), or that of an
    operator for all of attention, which has a mask of its own; others read the input `mask`[batch, total].
    """
    b = ModelBuilder(23 if spelling == "Attention" else 18)
    ids = b.input("input_ids", (batch, seq), TensorProto.INT64)
    seen = b.input(mask, (batch, total), TensorProto.INT64)
    x = b.node("Gather", b.weights(VOCABULARY, WIDTH), ids)
    hidden = _hidden(b, ids, seen) if spelling in SPELLINGS[:3] else ""
    present: list[str] = []
    for layer in range(LAYERS):
        q, k, v = (b.linear(x, WIDTH, WIDTH) for _ in range(3))
        shape: tuple[Extent, ...] = (batch, HEADS, past, SIZE)
        if spelling == "tokens first":
            shape = (batch, past, HEADS, SIZE)
        if spelling == "stacked":
            both = b.input(names.format(layer, "both"), (2, *shape))
            old = [b.node("Gather", both, b.const(i, "int64"), axis=0) for i in range(2)]
        else:
            old = [b.input(names.format(layer, kind), shape) for kind in ("key", "value")]
        if hidden:
            y, whole = _written_out(b, (q, k, v), old, hidden, spelling)
        else:
            y, whole = _in_one(b, (q, k, v), old, spelling)
        x = b.node("Add", x, b.linear(y, WIDTH, WIDTH))
        present += whole
    logits = str(b.node("MatMul", x, b.weights(WIDTH, VOCABULARY)))
    model = b.model(*present)
    scores = onnx.helper.make_tensor_value_info(logits, TensorProto.FLOAT, (batch, seq, VOCABULARY))
    model.graph.output.insert(0, scores)
    return model


def _hidden(b: ModelBuilder, ids: str, seen: str) -> str:
    """What is added to scores, of a causal mask over past and sequence, and of keys that are padding."""
    rows = b.node("Slice", b.node("Shape", ids), b.ints(1), b.ints(2))
    whole = b.node("Slice", b.node("Shape", seen), b.ints(1), b.ints(2))
    square = b.node("Expand", b.const(-1e9), b.node("Concat", rows, whole, axis=0))
    first = b.node("Squeeze", b.node("Add", b.node("Sub", whole, rows), b.ints(1)))
    later = b.node("Trilu", square, first, upper=1)
    padding = b.node("Sub", b.const(1.0), b.node("Cast", seen, to=TensorProto.FLOAT))
    padding = b.node("Unsqueeze", b.node("Mul", padding, b.const(-1e9)), b.ints(1, 2))
    return str(b.node("Add", padding, later))


def _written_out(
    b: ModelBuilder, new: tuple[str, str, str], old: list[str], hidden: str, spelling: str
) -> tuple[str, list[str]]:
    split = [b.node("Reshape", x, b.ints(0, 0, HEADS, SIZE)) for x in new]
    if spelling == "tokens first":
        whole = [b.node("Concat", p, n, axis=1) for p, n in zip(old, split[1:], strict=True)]
        q, k, v = (b.node("Transpose", x, perm=[0, 2, 1, 3]) for x in (split[0], *whole))
    else:
        q, *rest = (b.node("Transpose", x, perm=[0, 2, 1, 3]) for x in split)
        whole = [b.node("Concat", p, n, axis=-2) for p, n in zip(old, rest, strict=True)]
        k, v = whole
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.node("Add", b.node("Mul", scores, b.const(1 / math.sqrt(SIZE))), hidden)
    context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
    turned = b.node("Transpose", context, perm=[0, 2, 1, 3])
    return b.node("Reshape", turned, b.ints(0, 0, WIDTH)), whole


def _in_one(
    b: ModelBuilder, new: tuple[str, str, str], old: list[str], spelling: str
) -> tuple[str, list[str]]:
    if spelling == "MultiHeadAttention":
        y, *whole = b.node(
            spelling, *new, "", "", "", *old, outputs=3, domain=CONTRIB, num_heads=HEADS,
            unidirectional=1,
        )  # fmt: skip
    elif spelling == "GroupQueryAttention":
        lengths = (b.ints(0), b.const(0, "int32"))
        y, *whole = b.node(
            spelling, *new, *old, *lengths, outputs=3, domain=CONTRIB, num_heads=HEADS,
            kv_num_heads=HEADS,
        )  # fmt: skip
    else:
        y, *whole = b.node(
            spelling, *new, "", *old, outputs=3, is_causal=1, q_num_heads=HEADS, kv_num_heads=HEADS
        )
    return y, whole
