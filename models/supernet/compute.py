"""Where a training is computed, which changes its results by rounding alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Compute:
    """`ranks` processes share every batch, with a GPU each where `device` is cuda."""

    device: str = "cpu"  # as torch names it
    ranks: int = 1
    compiled: bool = False  # layers by torch.compile


CPU = Compute()
