"""The mapper returns the optimum of its stated space, its bounds hold, and costs obey first principles."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_model import machines, matmul_problems

from codesign.compiler.kernels.mapspace import (
    MAPPING_OBJECTIVES,
    Choice,
    Floats,
    Ints,
    Prices,
    best_mapping,
    doublings,
    splits,
)
from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulMapping, MatmulProblem, MatmulShape
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.hw.costs.energy import cost_table, energy_j
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.machine.isa import ROW_FUNCTIONS
from codesign.hw.views.fast_timing import evaluate_batch
from codesign.hw.views.timing import evaluate_unrolled

FUNCTIONS = ("copy", "copy", "gelu")


def event(events: Ints, name: str) -> Ints:
    """Counts of one event, whatever the leading axes."""
    count: Ints = events[..., EVENT_INDEX[name]]
    return count


@st.composite
def prices(draw: st.DrawFn) -> Prices:
    """Any linear price: some events free, some dear, time free or dear."""
    event_j = draw(
        st.lists(
            st.sampled_from((0.0, 1e-12, 7e-12, 3e-10)), min_size=len(EVENTS), max_size=len(EVENTS)
        )
    )
    cycle_j = draw(st.sampled_from((0.0, 1e-12, 1e-9)))
    return Prices(np.array(event_j), cycle_j, 500_000_000)


def brute_force(
    problem: MatmulProblem, config: HardwareConfig
) -> tuple[list[MatmulMapping], Ints, Ints]:
    """Every mapping of the space with its exact cycles and events."""
    mappings: list[MatmulMapping] = []
    cycles, events = [], []
    for space in matmul_spaces(problem, config):
        if len(space):
            timing = evaluate_batch(space.kernel(np.arange(len(space))), config)
            mappings += [space.mapping(i) for i in range(len(space))]
            cycles.append(timing.cycles)
            events.append(timing.events)
    if not mappings:
        return [], np.empty(0, np.int64), np.empty((0, len(EVENTS)), np.int64)
    return mappings, np.concatenate(cycles), np.concatenate(events)


def scores(objective: str, price: Prices, events: Ints, cycles: Ints) -> Floats:
    """The objective from its definition, one mapping at a time."""
    joules = np.array(
        [
            sum(float(c) * j for c, j in zip(row, price.event_j, strict=True))
            + float(t) * price.cycle_j
            for row, t in zip(events, cycles, strict=True)
        ]
    )
    seconds = cycles / price.clock_hz
    by_name: dict[str, Floats] = {
        "cycles": cycles.astype(float),
        "energy": joules,
        "edp": joules * seconds,
    }
    return by_name[objective]


@settings(max_examples=220)
@given(st.data())
def test_best_mapping_equals_brute_force(data: st.DataObject) -> None:
    config = data.draw(machines((4, 8)))
    functions = data.draw(st.sampled_from((FUNCTIONS, FUNCTIONS, ROW_FUNCTIONS)))
    problem = data.draw(matmul_problems(config, functions))
    price = data.draw(prices())
    mappings, cycles, events = brute_force(problem, config)
    for objective in MAPPING_OBJECTIVES:
        choice = best_mapping(matmul_spaces(problem, config), config, price, objective)
        if choice is None:
            assert not mappings
            continue
        assert choice.proved and choice.space_size == len(mappings)
        expected = scores(objective, price, events, cycles)
        assert choice.score == pytest.approx(expected.min(), rel=1e-12)
        at = mappings.index(choice.mapping)
        assert choice.cycles == cycles[at]
        np.testing.assert_array_equal(choice.events, events[at])
        assert expected[at] == pytest.approx(expected.min(), rel=1e-12)


@settings(max_examples=100)
@given(st.data())
def test_ties_go_to_the_lower_energy(data: st.DataObject) -> None:
    config = data.draw(machines((4, 8)))
    problem = data.draw(matmul_problems(config, FUNCTIONS))
    price = data.draw(prices())
    mappings, cycles, events = brute_force(problem, config)
    choice = best_mapping(matmul_spaces(problem, config), config, price, "cycles")
    if choice is not None:
        energy = scores("energy", price, events, cycles)
        assert choice.cycles == cycles.min()
        chosen = scores("energy", price, choice.events[None], np.array([choice.cycles]))
        assert chosen[0] == pytest.approx(energy[cycles == cycles.min()].min(), rel=1e-12)
        assert mappings


@settings(max_examples=250)
@given(st.data())
def test_bounds_hold_for_every_mapping(data: st.DataObject) -> None:
    """Cycles are bounded from below; events are exact, but for instructions that only pass tokens
    and for beats that a bus wider than a row does not fill.
    """
    config = data.draw(machines())
    functions = data.draw(st.sampled_from((FUNCTIONS, ROW_FUNCTIONS)))
    problem = data.draw(matmul_problems(config, functions))
    for space in matmul_spaces(problem, config):
        if not len(space):
            continue
        bound, counts = space.bounds()
        exact = evaluate_batch(space.kernel(np.arange(len(space))), config)
        short = np.flatnonzero(bound > exact.cycles)
        assert not short.size, (
            space.mapping(int(short[0])),
            bound[short[0]],
            exact.cycles[short[0]],
        )
        for name in EVENTS:
            if name == "instructions" or (
                name.startswith("dram") and config.bus_bytes > config.dim
            ):
                assert (event(counts, name) <= event(exact.events, name)).all()
            else:
                np.testing.assert_array_equal(event(counts, name), event(exact.events, name), name)


def test_a_last_tile_of_one_row_keeps_its_bound() -> None:
    """The mesh needs dim cycles from one compute to the next, but nothing follows the last one."""
    config = HardwareConfig(dim=16, bus_bytes=128, dram_latency_cycles=1)
    for space in matmul_spaces(MatmulProblem(m=1, k=64, n=16), config):
        exact = evaluate_batch(space.kernel(np.arange(len(space))), config)
        assert (space.bounds()[0] <= exact.cycles).all()


@settings(max_examples=200)
@given(st.data())
def test_first_principles(data: st.DataObject) -> None:
    """No mapping beats the mesh or the bus, and what is counted is conserved."""
    config = data.draw(machines())
    functions = data.draw(st.sampled_from((FUNCTIONS, ROW_FUNCTIONS)))
    p = data.draw(matmul_problems(config, functions))
    mappings, cycles, events = brute_force(p, config)
    if not mappings:
        return
    dim, blocks_n = config.dim, -(-p.n // config.dim)
    assert (event(events, "macs") == p.batch * p.m * p.k * p.n).all()
    assert (event(events, "pe_active") >= event(events, "macs")).all()
    assert (cycles * config.macs_per_cycle >= event(events, "pe_active")).all()
    for direction in ("dram_read_bytes", "dram_write_bytes"):
        assert (cycles * config.bus_bytes >= event(events, direction)).all()
    word = 4 if p.destination == "dram_int32" else 1
    whole = config.bus_bytes <= dim  # a wider bus may leave part of a run's last beat unused
    written, useful = event(events, "dram_write_bytes"), p.batch * p.m * blocks_n * dim * word
    assert (written == useful if whole else written >= useful).all()
    if not p.parameter_sets:
        residual_rows = p.m * blocks_n if p.residual else 0
        rows_in = event(events, "scratchpad_writes") + residual_rows
        read = event(events, "dram_read_bytes")
        assert (read == rows_in * dim if whole else read >= rows_in * dim).all()
    # Compulsory traffic: every operand row comes in at least once.
    k_blocks = -(-p.k // dim)
    b_rows = p.n * k_blocks if p.transposed_b else p.k * blocks_n
    least = p.batch * (p.m * k_blocks + b_rows)
    assert (event(events, "scratchpad_writes") >= least).all()


@settings(max_examples=150)
@given(st.data())
def test_more_memory_is_never_worse(data: st.DataObject) -> None:
    """Twice the scratchpad or accumulator, at fixed prices: no objective gets worse.

    Instructions are free here: finer drain groups, which need more accumulator, issue more of them.
    """
    config = data.draw(machines())
    problem = data.draw(matmul_problems(config, FUNCTIONS))
    price = data.draw(prices())
    price.event_j[EVENT_INDEX["instructions"]] = 0.0
    memory = data.draw(st.sampled_from(("scratchpad_bytes", "accumulator_bytes")))
    larger = replace(config, **{memory: 2 * getattr(config, memory)})
    for objective in MAPPING_OBJECTIVES:
        small = best_mapping(matmul_spaces(problem, config), config, price, objective)
        large = best_mapping(matmul_spaces(problem, larger), larger, price, objective)
        if small is not None:
            assert large is not None
            assert large.score <= small.score * (1 + 1e-12), (objective, memory, small, large)


@settings(max_examples=200)
@given(st.data())
def test_a_larger_memory_holds_every_tile_of_a_smaller_one(data: st.DataObject) -> None:
    config = data.draw(machines())
    problem = data.draw(matmul_problems(config, FUNCTIONS))
    memory = data.draw(st.sampled_from(("scratchpad_bytes", "accumulator_bytes")))
    larger = replace(config, **{memory: 2 * getattr(config, memory)})

    def tiles(machine: HardwareConfig) -> set[tuple[int, ...]]:
        return {
            (order, *map(int, sizes))
            for order, space in enumerate(matmul_spaces(problem, machine))
            for sizes in zip(
                space.mappings.tile_m, space.mappings.tile_n, space.mappings.chunk_k, strict=True
            )
        }

    assert tiles(config) <= tiles(larger)


def test_a_tile_that_fills_its_bank_fits() -> None:
    """30 rows in a bank of 30, although 30 is no multiple of the 4 banks that drains rotate through."""
    config = HardwareConfig(
        dim=4, bus_bytes=16, scratchpad_bytes=480, scratchpad_banks=8, accumulator_bytes=1920,
        accumulator_banks=4, parameter_channels=64,
    )  # fmt: skip
    mapping = MatmulMapping("mn", tile_m=15, tile_n=2, chunk_k=1)
    assert config.accumulator_bank_rows == 30
    assert MatmulShape(MatmulProblem(m=15, k=1, n=19), mapping, config).feasible


@pytest.mark.parametrize("name", PRESETS)
def test_prices_are_the_nominal_energy(name: str) -> None:
    """The mapper's linear form is `energy.energy_j`, nominal, on any counts."""
    config = PRESETS[name]
    table = cost_table(config)
    rng = np.random.default_rng(0)
    events = rng.integers(0, 1 << 30, (50, len(EVENTS)))
    cycles = rng.integers(1, 1 << 30, 50)
    got = Prices.of(table).energy_j(events, cycles)
    np.testing.assert_allclose(got, energy_j(table, events, cycles)[..., 1], rtol=1e-9)


