"""Activations and products of two activations in int8, in the forms that exporters write them in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from both_ways import Both
from onnx_builder import CONTRIB, Array, ModelBuilder
from onnx_builder import run as in_float

from codesign.compiler.graph import Activation, Graph
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics import elementwise
from codesign.compiler.numerics.asking import Asker
from codesign.compiler.numerics.elementwise import FUNCTIONS_IN_FLOAT
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import FloatModel
from codesign.hw.machine.config import preset
from codesign.hw.machine.functions import FUNCTION

ROWS, WIDTH, HIDDEN = 21, 40, 72
Step = Callable[[ModelBuilder, str], str]


def node(op_type: str, **attributes: Any) -> Step:
    return lambda b, x: str(b.node(op_type, x, **attributes))


def by_sigmoid(factor: float = 1.0) -> Step:
    def step(b: ModelBuilder, x: str) -> str:
        inner = x if factor == 1.0 else b.node("Mul", x, b.const(factor))
        return str(b.node("Mul", x, b.node("Sigmoid", inner)))

    return step


def sigmoid_in_steps(b: ModelBuilder, x: str) -> str:
    return str(
        b.node("Div", b.const(1.0), b.node("Add", b.const(1.0), b.node("Exp", b.node("Neg", x))))
    )


def softcap(b: ModelBuilder, x: str) -> str:
    small = b.node("Div", x, b.const(5.0))
    return str(b.node("Mul", b.node("Tanh", small), b.const(5.0)))


def hard_swish_in_steps(b: ModelBuilder, x: str) -> str:
    gate = b.node("Clip", b.node("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))
    return str(b.node("Div", b.node("Mul", x, gate), b.const(6.0)))


# The function of the drain, and how files write it.
ACTIVATIONS: dict[str, tuple[str, Step, int]] = {
    "Sigmoid": ("sigmoid", node("Sigmoid"), 17),
    "sigmoid in steps": ("sigmoid", sigmoid_in_steps, 17),
    "Tanh": ("tanh", node("Tanh"), 17),
    "softcap": ("tanh", softcap, 17),
    "HardSigmoid": ("hard_sigmoid", node("HardSigmoid"), 17),
    "HardSigmoid, of PyTorch": ("hard_sigmoid", node("HardSigmoid", alpha=1 / 6), 17),
    "HardSwish": ("hard_swish", node("HardSwish"), 17),
    "hard swish in steps": ("hard_swish", hard_swish_in_steps, 17),
    "x Sigmoid(x)": ("silu", by_sigmoid(), 17),
    "Swish": ("silu", node("Swish"), 24),
    "QuickGelu of 1": ("silu", node("QuickGelu", domain=CONTRIB, alpha=1.0), 17),
    "x Sigmoid(1.702 x)": ("gelu", by_sigmoid(1.702), 17),
}
GATES: dict[str, tuple[str, Step | None]] = {
    "product": ("product", None),
    "SwiGLU": ("swiglu", by_sigmoid()),
    "GEGLU": ("geglu", node("Gelu", domain=CONTRIB)),
    "ReGLU": ("reglu", node("Relu")),
    "GLU": ("glu", node("Sigmoid")),
}


TOKENS, HEADS, PLACES = 19, 3, "places"


def samples(shape: tuple[int, ...], reach: float, count: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.uniform(-reach, reach, shape).astype(np.float32)} for _ in range(count)]


def compiled(
    model: onnx.ModelProto, reach: float = 4.0, shape: tuple[int, ...] = (1, ROWS, WIDTH)
) -> tuple[Network, float]:
    """A network, and the least signal to noise of an output, in dB, on one more input."""
    *given, last = samples(shape, reach, 25)  # enough for the tails of a product
    if any(value.name == PLACES for value in model.graph.input):
        for first, feeds in enumerate((*given, last)):
            feeds[PLACES] = np.arange(first, first + TOKENS)[np.newaxis]
    network = compile_network(model, preset("edge"), given)
    found = run(network, last, Both(network))
    ratios = []
    for value, wanted in zip(found.values(), in_float(model, **last), strict=True):
        ratios.append(10 * np.log10(np.square(wanted).sum() / np.square(value - wanted).sum()))
    return network, min(ratios)


def functions(network: Network) -> list[str]:
    """Of the drains of its kernels, in order."""
    return [drain.function for step in network.plan.steps for drain in step.work.drains]


def on_host(network: Network) -> list[str]:
    return [step.name for step in network.plan.steps if step.work.problem is None]


@pytest.mark.parametrize("form", ACTIVATIONS)
def test_an_activation_of_a_wide_spread_keeps_30_db(form: str) -> None:
    """Uniform arguments within +-8, most of what a function has to show, int8 before and behind."""
    function, step, opset = ACTIVATIONS[form]
    b = ModelBuilder(opset)
    y = step(b, b.input("x", (1, ROWS, WIDTH)))
    model = b.model(str(b.node("Transpose", y, perm=[0, 2, 1])))
    network, ratio = compiled(model, 8.0)
    assert functions(network) == [function] and not on_host(network)
    assert ratio >= 30


@pytest.mark.parametrize("form", [f for f in ACTIVATIONS if ACTIVATIONS[f][2] == 17])
def test_an_activation_is_an_epilogue_of_the_product_before_it(form: str) -> None:
    """Which loses no more than a GELU's of the same matrices."""
    function, step, _ = ACTIVATIONS[form]

    def between(step: Step) -> tuple[Network, float]:
        b = ModelBuilder()
        y = step(b, b.linear(b.input("x", (1, ROWS, WIDTH)), WIDTH, HIDDEN))
        return compiled(b.model(b.linear(y, HIDDEN, WIDTH)))

    (_, least), (network, ratio) = between(node("Gelu", domain=CONTRIB)), between(step)
    assert functions(network) == [function, "copy"] and not on_host(network)
    assert ratio >= least - 2


