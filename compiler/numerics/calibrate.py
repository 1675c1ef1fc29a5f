"""Calibration: the float model on a user's data, and how far each of its tensors reaches.

A `Histogram` of magnitudes per tensor, from which a `Method` chooses the range that int8 covers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.hw.errors import CodesignError

Floats: TypeAlias = npt.NDArray[np.float64]
BINS = 4096
LEVELS = 127  # of int8, on either side of zero


class CalibrationError(CodesignError):
    """Calibration data that says nothing about a tensor."""


@dataclass
class Histogram:
    """Magnitudes of a tensor in BINS bins of `width`, a power of two that doubles when they grow."""

    width: float = 0.0
    counts: Floats = field(default_factory=lambda: np.zeros(BINS))
    largest: float = 0.0

    def add(self, values: Array) -> None:
        """Count the values of one sample, which must be finite."""
        magnitudes = np.abs(values.astype(np.float64)).ravel()
        top = float(magnitudes.max(initial=0.0))
        if top == 0.0:
            self.counts[0] += magnitudes.size
            return
        self.largest = max(self.largest, top)
        if self.width == 0.0:
            self.width = 2.0 ** (np.frexp(top)[1]) / BINS
        while top >= self.width * BINS:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2)]
            )
            self.width *= 2
        self.counts += np.bincount((magnitudes / self.width).astype(np.int64), minlength=BINS)


def largest(histogram: Histogram) -> float:
    """Min-max: everything seen is covered."""
    return histogram.largest


def percentile(histogram: Histogram, share: float = 0.9999) -> float:
    """The magnitude that `share` of the values stay below."""
    below = np.cumsum(histogram.counts)
    index = int(np.searchsorted(below, share * below[-1]))
    return min(histogram.largest, (index + 1) * histogram.width)


def least_square(histogram: Histogram) -> float:
    """The range whose int8 values have the least mean squared error over the histogram."""
    centers = (np.arange(BINS) + 0.5) * histogram.width
    ranges = histogram.largest * np.linspace(0.2, 1.0, 81)
    steps = (ranges / LEVELS)[:, np.newaxis]
    rebuilt = np.clip(np.round(centers / steps), 0, LEVELS) * steps
    errors = ((rebuilt - centers) ** 2 * histogram.counts).sum(axis=1)
    return float(ranges[int(errors.argmin())])


def least_divergence(histogram: Histogram) -> float:
    """The range of least relative entropy: how much of the distribution int8 values lose.

    As TensorRT does it (Migacz, "8-bit inference with TensorRT", 2017; arXiv 2004.09602): for each
    range, the magnitudes within, those beyond it counted in its last bin, against the same spread
    evenly over the bins in use of each of 128 levels.
    """
    counts = histogram.counts.copy()
    counts[0] = 0.0  # zeros are exact; those of ReLU and of padding would hide the rest
    if not counts.any():
        return histogram.largest
    last = int(np.flatnonzero(counts)[-1]) + 1
    best, chosen = np.inf, histogram.largest
    for end in (*range(min(LEVELS + 1, last), last, 16), last):
        p = counts[:end].copy()
        q = _coarse(p, LEVELS + 1)
        p[-1] += counts[end:].sum()
        # A bin that only the clipped reach stands at the smallest probability that q has.
        q = np.maximum(q, 1e-4 * q[q > 0].min(initial=1.0))
        p, q = p / p.sum(), q / q.sum()
        used = p > 0
        divergence = float((p[used] * np.log(p[used] / q[used])).sum())
        if divergence < best:
            best, chosen = divergence, min(end * histogram.width, histogram.largest)
    return chosen


def _coarse(counts: Floats, levels: int) -> Floats:
    """Counts spread evenly over the bins in use of each of `levels` even runs of bins."""
    starts = np.unique(np.arange(levels) * len(counts) // levels)
    used = (counts > 0).astype(np.float64)
    totals = np.add.reduceat(counts, starts) / np.maximum(np.add.reduceat(used, starts), 1.0)
    return np.repeat(totals, np.diff([*starts, len(counts)])) * used


Method: TypeAlias = Callable[[Histogram], float]
METHODS: Mapping[str, Method] = {
    "minmax": largest,
    "percentile": percentile,
    "mse": least_square,
    "entropy": least_divergence,
}


class Clamped(NamedTuple):
    """The mean square of what a clamp takes away from a tensor, and of what it leaves."""

    taken: float
    left: float


@dataclass(frozen=True)
class Observed:
    """What calibration saw: a histogram and the shape of every tensor, and one sample to probe with."""

    histograms: Mapping[str, Histogram]
    channels: Mapping[str, Floats]  # the largest magnitude along the last axis
    means: Mapping[str, Floats]  # the mean along the last axis
    squares: Mapping[str, Floats]  # the mean square along the last axis
    shapes: Mapping[str, tuple[int, ...]]
    feeds: Feeds
    clamped: Mapping[str, Clamped] = field(
        default_factory=dict
    )  # by the names of `observe`'s limits

    @property
    def shapes_of_inputs(self) -> Mapping[str, tuple[int, ...]]:
        """What the sample's inputs have, by name."""
        return {name: np.shape(value) for name, value in self.feeds.items()}

    def range(self, tensor: str, method: Method = largest) -> float:
        """How far int8 must reach. Raises CalibrationError for a tensor that is 0 throughout."""
        histogram = self.histograms[tensor]
        if histogram.largest == 0.0:
            raise CalibrationError(
                f"tensor {tensor!r} is 0 in all of the calibration data: use data that exercises it"
            )
        return method(histogram)


