"""The loss of one step of training: the largest, the smallest and random subnets on one batch.

A torch module, so that torch's DistributedDataParallel can share a batch among processes: one
forward pass computes all subnets, one backward pass reaches every weight. Needs torch.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from codesign.models.supernet import elastic
from codesign.models.zoo.model_config import Layer, TextConfig


class Sandwich(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """Weights of the largest network by name, and the losses of a step (BigNAS, arXiv 2003.11142).

    With `distil`, subnets learn the largest's probabilities (in-place distillation), else the text.
    `dropout` is of the largest alone. `layer` computes one, unless it is the family's own.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        largest: TextConfig,
        *,
        distil: bool = True,
        dropout: float = 0.0,
        layer: Layer | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(weights)
        self.tensors = nn.ParameterList(weights.values())
        self.largest, self.distil, self.dropout, self.layer = largest, distil, dropout, layer

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The trained tensors by name."""
        return dict(zip(self.names, self.tensors, strict=True))

    def forward(
        self, batch: torch.Tensor, configs: Sequence[TextConfig]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of the losses of `configs`, the largest first, and each of them, on
        int64[batch, seq + 1] tokens."""
        ids, targets = batch[:, :-1], batch[:, 1:].flatten()
        losses: list[torch.Tensor] = []
        teacher: torch.Tensor | None = None
        for config in configs:
            weights = elastic.subnet(self.weights, self.largest, config)
            dropout = 0.0 if losses else self.dropout
            # Mixed precision where it is fast; losses and weights stay float32.
            with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
                logits = config.forward(weights, ids, dropout, self.layer)
            logits = logits.flatten(0, 1).float()
            losses.append(F.cross_entropy(logits, targets if teacher is None else teacher))
            if self.distil and teacher is None:
                teacher = logits.detach().softmax(-1)
        each = torch.stack(losses)
        return each.mean(), each.detach()
