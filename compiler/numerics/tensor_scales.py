"""The scale of every int8 tensor of a plan, and the units of the sums that read it.

Activations have one scale a tensor; where only weights and sums behind them read it, one a channel
(`channel_scales`), which a reader takes into the rows of its weights. Scales that a file gives are
kept.
"""

from dataclasses import replace

import numpy as np

from codesign.compiler.graph import Activation, Graph, Matmul, Operator, Rearrange, Softmax
from codesign.compiler.numerics.calibrate import LEVELS, METHODS, CalibrationError, Method, Observed
from codesign.compiler.numerics.channel_scales import (
    Reader,
    ScaleReaders,
    expected_error,
    least_error,
)
from codesign.compiler.numerics.constants import Constants, Floats
from codesign.compiler.numerics.options import Options
from codesign.compiler.numerics.quantized import LOW_STEPS
from codesign.compiler.plan import kinds
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import LOW, Work
from codesign.compiler.rewrite.given_scales import GivenScales
from codesign.hw.machine.functions import FUNCTION

COARSENED = 0.25  # the share of a residual's channels whose weights make them coarser
BULK, RECTIFIED = 4.0, 6.0  # deviations that a channel reaches at least; behind a relu
ROOM = 1.1  # times the largest that was seen of any channel, which that does not exceed
ROWS = 64  # of calibration, that tell as much of a channel as all channels do
RATIOS = (0.1, 0.5, 0.9)  # such shares to choose from by the expected error
PROBABILITY_ROOM = 1.25  # beyond the largest that calibration saw: 2 dB, where twice would cost 6
MOST_COLUMNS = 4096  # of weights, that scales are fitted to