def observe(
    model: FloatModel,
    tensors: Iterable[str],
    samples: Iterable[Feeds],
    limits: Mapping[str, tuple[str, float, float]] | None = None,
) -> Observed:
    """Run the samples and observe `tensors`, all of them float.

    `limits`: a tensor, and the least and largest value that a clamp leaves of it, by any name:
    `Observed.clamped` goes by the same.

    Raises CalibrationError without samples and for a tensor that is not finite.
    """
    names = tuple(dict.fromkeys(tensors))
    limits = limits or {}
    part = model.part((), (*names, *(tensor for tensor, _, _ in limits.values())))
    taken, left = dict.fromkeys(limits, 0.0), dict.fromkeys(limits, 0.0)
    histograms = {name: Histogram() for name in names}
    channels: dict[str, Floats] = {}
    means: dict[str, Floats] = {}
    squares: dict[str, Floats] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    first: Feeds | None = None
    for index, feeds in enumerate(samples):
        first = feeds if first is None else first
        found = part(feeds)
        for name, (tensor, low, high) in limits.items():
            value = found[tensor].astype(np.float64)
            kept = np.clip(value, low, high)
            taken[name] += float(np.square(value - kept).mean())
            left[name] += float(np.square(kept).mean())
        for name, value in ((name, found[name]) for name in names):
            _require_numbers(model, name, value, index)
            if shapes.setdefault(name, value.shape) != value.shape:
                raise CalibrationError(
                    f"calibration sample {index} has another shape than those before it: "
                    "pad all to one sequence length"
                )
            histograms[name].add(value)
            rows = value.astype(np.float64).reshape(-1, *value.shape[-1:])
            channels[name] = np.maximum(channels.get(name, 0.0), np.abs(rows).max(axis=0))
            means[name] = means.get(name, 0.0) + rows.mean(axis=0)
            squares[name] = squares.get(name, 0.0) + (rows**2).mean(axis=0)
    if first is None:
        raise CalibrationError("there is no calibration data: give at least one sample")
    means, squares = (
        {name: total / (index + 1) for name, total in totals.items()} for totals in (means, squares)
    )
    clamped = {
        name: Clamped(taken[name] / (index + 1), left[name] / (index + 1)) for name in limits
    }
    return Observed(histograms, channels, means, squares, shapes, first, clamped)


def _require_numbers(model: FloatModel, name: str, value: Array, sample: int) -> None:
    """Raise CalibrationError for a tensor of a sample that is empty, or not finite."""
    where = f"on calibration sample {sample}"
    if value.size == 0:
        raise CalibrationError(f"tensor {name!r} is empty {where}: give one with data")
    if np.isfinite(value).all():
        return
    if broken := model.broken_weight():
        raise CalibrationError(
            f"tensor {name!r} is not finite {where}, and neither is the weight {broken!r}: mend the model"
        )
    raise CalibrationError(
        f"tensor {name!r} is not finite {where}: remove the sample, or mend the model"
    )
