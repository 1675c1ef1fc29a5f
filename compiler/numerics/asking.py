"""Asking an ONNX file what an operator of the graph computes.

The piece of the file between an operator's inputs and its output is run on known matrices. Every
answer is checked on random data; a Refusal says of an operator that it is something else.
"""

import math
from collections.abc import Mapping

import numpy as np

from codesign.compiler.graph import Graph, Operator
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.compiler.onnx.load import INTEGER_TYPES
from codesign.hw.errors import UnsupportedError

TOLERANCE = 1e-3  # of the largest value: float32 sums differ by less, anything else by more


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
                feeds[tensor] = self.matrices[tensor].array(matrix, shape).astype(np.float32)
        result = part(feeds)[wanted].astype(np.float64)
        if wanted != op.output:
            return result
        stored = self.matrices[wanted]
        if result.size != stored.rows * stored.heads * stored.columns:
            raise unlike(op, "a matrix of that size")
        return stored.of(result)

    def random(self, tensor: str) -> Floats:
        matrix = self.matrices[tensor]
        return self.rng.standard_normal((matrix.rows, matrix.heads * matrix.columns))

    def factor(self, op: Operator, found: Floats, of: Floats, kind: str) -> float:
        """The positive f with found == f * of."""
        if found.shape != of.shape:
            raise unlike(op, kind)
        with np.errstate(all="ignore"):
            factor = float((found * of).sum() / (of**2).sum())
        if not (np.isfinite(factor) and factor > 0):
            raise unlike(op, kind)
        self.check(op, found, factor * of, kind)
        return factor

    def check(self, op: Operator, found: Floats, expected: Floats, kind: str) -> None:
        if found.shape != expected.shape:
            raise unlike(op, kind)
        scale = float(np.abs(expected).max(initial=1e-30))
        if not np.abs(found - expected).max(initial=0.0) <= TOLERANCE * scale:
            raise unlike(op, kind)


def unlike(op: Operator, kind: str) -> Refusal:
    return Refusal(op, f"does not compute {kind} in this file")