class TensorScales:
    """Settles scales at first use, see `of`."""

    def __init__(
        self,
        plan: Plan,
        constants: Constants,
        observed: Observed,
        options: Options,
        given: GivenScales,
    ) -> None:
        self.graph, self.config = plan.graph, plan.config
        self.constants, self.observed = constants, observed
        self.options, self.given = options, given
        self.method = METHODS[options.method]
        self.works = [step.work for step in plan.steps]
        self.scales: dict[str, Floats] = {}
        self.settling: set[str] = set()
        self.dead: list[str] = []  # 0 in all of the calibration data

    def of(self, tensor: str) -> Floats:
        """The scales [columns] or [1] of an int8 tensor."""
        if tensor.endswith(LOW):
            return self.of(tensor.removesuffix(LOW)) / LOW_STEPS
        if tensor in self.settling:  # a residual of itself: near enough to compare with
            return np.array([self.range(tensor, self.method) / LEVELS])
        if tensor not in self.scales:
            producer = self.graph.producer(tensor)
            if tensor in self.given.activations:
                self.scales[tensor] = np.array([self.given.activations[tensor].scale])
            elif (other := self._rearranged(tensor) or self._copied(tensor)) is not None:
                self.scales[tensor] = self.of(other)
            elif producer is not None and isinstance(self.operator(producer), Softmax):
                scale = probability_scale(self.graph, self.operator(producer), self.observed)
                self.scales[tensor] = np.array([scale])
            elif self._has_channels(tensor):
                self.settling.add(tensor)
                self.scales[tensor] = self._channel_scales(tensor)
                self.settling.remove(tensor)
            else:
                self.scales[tensor] = np.array([self.range(tensor, self.method) / LEVELS])
        return self.scales[tensor]

    def _rearranged(self, tensor: str) -> str | None:
        """What the host rearranged, where its codes are those of the machine's own tensors."""
        producer = self.graph.producer(tensor)
        op = None if producer is None else self.operator(producer)
        kept = isinstance(op, Rearrange) and not self.zero(op.inputs[0])
        return op.inputs[0] if op is not None and kept else None

    def _copied(self, tensor: str) -> str | None:
        """What kernels read that the host makes of a kernel's codes by moving them: both have the same."""
        copy = self.given.moved.get(tensor)
        if copy is None or copy not in self.observed.histograms or self.zero(copy):
            return None
        return copy if any(work.problem and copy in work.inputs for work in self.works) else None

    def zero(self, tensor: str) -> int:
        """The code that stands for 0."""
        codes = self.given.activations.get(tensor)
        return 0 if codes is None else codes.zero

    def one(self, tensor: str) -> float:
        """The scale of an int8 tensor that has one."""
        (scale,) = self.of(tensor)
        return float(scale)

    def _has_channels(self, tensor: str) -> bool:
        """Whether the writer scales channel by channel, and all readers on chip can follow."""
        writers = [work for work in self.works if tensor in work.outputs]
        if self.options.smoothing == 0 or len(writers) != 1 or not _writes_channels(writers[0]):
            return False
        first, last = (self.operator(writers[0].operators[index]) for index in (0, -1))
        convolved = isinstance(first, Matmul) and first.im2col_bytes > 0
        columns = last.n if isinstance(last, Matmul) else getattr(last, "cols", 0)
        merged = bool(writers[0].output_columns)
        if convolved or not merged and len(self.observed.channels[tensor]) != columns:
            return False
        reading = [work for work in self.works if tensor in work.inputs]
        if any(isinstance(self.operator(work.operators[0]), Rearrange) for work in reading):
            return False
        readers = [work for work in reading if work.problem]
        return all(work.constant_b and not self.given_units(work) for work in readers)

    def given_units(self, work: Work) -> list[Floats]:
        """What a unit of the weights stands for, by matmul, where a file says it of all of them."""
        ops = [op for op in map(self.operator, work.operators) if isinstance(op, Matmul)]
        found = [self.given.weights.get(op.name) for op in ops]
        units = [
            np.broadcast_to(u, (op.n,)) for u, op in zip(found, ops, strict=True) if u is not None
        ]
        return units if len(units) == len(ops) else []

    def _channel_scales(self, tensor: str) -> Floats:
        """One a channel: of the least expected error, or as far between the tensor's and the
        channels' ranges as `Options.smoothing` says.

        Where the tensor is a residual, no finer than the weights of that channel allow, of which
        COARSENED tells how many coarsen it, or the expected error.
        """
        largest = self.range(tensor, self.method)
        channels = np.clip(self.observed.channels[tensor], 2.0**-16 * largest, largest)
        smoothing = self.options.smoothing
        if smoothing is None:
            return self._least_error(tensor, channels / LEVELS)
        scales: Floats = channels**smoothing * largest ** (1 - smoothing) / LEVELS
        for _, finest in self._behind(tensor):
            ratio = max(1, int(np.quantile(scales / finest, COARSENED)))
            scales = np.maximum(scales, ratio * finest)
        return scales

    def _behind(self, tensor: str) -> list[tuple[Work, Floats]]:
        """The kernels that add the tensor to a product, and the least scales they leave it."""
        found = []
        for work in self.works:
            if work.constant_b and tensor in work.inputs[1:]:
                op = self.operator(work.operators[0])
                assert isinstance(op, Matmul)
                finest = self.sum_units(work, self.constants.linear[op.name].weights)
                found.append((work, finest / self.residual_factor(work)))
        return found

    def _least_error(self, tensor: str, finest: Floats) -> Floats:
        """The scales of least expected error, all errors relative to what they are added to.

        A channel reaches BULK deviations from its mean at least: calibration on few rows sees less. Of a
        relu that is seldom above 0 it sees nothing: there ROWS rows more, like all channels, are taken
        to be seen, and RECTIFIED deviations.
        """
        means, squares = self.observed.means[tensor], self.observed.squares[tensor]
        variances = np.maximum(squares - means**2, 0.0)
        reach, most, name = BULK, np.inf, self.graph.producer(tensor)
        op = None if name is None else self.operator(name)
        if isinstance(op, Activation) and op.function == "relu":
            rows = self.observed.histograms[tensor].counts.sum() / means.size
            variances = (rows * variances + ROWS * variances.mean()) / (rows + ROWS)
            reach, most = RECTIFIED, ROOM * float(finest.max())
        beyond = (np.abs(means) + reach * np.sqrt(variances)) / LEVELS
        finest = np.maximum(finest, np.minimum(beyond, most))
        on = ScaleReaders(finest, squares, np.zeros_like(finest))
        readers = [
            _reader(self.constants.linear[name].weights, 1 / self._energy(op.output))
            for work in self.works
            if work.problem is not None and work.inputs[0] == tensor
            for name in work.operators
            if isinstance(op := self.operator(name), Matmul)
        ]
        on = replace(on, readers=readers)
        behind = self._behind(tensor)
        if not (behind or readers):
            # No weights set a price: half way, in the exponent, to all alike.
            between: Floats = np.sqrt(finest * finest.max())
            return between
        if tensor in self.graph.outputs:
            on = replace(on, direct=on.direct + 1 / self._energy(tensor))
        if not behind:
            return least_error(on)
        work, limit = behind[0]
        importance = 1 / self._energy(self.operator(work.operators[1]).output)
        levels = self.observed.squares[work.inputs[0]] / self.of(work.inputs[0]) ** 2
        best, found, scales = np.inf, finest, None
        for share in RATIOS:
            ratio = max(1, int(np.quantile(finest / limit, share)))
            # The residual's own rounding, and that of the weights, whose units are its over `ratio`.
            direct = on.direct + importance * (1 + levels.sum() / ratio**2)
            trial = replace(on, finest=np.maximum(finest, ratio * limit), direct=direct)
            scales = least_error(trial, scales)
            if (error := expected_error(trial, scales)) < best:
                best, found = error, scales
        return found

    def _energy(self, tensor: str) -> float:
        """E[sum of squares] of a row of a tensor; 1 where calibration has not seen it."""
        squares = self.observed.squares.get(tensor)
        return 1.0 if squares is None else max(float(squares.sum()), 1e-30)

    def sum_units(self, work: Work, weights: Floats) -> Floats:
        """The least unit of each channel's sums: that of its weights in +-127, or in the file's."""
        given = self.given_units(work)
        if given:
            units = np.concatenate(given) * self.one(work.inputs[0])
            return np.where(units > 0, units, max(float(units.max()), 1e-30))
        units = np.abs(weights * self.of(work.inputs[0])[:, np.newaxis]).max(axis=0) / LEVELS
        if not self.options.channel_weights:
            units = np.full_like(units, units.max())
        # Weights of nothing but 0 have the unit of a weight of 1.
        top = float(units.max()) or float(self.of(work.inputs[0]).max()) / LEVELS
        least: Floats = np.maximum(units, top * 2.0**-12)
        return least

    def residual_factor(self, work: Work) -> float:
        """What the residual is multiplied by, in units of what the matmul is."""
        own, other = self.sum_factors(work)
        return other / own

    def sum_factors(self, work: Work) -> tuple[float, float]:
        """Factors of the matmul and of the residual behind it."""
        product, total = (self.operator(name) for name in work.operators[:2])
        first, second = self.constants.factors[total.name]
        return (first, second) if total.inputs[0] == product.output else (second, first)

    def range(self, tensor: str, method: Method) -> float:
        if tensor not in self.observed.histograms:
            raise CalibrationError(
                f"tensor {tensor!r} is not in the ONNX file, so its range cannot be observed: "
                "export the model with standard operators"
            )
        if self.observed.histograms[tensor].largest == 0.0:
            return self._dead(tensor)
        return self.observed.range(tensor, method)

    def _dead(self, tensor: str) -> float:
        """A range for what is 0 in all of the calibration data: that of what it is computed from."""
        self.dead.append(tensor)
        name = self.graph.producer(tensor)
        inputs = () if name is None else self.operator(name).inputs
        seen = [
            self.observed.histograms[t].largest for t in inputs if t in self.observed.histograms
        ]
        return max(seen, default=0.0) or 1.0

    def operator(self, name: str) -> Operator:
        op: Operator = self.graph.dag[name]
        return op


