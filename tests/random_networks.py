"""Random small networks for the int8 tests: operators in the forms that exporters write them.

A `Recipe` is a list of layers, each a few numbers that say what it reads and computes, so that a
failing one shrinks and prints as text. `build` writes it as ONNX.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_builder import Array, ModelBuilder

from codesign.compiler.onnx.float_model import Feeds
from codesign.hw.machine.config import HardwareConfig

SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 31, 32, 33)
KINDS = ("attention", "linear", "sum", "norm", "gelu", "attention", "relu", "softmax", "attention")
GELUS = ("erf", "tanh")
TYPES = ("uint8", "int8", "uint8", "int8", "uint16", "int16")
# From where to where the codes of a quantized tensor reach; the inputs are normal numbers.
RANGES = ((-4, 4), (0, 4), (0, 1.5), (-1, 3), (-0.7, 0.9), (-5, 0), (-3.2, 0.1), (-0.04, 8))
MASKS = ("none", "causal", "padding", "both", "bias", "bias+padding", "bias+causal")


@dataclass(frozen=True)
class Layer:
    """One step: what it is, which earlier tensors it reads, and its sizes."""

    kind: str
    reads: tuple[int, int] = (0, 0)  # from the last tensor back
    n: int = 4  # columns, or of a head
    heads: int = 1
    form: str = ""  # of a gelu, a mask, ...
    flag: bool = False
    factor: float = 1.0
    codes: tuple[str, float, float] | None = None  # of what it writes: type, and the range


@dataclass(frozen=True)
class Recipe:
    """A network: rows and columns of its input, rows of its second input, its layers."""

    rows: int
    columns: int
    other_rows: int
    layers: tuple[Layer, ...]
    outputs: tuple[int, ...]  # of its tensors, from the last back
    spread: float = 0.0  # decades between the weights of channels
    codes: tuple[str, float, float] | None = None  # of its inputs and weights
    seed: int = 0


@dataclass
class _Writer:
    """A model under construction and its tensors with their rows and columns."""

    recipe: Recipe
    b: ModelBuilder = field(default_factory=ModelBuilder)
    tensors: list[tuple[str, int, int]] = field(default_factory=list)
    padded: dict[int, str] = field(default_factory=dict)  # masks by keys

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.recipe.seed)

    def weights(self, rows: int, columns: int) -> str:
        values = self.rng.normal(0, 1 / math.sqrt(rows), (rows, columns)) * self.decades(columns)
        if self.recipe.codes is None:
            return self.b.const(values)
        largest = np.abs(values).max(axis=0)
        zero = int(self.rng.integers(100, 156)) if self.rng.random() < 0.3 else 128
        scale = largest / min(zero, 255 - zero)
        codes = np.clip(np.round(values / scale) + zero, 0, 255)
        constants = self.b.const(codes, "uint8"), self.b.const(scale)
        zeros = self.b.const(np.full(columns, zero), "uint8")
        return str(self.b.node("DequantizeLinear", *constants, zeros, axis=1))

    def coded(self, x: str, codes: tuple[str, float, float] | None) -> str:
        """x, quantized and back."""
        if codes is None:
            return x
        kind, low, high = codes
        ends = np.iinfo(kind)
        scale = (high - low) / (int(ends.max) - int(ends.min))
        zero = self.b.const(round(int(ends.min) - low / scale), kind)
        constants = self.b.const(scale), zero
        quantized = self.b.node("QuantizeLinear", x, *constants)
        return str(self.b.node("DequantizeLinear", quantized, *constants))

    def decades(self, columns: int) -> Array:
        reach = self.recipe.spread / 2
        scales: Array = 10.0 ** self.rng.uniform(-reach, reach, columns)
        return scales

    def scaled(self, x: str, factor: float) -> str:
        return x if factor == 1.0 else str(self.b.node("Mul", x, self.b.const(factor)))

    def linear(self, x: str, k: int, n: int, bias: bool = True) -> str:
        y = str(self.b.node("MatMul", x, self.weights(k, n)))
        if not bias:
            return y
        return str(self.b.node("Add", y, self.b.const(self.rng.normal(0, 0.3, n))))

    def gelu(self, x: str, form: str) -> str:
        if form == "tanh":
            cube = self.b.node("Pow", x, self.b.const(3.0))
            inner = self.b.node("Add", x, self.b.node("Mul", cube, self.b.const(0.044715)))
            gate = self.b.node("Mul", inner, self.b.const(math.sqrt(2 / math.pi)))
            gate = self.b.node("Tanh", gate)
        else:
            gate = self.b.node("Erf", self.b.node("Div", x, self.b.const(math.sqrt(2))))
        one = self.b.node("Add", gate, self.b.const(1.0))
        return str(self.b.node("Mul", self.b.node("Mul", x, one), self.b.const(0.5)))

    def norm(self, x: str, columns: int, rms: bool) -> str:
        gamma = self.b.const(self.rng.normal(1, 0.3, columns) * self.decades(columns))
        if not rms:
            beta = self.b.const(self.rng.normal(0, 0.3, columns))
            return str(self.b.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-6))
        square = self.b.node("Pow", x, self.b.const(2.0))
        mean = self.b.node("ReduceMean", square, axes=[-1], keepdims=1)
        root = self.b.node("Sqrt", self.b.node("Add", mean, self.b.const(1e-6)))
        return str(self.b.node("Mul", self.b.node("Div", x, root), gamma))

    # -- Attention ---------------------------------------------------------------------------------

    def split(self, x: str, rows: int, layer: Layer, order: tuple[int, ...]) -> str:
        shape = self.b.ints(1, rows, layer.heads, layer.n)
        return str(self.b.node("Transpose", self.b.node("Reshape", x, shape), perm=list(order)))

    def projections(
        self, layer: Layer, x: tuple[str, int, int], y: tuple[str, int, int]
    ) -> tuple[str, str, str]:
        width = layer.heads * layer.n
        if layer.flag and x == y:  # one matrix, cut in three
            whole = self.linear(x[0], x[2], 3 * width)
            parts = self.b.ints(width, width, width)
            q, k, v = self.b.node("Split", whole, parts, outputs=3, axis=2)
            return q, k, v
        q = self.linear(x[0], x[2], width)
        return q, self.linear(y[0], y[2], width), self.linear(y[0], y[2], width)

    def attention(
        self, layer: Layer, x: tuple[str, int, int], y: tuple[str, int, int]
    ) -> tuple[str, int, int]:
        q, k, v = self.projections(layer, x, y)
        queries, keys = x[1], y[1]
        q = self.split(q, queries, layer, (0, 2, 1, 3))
        k = self.split(k, keys, layer, (0, 2, 3, 1))
        v = self.split(v, keys, layer, (0, 2, 1, 3))
        if layer.factor != 1.0:
            q = self.scaled(q, layer.factor)
        scores = self.b.node("MatMul", q, k)
        scores = self.b.node("Div", scores, self.b.const(math.sqrt(layer.n)))
        for mask in self.masks(layer, queries, keys):
            scores = self.b.node("Add", scores, mask)
        p = self.b.node("Softmax", scores, axis=-1)
        context = self.b.node("Transpose", self.b.node("MatMul", p, v), perm=[0, 2, 1, 3])
        width = layer.heads * layer.n
        return str(self.b.node("Reshape", context, self.b.ints(1, queries, width))), queries, width

    def masks(self, layer: Layer, queries: int, keys: int) -> list[str]:
        found = []
        low = float(np.finfo(np.float32).min)
        if "bias" in layer.form:
            shape = (1, layer.heads, queries, keys)
            bias = self.rng.normal(0, 1, shape)
            if "causal" in layer.form and keys >= queries:
                bias = np.where(np.triu(np.ones((queries, keys)), 1 + keys - queries), low, bias)
            found.append(self.b.const(bias))
        elif layer.form in ("causal", "both") and keys >= queries:
            later = np.triu(np.full((queries, keys), low), 1 + keys - queries)
            found.append(self.b.const(later))
        if "padding" in layer.form or layer.form == "both":
            found.append(self.padding(keys))
        return found

    def padding(self, keys: int) -> str:
        if keys not in self.padded:
            given = self.b.input(f"mask{keys}", (1, keys), TensorProto.INT64)
            wide = self.b.node("Unsqueeze", given, self.b.ints(1, 2))
            real = self.b.node("Cast", wide, to=TensorProto.FLOAT)
            hidden = self.b.node("Sub", self.b.const(1.0), real)
            low = float(np.finfo(np.float32).min)
            self.padded[keys] = self.b.node("Mul", hidden, self.b.const(low))
        return self.padded[keys]

    # -- Layers ------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        x, y = (self.tensors[-1 - back % len(self.tensors)] for back in layer.reads)
        name, rows, columns = x
        match layer.kind:
            case "linear":
                out = self.linear(self.scaled(name, layer.factor), columns, layer.n, layer.flag)
                columns = layer.n
            case "gelu":
                out = self.gelu(self.scaled(name, layer.factor), layer.form)
            case "relu":
                out = self.b.node("Relu", self.scaled(name, layer.factor))
            case "norm":
                out = self.norm(name, columns, layer.flag)
            case "softmax":
                out = self.b.node("Softmax", self.scaled(name, layer.factor), axis=-1)
            case "attention":
                out, rows, columns = self.attention(layer, x, y)
            case _:
                out = self.sum(layer, x, y)
        self.tensors.append((self.coded(out, layer.codes), rows, columns))

    def sum(self, layer: Layer, x: tuple[str, int, int], y: tuple[str, int, int]) -> str:
        """x + y, y projected to the columns of x unless they fit."""
        other = self.scaled(y[0], layer.factor)
        if y[1] != x[1]:
            other = self.scaled(x[0], layer.factor)
        elif y[2] != x[2] or layer.flag:
            other = self.scaled(self.linear(y[0], y[2], x[2]), layer.factor)
        return str(self.b.node("Add", x[0], other))


def build(recipe: Recipe) -> tuple[onnx.ModelProto, list[Feeds]]:
    """The model, and three inputs: two to calibrate on, one to run."""
    w = _Writer(recipe)
    for name, rows in (("x", recipe.rows), ("y", recipe.other_rows)):
        w.b.input(name, (1, rows, recipe.columns))
        w.tensors.append((w.coded(name, recipe.codes), rows, recipe.columns))
    for layer in recipe.layers:
        w.add(layer)
    made = [name for name, _, _ in w.tensors[2:]]
    outputs = dict.fromkeys(made[-1 - back % len(made)] for back in recipe.outputs)
    model = w.b.model(*outputs)
    read = {name for node in model.graph.node for name in node.input}
    unread = [value for value in model.graph.input if value.name not in read]
    for value in unread:
        model.graph.input.remove(value)
    return model, [_feeds(model, seed) for seed in range(3)]


def _feeds(model: onnx.ModelProto, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name.startswith("mask"):
            keep = int(rng.integers(1, shape[1] + 1))
            feeds[value.name] = (np.arange(shape[1])[None] < keep).astype(np.int64)
        else:
            feeds[value.name] = rng.normal(0, 1, shape).astype(np.float32)
    return feeds


CODES = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(TYPES), st.sampled_from(RANGES)).map(lambda c: (c[0], *c[1])),
)


@st.composite
def layers(draw: st.DrawFn, quantized: bool = False) -> Layer:
    plain = draw(plain_layers())
    return replace(plain, codes=draw(CODES)) if quantized else plain


@st.composite
def plain_layers(draw: st.DrawFn) -> Layer:
    kind = draw(st.sampled_from(KINDS))
    reads = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    flag = draw(st.booleans())
    factor = draw(st.sampled_from((1.0, 1.0, 0.5, 3.0)))
    match kind:
        case "attention":
            n, heads = draw(st.sampled_from((2, 3, 4, 5, 8, 12, 16))), draw(st.integers(1, 3))
            form = draw(st.sampled_from(MASKS))
            return Layer(kind, reads, n, heads, form, flag, factor)
        case "gelu":
            return Layer(kind, reads, form=draw(st.sampled_from(GELUS)), factor=factor)
        case "linear":
            n = draw(st.sampled_from(SIZES))
            return Layer(kind, reads, n, flag=flag, factor=factor)
    return Layer(kind, reads, flag=flag, factor=factor)


@st.composite
def recipes(draw: st.DrawFn, quantized: bool = False) -> Recipe:
    """Networks of up to eight layers; `quantized`: with codes of a file, clamps in them."""
    sizes = st.sampled_from(SIZES)
    rows = draw(sizes)
    return Recipe(
        rows,
        draw(sizes),
        draw(st.one_of(st.just(rows), sizes)),
        tuple(draw(st.lists(layers(quantized), min_size=1, max_size=8))),
        tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))),
        0.0 if quantized else draw(st.sampled_from((0.0, 0.0, 3.0, 6.0))),
        draw(CODES) if quantized else None,
        draw(st.integers(0, 1 << 16)),
    )


@st.composite
def machines(draw: st.DrawFn, smallest: int = 0) -> HardwareConfig:
    """Machines from tiny to large; banks hold at least dim rows."""
    dim = draw(st.sampled_from((4, 8, 16, 32)))
    some = st.sampled_from((2, 2, 4, 8, 16))  # with two there is no attention in one kernel
    banks = {name: draw(some) for name in ("scratchpad", "accumulator")}
    depth = {name: dim << draw(st.integers(smallest, 4)) for name in banks}
    sizes: dict[str, Any] = {
        "scratchpad_bytes": banks["scratchpad"] * depth["scratchpad"] * dim,
        "accumulator_bytes": banks["accumulator"] * depth["accumulator"] * dim * 4,
    }
    return HardwareConfig(
        name="random",
        dim=dim,
        scratchpad_banks=banks["scratchpad"],
        accumulator_banks=banks["accumulator"],
        parameter_channels=dim << draw(st.integers(1, 5)),
        bus_bytes=draw(st.sampled_from((4, 8, 16))),
        dram_latency_cycles=draw(st.sampled_from((1, 50))),
        **sizes,
    )
