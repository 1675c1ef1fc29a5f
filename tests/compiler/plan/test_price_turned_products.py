"""Attention whose products are written the other way round costs what it does the usual way, and runs.

Queries and keys are of different numbers, so that none is taken for the other.
"""

import numpy as np
import onnx
import pytest
from onnx_builder import Array, ModelBuilder, run
from price_forms import price

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run as run_network
from codesign.hw.machine.config import preset

QUERIES, KEYS, HEADS, SIZE, KEPT = 8, 12, 4, 16, 2
D = HEADS * SIZE
TURN = [0, 1, 3, 2]


def heads(b: ModelBuilder, x: str, rows: int, count: int, width: int = SIZE) -> str:
    """A projection of rows, in heads [1, rows, count, width]."""
    return str(
        b.node(
            "Reshape",
            b.node("MatMul", x, b.weights(D, D if count == HEADS else count * width)),
            b.ints(1, rows, count, width),
        )
    )


def attention(form: str, mask: str = "", kept: int = HEADS) -> onnx.ModelProto:
    b = ModelBuilder()
    x, memory = b.input("x", (1, QUERIES, D)), b.input("memory", (1, KEYS, D))
    q = heads(b, x, QUERIES, HEADS)
    k, v = (heads(b, memory, KEYS, kept) for _ in range(2))
    hidden = b.rng.random((QUERIES, KEYS)) < 0.3
    hidden[:, 0] = False
    bias = np.where(hidden, -1e4, 0.0)
    if form.startswith("Einsum"):
        context = by_einsum(b, form, q, k, v)
    else:
        q, k, v = (b.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, k, v))
        k, v = (repeated(b, t) if kept < HEADS else t for t in (k, v))
        context = by_matmul(b, form, q, k, v, bias if mask else None)
    rows = b.node("Reshape", context, b.ints(1, QUERIES, D))
    return b.model(b.node("MatMul", rows, b.weights(D, D)))


def repeated(b: ModelBuilder, x: str) -> str:
    wide = b.node(
        "Expand", b.node("Unsqueeze", x, b.ints(2)), b.ints(1, KEPT, HEADS // KEPT, KEYS, SIZE)
    )
    return str(b.node("Reshape", wide, b.ints(1, HEADS, KEYS, SIZE)))


def by_matmul(b: ModelBuilder, form: str, q: str, k: str, v: str, bias: Array | None) -> str:
    """Context [1, queries, heads, size] of heads [1, heads, rows, size]."""

    def scaled(scores: str) -> str:
        return str(b.node("Mul", scores, b.const(SIZE**-0.5)))

    def turned(tensor: str) -> str:
        return str(b.node("Transpose", tensor, perm=TURN))

    def masked(scores: str, of: Array | None) -> str:
        return scores if of is None else str(b.node("Add", scores, b.const(of)))

    if form in ("plain", "context turned", "context turned to rows"):
        scores = masked(scaled(b.node("MatMul", q, turned(k))), bias)
    elif form in ("keys first", "both turned"):
        scores = masked(scaled(turned(b.node("MatMul", k, turned(q)))), bias)
    elif form == "keys first, scaled before":
        scores = masked(turned(scaled(b.node("MatMul", k, turned(q)))), bias)
    elif form == "keys first, masked before":
        product = scaled(b.node("MatMul", k, turned(q)))
        scores = turned(masked(product, None if bias is None else bias.T))
    elif form == "along the other axis":
        product = scaled(b.node("MatMul", k, turned(q)))
        weights = b.node("Softmax", masked(product, None if bias is None else bias.T), axis=2)
        context = b.node("MatMul", turned(weights), v)
        return str(b.node("Transpose", context, perm=[0, 2, 1, 3]))
    weights = b.node("Softmax", scores, axis=-1)
    if form in ("context turned", "both turned"):
        context = turned(b.node("MatMul", turned(v), turned(weights)))
    elif form == "context turned to rows":
        context = b.node("MatMul", turned(v), turned(weights))
        return str(b.node("Transpose", context, perm=[0, 3, 1, 2]))
    else:
        context = b.node("MatMul", weights, v)
    return str(b.node("Transpose", context, perm=[0, 2, 1, 3]))


def by_einsum(b: ModelBuilder, form: str, q: str, k: str, v: str) -> str:
    """The same of heads [1, rows, heads, size]."""
    if form == "Einsum, turned":
        scores = b.node("Transpose", b.node("Einsum", k, q, equation="bkhd,bqhd->bhkq"), perm=TURN)
    else:
        scores = b.node("Einsum", k, q, equation="bkhd,bqhd->bhqk")
    weights = b.node("Softmax", b.node("Mul", scores, b.const(SIZE**-0.5)), axis=-1)
    if form == "Einsum, values first":
        return str(b.node("Einsum", v, weights, equation="bkhd,bhqk->bqhd"))
    return str(b.node("Einsum", weights, v, equation="bhqk,bkhd->bqhd"))


KEYS_FIRST = ("keys first", "keys first, scaled before")
FORMS = (
    *KEYS_FIRST,
    "context turned",
    "context turned to rows",
    "both turned",
    "along the other axis",
    "Einsum",
    "Einsum, turned",
    "Einsum, values first",
)
MASKED = (*KEYS_FIRST, "keys first, masked before", "along the other axis")
CASES = [
    *((form, "", HEADS) for form in FORMS),
    *((form, "added", HEADS) for form in MASKED),
    *((form, "", KEPT) for form in KEYS_FIRST),
]


@pytest.mark.parametrize(("form", "mask", "kept"), CASES)
@pytest.mark.parametrize("machine", ["ibert", "gemmini"])
def test_a_turned_product_costs_what_the_plain_one_does(
    form: str, mask: str, kept: int, machine: str
) -> None:
    assert price(attention(form, mask, kept), machine) == price(
        attention("plain", mask, kept), machine
    )


@pytest.mark.parametrize(("form", "mask", "kept"), CASES)
def test_a_turned_product_runs(form: str, mask: str, kept: int) -> None:
    model = attention(form, mask, kept)
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.normal(size=(1, QUERIES, D)).astype(np.float32),
        "memory": rng.normal(size=(1, KEYS, D)).astype(np.float32),
    }
    (expected,), (same,) = run(model, **feeds), run(attention("plain", mask, kept), **feeds)
    np.testing.assert_allclose(expected, same, atol=1e-5)
    network = compile_network(model, preset("ibert"), [feeds])
    (got,) = run_network(network, feeds, "integers").values()
    assert ((got - expected) ** 2).sum() < 1e-2 * (expected**2).sum()
