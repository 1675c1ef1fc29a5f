"""Post-training quantization: a plan, float constants and ranges become integers for every kernel.

int8 weights have one scale a channel, activations those of `tensor_scales`. A residual rides behind a
matmul in units of the matmul's sums, a whole number of them, so the scales of its channels and of the
weights' agree. What a kernel does to its accumulators is two requantizers, before and behind the
function; docs/numerics.md has their widths. Everything that would not fit its width is a
QuantizationError that names the operator. Masks are the run's, see `quantized.mask_of`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from codesign.compiler.graph import Activation, Add, HostOp, Matmul, Operator, Rotary, Softmax
from codesign.compiler.kernels.kernel_kind import Int8
from codesign.compiler.kernels.rotary_kind import COARSE, MOST_COARSE, angle_table
from codesign.compiler.numerics.calibrate import LEVELS, Observed
from codesign.compiler.numerics.constants import Constants, Floats
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.numerics.quantized import (
    INT32,
    Added,
    Epilogue,
    QuantizationError,
    Quantized,
    QuantizedStep,
    Requantizer,
    ResidualError,
    matrix_of,
    to_int8,
)
from codesign.compiler.numerics.requantizers import affine, probabilities, requantizer, within
from codesign.compiler.numerics.tensor_scales import TensorScales
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import Work
from codesign.compiler.rewrite.given_scales import GivenScales
from codesign.hw.machine import arithmetic, attention
from codesign.hw.machine.functions import FUNCTION

SUM_BITS = 16  # of the larger scale where two int8 operands enter the accumulator
RESIDUAL_ERROR = 1 / 512  # of a residual's scale, relative: half a code at the end of its range
CODE_STEPS = 1 << 7  # units before a product in a step of an int8 operand, zero point and all
HEADROOM = 1.125  # of sums before a norm, beyond what calibration saw
OPERAND_ROOM = 2.0  # of what a product takes of sums, likewise
OPERAND_LARGEST = (1 << (arithmetic.OPERAND_BITS - 1)) - 1
NORM_LARGEST = (1 << (arithmetic.NORM_BITS - 1)) - 1
NOTHING = 12.0  # a score this far below another, in nats, has no probability in int8
FREE = GivenScales()


def quantize(
    plan: Plan,
    constants: Constants,
    observed: Observed,
    options: Options = DEFAULT,
    given: GivenScales = FREE,
) -> Quantized:
    """Integers for every kernel of a plan; `given` scales are kept, the others chosen.

    Raises QuantizationError and CalibrationError naming the operator or tensor; ResidualError where the
    plan adds a residual behind a matmul whose units do not meet its own.
    """
    tensors = TensorScales(plan, constants, observed, options, given)
    quantizer = _Quantizer(tensors, constants)
    steps = {
        index: quantizer.step(step.work)
        for index, step in enumerate(plan.steps)
        if step.work.problem is not None
    }
    kept = {t: codes for t, codes in given.activations.items() if t in tensors.scales}
    return Quantized(steps, tensors.scales, kept, tuple(dict.fromkeys(tensors.dead)))


class _Quantizer:
    """Quantizes step after step."""

    def __init__(self, tensors: TensorScales, constants: Constants) -> None:
        self.tensors, self.constants = tensors, constants

    def step(self, work: Work) -> QuantizedStep:
        """The integers of one kernel, and the scales of what it writes."""
        for tensor in work.outputs:
            self.tensors.of(tensor)
        ops = [self.tensors.operator(name) for name in work.operators]
        products = [op for op in ops if isinstance(op, Matmul)]
        if isinstance(ops[0], Rotary):
            return self._rotary(work, ops[0])
        if not products:
            return self._rows(work, ops)
        if products[0].constant_b:
            gated = FUNCTION[work.drains[0].function].operands > 1
            return self._gated(work, ops) if gated else self._projection(work, ops)
        return self._product(work, ops) if len(products) == 1 else self._attention(work, ops)

    def _constants(self, work: Work) -> set[str]:
        """The roles of what a kernel reads that no kernel writes."""
        return {operand.role for operand in work.constants(self.tensors.config)}

    # -- Kernels -----------------------------------------------------------------------------------

    def _projection(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        function = work.drains[0].function
        residual = any(isinstance(op, Add) for op in ops)
        matmuls = [op for op in ops if isinstance(op, Matmul)]
        linear = [self.constants.linear[op.name] for op in matmuls]
        weights = np.concatenate([each.weights for each in linear], axis=1)
        bias = np.concatenate([each.bias for each in linear])
        name = work.name
        unit = np.maximum(self.tensors.sum_units(work, weights), np.abs(bias) / 2**30)
        residual_scale = 0
        if residual:
            unit, residual_scale = self._residual(work, unit)
        integers = to_int8(weights * self.tensors.of(work.inputs[0])[:, np.newaxis], unit)
        moved = self.tensors.zero(work.inputs[0]) * integers.astype(np.int64).sum(axis=0)
        if residual:
            moved = moved + self.tensors.zero(work.inputs[-1]) * residual_scale
        if len(linear) > 1:
            outputs = [(op.n, op.output) for op in matmuls]
            units_out, zeros = (
                np.concatenate([np.broadcast_to(of(output), (n,)) for n, output in outputs])
                for of in (self.tensors.of, self.tensors.zero)
            )
        else:
            factor = self.tensors.sum_factors(work)[0] if residual else 1.0
            inner = self._inner_scale(function, work, ops) / factor
            units_out = np.broadcast_to(inner, unit.shape)
            zeros = np.broadcast_to(self._zero_behind(function, work), unit.shape)
        offset = np.round((bias + zeros * units_out) / unit) - moved
        offset = within(offset, INT32, name, "bias")
        most = np.abs(integers.astype(np.int64)).sum(axis=0) * 128 + 128 * residual_scale
        within(most + np.abs(offset), INT32, name, "sum")
        first = requantizer(unit / units_out, offset, name)
        last = self._last(function, work, ops)
        epilogue = Epilogue(first, function, last, (residual_scale, 1))
        return QuantizedStep((epilogue,), weights=integers, first_row=linear[0].first_row)

    def _residual(self, work: Work, unit: Floats) -> tuple[Floats, int]:
        """Units of sums, no finer than `unit`, such that the residual's are a whole number of them."""
        scales = self.tensors.of(work.inputs[-1]) * self.tensors.residual_factor(work)
        wanted = float((scales / unit).min())
        given = bool(self.tensors.given_units(work))  # which stay: the nearest, if it is near
        ratio = round(wanted) if given else int(wanted * (1 + 1e-9))  # 1 stays 1
        if ratio >> arithmetic.MULTIPLIER_BITS and not given:
            ratio = 1 << SUM_BITS  # sums far below a step of the residual: coarser units do
        near = not given or abs(ratio - wanted) <= RESIDUAL_ERROR * wanted
        if not (1 <= ratio < 1 << arithmetic.MULTIPLIER_BITS and near):
            raise ResidualError(work.operators[0], wanted)
        return unit if given else np.broadcast_to(scales / ratio, unit.shape), ratio

    def _product(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        (a, b), product, function = work.inputs[:2], ops[0], work.drains[0].function
        assert isinstance(product, Matmul)
        unit = self.tensors.one(a) * self.tensors.one(b) * self.constants.factors[product.name][0]
        within(np.array([product.k * 2.0**14]), INT32, work.name, "sum")
        first = requantizer(unit / self._inner_scale(function, work, ops), 0, work.name)
        last = self._last(function, work, ops)
        if not isinstance(ops[-1], Softmax):
            return QuantizedStep((Epilogue(first, function, last),))
        added = self._added(ops[-1], unit, work.name)
        return QuantizedStep((Epilogue(first, function, last, causal=ops[-1].causal),), added=added)

    def _attention(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        q, k, v = work.inputs[:3]
        product, softmax, context = ops
        assert isinstance(product, Matmul) and isinstance(softmax, Softmax)
        found = self.constants.scores[softmax.name]
        factors = [self.constants.factors[op.name][0] for op in (product, context)]
        unit = self.tensors.one(q) * self.tensors.one(k) * factors[0]
        added = self._added(softmax, unit, work.name)
        most = product.k * 2.0**14 + 128 * added.matrix_scale
        within(np.array([most, product.n * 2.0**14]), INT32, work.name, "sum")
        if FUNCTION[work.drains[0].function].stateful:
            mean = self.tensors.one(v) * factors[1] / self.tensors.one(context.output)
            return self._in_parts(work, product.n, added, mean, found.causal)
        p = self.tensors.one(softmax.output)
        outputs = p * self.tensors.one(v) * factors[1] / self.tensors.one(context.output)
        scores = Epilogue(
            requantizer(added.unit / arithmetic.SOFTMAX_INPUT_SCALE, 0, work.name),
            "softmax",
            probabilities(p, work.name),
            (max(1, added.matrix_scale), 1),
            found.causal,
        )
        sums = Epilogue(requantizer(outputs, 0, work.name), "copy", None)
        return QuantizedStep((scores, sums), added=added)

    def _in_parts(
        self, work: Work, keys: int, added: Added, mean: float, causal: bool
    ) -> QuantizedStep:
        """Of attention in parts; `mean`: what a unit of V is in codes of the output."""
        if keys > attention.MOST_KEYS:
            raise QuantizationError(
                f"{work.name!r}: {keys} keys, of whose exponentials the machine sums up "
                f"{attention.MOST_KEYS}: let the host compute it"
            )
        one = np.array([1 << attention.QUOTIENT_BITS], dtype=np.int64)
        weights = LEVELS / arithmetic.EXP_OF_ZERO
        scores = Epilogue(
            requantizer(added.unit / arithmetic.SOFTMAX_INPUT_SCALE, 0, work.name),
            "exponentials",
            requantizer(weights, 0, work.name),
            causal=causal,
        )
        quotients = Epilogue(
            Requantizer(one, 0 * one, 0 * one),
            "quotient",
            requantizer(attention.QUOTIENT_SCALE / weights * mean, 0, work.name),
        )
        return QuantizedStep((scores, quotients), added=added)

    def _added(self, softmax: Softmax, unit: float, name: str, step: int = 0) -> Added:
        """What a softmax adds to scores, of whose sums a unit is one of the softmax's input.

        `step`: the units of the matrix's scale, where the kernel says so; 0: the least that do.
        """
        found = self.constants.scores[softmax.name]
        unit *= found.factor
        added = Added(softmax.name, unit, found.keys_hidden, computed=found.computed)
        if found.matrix is None:
            return added
        reach = self._matrix_reach(softmax)
        step = step or max(1, int(np.ceil(reach / LEVELS / unit)))
        within(np.array([step]), (1 << arithmetic.MULTIPLIER_BITS) - 1, name, "bias scale")
        added = replace(added, matrix_scale=step)
        return replace(added, matrix=matrix_of(added, found.matrix))

    def _matrix_reach(self, softmax: Softmax) -> float:
        """How far the matrix added to scores reaches, down to where it hides one of them."""
        found = self.constants.scores[softmax.name]
        assert found.matrix is not None
        shown = found.matrix[np.isfinite(found.matrix)]
        largest = float(np.abs(shown).max(initial=0.0))
        masks = found.computed and not largest  # what hides nothing here may in another run
        if shown.size == found.matrix.size and not masks:
            return max(largest, 2.0**-10)
        scores = found.factor * self.tensors.range(softmax.inputs[0], lambda seen: seen.largest)
        return 2 * scores + 2 * largest + NOTHING

    def _rows(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        if isinstance(ops[-1], Softmax):
            return self._softmax(work, ops[-1])
        addend: Int8 | None = None
        (drain,) = work.drains
        function, roles = drain.function, self._constants(work)
        if FUNCTION[function].operands > 1:
            return self._gate(work, ops)
        units = [self.tensors.one(tensor) for tensor in work.inputs]
        if "addend" in roles:
            added = self._summand(self.constants.operand, ops[0])
            units.append(max(float(np.abs(added).max()) / LEVELS, units[0] * 2.0**-SUM_BITS))
            addend = to_int8(added, units[1])
        elif isinstance(ops[0], Add | HostOp):
            factors = self._summand(self.constants.factors, ops[0])
            units = [unit * factor for unit, factor in zip(units, factors, strict=True)]
        unit, scales = units[0], (1, 1)
        if len(units) == 2:
            unit = max(units) / 2**SUM_BITS
            scales = (round(units[0] / unit), round(units[1] / unit))
        elif drain.scaled:  # what is added before the function must not round to whole codes
            unit, scales = unit / 2**SUM_BITS, (1 << SUM_BITS, 1)
        inner = self._inner_scale(function, work, ops)
        if FUNCTION[function].centered:  # takes zero points away, but must have room for them
            pairs = zip(work.inputs, units, strict=False)
            room = sum(abs(self.tensors.zero(name)) * each for name, each in pairs)
            inner += HEADROOM * room / NORM_LARGEST
        offset = np.round(self._zero_behind(function, work) * inner / unit)
        zeros = [self.tensors.zero(tensor) for tensor in work.inputs]
        offset = offset - sum(zero * scale for zero, scale in zip(zeros, scales, strict=False))
        if not drain.scaled:  # nothing to move, or a layernorm takes it away
            offset = np.zeros_like(offset)
        first = requantizer(unit / inner, within(offset, INT32, work.name, "bias"), work.name)
        last = self._last(function, work, ops)
        return QuantizedStep((Epilogue(first, function, last, scales),), addend=addend)

    def _gate(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        """A product of two int8 matrices, of the first or of a function of it."""
        function = work.drains[0].function
        codes = [self.tensors.one(tensor) for tensor in work.inputs]
        units, behind = self._operand_units(function, ops, [each / CODE_STEPS for each in codes])
        pairs = zip(work.inputs, codes, units, strict=True)
        first, second = (
            requantizer(code / unit, -self.tensors.zero(tensor), work.name)
            for tensor, code, unit in pairs
        )
        last = self._last(function, work, ops, behind)
        return QuantizedStep((Epilogue(first, function, last, second=second),))

    def _gated(self, work: Work, ops: list[Operator]) -> QuantizedStep:
        """Two projections of one input, and a product of both, or of a function of the first."""
        function = work.drains[0].function
        both = [op for op in ops if isinstance(op, Matmul)]
        linear = [self.constants.linear[op.name] for op in both]
        weights = np.concatenate([each.weights for each in linear], axis=1)
        bias = np.concatenate([each.bias for each in linear])
        unit = np.maximum(self.tensors.sum_units(work, weights), np.abs(bias) / 2**30)
        integers = to_int8(weights * self.tensors.of(work.inputs[0])[:, np.newaxis], unit)
        wide = integers.astype(np.int64)
        offset = np.round(bias / unit) - self.tensors.zero(work.inputs[0]) * wide.sum(axis=0)
        offset = within(offset, INT32, work.name, "bias")
        within(np.abs(wide).sum(axis=0) * 128 + np.abs(offset), INT32, work.name, "sum")
        reach = [self.tensors.range(op.output, lambda seen: seen.largest) for op in both]
        units, behind = self._operand_units(
            function, ops, [each * OPERAND_ROOM / OPERAND_LARGEST for each in reach]
        )
        halves = (np.split(each, 2) for each in (unit, offset))
        first, second = (
            requantizer(own / scale, added, work.name)
            for own, added, scale in zip(*halves, units, strict=True)
        )
        epilogue = Epilogue(first, function, self._last(function, work, ops, behind), second=second)
        return QuantizedStep((epilogue,), weights=integers, first_row=linear[0].first_row)

    def _rotary(self, work: Work, op: Rotary) -> QuantizedStep:
        """Heads of int8 values, turned; cosines and sines in as many steps as two int8 hold."""
        angles = self.constants.angles[op.name]
        # That of no angle, where another run has others.
        most = np.hypot(angles[:, 0], angles[:, 1]) if op.computed else np.abs(angles)
        step = float(most.max()) / (MOST_COARSE * COARSE)
        code = self.tensors.one(work.inputs[0])
        first = requantizer(CODE_STEPS, 0, work.name)
        behind = code / CODE_STEPS * step
        last = self._last(work.drains[0].function, work, [op], behind)
        epilogue = Epilogue(
            first, work.drains[0].function, last, second=requantizer(1, 0, work.name)
        )
        table = angle_table(angles, step)
        return QuantizedStep((epilogue,), table=table, angle_step=step if op.computed else 0.0)

    def _operand_units(
        self, function: str, ops: list[Operator], free: list[float]
    ) -> tuple[list[float], float]:
        """What a unit of each operand before a product stands for, `free` where the function leaves it,
        and what its value is to be multiplied by.
        """
        gate, inner = ops[-1], ops[-2] if len(ops) > 1 else None
        behind = self.constants.factors[gate.name][0] * free[1]
        factor = self.constants.factors[inner.name][0] if isinstance(inner, Activation) else 1.0
        scale = FUNCTION[function].input_scale
        if scale is not None:
            return [scale / factor, free[1]], behind
        return free, behind * free[0] * factor

    def _softmax(self, work: Work, softmax: Softmax) -> QuantizedStep:
        """A softmax of int8 scores; the matrix under them enters with a scale of its own."""
        unit, scales = self.tensors.one(work.inputs[0]), (1, 1)
        biased = "bias" in self._constants(work)
        if biased:
            factor = self.constants.scores[softmax.name].factor
            step = self._matrix_reach(softmax) / LEVELS / factor
            finest = max(unit, step) / 2**SUM_BITS
            scales = (max(1, round(unit / finest)), max(1, round(step / finest)))
            unit = finest
        added = self._added(softmax, unit, work.name, scales[1] if biased else 0)
        first = requantizer(added.unit / arithmetic.SOFTMAX_INPUT_SCALE, 0, work.name)
        last = probabilities(self.tensors.one(softmax.output), work.name)
        return QuantizedStep(
            (Epilogue(first, "softmax", last, scales, softmax.causal),), added=added
        )

    def _summand(self, found: Mapping[str, Any], op: Operator) -> Any:
        if op.name not in found:
            raise QuantizationError(
                f"sum {op.name!r} is not one of two matrices of one size: let the host compute it"
            )
        return found[op.name]

    # -- The two requantizers ------------------------------------------------------------------------

    def _zero_behind(self, function: str, work: Work) -> int:
        """The output's zero point where the first requantizer is the last."""
        return 0 if FUNCTION[function].normalization else self.tensors.zero(work.outputs[0])

    def _inner_scale(self, function: str, work: Work, ops: list[Operator]) -> Floats | float:
        """What a unit before the function stands for, of a channel where they differ."""
        last, of = ops[-1], FUNCTION[function]
        if of.affine:
            reach = HEADROOM * self.tensors.range(last.inputs[0], lambda seen: seen.largest)
            return reach / NORM_LARGEST
        match last:
            case Activation():
                factor = self.constants.factors[last.name][0]
            case Softmax():
                factor = self.constants.scores[last.name].factor
            case _:
                factor = 1.0
        return (of.input_scale or self.tensors.of(work.outputs[0])) / factor

    def _last(
        self, function: str, work: Work, ops: list[Operator], behind: float = 1.0
    ) -> Requantizer | None:
        """What makes int8 of a function's values, which are to be multiplied by `behind`."""
        of, zero = FUNCTION[function], self.tensors.zero(work.outputs[0])
        if not of.normalization:
            return None
        if of.masked:
            return probabilities(self.tensors.one(work.outputs[0]), work.name)
        unit = self.tensors.of(work.outputs[0])
        if of.affine:
            found = self.constants.affine[ops[-1].name]
            return affine(of.value_scale * found.gamma / unit, found.beta / unit + zero, work.name)
        factor = of.value_scale * behind / unit
        if zero:
            return affine(factor, np.full_like(factor, zero), work.name)
        return requantizer(factor, 0, work.name)
