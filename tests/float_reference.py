"""Float forward pass of every family in numpy: the oracle that exported graphs are held to.

It is written from the papers, shares no code with the ONNX graphs, and computes in float64.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.llama import LlamaConfig
from codesign.models.zoo.model_config import ModelConfig, TextConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig
from codesign.models.zoo.weights import Weights

Floats = npt.NDArray[np.float64]
Inputs = Mapping[str, npt.NDArray[Any]]  # int64 tokens and masks, float32 pixels


def forward(config: ModelConfig, weights: Weights, inputs: Inputs) -> dict[str, Floats]:
    """Return the outputs of `config` by name, in the shapes of the exported graph.

    `inputs` are those of the exported graph; `weights` as in `parameter_shapes`.
    """
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    match config:
        case BertConfig():
            return _bert(config, w, inputs)
        case DecoderConfig():
            return _decoder(config, w, inputs["input_ids"])
        case LlamaConfig():
            return _llama(config, w, inputs["input_ids"])
        case T5Config():
            return _t5(config, w, inputs)
        case VitConfig():
            return _vit(config, w, inputs["pixel_values"].astype(np.float64))
        case ResnetConfig():
            return _resnet(config, w, inputs["pixel_values"].astype(np.float64))
    raise ValueError(f"no forward pass of {config.name}")


def random_inputs(
    config: ModelConfig, *, batch: int = 1, seq: int = 128, seed: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Return random inputs of the exported graph; the second half of odd rows is padding."""
    rng = np.random.default_rng(seed)
    if isinstance(config, VitConfig | ResnetConfig):
        size = (batch, 3, config.image_size, config.image_size)
        return {"pixel_values": rng.standard_normal(size, dtype=np.float32)}
    assert isinstance(config, TextConfig)
    ids = rng.integers(config.vocab_size, size=(batch, seq))
    if isinstance(config, DecoderConfig | LlamaConfig):
        return {"input_ids": ids}
    lengths = np.where(np.arange(batch) % 2 == 0, seq, (seq + 1) // 2)
    mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if isinstance(config, BertConfig):
        types = rng.integers(config.type_vocab_size, size=(batch, seq))
        return {**inputs, "token_type_ids": types}
    return {**inputs, "decoder_input_ids": rng.integers(config.vocab_size, size=(batch, seq))}


def layer_norm(x: Floats, gamma: Floats, beta: Floats, epsilon: float) -> Floats:
    """LayerNorm over the last axis (arXiv 1607.06450)."""
    variance = x.var(axis=-1, keepdims=True)
    result: Floats = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + epsilon)
    return result * gamma + beta


def rms_norm(x: Floats, gamma: Floats, epsilon: float) -> Floats:
    """RMSNorm over the last axis (arXiv 1910.07467)."""
    result: Floats = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * gamma
    return result


