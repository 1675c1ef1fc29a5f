"""The DRAM image of a Program: packed weights and parameters where its memory map has them.

Weights are blocked [columns / dim][rows][dim], parameters lie [set][block][dim] (bias and scale, then
gamma and beta; drain after drain where tiles of C have several), both with zeros where heads or the last block are padded.
"""

from typing import Any

import numpy as np

from codesign.compiler.kernels.blocks import blocked, ceil_div
from codesign.compiler.kernels.kernel_kind import RECORDS, Int8
from codesign.compiler.kernels.numbers import Numbers, StepNumbers
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.matrices import Matrices, padded_heads
from codesign.compiler.numerics.quantized import (
    Epilogue,
    QuantizationError,
    Quantized,
    QuantizedStep,
    Requantizer,
)
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan import kinds
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import Work
from codesign.compiler.program.layout import check_layouts
from codesign.hw.machine.arithmetic import Bytes, pack_parameters
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION
from codesign.hw.machine.program import Program


def step_numbers(plan: Plan, quantized: Quantized, matrices: Matrices) -> dict[int, StepNumbers]:
    """What `emit` writes into the instructions of every step.

    Raises QuantizationError for a part of a matrix that does not start on a beat, and for a matrix
    that is not stored as it is read.
    """
    numbers = {}
    check_layouts([plan.steps[index].work for index in quantized.steps], matrices, plan.config)
    for index, step in quantized.steps.items():
        work, first_row = plan.steps[index].work, step.first_row
        source_rows = 0 if step.weights is None else matrices[work.inputs[0]].rows
        if first_row * plan.config.dim % plan.config.bus_bytes:
            raise QuantizationError(
                f"{work.name!r} reads its input from row {first_row} on, which starts inside a beat "
                f"of {plan.config.bus_bytes} bytes: choose a machine with a narrower bus"
            )
        epilogues = tuple(_numbers(epilogue) for epilogue in step.epilogues)
        numbers[index] = StepNumbers(epilogues, first_row, source_rows)
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
    if step.added is None or not step.added.keys:
        return Mask()
    _, _, keys = work.drains[0].shape
    return Mask(np.zeros(keys, dtype=np.int64))


