"""A quantized network in plain numpy integers: step after step, whole matrices, no tiles, no kernels.

What a quantized network computes is settled by which of the graph's tensors are int8, and by their
scales. From int8 tensors to the next, all is exact: sums of products, the summands that enter with
them, a requantizer, a function of `hw.arithmetic`, a requantizer. Fusion settles which tensors are
int8, before mapping: what feeds an activation never is; nor does what feeds a residual sum or a norm
behind a matmul, where the sum stays in the accumulator; scores are where attention takes three
kernels, not where it takes one or two. Probabilities always are. Nothing else of a plan
changes a bit: no tile, order, place, objective or memory, nor projections that are merged; and dim only
attention in parts, each of which is as wide.

It knows nothing of mappings, layouts or instructions; what the machine computes must equal it bit for
bit. It is also the fast way to measure quality over many inputs.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from codesign.compiler.kernels.kernel_kind import Int8, Operand
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.quantized import Epilogue, QuantizedStep
from codesign.compiler.plan import kinds
from codesign.compiler.plan.work import Read, Work
from codesign.hw.machine import arithmetic, attention
from codesign.hw.machine.arithmetic import Bools, Ints
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION

Tensors = Mapping[str, Int8]  # int8 matrices [rows, heads * columns]


def integer_outputs(
    step: QuantizedStep,
    work: Work,
    config: HardwareConfig,
    matrices: Matrices,
    known: Tensors,
    mask: Mask,
) -> dict[str, Int8]:
    """The int8 matrices that a step writes. `mask`: what the run adds to its scores."""
    problem = work.problem
    assert problem is not None
    found = kinds.kind_of(problem).reference(problem, _Given(step, work, config, known, mask))
    out = np.concatenate(found, axis=1)
    widths = [matrices[name].columns for name in work.outputs]
    parts = np.split(out, np.cumsum(widths)[:-1], axis=1) if work.output_columns else [out]
    return dict(zip(work.outputs, parts, strict=True))


class _Given:
    """What a step computes with in one run, by the names of its kernel's operands."""

    def __init__(
        self, step: QuantizedStep, work: Work, config: HardwareConfig, known: Tensors, mask: Mask
    ) -> None:
        self.step, self.work, self.mask, self.dim = step, work, mask, config.dim
        self.counts = {operand.name: operand.shape[0] for operand in work.operands(config)}
        self.whole: dict[str, Int8] = {}
        for read in work.reads(config):
            self.whole[read.operand.name] = self._read(read, known)
        for operand in work.constants(config):
            content = self._constant(operand)
            if content is not None:
                self.whole[operand.name] = content

    def matrix(self, name: str, number: int) -> Int8:
        """One of an operand's matrices, which lie side by side."""
        whole, count = self.whole[name], self.counts[name]
        width = whole.shape[1] // count
        return whole[:, number * width : (number + 1) * width]

    def scales(self, drain: int) -> tuple[int, int]:
        return self.step.epilogues[drain].scales

    def drained(self, drain: int, number: int, sums: Ints) -> Int8:
        epilogue = self.step.epilogues[drain]
        if FUNCTION[epilogue.function].masked and self.mask.offsets is not None:
            sums = sums + self.mask.offsets
        return drained(sums, epilogue)

    def attended(self, number: int, sums: Ints, values: Int8) -> Int8:
        if self.mask.offsets is not None:
            sums = sums + self.mask.offsets
        return attended(sums, values, self.step.epilogues, self.dim)

    def _read(self, read: Read, known: Tensors) -> Int8:
        """What a kernel reads of a tensor; weights are as wide as their input is without padding."""
        whole, operand, step = known[read.tensor], read.operand, self.step
        if not operand.part:
            return whole
        count, rows, columns = operand.shape
        rows_read = whole[step.first_row : step.first_row + rows]
        width = whole.shape[1] if self.work.constant_b else count * columns
        return rows_read[:, read.turn * width : (read.turn + 1) * width]

    def _constant(self, operand: Operand) -> Int8 | None:
        match operand.role:
            case "weight":
                return self.step.weights
            case "addend":
                table = self.step.table if self.mask.table is None else self.mask.table
                return self.step.addend if table is None else np.concatenate(table, axis=1)
            case "bias" if self.step.added is not None:
                return self.step.added.matrix if self.mask.matrix is None else self.mask.matrix
        return None


def attended(sums: Ints, values: Int8, epilogues: Sequence[Epilogue], dim: int) -> Int8:
    """int8 [queries, columns] of attention in parts of dim keys: scores' sums [queries, keys], and V."""
    scores, outputs = epilogues
    v, valid = _requantized(sums, scores)
    assert scores.last is not None and outputs.last is not None
    last = scores.last
    found, total = attention.attended(
        v,
        valid,
        values.astype(np.int64),
        lambda e: arithmetic.requantize_output(e, last.multiplier, last.offset, last.shift),
        dim,
    )
    value = attention.quotient(found, total, outputs.first.multiplier)
    last = outputs.last
    out = arithmetic.requantize_output(value, last.multiplier, last.offset, last.shift)
    return out.astype(np.int8)


def _requantized(sums: Ints, epilogue: Epilogue) -> tuple[Ints, Bools]:
    """v of sums [rows, columns], or of several such operands, and what of it a causal row sees."""
    rows, columns = sums.shape[-2:]
    first, second = epilogue.first, epilogue.second
    valid: Bools = np.ones((rows, 1), dtype=np.bool_)
    if epilogue.causal:
        valid = np.tri(rows, columns, columns - rows, dtype=np.bool_)
    if second is None:
        return arithmetic.requantize(sums, first.offset, first.multiplier, first.shift), valid
    v = np.concatenate([
        arithmetic.requantize(part, each.offset, each.multiplier, each.shift)
        for part, each in ((sums[:1], first), (sums[1:], second))
    ])  # fmt: skip
    return v, valid


def drained(sums: Ints, epilogue: Epilogue) -> Int8:
    """int8 [rows, columns] of sums [rows, columns], or of as many such operands as a function takes."""
    columns, last = sums.shape[-1], epilogue.last
    v, valid = _requantized(sums, epilogue)
    value = FUNCTION[epilogue.function].values(v, valid, columns, 0)
    if last is None:
        return arithmetic.saturate(value, arithmetic.OUTPUT_BITS).astype(np.int8)
    out = arithmetic.requantize_output(value, last.multiplier, last.offset, last.shift)
    return np.where(valid, out, 0).astype(np.int8)