@pytest.mark.parametrize("form", GATES)
@pytest.mark.parametrize("order", ["first", "second"])
def test_a_product_with_an_activation_is_one_kernel(form: str, order: str) -> None:
    """Of two matrices of different inputs, whatever the order of the product's operands."""
    function, step = GATES[form]
    b = ModelBuilder(20)
    x = b.input("x", (1, ROWS, WIDTH))
    g = b.node("LayerNormalization", x, b.weights(WIDTH), b.weights(WIDTH))
    u = b.node("LayerNormalization", b.node("Add", g, x), b.const(np.ones(WIDTH)))
    a = step(b, g) if step else g
    y = b.node("Mul", *((a, u) if order == "first" else (u, a)))
    network, ratio = compiled(b.model(b.linear(y, WIDTH, WIDTH)))
    assert function in functions(network) and not on_host(network)
    assert ratio >= 30


@pytest.mark.parametrize("as_power", [False, True])
def test_a_square_is_a_product(as_power: bool) -> None:
    b = ModelBuilder()
    y = b.node("Relu", b.linear(b.input("x", (1, ROWS, WIDTH)), WIDTH, WIDTH))
    squared = b.node("Pow", y, b.const(2.0)) if as_power else b.node("Mul", y, y)
    network, ratio = compiled(b.model(b.linear(squared, WIDTH, WIDTH)))
    assert functions(network) == ["relu", "product", "copy"]
    assert ratio >= 20


def test_arguments_beyond_a_gates_are_an_activation_of_their_own() -> None:
    """A gate takes 16 bits of 2^-10, the function by itself 20."""
    b = ModelBuilder()
    x = b.input("x", (1, ROWS, WIDTH))
    g = b.node("LayerNormalization", x, b.const(np.full(WIDTH, 40.0)))
    y = b.node("Mul", by_sigmoid()(b, g), x)
    network, ratio = compiled(b.model(b.linear(y, WIDTH, WIDTH)))
    assert functions(network) == ["layernorm", "silu", "product", "copy"]
    assert ratio >= 30


def test_a_bounded_function_that_is_an_output_is_the_hosts() -> None:
    b = ModelBuilder()
    y = b.linear(b.input("x", (1, ROWS, WIDTH)), WIDTH, WIDTH)
    network, _ = compiled(b.model(b.node("Tanh", y)))
    assert functions(network) == ["copy"] and on_host(network) == ["Tanh_2"]


