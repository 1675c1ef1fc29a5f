"""The kind of kernel that multiplies matrices, with a function behind the sums."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.kernel_kind import (
    Drain,
    Given,
    Int8,
    Kind,
    Operand,
    exact_product,
    listed,
    matrices,
    records,
)
from codesign.compiler.kernels.mapspace import Choice, Prices
from codesign.compiler.kernels.matmul_kernel import MatmulAddresses, matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem
from codesign.compiler.kernels.matmul_space import MatmulSpace, best_matmul_mapping, matmul_spaces
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.random_numbers import INT8, Draw
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.program import Body


class MatmulKind(Kind[MatmulProblem]):
    """C = f(A.B + residual) of every matrix of a batch, or f(A.B, A.B') with B' beside B: operands a,
    b, parameters, residual, c.
    """

    problem_type = MatmulProblem

    def work(self, problem: MatmulProblem, dim: int) -> int:
        p = problem
        return p.batch * (p.m + dim) * (p.k + dim) * (p.n + dim) * p.taken

    def extents(self, problem: MatmulProblem) -> tuple[int, ...]:
        return problem.m, problem.k, problem.n

    def spaces(self, problem: MatmulProblem, config: HardwareConfig) -> Sequence[MatmulSpace]:
        return matmul_spaces(problem, config)

    def best(
        self, problem: MatmulProblem, config: HardwareConfig, prices: Prices, objective: str
    ) -> Choice | None:
        return best_matmul_mapping(problem, config, prices, objective)

    def kernel(
        self,
        problem: MatmulProblem,
        mapping: MatmulMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        first = numbers.first_row * config.dim
        at = {**places, "a": places.get("a", 0) + first, "a_rows": numbers.source_rows}
        addresses = MatmulAddresses(**at)
        return matmul_kernel(problem, mapping, config, addresses, *numbers.epilogues)

    def operands(self, problem: MatmulProblem, config: HardwareConfig) -> tuple[Operand, ...]:
        p, batch = problem, problem.batch
        rows, columns = (p.n, p.k) if p.transposed_b else (p.k, p.n * p.taken)
        sets = batch * int(ceil_div(p.n, config.dim)) * p.parameter_sets
        word = 4 if p.destination == "dram_int32" else 1
        c = (batch, p.m, p.n)
        whole = p.row_function or p.residual
        return (
            matrices("a", "input", (batch, p.m, p.k), config, part=True),
            matrices("b", "weight", (batch, rows, columns), config, region="weights", part=True),
            records("parameters", "parameters", sets, config),
            matrices("residual", "input", c, config, present=p.residual),
            matrices("c", "output", c, config, word=word, whole_rows=whole),
        )

    def drains(self, problem: MatmulProblem) -> tuple[Drain, ...]:
        p = problem
        return (Drain(p.function, (p.batch, p.m, p.n), p.parameters, p.affine),)

    def reference(self, problem: MatmulProblem, given: Given) -> list[Int8]:
        found = []
        for number in range(problem.batch):
            b = given.matrix("b", number)
            sums = exact_product(given.matrix("a", number), b.T if problem.transposed_b else b)
            if problem.residual:
                scale, _ = given.scales(0)
                sums += given.matrix("residual", number).astype(np.int64) * scale
            if problem.taken > 1:
                sums = np.stack(np.split(sums, problem.taken, axis=1))
            found.append(given.drained(0, number, sums))
        return found

    def records(
        self,
        problem: MatmulProblem,
        mapping: MatmulMapping,
        config: HardwareConfig,
        sets: Sequence[Bytes],
    ) -> Bytes:
        """Of which each drain of a tile finds its blocks' one behind the other."""
        blocks = sets[0].size // (config.dim * PARAMETER_BYTES)
        width, of_matrix = int(ceil_div(mapping.tile_n, mapping.groups)), blocks // problem.batch
        found = []
        for matrix in range(0, blocks, of_matrix):
            for tile in range(matrix, matrix + of_matrix, mapping.tile_n):
                end = min(tile + mapping.tile_n, matrix + of_matrix)
                for first in range(tile, end, width):
                    found += [s.reshape(blocks, -1)[first : min(first + width, end)] for s in sets]
        return np.concatenate(found).ravel()

    def random_numbers(
        self, problem: MatmulProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        p = problem
        spread = INT8 * INT8 * math.sqrt(p.k)
        scales = (draw.scale(spread / INT8), 1) if p.residual else (1, 1)
        spread = math.hypot(spread, scales[0] * INT8) if p.residual else spread
        sets = []
        for _ in range(p.batch):
            for _ in range(p.taken if p.parameters else 0):
                sets.append(draw.scale_records(p.n, p.function, spread))
            if p.affine:
                sets.append(draw.affine_records(p.n, p.function))
        found = {"parameters": np.concatenate(sets)} if sets else {}
        return StepNumbers((draw.numbers(p.function, spread, p.m, p.n, scales),)), found

    def shape(self, problem: MatmulProblem) -> str:
        p = problem
        text = f"{p.m}x{p.k}x{p.n}" if p.batch == 1 else f"{p.batch} of {p.m}x{p.k}x{p.n}"
        said = {"two products": p.taken > 1, "B transposed": p.transposed_b}
        said["residual"] = p.residual
        said[p.function] = p.function != "copy"
        said["mask"] = p.parameters and FUNCTION[p.function].masked
        return listed(text, said)

    def describe(
        self, problem: MatmulProblem, mapping: MatmulMapping, config: HardwareConfig
    ) -> str:
        m, dim = mapping, config.dim
        order = "n inner" if m.order == "mn" else "m inner"
        reused = "A" if m.order == "mn" else "B"
        text = f"tile {m.tile_m}x{m.tile_n * dim}, k chunk {m.chunk_k * dim}, {order}"
        if m.resident:
            text += f", {m.resident} chunks of {reused} resident"
        return text + (f", {m.groups} drain groups" if not problem.whole_tiles else "")
