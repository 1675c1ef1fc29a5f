"""One attention has one price, however its file spells it (see test_price_spellings)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_builder import CONTRIB, ModelBuilder, run
from price_forms import price

Builder = Callable[[ModelBuilder], tuple[str, ...]]
SEQ, HEADS, SIZE, KEPT, PAST, WINDOW, CAP = 8, 4, 16, 2, 24, 3, 30.0
D, NARROW = HEADS * SIZE, KEPT * SIZE
HIDDEN = -1e9


def split(b: ModelBuilder, x: str, heads: int = HEADS) -> str:
    return str(
        b.node("Transpose", b.node("Reshape", x, b.ints(1, -1, heads, SIZE)), perm=[0, 2, 1, 3])
    )


def merge(b: ModelBuilder, x: str) -> str:
    rows = b.node("Reshape", b.node("Transpose", x, perm=[0, 2, 1, 3]), b.ints(1, -1, D))
    return str(b.node("MatMul", rows, b.weights(D, D)))


def projected(b: ModelBuilder, seq: int = SEQ, kept: int = HEADS) -> tuple[str, str, str]:
    """Q, K and V of an input, each by a matrix of its own."""
    x = b.input("x", (1, seq, D))
    widths = (D, kept * SIZE, kept * SIZE)
    q, k, v = (b.node("MatMul", x, b.weights(D, width)) for width in widths)
    return q, k, v


def attend(
    b: ModelBuilder, q: str, k: str, v: str, scores: Callable[[str], str] = lambda scores: scores
) -> str:
    """By products of heads [1, heads, seq, size]."""
    product = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    product = b.node("Div", product, b.const(math.sqrt(SIZE)))
    return str(b.node("MatMul", b.node("Softmax", scores(product), axis=-1), v))


def repeated(b: ModelBuilder, x: str, keys: int) -> str:
    """Each key head for all its query heads, as Llama exports do."""
    wide = b.node("Unsqueeze", x, b.ints(2))
    wide = b.node("Expand", wide, b.ints(1, KEPT, HEADS // KEPT, keys, SIZE))
    return str(b.node("Reshape", wide, b.ints(1, HEADS, keys, SIZE)))


def steps(scores: Callable[[ModelBuilder, str], str] = lambda b, scores: scores) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        q, k, v = (split(b, x) for x in projected(b))
        return (merge(b, attend(b, q, k, v, lambda product: scores(b, product))),)

    return build


def rank_three(b: ModelBuilder) -> tuple[str, ...]:
    q, k, v = (b.node("Reshape", split(b, x), b.ints(-1, SEQ, SIZE)) for x in projected(b))
    product = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 2, 1]))
    product = b.node("Mul", product, b.const(SIZE**-0.5))
    context = b.node("MatMul", b.node("Softmax", product, axis=-1), v)
    return (merge(b, b.node("Reshape", context, b.ints(1, HEADS, SEQ, SIZE))),)


def einsum(b: ModelBuilder) -> tuple[str, ...]:
    q, k, v = (b.node("Reshape", x, b.ints(1, SEQ, HEADS, SIZE)) for x in projected(b))
    product = b.node("Einsum", q, k, equation="bqhd,bkhd->bhqk")
    product = b.node("Mul", product, b.const(SIZE**-0.5))
    context = b.node("Einsum", b.node("Softmax", product, axis=-1), v, equation="bhqk,bkhd->bqhd")
    rows = b.node("Reshape", context, b.ints(1, SEQ, D))
    return (b.node("MatMul", rows, b.weights(D, D)),)


def packed(by: str) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        qkv = b.node("MatMul", b.input("x", (1, SEQ, D)), b.weights(D, 3 * D))
        if by == "Split":
            q, k, v = b.node("Split", qkv, b.ints(D, D, D), axis=2, outputs=3)
        elif by == "Slice":
            q, k, v = (
                b.node("Slice", qkv, b.ints(i * D), b.ints((i + 1) * D), b.ints(2))
                for i in range(3)
            )
        else:
            cut = b.node("Reshape", qkv, b.ints(1, SEQ, 3, HEADS, SIZE))
            cut = b.node("Transpose", cut, perm=[2, 0, 3, 1, 4])
            q, k, v = (b.node("Gather", cut, b.const(i, "int64"), axis=0) for i in range(3))
            return (merge(b, attend(b, q, k, v)),)
        q, k, v = (split(b, x) for x in (q, k, v))
        return (merge(b, attend(b, q, k, v)),)

    return build


def standard(rank: int = 3, kept: int = HEADS, **attributes: Any) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        b.opset = 23
        operands = projected(b, kept=kept)
        if rank == 4:
            parts = (split(b, x, n) for x, n in zip(operands, (HEADS, kept, kept), strict=True))
            return (merge(b, b.node("Attention", *parts, **attributes)),)
        heads = {"q_num_heads": HEADS, "kv_num_heads": kept}
        y = b.node("Attention", *operands, **heads, **attributes)
        return (b.node("MatMul", y, b.weights(D, D)),)

    return build


def contrib_attention(**attributes: Any) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        operands = b.input("x", (1, SEQ, D)), b.weights(D, 3 * D), b.weights(3 * D)
        y = b.node("Attention", *operands, num_heads=HEADS, domain=CONTRIB, **attributes)
        return (b.node("MatMul", y, b.weights(D, D)),)

    return build


def multi_head(b: ModelBuilder) -> tuple[str, ...]:
    y = b.node("MultiHeadAttention", *projected(b), num_heads=HEADS, domain=CONTRIB)
    return (b.node("MatMul", y, b.weights(D, D)),)


def lengths(b: ModelBuilder, keys: int) -> tuple[str, str]:
    return b.const([keys - 1], "int32"), b.const(keys, "int32")


def grouped(kept: int = HEADS, in_one: bool = False, **attributes: Any) -> Builder:
    """com.microsoft GroupQueryAttention, which is causal, without earlier keys."""

    def build(b: ModelBuilder) -> tuple[str, ...]:
        if in_one:
            x = b.input("x", (1, SEQ, D))
            operands = (b.node("MatMul", x, b.weights(D, D + 2 * kept * SIZE)), "", "")
        else:
            operands = projected(b, kept=kept)
        y, *_ = b.node(
            *("GroupQueryAttention", *operands, "", "", *lengths(b, SEQ)),
            num_heads=HEADS,
            kv_num_heads=kept,
            domain=CONTRIB,
            outputs=3,
            **attributes,
        )
        return (b.node("MatMul", y, b.weights(D, D)),)

    return build


def grouped_steps(scores: Callable[[ModelBuilder, str], str]) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        q, k, v = projected(b, kept=KEPT)
        k, v = (repeated(b, split(b, x, KEPT), SEQ) for x in (k, v))
        return (merge(b, attend(b, split(b, q), k, v, lambda product: scores(b, product))),)

    return build


def grouped_broadcast(b: ModelBuilder) -> tuple[str, ...]:
    """Five axes: a key head is repeated by the product itself."""
    q, k, v = projected(b, kept=KEPT)
    q = b.node("Reshape", split(b, q), b.ints(1, KEPT, HEADS // KEPT, SEQ, SIZE))
    k, v = (b.node("Unsqueeze", split(b, x, KEPT), b.ints(2)) for x in (k, v))
    product = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 2, 4, 3]))
    product = b.node("Div", product, b.const(math.sqrt(SIZE)))
    context = b.node("MatMul", b.node("Softmax", product, axis=-1), v)
    return (merge(b, b.node("Reshape", context, b.ints(1, HEADS, SEQ, SIZE))),)


def tiled(b: ModelBuilder) -> tuple[str, ...]:
    """Repeated before heads come first."""
    q, k, v = projected(b, kept=KEPT)

    def wide(x: str) -> str:
        x = b.node("Reshape", x, b.ints(1, SEQ, KEPT, 1, SIZE))
        x = b.node("Tile", x, b.ints(1, 1, 1, HEADS // KEPT, 1))
        return split(b, b.node("Reshape", x, b.ints(1, SEQ, D)))

    return (merge(b, attend(b, split(b, q), wide(k), wide(v))),)


def one_key_head(by: str) -> Builder:
    def build(b: ModelBuilder) -> tuple[str, ...]:
        if by == "Attention":
            return standard(kept=1)(b)
        q, k, v = projected(b, kept=1)
        k, v = (split(b, x, 1) for x in (k, v))
        if by == "Expand":
            k, v = (b.node("Expand", x, b.ints(1, HEADS, SEQ, SIZE)) for x in (k, v))
        return (merge(b, attend(b, split(b, q), k, v)),)

    return build


def decoded(form: str) -> Builder:
    """One token more behind a cache."""

    def build(b: ModelBuilder) -> tuple[str, ...]:
        b.opset = 23 if form == "Attention" else 17
        cache = [b.input(name, (1, KEPT, PAST, SIZE)) for name in ("past_k", "past_v")]
        kept: dict[str, Any] = {"kv_num_heads": KEPT}
        if form == "packed":
            x = b.input("x", (1, 1, D))
            operands = (b.node("MatMul", x, b.weights(D, D + 2 * NARROW)), "", "")
        else:
            operands = projected(b, 1, KEPT)
        if form in ("packed", "GroupQueryAttention"):
            y, *present = b.node(
                *("GroupQueryAttention", *operands, *cache, *lengths(b, PAST + 1)),
                **{"num_heads": HEADS, **kept, "domain": CONTRIB, "outputs": 3},
            )
        elif form == "Attention":
            options: dict[str, Any] = {"q_num_heads": HEADS, **kept, "outputs": 3}
            y, *present = b.node("Attention", *operands, "", *cache, **options)
        else:
            q, k, v = operands
            present = [
                b.node("Concat", past, split(b, x, KEPT), axis=2)
                for past, x in zip(cache, (k, v), strict=True)
            ]
            k, v = (repeated(b, x, PAST + 1) for x in present)
            return (merge(b, attend(b, split(b, q), k, v)), *present)
        return (b.node("MatMul", y, b.weights(D, D)), *present)

    return build


def capped(b: ModelBuilder, scores: str) -> str:
    small = b.node("Tanh", b.node("Div", scores, b.const(CAP)))
    return str(b.node("Mul", small, b.const(CAP)))


LATER = np.triu(np.ones((SEQ, SEQ), bool), 1)
FAR = LATER | ~np.triu(np.ones((SEQ, SEQ), bool), 1 - WINDOW)


def added(hidden: np.ndarray[Any, Any]) -> Callable[[ModelBuilder, str], str]:
    return lambda b, scores: str(b.node("Add", scores, b.const(np.where(hidden, HIDDEN, 0.0))))


def chosen(hidden: np.ndarray[Any, Any]) -> Callable[[ModelBuilder, str], str]:
    return lambda b, scores: str(b.node("Where", b.const(hidden, "bool"), b.const(HIDDEN), scores))


RATES = 1e4 ** (-np.arange(SIZE // 2) / (SIZE // 2))
ANGLES = np.outer(np.arange(SEQ), RATES)


def halves(b: ModelBuilder, x: str, by: str) -> tuple[str, str]:
    half = SIZE // 2
    if by == "Split":
        low, high = b.node("Split", x, b.ints(half, half), axis=-1, outputs=2)
        return low, high
    low, high = (
        b.node("Slice", x, b.ints(start), b.ints(start + half), b.ints(3)) for start in (0, half)
    )
    return low, high


def turned(form: str, given: bool = False) -> Builder:
    """Heads whose columns i and i + size / 2 are turned by an angle of their row, whose place may be
    `given` as an input.
    """

    def build(b: ModelBuilder) -> tuple[str, ...]:
        b.opset = 23 if form == "RotaryEmbedding" else 17
        x = split(b, b.node("MatMul", b.input("x", (1, SEQ, D)), b.weights(D, D)))
        cos, sin = (b.const(table) for table in (np.cos(ANGLES), np.sin(ANGLES)))
        places = (
            b.input("places", (1, SEQ), onnx.TensorProto.INT64)
            if given
            else b.const(np.arange(SEQ)[None], "int64")
        )
        if form == "RotaryEmbedding":
            y = b.node("RotaryEmbedding", x, cos, sin, places)
        elif form == "of com.microsoft":
            y = b.node("RotaryEmbedding", x, places, cos, sin, domain=CONTRIB)
        elif form == "half by half":
            low, high = halves(b, x, "Split")
            first = b.node("Sub", b.node("Mul", low, cos), b.node("Mul", high, sin))
            second = b.node("Add", b.node("Mul", high, cos), b.node("Mul", low, sin))
            y = b.node("Concat", first, second, axis=-1)
        else:
            if form == "rows of a table":
                tables = [b.const(np.tile(f(ANGLES), 2)) for f in (np.cos, np.sin)]
                rows = [b.node("Gather", table, places) for table in tables]
                cos, sin = (b.node("Unsqueeze", table, b.ints(1)) for table in rows)
            else:
                places = b.node("Cast", b.node("Reshape", places, b.ints(1, 1, SEQ, 1)), to=1)
                angles = b.node("Mul", places, b.const(np.tile(RATES, 2)))
                cos, sin = (b.node(kind, angles) for kind in ("Cos", "Sin"))
            low, high = halves(b, x, form)
            other = b.node("Concat", b.node("Neg", high), low, axis=-1)
            y = b.node("Add", b.node("Mul", x, cos), b.node("Mul", other, sin))
        return (merge(b, y),)

    return build


FAMILIES: Mapping[str, Mapping[str, Builder]] = {
    "attention": {
        "steps": steps(),
        "rank three": rank_three,
        "Einsum": einsum,
        "one projection, Split": packed("Split"),
        "one projection, Slice": packed("Slice"),
        "one projection, Gather": packed("Gather"),
        "Attention": standard(),
        "Attention of heads": standard(4),
        "Attention of com.microsoft": contrib_attention(),
        "MultiHeadAttention": multi_head,
    },
    "causal": {
        "added": steps(added(LATER)),
        "chosen": steps(chosen(LATER)),
        "Attention": standard(is_causal=1),
        "Attention of com.microsoft": contrib_attention(unidirectional=1),
        "GroupQueryAttention": grouped(),
        "GroupQueryAttention, packed": grouped(in_one=True),
    },
    "window": {
        "added": steps(added(FAR)),
        "chosen": steps(chosen(FAR)),
        "GroupQueryAttention": grouped(local_window_size=WINDOW),
    },
    "softcap": {"steps": steps(capped), "Attention": standard(softcap=CAP)},
    "causal softcap": {
        "steps": steps(lambda b, scores: added(LATER)(b, capped(b, scores))),
        "Attention": standard(softcap=CAP, is_causal=1),
        "GroupQueryAttention": grouped(softcap=CAP),
    },
    "rotary embedding": {
        name: turned(name)
        for name in ("Slice", "Split", "half by half", "RotaryEmbedding", "of com.microsoft")
    },
    "one key head": {name: one_key_head(name) for name in ("Expand", "broadcast", "Attention")},
    "shared key heads": {
        "steps": grouped_steps(lambda b, scores: scores),
        "broadcast": grouped_broadcast,
        "Tile": tiled,
        "Attention": standard(kept=KEPT),
        "Attention of heads": standard(4, kept=KEPT),
    },
    "shared key heads, causal": {
        "steps": grouped_steps(added(LATER)),
        "Attention": standard(kept=KEPT, is_causal=1),
        "GroupQueryAttention": grouped(KEPT),
        "GroupQueryAttention, packed": grouped(KEPT, in_one=True),
    },
    "shared key heads, decoding": {
        name: decoded(name) for name in ("steps", "Attention", "GroupQueryAttention", "packed")
    },
}
CASES = [(family, name) for family, builders in FAMILIES.items() for name in builders]


def model_of(builder: Builder) -> onnx.ModelProto:
    b = ModelBuilder()
    return b.model(*builder(b))


@pytest.mark.parametrize(("family", "name"), CASES, ids=[": ".join(case) for case in CASES])
@pytest.mark.parametrize("machine", ["ibert", "gemmini"])
def test_a_spelling_costs_what_the_first_does(family: str, name: str, machine: str) -> None:
    first, *_ = FAMILIES[family].values()
    builder = FAMILIES[family][name]
    assert price(model_of(builder), machine) == price(model_of(first), machine)


@pytest.mark.parametrize(("family", "name"), CASES, ids=[": ".join(case) for case in CASES])
def test_spellings_compute_the_same_where_weights_do(family: str, name: str) -> None:
    """All run in onnxruntime; those that draw the same weights in the same order agree."""
    first, *_ = FAMILIES[family].values()
    results = []
    for builder in (first, FAMILIES[family][name]):
        model = model_of(builder)
        shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input
        }
        rng = np.random.default_rng(0)
        feeds = {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
        drawn = [w.dims for w in model.graph.initializer if len(w.dims) == 2 and D in w.dims]
        results.append((drawn, run(model, **feeds)[0]))
    (weights, expected), (others, got) = results
    assert got.shape == expected.shape
    if weights == others:
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    "form", ["Slice", "Split", "rows of a table", "RotaryEmbedding", "of com.microsoft"]
)
def test_angles_of_places_that_are_an_input_cost_their_look_up(form: str) -> None:
    """Two bytes of a cosine and two of a sine, once for all heads."""
    whole, fixed = (price(model_of(turned(form, given))) for given in (True, False))
    assert whole[:3] == (fixed[0] + 4 * SEQ * SIZE, *fixed[1:3])


def priced(family: str) -> Any:
    first, *_ = FAMILIES[family].values()
    return price(model_of(first))


def test_what_is_computed_more_costs_more() -> None:
    plain, window, cap = (priced(family) for family in ("attention", "window", "softcap"))
    assert window[0] > plain[0] and window[1] == plain[1] + HEADS * SEQ * SEQ * 2  # rows of dim
    # A tanh behind the scores: they and probabilities go through DRAM, and the host has no part in it.
    assert plain[0] < cap[0] < 2 * plain[0]
    assert cap[1] == plain[1] + 4 * HEADS * SEQ * 16  # rows of dim


@pytest.mark.parametrize("kept", [1, 2, 8])
def test_fewer_key_heads_move_fewer_bytes(kept: int) -> None:
    def decode(heads: int) -> onnx.ModelProto:
        b = ModelBuilder(23)
        q = b.input("q", (1, 8, 1, 64))
        k, v = (b.input(name, (1, heads, 512, 64)) for name in "kv")
        return b.model(b.node("Attention", q, k, v))

    (few, many) = (price(decode(heads)) for heads in (kept, 8))
    assert few[1] - 2 * 8 * 64 == 2 * kept * 512 * 64
    assert few[0] <= many[0]
    assert few[2] == many[2]
