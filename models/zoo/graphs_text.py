"""ONNX graphs of the text families: BERT, the GPT-2-like decoder, T5."""

import numpy as np
import numpy.typing as npt

from codesign.models.zoo.families import BertConfig, DecoderConfig, T5Config
from codesign.models.zoo.onnx_builder import Dimension, GraphBuilder

# Added to a masked score. As torch exporters write it: the lowest float32, not -inf, so that a
# row masked throughout stays finite.
MASKED = float(np.finfo(np.float32).min)


def bert(b: GraphBuilder, config: BertConfig, batch: int | None, seq: int | None) -> None:
    """input_ids, attention_mask, token_type_ids, int64[batch, seq] each ->
    last_hidden_state[batch, seq, d_model] and pooler_output[batch, d_model]."""
    shape = _axes(batch, seq)
    ids = b.input("input_ids", shape, integer=True)
    padding = b.input("attention_mask", shape, integer=True)
    types = b.input("token_type_ids", shape, integer=True)
    mask = _padding_mask(b, padding)
    word = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
    kind = b.op("Gather", b.weight("embeddings.token_type"), types, name="embeddings.type/Gather")
    x = b.op("Add", word, kind, name="embeddings/Add")
    x = b.op("Add", x, _positions(b, ids, seq), name="embeddings.position/Add")
    x = b.layer_norm(x, "embeddings.norm", 1e-12)
    for layer in range(config.layers):
        prefix = f"layer{layer}"
        heads, width = config.heads, config.head_dim
        y = b.attention(x, x, f"{prefix}.attention", heads, width, mask=mask)
        x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
        x = b.layer_norm(x, f"{prefix}.attention.norm", 1e-12)
        y = b.linear(x, f"{prefix}.ffn.up")
        y = b.linear(b.gelu(y, f"{prefix}.ffn"), f"{prefix}.ffn.down")
        x = b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")
        x = b.layer_norm(x, f"{prefix}.ffn.norm", 1e-12)
    first = b.op("Gather", x, b.constant(np.asarray(0, np.int64)), axis=1, name="pooler/Gather")
    pooled = b.op(
        "Gemm", first, b.weight("pooler.weight"), b.weight("pooler.bias"), name="pooler/Gemm"
    )
    b.output(x, "last_hidden_state", (*shape, config.d_model))
    b.output(b.op("Tanh", pooled, name="pooler/Tanh"), "pooler_output", (shape[0], config.d_model))


def decoder(b: GraphBuilder, config: DecoderConfig, batch: int | None, seq: int | None) -> None:
    """input_ids int64[batch, seq] -> logits[batch, seq, vocab_size], or
    last_hidden_state[batch, seq, d_model] without LM head."""
    shape = _axes(batch, seq)
    ids = b.input("input_ids", shape, integer=True)
    word = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
    x = b.op("Add", word, _positions(b, ids, seq), name="embeddings.position/Add")
    mask = _causal_mask(b, ids, seq, config.max_positions)
    for layer, heads in enumerate(config.heads):
        prefix = f"layer{layer}"
        y = b.layer_norm(x, f"{prefix}.attention.norm", 1e-5)
        y = b.attention(y, y, f"{prefix}.attention", heads, config.head_dim, mask=mask)
        x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
        y = b.layer_norm(x, f"{prefix}.ffn.norm", 1e-5)
        y = b.gelu(b.linear(y, f"{prefix}.ffn.up"), f"{prefix}.ffn", tanh=True)
        y = b.linear(y, f"{prefix}.ffn.down")
        x = b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")
    x = b.layer_norm(x, "norm", 1e-5)
    if config.lm_head:
        b.output(_tied_head(b, x), "logits", (*shape, config.vocab_size))
    else:
        b.output(x, "last_hidden_state", (*shape, config.d_model))


def t5(b: GraphBuilder, config: T5Config, batch: int | None, seq: int | None) -> None:
    """input_ids, attention_mask int64[batch, seq] and decoder_input_ids int64[batch, seq] (its
    dynamic axis is another, "target_sequence") -> logits[batch, seq, vocab_size]."""
    shape = _axes(batch, seq)
    target_shape = (shape[0], "target_sequence" if seq is None else seq)
    ids = b.input("input_ids", shape, integer=True)
    padding = b.input("attention_mask", shape, integer=True)
    target_ids = b.input("decoder_input_ids", target_shape, integer=True)
    padding_mask = _padding_mask(b, padding)
    memory = _t5_stack(b, config, "encoder", ids, seq, padding_mask)
    x = _t5_stack(b, config, "decoder", target_ids, seq, padding_mask, memory)
    x = b.op("Mul", x, b.scalar(config.d_model**-0.5), name="head/Mul")
    b.output(_tied_head(b, x), "logits", (*target_shape, config.vocab_size))


