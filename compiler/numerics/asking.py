"""Asking an ONNX file what an operator of the graph computes.

The piece of the file between an operator's inputs and its output is run on known matrices. Every
answer is checked on random data; a Refusal says of an operator that it is something else.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from codesign.compiler.graph import Graph, Operator
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.compiler.onnx.load import INTEGER_TYPES
from codesign.hw.errors import UnsupportedError

TOLERANCE = 1e-3  # of the largest value: float32 sums differ by less, anything else by more
WIDE = 1 << 26  # elements from which matrices stay in float32, as the scores of 4,096 tokens do
SLAB = 1 << 24  # elements that are compared at once


class Refusal(UnsupportedError):
    """An operator that a file computes otherwise than a kernel would; `reason` goes on from its name."""

    def __init__(self, op: Operator, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot quantize {op.kind} {op.name!r}: it {reason}")


class OtherOrder(Refusal):
    """Columns whose pairs do not lie side by side; they do in `order`."""

    def __init__(self, op: Operator, order: tuple[int, ...]) -> None:
        self.order = order
        super().__init__(op, "turns columns that do not lie side by side")


class Asker:
    """Asks one model; `feeds` is any one sample."""

    def __init__(self, model: FloatModel, graph: Graph, matrices: Matrices, feeds: Feeds) -> None:
        self.model, self.graph, self.matrices, self.feeds = model, graph, matrices, feeds
        self.rng = np.random.default_rng(0)

    def ask(self, op: Operator, known: Mapping[str, Array], wanted: str = "") -> Floats:
        """The matrix of `wanted` (the operator's output) where those of `known` are given."""
        wanted = wanted or op.output
        part = self.model.part(tuple(known), (wanted,))
        feeds = dict(self.feeds)
        for tensor, matrix in known.items():
            shape = self.matrices.shapes[tensor]
            if self.model.types.get(tensor) in INTEGER_TYPES:
                raise unlike(op, "what reads floats")
            if matrix.size != math.prod(shape):
                raise unlike(op, "what reads the whole of its input")
            with np.errstate(over="ignore"):  # inf, as float32 makes of what lies beyond it
                array = self.matrices[tensor].array(matrix, shape)
                feeds[tensor] = array.astype(np.float32, copy=False)
        result = part(feeds)[wanted]
        result = result.astype(precision(result.size), copy=False)
        if wanted != op.output:
            return result
        stored = self.matrices[wanted]
        if result.size != stored.rows * stored.heads * stored.columns:
            raise unlike(op, "a matrix of that size")
        return stored.of(result)

    def random(self, tensor: str) -> Floats:
        matrix = self.matrices[tensor]
        shape = matrix.rows, matrix.heads * matrix.columns
        width: Any = precision(math.prod(shape))
        return np.asarray(self.rng.standard_normal(shape, dtype=width))

    def factor(self, op: Operator, found: Floats, of: Floats, kind: str) -> float:
        """The positive f with found == f * of."""
        if found.shape != of.shape:
            raise unlike(op, kind)
        products = squares = 0.0
        with np.errstate(all="ignore"):
            for one, other in _slabs(found, of):
                products += float((one * other).sum())
                squares += float((other**2).sum())
            factor = float(np.float64(products) / np.float64(squares))
        if not (np.isfinite(factor) and factor > 0):
            raise unlike(op, kind)
        self.check(op, found, of, kind, factor)
        return factor

    def check(
        self, op: Operator, found: Floats, of: Floats, kind: str, factor: float = 1.0
    ) -> None:
        """Refuse what differs from `factor` times what is expected."""
        if found.shape != of.shape:
            raise unlike(op, kind)
        scale, difference = 1e-30, 0.0
        for one, other in _slabs(found, of):
            expected = factor * other
            scale = max(scale, float(np.abs(expected).max(initial=0.0)))
            # max() of Python would drop a NaN.
            difference = float(np.maximum(difference, np.abs(one - expected).max(initial=0.0)))
        if not difference <= TOLERANCE * scale:
            raise unlike(op, kind)


def precision(elements: int) -> type[np.float32] | type[np.float64]:
    """In which a matrix of so many elements is compared."""
    return np.float64 if elements < WIDE else np.float32


def _slabs(one: Floats, other: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Two arrays of one shape in float64, some rows at a time."""
    rows = max(1, SLAB // max(1, one[:1].size))
    for begin in range(0, len(one), rows):
        pair = (each[begin : begin + rows].astype(np.float64, copy=False) for each in (one, other))
        yield next(pair), next(pair)


def unlike(op: Operator, kind: str) -> Refusal:
    return Refusal(op, f"does not compute {kind} in this file")