def mask_contents(
    step: QuantizedStep, work: Work, mask: Mask, config: HardwareConfig
) -> dict[str, Bytes]:
    """The bytes of a run's mask, by the suffix of their region: parameter records that hold an offset
    of each key beside the scores' factor, and the matrix; or those of its angles.
    """
    found: dict[str, Bytes] = {}
    _, _, keys = work.drains[0].shape
    for operand in work.constants(config):
        if operand.role in RECORDS and mask.offsets is not None:
            first = step.epilogues[0].first
            offsets = Requantizer(first.multiplier, first.shift, mask.offsets)
            of_head = _records(offsets, keys, config)
            found[operand.region] = np.tile(of_head, operand.size_bytes // of_head.size)
        elif operand.role == "addend" and mask.table is not None:
            found[operand.region] = _table(mask.table, config)
        elif operand.role == "bias" and mask.matrix is not None:
            found[operand.region] = _score_matrix(mask.matrix, keys, config)
    return found


def _score_matrix(matrix: Int8, keys: int, config: HardwareConfig) -> Bytes:
    """An int8 matrix [queries, heads * keys] as the kernel of the scores reads it."""
    wide = int(ceil_div(keys, config.dim)) * config.dim
    return blocked(padded_heads(matrix, keys, wide), config)


def _table(parts: Int8, config: HardwareConfig) -> Bytes:
    """The two parts of a rotation's angles, one after another."""
    return np.concatenate([blocked(part, config) for part in parts])


def _numbers(epilogue: Epilogue) -> Numbers:
    """As fields of an instruction; those that parameters replace are not read."""
    first, last = epilogue.first, epilogue.last
    behind = (1, 0) if last is None else (int(last.multiplier[0]), int(last.shift[0]))
    pair = (int(first.multiplier[0]), int(first.shift[0]))
    second = epilogue.second
    further = (1, 0) if second is None else (int(second.multiplier[0]), int(second.shift[0]))
    return Numbers(*pair, *behind, epilogue.scales, epilogue.causal, further)


def _contents(
    step: QuantizedStep, work: Work, mapping: Any, matrices: Matrices, config: HardwareConfig
) -> dict[str, Bytes]:
    """The bytes of every constant of a step but those of masks, by the suffix of its region."""
    found: dict[str, Bytes] = {}
    for operand in work.constants(config):
        match operand.role:
            case "weight":
                assert step.weights is not None
                rows = padded_heads(step.weights.T, *matrices.heads(work.inputs[0], config)).T
                columns = np.split(rows, FUNCTION[work.drains[0].function].operands, axis=1)
                parts = [_padded(part, work, matrices, config) for part in columns]
                if len(parts) > 1:  # which both start on blocks
                    width = operand.shape[-1] // len(parts)
                    parts = [padded_heads(part, part.shape[-1], width) for part in parts]
                found[operand.region] = blocked(np.concatenate(parts, axis=1), config)
            case "addend" if step.table is not None:
                found[operand.region] = _table(step.table, config)
            case "addend":
                assert step.addend is not None
                found[operand.region] = matrices.pack(work.outputs[0], step.addend, config)
            case "bias" if step.added is not None and step.added.matrix is not None:
                _, _, keys = work.drains[0].shape
                found[operand.region] = _score_matrix(step.added.matrix, keys, config)
            case "parameters" if step.added is None:
                found[operand.region] = _parameters(step, work, mapping, matrices, config)
    return found


def _parameters(
    step: QuantizedStep, work: Work, mapping: Any, matrices: Matrices, config: HardwareConfig
) -> Bytes:
    """Records of the columns of a drain; elementwise, of one block for all columns."""
    problem, drain, epilogue = work.problem, work.drains[0], step.epilogues[0]
    assert problem is not None
    kind = kinds.kind_of(problem)
    columns = config.dim if kind.elementwise(problem) else drain.shape[-1]
    before = (epilogue.first, epilogue.second) if drain.scaled else ()
    wanted = [each for each in before if each is not None]
    if drain.affine:
        assert epilogue.last is not None
        wanted.append(epilogue.last)
    if work.constant_b:
        width = len(epilogue.first.shift)
        wanted = [_padded_channels(each, width, work, matrices, config) for each in wanted]
        columns = len(wanted[0].shift)
    sets = [_records(each, columns, config) for each in wanted]
    return kind.records(problem, mapping, config, sets)


def _padded_channels(
    numbers: Requantizer, width: int, work: Work, matrices: Matrices, config: HardwareConfig
) -> Requantizer:
    """Numbers of every column of the outputs, with their heads padded."""
    parts = (numbers.multiplier, numbers.shift, numbers.offset)
    every = (np.broadcast_to(part, (width,)) for part in parts)
    return Requantizer(*(_padded(part, work, matrices, config) for part in every))


def _padded(columns: Array, work: Work, matrices: Matrices, config: HardwareConfig) -> Array:
    """[..., n] of all outputs side by side, each with its heads padded, on blocks of its own."""
    widths = [matrices[name].columns for name in work.outputs]
    parts = np.split(columns, np.cumsum(widths)[:-1], axis=-1)
    heads = [matrices.heads(name, config) for name in work.outputs]
    parts = [padded_heads(part, *sizes) for part, sizes in zip(parts, heads, strict=True)]
    if len(parts) > 1:  # each starts on a block of its own
        widths = [part.shape[-1] for part in parts]
        blocks = [int(ceil_div(width, config.dim)) * config.dim for width in widths]
        parts = [padded_heads(*sizes) for sizes in zip(parts, widths, blocks, strict=True)]
    return np.concatenate(parts, axis=-1)


def _records(numbers: Requantizer, count: int, config: HardwareConfig) -> Bytes:
    """Parameter records of `count` channels and zeros up to whole blocks, as bytes."""
    records = np.zeros((int(ceil_div(count, config.dim)) * config.dim, 8), dtype=np.uint8)
    operands = (numbers.offset, numbers.multiplier, numbers.shift)
    records[:count] = pack_parameters(*(np.broadcast_to(o, (count,)) for o in operands))
    return records.ravel()
