"""Graphs of a few operators, as an encoder has them: what tests of plans share."""

from collections.abc import Iterable

from hypothesis import strategies as st

from codesign.compiler.graph import (
    Activation,
    Add,
    Graph,
    HostOp,
    LayerNorm,
    Matmul,
    Operator,
    Softmax,
)

TOKENS, WIDTH, HEADS = 64, 128, 2


def graph_of(operators: Iterable[Operator], outputs: tuple[str, ...]) -> Graph:
    """A graph of operators given in order; what none of them writes is a model input."""
    operators = list(operators)
    written = {op.output for op in operators}
    read = [tensor for op in operators for tensor in op.inputs]
    graph = Graph("test", tuple(dict.fromkeys(t for t in read if t not in written)), outputs)
    for op in operators:
        graph.add(op)
    return graph


def embedding() -> HostOp:
    """A tensor `x` of TOKENS x WIDTH."""
    return HostOp("embed", ("ids",), "x", "embedding", TOKENS * WIDTH)


def projection(name: str, source: str, k: int = WIDTH, n: int = WIDTH) -> Matmul:
    return Matmul(name, (source,), name, m=TOKENS, k=k, n=n, bias=True)


def add(name: str, a: str, b: str) -> Add:
    return Add(name, (a, b), name, rows=TOKENS, cols=WIDTH)


def norm(name: str, source: str, rms: bool = False) -> LayerNorm:
    return LayerNorm(name, (source,), name, rows=TOKENS, cols=WIDTH, rms=rms)


def attention(
    q: str, k: str, v: str, head_dim: int = WIDTH // HEADS, **softmax: bool | int
) -> list[Operator]:
    """scores, probabilities, context: HEADS heads over TOKENS tokens."""
    m = TOKENS
    return [
        Matmul(
            "scores",
            (q, k),
            "scores",
            batch=HEADS,
            m=m,
            k=head_dim,
            n=m,
            constant_b=False,
            transposed_b=True,
        ),
        Softmax(
            "probabilities",
            ("scores",),
            "probabilities",
            rows=HEADS * m,
            cols=m,
            **softmax,  # type: ignore[arg-type]
        ),
        Matmul(
            "context",
            ("probabilities", v),
            "context",
            batch=HEADS,
            m=m,
            k=m,
            n=head_dim,
            constant_b=False,
        ),
    ]


def feed_forward(x: str) -> list[Operator]:
    return [
        projection("up", x, n=4 * WIDTH),
        Activation("gelu", ("up",), "gelu", rows=TOKENS, cols=4 * WIDTH),
        projection("down", "gelu", k=4 * WIDTH),
    ]


def encoder_layer(head_dim: int = WIDTH // HEADS) -> list[Operator]:
    """Post-norm: attention and feed-forward, each projection, sum, norm (BERT)."""
    inner = HEADS * head_dim
    return [
        embedding(),
        projection("q", "x", n=inner),
        projection("k", "x", n=inner),
        projection("v", "x", n=inner),
        *attention("q", "k", "v", head_dim),
        projection("o", "context", k=inner),
        add("sum1", "o", "x"),
        norm("norm1", "sum1"),
        *feed_forward("norm1"),
        add("sum2", "down", "norm1"),
        norm("norm2", "sum2"),
    ]


def pre_norm_layer() -> list[Operator]:
    """Pre-norm: the residual stream bypasses the norms (GPT-2, ViT)."""
    return [
        embedding(),
        norm("norm1", "x"),
        *feed_forward("norm1"),
        add("sum", "x", "down"),
        norm("norm2", "sum"),
        projection("next", "norm2"),
        add("sum2", "next", "sum"),
    ]


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """DAGs of up to 14 operators that read any earlier tensors, in any wiring, with any outputs."""
    operators: list[Operator] = [embedding()]
    tensors = ["x", "late"]  # all TOKENS x WIDTH; `late` is a model input
    for i in range(draw(st.integers(1, 12))):
        a, b, c = (draw(st.sampled_from(tensors[-5:])) for _ in range(3))
        name = f"t{i}"
        match draw(st.sampled_from(("projection", "add", "norm", "gelu", "relu", "attention"))):
            case "projection":
                operators.append(projection(name, a))
            case "add":
                operators.append(add(name, a, b))
            case "norm":
                operators.append(norm(name, a, draw(st.booleans())))
            case "attention":
                # One tensor in two roles would mean column ranges of a wider one (fused QKV).
                if any(op.name == "scores" for op in operators) or len({a, b, c}) < 3:
                    continue
                operators += attention(a, b, c)
                name = "context"
            case function:
                operators.append(Activation(name, (a,), name, function, TOKENS, WIDTH))
        tensors.append(name)
    written = [op.output for op in operators]
    unread = {op.output for op in operators} - {t for op in operators for t in op.inputs}
    extra = draw(st.sets(st.sampled_from(written), max_size=2))
    return graph_of(operators, tuple(sorted(unread | extra)))
