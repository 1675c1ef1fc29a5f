"""Networks of every size of a family in one set of weights, in torch: what training computes with.

A shared set has the names and shapes of `weights.parameter_shapes` for the largest network. A smaller one
takes parts of them as its family says (`part_of`): `subnet` slices, and the family's `forward` computes as
the exported graph does, so that `export(config, weights=arrays(subnet(...)))` is the same network as
ONNX. A single architecture is a set of which only the whole is used. Needs torch, of the [train] extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.zoo.model_config import Tensors, TextConfig
from codesign.models.zoo.weights import parameter_shapes

if TYPE_CHECKING:
    import torch


def initial(config: TextConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return float32 parameters to train, by name.

    Matrices are normal, with the deviation that their family gives; gamma is 1, biases and beta 0. They
    depend on the arguments alone.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        if len(shape) == 1:
            value = torch.full(shape, 1.0 if name.endswith(".gamma") else 0.0)
        else:
            deviation = config.initial_deviation(name, shape)
            value = torch.randn(shape, generator=generator) * deviation
        weights[name] = value.requires_grad_()
    return weights


def subnet(shared: Tensors, largest: TextConfig, config: TextConfig) -> Tensors:
    """Return the weights of `config` by name: slices of `shared`, the weights of `largest`.

    Raises ModelError naming what of `config` is not within `largest`.
    """
    wrong = list(_outside(largest, config))
    if wrong:
        raise ModelError(f"no subnet of {largest.name}: " + "; ".join(wrong))
    if config == largest:
        return shared
    return {
        name: config.part_of(name, shared[name], shape, largest)
        for name, shape in parameter_shapes(config).items()
    }


def arrays(weights: Tensors) -> dict[str, npt.NDArray[np.float32]]:
    """Return weights as `export` and `reference` take them."""
    return {name: value.detach().cpu().float().numpy() for name, value in weights.items()}


def _outside(largest: TextConfig, config: TextConfig) -> Iterator[str]:
    """The values on axes that exceed the largest's, and what else is not the same."""
    for axis in config.axes():
        value, most = config.chosen[axis.name], largest.chosen[axis.name]
        if axis.scope == "layer":
            for layer, (a, b) in enumerate(zip(value, most, strict=False)):
                if a > b:
                    yield f"{axis.name} {a} exceeds {b} in layer {layer}"
        elif value > most:
            exceeds = (
                f"{value} {axis.name} exceed"
                if axis.scope == "depth"
                else f"{axis.name} {value} exceeds"
            )
            yield f"{exceeds} {most}"
    free = {"name", *(axis.name for axis in config.axes())}
    for field, value in vars(config).items():
        if field not in free and value != vars(largest)[field]:
            yield f"{field} is {value}, not {vars(largest)[field]}"
