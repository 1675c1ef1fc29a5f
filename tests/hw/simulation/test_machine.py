"""Random Programs on the Verilated machine: the same bits as the functional model, the same cycles as
the timing model, for every instruction.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_programs import random_programs
from rtl_agreement import (
    LARGE_MACHINE,
    MACHINES,
    check_agreement,
    compiled_kernels,
    legal_dram,
)

from codesign.hw.machine.config import HardwareConfig

CONFIGS = pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
ALL_CONFIGS = pytest.mark.parametrize(
    "config", [*MACHINES.values(), LARGE_MACHINE], ids=[*MACHINES, "dim32"]
)
DRAM_BYTES = 6 << 18
QUICK = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LONG = settings(QUICK, max_examples=850)


def check_instructions(config: HardwareConfig, data: st.DataObject) -> None:
    program = data.draw(random_programs(config))
    seed = data.draw(st.integers(1, 1000))
    check_agreement([program.body], config, program.dram, seed=seed)


def check_kernels(config: HardwareConfig, data: st.DataObject) -> None:
    body = data.draw(compiled_kernels(config))
    seed = data.draw(st.integers(1, 1000))
    check_agreement([body], config, legal_dram(DRAM_BYTES, config, seed), seed=seed)


@CONFIGS
@QUICK
@given(data=st.data())
def test_random_instructions(config: HardwareConfig, data: st.DataObject) -> None:
    check_instructions(config, data)


@CONFIGS
@QUICK
@given(data=st.data())
def test_compiled_kernels(config: HardwareConfig, data: st.DataObject) -> None:
    check_kernels(config, data)


@CONFIGS
@settings(QUICK, max_examples=10)
@given(data=st.data())
def test_random_back_pressure(config: HardwareConfig, data: st.DataObject) -> None:
    """Every channel of the memory stalls at random: cycles differ, results do not."""
    program = data.draw(random_programs(config))
    body = data.draw(compiled_kernels(config))
    share = data.draw(st.sampled_from((0.1, 0.5, 0.9)))
    seed = data.draw(st.integers(1, 1000))
    check_agreement([program.body], config, program.dram, seed=seed, backpressure=share)
    dram = legal_dram(DRAM_BYTES, config, seed)
    check_agreement([body], config, dram, seed=seed, backpressure=share)


@pytest.mark.long
@pytest.mark.parametrize("check", [check_instructions, check_kernels])
@ALL_CONFIGS
@LONG
@given(data=st.data())
def test_many(
    check: Callable[[HardwareConfig, st.DataObject], None],
    config: HardwareConfig,
    data: st.DataObject,
) -> None:
    check(config, data)
