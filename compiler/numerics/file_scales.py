"""The scales that a quantized ONNX file fixes, by the names of its operator graph.

`dequantize` knows them by the file's tensors; behind plumbing, the columns of a kernel's weights are
found as their values are (`probe`): by asking the model for a row of them.
"""

from collections.abc import Collection, Container, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Graph, Matmul
from codesign.compiler.numerics.calibrate import LEVELS, Observed
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.zero_points import settled
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.compiler.rewrite.dequantize import Dequantized
from codesign.compiler.rewrite.given_scales import GivenScales

COARSE = 0.5  # nats, of a step of scores: probabilities are off by a quarter
WHOLE = 0.05  # of a unit: how far float32 puts a weight off the integer that it was


def given_scales(
    found: Dequantized,
    graph: Graph,
    constants: Constants,
    matrices: Matrices,
    observed: Observed,
    by_host: Collection[str],
) -> tuple[GivenScales, tuple[str, ...]]:
    """What a file fixes, and clamps do, by tensors and operators of the graph; notes on what is lost.
    The host computes the operators named in `by_host`.

    Weights keep their scales where the file fixes that of their input too, and each is its column's
    scale times an integer in +-127. One scale for an input that the file quantizes row by row would
    lose more than new weights do: those of its channels are worth more.
    """
    fixed = settled(graph, found.activations, constants, observed, by_host)
    activations = fixed.codes
    weights: dict[str, npt.NDArray[np.float64]] = {}
    notes, anew, free = list(found.notes), [], []
    model = None if found.units is None else FloatModel(found.units)
    for op in graph.operators():
        if model is None or not isinstance(op, Matmul) or op.weights_name not in found.weights:
            continue
        linear = constants.linear.get(op.name)
        if linear is None:
            continue
        if op.inputs[0] not in found.activations:
            free.append(op.name)
            continue
        scale = _column_units(model, op, linear.first_row, matrices, observed.feeds)
        codes = linear.weights / np.where(scale > 0, scale, 1)
        if np.abs(codes - codes.round()).max() < WHOLE and np.abs(codes).max() < LEVELS + WHOLE:
            weights[op.name] = scale
        else:
            anew.append(op.name)
    if fixed.coarser:
        notes.append(
            f"{len(fixed.coarser)} tensors that are multiplied by another activation have a zero point: "
            "codes around 0 cover the same range, up to one bit coarser each, "
            f"{fixed.coarser[0]!r} first"
        )
    if fixed.halved:
        notes.append(
            f"{len(fixed.halved)} softmaxes have a zero point in the file: the machine's have codes "
            f"from 0 to {LEVELS}, one bit coarser, {fixed.halved[0]!r} first"
        )
    notes += _coarse_scores(found)
    if anew:
        notes.append(
            f"weights of {len(anew)} matmuls are not int8 around 0 with a scale a column: they are "
            f"made anew, {anew[0]!r} first"
        )
    if free:
        notes.append(
            f"{len(free)} matmuls read a tensor that is quantized at run time or not at all: their "
            f"weights are made anew, with the scales of its channels in them, {free[0]!r} first"
        )
    return GivenScales(activations, weights), tuple(notes)


def _coarse_scores(found: Dequantized) -> Iterator[str]:
    """A line of the softmaxes of a file that read scores in steps that say little of a probability."""
    reads = [node.input[0] for node in found.model.graph.node if node.op_type == "Softmax"]
    steps = {name: found.activations[name].scale for name in reads if name in found.activations}
    if coarse := {name: step for name, step in steps.items() if step > COARSE}:
        yield (
            f"{len(coarse)} softmaxes read scores in steps of {max(coarse.values()):.3g} in the file "
            f"(a mask within one scale with them does that), {next(iter(coarse))!r} first: these "
            "scores keep their own steps here, and results are not the file's"
        )


def rounded_besides(
    own: Container[str], named: Container[str], tensors: Iterable[str]
) -> Iterator[str]:
    """A line of the int8 tensors that the file does not round to these eight bits: those without codes of
    its `own` where it has some; else those that are not `named` there, but lie inside an operator.
    """
    one = list(dict.fromkeys(tensors))
    if own:
        besides = [each for each in one if each not in own]
        what = "to eight-bit codes that are not the file's"
    else:
        besides = [each for each in one if each not in named]
        what = "to eight bits inside an operator of the file"
    if besides:
        yield f"{len(besides)} tensors are rounded {what}, {besides[0]!r} first"


def uneven(given: GivenScales, graph: Graph) -> frozenset[str]:
    """The matmuls whose columns' scales differ: no residual can be added to their sums, whose units
    differ too.
    """
    return frozenset(
        op.name
        for op in graph.operators()
        if op.name in given.weights and np.ptp(given.weights[op.name]) > 0
    )


def _column_units(
    model: FloatModel, op: Matmul, first_row: int, matrices: Matrices, feeds: Feeds
) -> npt.NDArray[np.float64]:
    """What a unit of the weights' first row stands for, by column."""
    (x,) = op.inputs
    part = model.part((x,), (op.output,))
    hot = np.zeros((matrices[x].rows, op.k), dtype=np.float32)
    answers = []
    for value in (1.0, 0.0):
        hot[first_row, 0] = value
        known = {**feeds, x: matrices[x].array(hot, matrices.shapes[x])}
        answers.append(matrices[op.output].of(part(known)[op.output]).astype(np.float64)[0])
    units: npt.NDArray[np.float64] = np.abs(answers[0] - answers[1])
    return units
