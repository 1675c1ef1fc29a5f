"""Energy is linear, complete and ordered, and its costs agree with numbers published elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from published_energy import GATE_LEVEL_45NM, GEMMINI, event_counts, event_pj, matmul_priced

from codesign.hw.costs import energy
from codesign.hw.costs.area import operator_table, operator_value, units
from codesign.hw.errors import TableError
from codesign.hw.machine.config import PRESETS, HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX, EVENTS

NODES = (22, 32, 45)
# Integers below 2^40 keep float64 sums exact to far below the tolerances here.
COUNTS = npst.arrays(np.int64, len(EVENTS), elements=st.integers(0, 1 << 40))
CYCLES = st.integers(0, 1 << 40)


@pytest.mark.parametrize("tables", energy.TABLES)
@given(counts=COUNTS, cycles=CYCLES)
def test_components_sum_to_the_energy(tables: str, counts: energy.Ints, cycles: int) -> None:
    table = energy.cost_table(GEMMINI, tables)
    parts = energy.breakdown(table, counts, cycles)
    assert tuple(parts) == energy.COMPONENTS
    total = np.sum(list(parts.values()), axis=0)
    np.testing.assert_allclose(total, energy.energy_j(table, counts, cycles), rtol=1e-12)


def test_every_event_is_in_one_component() -> None:
    listed = [event for events in energy.COMPONENT_EVENTS.values() for event in events]
    assert sorted(listed) == sorted(EVENTS)


def test_every_event_but_macs_costs_something() -> None:
    """A useful MAC is part of an active PE-cycle, which is what costs."""
    table = energy.cost_table(preset("ibert"))
    free = {name for name in EVENTS if min(event_pj(table, name)) <= 0}
    assert free == {"macs"}


@given(first=COUNTS, second=COUNTS, cycles=st.tuples(CYCLES, CYCLES), factor=st.integers(0, 1000))
def test_energy_is_linear(
    first: energy.Ints, second: energy.Ints, cycles: tuple[int, int], factor: int
) -> None:
    table = energy.cost_table(preset("ibert"))
    apart = energy.energy_j(table, first, cycles[0]) + factor * energy.energy_j(
        table, second, cycles[1]
    )
    together = energy.energy_j(table, first + factor * second, cycles[0] + factor * cycles[1])
    scale = factor * (1 << 40) * len(EVENTS) * float(table.event_j.max())
    np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-12 * scale + 1e-30)


@given(cycles=CYCLES)
def test_zero_work_costs_only_standby(cycles: int) -> None:
    table = energy.cost_table(GEMMINI)
    spent = energy.energy_j(table, event_counts(), cycles)
    np.testing.assert_allclose(spent, table.standby_w * cycles / table.clock_hz, rtol=1e-12)
    parts = energy.breakdown(table, event_counts(), cycles)
    for component in ("scratchpad", "accumulator", "nonlinear", "requantize", "host"):
        assert not parts[component].any()


def test_a_stalled_mesh_pays_for_its_clock() -> None:
    table = energy.cost_table(GEMMINI)
    work = event_counts(pe_active=256 * 1000)
    busy, stalled = (energy.breakdown(table, work, cycles)["mesh"] for cycles in (1000, 3000))
    np.testing.assert_allclose(stalled - busy, 256 * 2000 * table.pe_idle_j, rtol=1e-12)


def test_arrays_of_runs_equal_runs_one_by_one() -> None:
    rng = np.random.default_rng(0)
    events = rng.integers(0, 1 << 30, size=(3, 4, len(EVENTS)))
    cycles = rng.integers(1, 1 << 30, size=(3, 4))
    table = energy.cost_table(preset("edge"))
    together = energy.energy_j(table, events, cycles)
    assert together.shape == (3, 4, 3)
    for index in np.ndindex(3, 4):
        alone = energy.energy_j(table, events[index], int(cycles[index]))
        np.testing.assert_allclose(together[index], alone, rtol=1e-12)


@given(counts=COUNTS, cycles=CYCLES)
def test_bounds_alone_are_those_of_the_range(counts: energy.Ints, cycles: int) -> None:
    table = energy.cost_table(preset("ibert"))
    batch, times = np.stack([counts, counts * 3]), np.array([cycles, 3 * cycles])
    together = energy.energy_j(table, batch, times)
    for bound in range(3):
        assert together[0, bound] == energy.energy_j(table, counts, cycles)[bound]
        alone = energy.energy_bound_j(table, batch, times, bound)
        np.testing.assert_array_equal(alone, together[:, bound])


def test_edp_is_total_energy_times_total_time() -> None:
    spent = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    product = energy.edp_js(spent, np.array([500_000_000, 1_000_000_000]), 500_000_000)
    np.testing.assert_array_equal(product, [[1.0, 2.0, 3.0], [8.0, 10.0, 12.0]])


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", PRESETS)
def test_ranges_are_ordered(name: str, node: int) -> None:
    table = energy.cost_table(replace(preset(name), technology_nm=node))
    standing = (table.pe_idle_j, table.leakage_w, table.dram_background_w)
    for costs in (*table.event_j.T, *standing):
        assert 0 <= costs[0] <= costs[1] <= costs[2]


def test_tables_are_cached_and_cannot_be_changed() -> None:
    table = energy.cost_table(GEMMINI)
    assert energy.cost_table(replace(GEMMINI)) is table
    with pytest.raises(ValueError, match="read-only"):
        table.event_j[0, 0] = 1.0


def test_published_operators() -> None:
    """Horowitz int8 MAC 0.2 + 0.1 pJ; Aladdin 12.68 / 16 + 0.21 pJ; V3: Aladdin at 5 ns 0.5608 pJ."""
    pe = units()["pe"]
    assert energy.operators_pj(pe, "horowitz45") == pytest.approx(0.30)
    assert energy.operators_pj(pe, "aladdin40") == pytest.approx(12.68 / 16 + 0.21)
    slow = operator_table("aladdin40-5ns")
    mac = operator_value(slow, "multiply", 64, lambda e: e.energy_pj)
    mac += operator_value(slow, "add", 8, lambda e: e.energy_pj)
    assert mac == pytest.approx(0.560800, abs=5e-7)


def test_voltage_and_node_scaling_is_stillmaker_and_baas() -> None:
    """Their Table: a V^2 + b V + c at 45 nm and at 32 nm; 22 nm lies between 20 and 32 nm."""
    at_45 = 1.103 * 1.1**2 - 0.362 * 1.1 + 0.2767
    at_32 = 0.9559 * 0.9**2 - 0.7823 * 0.9 + 0.471
    assert energy.energy_scale(45, 1.1, 32, 0.9) == pytest.approx(at_32 / at_45)
    assert energy.energy_scale(32, 0.9, 45, 1.1) == pytest.approx(at_45 / at_32)
    factors = [energy.energy_scale(45, 1.1, node, 0.8) for node in (20, 22, 32)]
    assert factors == sorted(factors)
    # linear instead of logarithmic interpolation between the nodes gives 0.168 and 0.241
    assert energy.energy_scale(45, 1.1, 22, 0.8) == pytest.approx(0.168, rel=0.08)
    assert energy.energy_scale(45, 0.9, 22, 0.8) == pytest.approx(0.241, rel=0.08)
    with pytest.raises(TableError, match="no scaling for 7 nm"):
        energy.energy_scale(45, 1.1, 7, 0.7)


@pytest.mark.parametrize("event", GATE_LEVEL_45NM)
def test_gate_level_simulation_lies_in_the_range(event: str) -> None:
    """45 nm, 1.1 V is our own operating point there, so nothing is scaled."""
    table = energy.cost_table(replace(preset("ibert"), technology_nm=45))
    low, nominal, high = event_pj(table, event)
    measured_low, measured_high = GATE_LEVEL_45NM[event]
    assert low < measured_high and high > measured_low
    assert measured_low / 1.5 < nominal < 1.5 * measured_high


def test_idle_over_active_pe() -> None:
    """0.48 over 1.56 to 2.28 pJ in the same gate-level simulation: 21 to 31 %."""
    table = energy.cost_table(GEMMINI)
    ratio = 1e12 * table.pe_idle_j[1] / event_pj(table, "pe_active")[1]
    assert 0.21 <= ratio <= 0.31


def test_weights_shift_through_the_mesh() -> None:
    """A preload moves each row of weights down a chain of dim registers, counted step by step."""

    def writes_per_weight(dim: int) -> float:
        chain: list[int | None] = [None] * dim
        writes = 0
        for weight in range(dim):
            chain = [weight, *chain[:-1]]
            writes += sum(held is not None for held in chain)
        return writes / dim

    costs = {}
    for dim in (8, 32):
        table = energy.cost_table(HardwareConfig(dim=dim))
        costs[dim] = event_pj(table, "pe_weight_loads")[1] / writes_per_weight(dim)
    assert costs[8] == pytest.approx(costs[32])
    # eight of Aladdin's register bits, 0.009 pJ at 40 nm and 0.9 V
    assert costs[8] == pytest.approx(8 * 0.009 * energy.energy_scale(40, 0.9, 22, 0.8))


def test_dram_is_lpddr4() -> None:
    """8 pJ a bit within 6 to 20, and 226 mW behind a 64-bit LPDDR4-2400 channel of 19.2 GB/s."""
    table = energy.cost_table(replace(GEMMINI, bus_bytes=64, clock_hz=300_000_000))
    assert event_pj(table, "dram_read_bytes") == pytest.approx([48.0, 64.0, 160.0])
    assert event_pj(table, "dram_write_bytes") == pytest.approx([48.0, 64.0, 160.0])
    assert table.dram_background_w[1] == pytest.approx(0.226)


def test_host_cycle() -> None:
    """Ariane in 22 nm: 40 Gop/s/W; Rocket in 40 nm: 0.034 mW/MHz, less in 22 nm."""
    low, nominal, high = event_pj(energy.cost_table(GEMMINI), "host_cycles")
    assert nominal == pytest.approx(1e12 / 40e9)
    assert 0.2 * 34 < low < 34 and high == 2 * nominal


@pytest.mark.parametrize("event", ["pe_active", "scratchpad_reads", "accumulator_writes", "exp"])
def test_smaller_nodes_cost_less(event: str) -> None:
    costs = [
        event_pj(energy.cost_table(replace(preset("ibert"), technology_nm=node)), event)[1]
        for node in NODES
    ]
    assert costs[0] < costs[1] < costs[2]


def test_timeloop_pat_worked_example() -> None:
    """512 x 768 x 768 on Gemmini, in the units of Timeloop's placeholder with its closed forms."""
    events = matmul_priced(512, 768, 768, 16)
    table = energy.cost_table(GEMMINI, "timeloop-pat")
    assert not table.physical
    parts = {
        component: 1e6 * float(joules[1])
        for component, joules in energy.breakdown(table, events, 1_179_648).items()
    }
    macs = 512 * 768 * 768
    register = (5 / 99.5 * (1 / 1024 - 0.5) + 1) * 8 / 16
    assert parts["mesh"] == pytest.approx(1e-6 * (0.5608 + register) * macs, rel=5e-3)
    sp_bytes = 16 * sum(
        int(events[EVENT_INDEX[name]]) for name in ("scratchpad_reads", "scratchpad_writes")
    )
    assert parts["scratchpad"] == pytest.approx(1e-6 * (0.48744 + 0.025126 * 256) * sp_bytes)
    words = 16 * 2 * 1_179_648
    assert parts["accumulator"] == pytest.approx(1e-6 * (1.94975 + 0.100503 * 64 / 16) * words)
    assert parts["dram"] == pytest.approx(1e-6 * 100 * 1_376_256)
    assert parts["static"] == parts["nonlinear"] == parts["host"] == 0
    assert sum(parts.values()) == pytest.approx(684, rel=5e-3)


