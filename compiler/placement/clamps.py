"""Which clamps of a quantized file a plan would lose.

Quantizing clamps, and a quantizer may have dropped a ReLU or Clip because of it. Where a kernel writes
the codes, or the host, saturation is that clamp. Sums that stay in an accumulator, a scale that
covers several quantizations, codes around 0 for a product of activations: there it is lost, which
matters where calibration sees values beyond it. Such a clamp becomes an operator of the graph.

What lies beyond is held against the least of the tensor itself and the sums it is part of: two
large summands may leave little, and a clamp behind them less.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from codesign.compiler.graph import Activation, Add, Graph
from codesign.compiler.numerics.calibrate import Observed
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import LOW
from codesign.compiler.rewrite.file_clamps import Clamp
from codesign.compiler.rewrite.given_scales import GivenScales

MATERIAL = 1e-3  # mean square beyond a clamp, in units of what is left: noise of 30 dB


def lost_clamps(
    clamps: Iterable[Clamp], plan: Plan, given: GivenScales, observed: Observed
) -> frozenset[str]:
    """The integers whose clamp takes away more than MATERIAL and is in no codes of the plan."""
    material = tuple(_material(tuple(clamps), plan.graph, observed))
    if not material:
        return frozenset()
    kernels = [step.work for step in plan.steps if step.work.problem is not None]
    written = {tensor for work in kernels for tensor in work.outputs}
    read = {tensor.removesuffix(LOW) for work in kernels for tensor in work.inputs}
    computed = {plan.graph.dag[name].output for work in kernels for name in work.operators}
    known = {*plan.graph.inputs, *(op.output for op in plan.graph.operators())}

    def kept(clamp: Clamp) -> bool:
        if clamp.root in computed - written or clamp.root not in known:
            return False
        if clamp.root not in read | written:
            return True  # the host's, which has every clamp
        codes = given.activations.get(clamp.root)
        return clamp.alone and codes is not None and codes.clamp(clamp.low, clamp.high)

    return frozenset(clamp.integers for clamp in material if not kept(clamp))


def _material(clamps: tuple[Clamp, ...], graph: Graph, observed: Observed) -> Iterator[Clamp]:
    """The clamps that take away more than MATERIAL of what is left."""
    left: dict[str, float] = {}
    for clamp in clamps:
        for tensor in {clamp.source, clamp.root}:
            least = observed.clamped[clamp.integers].left
            left[tensor] = min(least, left.get(tensor, least))

    def energy(tensor: str) -> float:
        seen = float(observed.squares[tensor].mean()) if tensor in observed.squares else np.inf
        return min(seen, left.get(tensor, np.inf))

    for clamp in clamps:
        found = observed.clamped[clamp.integers]
        if found.taken > MATERIAL * min(found.left, *map(energy, _sums(graph, clamp.root))):
            yield clamp


def _sums(graph: Graph, tensor: str) -> Iterator[str]:
    """A tensor and the sums that it is part of, limited by a ReLU or not."""
    yield tensor
    for op in graph.readers(tensor):
        if isinstance(op, Add) or isinstance(op, Activation) and op.function == "relu":
            yield from _sums(graph, op.output)
