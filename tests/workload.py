"""FLOPs, bytes moved and arithmetic intensity of a Transformer, counted as arXiv 2302.14017 counts.

The survey's rule: every operand is int8, one byte; every operator reads its inputs and writes its
output once (no reuse between operators, no fusion); embeddings, pooler and LM head are left out.
Recovered from its printed tables, per layer with m query rows, n keys, width d and FFN width f:

    projections   2 k FLOPs per output of a k-long product, its bias included
    attention     2 k - 1 FLOPs per output of Q.K^T and P.V, which have no bias
    softmax       4 FLOPs and 2 bytes per score
    the rest      58 d FLOPs and 17 d bytes per row (f = 4 d), and 4 d bytes of parameters

The tables fix only that sum of the last line. It is split here as GELU 10 FLOPs and 2 bytes per
element of f, and 9 FLOPs and 4.5 bytes per element of d for each residual add with its LayerNorm,
whose gamma and beta are the parameters. Token by token (m = 1, n = 1, 2, ...), GPT-2's printed
totals need 5 FLOPs and 1 byte per score, 57 d FLOPs and 19 d bytes per row, parameters read again
for every token: the numbers fit; the tables do not say why.

What the counts do not reproduce: four printed figures of BERT-Base (the FFN's intensity at 512 is
558.545, printed 558.54; that of "other" at 4096 is 2.1655, printed 2.16; the attention at 128 moves
0.009 GB, as its printed FLOPs and intensity also say, printed 0.006; the end-to-end figure has 117
where the table has 117.96), and BERT-Large, whose printed FLOPs are, to their last digit, those
of the model less one d x d product per layer (8 % of its total at 128 tokens, 5 % at 4096).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from codesign.hw.errors import ModelError
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig

GROUPS = ("projections", "attention", "ffn", "other")


@dataclass(frozen=True)
class Count:
    """Work of one group of operators for one inference."""

    group: str
    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOPs per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True)
class ElementwiseCosts:
    """What the operators other than matrix products cost per element."""

    score_flops: int
    score_bytes: int
    channel_flops: int  # per row and element of d, both residual adds and both LayerNorms
    channel_bytes: int
    gelu_flops: int = 10
    gelu_bytes: int = 2
    parameter_bytes: int = 4  # per element of d and pass: two gammas, two betas


WHOLE_SEQUENCE = ElementwiseCosts(4, 2, 18, 9)
TOKEN_BY_TOKEN = ElementwiseCosts(5, 1, 17, 11)


@dataclass(frozen=True)
class _Attention:
    d_model: int
    heads: int
    head_dim: int
    rows: int
    keys: int
    bias: bool = True


@dataclass(frozen=True)
class _Ffn:
    d_model: int
    d_ff: int
    rows: int
    gelu: bool = True
    bias: bool = True


def workload(
    config: ModelConfig, seq: int = 512, *, token_by_token: bool = False
) -> tuple[Count, ...]:
    """Return the counts of `GROUPS` and their "total" for one inference of batch 1.

    `seq` is the sequence length (of encoder and decoder alike for T5; vision Transformers have
    their own). With `token_by_token` a decoder generates them one after the other with a
    key-value cache; otherwise it computes all rows and all scores at once. Raises ModelError for
    models that are no Transformers, and for token-by-token of an encoder.
    """
    if seq < 1:
        raise ModelError(f"seq is {seq} but must be at least 1")
    if not token_by_token:
        return _table(_sum(_blocks(config, seq, seq), WHOLE_SEQUENCE))
    if not isinstance(config, DecoderConfig):
        raise ModelError(f"{config.name} is not a decoder: count it without token_by_token")
    # Counts are affine in the keys, so the sum over 1 ... seq keys is an arithmetic series.
    first, last = (_sum(_blocks(config, 1, keys), TOKEN_BY_TOKEN) for keys in (1, seq))
    return _table(
        {
            group: ((f0 + f1) * seq // 2, (b0 + b1) * seq // 2)
            for group, (f0, b0), (f1, b1) in zip(GROUPS, first.values(), last.values(), strict=True)
        }
    )


def _blocks(config: ModelConfig, rows: int, keys: int) -> Iterator[_Attention | _Ffn]:
    match config:
        case BertConfig() | VitConfig():
            if isinstance(config, VitConfig):
                rows = keys = config.tokens
            for _ in range(config.layers):
                yield _Attention(config.d_model, config.heads, config.head_dim, rows, keys)
                yield _Ffn(config.d_model, config.d_ff, rows)
        case DecoderConfig():
            for heads, d_ff in zip(config.heads, config.d_ff, strict=True):
                yield _Attention(config.d_model, heads, config.head_dim, rows, keys)
                yield _Ffn(config.d_model, d_ff, rows)
        case T5Config():
            attention = _Attention(
                config.d_model, config.heads, config.d_kv, rows, keys, bias=False
            )
            ffn = _Ffn(config.d_model, config.d_ff, rows, gelu=False, bias=False)
            for _ in range(config.layers):
                yield from (attention, ffn)
            for _ in range(config.decoder_layers):
                yield from (attention, attention, ffn)
        case ResnetConfig():
            raise ModelError(
                f"{config.name} is no Transformer: the counting convention has no rule"
            )


def _sum(
    blocks: Iterator[_Attention | _Ffn], costs: ElementwiseCosts
) -> dict[str, tuple[int, int]]:
    sums = dict.fromkeys(GROUPS, (0, 0))
    for block in blocks:
        counts = _attention(block, costs) if isinstance(block, _Attention) else _ffn(block, costs)
        for group, flops, size in counts:
            sums[group] = (sums[group][0] + flops, sums[group][1] + size)
    return sums


def _attention(block: _Attention, costs: ElementwiseCosts) -> Iterator[tuple[str, int, int]]:
    m, n, k, heads = block.rows, block.keys, block.head_dim, block.heads
    width = heads * k
    # With a cache keys and values of earlier tokens are not projected again: as many rows as
    # queries. Cross-attention projects the memory, as long here as the target.
    for fan_in, fan_out in [(block.d_model, width)] * 3 + [(width, block.d_model)]:
        yield ("projections", *_projection(m, fan_in, fan_out, block.bias))
    products = heads * ((2 * k - 1) * m * n + (2 * n - 1) * m * k)
    yield "attention", products, 2 * heads * (m * k + n * k + m * n)
    scores = heads * m * n
    yield "other", costs.score_flops * scores, costs.score_bytes * scores
    yield ("other", *_residual_norm(m, block.d_model, costs))


def _ffn(block: _Ffn, costs: ElementwiseCosts) -> Iterator[tuple[str, int, int]]:
    m, d, f = block.rows, block.d_model, block.d_ff
    yield ("ffn", *_projection(m, d, f, block.bias))
    yield ("ffn", *_projection(m, f, d, block.bias))
    flops = costs.gelu_flops if block.gelu else 1  # ReLU: one comparison
    yield "other", flops * m * f, costs.gelu_bytes * m * f
    yield ("other", *_residual_norm(m, d, costs))


def _projection(rows: int, fan_in: int, fan_out: int, bias: bool) -> tuple[int, int]:
    flops = rows * fan_out * (2 * fan_in - (0 if bias else 1))
    return flops, rows * fan_in + fan_in * fan_out + rows * fan_out


def _residual_norm(rows: int, d_model: int, costs: ElementwiseCosts) -> tuple[int, int]:
    """Half of the per-layer costs (rounded down to a whole byte for an odd width)."""
    moved = costs.channel_bytes * rows * d_model + costs.parameter_bytes * d_model
    return costs.channel_flops * rows * d_model // 2, moved // 2


def _table(sums: dict[str, tuple[int, int]]) -> tuple[Count, ...]:
    counts = [Count(group, *sums[group]) for group in GROUPS]
    total = Count("total", sum(c.flops for c in counts), sum(c.bytes for c in counts))
    return (*counts, total)
