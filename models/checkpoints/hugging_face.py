"""A trained checkpoint folder as a model family: its configuration, and its weights by our names.

The folder holds what Hugging Face's `save_pretrained` writes (config.json and model.safetensors) for
an architecture of `layouts`; `export` takes both results. Needs the package safetensors.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError, UnsupportedError
from codesign.hw.platform.installation import install_command
from codesign.models.checkpoints.layouts import LAYOUTS, Layout, LayoutFields
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.weights import parameter_shapes

Floats = npt.NDArray[np.float32]
Read = Callable[[str], Floats]

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
# What mends a folder that holds something else.
_SAVE = "save the model there with save_pretrained"
_EXPORT = "export the model to ONNX with the framework it comes from and give that file instead"


def load_checkpoint(folder: Path) -> tuple[ModelConfig, dict[str, Floats]]:
    """The configuration in `folder`, named after it, and float32 weights as `export` takes them.

    Raises ModelError for a file or tensor that is missing, damaged or of another shape, and
    UnsupportedError for another architecture.
    """
    layout, config = _configuration(folder)
    path = folder / WEIGHTS_FILE
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ModelError(f"reading {path} needs safetensors: {install_command('run')}") from error
    try:
        with safe_open(path, framework="numpy") as file:
            return config, _weights(layout, config, path, set(file.keys()), file.get_tensor)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing: checkpoints are read as one {WEIGHTS_FILE}: {_SAVE}, unsharded"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, TypeError) as error:  # TypeError: numpy has no such dtype
        raise ModelError(f"{path} cannot be used: {error}: save it again as float32") from error


def _configuration(folder: Path) -> tuple[Layout, ModelConfig]:
    path = folder / CONFIG_FILE
    fields = _fields(path)
    layout = LAYOUTS.get(fields["model_type"])
    if layout is None:
        raise UnsupportedError(
            f"{path}: model_type is {fields['model_type']!r}, not {' or '.join(map(repr, LAYOUTS))}: {_EXPORT}"
        )
    missing = [field for field in layout.sizes.values() if field not in fields]
    if missing:
        raise ModelError(f"{path} lacks {', '.join(missing)}")
    for field in layout.sizes.values():
        if type(fields[field]) is not int or fields[field] < 1:
            raise ModelError(f"{path}: {field} is {fields[field]!r}, no positive whole number")
    other = list(layout.violations(fields))
    if other:
        raise UnsupportedError(
            f"{path}: such a {fields['model_type']} is not supported: {'; '.join(other)}: {_EXPORT}"
        )
    sizes = {ours: fields[theirs] for ours, theirs in layout.sizes.items()}
    return layout, layout.config(folder.resolve().name, sizes, fields)


def _fields(path: Path) -> LayoutFields:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}: {_SAVE}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}: {_SAVE}") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise ModelError(f"{path} names no model_type: no checkpoint's configuration: {_SAVE}")
    return found


def _weights(
    layout: Layout, config: ModelConfig, path: Path, names: set[str], read: Read
) -> dict[str, Floats]:
    shapes = parameter_shapes(config)
    first = layout.prefix + layout.name(next(iter(shapes)))
    prefix = layout.prefix if first in names else ""
    theirs = {ours: prefix + layout.name(ours) for ours in shapes}
    missing = [name for name in theirs.values() if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise ModelError(f"{path} lacks {missing[0]}{more}: it is not the whole of this model")
    _check_depth(layout, config, path, names)
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


def _check_depth(layout: Layout, config: Any, path: Path, names: set[str]) -> None:
    """Weights beyond the configured layers mean that configuration and weights do not belong together."""
    layers = layout.depth(names)
    if layers > config.layers:
        raise ModelError(
            f"{path} has {layers} layers, but num_hidden_layers is {config.layers} by {CONFIG_FILE}: "
            f"set that to {layers}, or remove the weights of the others"
        )
