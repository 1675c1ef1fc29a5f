"""One whole encoder layer of BERT-base on the RTL of `ibert`: every operator on chip, every cycle."""

import pytest
from rtl_agreement import check_agreement, legal_dram

from codesign.compiler.emit import emit
from codesign.compiler.lower import lower
from codesign.compiler.onnx_import import import_onnx
from codesign.hw.config import HardwareConfig, preset
from codesign.hw.energy import cost_table
from codesign.hw.program import Body
from codesign.models.export import export
from codesign.models.families import family

MOST_CYCLES = 3_750_000  # of 3.637 M that the mesh cannot go below: at least 97 % utilization
LAYER = "layer1."


def layer_kernels(config: HardwareConfig) -> tuple[list[Body], int]:
    """The kernels of the second layer, with the whole network's addresses, and its bytes of DRAM."""
    graph = import_onnx(export(family("bert-base"), seq=128, weights="splat"))
    plan = lower(graph, config, "cycles", cost_table(config))
    program = emit(plan)
    layer = [
        kernel
        for step, kernel in zip(plan.steps, program.kernels, strict=True)
        if any(name.startswith(LAYER) for name in step.operators)
    ]
    assert layer and not any(kernel.host_cycles for kernel in layer)
    return [kernel.body for kernel in layer], program.dram_bytes


@pytest.mark.long
def test_an_encoder_layer_on_the_rtl() -> None:
    config = preset("ibert")
    layer, dram_bytes = layer_kernels(config)
    dram = legal_dram(-(-dram_bytes // 8) * 8, config, seed=1)
    result = check_agreement(layer, config, dram)
    print(f"{len(layer)} kernels, {result.cycles:,} cycles")
    assert result.cycles <= MOST_CYCLES
