"""Model families to ONNX, written with onnx.helper: no training framework is needed.

The graphs are what a good exporter writes: MatMul + Add projections, LayerNormalization from opset
17, Gelu from opset 20 (decomposed before), attention masks as inputs or constants.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import write_together
from codesign.hw.platform.text import said
from codesign.models.zoo.model_config import LARGEST_EXTENT, ModelConfig
from codesign.models.zoo.onnx_builder import Array, GraphBuilder
from codesign.models.zoo.parameters import LARGEST_FILE_BYTES, Shape
from codesign.models.zoo.weights import Weights, draw, parameter_shapes

OLDEST_OPSET = 13  # Softmax over one axis, axes of Squeeze and Unsqueeze as inputs
NEWEST_OPSET = 23


def export(
    config: ModelConfig,
    *,
    batch: int | None = 1,
    seq: int | None = 128,
    opset: int = 17,
    seed: int = 0,
    weights: Weights | Literal["random", "splat"] = "random",
) -> onnx.ModelProto:
    """Return `config` as an ONNX model with float32 weights; None makes an axis dynamic.

    `seq` is the sequence length in tokens (vision models take theirs from the image). `weights`
    are drawn from `seed` ("random"), given by name as in `parameter_shapes`, or "splat": every
    matrix is a ConstantOfShape node, so that the model is valid and runs but is a few kilobytes;
    enough for pricing, which needs shapes alone; vectors are no random ones either. Raises
    ModelError when the opset, a size or the weights do not fit.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelError(
            f"opset {opset} is not supported: choose from {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    for name, size in (("batch", batch), ("seq", seq)):
        if size is not None and size < 1:
            raise ModelError(f"{name} is {size} but must be at least 1, or None for a dynamic axis")
        if size is not None and size > LARGEST_EXTENT:
            raise ModelError(f"{name} {said(size)} is beyond {LARGEST_EXTENT:,}: give less")
    shapes = parameter_shapes(config)
    builder = GraphBuilder(opset, shapes, _source(config, shapes, weights, seed))
    config.build(builder, batch, seq)
    return builder.model(config.name)


def save(
    model: onnx.ModelProto, path: Path | str, beside: Mapping[Path, bytes] | None = None
) -> None:
    """Write `model` to `path`, and the contents of the files `beside`: all whole, or nothing at all.

    Raises ModelError when one is not writable.
    """
    try:
        write_together({**(beside or {}), Path(path): model.SerializeToString()})
    except OSError as error:
        raise ModelError(
            f"cannot write {error.filename or path}: {error.strerror}; choose a file in a folder that exists, is "
            "writable and has space"
        ) from error


def _source(
    config: ModelConfig,
    shapes: dict[str, Shape],
    weights: Weights | Literal["random", "splat"],
    seed: int,
) -> Callable[[str], Array | None]:
    """Return where the builder takes a weight's value from."""
    size_bytes = 4 * sum(math.prod(shape) for shape in shapes.values())
    if weights != "splat" and size_bytes > LARGEST_FILE_BYTES:
        raise ModelError(
            f"{config.name} has {size_bytes / 1e9:.1f} GB of weights but an ONNX file holds "
            f'{LARGEST_FILE_BYTES / 1e9:.1f} GB: export it with weights="splat"'
        )
    if not isinstance(weights, str):
        _check_weights(config, shapes, weights)
        given = weights
        return lambda name: np.ascontiguousarray(given[name], np.float32)

    def value(name: str) -> Array | None:
        if weights == "splat":
            return None if len(shapes[name]) > 1 else _wave(name, *shapes[name])
        return draw(config, name, shapes[name], seed)

    return value


def _wave(name: str, size: int) -> Array:
    """Float32 values about 0, of a gamma about 1, without numpy's generators, which are slow to load."""
    values = 0.1 * np.cos(np.arange(size) + zlib.crc32(name.encode()))
    return (values + name.endswith(".gamma")).astype(np.float32)


def _check_weights(config: ModelConfig, shapes: dict[str, Shape], weights: Weights) -> None:
    wrong = [f"{name} is missing" for name in shapes if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in shapes]
    wrong += [
        f"{name} is {list(weights[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    if wrong:
        raise ModelError(f"weights do not fit {config.name}: " + "; ".join(wrong))
