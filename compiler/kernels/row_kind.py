"""The kind of kernel that applies a function to the rows of a matrix, of a sum of two, or of both."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from codesign.compiler.kernels.kernel_kind import (
    Drain,
    Given,
    Int8,
    Kind,
    Operand,
    Role,
    listed,
    matrices,
    records,
)
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.random_numbers import INT8, Draw
from codesign.compiler.kernels.row_kernel import (
    RowAddresses,
    RowMapping,
    RowProblem,
    RowSpace,
    flattened,
    row_kernel,
)
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.machine.program import Body


class RowKind(Kind[RowProblem]):
    """f(x + y) or f(x, y) of every row of a batch of matrices: operands x, parameters, y, out."""

    problem_type = RowProblem

    def work(self, problem: RowProblem, dim: int) -> int:
        return problem.batch * (problem.rows + dim) * (problem.cols + dim)

    def extents(self, problem: RowProblem) -> tuple[int, ...]:
        return problem.rows, problem.cols

    def spaces(self, problem: RowProblem, config: HardwareConfig) -> Sequence[RowSpace]:
        flat = flattened(problem, config)
        return [RowSpace.build(flat, config), RowSpace.build(flat, config, serial=True)]

    def kernel(
        self,
        problem: RowProblem,
        mapping: RowMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        flat = flattened(problem, config)
        return row_kernel(flat, mapping, config, RowAddresses(**places), *numbers.epilogues)

    def operands(self, problem: RowProblem, config: HardwareConfig) -> tuple[Operand, ...]:
        p = problem
        matrix = (p.batch, p.rows, p.cols)
        y: Role = "input"
        if p.added:
            y = "bias" if FUNCTION[p.function].masked else "addend"
        region = "operand" if y != "input" else ""
        return (
            matrices("x", "input", matrix, config),
            records("parameters", "parameters", p.parameter_rows(config), config),
            matrices("y", y, matrix, config, present=p.operands > 1, region=region),
            matrices("out", "output", matrix, config),
        )

    def drains(self, problem: RowProblem) -> tuple[Drain, ...]:
        p = problem
        return (Drain(p.function, (p.batch, p.rows, p.cols), p.scaled, p.affine),)

    def reference(self, problem: RowProblem, given: Given) -> list[Int8]:
        scale_x, scale_y = given.scales(0)
        found = []
        for number in range(problem.batch):
            sums = given.matrix("x", number).astype(np.int64) * scale_x
            if problem.operands == 2:
                other = given.matrix("y", number).astype(np.int64) * scale_y
                sums = sums + other if problem.added else np.stack((sums, other))
            found.append(given.drained(0, number, sums))
        return found

    def elementwise(self, problem: RowProblem) -> bool:
        return problem.function not in ROW_FUNCTIONS

    def random_numbers(
        self, problem: RowProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        p = problem
        scales = (draw.scale(1024), draw.scale(1024))
        spread = INT8 * (math.hypot(*scales[: p.operands]) if p.added else scales[0])
        numbers = StepNumbers((draw.numbers(p.function, spread, p.rows, p.cols, scales),))
        columns = draw.config.dim if self.elementwise(p) else p.cols
        taken = p.taken if p.scaled else 0
        sets = [draw.scale_records(columns, p.function, spread) for _ in range(taken)]
        if p.affine:
            sets.append(draw.affine_records(columns, p.function))
        return numbers, {"parameters": np.concatenate(sets)} if sets else {}

    def shape(self, problem: RowProblem) -> str:
        p = problem
        text = f"{p.rows}x{p.cols}" if p.batch == 1 else f"{p.batch} of {p.rows}x{p.cols}"
        said = {"sum of two": p.added > 0, p.function: p.function != "copy"}
        return listed(text, said | {"mask": p.parameters > 0 and FUNCTION[p.function].masked})

    def describe(self, problem: RowProblem, mapping: RowMapping, config: HardwareConfig) -> str:
        return f"{mapping.tile_rows} rows a tile, {mapping.tiles_held} tiles held"
