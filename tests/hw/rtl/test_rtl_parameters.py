"""Modules refuse parameters that they cannot have when they are elaborated, by name; legal ones pass."""

import re
import subprocess
from collections.abc import Mapping

import pytest

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.limits import RTL_DIM
from codesign.hw.simulation import simulator, sources, verilator

DIM = {"Dim": (2, 6, 12, RTL_DIM.most * 2)}
BUS = {"BusBytes": (3, 24, 256)}
LATENCY = {"DramLatencyCycles": (0, 10_001)}
LOCAL_ROWS = {"ScratchpadRows": (0, (1 << 20) + 1), "AccumulatorRows": (0, (1 << 20) + 1)}
PARAMETER_ROWS = {"ParameterRows": (0, 1025)}
MEMORIES = {
    "ScratchpadBytes": (65536 + 16, 16 << 21),
    "ScratchpadBanks": (1, 3),
    "AccumulatorBytes": (1000, 1024),
    "AccumulatorBanks": (6,),
    "ParameterChannels": (0, 2049, 16 << 11),
}
BANKS = {"Banks": (0, 1, 3, 128), "BankRows": (0, 1 << 20)}

# Of each module, values that each of its numbers cannot be, the others being their defaults.
ILLEGAL: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "machine": {
        **DIM,
        **MEMORIES,
        **BUS,
        **LATENCY,
        "LoadQueueDepth": (1,),
        "ExecuteQueueDepth": (257,),
        "DrainQueueDepth": (0,),
        "Normalization": (2,),
    },
    "front_end": {
        "LoadQueueDepth": (0, 1, 257),
        "ExecuteQueueDepth": (0, 1, 257),
        "DrainQueueDepth": (0, 1, 257),
    },
    "retire": {"Depth": (0,), "Kinds": (0,)},
    "counters": {"Width": (0, 1)},
    "load_unit": {**DIM, **BUS, **LATENCY, **LOCAL_ROWS, **PARAMETER_ROWS},
    "load_addresses": {**DIM, **BUS},
    "load_unpacker": {**DIM, **BUS, "Depth": (0,)},
    "execute_unit": {**DIM, **LOCAL_ROWS},
    "weight_stream": DIM,
    "mesh": DIM,
    "mesh_row": DIM,
    "skew": {"Width": (0,), "Lanes": (0,)},
    "drain_unit": {**DIM, **BUS, **LATENCY, **LOCAL_ROWS, **PARAMETER_ROWS},
    "drain_sequencer": {**DIM, **BUS, **LOCAL_ROWS, **PARAMETER_ROWS},
    "row_pipeline": DIM,
    "statistics": DIM,
    "lane_maximum": DIM,
    "lane_sum": {**DIM, "Width": (0,)},
    "column_limit": DIM,
    "store_dma": {**DIM, **BUS, **LATENCY},
    "burst_splitter": BUS,
    "row_packer": {**DIM, **BUS},
    "square_root": {"SideWidth": (0,)},
    "reciprocal": {"SideWidth": (0,)},
    "parameter_memory": {**DIM, "Rows": (0, 1025)},
    "banked_memory": {
        "Width": (0,),
        **BANKS,
        "Reads": (0,),
        "Writes": (0, 3),
        "Updates": (2,),
    },
    "bank_select": BANKS,
    "sram_1r1w": {"Width": (0,), "Rows": (0,)},
    "accumulate_port": DIM,
    "alignment_memory": {"Normalization": (2,)},
    "legal_sizes": {**DIM, **BUS, **LATENCY, **LOCAL_ROWS, **PARAMETER_ROWS},
    "legal_memories": {**DIM, **MEMORIES},
    "fifo": {"Width": (0,), "Depth": (0,)},
    "delay_line": {"Width": (0,), "Depth": ()},  # none is too short: a wire
    "race_checker": {"Rows": (0,), "Reads": (0,), "Writes": (0,), "Updates": (3,)},
    "axi_memory": {**BUS, "LatencyCycles": (0, 10_001)},
}
# Bound to a module whose parameters they have, or around one that refuses the same.
ELSEWHERE = {
    *("banked_memory_checks", "parameter_memory_checks", "alignment_memory_checks"),
    *("statistics_checks", "machine_checks", "system"),
}

