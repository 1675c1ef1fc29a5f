"""BERT: encoder with pooler (arXiv 1810.04805), post-norm, erf GELU, learned positions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.model_config import (
    TextConfig,
    check_config,
    heads_divide,
    require_positions,
)
from codesign.models.zoo.parameters import Entry

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import GraphBuilder


@dataclass(frozen=True)
class BertConfig(TextConfig):
    """One BERT encoder."""

    name: str
    layers: int
    d_model: int
    heads: int
    d_ff: int
    vocab_size: int = 30_522
    max_positions: int = 512
    type_vocab_size: int = 2

    family: ClassVar[str] = "bert"

    def __post_init__(self) -> None:
        check_config(self, heads_divide(self.d_model, self.heads))

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads

    @classmethod
    def sizes(cls) -> tuple["BertConfig", ...]:
        """Google's released sizes: arXiv 1810.04805 (base, large), 1908.08962 (the others)."""
        released = {
            "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512),
            "base": (12, 768), "large": (24, 1024),
        }  # fmt: skip
        return tuple(
            cls(f"bert-{size}", layers, d_model, heads=d_model // 64, d_ff=4 * d_model)
            for size, (layers, d_model) in released.items()
        )

    def parameters(self) -> Iterator[Entry]:
        """Embeddings, layers, pooler."""
        d = self.d_model
        yield "embeddings.word", (self.vocab_size, d)
        yield "embeddings.position", (self.max_positions, d)
        yield "embeddings.token_type", (self.type_vocab_size, d)
        yield from parameters.norm("embeddings.norm", d)
        for layer in range(self.layers):
            yield from parameters.attention(f"layer{layer}.attention", d, d)
            yield from parameters.ffn(f"layer{layer}.ffn", d, self.d_ff)
        yield from parameters.linear("pooler", d, d)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """input_ids, attention_mask, token_type_ids, int64[batch, seq] each ->
        last_hidden_state[batch, seq, d_model] and pooler_output[batch, d_model]."""
        require_positions(self, seq)
        shape = text_graphs.extents(batch, seq)
        ids = b.input("input_ids", shape, integer=True)
        padding = b.input("attention_mask", shape, integer=True)
        types = b.input("token_type_ids", shape, integer=True)
        mask = text_graphs.padding_mask(b, padding)
        word = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
        kind = b.op(
            "Gather", b.weight("embeddings.token_type"), types, name="embeddings.type/Gather"
        )
        x = b.op("Add", word, kind, name="embeddings/Add")
        x = b.op("Add", x, text_graphs.positions(b, ids, seq), name="embeddings.position/Add")
        x = b.layer_norm(x, "embeddings.norm", 1e-12)
        for layer in range(self.layers):
            x = self._layer(b, x, f"layer{layer}", mask)
        first = b.op("Gather", x, b.constant(np.asarray(0, np.int64)), axis=1, name="pooler/Gather")
        pooled = b.op(
            "Gemm", first, b.weight("pooler.weight"), b.weight("pooler.bias"), name="pooler/Gemm"
        )
        b.output(x, "last_hidden_state", (*shape, self.d_model))
        b.output(
            b.op("Tanh", pooled, name="pooler/Tanh"), "pooler_output", (shape[0], self.d_model)
        )

    def _layer(self, b: "GraphBuilder", x: str, prefix: str, mask: str) -> str:
        y = b.attention(x, x, f"{prefix}.attention", self.heads, self.head_dim, mask=mask)
        x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
        x = b.layer_norm(x, f"{prefix}.attention.norm", 1e-12)
        y = b.linear(x, f"{prefix}.ffn.up")
        y = b.linear(b.gelu(y, f"{prefix}.ffn"), f"{prefix}.ffn.down")
        x = b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")
        return b.layer_norm(x, f"{prefix}.ffn.norm", 1e-12)
