"""A quantized network: what every kernel of a plan multiplies, adds and requantizes by, in integers.

`quantize` makes it; the DRAM image, the Program and the integer evaluation are made of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign.compiler.kernels.kernel_kind import Int8
from codesign.compiler.numerics.calibrate import LEVELS
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.numerics.masks import Mask, raised, take_apart
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.rewrite.given_scales import Codes
from codesign.hw.errors import CodesignError
from codesign.hw.machine.arithmetic import Ints

LOW_STEPS = 256  # of a remainder to one of its value
INT32 = (1 << 31) - 1


class QuantizationError(CodesignError):
    """An operator whose numbers do not fit the machine's widths."""


class ResidualError(QuantizationError):
    """A residual that is no whole number of the units of the sums it is added to; `matmul` writes them."""

    def __init__(self, matmul: str, ratio: float) -> None:
        self.matmul = matmul
        super().__init__(
            f"{matmul!r}: the residual's scale is {ratio:.3g} of its sums', no whole number that fits: "
            "calibrate on other data, or scale the weights"
        )


@dataclass(frozen=True)
class Requantizer:
    """(x * multiplier + offset) / 2^shift, or (x + offset) * multiplier / 2^shift before a function;
    arrays of one number or one per channel.
    """

    multiplier: Ints
    shift: Ints
    offset: Ints


@dataclass(frozen=True)
class Epilogue:
    """What a drain makes of sums: a requantizer, a function, and what has one a requantizer behind it.

    `scales` multiply the int8 operands that enter with the sums; `causal` limits the keys of a row;
    `second` is the requantizer of what a function takes beside the first operand.
    """

    first: Requantizer
    function: str
    last: Requantizer | None
    scales: tuple[int, int] = (1, 1)
    causal: bool = False
    second: Requantizer | None = None


@dataclass(frozen=True)
class Added:
    """What a softmax adds to its scores, beside a causal limit; `unit` is what one unit of the sums
    before it adds to a score.

    `matrix_scale`: units of a step of the int8 `matrix` [queries, heads * keys], 0 without one;
    `computed`: both are the run's.
    """

    softmax: str
    unit: float
    keys: bool = False
    matrix_scale: int = 0
    matrix: Int8 | None = None
    hidden: int = -LEVELS  # what hides a single score
    computed: bool = False


@dataclass(frozen=True)
class QuantizedStep:
    """What a kernel computes with beside tensors: an epilogue for each of its drains, and constants.

    `weights` [k, n] multiply its input from `first_row` on, `addend` [rows, columns] is a summand,
    `added` goes to the scores of its softmax; `table` [2, 2 rows, columns] are angles in two parts,
    with an `angle_step` those of one run, in fine steps of it, which every run has anew.
    """

    epilogues: tuple[Epilogue, ...]
    weights: Int8 | None = None
    addend: Int8 | None = None
    first_row: int = 0
    added: Added | None = None
    table: Int8 | None = None
    angle_step: float = 0.0


@dataclass(frozen=True)
class Quantized:
    """The steps of a plan by index, and the scale of every int8 tensor: [1] or [columns].

    `given`: the codes of tensors that a file or a clamp settles; those go from -128 to 127, all
    others from -127 on.
    """

    steps: Mapping[int, QuantizedStep]
    scales: Mapping[str, Floats]
    given: Mapping[str, Codes] = field(default_factory=dict)
    dead: tuple[str, ...] = ()  # tensors that calibration saw nothing but 0 of

    def codes(self, tensor: str, values: Array) -> Int8:
        """The codes of a tensor's values, to nearest even and clamped."""
        given = self.given.get(tensor)
        if given is None:
            return to_int8(values, self.scales[tensor])
        codes = np.round(values / self.scales[tensor]) + given.zero
        return np.clip(codes, given.first, given.last).astype(np.int8)

    def remainder(self, tensor: str, values: Array, codes: Array) -> Int8:
        """What codes leave of the values, in steps LOW_STEPS times finer."""
        return to_int8(values - self.values(tensor, codes), self.scales[tensor] / LOW_STEPS)

    def values(self, tensor: str, codes: Array) -> Floats:
        """What the codes of a tensor stand for."""
        return np.asarray((codes.astype(np.float64) - self.zero(tensor)) * self.scales[tensor])

    def zero(self, tensor: str) -> int:
        """The code that stands for 0."""
        given = self.given.get(tensor)
        return 0 if given is None else given.zero


def to_int8(values: Any, scale: Floats | float) -> Int8:
    """Values in units of `scale`, to nearest even and clamped to +-127."""
    return np.clip(np.round(np.asarray(values) / scale), -LEVELS, LEVELS).astype(np.int8)


def mask_of(added: Added, causal: bool, values: Floats) -> Mask:
    """The integers of `values` [heads, queries, keys], added to the scores of one run.

    Raises QuantizationError for a mask without matrix that is not the same for every query, but for
    those from which it hides every key: see `hidden_rows.astray`.
    """
    apart = take_apart(raised(values), causal, added.matrix_scale > 0)
    if apart is None:
        apart = take_apart(values, causal, added.matrix_scale > 0)
    if apart is None:
        raise QuantizationError(
            f"softmax {added.softmax!r}: its mask differs from query to query; only causal masks "
            "and masks over keys run on the machine"
        )
    units = np.clip(np.nan_to_num(apart.keys / added.unit), -INT32, INT32)
    offsets: Ints = np.round(units).astype(np.int64)
    if not added.matrix_scale:
        return Mask(offsets if added.keys else None)
    flat = apart.matrix.transpose(1, 0, 2).reshape(values.shape[1], -1)
    return Mask(offsets if added.keys else None, matrix_of(added, flat))


def matrix_of(added: Added, values: Floats) -> Int8:
    """The int8 matrix of `values`, which are -inf where single scores are hidden."""
    shown = np.where(np.isfinite(values), values, 0.0)
    found = to_int8(shown, added.unit * added.matrix_scale)
    hidden: Int8 = np.where(np.isfinite(values), found, added.hidden).astype(np.int8)
    return hidden