def probability_scale(graph: Graph, softmax: Operator, observed: Observed) -> float:
    """The scale of probabilities: up to 1, or to the largest that calibration saw, with
    PROBABILITY_ROOM beyond it where attention weighs by them.
    """
    seen = observed.histograms.get(softmax.output)
    largest = 0.0 if seen is None else seen.largest
    room = PROBABILITY_ROOM if attends(graph, softmax) else 1.0
    return min(1.0, room * (largest or 1.0)) / LEVELS


def attends(graph: Graph, softmax: Operator) -> bool:
    """Whether an activation is weighed by the probabilities."""
    readers = [graph.dag[name] for name in graph.dag.successors(softmax.name)]
    return any(isinstance(reader, Matmul) and not reader.constant_b for reader in readers)


def _reader(weights: Floats, importance: float) -> Reader:
    """Some of the columns stand for all where there are many: a head over a vocabulary."""
    every = -(-weights.shape[1] // MOST_COLUMNS)
    return Reader(weights[:, ::every], every * importance)


def _writes_channels(work: Work) -> bool:
    """Whether a kernel's last step before int8 has a factor for each channel."""
    problem = work.problem
    if problem is None or kinds.kind_of(problem).elementwise(problem):
        return False
    last = work.drains[-1]
    return last.affine if FUNCTION[last.function].normalization else last.scaled
