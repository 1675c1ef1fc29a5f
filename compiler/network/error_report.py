"""The error that each kernel of a quantized network adds, what causes it, and what mends it.

Every kernel is measured against the float model on the user's inputs, in plain integers
(`inference.Integers`): by itself, fed with the float inputs in int8; along the int8 run; and by what
the outputs of the model lose when that kernel alone is int8. Rows that padding hides do not count.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign.compiler.graph import Matmul, Softmax
from codesign.compiler.kernels.kernel_kind import Int8
from codesign.compiler.network.inference import Integers, Network, astray_queries, run
from codesign.compiler.numerics import integers
from codesign.compiler.numerics.calibrate import LEVELS, CalibrationError, Floats
from codesign.compiler.numerics.masks import HIDDEN, Mask
from codesign.compiler.numerics.quantized import Quantized, QuantizedStep
from codesign.compiler.onnx.float_model import Array, Feeds, Part
from codesign.compiler.plan.work import LOW, Work

CLIPPED = 1e-3  # shares and ratios from which a cause is named
OUTLYING = 8.0
LOST = 0.02
NEARLY_EXACT_DB = 30.0
UNBOUNDED = "the host makes outputs of it that are not finite: keep it away from 0"
ASTRAY = (
    "its mask hides every key from some queries, as it did in no sample: calibrate on such data"
)


@dataclass(frozen=True)
class OperatorError:
    """One kernel. Errors are root mean squares relative to the float output's.

    `effect` is that of the model's outputs with this kernel alone in int8: nan where not measured, inf
    where outputs are not finite then.
    `causes`: estimated shares of the squared own error: rounding "inputs", "weights", "residual" and
    "output", or "inputs and function".
    """

    name: str
    kind: str
    own: float
    accumulated: float
    effect: float
    causes: Mapping[str, float]
    clipped: float  # share of the outputs beyond the range
    outlier: float  # the largest channel's range, in units of the median's and of its scale
    probability_lost: float  # share of a softmax's probability that is below half of 1/127
    remedy: str

    @property
    def own_db(self) -> float:
        """Signal to quantization noise of `own`."""
        return sqnr_db(self.own)

    @property
    def accumulated_db(self) -> float:
        """Signal to quantization noise of `accumulated`."""
        return sqnr_db(self.accumulated)

    @property
    def effect_db(self) -> float:
        """Signal to quantization noise of `effect`."""
        return sqnr_db(self.effect)


def sqnr_db(relative: float) -> float:
    """Signal to noise, in dB, of a relative RMS error; inf without error."""
    return float("inf") if relative == 0 else float(-20 * np.log10(relative))


def error_report(
    network: Network, samples: Iterable[Feeds], *, effects: bool = True
) -> list[OperatorError]:
    """The kernels of a network, those with the largest effect on the outputs (without `effects`, the
    largest own error) first.

    Raises CalibrationError without samples, ModelError where they do not fit.
    """
    totals = {index: _Totals() for index in network.quantized.steps}
    names = _float_tensors(network)
    part = network.clamped.part((), (*names, *network.clamped.outputs))
    alone = _downstream(network, names) if effects else {}
    empty = True
    for feeds in samples:
        empty = False
        floats, backend = part(feeds), Integers(network)
        run(network, feeds, backend)
        shown = _shown(network, backend.masks)
        for index in astray_queries(network, feeds):
            totals[index].astray = True
        for index, total in totals.items():
            _measure(network, index, feeds, floats, backend, shown, alone.get(index), total)
    if empty:
        raise CalibrationError("there is no data to measure errors on: give at least one sample")
    found = [_record(network, index, total, effects) for index, total in totals.items()]
    return sorted(found, key=lambda e: -(e.effect if effects else e.own))


def _downstream(network: Network, names: tuple[str, ...]) -> dict[int, Part]:
    """By kernel, the float model behind it, where what it and those before it write is known."""
    known: list[str] = []
    parts = {}
    for index in network.quantized.steps:
        known += [t for t in network.plan.steps[index].work.outputs if t in names]
        parts[index] = Part(network.clamped, tuple(known), network.clamped.outputs)
    return parts


@dataclass
class _Totals:
    """Sums of squares over samples, by cause, and counts."""

    sums: dict[str, float] = field(default_factory=dict)
    channels: Floats | None = None
    astray: bool = False  # a mask hides all keys of a query, and float does not do as the kernel

    def add(self, name: str, values: Array) -> None:
        energy = float((values.astype(np.float64) ** 2).sum())
        self.sums[name] = self.sums.get(name, 0.0) + (math.inf if math.isnan(energy) else energy)

    def ratio(self, name: str, of: str) -> float:
        return self.sums.get(name, 0.0) / max(self.sums.get(of, 0.0), 1e-300)


def _float_tensors(network: Network) -> tuple[str, ...]:
    """The tensors of int8 kernels and of softmax that the float model has."""
    names: dict[str, None] = {}
    for index in network.quantized.steps:
        work = network.plan.steps[index].work
        ops = [network.plan.graph.dag[name] for name in work.operators]
        softmax = [op.output for op in ops if isinstance(op, Softmax)]
        names |= dict.fromkeys(
            (*(t.removesuffix(LOW) for t in work.inputs), *work.outputs, *softmax)
        )
    return tuple(name for name in names if network.model.has(name))


def _shown(network: Network, masks: Mapping[int, Mask]) -> dict[int, Array]:
    """By number of rows, those that some softmax sees as keys."""
    shown: dict[int, Array] = {}
    for index, mask in masks.items():
        added = network.quantized.steps[index].added
        if added is not None and mask.offsets is not None:
            seen = mask.offsets * added.unit > HIDDEN
            shown[len(seen)] = shown.get(len(seen), np.zeros(len(seen), np.bool_)) | seen
    return shown


def _measure(
    network: Network,
    index: int,
    feeds: Feeds,
    floats: Mapping[str, Array],
    backend: Integers,
    shown: Mapping[int, Array],
    alone: Part | None,
    total: _Totals,
) -> None:
    """Add one sample's errors of one kernel."""
    work, step = network.plan.steps[index].work, network.quantized.steps[index]
    quantized, matrices = network.quantized, network.matrices
    scales = quantized.scales
    exact = {name: matrices[name].of(value) for name, value in floats.items() if name in scales}
    fed = {name: _fed(name, exact, quantized) for name in work.inputs if name in backend.known}
    mask = backend.masks.get(index, Mask())
    results = integers.integer_outputs(step, work, network.plan.config, matrices, fed, mask)
    rebuilt = {name: quantized.values(name, value) for name, value in results.items()}
    for name, value in rebuilt.items():
        rows = shown.get(len(value), np.ones(len(value), np.bool_))
        wanted = exact[name][rows]
        total.add("signal", wanted)
        total.add("own", value[rows] - wanted)
        total.add("accumulated", quantized.values(name, backend.known[name][rows]) - wanted)
        nearest = quantized.values(name, quantized.codes(name, wanted))
        total.add("output", nearest - wanted)
        total.add("clipped", np.abs(wanted - nearest) > 0.5 * (1 + 1e-6) * scales[name])
        total.add("count", np.ones(wanted.shape))
        reach = np.abs(wanted / scales[name]).max(axis=0, initial=0.0)
        total.channels = reach if total.channels is None else _widest(total.channels, reach)
    if step.weights is not None:
        _split(network, step, work, exact, fed, total)
    _lost(network, work, floats, total)
    if alone is not None:
        given = {n: matrices[n].array(v, matrices.shapes[n]) for n, v in rebuilt.items()}
        ours = {n: v.astype(np.float32) for n, v in given.items()}
        found = alone({**floats, **feeds, **ours})
        for name in network.model.outputs:
            counted = _output_rows(floats[name], shown)
            with np.errstate(invalid="ignore"):  # what is not finite has an error without bound
                total.add("effect", (found[name].astype(np.float64) - floats[name])[counted])
            total.add("outputs", floats[name][counted])


