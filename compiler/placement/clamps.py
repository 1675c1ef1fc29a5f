"""Which clamps of a quantized file a plan would lose.

Quantizing clamps, and a quantizer may have dropped a ReLU or Clip because of it. Where a kernel writes
the codes, or the host, saturation is that clamp. Sums that stay in an accumulator, a scale that
covers several quantizations, codes around 0 for a product of activations: there it is lost, which
matters where calibration sees values beyond it. Such a clamp becomes an operator of the graph.
"""

from collections.abc import Iterable, Mapping

from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import LOW
from codesign.compiler.rewrite.file_clamps import Clamp
from codesign.compiler.rewrite.given_scales import GivenScales

MATERIAL = 1e-3  # energy beyond a clamp, in units of what it leaves: noise of 30 dB


def lost_clamps(
    clamps: Iterable[Clamp], plan: Plan, given: GivenScales, beyond: Mapping[str, float]
) -> frozenset[str]:
    """The integers whose clamp takes away more than MATERIAL and is in no codes of the plan."""
    material = [clamp for clamp in clamps if beyond[clamp.integers] > MATERIAL]
    if not material:
        return frozenset()
    kernels = [step.work for step in plan.steps if step.work.problem is not None]
    written = {tensor for work in kernels for tensor in work.outputs}
    read = {tensor.removesuffix(LOW) for work in kernels for tensor in work.inputs}
    computed = {
        plan.graph.dag.nodes[name]["op"].output for work in kernels for name in work.operators
    }
    known = {*plan.graph.inputs, *(op.output for op in plan.graph.operators())}

    def kept(clamp: Clamp) -> bool:
        if clamp.root in computed - written or clamp.root not in known:
            return False
        if clamp.root not in read | written:
            return True  # the host's, which has every clamp
        codes = given.activations.get(clamp.root)
        return clamp.alone and codes is not None and codes.clamp(clamp.low, clamp.high)

    return frozenset(clamp.integers for clamp in material if not kept(clamp))
