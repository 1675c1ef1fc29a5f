"""What no machine can beat and no model may break: peaks, bandwidths, conservation, monotony.

Every kernel of every network, on presets and random machines, for all objectives. The bounds come
from the configuration and the graph alone, never from the mapper.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from operator_graphs import encoder_layer, graph_of, pre_norm_layer

from codesign.compiler.graph import Graph, Matmul
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.kinds import body
from codesign.compiler.plan.lower import Plan, Step, lower
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import PRESETS, HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.functions import DRAIN_FUNCTIONS
from codesign.hw.machine.program import Loop, Pipeline, instructions, unroll
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.search.pricing.evaluate import Result, evaluate, result

MODELS = ("bert-tiny", "t5-mini", "vit-tiny", "gpt2", "resnet50")
QUICK = ("bert-tiny", "t5-mini")


@cache
def network(name: str, seq: int = 32) -> Graph:
    """A built-in model; `layers` are hand-made: post-norm with ragged heads, and pre-norm."""
    if name == "layers":
        return graph_of([*encoder_layer(56)], ("norm2",))
    if name == "pre-norm":
        return graph_of(pre_norm_layer(), ("sum2",))
    return import_onnx(export(family(name), seq=seq, weights="splat"))


@cache
def priced(name: str, config: HardwareConfig, objective: str) -> tuple[Plan, Result]:
    table = cost_table(config)
    plan = lower(network(name), config, objective, table)
    return plan, result(plan, table)


def count(step: Step, event: str) -> int:
    return int(step.events[EVENT_INDEX[event]])


# -- Each kernel -------------------------------------------------------------------------------------


def assert_kernel_obeys(step: Step, config: HardwareConfig) -> None:
    """Peak compute, peak bandwidth, and what comes in is written once."""
    accelerator = step.cycles - step.host_cycles
    assert accelerator >= 0
    assert accelerator * config.dim**2 >= count(step, "macs") == step.macs
    assert accelerator * config.dim**2 >= count(step, "pe_active") >= step.macs
    copied = step.work.copied_bytes  # by the host, which needs time for them too
    assert step.host_cycles * config.bus_bytes >= copied
    for direction in ("read", "write"):
        moved = count(step, f"dram_{direction}_bytes") - copied
        assert accelerator * config.bus_bytes >= moved >= 0
    # One port each: a row a cycle and bank at most, whatever the banks are doing.
    for memory, banks in (
        ("scratchpad", config.scratchpad_banks),
        ("accumulator", config.accumulator_banks),
    ):
        for action in ("reads", "writes"):
            assert count(step, f"{memory}_{action}") <= accelerator * banks
    assert count(step, "instructions") <= accelerator
    assert (step.events >= 0).all()


def assert_bytes_are_conserved(step: Step, plan: Plan) -> None:
    """Bytes read from DRAM = rows that loads write x row bytes; bytes written = elements out.

    Loads write int8 rows into both memories; parameters are counted from the kernel's own text.
    """
    problem, config = step.work.problem, plan.config
    if problem is None:
        assert not step.events[EVENT_INDEX["dram_read_bytes"]]
        return
    scratchpad = accumulator = parameters = drained = on_chip = 0
    read = written = 0

    def whole_beats(data_bytes: int) -> int:
        return -(-data_bytes // config.bus_bytes) * config.bus_bytes

    for issued in unroll(body(problem, step.mapping, config)):
        rows = issued.values.get("rows", 0) * issued.values.get("blocks", 0)
        run = issued.values.get("rows", 0) * config.dim
        if issued.op == "mvin":
            target = issued.values["target"]
            assert target != 2, "no kernel loads int32 rows"
            scratchpad += rows if target == 0 else 0
            accumulator += rows if target == 1 else 0
            parameters += rows if target == 3 else 0
            read += issued.values["blocks"] * whole_beats(run * (8 if target == 3 else 1))
        elif issued.op == "mvout":
            drained += rows if issued.values["destination"] == 0 else 0
            if issued.values["destination"] == 0:
                by_rows = DRAIN_FUNCTIONS[issued.values["function"]].by_row  # blocks take turns
                runs = rows if by_rows else issued.values["blocks"]
                written += runs * whole_beats(config.dim if by_rows else run)
            on_chip += rows if issued.values["destination"] == 2 else 0
    dim = config.dim
    useful = (scratchpad + accumulator + 8 * parameters) * dim
    assert count(step, "dram_read_bytes") == read >= useful
    assert config.bus_bytes > dim or read == useful
    assert count(step, "scratchpad_writes") == scratchpad + on_chip
    swept = count(step, "pe_active") // dim**2
    assert count(step, "accumulator_writes") == swept + accumulator
    assert count(step, "dram_write_bytes") == written >= drained * dim
    assert config.bus_bytes > dim or written == drained * dim
    assert count(step, "requantize") == (drained + on_chip) * dim
    assert count(step, "scale") == accumulator * dim


def assert_network_obeys(name: str, config: HardwareConfig, objective: str) -> None:
    plan, priced_result = priced(name, config, objective)
    for step in plan.steps:
        assert_kernel_obeys(step, config)
    assert priced_result.macs == network(name).macs
    assert priced_result.events[EVENT_INDEX["macs"]] == network(name).macs
    assert priced_result.cycles == sum(step.cycles for step in plan.steps)
    assert 0 < priced_result.utilization <= 1
    assert_energy_is_consistent(priced_result)


def assert_energy_is_consistent(priced_result: Result) -> None:
    low, nominal, high = priced_result.energy_j
    assert 0 < low <= nominal <= high
    parts = priced_result.breakdown()
    np.testing.assert_allclose(sum(parts.values()), priced_result.energy_j, rtol=1e-12)
    for part in parts.values():
        assert (part >= 0).all() and part[0] <= part[1] <= part[2]
    kernels = sum(priced_result.kernel_energy_j(kernel) for kernel in priced_result.kernels)
    np.testing.assert_allclose(kernels, priced_result.energy_j, rtol=1e-12)
    np.testing.assert_allclose(
        priced_result.edp_js, priced_result.energy_j * priced_result.latency_s, rtol=1e-12
    )


@pytest.mark.parametrize("objective", MAPPING_OBJECTIVES)
@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("name", QUICK)
def test_no_kernel_beats_the_machine(name: str, config: HardwareConfig, objective: str) -> None:
    assert_network_obeys(name, config, objective)


@pytest.mark.parametrize("config", [preset("ibert"), preset("edge")], ids=lambda c: c.name)
@pytest.mark.parametrize("name", ["vit-tiny", "gpt2", "resnet50"])
def test_no_kernel_of_the_larger_models_beats_the_machine(
    name: str, config: HardwareConfig
) -> None:
    assert_network_obeys(name, config, "cycles")


@pytest.mark.long
@pytest.mark.parametrize("objective", MAPPING_OBJECTIVES)
@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("name", MODELS)
def test_no_kernel_of_any_model_beats_the_machine(
    name: str, config: HardwareConfig, objective: str
) -> None:
    assert_network_obeys(name, config, objective)


@st.composite
def any_machine(draw: st.DrawFn) -> HardwareConfig:
    """Machines of realistic size: a mesh of 4 to 32, memories of 8 KB to 1 MB."""
    dim = draw(st.sampled_from((4, 8, 16, 32)))
    return HardwareConfig(
        dim=dim,
        scratchpad_banks=draw(st.sampled_from((4, 8, 16))),
        scratchpad_bytes=draw(st.sampled_from((32, 64, 128, 256))) * 1024,
        accumulator_banks=draw(st.sampled_from((2, 4, 8))),
        accumulator_bytes=draw(st.sampled_from((64, 128, 256))) * 1024,
        bus_bytes=draw(st.sampled_from((4, 8, 16, 32, 64) if dim > 4 else (4, 8, 16))),
        dram_latency_cycles=draw(st.sampled_from((1, 50, 300))),
        load_queue_depth=draw(st.sampled_from((2, 8))),
        execute_queue_depth=draw(st.sampled_from((2, 16))),
        drain_queue_depth=draw(st.sampled_from((2, 8))),
        normalization=draw(st.booleans()),
    )


@settings(max_examples=12)
@given(any_machine(), st.sampled_from(MAPPING_OBJECTIVES), st.sampled_from(("layers", "pre-norm")))
def test_random_machines_obey(config: HardwareConfig, objective: str, name: str) -> None:
    assert_network_obeys(name, config, objective)


@pytest.mark.long
@settings(max_examples=60)
@given(any_machine(), st.sampled_from(MAPPING_OBJECTIVES), st.sampled_from((*QUICK, "vit-tiny")))
def test_many_random_machines_obey(config: HardwareConfig, objective: str, name: str) -> None:
    assert_network_obeys(name, config, objective)


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("name", ["layers", "pre-norm"])
def test_bytes_are_conserved(name: str, config: HardwareConfig) -> None:
    plan, _ = priced(name, config, "cycles")
    for step in plan.steps:
        assert_bytes_are_conserved(step, plan)


def test_compulsory_traffic_is_moved() -> None:
    """Each weight comes in at least once, each output of a kernel goes out exactly once."""
    plan, _ = priced("bert-tiny", preset("ibert"), "energy")
    weights = sum(
        op.k * op.n
        for op in network("bert-tiny").operators()
        if isinstance(op, Matmul) and op.constant_b
    )
    read = sum(count(step, "dram_read_bytes") for step in plan.steps)
    assert read >= weights
    for step in plan.steps:
        if isinstance(step.work.problem, RowProblem):
            p = step.work.problem
            size = p.batch * p.rows * -(-p.cols // 16) * 16
            assert count(step, "dram_write_bytes") == size


# -- The whole machine ---------------------------------------------------------------------------------


def test_an_empty_graph_costs_nothing() -> None:
    nothing = evaluate(Graph("nothing"), preset("ibert"))
    assert (nothing.cycles, nothing.macs, nothing.utilization) == (0, 0, 0.0)
    assert (nothing.energy_j == 0).all() and (nothing.edp_js == 0).all()
    assert nothing.dram_bytes == 0 and nothing.events.sum() == 0
    assert all((part == 0).all() for part in nothing.breakdown().values())


@pytest.mark.parametrize("name", ["bert-tiny", "pre-norm"])
def test_twice_the_clock_is_half_the_time(name: str) -> None:
    slow = preset("ibert")
    fast = replace(slow, clock_hz=2 * slow.clock_hz)
    _, a = priced(name, slow, "cycles")
    _, b = priced(name, fast, "cycles")
    assert a.cycles == b.cycles
    np.testing.assert_array_equal(a.events, b.events)
    assert a.latency_s == pytest.approx(2 * b.latency_s, rel=1e-12)


SMALLER = {
    "ibert": replace(preset("ibert"), scratchpad_bytes=32 << 10, accumulator_bytes=64 << 10),
    "gemmini": preset("gemmini"),
    "edge": preset("edge"),
}


def larger(config: HardwareConfig) -> dict[str, HardwareConfig]:
    """Machines with more memory in one respect, the rest the same."""
    scratchpad = replace(config, scratchpad_bytes=2 * config.scratchpad_bytes)
    accumulator = replace(config, accumulator_bytes=2 * config.accumulator_bytes)
    return {
        "scratchpad x2": scratchpad,
        "scratchpad x2, banks x2": replace(
            scratchpad, scratchpad_banks=2 * config.scratchpad_banks
        ),
        "accumulator x2": accumulator,
        "accumulator x2, banks x2": replace(
            accumulator, accumulator_banks=2 * config.accumulator_banks
        ),
    }


@pytest.mark.parametrize("machine", SMALLER)
@pytest.mark.parametrize("name", ["bert-tiny", "layers", "pre-norm"])
def test_more_memory_is_never_slower(name: str, machine: str) -> None:
    """Twice the rows in the same banks, or twice the banks of the same rows."""
    config = SMALLER[machine]
    base = priced(name, config, "cycles")[1].cycles
    for change, grown in larger(config).items():
        assert priced(name, grown, "cycles")[1].cycles <= base, change


@pytest.mark.long
@settings(max_examples=40)
@given(any_machine(), st.sampled_from(("layers", "pre-norm", "bert-tiny")))
def test_more_memory_of_random_machines_is_never_slower(config: HardwareConfig, name: str) -> None:
    try:
        base = priced(name, config, "cycles")[1].cycles
    except MappingError:
        assume(False)
    for change, grown in larger(config).items():
        assert priced(name, grown, "cycles")[1].cycles <= base, change


@pytest.mark.parametrize(
    "better",
    [
        replace(SMALLER["ibert"], bus_bytes=32),
        replace(SMALLER["ibert"], dram_latency_cycles=10),
    ],
    ids=["bus", "latency"],
)
@pytest.mark.parametrize("name", ["bert-tiny", "layers"])
def test_a_faster_memory_is_never_slower(name: str, better: HardwareConfig) -> None:
    faster = priced(name, better, "cycles")[1].cycles
    assert faster <= priced(name, SMALLER["ibert"], "cycles")[1].cycles


def test_a_kernel_is_loops_not_a_list() -> None:
    """A layer of a million instructions is a page of text."""
    plan, _ = priced("gpt2", preset("ibert"), "cycles")
    for step in plan.steps:
        if step.work.problem is not None:
            kernel = body(step.work.problem, step.mapping, plan.config)
            assert len(list(instructions(kernel))) <= 20
            assert any(isinstance(node, Loop | Pipeline) for node in kernel)