def _fed(name: str, exact: Mapping[str, Array], quantized: Quantized) -> Array:
    """The int8 matrix of a float tensor, or of what it leaves."""
    whole = name.removesuffix(LOW)
    codes = quantized.codes(whole, exact[whole])
    return codes if name == whole else quantized.remainder(whole, exact[whole], codes)


def _widest(a: Floats, b: Floats) -> Floats:
    return np.maximum(a, b) if a.shape == b.shape else np.concatenate([a, b])


def _output_rows(value: Array, shown: Mapping[int, Array]) -> Any:
    """An index of the rows of an output [..., rows, columns] that count."""
    rows = shown.get(value.shape[-2]) if value.ndim > 1 else None
    return (...,) if rows is None else (..., rows, slice(None))


def _split(
    network: Network,
    step: QuantizedStep,
    work: Work,
    exact: Mapping[str, Array],
    fed: Mapping[str, Array],
    total: _Totals,
) -> None:
    """Errors of the sums of a product with weights: from rounding its input, and its weights."""
    ops = [network.plan.graph.dag[name] for name in work.operators]
    linear = [network.constants.linear[op.name] for op in ops if isinstance(op, Matmul)]
    weights = np.concatenate([each.weights for each in linear], axis=1)
    assert step.weights is not None
    source, (_, m, _) = work.inputs[0], work.drains[0].shape
    quantized = network.quantized
    scales = quantized.scales[source]
    rows = slice(step.first_row, step.first_row + m)
    x, rounded = exact[source][rows].astype(np.float64), quantized.values(source, fed[source][rows])
    scaled = weights * np.broadcast_to(scales, (len(weights),))[:, np.newaxis]
    units = _units(step.weights, scaled)
    kept = step.weights * units / np.broadcast_to(scales, (len(weights),))[:, np.newaxis]
    sums = x @ weights + np.concatenate([each.bias for each in linear])
    for residual in work.inputs[1:]:
        added = exact[residual]
        sums = sums + added
        rounding = quantized.values(residual, quantized.codes(residual, added)) - added
        total.add("residual", rounding)
    total.add("sums", sums)
    total.add("inputs", (rounded - x) @ weights)
    total.add("weights", rounded @ (kept - weights))