def gelu(x: Floats) -> Floats:
    """x times the normal distribution function of x (arXiv 1606.08415)."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    result: Floats = x * 0.5 * (1 + erf(x * math.sqrt(0.5)))
    return result


def gelu_tanh(x: Floats) -> Floats:
    """The tanh approximation of GELU that GPT-2 uses (arXiv 1606.08415)."""
    result: Floats = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return result


def softmax(x: Floats) -> Floats:
    """Softmax over the last axis."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def relative_bucket(offset: int, config: T5Config, bidirectional: bool) -> int:
    """Return T5's bucket of `offset` = key position - query position (arXiv 1910.10683 §2.1)."""
    buckets, first = config.relative_buckets, 0
    if bidirectional:
        buckets //= 2
        first = buckets if offset > 0 else 0
        distance = abs(offset)
    else:
        distance = max(-offset, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    octave = math.log(distance / exact) / math.log(config.relative_max_distance / exact)
    # The guard keeps exact powers, whose logarithm may round below, in their own bucket.
    return first + min(exact + int(octave * (buckets - exact) + 1e-9), buckets - 1)


def _linear(w: dict[str, Floats], name: str, x: Floats) -> Floats:
    y = x @ w[f"{name}.weight"]
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _attention(
    w: dict[str, Floats],
    name: str,
    x: Floats,
    memory: Floats,
    head_dim: int,
    mask: Floats | npt.NDArray[np.bool_] | None = None,
    bias: Floats | None = None,
    scale: float | None = None,
) -> Floats:
    """Attention of x[batch, m, d] over memory[batch, n, d], one head after the other.

    `mask` bool[batch or 1, m or 1, n] is True where a query may look; `bias` is [heads, m, n].
    """
    query = _linear(w, f"{name}.query", x)
    key = _linear(w, f"{name}.key", memory)
    value = _linear(w, f"{name}.value", memory)
    scale = head_dim**-0.5 if scale is None else scale
    context = []
    for start in range(0, query.shape[-1], head_dim):
        head = slice(start, start + head_dim)
        scores = np.einsum("bmc,bnc->bmn", query[..., head], key[..., head]) * scale
        if bias is not None:
            scores = scores + bias[start // head_dim]
        if mask is not None:
            scores = np.where(mask, scores, -1e30)
        context.append(softmax(scores) @ value[..., head])
    return _linear(w, f"{name}.output", np.concatenate(context, axis=-1))


def _bert(config: BertConfig, w: dict[str, Floats], inputs: Inputs) -> dict[str, Floats]:
    ids = inputs["input_ids"]
    mask = inputs["attention_mask"][:, None, :] == 1

    def norm(x: Floats, name: str) -> Floats:
        return layer_norm(x, w[f"{name}.gamma"], w[f"{name}.beta"], 1e-12)

    x = w["embeddings.word"][ids] + w["embeddings.position"][: ids.shape[1]]
    x = norm(x + w["embeddings.token_type"][inputs["token_type_ids"]], "embeddings.norm")
    for layer in range(config.layers):
        name = f"layer{layer}.attention"
        x = norm(x + _attention(w, name, x, x, config.head_dim, mask), f"{name}.norm")
        name = f"layer{layer}.ffn"
        y = _linear(w, f"{name}.down", gelu(_linear(w, f"{name}.up", x)))
        x = norm(x + y, f"{name}.norm")
    return {"last_hidden_state": x, "pooler_output": np.tanh(_linear(w, "pooler", x[:, 0]))}


def _decoder(
    config: DecoderConfig, w: dict[str, Floats], ids: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    length = ids.shape[1]
    mask = np.tri(length, dtype=bool)[None]

    def norm(x: Floats, name: str) -> Floats:
        return layer_norm(x, w[f"{name}.gamma"], w[f"{name}.beta"], 1e-5)

    x = w["embeddings.word"][ids] + w["embeddings.position"][:length]
    for layer in range(config.layers):
        name = f"layer{layer}.attention"
        y = norm(x, f"{name}.norm")
        x = x + _attention(w, name, y, y, config.head_dim, mask)
        name = f"layer{layer}.ffn"
        y = gelu_tanh(_linear(w, f"{name}.up", norm(x, f"{name}.norm")))
        x = x + _linear(w, f"{name}.down", y)
    x = norm(x, "norm")
    if config.lm_head:
        return {"logits": x @ w["embeddings.word"].T}
    return {"last_hidden_state": x}


def _llama(
    config: LlamaConfig, w: dict[str, Floats], ids: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    """All tokens at once: what a past and its continuation together must give."""
    length, d, shared = ids.shape[1], config.head_dim, config.heads // config.kv_heads
    mask = np.tri(length, dtype=bool)[None]
    # Rotary positions (arXiv 2104.09864): pairs of a head as complex numbers, turned.
    turns = np.array([config.rope_base ** (-2 * pair / d) for pair in range(d // 2)])
    angles = np.exp(1j * np.arange(length)[:, None] * turns)

    def turned(head: Floats) -> Floats:
        pairs = (head[..., : d // 2] + 1j * head[..., d // 2 :]) * angles
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    x = w["embeddings.word"][ids]
    for layer in range(config.layers):
        name = f"layer{layer}.attention"
        y = rms_norm(x, w[f"{name}.norm.gamma"], config.epsilon)
        query, key, value = (_linear(w, f"{name}.{part}", y) for part in ("query", "key", "value"))
        context = []
        for head in range(config.heads):
            own, of = (slice(i * d, (i + 1) * d) for i in (head, head // shared))
            scores = turned(query[..., own]) @ turned(key[..., of]).swapaxes(1, 2) / math.sqrt(d)
            context.append(softmax(np.where(mask, scores, -1e30)) @ value[..., of])
        x = x + _linear(w, f"{name}.output", np.concatenate(context, axis=-1))
        name = f"layer{layer}.ffn"
        y = rms_norm(x, w[f"{name}.norm.gamma"], config.epsilon)
        gate = _linear(w, f"{name}.gate", y)
        y = gate / (1 + np.exp(-gate)) * _linear(w, f"{name}.up", y)
        x = x + _linear(w, f"{name}.down", y)
    x = rms_norm(x, w["norm.gamma"], config.epsilon)
    if config.logits == "none":
        return {"last_hidden_state": x}
    x = x[:, -1:] if config.logits == "last" else x
    return {"logits": x @ w["embeddings.word"].T if config.tied else _linear(w, "head", x)}


def _t5(config: T5Config, w: dict[str, Floats], inputs: Inputs) -> dict[str, Floats]:
    padding = inputs["attention_mask"][:, None, :] == 1
    memory = _t5_stack(config, w, "encoder", inputs["input_ids"], padding, None)
    x = _t5_stack(config, w, "decoder", inputs["decoder_input_ids"], padding, memory)
    return {"logits": (x / math.sqrt(config.d_model)) @ w["embeddings.word"].T}


def _t5_stack(
    config: T5Config,
    w: dict[str, Floats],
    stack: str,
    ids: npt.NDArray[np.int64],
    padding: npt.NDArray[np.bool_],
    memory: Floats | None,
) -> Floats:
    length = ids.shape[1]
    encoder = memory is None
    mask = padding if encoder else np.tri(length, dtype=bool)[None]
    buckets = [
        [relative_bucket(key - query, config, encoder) for key in range(length)]
        for query in range(length)
    ]
    bias = w[f"{stack}.relative_bias"][buckets].transpose(2, 0, 1)

    def norm(x: Floats, name: str) -> Floats:
        return rms_norm(x, w[f"{name}.norm.gamma"], 1e-6)

    x = w["embeddings.word"][ids]
    for layer in range(config.layers if encoder else config.decoder_layers):
        name = f"{stack}.layer{layer}"
        y = norm(x, f"{name}.attention")
        x = x + _attention(w, f"{name}.attention", y, y, config.d_kv, mask, bias, scale=1.0)
        if memory is not None:
            y = norm(x, f"{name}.cross")
            x = x + _attention(w, f"{name}.cross", y, memory, config.d_kv, padding, scale=1.0)
        y = np.maximum(_linear(w, f"{name}.ffn.up", norm(x, f"{name}.ffn")), 0)
        x = x + _linear(w, f"{name}.ffn.down", y)
    return norm(x, stack)


def _vit(config: VitConfig, w: dict[str, Floats], pixels: Floats) -> dict[str, Floats]:
    def norm(x: Floats, name: str) -> Floats:
        return layer_norm(x, w[f"{name}.gamma"], w[f"{name}.beta"], 1e-6)

    batch, p = len(pixels), config.patch_size
    patches = _conv(w, "patch", pixels, stride=p, pad=0)
    x = patches.reshape(batch, config.d_model, -1).transpose(0, 2, 1)
    first = np.repeat(w["embeddings.class_token"], batch, axis=0)
    x = np.concatenate([first, x], axis=1) + w["embeddings.position"]
    for layer in range(config.layers):
        name = f"layer{layer}.attention"
        y = norm(x, f"{name}.norm")
        x = x + _attention(w, name, y, y, config.head_dim)
        name = f"layer{layer}.ffn"
        y = gelu(_linear(w, f"{name}.up", norm(x, f"{name}.norm")))
        x = x + _linear(w, f"{name}.down", y)
    return {"logits": _linear(w, "head", norm(x, "norm")[:, 0])}


def _resnet(config: ResnetConfig, w: dict[str, Floats], pixels: Floats) -> dict[str, Floats]:
    x = np.maximum(_conv(w, "stem", pixels, stride=2, pad=3), 0)
    x = _windows(x, 3, 2, 1, fill=-np.inf).max(axis=(-2, -1))
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            name = f"stage{stage}.block{block}"
            stride = 2 if stage and not block else 1
            y = np.maximum(_conv(w, f"{name}.conv1", x), 0)
            y = np.maximum(_conv(w, f"{name}.conv2", y, stride, pad=1), 0)
            y = _conv(w, f"{name}.conv3", y)
            shortcut = x if block else _conv(w, f"{name}.shortcut", x, stride)
            x = np.maximum(y + shortcut, 0)
    return {"logits": _linear(w, "classifier", x.mean(axis=(2, 3)))}


def _windows(x: Floats, kernel: int, stride: int, pad: int, fill: float) -> Floats:
    """x[batch, c, h, w] -> its kernel x kernel windows, [batch, c, oh, ow, kernel, kernel]."""
    edges = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = np.pad(x, edges, constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    return windows[:, :, ::stride, ::stride]


def _conv(w: dict[str, Floats], name: str, x: Floats, stride: int = 1, pad: int = 0) -> Floats:
    weight = w[f"{name}.weight"]
    windows = _windows(x, weight.shape[-1], stride, pad, fill=0.0)
    y = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))  # [batch, oh, ow, filters]
    return (y + w[f"{name}.bias"]).transpose(0, 3, 1, 2)
