"""Fused nodes run: in int8 near what onnxruntime computes of the file as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_builder import CONTRIB, Array, ModelBuilder
from onnx_builder import run as in_onnxruntime

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import run
from codesign.hw.errors import UnsupportedError
from codesign.hw.machine.config import preset

Form = Callable[[ModelBuilder], str]
ROWS, PAST, WIDTH, HEADS = 7, 3, 32, 4
SIZE = WIDTH // HEADS
LEAST_DB = 25.0


def tokens(b: ModelBuilder) -> str:
    return b.input("x", (1, ROWS, WIDTH))


def heads(b: ModelBuilder, name: str, count: int = HEADS, rows: int = ROWS) -> str:
    return b.input(name, (1, count, rows, SIZE))


def wide(b: ModelBuilder, *shape: int) -> str:
    return b.const(b.rng.normal(0, 0.4, size=shape))


def three(b: ModelBuilder, groups: int = HEADS) -> tuple[str, ...]:
    x = tokens(b)
    widths = (WIDTH, groups * SIZE, groups * SIZE)
    return tuple(b.node("MatMul", x, wide(b, WIDTH, width)) for width in widths)


def out(b: ModelBuilder, x: str) -> str:
    return str(b.node("MatMul", x, wide(b, WIDTH, 16)))


def flat(groups: int = HEADS, **attributes: Any) -> Form:
    """ONNX Attention on projections side by side."""

    def form(b: ModelBuilder) -> str:
        numbers: dict[str, Any] = {"q_num_heads": HEADS, "kv_num_heads": groups, **attributes}
        return out(b, b.node("Attention", *three(b, groups), **numbers))

    return form


def by_heads(groups: int, mask: Array | None = None, past: bool = False, **attributes: Any) -> Form:
    """ONNX Attention on inputs that are split into heads."""

    def form(b: ModelBuilder) -> str:
        operands = [heads(b, "q"), heads(b, "k", groups), heads(b, "v", groups)]
        hidden = "" if mask is None else b.const(mask, str(mask.dtype))
        earlier = [heads(b, name, groups, PAST) for name in ("pk", "pv")] if past else []
        outputs = 3 if past else 1
        found = b.node("Attention", *operands, hidden, *earlier, outputs=outputs, **attributes)
        return str(found[0] if past else found)

    return form


def projected(**attributes: Any) -> Form:
    def form(b: ModelBuilder) -> str:
        operands = (tokens(b), wide(b, WIDTH, 3 * WIDTH), wide(b, 3 * WIDTH))
        node = b.node("Attention", *operands, num_heads=HEADS, domain=CONTRIB, **attributes)
        return out(b, node)

    return form


def multi_head(b: ModelBuilder) -> str:
    operands = (*three(b), wide(b, 3 * WIDTH))
    return out(b, b.node("MultiHeadAttention", *operands, num_heads=HEADS, domain=CONTRIB))


def grouped(lengths_known: bool) -> Form:
    """With lengths that are an input the node stays whole, and the host's."""

    def form(b: ModelBuilder) -> str:
        q, k, v = three(b, 2)
        total = b.const(ROWS, "int32")
        lengths = b.const([ROWS - 1], "int32")
        if not lengths_known:
            lengths = b.node(
                "Cast", b.input("lengths", (1,), TensorProto.INT64), to=TensorProto.INT32
            )
        numbers: dict[str, Any] = {"num_heads": HEADS, "kv_num_heads": 2, "domain": CONTRIB}
        found = b.node("GroupQueryAttention", q, k, v, "", "", lengths, total, outputs=3, **numbers)
        return out(b, found[0])

    return form


def skip_norm(b: ModelBuilder) -> str:
    x = tokens(b)
    y = b.node("MatMul", x, wide(b, WIDTH, WIDTH))
    constants = (wide(b, WIDTH), wide(b, WIDTH), wide(b, WIDTH))
    return out(b, b.node("SkipLayerNormalization", y, x, *constants, domain=CONTRIB))


def gelu(kind: str) -> Form:
    def form(b: ModelBuilder) -> str:
        y = b.node("MatMul", tokens(b), wide(b, WIDTH, WIDTH))
        return out(b, b.node(kind, y, wide(b, WIDTH), domain=CONTRIB))

    return form


def embedded(b: ModelBuilder) -> str:
    ids = b.node("Cast", b.input("ids", (1, ROWS), TensorProto.INT64), to=TensorProto.INT32)
    tables = [wide(b, count, WIDTH) for count in (20, ROWS, 2)]
    inputs = (ids, b.const(np.zeros((1, ROWS)), "int32"), *tables, wide(b, WIDTH), wide(b, WIDTH))
    return out(b, b.node("EmbedLayerNormalization", *inputs, outputs=2, domain=CONTRIB)[0])


def head_bias(b: ModelBuilder) -> str:
    q, k, _ = three(b)
    q, k = (b.node("Reshape", t, b.ints(1, ROWS, HEADS, SIZE)) for t in (q, k))
    biased = b.node("Add", q, wide(b, HEADS, SIZE))
    return str(b.node("Einsum", biased, k, equation="bind,bjnd->bnij"))


def matrix_bias(b: ModelBuilder) -> str:
    rows = b.input("x", (ROWS, WIDTH))
    return str(b.node("Gemm", rows, wide(b, WIDTH, 16), wide(b, ROWS, 16), alpha=0.5, beta=2.0))


