"""A trained checkpoint folder as a model family: its configuration, and its weights by our names.

The folder holds what Hugging Face's `save_pretrained` writes for a BERT encoder (config.json and
model.safetensors); `export` takes both results. Needs the package safetensors.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError, UnsupportedError
from codesign.hw.platform.installation import install_command
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.weights import parameter_shapes

Floats = npt.NDArray[np.float32]
Read = Callable[[str], Floats]

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
# What mends a folder that holds something else.
_SAVE = "save the model there with save_pretrained"
_EXPORT = "export the model to ONNX with the framework it comes from and give that file instead"
EPSILON = 1e-12  # of the LayerNorms that `export` writes

# Fields of BertConfig by their names in config.json.
_SIZES = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
}
# What else decides what the network computes, and the only value that is supported; absent means it.
_FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": EPSILON,
    "is_decoder": False,
}
# Parts of a parameter's name: ours, theirs. Their matrices are [out, in].
_OUTER = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "ffn.up": "intermediate.dense",
    "ffn.down": "output.dense",
    "ffn.norm": "output.LayerNorm",
}
_KIND = {"gamma": "weight", "beta": "bias"}


def load_checkpoint(folder: Path) -> tuple[BertConfig, dict[str, Floats]]:
    """The configuration in `folder`, named after it, and float32 weights as `export` takes them.

    Raises ModelError for a file or tensor that is missing, damaged or of another shape, and
    UnsupportedError for another architecture.
    """
    config = _configuration(folder)
    path = folder / WEIGHTS_FILE
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ModelError(f"reading {path} needs safetensors: {install_command('run')}") from error
    try:
        with safe_open(path, framework="numpy") as file:
            return config, _weights(config, path, set(file.keys()), file.get_tensor)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing: checkpoints are read as one {WEIGHTS_FILE}: {_SAVE}, unsharded"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, TypeError) as error:  # TypeError: numpy has no such dtype
        raise ModelError(f"{path} cannot be used: {error}: save it again as float32") from error


def _configuration(folder: Path) -> BertConfig:
    path = folder / CONFIG_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}: {_SAVE}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}: {_SAVE}") from error
    if not isinstance(found, dict) or "model_type" not in found:
        raise ModelError(f"{path} names no model_type: no checkpoint's configuration: {_SAVE}")
    other = [
        f"{field} is {found[field]!r}, not {value!r}"
        for field, value in _FIXED.items()
        if found.get(field, value) != value
    ]
    if other:
        raise UnsupportedError(
            f"{path}: only BERT encoders are supported: {'; '.join(other)}: {_EXPORT}"
        )
    missing = [field for field in _SIZES.values() if field not in found]
    if missing:
        raise ModelError(f"{path} lacks {', '.join(missing)}")
    for field in _SIZES.values():
        if type(found[field]) is not int or found[field] < 1:
            raise ModelError(f"{path}: {field} is {found[field]!r}, no positive whole number")
    sizes: Mapping[str, Any] = {ours: found[theirs] for ours, theirs in _SIZES.items()}
    return BertConfig(folder.resolve().name, **sizes)


def _weights(config: BertConfig, path: Path, names: set[str], read: Read) -> dict[str, Floats]:
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in names else ""
    shapes = parameter_shapes(config)
    theirs = {ours: prefix + _their_name(ours) for ours in shapes}
    missing = [name for name in theirs.values() if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise ModelError(f"{path} lacks {missing[0]}{more}: it is not the whole of this BERT")
    _check_depth(config, path, names)
    weights = {}
    for ours, shape in shapes.items():
        value = read(theirs[ours])
        stored = shape[::-1] if ours.endswith(".weight") else shape
        if value.shape != stored:
            raise ModelError(
                f"{path}: {theirs[ours]} is {list(value.shape)}, but {list(stored)} by {CONFIG_FILE}"
            )
        value = value.T if ours.endswith(".weight") else value
        weights[ours] = np.ascontiguousarray(value, dtype=np.float32)
    return weights


def _check_depth(config: BertConfig, path: Path, names: set[str]) -> None:
    """Weights beyond the configured layers mean that configuration and weights do not belong together."""
    found = (re.match(r"(?:bert\.)?encoder\.layer\.(\d+)\.", name) for name in names)
    layers = 1 + max(int(match[1]) for match in found if match)
    if layers > config.layers:
        raise ModelError(
            f"{path} has {layers} layers, but num_hidden_layers is {config.layers} by {CONFIG_FILE}: "
            f"set that to {layers}, or remove the weights of the others"
        )


def _their_name(ours: str) -> str:
    """The checkpoint's name of one of our parameters."""
    if ours in _OUTER:
        return _OUTER[ours]
    part, _, kind = ours.rpartition(".")
    kind = _KIND.get(kind, kind)
    if part in _OUTER:
        return f"{_OUTER[part]}.{kind}"
    layer, _, part = part.partition(".")
    return f"encoder.layer.{layer.removeprefix('layer')}.{_LAYER[part]}.{kind}"
