"""Queries from which a mask hides every key come out as in onnxruntime, or the run is told."""

from collections.abc import Callable

import numpy as np
import pytest
from both_ways import Both
from onnx import TensorProto
from onnx_builder import Array, ModelBuilder

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import astray_queries, run
from codesign.hw.machine.config import preset

Form = Callable[[ModelBuilder], str]
ROWS, WIDTH, HEADS = 9, 32, 2
LATER = np.triu(np.ones((ROWS, ROWS), dtype=np.bool_), 1)
LOWEST = float(np.finfo(np.float32).min)
VALUES = (-200.0, -1e4, -1e9, -1e30, LOWEST)
LEAST_DB = 20.0  # of a row by itself, which the rounding of int8 alone leaves 22 to 30


def attention(mask: Callable[[ModelBuilder, str], str]) -> Form:
    """Attention of one input [1, rows, width] with `mask` between scores and softmax."""

    def form(b: ModelBuilder) -> str:
        x = b.input("x", (1, ROWS, WIDTH))
        sizes = b.ints(1, ROWS, HEADS, WIDTH // HEADS)
        heads = [b.node("Reshape", b.linear(x, WIDTH, WIDTH), sizes) for _ in range(3)]
        q, k, v = (
            b.node("Transpose", each, perm=perm)
            for each, perm in zip(heads, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        scores = b.node("Mul", b.node("MatMul", q, k), b.const((WIDTH / HEADS) ** -0.5))
        context = b.node("MatMul", b.node("Softmax", mask(b, scores), axis=-1), v)
        return str(b.node("Transpose", context, perm=[0, 2, 1, 3]))

    return form


def left_padded(how: str, value: float) -> Form:
    """Causal attention whose first keys an input hides, added to scores or chosen instead of them."""

    def mask(b: ModelBuilder, scores: str) -> str:
        keep = b.node("Unsqueeze", b.input("keep", (1, ROWS), TensorProto.INT64), b.ints(1, 2))
        if how == "where":
            seen = b.node("And", b.const(~LATER[None, None], "bool"), b.node("Cast", keep, to=9))
            return str(b.node("Where", seen, scores, b.const(value)))
        hidden = b.node("Sub", b.const(1.0), b.node("Cast", keep, to=1))
        causal = b.const(np.where(LATER, value, 0.0)[None, None])
        lowest = b.node("Min", b.node("Mul", hidden, b.const(value)), causal)
        return str(b.node("Add", scores, lowest))

    return attention(mask)


def constant(how: str, value: float) -> Form:
    """The first three queries see no key."""
    gone = np.broadcast_to(np.arange(ROWS)[:, None] < 3, (1, 1, ROWS, ROWS))

    def mask(b: ModelBuilder, scores: str) -> str:
        if how == "where":
            return str(b.node("Where", b.const(~gone, "bool"), scores, b.const(value)))
        return str(b.node("Add", scores, b.const(np.where(gone, value, 0.0))))

    return attention(mask)


def feeds(first: int, seed: int, computed: bool) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = {"x": rng.normal(size=(1, ROWS, WIDTH)).astype(np.float32)}
    keep = (np.arange(ROWS) >= first)[None].astype(np.int64)
    return x | {"keep": keep} if computed else x


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("how", ("add", "where"))
@pytest.mark.parametrize("computed", (True, False))
def test_every_row_is_as_in_float(computed: bool, how: str, value: float) -> None:
    b = ModelBuilder()
    model = b.model((left_padded if computed else constant)(how, value)(b))
    samples = [feeds(2 + seed % 3, seed, computed) for seed in range(4)]
    net = compile_network(model, preset("edge"), samples)
    assert not astray_queries(net, samples[0])
    found = run(net, samples[0], Both(net))
    for name, wanted in net.model.part((), net.model.outputs)(samples[0]).items():
        noise = np.square(found[name] - wanted).sum(axis=(0, 2, 3))
        signal = np.square(wanted).sum(axis=(0, 2, 3))
        assert (10 * np.log10(signal / noise)).min() > LEAST_DB


@pytest.mark.parametrize("value", (-1e4, LOWEST, -np.inf))
def test_what_calibration_has_not_seen_is_told(value: float) -> None:
    b = ModelBuilder()
    model = b.model(left_padded("where", value)(b))
    net = compile_network(model, preset("edge"), [feeds(0, seed, True) for seed in range(3)])
    assert not astray_queries(net, feeds(0, 5, True))
    (queries,) = astray_queries(net, feeds(2, 5, True)).values()
    assert list(np.flatnonzero(queries)) == [0, 1]
