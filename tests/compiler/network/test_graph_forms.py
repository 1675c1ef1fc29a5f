"""Forms of masks, products and convolutions in int8, and of what the host does for the machine."""

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from both_ways import Both
from onnx import TensorProto
from onnx_builder import Array, ModelBuilder

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.hw.machine.config import preset

Form = Callable[[ModelBuilder], str]
ROWS, WIDTH, HEADS = 9, 32, 2
PLACES = np.arange(ROWS)
LATER = PLACES > PLACES[:, None]
DISTANCE = -np.abs(PLACES - PLACES[:, None]) * np.array([0.5, 0.25])[:, None, None]


def split(b: ModelBuilder, x: str, order: tuple[int, ...], batch: int = 1) -> str:
    heads = b.node("Reshape", x, b.ints(batch, ROWS, HEADS, WIDTH // HEADS))
    return str(b.node("Transpose", heads, perm=list(order)))


def attention(mask: Callable[[ModelBuilder, str], str] | None = None, batch: int = 1) -> Form:
    """Attention of one input, with `mask` between scores and softmax."""

    def form(b: ModelBuilder) -> str:
        x = b.input("x", (batch, ROWS, WIDTH))
        q, k, v = (b.linear(x, WIDTH, WIDTH) for _ in range(3))
        keys = split(b, k, (0, 2, 3, 1), batch)
        scores = b.node("MatMul", split(b, q, (0, 2, 1, 3), batch), keys)
        scores = b.node("Mul", scores, b.const((WIDTH / HEADS) ** -0.5))
        p = b.node("Softmax", mask(b, scores) if mask else scores, axis=-1)
        context = b.node("MatMul", p, split(b, v, (0, 2, 1, 3), batch))
        return str(b.node("Transpose", context, perm=[0, 2, 1, 3]))

    return form


def added(values: Array) -> Form:
    return attention(lambda b, s: b.node("Add", s, b.const(values[None])))


def chosen(hidden: float) -> Form:
    """As exporters write causal masks: a condition, not a sum."""
    seen = ~LATER[None, None]
    return attention(lambda b, s: b.node("Where", b.const(seen, "bool"), s, b.const(hidden)))


def computed(b: ModelBuilder, scores: str) -> str:
    """A causal mask and padding in one, at run time."""
    given = b.node("Unsqueeze", b.input("keep", (1, ROWS), TensorProto.INT64), b.ints(1, 2))
    seen = b.node("And", b.const(~LATER[None, None], "bool"), b.node("Cast", given, to=9))
    return str(b.node("Where", seen, scores, b.const(np.finfo(np.float32).min)))


def given(b: ModelBuilder, scores: str) -> str:
    """A mask for every query, an input of the model."""
    keep = b.node("Cast", b.input("keep", (1, 1, ROWS, ROWS), TensorProto.INT64), to=1)
    hidden = b.node("Mul", b.node("Sub", b.const(1.0), keep), b.const(-1e9))
    return str(b.node("Add", scores, hidden))


def by_activation(b: ModelBuilder, scores: str) -> str:
    y = b.linear("x", WIDTH, ROWS)
    return str(b.node("Add", scores, b.node("Unsqueeze", y, b.ints(1))))


def self_product(b: ModelBuilder) -> str:
    y = b.linear(b.input("x", (1, 6, 8)), 8, 8)
    return str(b.node("MatMul", y, b.node("Transpose", y, perm=[0, 2, 1])))


def transposed(b: ModelBuilder) -> str:
    y = b.linear(b.input("x", (1, 6, 8)), 8, 8)
    return b.linear(str(b.node("Transpose", y, perm=[0, 2, 1])), 6, 8)


def head_norm(b: ModelBuilder) -> str:
    q = split(b, b.linear(b.input("x", (1, ROWS, WIDTH)), WIDTH, WIDTH), (0, 2, 1, 3))
    width = WIDTH // HEADS
    ones, zeros = b.const(np.ones(width)), b.const(np.zeros(width))
    return str(b.node("LayerNormalization", q, ones, zeros, axis=-1))


def one_wide_norm(b: ModelBuilder) -> str:
    y = b.linear(b.input("x", (1, 6, 8)), 8, 1)
    return str(b.node("LayerNormalization", y, b.const([2.0]), b.const([0.5]), axis=-1))


def residual_of_itself(b: ModelBuilder) -> str:
    """A norm's output is both what the matmul reads and what is added behind it."""
    x = b.input("x", (1, 6, 16))
    y = b.node("LayerNormalization", x, b.const(np.ones(16)), b.const(np.zeros(16)), axis=-1)
    return str(b.node("Add", y, b.linear(str(y), 16, 16)))


def ragged(b: ModelBuilder) -> str:
    x = b.input("x", (1, 8, 16))
    widths = (10, 20, 3)
    back = [b.linear(b.linear(x, 16, width), width, 16) for width in widths]
    return str(b.node("Add", b.node("Add", back[0], back[1]), back[2]))


def convolutions(b: ModelBuilder) -> str:
    """Patches of an image, then pixel by pixel, with a sum that keeps channels first."""
    x = b.input("x", (1, 3, 8, 12))
    y = b.node("Relu", b.node("Conv", x, b.weights(16, 3, 4, 2), strides=[4, 2]))
    return str(b.node("Add", y, b.node("Conv", y, b.weights(16, 16, 1, 1))))


def convolution_of_an_image_alone(b: ModelBuilder) -> str:
    """Its batch is an axis that the file adds."""
    image = b.node("Unsqueeze", b.input("x", (3, 8, 12)), b.ints(0))
    return str(b.node("Conv", image, b.weights(16, 3, 4, 2), strides=[4, 2]))


def padded_convolution(b: ModelBuilder) -> str:
    x = b.input("x", (1, 8, 4, 4))
    return str(b.node("Conv", x, b.weights(16, 8, 3, 3), pads=[1, 1, 1, 1]))


def scaled_sums(b: ModelBuilder) -> str:
    """What stands for norms in small encoders: a factor and a summand for each column."""
    x = b.input("x", (1, 8, 16))
    for _ in range(2):
        x = b.node("Add", b.linear(x, 16, 16), x)
        x = b.node("Add", b.node("Mul", x, b.weights(16)), b.weights(16))
    return b.linear(b.node("Relu", b.node("Sub", b.linear(x, 16, 16), b.node("Exp", x))), 16, 16)


FORMS: dict[str, Form] = {
    "no mask": attention(),
    "causal by -1e9": chosen(-1e9),
    "causal by -inf": chosen(-np.inf),
    "causal and padding, computed": attention(computed),
    "each query's mask, computed": attention(given),
    "ALiBi": added(DISTANCE),
    "ALiBi, causal by -inf": added(np.where(LATER, -np.inf, DISTANCE)),
    "a window beside a bias": added(np.where(DISTANCE < -1, -1e9, np.sin(7 * DISTANCE))),
    "a window": added(np.where(DISTANCE < -1, -1e9, 0.0)),
    "ragged projections of one input": ragged,
    "x times itself": self_product,
    "norm of one column": one_wide_norm,
    "residual of itself": residual_of_itself,
    "convolutions": convolutions,
}
ON_HOST: dict[str, tuple[Form, str]] = {
    "two sequences": (attention(batch=2), "rearranges what .* read"),
    "a window": (added(np.where(DISTANCE < -1, -1e9, 0.0)), ""),
    "a bias that is computed": (attention(by_activation), ""),
    "a norm of heads": (head_norm, "rearranges what 'LayerNormalization_\\d+' read"),
    "a transpose": (transposed, "rearranges what 'MatMul_\\d+' read"),
    "scaled sums": (scaled_sums, "no unit, in float: 2 mul \\+ add, 1 exp, 1 sub"),
    "an image alone": (convolution_of_an_image_alone, ""),
    "a padded convolution": (padded_convolution, "in float: .* patches overlap"),
}


def model_of(form: Form) -> tuple[onnx.ModelProto, list[dict[str, Array]]]:
    b = ModelBuilder()
    model = b.model(form(b))
    return model, [inputs(model, seed) for seed in range(4)]


def inputs(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Normal numbers; of masks, some of the last keys hidden."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name == "keep":
            seen = np.arange(shape[-1]) <= rng.integers(2, shape[-1])
            feeds["keep"] = np.broadcast_to(seen, shape).astype(np.int64)
        else:
            feeds[value.name] = rng.normal(size=shape).astype(np.float32)
    return feeds


@pytest.mark.parametrize("machine", ("edge", "large"))
@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, machine: str) -> None:
    """The machine equals plain integers, and both are near onnxruntime."""
    model, feeds = model_of(FORMS[name])
    net = compile_network(model, preset(machine), feeds)
    found = run(net, feeds[0], Both(net))
    for output, wanted in net.model.part((), net.model.outputs)(feeds[0]).items():
        error = np.abs(found[output] - wanted).max() / np.abs(wanted).max()
        assert error < 0.04, error


@pytest.mark.parametrize("name", ON_HOST)
def test_what_a_kernel_cannot_read_or_compute_is_the_hosts(name: str) -> None:
    """It runs, near onnxruntime and bit for bit as the plain integers; and the notes say so."""
    form, words = ON_HOST[name]
    model, feeds = model_of(form)
    net = compile_network(model, preset("ibert"), feeds, batch=None)
    assert any(re.search(words, note) for note in net.host) or not words and not net.host
    assert all("\n" not in note for note in net.host)
    found = run(net, feeds[0], Both(net))
    for output, wanted in net.model.part((), net.model.outputs)(feeds[0]).items():
        error = np.abs(found[output] - wanted).max() / np.abs(wanted).max()
        assert error < 0.04, error


def test_what_the_host_clips_is_added_to_itself() -> None:
    """The host's sum of one tensor with itself reads it twice, and may be a kernel's."""
    b = ModelBuilder()
    y = b.linear(b.input("x", (1, WIDTH)), WIDTH, WIDTH)
    z = b.node("Clip", b.node("Add", y, y), b.const(-0.3), b.const(0.4))
    model = b.model(b.node("Add", z, z))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, WIDTH)).astype(np.float32)} for _ in range(4)]
    network = compile_network(model, preset("ibert"), feeds, accurate=False)
    (wanted,) = network.clamped.part((), network.clamped.outputs)(feeds[0]).values()
    (found,) = run(network, feeds[0], Both(network)).values()
    np.testing.assert_allclose(found, wanted, atol=0.03)
