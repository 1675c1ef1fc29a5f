"""Weights read from the constant of a file are those that one-hot rows ask for."""

import numpy as np
import onnx
import pytest
from onnx_builder import ModelBuilder
from onnx_builder import run as run_file

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics import probe
from codesign.compiler.onnx.float_model import Part
from codesign.hw.machine.config import preset

ROWS, K, N = 4, 24, 16


def projection(form: str, k: int = K) -> onnx.ModelProto:
    """Rows of k numbers times weights; what else lies around them by `form`."""
    b = ModelBuilder()
    x = b.input("x", (1, ROWS, k))
    w = b.rng.normal(size=(k, N)) / np.sqrt(k)
    if form == "Gemm":
        rows = b.node("Reshape", x, b.ints(ROWS, k))
        y = b.node("Gemm", rows, b.const(w.T), b.weights(N), transB=1, alpha=0.5)
    elif form == "Conv":
        y = b.node("Conv", b.node("Transpose", x, perm=[0, 2, 1]), b.const(w.T[..., None]))
        y = b.node("Transpose", y, perm=[0, 2, 1])
    elif form == "turned columns":  # as heads that are merged the other way round
        cut = b.node("Reshape", x, b.ints(1, ROWS, 2, k // 2))
        turned = b.node("Transpose", cut, perm=[0, 1, 3, 2])
        y = b.node("MatMul", b.node("Reshape", turned, b.ints(1, ROWS, k)), b.const(w))
    elif form == "factors":
        before, behind = (
            b.const(b.rng.uniform(0.5, 2, size=k)),
            b.const(b.rng.uniform(0.5, 2, size=N)),
        )
        y = b.node("Mul", b.node("MatMul", b.node("Mul", x, before), b.const(w)), behind)
        y = b.node("Sub", y, b.weights(N))
    elif form == "two products":
        y = b.node("Add", b.node("MatMul", x, b.const(w)), b.weights(N))
        y = b.node("MatMul", y, b.weights(N, N))
    else:
        y = b.node("Add", b.node("MatMul", x, b.const(w)), b.weights(N))
    return b.model(y)


def compiled(form: str, k: int = K) -> tuple[Network, dict[str, np.ndarray]]:
    feeds = {"x": np.random.default_rng(0).normal(size=(1, ROWS, k)).astype(np.float32)}
    return compile_network(projection(form, k), preset("ibert"), [feeds]), feeds


FORMS = ("MatMul", "Gemm", "Conv", "turned columns", "factors", "two products")


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_a_file_are_those_it_answers_with(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = compiled(form)
    monkeypatch.setattr(probe, "MOST_ASKED", 0)
    network, feeds = compiled(form)
    assert network.constants.linear.keys() == asked.constants.linear.keys() != set()
    for name, read in network.constants.linear.items():
        expected = asked.constants.linear[name]
        np.testing.assert_allclose(read.weights, expected.weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(read.bias, expected.bias)
    (got,), (wanted,) = (
        run(network, feeds, "integers").values(),
        run_file(projection(form), **feeds),
    )
    assert ((got - wanted) ** 2).sum() < 1e-2 * (wanted**2).sum()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "two products"])
def test_many_columns_take_few_runs_of_the_file(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    call = Part.__call__

    def counted(part: Part, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(part)
        return call(part, feeds)

    monkeypatch.setattr(Part, "__call__", counted)
    network, _ = compiled(form, k=80 * ROWS)
    assert network.constants.linear
    assert len(calls) < 40
