"""The kernels of one encoder layer of BERT-base."""

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.plan.lower import lower
from codesign.compiler.program.emit import emit
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family

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
