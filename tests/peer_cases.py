"""Matmuls of a BERT-base layer, mapped by us and by the idealised reference."""

from functools import cache

from reference_mapper import least_traffic

from codesign.compiler.kernels.mapspace import Choice, Prices, best_mapping
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX

LAYERS = ("qkv", "qkT", "av", "proj", "ffn1", "ffn2")
SEQUENCES = (128, 512)
SPLITS = {"64K/256K": (64 << 10, 256 << 10), "256K/64K": (256 << 10, 64 << 10)}
CASES = [(split, length, layer) for split in SPLITS for length in SEQUENCES for layer in LAYERS]


def shape(layer: str, length: int) -> tuple[int, int, int]:
    """m, k, n of a layer of BERT-base: hidden 768, 12 heads of 64, FFN 3072."""
    return {
        "qkv": (length, 768, 768),
        "qkT": (length, 64, length),
        "av": (length, length, 64),
        "proj": (length, 768, 768),
        "ffn1": (length, 768, 3072),
        "ffn2": (length, 3072, 768),
    }[layer]


@cache
def best(split: str, length: int, layer: str, objective: str) -> tuple[HardwareConfig, Choice]:
    scratchpad_bytes, accumulator_bytes = SPLITS[split]
    config = HardwareConfig(
        dim=16,
        scratchpad_bytes=scratchpad_bytes,
        scratchpad_banks=16,
        accumulator_bytes=accumulator_bytes,
        accumulator_banks=8,
        bus_bytes=16,
        dram_latency_cycles=50,
    )
    m, k, n = shape(layer, length)
    problem = MatmulProblem(m, k, n, transposed_b=layer == "qkT")
    prices = Prices.of(cost_table(config))
    choice = best_mapping(matmul_spaces(problem, config), config, prices, objective)
    assert choice is not None
    return config, choice


def dram_bytes(choice: Choice) -> int:
    events = choice.events
    return int(events[EVENT_INDEX["dram_read_bytes"]] + events[EVENT_INDEX["dram_write_bytes"]])


def reference_bytes(split: str, length: int, layer: str, spilled_bytes: int = 4) -> int:
    return least_traffic(*shape(layer, length), *SPLITS[split], spilled_bytes).dram_bytes