SEEN = np.tril(np.ones((ROWS, ROWS), dtype=bool)) & ~np.tril(np.ones((ROWS, ROWS), dtype=bool), -3)
FORMS: dict[str, Form] = {
    "attention": flat(),
    "attention, shared keys": flat(2),
    "attention, causal": flat(is_causal=1),
    "attention by heads": by_heads(HEADS),
    "attention by heads, shared keys": by_heads(2, scale=0.5),
    "attention by heads, a softcap": by_heads(HEADS, softcap=0.8),
    "attention by heads, a window": by_heads(HEADS, SEEN),
    "attention by heads, a bias": by_heads(2, np.sin(np.arange(49.0)).reshape(7, 7)),
    "attention by heads, a past": by_heads(HEADS, past=True, is_causal=1),
    "attention by heads, a past of shared keys": by_heads(2, past=True),
    "com.microsoft attention": projected(),
    "com.microsoft attention, causal": projected(unidirectional=1),
    "multi-head attention": multi_head,
    "grouped queries": grouped(True),
    "grouped queries, lengths unknown": grouped(False),
    "skip and norm": skip_norm,
    "a gelu with a bias": gelu("BiasGelu"),
    "a fast gelu with a bias": gelu("FastGelu"),
    "embeddings and norm": embedded,
    "a bias for each head": head_bias,
    "a bias for each row": matrix_bias,
}

PARTLY_ON_THE_HOST = ("grouped queries, lengths unknown",)


def inputs(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = rng.normal(size=shape).astype(np.float32)
    if "ids" in feeds:
        feeds["ids"] = np.asarray(rng.integers(20, size=feeds["ids"].shape))
    if "lengths" in feeds:
        feeds["lengths"] = np.array([ROWS - 1])
    return feeds


@pytest.mark.parametrize("name", FORMS)
def test_fused_nodes_run(name: str) -> None:
    b = ModelBuilder(23 if name.startswith("attention") else 17)
    model = b.model(FORMS[name](b))
    net = compile_network(
        model, preset("ibert"), [inputs(model, seed) for seed in range(4)], batch=None
    )
    feeds = inputs(model, 0)
    (wanted,) = in_onnxruntime(model, **feeds)
    (found,) = run(net, feeds, "integers").values()
    (same,) = run(net, feeds).values()
    np.testing.assert_array_equal(found, same)
    assert found.shape == wanted.shape
    noise = float(((found - wanted) ** 2).sum())
    assert 10 * np.log10(float((wanted**2).sum()) / noise) > LEAST_DB
    whole = [note for note in net.host if "in float: it" in note]
    assert bool(whole) == (name in PARTLY_ON_THE_HOST)
    if name == "grouped queries, lengths unknown":
        (note,) = whole
        assert note.startswith("the host computes GroupQueryAttention 'GroupQueryAttention_4'")
        assert note.endswith("it has lengths of sequences that are given at run time")


def noise_db(model: onnx.ModelProto, feeds: dict[str, Array]) -> float:
    """Signal to noise of the int8 network beside onnxruntime, of the first output."""
    wanted = in_onnxruntime(model, **feeds)[0]
    net = compile_network(model, preset("ibert"), [feeds], batch=None)
    found = next(iter(run(net, feeds, "integers").values()))
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


def test_a_mask_of_ends_and_starts_is_the_hosts() -> None:
    """[2 * batch] of com.microsoft's Attention: no form of it is known here."""
    b = ModelBuilder()
    operands = (tokens(b), wide(b, WIDTH, 3 * WIDTH), wide(b, 3 * WIDTH))
    ends = b.const([ROWS - 2, 1], "int32")
    node = b.node("Attention", *operands, ends, num_heads=HEADS, domain=CONTRIB)
    model = b.model(out(b, node))
    assert noise_db(model, inputs(model, 0)) > LEAST_DB


@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_fused_norms_without_an_epsilon(op_type: str) -> None:
    """Rows whose variance is below the epsilon of standard norms."""
    b = ModelBuilder()
    x, y = tokens(b), b.input("y", (1, ROWS, WIDTH))
    model = b.model(out(b, b.node(op_type, x, y, wide(b, WIDTH), domain=CONTRIB)))
    small = {name: value * np.float32(1e-3) for name, value in inputs(model, 0).items()}
    assert noise_db(model, small) > LEAST_DB


def test_an_einsum_that_repeats_an_axis() -> None:
    b = ModelBuilder()
    left, right = b.input("a", (1, 4, 8)), b.input("b", (3, 8, 5))
    model = b.model(b.node("Einsum", left, right, equation="bij,bjk->bik"))
    assert noise_db(model, inputs(model, 0)) > LEAST_DB


@pytest.mark.parametrize("read", (False, True))
def test_scores_that_a_file_gives_out(read: bool) -> None:
    """The fourth output of ONNX Attention: refused only where somebody reads it."""
    b = ModelBuilder(23)
    context, _, _, scores = b.node("Attention", *(heads(b, name) for name in "qkv"), outputs=4)
    b.nodes[-1].output[1:3] = ["", ""]
    model = b.model(context, scores) if read else b.model(context)
    if not read:
        assert noise_db(model, inputs(model, 0)) > LEAST_DB
        return
    with pytest.raises(UnsupportedError, match="its scores are an output"):
        compile_network(model, preset("ibert"), [inputs(model, 0)], batch=None)
