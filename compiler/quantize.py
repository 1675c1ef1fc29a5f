"""Post-training quantization: a plan, float constants and ranges become integers for every kernel.

int8 weights have one scale a channel. Activations have one a tensor; where only weights and sums behind
them read it, one a channel, smoothed between the two (SmoothQuant, arXiv 2211.10438): a reader takes
it into the rows of its weights. A residual rides behind a matmul in units of the matmul's sums, a
whole number of them, so the scales of its channels and of the weights' agree. What a kernel does to its accumulators is two requantizers, before and
behind the function; docs/numerics.md has their widths. Everything that would not fit its width is a
QuantizationError that names the operator. Masks are the run's, see `key_mask`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codesign.compiler.attention_kernel import AttentionProblem
from codesign.compiler.calibrate import LEVELS, CalibrationError, Method, Observed
from codesign.compiler.constants import Affine, Constants, Floats
from codesign.compiler.fusion import LOW, Work
from codesign.compiler.graph import LayerNorm, Matmul, Operator, Softmax
from codesign.compiler.lower import Plan
from codesign.compiler.matmul_shape import MatmulProblem
from codesign.compiler.row_kernel import RowProblem
from codesign.hw import arithmetic
from codesign.hw.arithmetic import Ints
from codesign.hw.errors import CodesignError

LOW_STEPS = 256  # of a remainder to one of its value
INT32 = (1 << 31) - 1
SUM_BITS = 16  # of the larger scale where two int8 operands enter the accumulator
HEADROOM = 1.125  # of sums before a norm, beyond what calibration saw
SMOOTHING = 0.5
COARSENED = 0.25  # the share of a residual's channels whose weights make them coarser
PROBABILITY_SCALE = 1 / LEVELS
Int8: TypeAlias = npt.NDArray[np.int8]


class QuantizationError(CodesignError):
    """An operator whose numbers do not fit the machine's widths."""


@dataclass(frozen=True)
class Requantizer:
    """(x * multiplier + offset) / 2^shift, or (x + offset) * multiplier / 2^shift before a function;
    arrays of one number or one per channel.
    """

    multiplier: Ints
    shift: Ints
    offset: Ints


@dataclass(frozen=True)
class Projection:
    """f(x[first_row:][:m] @ weights + residual * residual_scale)."""

    weights: Int8
    first: Requantizer
    function: str
    last: Requantizer | None
    residual_scale: int = 0
    first_row: int = 0


@dataclass(frozen=True)
class Product:
    """f(A @ B) of every head, both activations."""

    first: Requantizer
    function: str
    last: Requantizer | None
    causal: bool = False


@dataclass(frozen=True)
class Attention:
    """softmax(Q.K^T).V of every head; `score_scale` is what one unit of Q.K^T adds to a score."""

    scores: Requantizer
    probabilities: Requantizer
    context: Requantizer
    score_scale: float
    causal: bool
    softmax: str


@dataclass(frozen=True)
class Rows:
    """f(x * scales[0] + y * scales[1]); `operand` is y where it is constant."""

    scales: tuple[int, int]
    first: Requantizer
    function: str
    last: Requantizer | None
    operand: Int8 | None = None
    causal: bool = False


QuantizedStep: TypeAlias = Projection | Product | Attention | Rows


@dataclass(frozen=True)
class Quantized:
    """The steps of a plan by index, and the scale of every int8 tensor: [1] or [columns]."""

    steps: Mapping[int, QuantizedStep]
    scales: Mapping[str, Floats]


def quantize(plan: Plan, constants: Constants, observed: Observed, method: Method) -> Quantized:
    """Integers for every kernel of a plan.

    Raises QuantizationError and CalibrationError naming the operator or tensor.
    """
    quantizer = _Quantizer(plan, constants, observed, method)
    steps = {
        index: quantizer.step(step.work)
        for index, step in enumerate(plan.steps)
        if step.work.problem is not None
    }
    return Quantized(steps, quantizer.scales)


def to_int8(values: Any, scale: Floats | float) -> Int8:
    """Values in units of `scale`, to nearest even and clamped to +-127."""
    return np.clip(np.round(np.asarray(values) / scale), -LEVELS, LEVELS).astype(np.int8)


