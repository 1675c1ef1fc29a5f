"""The kind of kernel that computes attention, scores and probabilities on chip."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from codesign.compiler.kernels.attention.attention_kernel import (
    AttentionAddresses,
    AttentionMapping,
    AttentionProblem,
    attention_kernel,
)
from codesign.compiler.kernels.attention.attention_space import AttentionSpace, attention_spaces
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
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.random_numbers import INT8, PROBABILITY, Draw
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body


class AttentionKind(Kind[AttentionProblem]):
    """softmax(Q.K^T + bias).V of every head: operands q, k, v, mask, bias, out."""

    problem_type = AttentionProblem

    def work(self, problem: AttentionProblem, dim: int) -> int:
        p = problem
        return 2 * p.heads * (p.queries + dim) * (p.keys + dim) * (p.head_dim + dim)

    def extents(self, problem: AttentionProblem) -> tuple[int, ...]:
        return problem.queries, problem.keys, problem.head_dim

    def spaces(self, problem: AttentionProblem, config: HardwareConfig) -> Sequence[AttentionSpace]:
        return attention_spaces(problem, config)

    def kernel(
        self,
        problem: AttentionProblem,
        mapping: AttentionMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        addresses = AttentionAddresses(**places)
        return attention_kernel(problem, mapping, config, addresses, *numbers.epilogues)

    def operands(self, problem: AttentionProblem, config: HardwareConfig) -> tuple[Operand, ...]:
        p = problem
        q, kv = (p.heads, p.queries, p.head_dim), (p.heads // p.shared, p.keys, p.head_dim)
        scores = (p.heads, p.queries, p.keys)
        return (
            matrices("q", "input", q, config, part=True),
            matrices("k", "input", kv, config, part=True),
            matrices("v", "input", kv, config, part=True),
            records("mask", "mask", p.mask_rows, config),
            matrices("bias", "bias", scores, config, present=p.bias, region="bias"),
            matrices("out", "output", q, config),
        )

    def drains(self, problem: AttentionProblem) -> tuple[Drain, ...]:
        p = problem
        scores, out = (p.heads, p.queries, p.keys), (p.heads, p.queries, p.head_dim)
        return Drain("softmax", scores, scaled=p.mask_rows > 0), Drain("copy", out)

    def reference(self, problem: AttentionProblem, given: Given) -> list[Int8]:
        found = []
        for head in range(problem.heads):
            q = given.matrix("q", head)
            k, v = (given.matrix(name, head // problem.shared) for name in "kv")
            sums = exact_product(q, k.T)
            if problem.bias:
                scale, _ = given.scales(0)
                sums += given.matrix("bias", head).astype(np.int64) * scale
            probabilities = given.drained(0, head, sums)
            found.append(given.drained(1, head, exact_product(probabilities, v)))
        return found

    def random_numbers(
        self, problem: AttentionProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        p = problem
        spread = INT8 * INT8 * math.sqrt(p.head_dim)
        scales = (draw.scale(spread / INT8 / 2), 1) if p.bias else (1, 1)
        scores = draw.numbers("softmax", spread, p.queries, p.keys, scales)
        outputs = draw.numbers("copy", PROBABILITY * INT8 * math.sqrt(p.keys), 0, 0, (1, 1))
        numbers = StepNumbers((scores, outputs))
        if not p.mask_rows:
            return numbers, {}
        columns = p.mask_rows * draw.config.dim
        hidden = np.arange(columns) >= p.keys - p.keys // 4  # as where a sequence is padded
        return numbers, {"mask": draw.scale_records(columns, "softmax", spread, hidden)}

    def shape(self, problem: AttentionProblem) -> str:
        p = problem
        text = f"{p.heads} heads of {p.queries}x{p.head_dim}, {p.keys} keys"
        if p.shared > 1:
            text += f" of {p.heads // p.shared} heads"
        return listed(text, {"bias": p.bias, "mask": p.mask_rows > 0})

    def describe(
        self, problem: AttentionProblem, mapping: AttentionMapping, config: HardwareConfig
    ) -> str:
        m = mapping
        how = "K and V held" if m.hold else "K and V streamed"
        return f"{m.tile_m} queries, {m.chunk * config.dim} keys a chunk, ring of {m.ring}, {how}"
