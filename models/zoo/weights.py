"""Parameters of a model configuration: their shapes, their count, random values.

The names and shapes are what `export` accepts, so trained parameters in this form can replace
random ones.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.parameters import Shape

Weights = Mapping[str, npt.NDArray[np.float32]]


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every parameter by name, in the order of the data."""
    return dict(config.parameters())


def parameter_count(config: ModelConfig) -> int:
    """Return the number of parameters, tied matrices counted once."""
    return sum(math.prod(shape) for _, shape in config.parameters())


def draw(config: ModelConfig, name: str, shape: Shape, seed: int) -> npt.NDArray[np.float32]:
    """Return random float32 values for a parameter; they depend on the arguments alone.

    Matrices are normal with variance 1 / fan-in, which keeps activations near unit scale at any
    width, unless the family says otherwise. Vectors are drawn too (gamma about 1, biases and beta
    about 0), unlike at the start of training, so that every parameter matters to the result.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(config.deviation(name, shape) or _deviation(name, shape))
    if name.endswith(".gamma"):
        values += 1
    return values


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return random float32 parameters, the ones that `export` draws for the same seed."""
    return {name: draw(config, name, shape, seed) for name, shape in config.parameters()}


def _deviation(name: str, shape: Shape) -> float:
    kind = name.rsplit(".", 1)[-1]
    if kind in ("gamma", "beta", "bias"):
        return 0.1
    if kind in ("word", "relative_bias"):
        return 1.0
    if kind in ("position", "token_type", "class_token"):
        return 0.5
    fan_in = math.prod(shape[1:]) if len(shape) == 4 else shape[0]
    return 1 / math.sqrt(fan_in)