def test_a_machine_that_holds_no_tile_has_no_mapping() -> None:
    """A row function needs a whole row of C in the accumulator and its parameters on chip."""
    config = HardwareConfig(parameter_channels=16)
    problem = MatmulProblem(m=64, k=64, n=768, function="layernorm")
    spaces = matmul_spaces(problem, config)
    assert best_mapping(spaces, config, Prices.of(cost_table(config)), "edp") is None


def test_the_choice_is_what_its_kernel_costs() -> None:
    """The chosen mapping, written as a kernel and timed by the reference, costs what was said."""
    config = PRESETS["edge"]
    problem = MatmulProblem(m=50, k=72, n=40, parameters=True)
    choice = best_mapping(
        matmul_spaces(problem, config), config, Prices.of(cost_table(config)), "edp"
    )
    assert isinstance(choice, Choice)
    timing = evaluate_unrolled(matmul_kernel(problem, choice.mapping, config), config)
    assert timing.cycles == choice.cycles
    np.testing.assert_array_equal(timing.events, choice.events)


@settings(max_examples=300)
@given(st.integers(1, 5000), st.sampled_from((1, 2, 4, 8)))
def test_splits_are_sorted_legal_tile_sizes(extent: int, granule: int) -> None:
    sizes = splits(extent, granule)
    assert (np.diff(sizes) > 0).all()
    assert sizes[-1] == extent and sizes[0] >= 1
    assert ((sizes % granule == 0) | (sizes == extent)).all()
    for parts in range(1, 17):  # every cut into up to 16 near-equal parts is there
        if parts * granule <= extent:
            near = -(-extent // parts)
            assert min(-(-near // granule) * granule, extent) in sizes


@pytest.mark.parametrize(("extent", "sizes"), [(1, [1]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_doublings(extent: int, sizes: list[int]) -> None:
    assert doublings(extent).tolist() == sizes