def key_mask(step: Attention, added: Floats) -> Ints:
    """Offsets [keys] of a mask `added` to the scores [..., queries, keys], clamped to int32.

    Raises QuantizationError for one that is not the same for every query.
    """
    rows = added.reshape(-1, added.shape[-1])
    if (rows != rows[0]).any():
        raise QuantizationError(
            f"softmax {step.softmax!r}: its mask differs from query to query; only causal masks and "
            "masks over keys run on the machine"
        )
    units = np.clip(np.nan_to_num(rows[0] / step.score_scale), -INT32, INT32)
    offsets: Ints = np.round(units).astype(np.int64)
    return offsets


class _Quantizer:
    """Quantizes step after step; scales of tensors are settled at first use."""

    def __init__(
        self, plan: Plan, constants: Constants, observed: Observed, method: Method
    ) -> None:
        self.graph, self.constants, self.observed = plan.graph, constants, observed
        self.method = method
        self.works = [step.work for step in plan.steps]
        self.scales: dict[str, Floats] = {}

    def scales_of(self, tensor: str) -> Floats:
        """The scales [columns] or [1] of an int8 tensor; those of probabilities are fixed."""
        if tensor.endswith(LOW):
            return self.scales_of(tensor.removesuffix(LOW)) / LOW_STEPS
        if tensor not in self.scales:
            producer = self.graph.producer(tensor)
            if producer is not None and isinstance(self._operator(producer), Softmax):
                self.scales[tensor] = np.array([PROBABILITY_SCALE])
            elif self._has_channels(tensor):
                self.scales[tensor] = self._channel_scales(tensor)
            else:
                self.scales[tensor] = np.array([self._range(tensor, self.method) / LEVELS])
        return self.scales[tensor]

    def scale(self, tensor: str) -> float:
        """The scale of an int8 tensor that has one."""
        (scale,) = self.scales_of(tensor)
        return float(scale)

    def _has_channels(self, tensor: str) -> bool:
        """Whether the writer scales channel by channel, and all readers on chip can follow."""
        writers = [work for work in self.works if tensor in work.outputs]
        if len(writers) != 1 or not _writes_channels(writers[0]):
            return False
        readers = [work for work in self.works if work.problem and tensor in work.inputs]
        return all(
            isinstance(work.problem, MatmulProblem) and work.problem.parameters for work in readers
        )

    def _channel_scales(self, tensor: str) -> Floats:
        """Half way, in the exponent, between a scale a tensor and one a channel.

        Where the tensor is a residual, no finer than the weights of that channel allow.
        """
        largest = self._range(tensor, self.method)
        channels = np.clip(self.observed.channels[tensor], 2.0**-16 * largest, largest)
        scales = channels**SMOOTHING * largest ** (1 - SMOOTHING) / LEVELS
        for work in self.works:
            p = work.problem
            if isinstance(p, MatmulProblem) and p.residual and work.inputs[-1] == tensor:
                op = self._operator(work.operators[0])
                assert isinstance(op, Matmul)
                finest = self._sum_units(work, self.constants.linear[op.name].weights)
                ratio = max(1, int(np.quantile(scales / finest, COARSENED)))
                scales = np.maximum(scales, ratio * finest)
        settled: Floats = np.asarray(scales, dtype=np.float64)
        return settled

    def _sum_units(self, work: Work, weights: Floats) -> Floats:
        """The least unit of each channel's sums: that of its weights in +-127."""
        units = np.abs(weights * self.scales_of(work.inputs[0])[:, np.newaxis]).max(axis=0) / LEVELS
        least: Floats = np.maximum(units, max(float(units.max()), 1e-30) * 2.0**-12)
        return least

    def step(self, work: Work) -> QuantizedStep:
        """The integers of one kernel."""
        ops = [self._operator(name) for name in work.operators]
        match work.problem:
            case MatmulProblem(parameters=True):
                return self._projection(work, work.problem, ops)
            case MatmulProblem():
                return self._product(work, work.problem, ops)
            case AttentionProblem():
                return self._attention(work, ops)
            case RowProblem():
                return self._rows(work, work.problem, ops)
        raise AssertionError(work)  # pragma: no cover - there are no other problems

    # -- Kernels -----------------------------------------------------------------------------------

    def _projection(self, work: Work, p: MatmulProblem, ops: list[Operator]) -> Projection:
        matmuls = [op for op in ops if isinstance(op, Matmul)]
        linear = [self.constants.linear[op.name] for op in matmuls]
        weights = np.concatenate([each.weights for each in linear], axis=1)
        bias = np.concatenate([each.bias for each in linear])
        name = work.name
        unit = np.maximum(self._sum_units(work, weights), np.abs(bias) / 2**30)
        residual_scale = 0
        if p.residual:
            unit, residual_scale = self._residual(name, work.inputs[-1], unit)
        integers = to_int8(weights * self.scales_of(work.inputs[0])[:, np.newaxis], unit)
        offset = _within(np.round(bias / unit), INT32, name, "bias")
        most = np.abs(integers.astype(np.int64)).sum(axis=0) * 128 + 128 * residual_scale
        _within(most + np.abs(offset), INT32, name, "sum")
        if len(linear) > 1:
            units_out = np.concatenate(
                [np.broadcast_to(self.scales_of(op.output), (op.n,)) for op in matmuls]
            )
        else:
            units_out = np.broadcast_to(self._inner_scale(p.function, work, ops), unit.shape)
        first = _requantizer(unit / units_out, offset, name)
        last = self._last(p.function, work, ops)
        return Projection(integers, first, p.function, last, residual_scale, linear[0].first_row)

    def _residual(self, name: str, tensor: str, unit: Floats) -> tuple[Floats, int]:
        """Units of sums, no finer than `unit`, such that the residual's are a whole number of them."""
        wanted = float((self.scales_of(tensor) / unit).min())
        ratio = int(wanted)
        if not 1 <= ratio < 1 << arithmetic.MULTIPLIER_BITS:
            raise QuantizationError(
                f"{name!r}: the residual's scale is {wanted:.3g} of its sums' and must be from 1 to "
                f"2^{arithmetic.MULTIPLIER_BITS}: calibrate on other data, or scale the weights"
            )
        return np.broadcast_to(self.scales_of(tensor) / ratio, unit.shape), ratio

    def _product(self, work: Work, p: MatmulProblem, ops: list[Operator]) -> Product:
        a, b = work.inputs[:2]
        unit = self.scale(a) * self.scale(b)
        _within(np.array([p.k * 2.0**14]), INT32, work.name, "sum")
        softmax = ops[-1] if isinstance(ops[-1], Softmax) else None
        if softmax is not None:
            scores = self._unmasked(softmax)
            unit *= scores.factor
        first = _requantizer(unit / self._inner_scale(p.function, work, ops), 0, work.name)
        causal = softmax is not None and softmax.causal
        return Product(first, p.function, self._last(p.function, work, ops), causal)

    def _attention(self, work: Work, ops: list[Operator]) -> Attention:
        q, k, v = work.inputs[:3]
        softmax, context = ops[1], ops[2]
        assert isinstance(softmax, Softmax) and isinstance(work.problem, AttentionProblem)
        found = self.constants.scores[softmax.name]
        depth = max(work.problem.head_dim, work.problem.keys)
        _within(np.array([depth * 2.0**14]), INT32, work.name, "sum")
        unit = self.scale(q) * self.scale(k) * found.factor
        outputs = PROBABILITY_SCALE * self.scale(v) / self.scale(context.output)
        return Attention(
            scores=_requantizer(unit / arithmetic.SOFTMAX_INPUT_SCALE, 0, work.name),
            probabilities=_probabilities(),
            context=_requantizer(outputs, 0, work.name),
            score_scale=unit,
            causal=found.causal,
            softmax=softmax.name,
        )

    def _rows(self, work: Work, p: RowProblem, ops: list[Operator]) -> Rows:
        operand: Int8 | None = None
        units = [self.scale(tensor) for tensor in work.inputs[:2]]
        if p.operands > len(work.inputs):
            added = self.constants.operand[ops[0].name]
            units.append(max(float(np.abs(added).max()) / LEVELS, units[0] * 2.0**-SUM_BITS))
            operand = to_int8(added, units[1])
        unit, scales = units[0], (1, 1)
        if p.operands == 2:
            unit = max(units) / 2**SUM_BITS
            scales = (round(units[0] / unit), round(units[1] / unit))
        softmax = ops[-1] if isinstance(ops[-1], Softmax) else None
        if softmax is not None:
            unit *= self._unmasked(softmax).factor
        first = _requantizer(unit / self._inner_scale(p.function, work, ops), 0, work.name)
        last = self._last(p.function, work, ops)
        causal = softmax is not None and softmax.causal
        return Rows(scales, first, p.function, last, operand, causal)

    # -- The two requantizers ------------------------------------------------------------------------

    def _inner_scale(self, function: str, work: Work, ops: list[Operator]) -> Floats | float:
        """What a unit before the function stands for, of a channel where they differ."""
        match function:
            case "gelu":
                return arithmetic.GELU_INPUT_SCALE
            case "softmax":
                return arithmetic.SOFTMAX_INPUT_SCALE
            case "layernorm" | "rmsnorm":
                reach = HEADROOM * self._range(ops[-1].inputs[0], lambda seen: seen.largest)
                return reach / ((1 << (arithmetic.NORM_BITS - 1)) - 1)
        return self.scales_of(work.outputs[0])

    def _last(self, function: str, work: Work, ops: list[Operator]) -> Requantizer | None:
        match function:
            case "gelu":
                unit = arithmetic.GELU_SCALE / self.scale(work.outputs[0])
                return _requantizer(unit, 0, work.name)
            case "softmax":
                return _probabilities()
            case "layernorm" | "rmsnorm":
                norm = ops[-1]
                assert isinstance(norm, LayerNorm)
                found = self.constants.affine[norm.name]
                return _affine(found, self.scales_of(work.outputs[0]), work.name)
        return None

    def _unmasked(self, softmax: Softmax) -> Any:
        found = self.constants.scores[softmax.name]
        if found.keys_hidden:
            raise QuantizationError(
                f"softmax {softmax.name!r}: a mask over keys needs attention on chip, for which this "
                "machine's memories are too small"
            )
        return found

    def _range(self, tensor: str, method: Method) -> float:
        if tensor not in self.observed.histograms:
            raise CalibrationError(
                f"tensor {tensor!r} is not in the ONNX file, so its range cannot be observed: "
                "export the model with standard operators"
            )
        return self.observed.range(tensor, method)

    def _operator(self, name: str) -> Operator:
        op: Operator = self.graph.dag.nodes[name]["op"]
        return op


