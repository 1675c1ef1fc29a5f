"""A random graph under construction: ONNX nodes, and the shape of every tensor they write."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from onnx_builder import CONTRIB, ModelBuilder

Option = TypeVar("Option")
Shape = tuple[int, ...]


class Unfit(Exception):
    """A stage that has no form for such a tensor, opset or type: another one is drawn."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: floats, unless a stage says otherwise."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)


class Writer(ModelBuilder):
    """Draws from one seed and writes in one opset and float type.

    `rounded` are the tensors that plain eight-bit arithmetic holds in eight bits: what each operator
    writes, but not the steps inside of one that is written out.
    """

    def __init__(self, seed: int, opset: int, dtype: str) -> None:
        super().__init__(opset)
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.rounded: dict[str, None] = {}
        self.kinds: list[str] = []  # of faults that a graph asks for, see `harness`

    # -- Draws -------------------------------------------------------------------------------------

    def pick(self, *options: Option) -> Option:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def axis(self, x: Value, lowest: int = 0) -> int:
        """An axis of x, as often counted from behind."""
        axis = int(self.rng.integers(lowest, x.rank))
        return self.pick(axis, axis - x.rank)

    # -- Constants ---------------------------------------------------------------------------------

    def floats(self, value: object) -> str:
        return self.const(value, self.dtype)

    def normal(self, *shape: int, deviation: float = 1.0, mean: float = 0.0) -> str:
        return self.floats(self.rng.normal(mean, deviation, shape))

    def matrix(self, *shape: int, inner: int = -2) -> str:
        """Weights whose product with what has variance 1 has variance 1; some channels are larger."""
        channels = np.exp(self.rng.normal(0, 0.5, shape[-1]))
        return self.floats(self.rng.normal(0, shape[inner] ** -0.5, shape) * channels)

    # -- Nodes -------------------------------------------------------------------------------------

    def apply(
        self,
        op_type: str,
        *inputs: "Value | str",
        shape: Shape | None = None,
        inner: bool = False,
        **attributes: Any,
    ) -> Value:
        """One node with one output, of the first input's shape where none is given.

        `inner`: a step inside an operator that is written out.
        """
        names = [each if isinstance(each, str) else each.name for each in inputs]
        if shape is None:
            first = inputs[0]
            assert isinstance(first, Value)
            shape = first.shape
        output = Value(str(self.node(op_type, *names, **attributes)), tuple(shape))
        if not inner:
            self.rounded[output.name] = None
        return output

    def contrib(self, op_type: str, *inputs: "Value | str", **more: Any) -> Value:
        """A node of com.microsoft, which onnxruntime's optimiser writes for float."""
        if self.dtype != "float32":
            raise Unfit
        return self.apply(op_type, *inputs, domain=CONTRIB, **more)

    def require(self, condition: bool) -> None:
        """Raises Unfit where a stage's condition is not met."""
        if not condition:
            raise Unfit

    def since(self, opset: int) -> None:
        self.require(self.opset >= opset)


Stage = Callable[[Writer, Value], Value]


def elements(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))
