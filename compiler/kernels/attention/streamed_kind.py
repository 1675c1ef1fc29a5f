"""The kind of kernel that computes attention of any length, keys a part at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from codesign.compiler.kernels.attention.streamed_kernel import (
    StreamedAttentionAddresses,
    streamed_attention_kernel,
)
from codesign.compiler.kernels.attention.streamed_shape import (
    StreamedAttentionMapping,
    StreamedAttentionProblem,
)
from codesign.compiler.kernels.attention.streamed_space import (
    StreamedAttentionSpace,
    streamed_attention_spaces,
)
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
from codesign.compiler.kernels.random_numbers import INT8, OUTPUT, Draw
from codesign.hw.machine.arithmetic import EXP_OF_ZERO, Bytes, dyadic
from codesign.hw.machine.attention import QUOTIENT_BITS
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body


class StreamedAttentionKind(Kind[StreamedAttentionProblem]):
    """softmax(Q.K^T).V of every head: operands q, k, v, mask, out."""

    problem_type = StreamedAttentionProblem

    def work(self, problem: StreamedAttentionProblem, dim: int) -> int:
        p = problem
        return 2 * p.heads * (p.queries + dim) * (p.keys + dim) * (p.head_dim + dim)

    def extents(self, problem: StreamedAttentionProblem) -> tuple[int, ...]:
        return problem.queries, problem.keys, problem.head_dim

    def spaces(
        self, problem: StreamedAttentionProblem, config: HardwareConfig
    ) -> Sequence[StreamedAttentionSpace]:
        return streamed_attention_spaces(problem, config)

    def kernel(
        self,
        problem: StreamedAttentionProblem,
        mapping: StreamedAttentionMapping,
        config: HardwareConfig,
        places: Mapping[str, int],
        numbers: StepNumbers,
    ) -> Body:
        addresses = StreamedAttentionAddresses(**places)
        return streamed_attention_kernel(problem, mapping, config, addresses, *numbers.epilogues)

    def operands(
        self, problem: StreamedAttentionProblem, config: HardwareConfig
    ) -> tuple[Operand, ...]:
        p = problem
        q, kv = (p.heads, p.queries, p.head_dim), (p.heads // p.shared, p.keys, p.head_dim)
        return (
            matrices("q", "input", q, config, part=True),
            matrices("k", "input", kv, config, part=True),
            matrices("v", "input", kv, config, part=True),
            records("mask", "mask", p.mask_rows, config),
            matrices("out", "output", q, config),
        )

    def drains(self, problem: StreamedAttentionProblem) -> tuple[Drain, ...]:
        p = problem
        scores, out = (p.heads, p.queries, p.keys), (p.heads, p.queries, p.head_dim)
        return Drain("exponentials", scores, scaled=p.mask_rows > 0), Drain("quotient", out)

    def reference(self, problem: StreamedAttentionProblem, given: Given) -> list[Int8]:
        found = []
        for head in range(problem.heads):
            q = given.matrix("q", head)
            k, v = (given.matrix(name, head // problem.shared) for name in "kv")
            found.append(given.attended(head, exact_product(q, k.T), v))
        return found

    def random_numbers(
        self, problem: StreamedAttentionProblem, draw: Draw
    ) -> tuple[StepNumbers, Mapping[str, Bytes]]:
        p = problem
        spread = INT8 * INT8 * math.sqrt(p.head_dim)
        scores = draw.numbers("exponentials", spread, p.queries, p.keys, (1, 1))
        scores = replace(scores, causal=scores.causal or p.causal)
        multiplier, shift = dyadic(draw.rng.uniform(90, 127) / EXP_OF_ZERO)
        scores = replace(scores, out_multiplier=multiplier, out_shift=shift)
        one = int(draw.rng.integers(1 << QUOTIENT_BITS - 1, 1 << QUOTIENT_BITS))
        mean = INT8 * one * 100 / EXP_OF_ZERO / math.sqrt(min(p.keys, 8))
        last = draw.factor(OUTPUT / mean)
        outputs = replace(scores, multiplier=one, shift=0, causal=False,
                          out_multiplier=last[0], out_shift=last[1])  # fmt: skip
        numbers = StepNumbers((scores, outputs))
        if not p.mask_rows:
            return numbers, {}
        columns = p.mask_rows * draw.config.dim
        hidden = np.arange(columns) >= p.keys - p.keys // 4  # as where a sequence is padded
        return numbers, {"mask": draw.scale_records(columns, "exponentials", spread, hidden)}

    def shape(self, problem: StreamedAttentionProblem) -> str:
        p = problem
        text = f"{p.heads} heads of {p.queries}x{p.head_dim}, {p.keys} keys in parts"
        if p.shared > 1:
            text += f" of {p.heads // p.shared} heads"
        return listed(text, {"mask": p.mask_rows > 0, "causal": p.causal})

    def describe(
        self,
        problem: StreamedAttentionProblem,
        mapping: StreamedAttentionMapping,
        config: HardwareConfig,
    ) -> str:
        m = mapping
        how = "K and V held" if m.hold else "K and V streamed"
        how += ", the triangle alone" if m.triangle else ""
        return f"{m.tile_m} queries, {config.dim} keys a part, ring of {m.ring}, {how}"
