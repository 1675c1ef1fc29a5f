"""Parameters of a model configuration: their names and shapes, their count, random values.

Projections are stored [in, out], so that y = x @ W + b; convolutions [out, in, height, width].
The names and shapes are what `export` and `reference` accept, so trained parameters in this form
can replace random ones.
"""

import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from codesign.models.zoo.families import (
    BertConfig,
    DecoderConfig,
    ModelConfig,
    ResnetConfig,
    T5Config,
    VitConfig,
)

Weights = Mapping[str, npt.NDArray[np.float32]]
Shape = tuple[int, ...]
Entry = tuple[str, Shape]


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every parameter by name, in the order of the data."""
    match config:
        case BertConfig():
            return dict(_bert(config))
        case DecoderConfig():
            return dict(_decoder(config))
        case T5Config():
            return dict(_t5(config))
        case VitConfig():
            return dict(_vit(config))
        case ResnetConfig():
            return dict(_resnet(config))


def parameter_count(config: ModelConfig) -> int:
    """Return the number of parameters, tied matrices counted once."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def draw(name: str, shape: Shape, seed: int) -> npt.NDArray[np.float32]:
    """Return random float32 values for the parameter `name`; they depend on the arguments alone.

    Matrices are normal with variance 1 / fan-in, which keeps activations near unit scale at any
    width. Vectors are drawn too (gamma about 1, biases and beta about 0), unlike at the start of
    training, so that every parameter matters to the result.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(_deviation(name, shape))
    if name.endswith(".gamma"):
        values += 1
    return values


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return random float32 parameters, the ones that `export` draws for the same seed."""
    return {name: draw(name, shape, seed) for name, shape in parameter_shapes(config).items()}


def _deviation(name: str, shape: Shape) -> float:
    kind = name.rsplit(".", 1)[-1]
    if kind in ("gamma", "beta", "bias"):
        return 0.1
    if kind in ("word", "relative_bias"):
        return 1.0
    if kind in ("position", "token_type", "class_token"):
        return 0.5
    fan_in = math.prod(shape[1:]) if len(shape) == 4 else shape[0]
    if name.startswith(("encoder", "decoder")) and name.endswith("query.weight"):
        return 0.2 / math.sqrt(fan_in)  # T5 does not scale its scores: the query is small instead
    if name.endswith("conv3.weight"):
        return 0.5 / math.sqrt(fan_in)  # sixteen residual adds would double the variance each
    return 1 / math.sqrt(fan_in)


def _linear(name: str, fan_in: int, fan_out: int, bias: bool = True) -> Iterator[Entry]:
    yield f"{name}.weight", (fan_in, fan_out)
    if bias:
        yield f"{name}.bias", (fan_out,)


def _norm(name: str, width: int, beta: bool = True) -> Iterator[Entry]:
    yield f"{name}.gamma", (width,)
    if beta:
        yield f"{name}.beta", (width,)


def _attention(name: str, d_model: int, width: int, bias: bool = True) -> Iterator[Entry]:
    for projection in ("query", "key", "value"):
        yield from _linear(f"{name}.{projection}", d_model, width, bias)
    yield from _linear(f"{name}.output", width, d_model, bias)
    yield from _norm(f"{name}.norm", d_model, bias)


def _ffn(name: str, d_model: int, d_ff: int, bias: bool = True) -> Iterator[Entry]:
    yield from _linear(f"{name}.up", d_model, d_ff, bias)
    yield from _linear(f"{name}.down", d_ff, d_model, bias)
    yield from _norm(f"{name}.norm", d_model, bias)


def _bert(config: BertConfig) -> Iterator[Entry]:
    d = config.d_model
    yield "embeddings.word", (config.vocab_size, d)
    yield "embeddings.position", (config.max_positions, d)
    yield "embeddings.token_type", (config.type_vocab_size, d)
    yield from _norm("embeddings.norm", d)
    for layer in range(config.layers):
        yield from _attention(f"layer{layer}.attention", d, d)
        yield from _ffn(f"layer{layer}.ffn", d, config.d_ff)
    yield from _linear("pooler", d, d)


def _decoder(config: DecoderConfig) -> Iterator[Entry]:
    d = config.d_model
    yield "embeddings.word", (config.vocab_size, d)
    yield "embeddings.position", (config.max_positions, d)
    for layer, (heads, d_ff) in enumerate(zip(config.heads, config.d_ff, strict=True)):
        yield from _attention(f"layer{layer}.attention", d, heads * config.head_dim)
        yield from _ffn(f"layer{layer}.ffn", d, d_ff)
    yield from _norm("norm", d)


def _t5(config: T5Config) -> Iterator[Entry]:
    d, width = config.d_model, config.heads * config.d_kv
    yield "embeddings.word", (config.vocab_size, d)
    for stack, layers in (("encoder", config.layers), ("decoder", config.decoder_layers)):
        yield f"{stack}.relative_bias", (config.relative_buckets, config.heads)
        for layer in range(layers):
            prefix = f"{stack}.layer{layer}"
            yield from _attention(f"{prefix}.attention", d, width, bias=False)
            if stack == "decoder":
                yield from _attention(f"{prefix}.cross", d, width, bias=False)
            yield from _ffn(f"{prefix}.ffn", d, config.d_ff, bias=False)
        yield from _norm(f"{stack}.norm", d, beta=False)


def _vit(config: VitConfig) -> Iterator[Entry]:
    d = config.d_model
    yield "patch.weight", (d, 3, config.patch_size, config.patch_size)
    yield "patch.bias", (d,)
    yield "embeddings.class_token", (1, 1, d)
    yield "embeddings.position", (config.tokens, d)
    for layer in range(config.layers):
        yield from _attention(f"layer{layer}.attention", d, d)
        yield from _ffn(f"layer{layer}.ffn", d, config.d_ff)
    yield from _norm("norm", d)
    yield from _linear("head", d, config.classes)


def _conv(name: str, channels: int, filters: int, kernel: int) -> Iterator[Entry]:
    yield f"{name}.weight", (filters, channels, kernel, kernel)
    yield f"{name}.bias", (filters,)


def _resnet(config: ResnetConfig) -> Iterator[Entry]:
    yield from _conv("stem", 3, config.width, 7)
    channels = config.width
    for stage, blocks in enumerate(config.blocks):
        width = config.width << stage
        for block in range(blocks):
            prefix = f"stage{stage}.block{block}"
            yield from _conv(f"{prefix}.conv1", channels, width, 1)
            yield from _conv(f"{prefix}.conv2", width, width, 3)
            yield from _conv(f"{prefix}.conv3", width, 4 * width, 1)
            if block == 0:
                yield from _conv(f"{prefix}.shortcut", channels, 4 * width, 1)
            channels = 4 * width
    yield from _linear("classifier", channels, config.classes)
