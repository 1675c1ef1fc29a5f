"""The float constants of the graph's operators: what a kernel multiplies and adds.

`probe` finds them in a model, `quantize` turns them into integers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """y[m, n] = x[first_row : first_row + m] @ weights[k, n] + bias[n]."""

    weights: Floats
    bias: Floats
    first_row: int = 0


@dataclass(frozen=True)
class NormConstants:
    """A norm's gamma and beta, [columns]."""

    gamma: Floats
    beta: Floats


@dataclass(frozen=True)
class Scores:
    """What a softmax reads: factor * its input plus a mask; `tensor` is their sum's name in the file."""

    factor: float
    tensor: str
    causal: bool = False
    keys_hidden: bool = False  # the mask adds to each key by itself
    matrix: Floats | None = None  # added [queries, heads * keys] in the first sample, -inf: hidden
    computed: bool = False  # the mask depends on the model's inputs


@dataclass(frozen=True)
class Constants:
    """By operator name. `factors` are those of a sum's operands, an activation's, or a product's;
    `limits` what the outputs of a relu reach at most, where it has a limit.
    """

    linear: Mapping[str, Linear] = field(default_factory=dict)
    affine: Mapping[str, NormConstants] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)  # by the softmax
    operand: Mapping[str, Floats] = field(default_factory=dict)  # matrices added by a sum
    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    angles: Mapping[str, Floats] = field(
        default_factory=dict
    )  # cosines and sines [rows, 2, columns]
    clips: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the host's
    unfit: Mapping[str, str] = field(default_factory=dict)  # why the machine's unit is no good
