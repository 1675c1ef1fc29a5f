"""A checkpoint of llama2.c (github.com/karpathy/llama2.c, its first format) as a LlamaConfig and weights.

Seven int32 and float32 matrices [out, in], little endian; a vocabulary below 0 says that the head is a
matrix of its own. Its rotary positions turn neighbours of a head, ours its halves: the rows of query
and key are put in the order in which both are the same function.
"""

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.zoo.llama import LlamaConfig, llama

Floats = npt.NDArray[np.float32]

HEADER = struct.Struct("<7i")
_REMEDY = "give the .bin that llama2.c writes with `export.py --version 0`"


def load_llama2c(path: Path) -> tuple[LlamaConfig, dict[str, Floats]]:
    """The decoder in the file, named after it, and float32 weights as `export` takes them.

    Raises ModelError for a file that cannot be read or is no such checkpoint.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}: {_REMEDY}") from error
    config = _configuration(path, data)
    stored = _stored(config)
    count = (len(data) - HEADER.size) // 4
    wanted = sum(map(math.prod, stored.values()))
    if (len(data) - HEADER.size) % 4 or count != wanted:
        raise ModelError(
            f"{path} has {len(data):,} bytes, but {HEADER.size + 4 * wanted:,} by its first numbers: {_REMEDY}"
        )
    values = np.frombuffer(data, "<f4", offset=HEADER.size)
    if not np.isfinite(values).all():
        raise ModelError(f"{path} has weights that are not finite: {_REMEDY}")
    weights: dict[str, Floats] = {}
    start = 0
    for name, shape in stored.items():
        end = start + math.prod(shape)
        part = values[start:end].reshape(shape)
        start = end
        if "{}" in name:
            weights |= {name.format(i): _ours(config, name, part[i]) for i in range(config.layers)}
        elif not name.startswith("rotary"):
            weights[name] = _ours(config, name, part)
    return config, weights


def _configuration(path: Path, data: bytes) -> LlamaConfig:
    if len(data) < HEADER.size:
        raise ModelError(f"{path} ends before its {HEADER.size} bytes of sizes: {_REMEDY}")
    d_model, d_ff, layers, heads, kv_heads, vocabulary, positions = HEADER.unpack_from(data)
    try:
        return llama(
            path.stem, layers, d_model, heads=heads, kv_heads=kv_heads, d_ff=d_ff,
            vocab_size=abs(vocabulary), max_positions=positions, tied=vocabulary > 0,
        )  # fmt: skip
    except ModelError as error:
        raise ModelError(f"{path} is no llama2.c checkpoint: {error}: {_REMEDY}") from error


def _stored(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Shapes in the order of the file; names with {} are of all layers."""
    d, layers, d_ff = config.d_model, config.layers, config.d_ff
    shared = config.kv_heads * config.head_dim
    attention, ffn = "layer{}.attention", "layer{}.ffn"
    table = (config.max_positions, config.head_dim // 2)
    stored: dict[str, tuple[int, ...]] = {
        "embeddings.word": (config.vocab_size, d),
        f"{attention}.norm.gamma": (layers, d),
        f"{attention}.query.weight": (layers, d, d),
        f"{attention}.key.weight": (layers, shared, d),
        f"{attention}.value.weight": (layers, shared, d),
        f"{attention}.output.weight": (layers, d, d),
        f"{ffn}.norm.gamma": (layers, d),
        f"{ffn}.gate.weight": (layers, d_ff, d),
        f"{ffn}.down.weight": (layers, d, d_ff),
        f"{ffn}.up.weight": (layers, d_ff, d),
        "norm.gamma": (d,),
        "rotary.cos": table,  # which nothing reads: they follow from the positions
        "rotary.sin": table,
    }
    return stored if config.tied else {**stored, "head.weight": (config.vocab_size, d)}


def _ours(config: LlamaConfig, name: str, value: Floats) -> Floats:
    """One of its arrays as ours: matrices [in, out], the halves of a head as pairs."""
    if not name.endswith(".weight"):
        return value
    if ".query." in name or ".key." in name:
        pairs = value.reshape(-1, config.head_dim // 2, 2, config.d_model)
        value = pairs.swapaxes(1, 2).reshape(value.shape)
    return np.ascontiguousarray(value.T)
