"""What of a network does not fit the formats of the machine's nonlinear units, held to calibration.

Their inputs and outputs have fixed points (docs/numerics.md). An operator whose values lie beyond
them, or far below a step, would come out wrong without a word: the host computes it, in float, and
a note says why. What int8 probabilities lose is said too, where they have a scale (attention in parts
has none): of many keys of like weight each is less than half a step.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Activation, Graph, Softmax
from codesign.compiler.numerics.calibrate import LEVELS, Histogram, Observed
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.numerics.elementwise import FUNCTIONS_IN_FLOAT
from codesign.compiler.numerics.quantized import Quantized
from codesign.compiler.numerics.tensor_scales import attends, probability_scale
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.compiler.placement.gelu_error import decibels, machine_values
from codesign.hw.machine import arithmetic
from codesign.hw.machine.functions import FUNCTION

LEAST_DB = 20.0  # signal to noise of a unit's function: with less the host computes it
LARGEST_SCORE = arithmetic.SOFTMAX_INPUT_SCALE * (1 << (arithmetic.VALUE_BITS - 1))
LOST = 0.02  # of a softmax's probability


def unfit(graph: Graph, constants: Constants, observed: Observed) -> dict[str, str]:
    """By operator, why the machine's format does not hold what calibration saw of it."""
    found: dict[str, str] = {}
    for op in graph.operators():
        seen = observed.histograms.get(op.inputs[0]) if op.inputs else None
        reason = constants.unfit.get(op.name, "")
        scaled = isinstance(op, Activation) and FUNCTION[op.function].input_scale is not None
        if isinstance(op, Activation) and scaled and seen is not None:
            reason = _activation(op.function, seen, constants.factors[op.name][0])
        elif isinstance(op, Softmax) and seen is not None:
            reason = _scores(seen, constants.scores[op.name].factor)
            reason = reason or _probabilities(graph, op, observed)
        if reason:
            found[op.name] = reason
    return found


def narrow_gates(graph: Graph, constants: Constants, observed: Observed) -> frozenset[str]:
    """The activations whose arguments, or limits, do not fit those of a product behind them: each is a
    kernel's or an epilogue by itself.
    """
    return frozenset(
        op.name
        for op in graph.operators()
        if isinstance(op, Activation)
        and (op.name in constants.limits or _beyond(op, constants, observed))
    )


def _beyond(op: Activation, constants: Constants, observed: Observed) -> bool:
    seen, scale = observed.histograms.get(op.inputs[0]), FUNCTION[op.function].input_scale
    if seen is None or scale is None:
        return False
    reach = constants.factors[op.name][0] * seen.largest
    return reach > scale * (1 << (arithmetic.OPERAND_BITS - 1))


def _activation(function: str, seen: Histogram, factor: float) -> str:
    """Why the machine's unit is far from the function; its inputs lie on either side of 0 alike."""
    magnitudes, counts = _values(seen)
    if not counts.sum() or not seen.largest:
        return ""
    x = factor * np.concatenate([magnitudes, -magnitudes])
    exact = FUNCTIONS_IN_FLOAT[function](x)
    error = machine_values(function, x) - exact
    signal, noise = (float((np.tile(counts, 2) * y**2).sum()) for y in (exact, error))
    ratio = decibels(signal, noise)
    if ratio >= LEAST_DB:
        return ""
    reach = factor * seen.largest
    title = "GELU" if function == "gelu" else function
    return f"its arguments reach {reach:.3g}, where the machine's {title} has {ratio:.0f} dB"


def _scores(seen: Histogram, factor: float) -> str:
    reach = factor * seen.largest
    if reach <= LARGEST_SCORE:
        return ""
    return f"its scores reach {reach:.3g}, the machine's {LARGEST_SCORE:.0f}"


def _probabilities(graph: Graph, op: Softmax, observed: Observed) -> str:
    """Why int8 does not hold the result of a softmax that is no attention's."""
    seen = observed.histograms.get(op.output)
    if attends(graph, op) or seen is None:
        return ""
    half = probability_scale(graph, op, observed) / 2
    if half < arithmetic.SOFTMAX_SCALE:
        return (
            f"its probabilities reach {seen.largest:.2g}, of which eight bits have steps that the "
            "machine's 2^-16 are too coarse for"
        )
    lost = _lost(seen, half, op.cols)
    if lost <= LOST:
        return ""
    return f"{lost:.0%} of its probability is below half a step of int8"


def _values(seen: Histogram) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Magnitudes and how many there are: the middles of bins in use, zeros left out."""
    used = np.flatnonzero(seen.counts)
    middles = (used + 0.5) * seen.width
    return np.minimum(middles, seen.largest), seen.counts[used]


def format_notes(graph: Graph, quantized: Quantized, observed: Observed) -> Iterator[str]:
    """A line for what eight bits do not hold of a network, or calibration did not show."""
    if quantized.dead:
        yield (
            f"{len(quantized.dead)} tensors are 0 in all of the calibration data, {quantized.dead[0]!r} "
            "first: their range is a guess; use data that exercises them"
        )
    losses = []
    for op in graph.operators():
        if isinstance(op, Softmax) and op.output in quantized.scales:
            scale, seen = float(quantized.scales[op.output][0]), observed.histograms.get(op.output)
            lost = 0.0 if seen is None else _lost(seen, scale / 2, op.cols)
            if lost > LOST:
                losses.append((lost, op.name, scale))
    if losses:
        lost, name, scale = max(losses)
        yield (
            f"{len(losses)} softmaxes lose probabilities below half a step of int8, {name!r} most: "
            f"{lost:.0%} of what calibration saw; it matters from about {1 / scale:.0f} columns of like "
            "weight on: shorten the sequence"
        )


def saturated(graph: Graph, quantized: Quantized, model: FloatModel, feeds: Feeds) -> list[str]:
    """The softmaxes whose probabilities on one input are beyond what calibration left room for."""
    tops = {
        op.output: (op.name, float(quantized.scales[op.output][0]) * (LEVELS + 0.5))
        for op in graph.operators()
        if isinstance(op, Softmax) and op.output in quantized.scales and model.has(op.output)
    }
    limited = [tensor for tensor, (_, top) in tops.items() if top < 1]
    values = model.part((), limited)(feeds) if limited else {}
    return [tops[tensor][0] for tensor in limited if values[tensor].max() > tops[tensor][1]]


def _lost(seen: Histogram, half: float, columns: int) -> float:
    """The share of a softmax's probability in values below `half` a step; rows sum to 1."""
    magnitudes = (np.arange(len(seen.counts)) + 0.5) * seen.width
    kept = magnitudes >= half
    rows = seen.counts.sum() / columns
    return float(np.clip(1 - (seen.counts * magnitudes)[kept].sum() / rows, 0, 1))
