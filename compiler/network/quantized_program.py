"""The integers of a plan and its Program, or what remedy the plan takes first."""

from collections.abc import Collection

from codesign.compiler.graph import Operator
from codesign.compiler.numerics.options import Options
from codesign.compiler.numerics.quantize import quantize
from codesign.compiler.numerics.quantized import Quantized, ResidualError
from codesign.compiler.onnx.float_model import FloatModel
from codesign.compiler.placement.settle import Remedies, Settled, remedy
from codesign.compiler.plan.lower import Plan
from codesign.compiler.program.emit import emit
from codesign.compiler.program.image import step_numbers
from codesign.compiler.program.layout import LayoutError
from codesign.compiler.rewrite.given_scales import GivenScales
from codesign.hw.machine.program import Program


def quantized_program(
    plan: Plan,
    settled: Settled,
    given: GivenScales,
    options: Options,
    model: FloatModel,
    remedies: Remedies,
    alone: set[str],
    kept: Collection[str],
) -> tuple[Quantized, Program] | None:
    """The integers of a plan and its Program; None where it takes a plan with one remedy more, which
    is added to `remedies` or `alone`.
    """
    try:
        quantized = quantize(plan, settled.constants, settled.observed, options, given)
        return quantized, emit(plan, step_numbers(plan, quantized, settled.matrices), kept)
    except ResidualError as error:
        if error.matmul in alone:
            raise
        alone.add(error.matmul)  # a kernel of its own adds numbers of any two scales
    except LayoutError as error:
        ops: list[Operator] = [settled.graph.dag[name] for name in error.operators]
        if all(op.output in remedies.on_host for op in ops):
            raise
        for op in ops:
            remedy(model, op, "is stored in no layout that a kernel reads", remedies)
    return None
