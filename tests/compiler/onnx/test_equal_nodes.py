"""What a file computes twice is computed once, where it is the same in every code."""

import numpy as np
import onnx
import pytest
from onnx_builder import ModelBuilder, kinds
from onnx_builder import run as run_file

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.onnx.fold import fold
from codesign.hw.machine.config import preset

SHAPE = (1, 16, 32)


def twice(*, codes: tuple[float, ...] = (), random: bool = False) -> onnx.ModelProto:
    """relu(x W) V twice; quantized with these scales, or with random numbers added before."""
    b = ModelBuilder()
    x, w, v = b.input("x", SHAPE), b.weights(32, 64), b.weights(64, 32)
    outputs = []
    for index in range(2):
        y = b.node("MatMul", x, w)
        if random:
            y = b.node("Add", y, b.node("RandomNormalLike", y))
        y = b.node("Relu", y)
        if codes:
            code = b.const(codes[index]), b.const(0, "int8")
            y = b.node("DequantizeLinear", b.node("QuantizeLinear", y, *code), *code)
        outputs.append(b.node("MatMul", y, v))
    return b.model(*outputs)


def test_equal_nodes_are_one_and_every_output_keeps_its_name() -> None:
    model = twice()
    assert kinds(import_onnx(model)) == ["matmul", "relu", "matmul"]
    feeds = {"x": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)}
    network = compile_network(model, preset("ibert"), [feeds])
    found = run(network, feeds, "integers")
    assert list(found) == [value.name for value in model.graph.output]
    first, second = found.values()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, run_file(model, **feeds)[0], atol=0.03)
    assert network.plan.graph.macs == import_onnx(model).macs  # nothing by the host in float


@pytest.mark.parametrize(("codes", "count"), [((0.02, 0.02), 1), ((0.02, 0.005), 2)])
def test_results_of_different_codes_are_different(codes: tuple[float, ...], count: int) -> None:
    model = twice(codes=codes)
    assert kinds(import_onnx(model)).count("relu") == count
    feeds = {"x": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)}
    network = compile_network(model, preset("ibert"), [feeds])
    assert kinds(network.plan.graph).count("relu") == count
    found = run(network, feeds, "integers").values()
    for got, expected in zip(found, run_file(model, **feeds), strict=True):
        assert ((got - expected) ** 2).sum() < 1e-3 * (expected**2).sum()


def test_random_numbers_are_others_each_time() -> None:
    shapes = {"x": SHAPE}
    assert fold(twice(), shapes).first
    different = fold(twice(random=True), shapes)
    made = [n.outputs[0] for n in different.nodes() if n.op_type in ("RandomNormalLike", "Relu")]
    assert len(made) == 4
    assert not different.first.keys() & set(made)
