"""evaluate() is the sum of its kernels, priced by the table it was given."""

from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import encoder_layer, graph_of

from codesign.compiler.plan.kinds import body
from codesign.compiler.plan.lower import lower
from codesign.hw.costs.area import area_mm2
from codesign.hw.costs.energy import EnergyOverrides, cost_table
from codesign.hw.costs.host import total_host_cycles
from codesign.hw.errors import MappingError, TableError
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.hw.views.timing import evaluate_unrolled
from codesign.search.pricing.evaluate import Result, evaluate, result

IBERT = preset("ibert")
GEMMINI = preset("gemmini")
GRAPH = graph_of(encoder_layer(), ("norm2",))


@pytest.fixture(scope="module", params=[IBERT, GEMMINI], ids=lambda config: config.name)
def config(request: pytest.FixtureRequest) -> HardwareConfig:
    assert isinstance(request.param, HardwareConfig)
    return request.param


@pytest.fixture(scope="module")
def evaluated(config: HardwareConfig) -> Result:
    return evaluate(GRAPH, config, "edp")


def test_totals_are_sums_over_kernels(evaluated: Result) -> None:
    kernels = evaluated.kernels
    assert evaluated.cycles == sum(kernel.cycles for kernel in kernels)
    assert evaluated.host_cycles == sum(kernel.host_cycles for kernel in kernels)
    assert evaluated.macs == sum(kernel.macs for kernel in kernels) == GRAPH.macs
    for i, event in enumerate(EVENTS):
        assert evaluated.events[i] == sum(int(kernel.events[i]) for kernel in kernels), event
    assert evaluated.host_cycles == evaluated.events[EVENT_INDEX["host_cycles"]]
    read, write = (int(evaluated.events[EVENT_INDEX[f"dram_{d}_bytes"]]) for d in ("read", "write"))
    assert evaluated.dram_bytes == read + write


def test_kernels_cover_the_graph_in_order(evaluated: Result) -> None:
    covered = [name for kernel in evaluated.kernels for name in kernel.operators]
    assert sorted(covered) == sorted(op.name for op in GRAPH.operators())
    position = {n: i for i, kernel in enumerate(evaluated.kernels) for n in kernel.operators}
    for u, v in GRAPH.dag.edges:
        assert position[u] <= position[v]


def test_cycles_are_the_recurrences_own(config: HardwareConfig) -> None:
    """Every kernel of the plan, unrolled and timed instruction by instruction."""
    table = cost_table(config)
    plan = lower(GRAPH, config, "edp", table)
    priced = result(plan, table)
    for step, kernel in zip(plan.steps, priced.kernels, strict=True):
        problem = step.work.problem
        cycles = (
            evaluate_unrolled(body(problem, step.mapping, config), config).cycles if problem else 0
        )
        assert kernel.cycles == cycles + kernel.host_cycles
        assert (kernel.mapping == "") == (problem is None)


def test_derived_figures_follow_their_definitions(evaluated: Result) -> None:
    config = evaluated.config
    assert evaluated.latency_s == evaluated.cycles / config.clock_hz
    assert evaluated.utilization == evaluated.macs / (config.dim**2 * evaluated.cycles)
    np.testing.assert_allclose(
        evaluated.edp_js, evaluated.energy_j * evaluated.cycles / config.clock_hz, rtol=1e-12
    )
    np.testing.assert_array_equal(evaluated.area_mm2, area_mm2(config).total)


def test_energy_is_events_times_costs(evaluated: Result) -> None:
    """Written out event by event, with idle PEs and standing power, in plain Python."""
    table = evaluated.table
    pes = evaluated.config.dim**2
    for bound in range(3):
        joules = sum(
            int(n) * float(j) for n, j in zip(evaluated.events, table.event_j[bound], strict=True)
        )
        idle = pes * evaluated.cycles - int(evaluated.events[EVENT_INDEX["pe_active"]])
        joules += idle * float(table.pe_idle_j[bound])
        watts = float(table.leakage_w[bound] + table.dram_background_w[bound])
        joules += watts * evaluated.latency_s
        assert evaluated.energy_j[bound] == pytest.approx(joules, rel=1e-9)


def test_a_step_of_the_host_costs_the_tables_cycles() -> None:
    priced = evaluate(GRAPH, GEMMINI)
    (gelu,) = (kernel for kernel in priced.kernels if "gelu" in kernel.operators)
    assert gelu.kind == "host"
    assert gelu.cycles == gelu.host_cycles == total_host_cycles("gelu", 64 * 512)


def test_an_empty_result_is_zero() -> None:
    nothing = evaluate(graph_of([], ()), IBERT)
    assert nothing.cycles == nothing.macs == nothing.dram_bytes == 0
    assert nothing.events.shape == (len(EVENTS),)
    np.testing.assert_array_equal(nothing.energy_j, np.zeros(3))


def test_a_users_table_changes_energy_and_not_cycles() -> None:
    """With DRAM a thousand times dearer, energy rises and the plan for cycles stays."""
    dear = EnergyOverrides("dear", (("dram_read_bytes", 1e5), ("dram_write_bytes", 1e5)))
    base, other = evaluate(GRAPH, IBERT, "cycles"), evaluate(GRAPH, IBERT, "cycles", dear)
    assert base.cycles == other.cycles
    np.testing.assert_array_equal(base.events, other.events)
    shipped = base.table.event_j[1, EVENT_INDEX["dram_read_bytes"]]
    assert other.energy_j[1] - base.energy_j[1] == pytest.approx(
        base.dram_bytes * (1e5 * 1e-12 - shipped), rel=1e-6
    )
    frugal = evaluate(GRAPH, IBERT, "energy", dear)
    assert frugal.dram_bytes <= other.dram_bytes


def test_objectives_are_what_is_minimised() -> None:
    tight = replace(IBERT, scratchpad_bytes=16 << 10, accumulator_bytes=32 << 10)
    by = {objective: evaluate(GRAPH, tight, objective) for objective in ("cycles", "energy", "edp")}
    assert by["cycles"].cycles == min(r.cycles for r in by.values())
    assert by["energy"].energy_j[1] == min(r.energy_j[1] for r in by.values())


def test_wrong_names_are_one_line() -> None:
    with pytest.raises(MappingError, match="'fast'"):
        evaluate(GRAPH, IBERT, "fast")
    with pytest.raises(TableError, match="'gold'"):
        evaluate(GRAPH, IBERT, tables="gold")
