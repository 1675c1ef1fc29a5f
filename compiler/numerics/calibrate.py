"""Calibration: the float model on a user's data, and how far each of its tensors reaches.

A `Histogram` of magnitudes per tensor, from which a `Method` chooses the range that int8 covers.
onnxruntime returns all that a run is asked for at once. Tensors that are too large for that, as the
scores of long sequences are, come in turns, each of which begins at what those before it returned.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.hw.errors import CodesignError

Floats: TypeAlias = npt.NDArray[np.float64]
BINS = 4096
LEVELS = 127  # of int8, on either side of zero
MOST_AT_ONCE = 1 << 28  # elements that a turn returns, but for a single tensor of more
SLAB = 1 << 24  # elements of a tensor that are counted at once


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
    elements: Mapping[str, int] | None = None,
) -> Observed:
    """Run the samples and observe `tensors`, all of them float, in the order of the data.

    `limits`: a tensor, and the least and largest value that a clamp leaves of it, by any name:
    `Observed.clamped` goes by the same. `elements` of tensors, as far as they are known.

    Raises CalibrationError without samples and for a tensor that is not finite.
    """
    limits = limits or {}
    seen = {name: _Seen() for name in tensors}
    clamps = {name: _Clamp(low, high) for name, (_, low, high) in limits.items()}
    clamped: dict[str, list[_Clamp]] = {}
    for name, (tensor, _, _) in limits.items():
        clamped.setdefault(tensor, []).append(clamps[name])
    turns = _Turns(model, dict.fromkeys((*seen, *clamped)), elements or {})
    first: Feeds | None = None
    for index, feeds in enumerate(samples):
        first = feeds if first is None else first
        for name, value in turns.run(feeds):
            if name in seen:
                _require_numbers(model, name, value, index)
                seen[name].add(value, index)
            for clamp in clamped.get(name, ()):
                clamp.add(value)
    if first is None:
        raise CalibrationError("there is no calibration data: give at least one sample")
    return Observed(
        {name: each.histogram for name, each in seen.items()},
        {name: each.channels for name, each in seen.items()},
        {name: each.means / (index + 1) for name, each in seen.items()},
        {name: each.squares / (index + 1) for name, each in seen.items()},
        {name: each.shape for name, each in seen.items()},
        first,
        {name: Clamped(c.taken / (index + 1), c.left / (index + 1)) for name, c in clamps.items()},
    )


@dataclass
class _Seen:
    """What was seen of one tensor: sums over samples of its means and mean squares."""

    histogram: Histogram = field(default_factory=Histogram)
    channels: Floats = field(default_factory=lambda: np.zeros(()))
    means: Floats = field(default_factory=lambda: np.zeros(()))
    squares: Floats = field(default_factory=lambda: np.zeros(()))
    shape: tuple[int, ...] = ()

    def add(self, value: Array, sample: int) -> None:
        """Count one sample. Raises CalibrationError where its shape is not that of those before."""
        if sample and value.shape != self.shape:
            raise CalibrationError(
                f"calibration sample {sample} has another shape than those before it: "
                "pad all to one sequence length"
            )
        self.shape = value.shape
        rows, sums, squares = 0, np.zeros(()), np.zeros(())
        for slab in _slabs(value):
            self.histogram.add(slab)
            self.channels = np.maximum(self.channels, np.abs(slab).max(axis=0))
            sums, squares = sums + slab.sum(axis=0), squares + (slab**2).sum(axis=0)
            rows += len(slab)
        self.means, self.squares = self.means + sums / rows, self.squares + squares / rows


@dataclass
class _Clamp:
    """Sums over samples of the mean squares of what a clamp takes away and leaves."""

    low: float
    high: float
    taken: float = 0.0
    left: float = 0.0

    def add(self, value: Array) -> None:
        """Count one sample."""
        taken = left = 0.0
        for slab in _slabs(value):
            kept = np.clip(slab, self.low, self.high)
            taken += float(np.square(slab - kept).sum())
            left += float(np.square(kept).sum())
        self.taken, self.left = self.taken + taken / value.size, self.left + left / value.size


def _slabs(value: Array) -> Iterator[Floats]:
    """A tensor in float64 [rows, last axis], some rows at a time."""
    rows = value.reshape(-1, *value.shape[-1:])
    count = max(1, SLAB // max(1, rows[:1].size))
    for begin in range(0, len(rows), count):
        yield rows[begin : begin + count].astype(np.float64)


class _Turns:
    """Parts of a model that compute tensors one after another, so many at once as memory is for."""

    def __init__(
        self, model: FloatModel, tensors: Iterable[str], elements: Mapping[str, int]
    ) -> None:
        turns: list[list[str]] = [[]]
        held = 0
        for name in tensors:
            held += elements.get(name, 0)
            if held > MOST_AT_ONCE and turns[-1]:
                turns.append([])
                held = elements.get(name, 0)
            turns[-1].append(name)
        known = [
            tuple(name for turn in turns[:index] for name in turn) for index in range(len(turns))
        ]
        self.parts = [model.part(*each) for each in zip(known, turns, strict=True)]

    def run(self, feeds: Feeds) -> Iterator[tuple[str, Array]]:
        """The tensors on one sample; of a turn's, what no later one starts from is dropped."""
        known = dict(feeds)
        for index, part in enumerate(self.parts):
            found = part(known)
            yield from found.items()
            later = {name for each in self.parts[index + 1 :] for name in each.inputs}
            known = {name: value for name, value in (known | found).items() if name in later}
            del found


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
