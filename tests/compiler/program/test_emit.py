"""Emitted Programs: the memory map holds, kernels stay inside it, and time stays what was priced."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_graphs import (
    WIDTH,
    add,
    attention,
    embedding,
    encoder_layer,
    graph_of,
    norm,
    projection,
    random_graphs,
)

from codesign.compiler.graph import Graph, HostOp
from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.plan.lower import Plan, Step, lower
from codesign.compiler.program.emit import emit
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig, preset
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.machine.isa import DESTINATIONS, TARGETS
from codesign.hw.machine.program import Issued, Kernel, Program, Region, unroll
from codesign.hw.views.fast_timing import time_kernel
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.export import export
from codesign.models.zoo.model_config import ModelConfig
from codesign.models.zoo.resnet import ResnetConfig
from codesign.models.zoo.t5 import T5Config
from codesign.models.zoo.vit import VitConfig

IBERT = preset("ibert")
EDGE = preset("edge")
GEMMINI = preset("gemmini")
WIDE_BUS = replace(EDGE, name="wide-bus", bus_bytes=32)
MODELS: tuple[ModelConfig, ...] = (
    BertConfig("bert", 2, d_model=128, heads=2, d_ff=256, vocab_size=100),
    T5Config("t5", 1, 2, d_model=64, heads=2, d_kv=32, d_ff=128, vocab_size=100),
    VitConfig("vit", 1, d_model=96, heads=2, d_ff=192, image_size=32, classes=10),
    lm(name="lm", layers=1, d_model=96, heads=12, d_ff=128, vocab_size=100),
)
CNN = ResnetConfig("cnn", blocks=(1, 1), width=16, image_size=32, classes=10)


def plan_of(model: ModelConfig | Graph, config: HardwareConfig) -> Plan:
    graph = model
    if not isinstance(graph, Graph):
        graph = import_onnx(export(graph, seq=24, weights="splat"))
    return lower(graph, config, "cycles", cost_table(config))


@dataclass(frozen=True)
class Transfer:
    """A contiguous range of DRAM that one block of an instruction moves; `target` names where to."""

    begin: int
    end: int
    write: bool
    target: str


def transfers(issued: Issued, config: HardwareConfig) -> Iterator[Transfer]:
    values, at = issued.values, issued.addresses
    if issued.op == "mvin":
        target = TARGETS[values["target"]]
        row_bytes = config.dim * {"accumulator_int32": 4, "parameters": 8}.get(target, 1)
    elif issued.op == "mvout" and DESTINATIONS[values["destination"]] != "scratchpad":
        target = "dram"
        row_bytes = config.dim * (4 if DESTINATIONS[values["destination"]] == "dram_int32" else 1)
    else:
        return
    for block in range(values["blocks"]):
        begin = at["dram"] + block * at["dram_stride"]
        yield Transfer(begin, begin + values["rows"] * row_bytes, issued.op == "mvout", target)


# -- Lifetimes, recomputed from the plan ---------------------------------------------------------------


def owners(plan: Plan) -> dict[str, str]:
    """The region that holds each tensor: that of the first output of the kernel that writes it."""
    held = {tensor: tensor for step in plan.steps for tensor in step.work.inputs}
    for step in plan.steps:
        held.update((output, step.work.outputs[0]) for output in step.work.outputs)
    return held


def lifetimes(plan: Plan) -> dict[str, tuple[int, int]]:
    """First and last kernel in which the contents of each activation's region matter."""
    held = owners(plan)
    alive: dict[str, tuple[int, int]] = {}
    written = {step.work.outputs[0]: index for index, step in enumerate(plan.steps)}
    for index, step in enumerate(plan.steps):
        for tensor in (*step.work.inputs, *step.work.outputs):
            region = held[tensor]
            alive[region] = (written.get(region, -1), index)
    for tensor in plan.graph.outputs:
        alive[held[tensor]] = (alive[held[tensor]][0], len(plan.steps))
    return alive


def assert_regions_never_meet(plan: Plan, program: Program) -> None:
    alive = lifetimes(plan)
    always = (-1, len(plan.steps))
    for i, a in enumerate(program.memory):
        for b in program.memory[:i]:
            if a.address < b.address + b.size_bytes and b.address < a.address + a.size_bytes:
                (born_a, died_a), (born_b, died_b) = (alive.get(r.name, always) for r in (a, b))
                assert died_a < born_b or died_b < born_a, (a, b)
    assert {name for name in alive} <= {region.name for region in program.memory}


# -- What kernels touch ------------------------------------------------------------------------------


def constants_of(index: int, step: Step, program: Program) -> dict[str, Region]:
    prefix = f"{index}:{step.name}/"
    return {r.name.removeprefix(prefix): r for r in program.memory if r.name.startswith(prefix)}


