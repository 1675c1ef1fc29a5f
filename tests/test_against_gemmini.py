"""Kernels of BERT-base against Gemmini's RTL.

Both machines are 16x16 with 16 B a cycle, 64 KB and 256 KB; DRAM latency is 50 cycles. Gemmini's
cycles were measured on the RTL of ucb-bar/gemmini with ideal command supply. The timing model runs
here every time; the RTL, which must agree with it to the cycle, with `-m long`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from rtl_agreement import check_agreement, legal_dram

from codesign.compiler.kernels import body, choose
from codesign.compiler.matmul_kernel import MatmulAddresses
from codesign.compiler.matmul_shape import MatmulProblem
from codesign.compiler.row_kernel import RowAddresses, RowProblem
from codesign.hw import fast_timing
from codesign.hw.config import preset
from codesign.hw.energy import cost_table
from codesign.hw.program import Body

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
CASES = pytest.mark.parametrize("comparison", COMPARISONS.values(), ids=COMPARISONS)


def kernel(comparison: Comparison) -> Body:
    """The best mapping's body."""
    problem = comparison.problem
    choice = choose(problem, CONFIG, "cycles", cost_table(CONFIG))
    assert choice is not None
    places: MatmulAddresses | RowAddresses
    if isinstance(problem, MatmulProblem):
        places = MatmulAddresses(a=0, b=PLACE, c=2 * PLACE, parameters=3 * PLACE)
    else:
        places = RowAddresses(x=0, out=2 * PLACE, parameters=3 * PLACE)
    return body(problem, choice.mapping, CONFIG, places)


def dram() -> npt.NDArray[np.uint8]:
    """Random operands for `kernel`."""
    return legal_dram(4 * PLACE, CONFIG, seed=1)


@CASES
def test_timing_model(comparison: Comparison) -> None:
    cycles = fast_timing.evaluate(kernel(comparison), CONFIG).cycles
    assert cycles / comparison.rows <= comparison.most < comparison.gemmini


@pytest.mark.long
@CASES
def test_rtl(comparison: Comparison) -> None:
    result = check_agreement([kernel(comparison)], CONFIG, dram())
    assert result.cycles / comparison.rows <= comparison.most
