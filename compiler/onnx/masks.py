"""What is added to attention scores: masks, which only hide some of them, and biases.

A bias is a matrix of its own values for every query and key, as relative positions are (T5, Swin,
ALiBi). Constants are told apart by their values, or by their shape when those are not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from codesign.compiler.onnx.diagonals import diagonals
from codesign.compiler.onnx.shapes import FLOAT, Node, Tensor
from codesign.hw.machine.arithmetic import Bools

_STRIP = 1 << 22  # elements of a mask that are looked at together
_HIDDEN = 1e3  # a score lowered by this has no probability left; masks use 1e4, float's lowest, inf
_SUMS = frozenset({"Add", "Sub", "Sum", "Where"})
_CONDITIONS = frozenset({"And", "Or"})
_VIEWS = frozenset({"Cast", "Expand", "Slice", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class MaskContent:
    """What a tensor holds when it is added to scores."""

    causal: bool = False  # it hides what is above the lower triangle
    bias_elements: int = 0


def summands(node: Node) -> tuple[str, ...]:
    """Return the inputs that a result is the sum of, or (Where) chosen from, or a view of."""
    if node.domain or node.op_type not in _SUMS | _VIEWS:
        return ()
    return node.inputs if node.op_type in _SUMS else node.inputs[:1]


def constant_content(tensor: Tensor, parts: Sequence[MaskContent]) -> MaskContent:
    """Return what a constant holds, whose summands hold `parts`.

    A bias counts before it is broadcast, over a batch for one. A constant too large to be read
    holds what it is the sum of; without summands it is a bias if it has rows for each query.
    """
    added = max((part.bias_elements for part in parts), default=0)
    if tensor.value is None:
        causal = any(part.causal for part in parts)
        bias = added if parts else tensor.elements
    else:
        causal = lower_triangle(tensor.value)
        free = causal or _same_rows(tensor.value)  # row numbers, or a record a key, hide as much
        bias = 0 if free and _only_hides(tensor.value) else added or tensor.elements
    return MaskContent(causal, min(bias, tensor.elements) if _has_rows(tensor) else 0)


def computed_content(
    node: Node, given: Mapping[str, MaskContent], constants: Sequence[str], result: Tensor
) -> MaskContent:
    """Return what a node on token or mask inputs computes, from what its inputs hold.

    Of its `constants` a bias counts only where it is added: factors are not.
    """
    added = [
        content.bias_elements
        for name, content in given.items()
        if name not in constants or name in summands(node) or node.op_type in _CONDITIONS
    ]
    bias = min(max(added, default=0), result.elements) if _has_rows(result) else 0
    return MaskContent(any(content.causal for content in given.values()), bias)


def lower_triangle(value: np.ndarray[Any, Any]) -> bool:
    """True when a constant mask lets each query see the keys up to its own and no later ones."""
    if value.ndim < 2 or min(value.shape[-2:]) < 2:
        return False
    rows, cols = value.shape[-2:]
    closed, opened = value[..., 0, -1].flat[0], value[..., -1, 0].flat[0]
    # Most constants are no masks: the last key of the first query tells.
    if closed == opened or cols < rows:
        return False
    hidden = keeps = value.dtype.kind == "f"  # by what is far below 0, and by nothing that is
    equal = True
    for future, strip in _futures(value):
        late, early = strip[..., future], strip[..., ~future]
        equal &= bool((late == closed).all() and (early == opened).all())
        if hidden:
            hidden = bool((late <= -_HIDDEN).all())
            keeps &= bool((early > -_HIDDEN).all())
        if not (equal or hidden):
            return False
    return keeps if hidden else equal


def hides(value: np.ndarray[Any, Any] | None) -> bool:
    """True where a constant hides what it is added to: it is a mask and no bias, of keys alone too."""
    if value is None or value.dtype.kind != "f":
        return False
    return any((strip <= -_HIDDEN).any() for _, strip in _strips(value))


def any_but_zero(value: np.ndarray[Any, Any]) -> bool:
    """True when adding a constant changes something."""
    return any(strip.any() for _, strip in _strips(value))


def _only_hides(value: np.ndarray[Any, Any]) -> bool:
    """True for 0 and what hides, of either sign: a mask may be subtracted; and for booleans."""
    if value.dtype == np.bool_:
        return True
    return all(((x == 0) | (np.abs(x) >= _HIDDEN)).all() for _, x in _strips(value))


def _same_rows(value: np.ndarray[Any, Any]) -> bool:
    """True when every query sees the same keys."""
    numbers = diagonals(value)
    if numbers is not None:
        return bool((numbers == numbers[0]).all())
    return value.ndim < 2 or all((x == value[..., :1, :]).all() for _, x in _strips(value))


def _futures(value: np.ndarray[Any, Any]) -> Iterator[tuple[Bools, np.ndarray[Any, Any]]]:
    """A constant [.., queries, keys] in pieces, and what of each is behind its query."""
    rows, cols = value.shape[-2:]
    if diagonals(value) is not None:
        ((_, numbers),) = _strips(value)
        yield np.arange(1 - rows, cols) > cols - rows, numbers
        return
    for first, strip in _strips(value):
        queries = cols - rows + first + np.arange(strip.shape[-2])
        yield np.arange(cols) > queries[:, np.newaxis], strip


def _strips(value: np.ndarray[Any, Any]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """A constant some queries at a time, and the first of them, since what is asked of a large mask takes
    several times its memory; of a view of diagonals those, whose numbers it shows."""
    numbers = diagonals(value)
    if numbers is not None or value.ndim < 2:
        yield 0, value if numbers is None else numbers
        return
    rows = max(1, _STRIP * value.shape[-2] // max(1, value.size))
    for first in range(0, value.shape[-2], rows):
        yield first, value[..., first : first + rows, :]


def _has_rows(tensor: Tensor) -> bool:
    """True for floats and conditions that may differ from query to query."""
    return (
        tensor.dtype in (FLOAT, TensorProto.BOOL) and len(tensor.shape) > 1 and tensor.shape[-2] > 1
    )
