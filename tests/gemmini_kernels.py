"""Kernels that Gemmini's RTL ran, and ours beside them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rtl_agreement import legal_dram

from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.kinds import body, choose
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import preset
from codesign.hw.machine.program import Body

CONFIG = preset("ibert")
PLACE = 4 << 20  # bytes between operands in DRAM


@dataclass(frozen=True)
class Comparison:
    """A kernel, what it may take, and what Gemmini takes: cycles, or cycles per row."""

    problem: MatmulProblem | RowProblem
    most: float
    gemmini: float

    @property
    def rows(self) -> int:
        """The rows that cycles are divided by; 1 for a matmul."""
        return self.problem.rows if isinstance(self.problem, RowProblem) else 1

    @property
    def macs(self) -> int:
        p = self.problem
        return p.m * p.k * p.n if isinstance(p, MatmulProblem) else 0


COMPARISONS = {
    "128x768x768": Comparison(MatmulProblem(128, 768, 768, parameters=True), 298_000, 303_784),
    "128x768x3072": Comparison(
        MatmulProblem(128, 768, 3072, parameters=True), 1_185_000, 1_191_005
    ),
    "128x3072x768": Comparison(
        MatmulProblem(128, 3072, 768, parameters=True), 1_185_000, 1_209_259
    ),
    "Q.K^T 128x64x128": Comparison(MatmulProblem(128, 64, 128, transposed_b=True), 5_200, 8_314),
    "P.V 128x128x64": Comparison(MatmulProblem(128, 128, 64), 5_200, 7_879),
    "softmax, a row of 128": Comparison(RowProblem(12 * 128, 128, "softmax"), 25, 48),
    "LayerNorm, a row of 768": Comparison(RowProblem(128, 768, "layernorm", 1, 1), 145, 158.5),
}


def kernel(comparison: Comparison) -> Body:
    """The best mapping's body."""
    problem = comparison.problem
    choice = choose(problem, CONFIG, "cycles", cost_table(CONFIG))
    assert choice is not None
    if isinstance(problem, MatmulProblem):
        places = {"a": 0, "b": PLACE, "c": 2 * PLACE, "parameters": 3 * PLACE}
    else:
        places = {"x": 0, "out": 2 * PLACE, "parameters": 3 * PLACE}
    return body(problem, choice.mapping, CONFIG, places)


def dram() -> npt.NDArray[np.uint8]:
    """Random operands for `kernel`."""
    return legal_dram(4 * PLACE, CONFIG, seed=1)
