"""The mesh stays busy through BERT's encoder, and the baseline is as far behind as published.

Kim et al., "Full Stack Optimization of Transformer Inference" (arXiv 2302.14017, section 3.4.4): Gemmini
with its nonlinear operations on the host against Gemmini with units for them, BERT-base at sequence
length 512, gains 39.6x.
"""

from functools import cache

import pytest
from joint_space import SMALL

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.hw.machine.config import preset
from codesign.models.zoo.axes import NetworkShape
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.search.joint.results import front_point
from codesign.search.pricing.breakdown import kernels
from codesign.search.pricing.evaluate import KernelResult, Result, evaluate

LAYERS, WIDTH, D_FF = 12, 768, 3072
PUBLISHED_SPEEDUP = 39.6
SPEEDUP_BAND = (30, 60)


@cache
def bert(machine: str, seq: int) -> Result:
    graph = import_onnx(export(family("bert-base"), seq=seq, weights="splat"))
    return evaluate(graph, preset(machine), "cycles")


def encoder(result: Result) -> list[KernelResult]:
    """Kernels of the 12 layers; embeddings before and the pooler after them are left out."""
    return [
        kernel
        for kernel in result.kernels
        if any(name.startswith("layer") for name in kernel.operators)
    ]


@pytest.mark.parametrize("seq", [128, 512])
def test_the_mesh_stays_busy_through_the_encoder(seq: int) -> None:
    """All kernels of the layers, softmax, GELU, LayerNorm and residuals among them."""
    result = bert("ibert", seq)
    assert (result.config.bus_bytes, result.config.dram_latency_cycles) == (16, 50)
    kernels = encoder(result)
    macs = sum(kernel.macs for kernel in kernels)
    attention = 2 * seq * seq * WIDTH
    assert macs == LAYERS * (seq * (4 * WIDTH * WIDTH + 2 * WIDTH * D_FF) + attention)
    cycles = sum(kernel.cycles for kernel in kernels)
    utilization = macs / (result.config.dim**2 * cycles)
    print(f"bert-base, {seq} tokens: encoder {utilization:.4f}, network {result.utilization:.4f}")
    assert utilization >= 0.95
    assert result.utilization >= 0.95
    assert all(kernel.host_cycles == 0 for kernel in kernels)


@pytest.mark.parametrize("seq", [128, 512])
def test_nonlinear_operators_are_covered_by_kernels_on_chip(seq: int) -> None:
    covered = {name for kernel in encoder(bert("ibert", seq)) for name in kernel.operators}
    for kind in ("Softmax", "LayerNormalization", "residual"):
        assert sum(kind in name for name in covered) >= LAYERS, kind


def test_the_baseline_is_as_far_behind_as_published() -> None:
    ours, baseline = bert("ibert", 512), bert("gemmini", 512)
    speedup = baseline.cycles / ours.cycles
    print(f"bert-base, 512 tokens: {speedup:.1f}x, published {PUBLISHED_SPEEDUP}x")
    assert SPEEDUP_BAND[0] <= speedup <= SPEEDUP_BAND[1]
    assert baseline.host_cycles > 0.9 * baseline.cycles


@pytest.mark.parametrize("machine", ["edge", "ibert", "large"])
def test_utilization_is_macs_over_the_mesh_in_all_cycles(machine: str) -> None:
    """In totals, in every kernel and on the front: useful MACs over dim x dim x cycles."""
    graph = import_onnx(export(family("bert-tiny"), seq=24, weights="splat"))
    result, dim = evaluate(graph, preset(machine), "edp"), preset(machine).dim
    macs = sum(op.macs for op in graph.operators())
    wanted = pytest.approx(macs / (dim**2 * result.cycles), rel=1e-12)
    assert 0 < result.utilization < 1 and result.utilization == wanted
    for row in kernels(result):
        assert row.utilization == pytest.approx(row.macs / (dim**2 * row.cycles), rel=1e-12)
    shape = NetworkShape.of(layers=1, d_model=48, heads=(4,), d_ff=(64,))
    assert front_point(SMALL, shape, 1, 10.0, True, result).utilization == wanted