SMALLEST = HardwareConfig(
    dim=4, scratchpad_bytes=2 * 4 * 4, scratchpad_banks=2, accumulator_bytes=2 * 16 * 4,
    accumulator_banks=2, parameter_channels=4, bus_bytes=1, dram_latency_cycles=1,
    load_queue_depth=2, execute_queue_depth=2, drain_queue_depth=2, normalization=False,
)  # fmt: skip
LEGAL = {
    "the smallest machine": ("machine", simulator.parameters(SMALLEST)),
    "the largest mesh": ("mesh", {"Dim": RTL_DIM.most}),
    "a bus as wide as a tile": ("load_unit", {"Dim": 4, "BusBytes": 16}),
    "the widest bus": ("store_dma", {"Dim": 16, "BusBytes": 128, "DramLatencyCycles": 10_000}),
    "the longest queues": (
        "front_end",
        {"LoadQueueDepth": 256, "ExecuteQueueDepth": 256, "DrainQueueDepth": 2},
    ),
    "all rows that there are": (
        "banked_memory",
        {"Banks": 64, "BankRows": 1 << 14},
    ),
    "ragged banks": ("banked_memory", {"Banks": 4, "BankRows": 44}),
    "one parameter row": ("parameter_memory", {"Dim": 4, "Rows": 1}),
    "one entry": ("fifo", {"Width": 1, "Depth": 1}),
    "a wire": ("delay_line", {"Width": 1, "Depth": 0}),
}


def elaborate(top: str, parameters: Mapping[str, int], *flags: str) -> str:
    """What Verilator says about a module with these parameters: nothing when it takes them."""
    found = verilator.find_verilator()
    command = [str(found.executable), "--lint-only", "--top-module", top, *flags]
    command += [f"-G{name}={value}" for name, value in parameters.items()]
    command += map(str, sources.sources_of(top))
    done = subprocess.run(
        command, env=found.environment(), capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def numbers(name: str) -> set[str]:
    """The parameters of a module that are whole numbers."""
    text = sources.module(name).read_text(encoding="utf-8")
    header = text[re.search(rf"^module {name}\b", text, re.MULTILINE).start() :].split("\n);")[0]  # type: ignore[union-attr]
    return set(re.findall(r"^\s*parameter int unsigned (\w+)", header, re.MULTILINE))


def test_every_number_of_every_module_is_tried() -> None:
    hardware = {name for name in sources.modules() if not name.endswith("_pkg")}
    declared = {name: numbers(name) for name in hardware - ELSEWHERE}
    assert {name: set(ILLEGAL.get(name, ())) for name in declared} == declared


@pytest.mark.parametrize("module", ILLEGAL)
def test_illegal_parameters_are_refused_by_name(module: str) -> None:
    """All parameters illegal at once, each then named; by itself where another's refusal hides it."""
    left = {name: list(values) for name, values in ILLEGAL[module].items()}
    while given := {name: values.pop() for name, values in left.items() if values}:
        said = elaborate(module, given)
        for name, value in given.items():
            if not refused(said, name, value):
                said = elaborate(module, {name: value})
                assert refused(said, name, value), (name, value, said)


def refused(said: str, name: str, value: int) -> bool:
    """Whether Verilator's words refuse a parameter's value by name."""
    return bool(re.search(rf"(USERERROR|%Error).*\b{name}={value}\b", said))


@pytest.mark.parametrize("module", ILLEGAL)
def test_modules_by_themselves_have_nothing_to_warn_of(module: str) -> None:
    assert elaborate(module, {}, "-Wall", "-Wno-UNUSEDPARAM") == ""  # of packages


@pytest.mark.parametrize("name", ["Dim", "BusBytes", "ScratchpadBanks", "AccumulatorBanks"])
def test_what_others_are_divided_by_is_not_zero(name: str) -> None:
    """The division may be what is refused."""
    assert elaborate("machine", {name: 0})


@pytest.mark.parametrize("name", LEGAL)
def test_legal_corners_are_taken(name: str) -> None:
    module, parameters = LEGAL[name]
    assert elaborate(module, parameters) == ""
