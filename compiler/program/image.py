"""The DRAM image of a Program: packed weights and parameters where its memory map has them.

Weights are blocked [columns / dim][rows][dim], parameters lie [set][block][dim] (bias and scale, then
gamma and beta; drain after drain where tiles of C have several), both with zeros where heads or the last block are padded.
"""

from typing import Any

import numpy as np

from codesign.compiler.kernels.attention_kernel import AttentionProblem
from codesign.compiler.kernels.blocks import blocked, ceil_div
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem
from codesign.compiler.kernels.numbers import Numbers, StepNumbers
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.matrices import Matrices, padded_heads
from codesign.compiler.numerics.quantized import (
    Attention,
    Product,
    Projection,
    QuantizationError,
    Quantized,
    QuantizedStep,
    Requantizer,
    Rows,
    added_to,
)
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import Work
from codesign.compiler.program.layout import check_layouts
from codesign.hw.machine.arithmetic import Bytes, pack_parameters
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.machine.program import Program


def step_numbers(plan: Plan, quantized: Quantized, matrices: Matrices) -> dict[int, StepNumbers]:
    """What `emit` writes into the instructions of every step.

    Raises QuantizationError for a part of a matrix that does not start on a beat, and for a matrix
    that is not stored as it is read.
    """
    numbers = {}
    check_layouts([plan.steps[index].work for index in quantized.steps], matrices, plan.config)
    for index, step in quantized.steps.items():
        work = plan.steps[index].work
        first_row = step.first_row if isinstance(step, Projection) else 0
        source_rows = matrices[work.inputs[0]].rows if isinstance(step, Projection) else 0
        if first_row * plan.config.dim % plan.config.bus_bytes:
            raise QuantizationError(
                f"{work.name!r} reads its input from row {first_row} on, which starts inside a beat "
                f"of {plan.config.bus_bytes} bytes: choose a machine with a narrower bus"
            )
        numbers[index] = StepNumbers(_epilogues(step), first_row, source_rows)
    return numbers


def pack(plan: Plan, program: Program, quantized: Quantized, matrices: Matrices) -> Bytes:
    """The DRAM [program.dram_bytes, whole beats] before a run: activations zero, masks hiding nothing."""
    size = int(ceil_div(program.dram_bytes, 4096)) * 4096
    dram = np.zeros(size, dtype=np.uint8)
    regions = {region.name: region for region in program.memory}
    for index, step in quantized.steps.items():
        work = plan.steps[index].work
        mapping = plan.steps[index].mapping
        contents = _contents(step, work, mapping, matrices, plan.config)
        contents |= mask_contents(step, work, _nothing_hidden(step, work), plan.config)
        for suffix, data in contents.items():
            region = regions[f"{index}:{work.name}/{suffix}"]
            if len(data) != region.size_bytes:
                raise QuantizationError(
                    f"{work.name!r}: its {suffix} take {len(data)} bytes but the memory map has "
                    f"{region.size_bytes}: its layout is not supported"
                )
            dram[region.address : region.address + len(data)] = data
    return dram


def _nothing_hidden(step: QuantizedStep, work: Work) -> Mask:
    """The mask over keys that adds nothing, where a run brings one."""
    added = added_to(step)
    if added is None or not added.keys:
        return Mask()
    p = work.problem
    assert p is not None
    keys = (
        p.keys if isinstance(p, AttentionProblem) else p.cols if isinstance(p, RowProblem) else p.n
    )
    return Mask(np.zeros(int(keys), dtype=np.int64))


def mask_contents(
    step: QuantizedStep, work: Work, mask: Mask, config: HardwareConfig
) -> dict[str, Bytes]:
    """The bytes of a run's mask, by the suffix of their region: parameter records that hold an offset
    of each key beside the scores' factor, and the matrix.
    """
    found: dict[str, Bytes] = {}
    if mask.offsets is not None:
        first = step.scores if isinstance(step, Attention) else step.first
        keys = len(mask.offsets)
        wide = int(ceil_div(keys, config.dim)) * config.dim
        records = _records(Requantizer(first.multiplier, first.shift, mask.offsets), keys, wide)
        heads = work.problem.batch if isinstance(work.problem, MatmulProblem) else 1
        suffix = "mask" if isinstance(step, Attention) else "parameters"
        found[suffix] = np.tile(records, heads)
    if mask.matrix is not None:
        suffix = "bias" if isinstance(step, Attention) else "operand"
        found[suffix] = _score_matrix(mask.matrix, work, config)
    return found


def _score_matrix(matrix: Array, work: Work, config: HardwareConfig) -> Bytes:
    """An int8 matrix [queries, heads * keys] as the kernel of the scores reads it."""
    p = work.problem
    assert isinstance(p, AttentionProblem | RowProblem)
    keys = p.keys if isinstance(p, AttentionProblem) else p.cols
    wide = int(ceil_div(keys, config.dim)) * config.dim
    return blocked(padded_heads(matrix, keys, wide), config)


