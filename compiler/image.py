"""The DRAM image of a Program: packed weights and parameters where its memory map has them.

Weights are blocked [columns / dim][rows][dim], parameters lie [set][block][dim] (bias and scale, then
gamma and beta), both with zeros where heads or the last block are padded.
"""

import numpy as np

from codesign.compiler.attention_kernel import AttentionProblem
from codesign.compiler.blocks import blocked, ceil_div
from codesign.compiler.fusion import Work
from codesign.compiler.lower import Plan
from codesign.compiler.matrices import Matrices, padded_heads
from codesign.compiler.numbers import Numbers, StepNumbers
from codesign.compiler.onnx_float import Array
from codesign.compiler.quantize import (
    Attention,
    Product,
    Projection,
    QuantizationError,
    Quantized,
    QuantizedStep,
    Requantizer,
    Rows,
)
from codesign.hw.arithmetic import Bytes, Ints, pack_parameters
from codesign.hw.config import HardwareConfig
from codesign.hw.program import Program


def step_numbers(plan: Plan, quantized: Quantized, matrices: Matrices) -> dict[int, StepNumbers]:
    """What `emit` writes into the instructions of every step.

    Raises QuantizationError for a part of a matrix that does not start on a beat.
    """
    numbers = {}
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
    """The DRAM [program.dram_bytes, whole beats] before a run, activations and masks zero."""
    size = int(ceil_div(program.dram_bytes, 4096)) * 4096
    dram = np.zeros(size, dtype=np.uint8)
    regions = {region.name: region for region in program.memory}
    for index, step in quantized.steps.items():
        work = plan.steps[index].work
        for suffix, data in _contents(step, work, matrices, plan.config).items():
            region = regions[f"{index}:{work.name}/{suffix}"]
            if len(data) != region.size_bytes:
                raise QuantizationError(
                    f"{work.name!r}: its {suffix} take {len(data)} bytes but the memory map has "
                    f"{region.size_bytes}: its layout is not supported"
                )
            dram[region.address : region.address + len(data)] = data
    return dram


def mask_records(step: Attention, offsets: Ints, problem: AttentionProblem, dim: int) -> Bytes:
    """Parameter records of a mask over keys: offsets [keys] beside the scores' factor."""
    scores = Requantizer(step.scores.multiplier, step.scores.shift, offsets)
    return _records(scores, len(offsets), problem.mask_rows * dim)


def _epilogues(step: QuantizedStep) -> tuple[Numbers, ...]:
    match step:
        case Attention():
            scores = _numbers(step.scores, step.probabilities, causal=step.causal)
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
    step: QuantizedStep, work: Work, matrices: Matrices, config: HardwareConfig
) -> dict[str, Bytes]:
    """The bytes of every constant of a step, by the suffix of its region."""
    match step:
        case Projection():
            return _projection(step, work, matrices, config)
        case Rows():
            found: dict[str, Bytes] = {}
            if step.operand is not None:
                found["operand"] = matrices.pack(work.outputs[0], step.operand, config)
            if step.last is not None and step.function in ("layernorm", "rmsnorm"):
                columns = matrices[work.outputs[0]].columns
                wide = int(ceil_div(columns, config.dim)) * config.dim
                found["parameters"] = _records(step.last, columns, wide)
            return found
    return {}


def _projection(
    step: Projection, work: Work, matrices: Matrices, config: HardwareConfig
) -> dict[str, Bytes]:
    rows = padded_heads(step.weights.T, *matrices.heads(work.inputs[0], config)).T
    outputs = [(name, matrices[name].columns) for name in work.outputs]

    def padded(columns: Array) -> Array:
        """[..., n] of all outputs side by side, each with its heads padded."""
        parts = np.split(columns, np.cumsum([width for _, width in outputs])[:-1], axis=-1)
        heads = [matrices.heads(name, config) for name, _ in outputs]
        return np.concatenate(
            [padded_heads(part, *sizes) for part, sizes in zip(parts, heads, strict=True)], axis=-1
        )

    first = step.first
    factors = Requantizer(padded(first.multiplier), padded(first.shift), padded(first.offset))
    width = len(factors.shift)
    wide = int(ceil_div(width, config.dim)) * config.dim
    sets = [_records(factors, width, wide)]
    if step.function in ("layernorm", "rmsnorm") and step.last is not None:
        sets.append(_records(step.last, width, wide))
    weights = padded(rows)
    return {"weights": blocked(weights, config), "parameters": np.concatenate(sets)}


def _records(numbers: Requantizer, count: int, wide: int) -> Bytes:
    """Parameter records of `count` channels and zeros up to `wide`, as bytes."""
    records = np.zeros((wide, 8), dtype=np.uint8)
    operands = (numbers.offset, numbers.multiplier, numbers.shift)
    records[:count] = pack_parameters(*(np.broadcast_to(o, (count,)) for o in operands))
    return records.ravel()
