"""What tests of kernel kinds share: kernels on random operands, held against their kind's reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes, unblocked
from codesign.compiler.kernels.kernel_kind import RECORDS, Operand, Problem
from codesign.compiler.numerics.integers import attended, drained
from codesign.compiler.numerics.quantized import Epilogue, Requantizer
from codesign.compiler.plan import kinds
from codesign.hw.machine.arithmetic import Bytes, Ints, unpack_parameters
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.views.functional import Machine
from codesign.search.checks.operands import Operands, random_operands

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class InDram:
    """What a kernel computes with, read back out of a DRAM image."""

    problem: Problem
    mapping: Any
    config: HardwareConfig
    operands: Operands

    def matrix(self, name: str, number: int) -> Int8:
        (operand,) = (o for o in kinds.operands(self.problem, self.config) if o.name == name)
        return matrix_in(self.operands.dram, self.operands.places[name], operand, number,
                         self.config)  # fmt: skip

    def scales(self, drain: int) -> tuple[int, int]:
        return self.operands.numbers.epilogues[drain].scales

    def drained(self, drain: int, number: int, sums: Ints) -> Int8:
        return drained(sums, self._epilogue(drain, number, sums.shape[-1]))

    def attended(self, number: int, sums: Ints, values: Int8) -> Int8:
        widths = (sums.shape[1], values.shape[1])
        both = [self._epilogue(drain, number, width) for drain, width in enumerate(widths)]
        return attended(sums, values, both, self.config.dim)

    def _epilogue(self, drain: int, number: int, columns: int) -> Epilogue:
        numbers = self.operands.numbers.epilogues[drain]
        shape = kinds.drains(self.problem)[drain]
        first = (numbers.multiplier, numbers.shift, 0)
        last = (numbers.out_multiplier, numbers.out_shift, 0)
        taken = FUNCTION[shape.function].operands
        second = (*numbers.second, 0)
        sets = self._sets(number, columns, shape.scaled * taken + shape.affine)
        if shape.scaled:
            first = sets.pop(0)
            second = sets.pop(0) if taken > 1 else second
        if shape.affine:
            last = sets.pop(0)
        behind = _requantizer(last) if FUNCTION[shape.function].normalization else None
        causal = numbers.causal and FUNCTION[shape.function].masked
        further = _requantizer(second) if taken > 1 else None
        return Epilogue(
            _requantizer(first), shape.function, behind, numbers.scales, causal, further
        )

    def _sets(self, number: int, columns: int, count: int) -> list[Any]:
        """Multiplier, shift and offset of every column of one matrix, set after set."""
        found = [o for o in kinds.operands(self.problem, self.config) if o.role in RECORDS]
        if not found or not count:
            return []
        (operand,) = found
        at = self.operands.places[operand.name]
        records = self.operands.dram[at : at + operand.size_bytes].reshape(-1, PARAMETER_BYTES)
        # Which record is which: the kind orders those whose bytes count them.
        lanes = len(records) // count
        counting = np.arange(len(records), dtype=np.int64).reshape(count, lanes)
        sets = [one.view(np.uint8) for one in counting]
        kind = kinds.kind_of(self.problem)
        order = kind.records(self.problem, self.mapping, self.config, sets).view(np.int64)
        at_place = np.argsort(order).reshape(count, lanes)
        own = int(ceil_div(columns, self.config.dim)) * self.config.dim
        of_lane = (number * own + np.arange(columns)) % lanes
        return [
            (multiplier, shift, bias)
            for bias, multiplier, shift in (
                unpack_parameters(records[places[of_lane]]) for places in at_place
            )
        ]


def _requantizer(parts: Any) -> Requantizer:
    return Requantizer(*(np.atleast_1d(np.asarray(part, dtype=np.int64)) for part in parts))


def matrix_in(
    dram: Bytes, place: int, operand: Operand, number: int, config: HardwareConfig
) -> Int8:
    """One of an operand's int8 matrices."""
    _, rows, columns = operand.shape
    return unblocked(dram[place + number * matrix_bytes(rows, columns, config) :], rows, columns,
                     config)  # fmt: skip


def assert_as_its_reference(
    problem: Problem, mapping: Any, config: HardwareConfig, seed: int
) -> None:
    """The functional model leaves in DRAM what the kind says in plain integers."""
    operands = random_operands(problem, config, (seed,))
    machine = Machine(config, operands.dram.copy())
    machine.run(kinds.body(problem, mapping, config, operands.places, operands.numbers))
    given = InDram(problem, mapping, config, operands)
    wanted = kinds.kind_of(problem).reference(problem, given)
    output = kinds.output(problem, config)
    assert len(wanted) == output.shape[0]
    for number, matrix in enumerate(wanted):
        found = matrix_in(machine.dram, operands.places[output.name], output, number, config)
        np.testing.assert_array_equal(found, matrix)