def _units(weights: Int8, scaled: Floats) -> Floats:
    """What a unit of each column's int8 weights stands for: the fit of the integers to the floats."""
    whole = weights.astype(np.float64)
    return np.asarray((whole * scaled).sum(axis=0) / np.maximum((whole**2).sum(axis=0), 1.0))


def _lost(network: Network, work: Work, floats: Mapping[str, Array], total: _Totals) -> None:
    """The probability that int8 does not have: below half of 1/127, where int8 holds probabilities."""
    for name in work.operators:
        op = network.plan.graph.dag[name]
        held = op.output in floats and op.output in network.quantized.scales
        if isinstance(op, Softmax) and held:
            p = floats[op.output]
            total.sums["lost"] = total.sums.get("lost", 0.0) + float(p[p < 0.5 / LEVELS].sum())
            total.sums["probability"] = total.sums.get("probability", 0.0) + float(p.sum())


def _record(network: Network, index: int, total: _Totals, effects: bool) -> OperatorError:
    work = network.plan.steps[index].work
    causes = {"output": min(total.ratio("output", "own"), 1.0)}
    if "sums" in total.sums:
        # Relative to the sums, as far as that carries over to the output.
        relative = total.ratio("own", "signal")
        for cause in ("inputs", "weights", "residual"):
            causes[cause] = min(total.ratio(cause, "sums") / max(relative, 1e-300), 1.0)
    else:
        causes["inputs and function"] = 1.0 - causes["output"]
    channels = np.zeros(1) if total.channels is None else total.channels
    used = channels[channels > 0]
    outlier = float(used.max() / np.median(used)) if used.size else 1.0
    clipped, lost = total.ratio("clipped", "count"), total.ratio("lost", "probability")
    own = float(np.sqrt(total.ratio("own", "signal")))
    effect = float(np.sqrt(total.ratio("effect", "outputs"))) if effects else float("nan")
    known = UNBOUNDED if math.isinf(effect) else ASTRAY if total.astray else None
    return OperatorError(
        name=work.name,
        kind=work.kind,
        own=own,
        accumulated=float(np.sqrt(total.ratio("accumulated", "signal"))),
        effect=effect,
        causes=causes,
        clipped=clipped,
        outlier=outlier,
        probability_lost=lost,
        remedy=known or _remedy(work, own, causes, clipped, outlier, lost),
    )


def _remedy(
    work: Work, own: float, causes: Mapping[str, float], clipped: float, outlier: float, lost: float
) -> str:
    """What to change, from what was measured."""
    if sqnr_db(own) > NEARLY_EXACT_DB:
        return "none needed"
    if clipped > CLIPPED:
        return f"{clipped:.1%} of its outputs are clipped: calibrate with minmax, or on wider data"
    worst = max(causes, key=lambda cause: causes[cause])
    if lost > LOST and worst != "output":
        return (
            f"{lost:.0%} of its probability is below 1/254: shorten the sequence, or keep this "
            "attention wider (host)"
        )
    if worst == "weights":
        return "rounding its weights: smooth its input less, with one scale per column of weights"
    if worst in ("inputs", "residual"):
        source = work.inputs[0 if worst == "inputs" else -1]
        return f"rounding its input {source!r}: see the kernel that writes it"
    if outlier > OUTLYING:
        return (
            f"one channel reaches {outlier:.0f} times as far as the median: smooth more, calibrate "
            "with mse, or keep this layer wider (host)"
        )
    if worst == "output":
        return "rounding its output: calibrate with mse, or keep this layer wider (host)"
    return "the integer function and its inputs: keep this layer wider (host)"
