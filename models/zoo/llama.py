"""LLaMA-like decoders: RMSNorm, rotary positions, gated FFN, keys and values shared by groups of heads.

The graph is as exporters of PyTorch models write it (arXiv 2302.13971; grouped keys: 2305.13245; rotary
positions: 2104.09864, the halves of a head as pairs), without its no-ops.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.model_config import (
    CachedConfig,
    check_config,
    heads_divide,
    is_size,
    not_a_past,
    require_positions,
)
from codesign.models.zoo.parameters import Entry

if TYPE_CHECKING:
    from codesign.models.zoo.onnx_builder import Dimension, GraphBuilder


@dataclass(frozen=True)
class LlamaConfig(CachedConfig):
    """One decoder.

    `heads` query heads share `kv_heads` keys and values. `past` counts the tokens whose keys and values
    are inputs of the graph: its sequence follows them. `logits` says of which positions the projection
    to the vocabulary is computed: "all", "last", or "none", the final norm's output. With `any_past` the
    tokens before are of any number, and which they are an input (`text_graphs.OpenPast`).
    """

    name: str
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_ff: int
    vocab_size: int
    head_dim: int
    max_positions: int = 2048
    rope_base: int = 10_000
    epsilon: float = 1e-5  # of the norms
    biases: bool = False  # of query, key and value, as in Qwen2
    tied: bool = True  # the head is the embedding
    past: int | None = None  # None: a graph without a cache, unless with any_past
    logits: str = "all"
    any_past: bool = False

    family: ClassVar[str] = "llama"

    def __post_init__(self) -> None:
        check_config(self, self._violations(), besides=("epsilon", "past"))

    @classmethod
    def sizes(cls) -> tuple["LlamaConfig", ...]:
        """Shapes of public models, from their published configurations.

        karpathy/tinyllamas (stories260K), HuggingFaceTB/SmolLM-135M, Qwen/Qwen2-0.5B,
        TinyLlama/TinyLlama-1.1B, meta-llama/Llama-3.2-1B.
        """
        return (
            llama(
                "stories260k", 5, 64, heads=8, kv_heads=4, d_ff=172, vocab_size=512,
                max_positions=512,
            ),
            llama("smollm-135m", 30, 576, heads=9, kv_heads=3, d_ff=1536, vocab_size=49_152),
            llama(
                "qwen2-0.5b", 24, 896, heads=14, kv_heads=2, d_ff=4864, vocab_size=151_936,
                rope_base=1_000_000, epsilon=1e-6, biases=True, max_positions=32_768,
            ),
            llama(
                "tinyllama-1.1b", 22, 2048, heads=32, kv_heads=4, d_ff=5632, vocab_size=32_000,
                tied=False,
            ),
            llama(
                "llama-3.2-1b", 16, 2048, heads=32, kv_heads=8, d_ff=8192, vocab_size=128_256,
                rope_base=500_000, max_positions=131_072,
            ),
        )  # fmt: skip

    def parameters(self) -> Iterator[Entry]:
        """The embedding, the layers, the final norm, the head where it is no embedding."""
        d, width, shared = self.d_model, self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "embeddings.word", (self.vocab_size, d)
        for layer in range(self.layers):
            attention, ffn = f"layer{layer}.attention", f"layer{layer}.ffn"
            yield from parameters.norm(f"{attention}.norm", d, beta=False)
            yield from parameters.linear(f"{attention}.query", d, width, self.biases)
            yield from parameters.linear(f"{attention}.key", d, shared, self.biases)
            yield from parameters.linear(f"{attention}.value", d, shared, self.biases)
            yield from parameters.linear(f"{attention}.output", width, d, bias=False)
            yield from parameters.norm(f"{ffn}.norm", d, beta=False)
            yield from parameters.linear(f"{ffn}.gate", d, self.d_ff, bias=False)
            yield from parameters.linear(f"{ffn}.up", d, self.d_ff, bias=False)
            yield from parameters.linear(f"{ffn}.down", self.d_ff, d, bias=False)
        yield from parameters.norm("norm", d, beta=False)
        if not self.tied:
            yield from parameters.linear("head", d, self.vocab_size, bias=False)

    def lengthened(self, seq: int) -> Self:
        """The same for `seq` tokens behind its past: rotary positions have no table that ends."""
        return replace(self, max_positions=max((self.past or 0) + seq, self.max_positions))

    def reshaped(self, shape: Mapping[str, Any]) -> Self:
        """Layers are alike. Heads get keys of their own, and share the width, unless that is said."""
        sizes = {"lm_head": True, **shape}
        if not sizes.pop("lm_head"):
            sizes["logits"] = "none"
        for field in ("heads", "d_ff"):
            values = set(sizes.get(field, (getattr(self, field),)))
            if len(values) > 1:
                raise ModelError(f"layers of {self.name} are alike: give one number of {field}")
            sizes[field] = values.pop()
        if {"heads", "d_model"} & shape.keys():
            heads, width = sizes["heads"], sizes.get("d_model", self.d_model)
            problems = [*heads_divide(width, heads)]
            if problems:
                raise ModelError(f"invalid model llama: {problems[0]}")
            sizes = {"kv_heads": heads, "head_dim": width // heads, **sizes}
        kept = shape.keys() <= {"past", "any_past", "logits", "lm_head"}
        return replace(self, name=self.name if kept else "llama", **sizes)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """input_ids int64[batch, seq] -> logits[batch, seq or 1, vocab_size], or last_hidden_state.

        With a past each layer has inputs and outputs of its kv_heads as in `text_graphs.Cache`. Raises
        ModelError for a past of so many tokens with a dynamic sequence.
        """
        require_positions(self, seq, self.past)
        shape = text_graphs.extents(batch, seq)
        ids = b.input("input_ids", shape, integer=True)
        x = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
        graph = _Graph(self, b, shape, ids, seq)
        for layer in range(self.layers):
            x = graph.layer(x, layer)
        x = b.rms_norm(x, "norm", self.epsilon)
        if self.logits == "none":
            b.output(x, "last_hidden_state", (*shape, self.d_model))
        else:
            of = shape
            if self.logits == "last":
                x, of = text_graphs.last_row(b, x), (shape[0], 1)
            y = text_graphs.tied_head(b, x) if self.tied else b.linear(x, "head", bias=False)
            b.output(y, "logits", (*of, self.vocab_size))
        if graph.cache is not None:
            graph.cache.outputs()

    def _violations(self) -> Iterator[str]:
        if is_size(self.heads) and is_size(self.kv_heads) and self.heads % self.kv_heads:
            yield f"{self.heads} heads do not share {self.kv_heads} keys equally"
        if is_size(self.head_dim) and self.head_dim % 2:
            yield f"head_dim is {self.head_dim} but rotary positions need an even one"
        if not (isinstance(self.epsilon, float) and 0 < self.epsilon < 1):
            yield f"epsilon is {self.epsilon!r} but must be above 0 and below 1"
        yield from not_a_past(self.past)
        if self.logits not in ("all", "last", "none"):
            yield f"logits is {self.logits!r} but must be all, last or none"


def llama(
    name: str,
    layers: int,
    d_model: int,
    *,
    heads: int,
    d_ff: int,
    vocab_size: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    **others: Any,
) -> LlamaConfig:
    """The decoder; unless given, every head has keys of its own and heads share d_model.

    `others` are further fields of LlamaConfig. Raises ModelError naming every violation.
    """
    sizes = is_size(d_model) and is_size(heads)
    width = d_model // heads if sizes else 2
    if sizes and head_dim is None and width * heads != d_model:
        problem = f"d_model {d_model} is not divisible by {heads} heads: name head_dim"
        raise ModelError(f"invalid model {name}: {problem}")
    return LlamaConfig(
        name,
        layers,
        d_model,
        heads,
        heads if kv_heads is None else kv_heads,
        d_ff,
        vocab_size,
        head_dim=width if head_dim is None else head_dim,
        **others,
    )


def rotary_tables(
    config: LlamaConfig, first: int, count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosines and sines, float32[count, head_dim], of positions from `first`: both halves alike."""
    angles = np.outer(np.arange(first, first + count), rotary_rates(config))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotary_rates(config: LlamaConfig) -> npt.NDArray[np.float64]:
    """Angles [head_dim] from a position to the next: both halves alike."""
    half = np.arange(config.head_dim // 2, dtype=np.float64) * 2 / config.head_dim
    return np.tile(float(config.rope_base) ** -half, 2)


class _Graph:
    """The layers of one graph, which share positions and mask."""

    def __init__(
        self,
        config: LlamaConfig,
        b: "GraphBuilder",
        shape: "tuple[Dimension, Dimension]",
        ids: str,
        seq: int | None,
    ) -> None:
        self.config, self.b = config, b
        past = config.past or 0
        self.cache = text_graphs.Cache.of(b, shape, config.past, config.any_past)
        if config.any_past:
            behind = text_graphs.OpenPast.of(b, shape)
            b.note("max_position_embeddings", str(config.max_positions))
            self.cos, self.sin = behind.angles(rotary_rates(config).astype(np.float32))
            self.mask: str | None = behind.mask(ids)
            return
        length = config.max_positions if seq is None else seq
        tables = [b.constant(t[None, None]) for t in rotary_tables(config, past, length)]
        if seq is None:
            end = b.length(ids, 1)
            cut = b.integers(0), end, b.integers(2)
            tables = [b.op("Slice", table, *cut, name="rotary/Slice") for table in tables]
        self.cos, self.sin = tables
        one = seq == 1
        self.mask = None if one else text_graphs.causal_mask(b, ids, seq, length, past)

    def layer(self, x: str, index: int) -> str:
        b, epsilon, name = self.b, self.config.epsilon, f"layer{index}"
        y = self._attention(b.rms_norm(x, f"{name}.attention.norm", epsilon), index)
        x = b.op("Add", x, y, name=f"{name}.attention.residual/Add")
        y = b.rms_norm(x, f"{name}.ffn.norm", epsilon)
        gate = b.linear(y, f"{name}.ffn.gate", bias=False)
        gate = b.op("Mul", gate, b.op("Sigmoid", gate, name=f"{name}.ffn/Sigmoid"))
        up = b.linear(y, f"{name}.ffn.up", bias=False)
        y = b.linear(b.op("Mul", gate, up, name=f"{name}.ffn/Mul"), f"{name}.ffn.down", bias=False)
        return b.op("Add", x, y, name=f"{name}.ffn.residual/Add")

    def _attention(self, x: str, index: int) -> str:
        b, c, name = self.b, self.config, f"layer{index}.attention"
        query = self._rotated(self._heads(x, f"{name}.query", c.heads), name)
        key = self._rotated(self._heads(x, f"{name}.key", c.kv_heads), name)
        value = self._heads(x, f"{name}.value", c.kv_heads)
        if self.cache is not None:
            key = self.cache.joined(key, index, "key", c.kv_heads, c.head_dim)
            value = self.cache.joined(value, index, "value", c.kv_heads, c.head_dim)
        key, value = self._shared(key), self._shared(value)
        turned = b.op("Transpose", key, perm=[0, 1, 3, 2])
        scores = b.op("MatMul", query, turned, name=f"{name}.scores/MatMul")
        scores = b.op("Mul", scores, b.scalar(1 / math.sqrt(c.head_dim)))
        if self.mask is not None:
            scores = b.op("Add", scores, self.mask, name=f"{name}.scores/Add")
        weights = b.op("Softmax", scores, name=f"{name}/Softmax", axis=-1)
        context = b.op("MatMul", weights, value, name=f"{name}.context/MatMul")
        merged = b.op("Transpose", context, perm=[0, 2, 1, 3])
        flat = b.op("Reshape", merged, b.integers(0, 0, c.heads * c.head_dim))
        return b.linear(flat, f"{name}.output", bias=False)

    def _heads(self, x: str, prefix: str, heads: int) -> str:
        """[batch, heads, seq, head_dim] of a projection."""
        y = self.b.linear(x, prefix, self.config.biases)
        split = self.b.op("Reshape", y, self.b.integers(0, 0, heads, self.config.head_dim))
        return self.b.op("Transpose", split, perm=[0, 2, 1, 3])

    def _rotated(self, x: str, name: str) -> str:
        """Each half of a head turned with the other by its position's angles."""
        b, half = self.b, self.config.head_dim // 2
        first = b.op("Slice", x, b.integers(0), b.integers(half), b.integers(-1))
        second = b.op("Slice", x, b.integers(half), b.integers(2 * half), b.integers(-1))
        turned = b.op("Concat", b.op("Neg", second), first, axis=-1)
        still, moved = b.op("Mul", x, self.cos), b.op("Mul", turned, self.sin)
        return b.op("Add", still, moved, name=f"{name}.rotary/Add")

    def _shared(self, x: str) -> str:
        """Keys or values, once for each of the heads that share them."""
        c, b = self.config, self.b
        if c.heads == c.kv_heads:
            return x
        apart = b.op("Unsqueeze", x, b.integers(2))
        times = b.op("Expand", apart, b.integers(1, 1, c.heads // c.kv_heads, 1, 1))
        return b.op("Reshape", times, b.integers(0, c.heads, -1, c.head_dim))
