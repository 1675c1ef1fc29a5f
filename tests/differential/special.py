"""Stages that ask for one kind of fault: bounds that scales lose, ranges beyond a unit's format."""

from .attention import attend
from .elementwise import written_gelu
from .writer import Value, Writer

BOUND = "upper bound"
RANGE = "range of a format"


def bounded(w: Writer, x: Value) -> Value:
    """Relu6 and its kin of sums that reach far beyond the bound."""
    w.kinds.append(BOUND)
    wide = _wide(w, x, w.pick(4.0, 20.0))
    form = w.pick("Clip", "Min", "HardSwish", "low")
    if form == "Clip":
        return w.apply("Clip", wide, w.floats(0.0), w.floats(w.pick(1.0, 6.0)))
    if form == "Min":
        return w.apply("Min", w.apply("Relu", wide, inner=True), w.floats(6.0))
    if form == "low":
        return w.apply("Clip", wide, w.floats(-1.0), w.floats(2.0))
    w.since(14)
    return w.apply("HardSwish", wide)


def _wide(w: Writer, x: Value, factor: float) -> Value:
    """A linear layer whose sums reach `factor` times as far as its input."""
    k, n = x.shape[-1], w.pick(8, 16)
    weights = w.floats(w.rng.normal(0, factor * k**-0.5, (k, n)))
    return w.apply("MatMul", x, weights, shape=(*x.shape[:-1], n))


def far_gelu(w: Writer, x: Value) -> Value:
    """GELU of what is far beyond, or far below, its format's range."""
    w.kinds.append(RANGE)
    y = _wide(w, x, w.pick(300.0, 1500.0, 3e-5, 1e-6))
    return written_gelu(w, y, w.pick("erf", "tanh", "sigmoid"))


def diffuse(w: Writer, x: Value) -> Value:
    """A softmax of so many equal scores that none of them is a step of 1/127."""
    w.kinds.append(RANGE)
    n = w.pick(512, 1024, 2048)
    y = w.apply("MatMul", x, w.matrix(x.shape[-1], n), shape=(*x.shape[:-1], n))
    return w.apply("Softmax", w.apply("Mul", y, w.floats(0.2), inner=True), axis=-1)


def long_attention(w: Writer, x: Value) -> Value:
    """Attention over so many keys that most probabilities are below half a step."""
    w.require(x.rank == 2)
    w.kinds.append(RANGE)
    rows = w.pick(256, 384)
    table = w.apply("MatMul", w.normal(rows, x.shape[0]), x, shape=(rows, x.shape[1]))
    table = w.apply("Reshape", table, w.ints(1, rows, -1), shape=(1, rows, x.shape[1]))
    return attend(w, table, 16, 2, "none")


STAGES = (bounded, bounded, far_gelu, diffuse, long_attention)