@pytest.mark.parametrize("flat_side", ("right", "left"))
def test_the_factor_of_a_function_that_is_flat_on_one_side(
    flat_side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a drain function that somebody adds."""
    bound, factor = {"right": np.minimum, "left": np.maximum}[flat_side], 0.75
    monkeypatch.setitem(elementwise.FUNCTIONS_IN_FLOAT, "bound", lambda x: bound(x, 0.0))
    b = ModelBuilder()
    x = b.input("x", (ROWS, WIDTH))
    scaled = b.node("Mul", x, b.const(factor))
    y = b.node("Min" if flat_side == "right" else "Max", scaled, b.const(0.0))
    model = FloatModel(b.model(y))
    op = Activation("bound", ("x",), y, "bound", ROWS, WIDTH)
    graph = Graph("flat", ("x",), (y,))
    graph.add(op)
    feeds = {"x": np.zeros((ROWS, WIDTH), np.float32)}
    asker = Asker(model, graph, Matrices(graph, {"x": (ROWS, WIDTH), y: (ROWS, WIDTH)}), feeds)
    assert elementwise.activation(asker, op) == pytest.approx(factor)


@pytest.mark.parametrize("function", FUNCTIONS_IN_FLOAT)
def test_the_functions_in_float_are_those_of_the_units(function: str) -> None:
    of = FUNCTION[function]
    v = np.arange(-8192, 8193, dtype=np.int64)
    assert of.input_scale is not None
    found = of.values(v, np.ones((), dtype=np.bool_), len(v), 0) * of.value_scale
    exact = v * of.input_scale
    assert np.abs(found - FUNCTIONS_IN_FLOAT[function](exact.astype(np.float64))).max() < 0.02


@pytest.mark.parametrize("form", GATES)
@pytest.mark.parametrize("order", ["first", "second"])
def test_two_projections_of_one_input_and_their_product_are_one_kernel(
    form: str, order: str
) -> None:
    """Sums of both wait in the accumulator: neither is rounded to int8."""
    function, step = GATES[form]
    b = ModelBuilder(20)
    x = b.input("x", (1, ROWS, WIDTH))
    u = b.linear(x, WIDTH, HIDDEN) if order == "second" else ""
    g = b.linear(x, WIDTH, HIDDEN)
    u = u or b.linear(x, WIDTH, HIDDEN)
    a = step(b, g) if step else g
    y = b.node("Mul", *((a, u) if order == "first" else (u, a)))
    network, ratio = compiled(b.model(y))
    assert functions(network) == [function] and not on_host(network)
    assert ratio >= 30


def halves(b: ModelBuilder, x: str, cos: str, sin: str, size: int) -> str:
    half = size // 2
    low, high = b.node("Split", x, b.ints(half, size - half), outputs=2, axis=-1)
    turned = b.node("Concat", b.node("Neg", high), low, axis=-1)
    return str(b.node("Add", b.node("Mul", x, cos), b.node("Mul", turned, sin)))


def neighbours(b: ModelBuilder, x: str, cos: str, sin: str, size: int) -> str:
    pairs = b.node("Reshape", x, b.ints(1, HEADS, TOKENS, size // 2, 2))
    even, odd = b.node("Split", pairs, outputs=2, axis=-1)
    turned = b.node("Concat", b.node("Neg", odd), even, axis=-1)
    turned = b.node("Reshape", turned, b.ints(1, HEADS, TOKENS, size))
    return str(b.node("Add", b.node("Mul", x, cos), b.node("Mul", turned, sin)))


def partly(b: ModelBuilder, x: str, cos: str, sin: str, size: int) -> str:
    """Half of a head turns, as in GPT-NeoX."""
    turns, stays = b.node("Split", x, b.ints(size // 2, size // 2), outputs=2, axis=-1)
    ends = b.ints(0), b.ints(size // 2), b.ints(3)
    cos, sin = (b.node("Slice", table, *ends) for table in (cos, sin))
    return str(b.node("Concat", halves(b, turns, cos, sin, size // 2), stays, axis=-1))


ROTATIONS = {
    "halves": halves,
    "neighbours": neighbours,
    "partly": partly,
    "halves, by rows that places look up": halves,
}


@pytest.mark.parametrize("form", ROTATIONS)
@pytest.mark.parametrize("size", [16, 12, 32])
def test_attention_with_rotary_positions_is_the_chips(form: str, size: int) -> None:
    """Queries and keys are stored with pairs side by side, whichever are pairs in the file; angles are
    constants, or a run's.
    """
    b = ModelBuilder()
    width = HEADS * size
    x = b.input("x", (1, TOKENS, width))
    turning = size // 2 if form == "partly" else size
    places = np.arange(size)
    numbers = places // 2 if form == "neighbours" else places % max(turning // 2, 1)
    looked_up = "places" in form
    count = 2 * TOKENS + 25 if looked_up else TOKENS
    angles = np.outer(np.arange(count), 100.0 ** (-2 * numbers / turning))
    cos, sin = (b.const(table) for table in (np.cos(angles), np.sin(angles)))
    if looked_up:
        own = b.input(PLACES, (1, TOKENS), onnx.TensorProto.INT64)
        cos, sin = (b.node("Gather", table, own) for table in (cos, sin))
    axes = b.ints(1) if looked_up else b.ints(0, 1)
    tables = b.node("Unsqueeze", cos, axes), b.node("Unsqueeze", sin, axes)

    def heads(y: str) -> str:
        apart = b.node("Reshape", y, b.ints(1, TOKENS, HEADS, size))
        return str(b.node("Transpose", apart, perm=[0, 2, 1, 3]))

    q, k, v = (heads(b.linear(x, width, width)) for _ in range(3))
    q, k = (ROTATIONS[form](b, y, *tables, size) for y in (q, k))
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    p = b.node("Softmax", b.node("Mul", scores, b.const(size**-0.5)), axis=-1)
    context = b.node("Transpose", b.node("MatMul", p, v), perm=[0, 2, 1, 3])
    y = b.linear(b.node("Reshape", context, b.ints(1, TOKENS, width)), width, width)
    network, ratio = compiled(b.model(y), 1.0, (1, TOKENS, width))
    assert functions(network).count("rotate") == 2
    looked = [name for name in on_host(network) if name.endswith("/angles")]
    assert on_host(network) == looked and len(looked) == 2 * looked_up
    assert ratio >= 20


def test_capped_scores_are_the_chips() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, TOKENS, 48))

    def heads(y: str) -> str:
        apart = b.node("Reshape", y, b.ints(1, TOKENS, HEADS, 16))
        return str(b.node("Transpose", apart, perm=[0, 2, 1, 3]))

    q, k, v = (heads(b.linear(x, 48, 48)) for _ in range(3))
    scores = softcap(b, str(b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))))
    context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
    context = b.node("Transpose", context, perm=[0, 2, 1, 3])
    y = b.linear(b.node("Reshape", context, b.ints(1, TOKENS, 48)), 48, 48)
    network, ratio = compiled(b.model(y), 1.0, (1, TOKENS, 48))
    assert "tanh" in functions(network) and not on_host(network)
    assert ratio >= 20


@pytest.mark.parametrize("capped", [False, True])
def test_heads_share_keys_that_lie_beside_values(capped: bool) -> None:
    """In one attention, and in products apart, which read a head of keys for each of queries."""
    b = ModelBuilder()
    x = b.input("x", (1, TOKENS, 64))

    def heads(y: str, count: int) -> str:
        apart = b.node("Reshape", y, b.ints(1, TOKENS, count, 16))
        return str(b.node("Transpose", apart, perm=[0, 2, 1, 3]))

    def spread(y: str) -> str:
        wide = b.node("Expand", b.node("Unsqueeze", y, b.ints(2)), b.ints(1, 2, 2, TOKENS, 16))
        return str(b.node("Reshape", wide, b.ints(1, 4, TOKENS, 16)))

    q = heads(b.linear(x, 64, 64), 4)
    both = b.node("Split", b.linear(x, 64, 64), b.ints(32, 32), outputs=2, axis=-1)
    k, v = (spread(heads(y, 2)) for y in both)
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = softcap(b, str(scores)) if capped else scores
    context = b.node("MatMul", b.node("Softmax", scores, axis=-1), v)
    context = b.node("Transpose", context, perm=[0, 2, 1, 3])
    y = b.linear(b.node("Reshape", context, b.ints(1, TOKENS, 64)), 64, 64)
    _, ratio = compiled(b.model(y), 1.0, (1, TOKENS, 64))
    assert ratio >= 20
