"""A limit of what a softmax or a norm reads is no part of it, unless it lies beyond any score."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx_builder import ModelBuilder, run

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.network import inference
from codesign.compiler.network.compilation import compile_network
from codesign.hw.machine.config import preset

SHAPE = (16, 32)
Step = Callable[[ModelBuilder, str], str]


def softmax(b: ModelBuilder, x: str) -> str:
    return str(b.node("Softmax", x, axis=-1))


def log_softmax(b: ModelBuilder, x: str) -> str:
    return str(b.node("LogSoftmax", x, axis=-1))


def softmax_steps(b: ModelBuilder, x: str) -> str:
    exponents = b.node("Exp", b.node("Sub", x, b.node("ReduceMax", x, axes=[-1])))
    return str(b.node("Div", exponents, b.node("ReduceSum", exponents, b.ints(-1))))


def layer_norm(b: ModelBuilder, x: str) -> str:
    centered = b.node("Sub", x, b.node("ReduceMean", x, axes=[-1]))
    squares = b.node("ReduceMean", b.node("Mul", centered, centered), axes=[-1])
    return str(b.node("Div", centered, b.node("Sqrt", b.node("Add", squares, b.const(1e-5)))))


def limited(b: ModelBuilder, op_type: str, x: str, limit: float) -> str:
    ends = {"Min": (limit,), "Max": (-limit,), "Clip": (-limit, limit)}[op_type]
    return str(b.node(op_type, x, *map(b.const, ends)))


def model(function: Step, op_type: str, limit: float) -> onnx.ModelProto:
    b = ModelBuilder()
    return b.model(function(b, limited(b, op_type, b.input("x", SHAPE), limit)))


@pytest.mark.parametrize("limit", (1.5, 6.0, 10.0))
@pytest.mark.parametrize("op_type", ("Min", "Max", "Clip"))
@pytest.mark.parametrize("function", (softmax, log_softmax, softmax_steps, layer_norm))
def test_a_limit_that_bites_is_kept(function: Step, op_type: str, limit: float) -> None:
    """Beside onnxruntime, on values that reach beyond it."""
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(0, 0.9 * limit, SHAPE).astype(np.float32)} for _ in range(8)]
    file = model(function, op_type, limit)
    network = compile_network(file, preset("edge"), feeds, batch=None)
    (wanted,), (found,) = (
        run(file, **feeds[0]),
        inference.run(network, feeds[0], "integers").values(),
    )
    noise = ((wanted - found).astype(float) ** 2).sum()
    assert noise < 10**-2.8 * (wanted.astype(float) ** 2).sum()


@pytest.mark.parametrize("function", (softmax, softmax_steps, layer_norm))
def test_the_range_of_half_precision_is_no_limit(function: Step) -> None:
    """As models that ran in float16 have it."""
    kinds = [op.kind for op in import_onnx(model(function, "Clip", 65504.0)).operators()]
    assert kinds in (["softmax"], ["layernorm"])