def test_worked_example_is_plausible() -> None:
    """The same matmul at 22 nm.

    By hand, with Aladdin's MAC at equal supply (0.339 pJ), single-port macros and no standing costs:
    243 uJ. ITA (22FDX, arXiv 2307.03493) reaches 16.9 TOPS/W all in, 0.118 pJ a MAC: a Gemmini-like
    mesh that beats it on chip would be too good.
    """
    cycles = 1_179_648
    config = replace(GEMMINI, clock_hz=1_000_000_000)
    table = energy.cost_table(config)
    events = matmul_priced(512, 768, 768, 16)
    parts = energy.breakdown(table, events, cycles)
    background = table.dram_background_w * cycles / config.clock_hz
    low, nominal, high = energy.energy_j(table, events, cycles) - background
    assert low < 243e-6 < high
    assert nominal == pytest.approx(243e-6, rel=0.25)
    on_chip = sum(float(parts[c][1]) for c in energy.COMPONENTS if c not in ("dram", "host"))
    assert on_chip / (512 * 768 * 768) > 0.118e-12


def test_leakage_says_which_cells() -> None:
    """SRAM of the worked example over its 1.18 ms: 0.06 uJ cool and slow, 57 uJ hot and fast."""
    config = replace(GEMMINI, clock_hz=1_000_000_000)
    low, _, high = energy.cost_table(config).leakage_w * 1.18e-3
    assert 0.03e-6 < low < 0.2e-6
    assert 40e-6 < high < 120e-6


def test_interpolated_memories_are_noted() -> None:
    assert not energy.cost_table(GEMMINI).notes
    odd = HardwareConfig(scratchpad_bytes=96 << 10)
    assert energy.cost_table(odd).notes == ("scratchpad: interpolated SRAM macro",)


def test_unknown_table_is_one_line() -> None:
    with pytest.raises(TableError, match="choose default or timeloop-pat"):
        energy.cost_table(GEMMINI, "horowitz")
