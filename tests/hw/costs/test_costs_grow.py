"""No machine gets cheaper by growing: area, energy of every event and standby power never fall.

Sizes are the mesh side, both memories' bytes, the drain's parameter memory, the bus and the
normalization units, at every technology. Two things are as CACTI prints them: leakage of one memory
falls by up to 7 % where only its rows get wider, which is less than what a larger mesh adds but for
the bounds in which logic hardly leaks or SRAM leaks most; and banks are no size: more of them make
an access cheaper, and move the area either way.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_area import BANK_BYTES, ROW_BITS, least_area_of_twice_the_banks

from codesign.hw.costs import area, sram
from codesign.hw.costs.energy import TABLES, cost_table
from codesign.hw.machine.config import TECHNOLOGY_NODES_NM, HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX

COSTS = ("read_j", "write_j", "leakage_w", "area_mm2")
ROUNDING = 1 - 1e-12  # of sums and logarithms


@pytest.mark.parametrize("node", TECHNOLOGY_NODES_NM)
@pytest.mark.parametrize("ports", ["1R1W", "1RW"])
@pytest.mark.parametrize("banks", [2, 64])
def test_memories_over_all_shapes(node: int, ports: sram.Ports, banks: int) -> None:
    """Bytes and row width, exhaustively between and beyond the points of CACTI's grid."""
    costs = np.array(
        [
            [
                [
                    getattr(sram.memory("memory", banks * size, banks, bits, node, ports), cost)
                    for cost in COSTS
                ]
                for size in BANK_BYTES
            ]
            for bits in ROW_BITS
        ]
    )
    assert (costs > 0).all()
    wider, larger = costs[1:] / costs[:-1], costs[:, 1:] / costs[:, :-1]
    assert (larger >= ROUNDING).all()
    leakage = COSTS.index("leakage_w")
    assert (np.delete(wider, leakage, axis=2) >= ROUNDING).all()
    least = {"1R1W": 0.93, "1RW": 0.91}[ports]  # only areas of 1RW macros are used
    assert least < wider[:, :, leakage].min() < 1


def test_more_banks_of_the_same_bytes() -> None:
    """An access never costs more; the area may fall, as docs/energy.md says."""
    assert 0.85 < least_area_of_twice_the_banks() < 1


@st.composite
def grown(draw: st.DrawFn) -> tuple[HardwareConfig, HardwareConfig]:
    """A legal machine, and one of which one size is larger by any legal step."""
    log_dim, steps = draw(st.integers(2, 7)), draw(st.integers(1, 5))
    name = draw(
        st.sampled_from(
            ["dim", "scratchpad_bytes", "accumulator_bytes", "parameter_channels", "bus_bytes",
             "normalization"]
        )
    )  # fmt: skip
    larger = min(log_dim + steps, 7) if name == "dim" else log_dim
    dim, widest = 1 << log_dim, 1 << larger
    fields: dict[str, Any] = {
        "dim": dim,
        "technology_nm": draw(st.sampled_from(TECHNOLOGY_NODES_NM)),
        "clock_hz": draw(st.integers(1, 4_000_000_000)),
        "normalization": draw(st.booleans()),
        "bus_bytes": 1 << draw(st.integers(0, min(7, 2 * log_dim))),
        "parameter_channels": widest * draw(st.integers(1, (dim << 10) // widest)),
    }
    for memory, bytes_per_column in (("scratchpad", 1), ("accumulator", 4)):
        banks = 1 << draw(st.integers(1, 6))
        granule = banks * widest * bytes_per_column
        most = (dim * bytes_per_column << 20) // granule
        fields[f"{memory}_banks"] = banks
        # Small multiples and large ones alike.
        rows = st.one_of(st.integers(widest, min(most, 8 * widest)), st.integers(widest, most))
        fields[f"{memory}_bytes"] = granule * draw(rows)
    small = HardwareConfig(**fields)
    match name:
        case "dim":
            value: Any = widest
        case "normalization":
            small, value = replace(small, normalization=False), True
        case "bus_bytes":
            value = min(small.bus_bytes << steps, 128, dim * dim)
        case "parameter_channels":
            value = draw(st.integers(small.parameter_channels // dim, 1 << 10)) * dim
        case _:
            columns = 1 if name == "scratchpad_bytes" else 4
            granule = getattr(small, name.replace("bytes", "banks")) * dim * columns
            most = (dim * columns << 20) // granule
            value = draw(st.integers(getattr(small, name) // granule, most)) * granule
    return small, replace(small, **{name: value})


def assert_no_cheaper(small: HardwareConfig, large: HardwareConfig) -> None:
    for calibration in ("none", "22ffl") if small.technology_nm == 22 else ("none",):
        before = area.area_mm2(small, calibration=calibration)
        after = area.area_mm2(large, calibration=calibration)
        for component in area.AREA_COMPONENTS:
            pairs = zip(before.components[component], after.components[component], strict=True)
            assert all(b >= a * ROUNDING for a, b in pairs), component
        if large.dim > small.dim or large.bus_bytes > small.bus_bytes:
            assert after.total[1] > before.total[1]
    for tables in TABLES:
        costs, more = cost_table(small, tables), cost_table(large, tables)
        energies, larger = costs.event_j.copy(), more.event_j.copy()
        # These bear a share of a row of parameters, and of an alignment, which is one of dim elements.
        shares = [EVENT_INDEX[event] for event in ("requantize", "align")]
        for config, joules in ((small, energies), (large, larger)):
            joules[:, shares] *= config.dim
        assert (larger >= energies * ROUNDING).all()
        assert (more.pe_idle_j >= costs.pe_idle_j).all()
        least = ROUNDING if large.dim == small.dim else np.array([0.93, ROUNDING, 0.93])
        assert (more.standby_w >= costs.standby_w * least).all()


@settings(max_examples=400)
@given(grown())
def test_machines(machines: tuple[HardwareConfig, HardwareConfig]) -> None:
    assert_no_cheaper(*machines)


@pytest.mark.long
@settings(max_examples=100_000)
@given(grown())
def test_very_many_machines(machines: tuple[HardwareConfig, HardwareConfig]) -> None:
    assert_no_cheaper(*machines)


def test_twice_the_mesh_beside_a_large_accumulator() -> None:
    """At 32 nm CACTI's 508 KB bank of 1024-bit rows alone is larger than two of half the depth."""
    small = HardwareConfig(
        dim=32, scratchpad_bytes=1 << 18, scratchpad_banks=4, accumulator_bytes=31 << 16,
        accumulator_banks=4, technology_nm=32,
    )  # fmt: skip
    assert area.area_mm2(replace(small, dim=64)).total[0] > area.area_mm2(small).total[0]
