"""Decoders of every size in one set of weights, in torch: what training and `supernet` compute with.

A shared set has the names and shapes of `weights.parameter_shapes` for the largest decoder.
A smaller one takes the first layers, the first channels of d_model, of every head and of each FFN,
and the first heads: `subnet` slices, `forward` computes as the exported graph does, so that
`export(config, weights=arrays(subnet(...)))` is the same network as ONNX. A single architecture is
a set of which only the whole is used. Needs torch, of the [train] extra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.weights import parameter_shapes

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

EPSILON = 1e-5  # of the LayerNorms, as in the exported graph
INITIAL_DEVIATION = 0.5  # times 1 / sqrt(fan-in); GPT-2's 0.02 at a width of 768


def initial(config: DecoderConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return float32 parameters to train, by name, as GPT-2 initializes them.

    Matrices are normal and those that end a residual branch smaller by sqrt(2 * layers); gamma is
    1, biases and beta 0. They depend on the arguments alone.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if len(shape) == 1:
            value = torch.full(shape, 1.0 if name.endswith(".gamma") else 0.0)
        else:
            fan_in = config.d_model if name.startswith("embeddings.") else shape[0]
            deviation = INITIAL_DEVIATION / math.sqrt(fan_in)
            if name.endswith((".output.weight", ".down.weight")):
                deviation /= math.sqrt(2 * config.layers)
            value = torch.randn(shape, generator=generator) * deviation
        weights[name] = value.requires_grad_()
    return weights


def subnet(shared: Tensors, largest: DecoderConfig, config: DecoderConfig) -> Tensors:
    """Return the weights of `config` by name: slices of `shared`, the weights of `largest`.

    Raises ModelError naming what of `config` is not within `largest`.
    """
    wrong = list(_outside(largest, config))
    if wrong:
        raise ModelError(f"no subnet of {largest.name}: " + "; ".join(wrong))
    if config == largest:
        return shared
    return {
        name: _slice(name, shared[name], shape, largest, config)
        for name, shape in parameter_shapes(config).items()
    }


def arrays(weights: Tensors) -> dict[str, npt.NDArray[np.float32]]:
    """Return weights as `export` and `reference` take them."""
    return {name: value.detach().cpu().float().numpy() for name, value in weights.items()}


def forward(
    config: DecoderConfig,
    weights: Tensors,
    ids: torch.Tensor,
    dropout: float = 0.0,
    layer: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return float[batch, seq, vocab_size], the logits of int64[batch, seq] tokens.

    `dropout` drops of the embedding and of what a branch adds to the residual (arXiv 1706.03762).
    `layer` computes a layer: `block` unless given, which is for it compiled.
    """
    layer = layer or block
    x = weights["embeddings.word"][ids] + weights["embeddings.position"][: ids.shape[1]]
    x = _drop(x, dropout)
    parts = _parts(weights)
    for number in range(config.layers):
        x = layer(x, parts[f"layer{number}"], config.head_dim, dropout)
    return _norm(x, weights, "norm") @ weights["embeddings.word"].T


def block(x: torch.Tensor, weights: Tensors, head_dim: int, dropout: float) -> torch.Tensor:
    """Return float[batch, seq, d_model] after one layer, whose weights are named without it."""
    from torch.nn import functional as F

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)

    y = _norm(x, weights, "attention.norm")
    q, k, v = (
        split(_linear(y, weights, f"attention.{part}")) for part in ("query", "key", "value")
    )
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + _drop(_linear(y.transpose(1, 2).flatten(2), weights, "attention.output"), dropout)
    y = _norm(x, weights, "ffn.norm")
    y = F.gelu(_linear(y, weights, "ffn.up"), approximate="tanh")
    return x + _drop(_linear(y, weights, "ffn.down"), dropout)


def _linear(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _norm(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    from torch.nn import functional as F

    gamma, beta = weights[f"{name}.gamma"], weights[f"{name}.beta"]
    return F.layer_norm(x, gamma.shape, gamma, beta, EPSILON)


def _drop(x: torch.Tensor, dropout: float) -> torch.Tensor:
    from torch.nn import functional as F

    return F.dropout(x, dropout) if dropout else x


def _parts(weights: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """Weights by the layer that their names begin with."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = value
    return parts


def _outside(largest: DecoderConfig, config: DecoderConfig) -> list[str]:
    wrong = []
    if config.layers > largest.layers:
        wrong.append(f"{config.layers} layers exceed {largest.layers}")
    if config.d_model > largest.d_model:
        wrong.append(f"d_model {config.d_model} exceeds {largest.d_model}")
    for field in ("heads", "d_ff"):
        pairs = zip(getattr(config, field), getattr(largest, field), strict=False)
        wrong += [
            f"{field} {a} exceeds {b} in layer {i}" for i, (a, b) in enumerate(pairs) if a > b
        ]
    for field in ("vocab_size", "max_positions", "lm_head"):
        if getattr(config, field) != getattr(largest, field):
            wrong.append(f"{field} is {getattr(config, field)}, not {getattr(largest, field)}")
    return wrong


def _slice(
    name: str,
    whole: Any,
    shape: tuple[int, ...],
    largest: DecoderConfig,
    config: DecoderConfig,
) -> Any:
    """The part of one shared tensor: the first of every axis, of a head axis the first of each."""
    width, whole_width = config.head_dim, largest.head_dim
    if name.rsplit(".", 2)[-2] in ("query", "key", "value"):  # [..., heads * head_dim]
        whole = whole.reshape(*whole.shape[:-1], -1, whole_width)
        index = (*map(slice, shape[:-1]), slice(shape[-1] // width), slice(width))
    elif name.endswith(".attention.output.weight"):  # [heads * head_dim, d_model]
        whole = whole.reshape(-1, whole_width, whole.shape[-1])
        index = (slice(shape[0] // width), slice(width), slice(shape[1]))
    else:
        index = tuple(map(slice, shape))
    return whole[index].reshape(shape)
