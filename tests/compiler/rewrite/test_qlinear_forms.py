"""QLinear operators of onnxruntime that join and pool: their float form within a step of the file."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_builder import CONTRIB, ModelBuilder
from onnx_builder import run as float_run

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.compiler.rewrite.dequantize import dequantized
from codesign.hw.errors import UnsupportedError
from codesign.hw.machine.config import preset

SCALES = {"a": (0.03, 120), "b": (0.021, 3), "y": (0.028, 128)}


def quantized(op_type: str, **attributes: Any) -> onnx.ModelProto:
    """x and a sum of it, quantized, joined or pooled, and floats again."""
    b = ModelBuilder()
    x = b.input("x", (1, 4, 8, 8))
    parts = {n: [b.const(s), b.const(zero, "uint8")] for n, (s, zero) in SCALES.items()}
    other = b.node("Abs", x)
    codes = {"a": b.node("QuantizeLinear", x, *parts["a"])}
    codes["b"] = b.node("QuantizeLinear", other, *parts["b"])
    if op_type == "QLinearConcat":
        given = [*parts["y"], codes["a"], *parts["a"], codes["b"], *parts["b"]]
    else:
        given = [codes["a"], *parts["a"], *parts["y"]]
    y = b.node(op_type, *given, domain=CONTRIB, **attributes)
    return b.model(b.node("DequantizeLinear", y, *parts["y"]))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("QLinearConcat", {"axis": 1}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("QLinearGlobalAveragePool", {"channels_last": 0}),
    ],
)
def test_joining_and_pooling(op_type: str, attributes: dict[str, Any]) -> None:
    model = quantized(op_type, **attributes)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)}
    (wanted,) = float_run(model, **feeds)
    (found,) = float_run(dequantized(model, None).model, **feeds)
    steps = SCALES["y"][0] + SCALES["a"][0]  # the output's, and half of one of the input's at most
    assert np.abs(found - wanted).max() <= steps
    compiled = compile_network(model, preset("ibert"), [feeds], batch=None)
    ((_, ours),) = run(compiled, feeds, "integers").items()
    assert np.abs(ours - wanted).max() <= steps


def test_channels_that_come_last_are_refused() -> None:
    model = quantized("QLinearGlobalAveragePool", channels_last=1)
    with pytest.raises(UnsupportedError, match="its channels are last"):
        dequantized(model)
