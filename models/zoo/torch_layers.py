"""Pieces of networks in torch, with weights as `parameters` names them; as the exported graphs have them.

Needs torch, of the [train] extra.
"""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

EPSILON = 1e-5  # of the LayerNorms

Tensors = Mapping[str, torch.Tensor]


def projected(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    """A projection with its bias."""
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def normalized(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    """A LayerNorm."""
    gamma, beta = weights[f"{name}.gamma"], weights[f"{name}.beta"]
    return F.layer_norm(x, gamma.shape, gamma, beta, EPSILON)


def dropped(x: torch.Tensor, dropout: float) -> torch.Tensor:
    """Dropout, if any."""
    return F.dropout(x, dropout) if dropout else x


def by_layer(weights: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """Weights by the layer that their names begin with."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = value
    return parts
