"""Random Programs on the Verilated machine: the same bits as the functional model, the same cycles as
the timing model, for every instruction.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_programs import random_programs
from rtl_agreement import MACHINES, check_agreement, compiled_kernels, legal_dram

CONFIGS = pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
QUICK = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LONG = settings(QUICK, max_examples=850, derandomize=False)


@CONFIGS
@QUICK
@given(data=st.data())
def test_random_instructions(config, data) -> None:  # type: ignore[no-untyped-def]
    program = data.draw(random_programs(config))
    check_agreement([program.body], config, program.dram, seed=data.draw(st.integers(1, 1000)))


@CONFIGS
@QUICK
@given(data=st.data())
def test_compiled_kernels(config, data) -> None:  # type: ignore[no-untyped-def]
    body = data.draw(compiled_kernels(config))
    dram = legal_dram(6 << 18, config, data.draw(st.integers(0, 1000)))
    check_agreement([body], config, dram)


@CONFIGS
@settings(QUICK, max_examples=10)
@given(data=st.data())
def test_random_back_pressure(config, data) -> None:  # type: ignore[no-untyped-def]
    """Cycles differ, results do not."""
    program = data.draw(random_programs(config))
    body = data.draw(compiled_kernels(config))
    share = data.draw(st.sampled_from((0.1, 0.5, 0.9)))
    seed = data.draw(st.integers(1, 1000))
    check_agreement([program.body], config, program.dram, seed=seed, backpressure=share)
    check_agreement(
        [body], config, legal_dram(6 << 18, config, seed), seed=seed, backpressure=share
    )
