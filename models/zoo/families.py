"""The model families: one frozen configuration per architecture and the built-in sizes.

First in the way of the data: `weights` draws parameters for a configuration, `export` writes it as
ONNX, `reference` computes it in numpy, `workload` counts it. `FAMILIES` maps built-in names
to configurations; `lm` builds a point of the Transformer search space.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesign.hw.errors import ModelError

LM_HEADS_OF_FULL_WIDTH = 12  # head dimension is d_model / 12 whatever the heads of a layer
WIKITEXT2_VOCABULARY = 33_278  # distinct tokens of word-level WikiText-2 (arXiv 1609.07843)


@dataclass(frozen=True)
class BertConfig:
    """BERT encoder with pooler (arXiv 1810.04805): post-norm, erf GELU, learned positions."""

    name: str
    layers: int
    d_model: int
    heads: int
    d_ff: int
    vocab_size: int = 30_522
    max_positions: int = 512
    type_vocab_size: int = 2

    def __post_init__(self) -> None:
        _check(self, _heads_divide(self.d_model, self.heads))

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads


@dataclass(frozen=True)
class DecoderConfig:
    """GPT-2-like decoder: pre-norm, causal, tanh GELU, learned positions, tied LM head.

    Layer i has `heads[i]` heads and an FFN of `d_ff[i]`. The head dimension is d_model / 12 in
    every layer, so attention is heads[i] * d_model / 12 wide: with twelve heads this is GPT-2, with
    fewer the search space of arXiv 2302.14017 §6. Without `lm_head` the output is the
    final LayerNorm's, as in cost studies that leave the vocabulary projection out.
    """

    name: str
    d_model: int
    heads: tuple[int, ...]
    d_ff: tuple[int, ...]
    vocab_size: int = WIKITEXT2_VOCABULARY
    max_positions: int = 512
    lm_head: bool = True

    def __post_init__(self) -> None:
        _check(self, self._violations())

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)

    @property
    def head_dim(self) -> int:
        """Width of one attention head, the same in every layer."""
        return self.d_model // LM_HEADS_OF_FULL_WIDTH

    def _violations(self) -> Iterator[str]:
        yield from _pruned_attention(self.d_model, self.heads)
        if len(self.d_ff) != len(self.heads):
            yield f"d_ff lists {len(self.d_ff)} layers but heads lists {len(self.heads)}"


@dataclass(frozen=True)
class T5Config:
    """T5 v1.0 encoder-decoder (arXiv 1910.10683): RMSNorm, no biases, ReLU, relative positions.

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

    def __post_init__(self) -> None:
        _check(self, self._violations())

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_kv

    def _violations(self) -> Iterator[str]:
        buckets = self.relative_buckets
        if _is_size(buckets) and (buckets % 4 or buckets < 4):
            yield f"relative_buckets is {buckets} but must be a multiple of 4"
        elif _is_size(self.relative_max_distance) and self.relative_max_distance <= buckets // 2:
            yield (
                f"relative_max_distance is {self.relative_max_distance} but must exceed "
                f"{buckets // 2}, half the buckets"
            )


@dataclass(frozen=True)
class VitConfig:
    """Vision Transformer (arXiv 2010.11929, sizes of DeiT 2012.12877): class token, pre-norm."""

    name: str
    layers: int
    d_model: int
    heads: int
    d_ff: int
    image_size: int = 224
    patch_size: int = 16
    classes: int = 1000

    def __post_init__(self) -> None:
        _check(self, self._violations())

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads

    @property
    def tokens(self) -> int:
        """Sequence length: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def _violations(self) -> Iterator[str]:
        yield from _heads_divide(self.d_model, self.heads)
        if _is_size(self.patch_size) and self.image_size % self.patch_size:
            yield f"image_size {self.image_size} is not divisible by patch {self.patch_size}"


@dataclass(frozen=True)
class ResnetConfig:
    """Bottleneck ResNet (arXiv 1512.03385), stride in the 3x3 convolution, batch norms folded.

    Stage i has `blocks[i]` bottlenecks of `width * 2^i` channels, four times as many at the output.
    """

    name: str
    blocks: tuple[int, ...]
    width: int = 64
    image_size: int = 224
    classes: int = 1000

    def __post_init__(self) -> None:
        _check(self, () if self.blocks else ("blocks names no stage",))


ModelConfig = BertConfig | DecoderConfig | T5Config | VitConfig | ResnetConfig


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
        problems += _not_sizes({"d_model": d_model, "vocab_size": vocab_size, **per_layer})
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


def family(name: str) -> ModelConfig:
    """Return the built-in configuration called `name`; raises ModelError with the nearest names."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "choose from " + ", ".join(FAMILIES)
        )
        raise ModelError(f"no model is called {name!r}: {hint}")
    return FAMILIES[name]


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _heads_divide(d_model: int, heads: int) -> Iterator[str]:
    if _is_size(d_model) and _is_size(heads) and d_model % heads:
        yield f"d_model {d_model} is not divisible by {heads} heads"


def _pruned_attention(d_model: int, heads: tuple[int, ...]) -> Iterator[str]:
    if _is_size(d_model) and d_model % LM_HEADS_OF_FULL_WIDTH:
        yield f"d_model is {d_model} but must be divisible by {LM_HEADS_OF_FULL_WIDTH}"
    if not heads:
        yield "heads names no layer"
    for layer, count in enumerate(heads):
        if _is_size(count) and count > LM_HEADS_OF_FULL_WIDTH:
            yield f"heads[{layer}] is {count} but must be at most {LM_HEADS_OF_FULL_WIDTH}"


def _not_sizes(fields: Mapping[str, object]) -> Iterator[str]:
    for field, value in fields.items():
        if isinstance(value, str | bool):
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if not _is_size(item):
                yield f"{field} is {value!r} but must hold positive whole numbers"
                break


def _check(config: Any, violations: Iterable[str]) -> None:
    problems = [*_not_sizes(vars(config)), *violations]
    if problems:
        raise ModelError(f"invalid model {config.name}: " + "; ".join(problems))


def _bert(name: str, layers: int, d_model: int) -> BertConfig:
    return BertConfig(name, layers, d_model, heads=d_model // 64, d_ff=4 * d_model)


FAMILIES: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        # Google's released sizes: arXiv 1810.04805 (base, large), 1908.08962 (the others).
        _bert("bert-tiny", 2, 128),
        _bert("bert-mini", 4, 256),
        _bert("bert-small", 4, 512),
        _bert("bert-medium", 8, 512),
        _bert("bert-base", 12, 768),
        _bert("bert-large", 24, 1024),
        # The smallest GPT-2: https://github.com/openai/gpt-2.
        lm(
            name="gpt2",
            layers=12,
            d_model=768,
            heads=12,
            d_ff=3072,
            vocab_size=50_257,
            max_positions=1024,
        ),
        # The largest network of the search space of arXiv 2302.14017 §6.4.
        lm(layers=6, d_model=768, heads=12, d_ff=3072),
        # As tabulated in UCB/EECS-2023-92, ch. 4. Its "31 M" parameters need d_kv = 64, the value
        # of the released google/t5-efficient-mini checkpoints; with 32 there are 26.5 M.
        T5Config("t5-mini", 4, 4, d_model=384, heads=8, d_kv=32, d_ff=1536),
        VitConfig("vit-tiny", 12, d_model=192, heads=3, d_ff=768),
        ResnetConfig("resnet50", blocks=(3, 4, 6, 3)),
    )
}