def _writes_channels(work: Work) -> bool:
    """Whether a kernel's last step before int8 has a factor for each channel."""
    match work.problem:
        case MatmulProblem() as p:
            return p.parameters and p.function not in ("gelu", "softmax")
        case RowProblem() as p:
            return p.function in ("layernorm", "rmsnorm")
    return False


def _probabilities() -> Requantizer:
    """From 2^-16 to 1 / 127: a probability of 1 becomes 127."""
    one = np.ones(1, dtype=np.int64)
    return Requantizer(LEVELS * one, 16 * one, 0 * one)


def _requantizer(real: Floats | float, offset: Ints | int, name: str) -> Requantizer:
    """The requantizers of positive factors. Raises QuantizationError where one is out of range."""
    factors = np.atleast_1d(np.asarray(real, dtype=np.float64))
    try:
        pairs = np.array([arithmetic.dyadic(float(f)) for f in factors], dtype=np.int64)
    except ValueError as error:
        raise QuantizationError(f"{name!r}: requantizer {error}") from error
    offsets = np.broadcast_to(np.asarray(offset, dtype=np.int64), factors.shape)
    return Requantizer(pairs[:, 0], pairs[:, 1], offsets)


def _affine(found: Affine, unit_out: Floats, name: str) -> Requantizer:
    """Gamma and beta in int8 units: the largest shift at which multiplier and offset both fit."""
    factor, added = arithmetic.NORM_SCALE * found.gamma / unit_out, found.beta / unit_out
    bits = arithmetic.MULTIPLIER_BITS - 1
    multiplier_room = bits - 1 - np.frexp(factor)[1]
    offset_room = 30 - np.frexp(added)[1]
    shift = np.minimum(np.minimum(multiplier_room, offset_room), 40).astype(np.int64)
    if (shift < 0).any():
        raise QuantizationError(f"{name!r}: gamma or beta is too large for the range of its output")
    power = np.ldexp(1.0, shift)
    return Requantizer(
        np.round(factor * power).astype(np.int64), shift, np.round(added * power).astype(np.int64)
    )


def _within(values: Floats | Ints, largest: int, name: str, what: str) -> Ints:
    """The values as integers; QuantizationError when one's magnitude is above `largest`."""
    worst = float(np.abs(values).max(initial=0))
    if not worst <= largest:
        raise QuantizationError(
            f"{name!r}: a {what} reaches {worst:.3g} but an int32 holds {largest}: "
            "split the operator, or calibrate on data with a wider range"
        )
    return np.asarray(values).astype(np.int64)