def _epilogues(step: QuantizedStep) -> tuple[Numbers, ...]:
    match step:
        case Attention():
            scales = (max(1, step.added.matrix_scale), 1)
            scores = _numbers(step.scores, step.probabilities, scales, step.causal)
            return scores, _numbers(step.context, None)
        case Projection():
            scales = (step.residual_scale, 1)
            return (_numbers(step.first, step.last, scales=scales),)
        case Product():
            return (_numbers(step.first, step.last, causal=step.causal),)
        case Rows():
            return (_numbers(step.first, step.last, scales=step.scales, causal=step.causal),)


def _numbers(
    first: Requantizer,
    last: Requantizer | None,
    scales: tuple[int, int] = (1, 1),
    causal: bool = False,
) -> Numbers:
    """As fields of an instruction; those that parameters replace are not read."""
    behind = (1, 0) if last is None else (int(last.multiplier[0]), int(last.shift[0]))
    return Numbers(int(first.multiplier[0]), int(first.shift[0]), *behind, scales, causal)


def _contents(
    step: QuantizedStep, work: Work, mapping: Any, matrices: Matrices, config: HardwareConfig
) -> dict[str, Bytes]:
    """The bytes of every constant of a step, by the suffix of its region."""
    match step:
        case Projection():
            return _projection(step, work, mapping, matrices, config)
        case Attention() if step.added.matrix is not None:
            return {"bias": _score_matrix(step.added.matrix, work, config)}
        case Rows():
            found: dict[str, Bytes] = {}
            if step.operand is not None and step.function == "softmax":
                found["operand"] = _score_matrix(step.operand, work, config)
            elif step.operand is not None:
                found["operand"] = matrices.pack(work.outputs[0], step.operand, config)
            if step.function != "softmax" and work.problem.parameters:  # type: ignore[union-attr]
                found["parameters"] = _row_parameters(step, work, config)
            return found
    return {}


def _row_parameters(step: Rows, work: Work, config: HardwareConfig) -> Bytes:
    """Records of the columns of a row function, of one block for all columns of the others."""
    p = work.problem
    assert isinstance(p, RowProblem)
    columns = p.cols if p.function in ROW_FUNCTIONS else config.dim
    wide = int(ceil_div(columns, config.dim)) * config.dim
    sets = [step.first] if p.scaled else []
    if p.affine:
        assert step.last is not None
        sets.append(step.last)
    return np.concatenate([_records(numbers, columns, wide) for numbers in sets])


def _projection(
    step: Projection,
    work: Work,
    mapping: MatmulMapping,
    matrices: Matrices,
    config: HardwareConfig,
) -> dict[str, Bytes]:
    rows = padded_heads(step.weights.T, *matrices.heads(work.inputs[0], config)).T
    outputs = [(name, matrices[name].columns) for name in work.outputs]

    def padded(columns: Array) -> Array:
        """[..., n] of all outputs side by side, each with its heads padded, on blocks of its own."""
        parts = np.split(columns, np.cumsum([width for _, width in outputs])[:-1], axis=-1)
        heads = [matrices.heads(name, config) for name, _ in outputs]
        parts = [padded_heads(part, *sizes) for part, sizes in zip(parts, heads, strict=True)]
        if len(parts) > 1:  # each starts on a block of its own
            widths = [part.shape[-1] for part in parts]
            blocks = [int(ceil_div(width, config.dim)) * config.dim for width in widths]
            parts = [padded_heads(*sizes) for sizes in zip(parts, widths, blocks, strict=True)]
        return np.concatenate(parts, axis=-1)

    first = step.first
    factors = Requantizer(padded(first.multiplier), padded(first.shift), padded(first.offset))
    width = len(factors.shift)
    wide = int(ceil_div(width, config.dim)) * config.dim
    sets = [_records(factors, width, wide)]
    if step.last is not None and work.problem.parameter_sets > 1:  # type: ignore[union-attr]
        last = (step.last.multiplier, step.last.shift, step.last.offset)
        behind = (padded(np.broadcast_to(part, step.first.shift.shape)) for part in last)
        sets.append(_records(Requantizer(*behind), width, wide))
    weights = padded(rows)
    return {
        "weights": blocked(weights, config),
        "parameters": _by_drain(sets, wide // config.dim, mapping),
    }


def _by_drain(sets: list[Bytes], blocks: int, mapping: MatmulMapping) -> Bytes:
    """Sets of records, of which each drain of a tile finds its blocks' one behind the other."""
    found = []
    width = int(ceil_div(mapping.tile_n, mapping.groups))
    for tile in range(0, blocks, mapping.tile_n):
        end = min(tile + mapping.tile_n, blocks)
        for first in range(tile, end, width):
            found += [s.reshape(blocks, -1)[first : min(first + width, end)] for s in sets]
    return np.concatenate(found).ravel()


def _records(numbers: Requantizer, count: int, wide: int) -> Bytes:
    """Parameter records of `count` channels and zeros up to `wide`, as bytes."""
    records = np.zeros((wide, 8), dtype=np.uint8)
    operands = (numbers.offset, numbers.multiplier, numbers.shift)
    records[:count] = pack_parameters(*(np.broadcast_to(o, (count,)) for o in operands))
    return records.ravel()
