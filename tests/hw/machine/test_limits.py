"""Bounds: what is within them, how they are said, and that configuration and RTL have the same."""

import pytest

from codesign.hw.errors import ConfigError
from codesign.hw.machine.config import from_dict
from codesign.hw.machine.limits import (
    BANKS,
    BUS_BYTES,
    DIM,
    LATENCY_CYCLES,
    QUEUE_DEPTH,
    RTL_DIM,
    Bounds,
    package,
)


def test_bounds_hold_both_ends() -> None:
    bounds = Bounds(2, 5)
    assert [number for number in range(8) if number in bounds] == [2, 3, 4, 5]
    assert str(bounds) == "from 2 to 5"


@pytest.mark.parametrize(
    ("field", "bounds"),
    [
        ("dim", DIM),
        ("load_queue_depth", QUEUE_DEPTH),
        ("dram_latency_cycles", LATENCY_CYCLES),
        ("scratchpad_banks", BANKS),
    ],
)
def test_a_configuration_keeps_them(field: str, bounds: Bounds) -> None:
    for number in (bounds.least - 1, 2 * bounds.most):
        with pytest.raises(ConfigError, match=rf"{field} is {number} but must be .*{bounds}"):
            from_dict({field: number})


@pytest.mark.parametrize("bounds", [RTL_DIM, BUS_BYTES, BANKS, QUEUE_DEPTH, LATENCY_CYCLES])
def test_the_rtl_has_them(bounds: Bounds) -> None:
    assert f">= {bounds.least} && " in package() and f"<= {bounds.most};" in package()