def assert_kernel_stays_inside(
    plan: Plan, program: Program, index: int, kernel: Kernel, step: Step
) -> None:
    """Reads lie in the step's operands, by role; the output is written once; weights all read."""
    config, held = plan.config, owners(plan)
    regions = {region.name: region for region in program.memory}
    constants = constants_of(index, step, program)
    operands = [regions[held[tensor]] for tensor in step.work.inputs]
    parameters = [constants[name] for name in ("parameters", "mask") if name in constants]
    data = operands + [r for name, r in constants.items() if name not in ("parameters", "mask")]
    out = regions[held[step.work.outputs[0]]]
    written = np.zeros(out.size_bytes, dtype=np.int64)
    weights = constants.get("weights")
    read = np.zeros(weights.size_bytes if weights else 0, dtype=np.bool_)
    for issued in unroll(kernel.body):
        for t in transfers(issued, config):
            allowed = [out] if t.write else parameters if t.target == "parameters" else data
            home = next((r for r in allowed if inside(t, r)), None)
            assert home is not None, (step.name, issued, [(r.name, r.address) for r in allowed])
            if t.write:
                written[t.begin - out.address : t.end - out.address] += 1
            elif home is weights:
                read[t.begin - home.address : t.end - home.address] = True
    assert set(written) <= {0, 1}
    moved = step.events[EVENT_INDEX["dram_write_bytes"]]  # in whole beats
    assert 0 < written.sum() <= moved
    assert written.sum() == moved or config.bus_bytes > config.dim
    # What is never read is padding to whole beats, less than a beat for every block of columns.
    blocks = -(-step.work.problem.n // config.dim) if weights else 0  # type: ignore[union-attr]
    assert len(read) - read.sum() <= blocks * (config.bus_bytes - 1)


def inside(transfer: Transfer, region: Region) -> bool:
    return region.address <= transfer.begin and transfer.end <= region.address + region.size_bytes


def check(plan: Plan) -> Program:
    program = emit(plan)
    assert [kernel.name for kernel in program.kernels] == [step.name for step in plan.steps]
    assert_regions_never_meet(plan, program)
    for index, (kernel, step) in enumerate(zip(program.kernels, plan.steps, strict=True)):
        assert kernel.host_cycles == step.host_cycles
        if step.work.problem is None:
            assert kernel.body == ()
            continue
        timing = time_kernel(kernel.body, plan.config)
        assert timing.cycles + kernel.host_cycles == step.cycles
        expected = timing.events.copy()
        expected[EVENT_INDEX["macs"]] = step.macs
        np.testing.assert_array_equal(expected, step.events)
        assert_kernel_stays_inside(plan, program, index, kernel, step)
    return program


@pytest.mark.parametrize("config", [IBERT, EDGE, GEMMINI, WIDE_BUS], ids=lambda c: c.name)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_kernels_stay_inside_their_regions(model: ModelConfig, config: HardwareConfig) -> None:
    check(plan_of(model, config))


@pytest.mark.parametrize("config", [IBERT, EDGE], ids=lambda c: c.name)
def test_convolutions_stay_inside_their_regions(config: HardwareConfig) -> None:
    check(plan_of(CNN, config))


@pytest.mark.parametrize("head_dim", [56, 64])
def test_padded_heads_stay_inside_their_regions(head_dim: int) -> None:
    check(plan_of(graph_of(encoder_layer(head_dim), ("norm2",)), IBERT))


def test_a_model_input_is_alive_from_the_start() -> None:
    """`late` is first read after larger activations have come and gone: none may overwrite it."""
    operators = [
        projection("wide", "x", n=8 * WIDTH),
        projection("a", "wide", k=8 * WIDTH),
        projection("b", "a"),
        projection("c", "b"),
        add("d", "c", "late"),
        norm("e", "d"),
    ]
    check(plan_of(graph_of(operators, ("e",)), IBERT))


def test_a_model_input_may_be_any_operand() -> None:
    """A residual has the shape of the output, not of A: its region must be that large."""
    operators = [projection("a", "x", k=64), add("s", "a", "y"), norm("n", "s")]
    check(plan_of(graph_of(operators, ("n",)), IBERT))


def test_what_the_host_writes_has_room_in_the_blocked_layout() -> None:
    """A reader of 63 rows x 100 columns steps over padding that the host's count leaves out."""
    rows, columns = 63, 100
    operators = [
        HostOp("embed", ("ids",), "x", "embedding", rows * columns),
        replace(projection("a", "x", k=columns), m=rows),
    ]
    check(plan_of(graph_of(operators, ("a",)), WIDE_BUS))


@pytest.mark.parametrize("config", [IBERT, GEMMINI], ids=lambda c: c.name)
def test_fused_qkv_is_read_by_column_ranges(config: HardwareConfig) -> None:
    """Q, K and V side by side in one tensor: together the kernels read all of it."""
    operators = [
        embedding(),
        projection("qkv", "x", n=3 * WIDTH),
        *attention("qkv", "qkv", "qkv"),
    ]
    plan = plan_of(graph_of(operators, ("context",)), config)
    program = check(plan)
    (region,) = (r for r in program.memory if r.name == "qkv")
    read = np.zeros(region.size_bytes, dtype=np.bool_)
    for kernel in program.kernels:
        for issued in unroll(kernel.body):
            for t in transfers(issued, config):
                if not t.write and inside(t, region):
                    read[t.begin - region.address : t.end - region.address] = True
    assert read.all()


@settings(max_examples=40)
@given(random_graphs(), st.sampled_from((IBERT, GEMMINI, WIDE_BUS)))
def test_any_wiring_stays_inside_its_regions(graph: Graph, config: HardwareConfig) -> None:
    check(plan_of(graph, config))


def test_activations_share_memory() -> None:
    """A deep chain needs the room of two activations, not of all of them."""
    depth = 12
    operators = [
        embedding(),
        *(projection(f"p{i}", f"p{i - 1}" if i else "x") for i in range(depth)),
    ]
    program = check(plan_of(graph_of(operators, (f"p{depth - 1}",)), IBERT))
    activations = [r for r in program.memory if "/" not in r.name and r.name != "ids"]
    assert len(activations) == depth + 1
    assert len({region.address for region in activations}) == 2
    assert program.dram_bytes >= depth * WIDTH * WIDTH  # the weights do not share
