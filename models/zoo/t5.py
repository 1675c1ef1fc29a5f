"""T5 v1.0: encoder-decoder (arXiv 1910.10683), RMSNorm, no biases, ReLU, relative positions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.model_config import TextConfig, check_config, is_size
from codesign.models.zoo.parameters import Entry, Shape

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class T5Config(TextConfig):
    """One T5.

    Attention is heads * d_kv wide, whatever d_model. The embedding is shared by encoder, decoder
    and, scaled by d_model^-0.5, the LM head. `max_positions` only bounds a dynamic export: its
    relative-position table is that long.
    """

    name: str
    layers: int  # of the encoder
    decoder_layers: int
    d_model: int
    heads: int
    d_kv: int
    d_ff: int
    vocab_size: int = 32_128
    relative_buckets: int = 32
    relative_max_distance: int = 128
    max_positions: int = 512

    family: ClassVar[str] = "t5"

    def __post_init__(self) -> None:
        check_config(self, self._violations())

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_kv

    @classmethod
    def sizes(cls) -> tuple["T5Config", ...]:
        """T5-mini as tabulated in UCB/EECS-2023-92, ch. 4.

        Its "31 M" parameters need d_kv = 64, the value of the released google/t5-efficient-mini
        checkpoints; with 32 there are 26.5 M.
        """
        return (cls("t5-mini", 4, 4, d_model=384, heads=8, d_kv=32, d_ff=1536),)

    def parameters(self) -> Iterator[Entry]:
        """The embedding, the encoder, the decoder."""
        d, width = self.d_model, self.heads * self.d_kv
        yield "embeddings.word", (self.vocab_size, d)
        for stack, layers in (("encoder", self.layers), ("decoder", self.decoder_layers)):
            yield f"{stack}.relative_bias", (self.relative_buckets, self.heads)
            for layer in range(layers):
                prefix = f"{stack}.layer{layer}"
                yield from parameters.attention(f"{prefix}.attention", d, width, bias=False)
                if stack == "decoder":
                    yield from parameters.attention(f"{prefix}.cross", d, width, bias=False)
                yield from parameters.ffn(f"{prefix}.ffn", d, self.d_ff, bias=False)
            yield from parameters.norm(f"{stack}.norm", d, beta=False)

    def deviation(self, name: str, shape: Shape) -> float | None:
        """T5 does not scale its scores: the query is small instead."""
        return 0.2 / math.sqrt(shape[0]) if name.endswith("query.weight") else None

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """input_ids, attention_mask int64[batch, seq] and decoder_input_ids int64[batch, seq] (its
        dynamic axis is another, "target_sequence") -> logits[batch, seq, vocab_size]."""
        shape = text_graphs.extents(batch, seq)
        target_shape = (shape[0], "target_sequence" if seq is None else seq)
        ids = b.input("input_ids", shape, integer=True)
        padding = b.input("attention_mask", shape, integer=True)
        target_ids = b.input("decoder_input_ids", target_shape, integer=True)
        padding_mask = text_graphs.padding_mask(b, padding)
        memory = self._stack(b, "encoder", ids, seq, padding_mask)
        x = self._stack(b, "decoder", target_ids, seq, padding_mask, memory)
        x = b.op("Mul", x, b.scalar(self.d_model**-0.5), name="head/Mul")
        b.output(text_graphs.tied_head(b, x), "logits", (*target_shape, self.vocab_size))

    def _stack(
        self,
        b: "GraphBuilder",
        stack: str,
        ids: str,
        seq: int | None,
        padding_mask: str,
        memory: str | None = None,
    ) -> str:
        mask = self._relative_bias(b, stack, ids, seq)
        other = (
            padding_mask
            if memory is None
            else text_graphs.causal_mask(b, ids, seq, self.max_positions)
        )
        mask = b.op("Add", mask, other, name=f"{stack}.mask/Add")
        x = b.op("Gather", b.weight("embeddings.word"), ids, name=f"{stack}.embeddings/Gather")
        for layer in range(self.decoder_layers if memory else self.layers):
            prefix = f"{stack}.layer{layer}"
            x = self._attention(b, x, None, f"{prefix}.attention", mask)
            if memory is not None:
                x = self._attention(b, x, memory, f"{prefix}.cross", padding_mask)
            y = b.linear(b.rms_norm(x, f"{prefix}.ffn.norm", 1e-6), f"{prefix}.ffn.up", bias=False)
            y = b.op("Relu", y, name=f"{prefix}.ffn/Relu")
            y = b.linear(y, f"{prefix}.ffn.down", bias=False)
            x = b.op("Add", x, y, name=f"{prefix}.ffn.residual/Add")
        return b.rms_norm(x, f"{stack}.norm", 1e-6)

    def _attention(
        self, b: "GraphBuilder", x: str, source: str | None, name: str, mask: str
    ) -> str:
        y = b.rms_norm(x, f"{name}.norm", 1e-6)
        y = b.attention(
            y, source or y, name, self.heads, self.d_kv, mask=mask, bias=False, scaled=False
        )
        return b.op("Add", x, y, name=f"{name}.residual/Add")

    def _relative_bias(self, b: "GraphBuilder", stack: str, ids: str, seq: int | None) -> str:
        length = self.max_positions if seq is None else seq
        buckets = b.constant(relative_buckets(length, self, bidirectional=stack == "encoder"))
        if seq is None:
            end = b.length(ids, 1)
            ends = b.op("Concat", end, end, axis=0)
            buckets = b.op("Slice", buckets, b.integers(0, 0), ends, b.integers(0, 1))
        table = b.weight(f"{stack}.relative_bias")
        bias = b.op("Gather", table, buckets, name=f"{stack}.relative_bias/Gather")
        bias = b.op("Transpose", bias, perm=[2, 0, 1])
        return b.op("Unsqueeze", bias, b.integers(0))

    def _violations(self) -> Iterator[str]:
        buckets = self.relative_buckets
        if is_size(buckets) and (buckets % 4 or buckets < 4):
            yield f"relative_buckets is {buckets} but must be a multiple of 4"
        elif is_size(self.relative_max_distance) and self.relative_max_distance <= buckets // 2:
            yield (
                f"relative_max_distance is {self.relative_max_distance} but must exceed "
                f"{buckets // 2}, half the buckets"
            )


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
