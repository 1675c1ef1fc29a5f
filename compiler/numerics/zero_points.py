"""Which tensors have codes that are settled before anything is chosen: what a file says, and clamps.

A ReLU and a limit live in the codes: the lowest one is 0, the highest the limit, and saturation is the
clamp, exactly. A zero point is free where one operand is constant: the writer adds it before or
behind its function, the reader takes it out of its sums, a number a column. It is not where two
activations are multiplied: z times the sums of the other one is a matrix that nobody has. There
codes around 0 cover the same range.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from codesign.compiler.graph import Activation, Add, Graph, Matmul, Operator, Softmax
from codesign.compiler.numerics.calibrate import Observed
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.rewrite.given_scales import Codes

LEAST_CODE = 2.0**-8  # of a code of the file: what stands for a range of nothing but 0
NEAR_LIMIT = 0.5  # of a limit: what calibration must see for the codes to end at it


@dataclass(frozen=True)
class Settled:
    """Codes by tensor of the graph, and which of a file's are not what it says."""

    codes: Mapping[str, Codes]
    coarser: Sequence[str] = ()  # for want of a zero point
    halved: Sequence[str] = ()  # softmaxes, whose codes go from 0 on


def settled(
    graph: Graph,
    given: Mapping[str, Codes],
    constants: Constants,
    observed: Observed,
    by_host: Collection[str],
) -> Settled:
    """The codes of the tensors that a file quantizes or that a relu limits; the host computes the
    operators named in `by_host`.
    """
    multiplied = _multiplied(graph)
    halved: list[str] = []
    codes: dict[str, Codes] = {}
    coarser: list[str] = []
    clipped = _before_clips(graph, constants, observed)
    writers = {op.output: op for op in graph.operators()}
    for tensor in (*graph.inputs, *writers):
        op = writers.get(tensor)
        found = given.get(tensor, clipped.get(tensor))
        if isinstance(op, Softmax) and op.name not in by_host:  # never below 0, nor above 1
            if found is not None:
                codes[tensor] = Codes.around_zero(0.0, min(found.high or 1.0, 1.0))
                halved += [op.name] * (found.zero != 0)
            continue
        if isinstance(op, Activation) and op.function == "relu":
            found = _of_relu(found, constants.limits.get(op.name), observed, tensor)
        if found is not None and found.zero and tensor in multiplied:
            codes[tensor] = Codes.around_zero(found.low, found.high)
            coarser.append(tensor)
        elif found is not None:
            codes[tensor] = found
    return Settled(codes, [tensor for tensor in coarser if tensor in given], halved)


def _of_relu(
    given: Codes | None, limit: float | None, observed: Observed, tensor: str
) -> Codes | None:
    """Codes that end at 0 and at the limit, the file's where they do."""
    if given is not None:
        exact = limit is None or given.high < limit + given.scale
        if exact and (given.zero == 0 or given.low == 0):
            return given
        top = given.high if limit is None else min(given.high, limit)
        return Codes.over(0.0, max(top, given.scale * LEAST_CODE))
    if limit is None:
        return None
    seen = observed.histograms[tensor].largest
    return Codes.over(0.0, limit if seen == 0 or seen >= NEAR_LIMIT * limit else seen)


def _before_clips(graph: Graph, constants: Constants, observed: Observed) -> dict[str, Codes]:
    """Codes that end where a Clip of the host does, of tensors that nothing else reads."""
    found: dict[str, Codes] = {}
    readers = Counter(tensor for op in graph.operators() for tensor in set(op.inputs))
    for name, (low, high) in constants.clips.items():
        tensor = graph.dag[name].inputs[0]
        seen = observed.histograms.get(tensor)
        if seen is None or readers[tensor] > 1 or tensor in graph.outputs:
            continue
        ends = max(min(low, 0.0), -seen.largest), min(max(high, 0.0), seen.largest)
        if ends[0] < ends[1]:
            found[tensor] = Codes.over(*ends)
    return found


def _multiplied(graph: Graph) -> frozenset[str]:
    """Tensors of products of two activations, and what elementwise operators make of them: their heads
    are padded with codes of 0, which must stand for 0.
    """
    operators = list(graph.operators())
    found: set[str] = set()
    for op in operators:
        if isinstance(op, Matmul) and not op.constant_b:
            found.update((*op.inputs[:2], op.output))
    while True:
        more = {
            tensor
            for op in operators
            if _elementwise(op) and not found.isdisjoint((*op.inputs, op.output))
            for tensor in (*op.inputs, op.output)
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _elementwise(op: Operator) -> bool:
    return isinstance(op, Activation | Add)