def relative_buckets(length: int, config: T5Config, bidirectional: bool) -> npt.NDArray[np.int64]:
    """Return int64[length, length]: the bucket of key position minus query position.

    Half the buckets hold one distance each, the others grow geometrically up to
    relative_max_distance (arXiv 1910.10683 §2.1). Computed in integers: distance r lies in bucket
    exact + k for the largest k with (max/exact)^k <= (r/exact)^(buckets - exact).
    """
    buckets = config.relative_buckets // (2 if bidirectional else 1)
    exact, farthest = buckets // 2, config.relative_max_distance
    steps = buckets - exact
    of_distance = list(range(min(exact, length)))
    k = 0
    for r in range(exact, length):
        while k < steps - 1 and farthest ** (k + 1) * exact**steps <= r**steps * exact ** (k + 1):
            k += 1
        of_distance.append(exact + k)
    offset = np.arange(length)[None, :] - np.arange(length)[:, None]
    table = np.asarray(of_distance, np.int64)
    distance = np.abs(offset) if bidirectional else np.maximum(-offset, 0)
    result: npt.NDArray[np.int64] = table[distance]
    return result + buckets * (offset > 0) if bidirectional else result


def _t5_stack(
    b: GraphBuilder,
    config: T5Config,
    stack: str,
    ids: str,
    seq: int | None,
    padding_mask: str,
    memory: str | None = None,
) -> str:
    heads, width = config.heads, config.d_kv
    layers = config.decoder_layers if memory else config.layers
    mask = _relative_bias(b, config, stack, ids, seq)
    other = padding_mask if memory is None else _causal_mask(b, ids, seq, config.max_positions)
    mask = b.op("Add", mask, other, name=f"{stack}.mask/Add")
    x = b.op("Gather", b.weight("embeddings.word"), ids, name=f"{stack}.embeddings/Gather")
    for layer in range(layers):
        prefix = f"{stack}.layer{layer}"
        blocks: list[tuple[str, str | None, str]] = [("attention", None, mask)]
        if memory is not None:
            blocks.append(("cross", memory, padding_mask))
        for block, source, block_mask in blocks:
            name = f"{prefix}.{block}"
            y = b.rms_norm(x, f"{name}.norm", 1e-6)
            y = b.attention(
                y, source or y, name, heads, width, mask=block_mask, bias=False, scaled=False
            )
            x = b.op("Add", x, y, name=f"{name}.residual/Add")
        y = b.linear(b.rms_norm(x, f"{prefix}.ffn.norm", 1e-6), f"{prefix}.ffn.up", bias=False)
        y = b.linear(b.op("Relu", y, name=f"{prefix}.ffn/Relu"), f"{prefix}.ffn.down", bias=False)
        x = b.op("Add", x, y, name=f"{prefix}.ffn.residual/Add")
    return b.rms_norm(x, f"{stack}.norm", 1e-6)


def _relative_bias(b: GraphBuilder, config: T5Config, stack: str, ids: str, seq: int | None) -> str:
    length = config.max_positions if seq is None else seq
    buckets = b.constant(relative_buckets(length, config, bidirectional=stack == "encoder"))
    if seq is None:
        end = b.length(ids, 1)
        ends = b.op("Concat", end, end, axis=0)
        buckets = b.op("Slice", buckets, b.integers(0, 0), ends, b.integers(0, 1))
    table = b.weight(f"{stack}.relative_bias")
    bias = b.op("Gather", table, buckets, name=f"{stack}.relative_bias/Gather")
    bias = b.op("Transpose", bias, perm=[2, 0, 1])
    return b.op("Unsqueeze", bias, b.integers(0))


def _axes(batch: int | None, seq: int | None) -> tuple[Dimension, Dimension]:
    return ("batch" if batch is None else batch, "sequence" if seq is None else seq)


def _positions(b: GraphBuilder, ids: str, seq: int | None) -> str:
    """The first seq rows of the position table, [seq, d_model]."""
    end = b.length(ids, 1) if seq is None else b.integers(seq)
    table = b.weight("embeddings.position")
    return b.op("Slice", table, b.integers(0), end, b.integers(0), name="embeddings.position/Slice")


def _padding_mask(b: GraphBuilder, padding: str) -> str:
    """int64[batch, seq] of 0 and 1 -> additive float32[batch, 1, 1, seq]."""
    wide = b.op("Unsqueeze", padding, b.integers(1, 2), name="mask/Unsqueeze")
    real = b.op("Cast", wide, to=1, name="mask/Cast")
    hidden = b.op("Sub", b.scalar(1.0), real, name="mask/Sub")
    return b.op("Mul", hidden, b.scalar(MASKED), name="mask/Mul")


def _causal_mask(b: GraphBuilder, ids: str, seq: int | None, longest: int) -> str:
    """Additive float32[1, 1, seq, seq] that hides later positions; a slice when seq is dynamic."""
    length = longest if seq is None else seq
    later = np.triu(np.full((length, length), MASKED, np.float32), k=1)
    mask = b.constant(later[None, None])
    if seq is not None:
        return mask
    end = b.length(ids, 1)
    ends = b.op("Concat", end, end, axis=0)
    return b.op("Slice", mask, b.integers(0, 0), ends, b.integers(2, 3), name="causal/Slice")


def _tied_head(b: GraphBuilder, x: str) -> str:
    """Logits against the input embedding."""
    table = b.op("Transpose", b.weight("embeddings.word"), perm=[1, 0], name="head/Transpose")
    return b.op("MatMul", x, table, name="head/MatMul")
