"""Kernels of BERT-base against Gemmini's RTL.

Both machines are 16x16 with 16 B a cycle, 64 KB and 256 KB; DRAM latency is 50 cycles. Gemmini's
cycles were measured on the RTL of ucb-bar/gemmini with ideal command supply. The timing model runs
here every time; the RTL, which must agree with it to the cycle, with `-m long`.
"""

import pytest
from gemmini_kernels import COMPARISONS, CONFIG, Comparison, dram, kernel
from rtl_agreement import check_agreement

from codesign.hw.views import fast_timing

CASES = pytest.mark.parametrize("comparison", COMPARISONS.values(), ids=COMPARISONS)


@CASES
def test_timing_model(comparison: Comparison) -> None:
    cycles = fast_timing.time_kernel(kernel(comparison), CONFIG).cycles
    assert cycles / comparison.rows <= comparison.most < comparison.gemmini


@pytest.mark.long
@CASES
def test_rtl(comparison: Comparison) -> None:
    result = check_agreement([kernel(comparison)], CONFIG, dram())
    assert result.cycles / comparison.rows <= comparison.most
