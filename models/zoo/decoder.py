"""The GPT-2-like decoder: pre-norm, causal, tanh GELU, learned positions, tied LM head.

`lm` builds a point of its search space, that of arXiv 2302.14017 §6.4.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from codesign.hw.errors import ModelError
from codesign.models.zoo import parameters, text_graphs
from codesign.models.zoo.axes import Axis, Parts, Values
from codesign.models.zoo.model_config import (
    CachedConfig,
    Layer,
    Tensors,
    check_config,
    is_size,
    not_a_past,
    not_sizes,
    require_positions,
    too_deep,
)
from codesign.models.zoo.parameters import Entry, Shape

if TYPE_CHECKING:
    import torch

    from codesign.models.zoo.onnx_builder import GraphBuilder

LM_HEADS_OF_FULL_WIDTH = 12  # head dimension is d_model / 12 whatever the heads of a layer
WIKITEXT2_VOCABULARY = 33_278  # distinct tokens of word-level WikiText-2 (arXiv 1609.07843)


@dataclass(frozen=True)
class DecoderConfig(CachedConfig):
    """One decoder.

    Layer i has `heads[i]` heads and an FFN of `d_ff[i]`. The head dimension is d_model / 12 in
    every layer, so attention is heads[i] * d_model / 12 wide: with twelve heads this is GPT-2, with
    fewer the search space of arXiv 2302.14017 §6. Without `lm_head` the output is the
    final LayerNorm's, as in cost studies that leave the vocabulary projection out. `past` and `logits` are
    as in LlamaConfig, the latter "all" or "last", and so is `any_past`.
    """

    name: str
    d_model: int
    heads: tuple[int, ...]
    d_ff: tuple[int, ...]
    vocab_size: int = WIKITEXT2_VOCABULARY
    max_positions: int = 512
    lm_head: bool = True
    past: int | None = None  # None: a graph without a cache, unless with any_past
    logits: str = "all"
    any_past: bool = False

    family: ClassVar[str] = "lm"

    def __post_init__(self) -> None:
        check_config(self, self._violations(), besides=("past",))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @property
    def head_dim(self) -> int:
        """Width of one attention head, the same in every layer."""
        return self.d_model // LM_HEADS_OF_FULL_WIDTH

    @classmethod
    def sizes(cls) -> tuple["DecoderConfig", ...]:
        """The smallest GPT-2 (https://github.com/openai/gpt-2), and the largest network of the
        search space of arXiv 2302.14017 §6.4."""
        gpt2 = lm(
            name="gpt2",
            layers=12,
            d_model=768,
            heads=12,
            d_ff=3072,
            vocab_size=50_257,
            max_positions=1024,
        )
        return gpt2, lm(layers=6, d_model=768, heads=12, d_ff=3072)

    def parameters(self) -> Iterator[Entry]:
        """Embeddings, layers, final norm; the head is the embedding."""
        d = self.d_model
        yield "embeddings.word", (self.vocab_size, d)
        yield "embeddings.position", (self.max_positions, d)
        for layer, (heads, d_ff) in enumerate(zip(self.heads, self.d_ff, strict=True)):
            yield from parameters.attention(f"layer{layer}.attention", d, heads * self.head_dim)
            yield from parameters.ffn(f"layer{layer}.ffn", d, d_ff)
        yield from parameters.norm("norm", d)

    def build(self, b: "GraphBuilder", batch: int | None, seq: int | None) -> None:
        """input_ids int64[batch, seq] -> logits[batch, seq or 1, vocab_size], or
        last_hidden_state[batch, seq, d_model] without LM head.

        With a past each layer has inputs and outputs of its heads as in `text_graphs.Cache`. Raises
        ModelError for a past of so many tokens with a dynamic sequence.
        """
        past = self.past or 0
        require_positions(self, seq, self.past)
        shape = text_graphs.extents(batch, seq)
        ids = b.input("input_ids", shape, integer=True)
        word = b.op("Gather", b.weight("embeddings.word"), ids, name="embeddings.word/Gather")
        mask = None
        if self.any_past:
            behind = text_graphs.OpenPast.of(b, shape)
            place = behind.rows(b.weight("embeddings.position"), "embeddings.position")
            mask = behind.mask(ids)
        else:
            place = text_graphs.positions(b, ids, seq, past)
            if self.past is None or seq != 1:  # one token sees all of its past
                mask = text_graphs.causal_mask(b, ids, seq, self.max_positions, past)
        x = b.op("Add", word, place, name="embeddings.position/Add")
        cache = text_graphs.Cache.of(b, shape, self.past, self.any_past)
        for layer in range(self.layers):
            x = self._layer(b, x, layer, mask, cache)
        x = b.layer_norm(x, "norm", 1e-5)
        if not self.lm_head:
            b.output(x, "last_hidden_state", (*shape, self.d_model))
        elif self.logits == "last":
            y = text_graphs.tied_head(b, text_graphs.last_row(b, x))
            b.output(y, "logits", (shape[0], 1, self.vocab_size))
        else:
            b.output(text_graphs.tied_head(b, x), "logits", (*shape, self.vocab_size))
        if cache is not None:
            cache.outputs()

    def _layer(
        self,
        b: "GraphBuilder",
        x: str,
        layer: int,
        mask: str | None,
        cache: text_graphs.Cache | None,
    ) -> str:
        prefix, heads = f"layer{layer}", self.heads[layer]

        def cached(new: str, kind: str) -> str:
            assert cache is not None
            return cache.joined(new, layer, kind, heads, self.head_dim)

        y = b.layer_norm(x, f"{prefix}.attention.norm", 1e-5)
        y = b.attention(
            y,
            y,
            f"{prefix}.attention",
            heads,
            self.head_dim,
            mask=mask,
            cached=None if cache is None else cached,
        )
        x = b.op("Add", y, x, name=f"{prefix}.attention.residual/Add")
        y = b.layer_norm(x, f"{prefix}.ffn.norm", 1e-5)
        y = b.gelu(b.linear(y, f"{prefix}.ffn.up"), f"{prefix}.ffn", tanh=True)
        y = b.linear(y, f"{prefix}.ffn.down")
        return b.op("Add", y, x, name=f"{prefix}.ffn.residual/Add")

    def _violations(self) -> Iterator[str]:
        yield from _pruned_attention(self.d_model, self.heads)
        if len(self.d_ff) != len(self.heads):
            yield f"d_ff lists {len(self.d_ff)} layers but heads lists {len(self.heads)}"
        yield from not_a_past(self.past)
        if self.logits not in ("all", "last"):
            yield f"logits is {self.logits!r} but must be all or last"

    def lengthened(self, seq: int) -> Self:
        """The same, its position table grown to its past and `seq` tokens where they are more."""
        return replace(self, max_positions=max((self.past or 0) + seq, self.max_positions))

    def reshaped(self, shape: Mapping[str, Any]) -> Self:
        """One number of `heads` or `d_ff` serves every layer, and lists make as many layers.

        Every decoder may have a past, and logits of the last position.
        """
        cache = {field: shape[field] for field in shape if field in ("past", "any_past", "logits")}
        shape = {field: value for field, value in shape.items() if field not in cache}
        if cache:
            same = replace(self, **cache)
            return same.reshaped(shape) if shape else same
        other = shape.keys() - {"layers", "d_model", "heads", "d_ff", "vocab_size", "lm_head"}
        if self.name != "lm" or other:
            return super().reshaped(shape)
        per_layer: dict[str, Any] = {
            field: values[0] if len(set(values)) == 1 else values
            for field, values in (("heads", self.heads), ("d_ff", self.d_ff))
        }
        per_layer |= {f: v[0] if len(v) == 1 else v for f, v in shape.items() if f in per_layer}
        lists = [len(values) for values in per_layer.values() if isinstance(values, tuple)]
        layers = shape.get("layers", lists[0] if lists else self.layers)
        sizes = {f: shape.get(f, getattr(self, f)) for f in ("d_model", "vocab_size", "lm_head")}
        shaped = lm(layers=layers, max_positions=self.max_positions, **sizes, **per_layer)
        return replace(
            self,
            **{**vars(shaped), "past": self.past, "any_past": self.any_past, "logits": self.logits},
        )

    # -- Search ------------------------------------------------------------------------------------

    @classmethod
    def axes(cls) -> tuple[Axis, ...]:
        """Those of Table 3.1 of UCB/EECS-2023-92."""
        return (
            Axis("layers", (3, 4, 5, 6), "{} layers", "depth", phrase="{} layers", short="{}L"),
            Axis("d_model", (384, 480, 576, 672, 768), "width d {}", phrase="d {}", short="{}d"),
            Axis("heads", (4, 6, 8, 10, 12), "{} heads in each layer", "layer", short="h{}"),
            Axis(
                "d_ff",
                tuple(range(768, 3073, 128)),
                "FFN width {} in each layer",
                "layer",
                label="FFN",
                short="f{}",
            ),
        )

    @classmethod
    def options(cls) -> Mapping[str, int | bool]:
        """As the survey counts: without the projection to its vocabulary."""
        return {"lm_head": False, "vocab_size": WIKITEXT2_VOCABULARY}

    @classmethod
    def layer_parts(cls) -> Parts:
        """Attention and FFN."""
        return ("heads",), ("d_ff",)

    @classmethod
    def kernel_names(cls) -> Mapping[str, str]:
        """Projections by name; attention may be one kernel or several."""
        return {
            "attention.query": "qkv",
            "attention.key": "qkv",
            "attention.value": "qkv",
            "attention.output": "attention output",
            "attention.scores": "attention",
            "attention.context": "attention",
            "ffn.up": "ffn up",
            "ffn.down": "ffn down",
            "head": "lm head",
        }

    @classmethod
    def wrong_choices(cls, choices: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Widths that twelve heads do not share, and more heads than those."""
        for width in choices["d_model"]:
            if type(width) is int and width % LM_HEADS_OF_FULL_WIDTH:
                yield f"d_model {width} is no multiple of {LM_HEADS_OF_FULL_WIDTH}"
        for heads in choices["heads"]:
            if type(heads) is int and heads > LM_HEADS_OF_FULL_WIDTH:
                yield f"heads {heads} is more than {LM_HEADS_OF_FULL_WIDTH}"

    @classmethod
    def point(cls, values: Values, seq: int, options: Mapping[str, Any]) -> "DecoderConfig":
        """The decoder of these values."""
        sizes: Any = values
        return lm(**sizes, max_positions=max(512, seq), **options)

    @classmethod
    def layer_parameters(cls, values: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Kaplan et al., eq. 2.1: 2 d_model (2 d_attention + d_ff) a layer."""
        d_model = np.asarray(values["d_model"])
        attention = np.asarray(values["heads"]) * (d_model[..., None] // LM_HEADS_OF_FULL_WIDTH)
        return 2 * d_model * (2 * attention + np.asarray(values["d_ff"])).sum(axis=-1)

    # -- Training ----------------------------------------------------------------------------------

    trained_options: ClassVar[tuple[str, ...] | None] = ()

    @classmethod
    def trained(
        cls, values: Values, positions: int, vocabulary: int, options: Mapping[str, Any]
    ) -> "DecoderConfig":
        """The decoder of these values, with its head."""
        sizes: Any = values
        return lm(**sizes, vocab_size=vocabulary, max_positions=positions)

    def forward(
        self,
        weights: Tensors,
        ids: "torch.Tensor",
        dropout: float = 0.0,
        layer: Layer | None = None,
    ) -> "torch.Tensor":
        """`dropout` is of the embedding and of what a branch adds to the residual (arXiv 1706.03762)."""
        from codesign.models.zoo import torch_layers

        layer = layer or block
        x = weights["embeddings.word"][ids] + weights["embeddings.position"][: ids.shape[1]]
        x = torch_layers.dropped(x, dropout)
        parts = torch_layers.by_layer(weights)
        for number in range(self.layers):
            x = layer(x, parts[f"layer{number}"], self.head_dim, dropout)
        return torch_layers.normalized(x, weights, "norm") @ weights["embeddings.word"].T

    @classmethod
    def trained_layer(cls) -> Layer:
        """`block`."""
        return block

    def initial_deviation(self, name: str, shape: Shape) -> float:
        """As GPT-2: matrices that end a residual branch are smaller by sqrt(2 * layers)."""
        ends = name.endswith((".output.weight", ".down.weight"))
        return super().initial_deviation(name, shape) / (sqrt(2 * self.layers) if ends else 1.0)

    def part_of(
        self, name: str, whole: "torch.Tensor", shape: Shape, largest: Self
    ) -> "torch.Tensor":
        """The first of every axis, of a head axis the first of each head."""
        width, whole_width = self.head_dim, largest.head_dim
        if name.rsplit(".", 2)[-2] in ("query", "key", "value"):  # [..., heads * head_dim]
            whole = whole.reshape(*whole.shape[:-1], -1, whole_width)
            index = (*map(slice, shape[:-1]), slice(shape[-1] // width), slice(width))
        elif name.endswith(".attention.output.weight"):  # [heads * head_dim, d_model]
            whole = whole.reshape(-1, whole_width, whole.shape[-1])
            index = (slice(shape[0] // width), slice(width), slice(shape[1]))
        else:
            index = tuple(map(slice, shape))
        return whole[index].reshape(shape)


def block(x: "torch.Tensor", weights: Tensors, head_dim: int, dropout: float) -> "torch.Tensor":
    """Return float[batch, seq, d_model] after one layer, whose weights are named without it."""
    from torch.nn import functional as F

    from codesign.models.zoo.torch_layers import dropped, normalized, projected

    def split(x: "torch.Tensor") -> "torch.Tensor":
        return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)

    y = normalized(x, weights, "attention.norm")
    q, k, v = (
        split(projected(y, weights, f"attention.{part}")) for part in ("query", "key", "value")
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + dropped(projected(y.transpose(1, 2).flatten(2), weights, "attention.output"), dropout)
    y = normalized(x, weights, "ffn.norm")
    y = F.gelu(projected(y, weights, "ffn.up"), approximate="tanh")
    return x + dropped(projected(y, weights, "ffn.down"), dropout)


def lm(
    *,
    layers: int,
    d_model: int,
    heads: int | Sequence[int],
    d_ff: int | Sequence[int],
    vocab_size: int = WIKITEXT2_VOCABULARY,
    max_positions: int = 512,
    lm_head: bool = True,
    name: str = "lm",
) -> DecoderConfig:
    """Return the decoder with `layers` layers; one number for heads or d_ff serves every layer.

    Raises ModelError naming every violation: a list of another length, d_model not divisible by 12.
    """
    if problems := [*too_deep({"layers": layers})]:
        raise ModelError(f"invalid model {name}: " + "; ".join(problems))
    per_layer = {
        field: (value,) * layers if isinstance(value, int) else tuple(value)
        for field, value in (("heads", heads), ("d_ff", d_ff))
    }
    problems = [
        f"{field} lists {len(values)} values for {layers} layers"
        for field, values in per_layer.items()
        if len(values) != layers
    ]
    if problems:
        problems += not_sizes({"d_model": d_model, "vocab_size": vocab_size, **per_layer})
        problems += _pruned_attention(d_model, per_layer["heads"])
        raise ModelError(f"invalid model {name}: " + "; ".join(problems))
    return DecoderConfig(
        name=name,
        d_model=d_model,
        heads=per_layer["heads"],
        d_ff=per_layer["d_ff"],
        vocab_size=vocab_size,
        max_positions=max_positions,
        lm_head=lm_head,
    )


def _pruned_attention(d_model: int, heads: tuple[int, ...]) -> Iterator[str]:
    if is_size(d_model) and d_model % LM_HEADS_OF_FULL_WIDTH:
        yield f"d_model is {d_model} but must be divisible by {LM_HEADS_OF_FULL_WIDTH}"
    if not heads:
        yield "heads names no layer"
    for layer, count in enumerate(heads):
        if is_size(count) and count > LM_HEADS_OF_FULL_WIDTH:
            yield f"heads[{layer}] is {count} but must be at most {LM_HEADS_OF_FULL_WIDTH}"
