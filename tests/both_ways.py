"""A network on the machine and in plain integers."""

import numpy as np

from codesign.compiler.network.inference import Functional, Integers, Network
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan.work import Work


class Both(Functional):
    """The machine, and beside it plain integers to which every step is held.

    `owner` tells which tensor was last put into each byte of DRAM: what a kernel reads must still be
    there.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.plain = Integers(network)
        self.owner: Array = np.full(len(network.image), -1)
        self.numbers: dict[str, int] = {}

    def write(self, tensor: str, matrix: Array) -> None:
        super().write(tensor, matrix)
        self.plain.write(tensor, matrix)
        self._own(tensor)

    def mask(self, index: int, mask: Mask) -> None:
        super().mask(index, mask)
        self.plain.mask(index, mask)

    def read(self, tensor: str) -> Array:
        self._check_owner(tensor)
        return super().read(tensor)

    def step(self, index: int) -> None:
        work = self.network.plan.steps[index].work
        for tensor in _matrices(work):
            self._check_owner(tensor)
            for output in work.outputs:
                a, b = self._place(tensor), self._place(output)
                disjoint = a.stop <= b.start or b.stop <= a.start
                assert disjoint, f"{output} overwrites {tensor}, which its own kernel reads"
        super().step(index)
        self.plain.step(index)
        for tensor in work.outputs:
            self._own(tensor)
            found, wanted = self.read(tensor), self.plain.read(tensor)
            np.testing.assert_array_equal(found, wanted, f"{work.kind} {work.name} -> {tensor}")

    def _place(self, tensor: str) -> slice:
        n = self.network
        matrix = n.matrices[tensor]
        zeros = np.zeros((matrix.rows, matrix.heads * matrix.columns), dtype=np.int8)
        size = len(n.matrices.pack(tensor, zeros, self.config))
        return slice(self.places[tensor], self.places[tensor] + size)

    def _own(self, tensor: str) -> None:
        number = self.numbers.setdefault(tensor, len(self.numbers))
        place = self._place(tensor)
        assert place.stop <= len(self.owner)
        self.owner[place] = number

    def _check_owner(self, tensor: str) -> None:
        overwritten = self.owner[self._place(tensor)] != self.numbers[tensor]
        assert not overwritten.any(), f"{tensor} was overwritten before its last reader"


def _matrices(work: Work) -> tuple[str, ...]:
    if work.kind == "softmax":
        return work.inputs[:1]
    return work.inputs[:3] if work.kind == "attention" else work.inputs
