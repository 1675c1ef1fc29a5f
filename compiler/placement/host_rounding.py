"""What int8 rounding does to operators of the host that have no bound: quotients, logarithms, powers.

A divisor that the float model never has at 0 may be 0 in int8, and near 0 its rounding is as large as
itself. Both are looked for where the host computes, on the values that it computes with, and said.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, Part, needed

MOVED = 0.5  # of a value, by its rounding: it is a code of 0 away
LISTED = 3  # operators that a note names
# The operand near 0 of which an operator has no bound: its numbers, or the lengths of its rows.
_WITHOUT_BOUND = {"Div": 1, "Log": 0, "LpNormalization": 0, "Pow": 0, "Reciprocal": 0}


class Watch(Protocol):
    """Is called with each piece of the host's: the tensors between which it lies, and the values of all
    that it was given and that it made.
    """

    def __call__(
        self, given: Sequence[str], wanted: Sequence[str], known: Feeds, found: Feeds
    ) -> None: ...


@dataclass
class NotFinite:
    """Names the operators of the host that make values not finite where the float model's are."""

    model: FloatModel
    feeds: Feeds
    operators: dict[str, None] = field(default_factory=dict)

    def __call__(
        self, given: Sequence[str], wanted: Sequence[str], known: Feeds, found: Feeds
    ) -> None:
        """Add those of one piece."""
        broken = [name for name, value in found.items() if not _finite(value)]
        if broken:
            exact = self.model.part((), broken)(self.feeds)
            if any((np.isfinite(exact[n]) & ~np.isfinite(found[n])).any() for n in broken):
                self.operators |= dict.fromkeys(breaking(self.model, given, wanted, known))


def breaking(
    model: FloatModel, given: Sequence[str], wanted: Sequence[str], known: Feeds
) -> tuple[str, ...]:
    """The operators between tensors that make values not finite of such as are."""
    nodes = list(_nodes(model, given, wanted))
    made = tuple(name for node in nodes for name in node.output if name)
    values = {**known, **Part(model, tuple(given), made)(known)}
    return tuple(
        _title(node)
        for node in nodes
        if not all(_finite(values[name]) for name in node.output if name)
        and all(_finite(values[name]) for name in node.input if name in values)
    )


@dataclass
class Amplified:
    """Names the operators of the host that take values near 0 whose rounding they have no bound on."""

    model: FloatModel
    feeds: Feeds
    operators: dict[str, None] = field(default_factory=dict)

    def __call__(
        self, given: Sequence[str], wanted: Sequence[str], known: Feeds, found: Feeds
    ) -> None:
        """Add those of one piece."""
        operands = without_bound(self.model, given, wanted)
        names = tuple(dict.fromkeys(operand for _, operand in operands.values()))
        if not names:
            return
        rounded = self.model.part(tuple(given), names)(known)
        exact = self.model.part((), names)(self.feeds)
        for title, (node, name) in operands.items():
            x, wide = (_divisor(node, each[name].astype(np.float64)) for each in (rounded, exact))
            with np.errstate(invalid="ignore"):  # inf - inf, of what is beyond any bound already
                moved = ~(np.abs(x - wide) < MOVED * np.abs(wide)) & (x != wide)
            if moved.any():
                self.operators[title] = None

    def note(self) -> Iterator[str]:
        """A line where there are any."""
        if self.operators:
            one = len(self.operators) == 1
            yield (
                f"the host's {first_few(self.operators)} {'takes' if one else 'take'} values within a code "
                f"of int8 of 0, whose rounding {'it amplifies' if one else 'they amplify'} without bound "
                "(a divisor or an argument that rounds to 0 gives inf): keep them away from 0 in the "
                "model, or leave this part in float"
            )


def without_bound(
    model: FloatModel, given: Collection[str], wanted: Sequence[str]
) -> dict[str, tuple[onnx.NodeProto, str]]:
    """By title the operators between tensors that have no bound near 0, and the operand of which."""
    found = {}
    for node in _nodes(model, given, wanted):
        if node.op_type in _WITHOUT_BOUND and node.domain in ("", "ai.onnx"):
            operand = node.input[_WITHOUT_BOUND[node.op_type]]
            if model.depends(operand) and (node.op_type != "Pow" or _inverse(model, node.input[1])):
                found[_title(node)] = node, operand
    return found


def _divisor(node: onnx.NodeProto, operand: Array) -> Array:
    """What an operator without bound divides by, or is one of: an operand, or the lengths of its rows."""
    if node.op_type != "LpNormalization":
        return operand
    given = {attribute.name: attribute.i for attribute in node.attribute}
    axis, order = given.get("axis", -1), given.get("p", 2)
    lengths: Array = np.linalg.norm(operand, order, axis, keepdims=True)
    return lengths


def first_few(operators: Collection[str]) -> str:
    """Titles, the first few of many."""
    names = list(operators)
    more = len(names) - LISTED
    shown = ", ".join(names[:LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def _nodes(
    model: FloatModel, given: Collection[str], wanted: Sequence[str]
) -> Iterator[onnx.NodeProto]:
    """The nodes between tensors, in the order of the data."""
    numbers, _ = needed(model, set(given), [name for name in wanted if name not in given])
    return (model.nodes[index] for index in sorted(numbers))


def _inverse(model: FloatModel, exponent: str) -> bool:
    """Whether an exponent is negative anywhere, or may be."""
    if model.depends(exponent):
        return True
    return bool((Part(model, (), (exponent,))({})[exponent] < 0).any())


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"
