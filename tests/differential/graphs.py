"""A random graph of some stages from a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from . import attention, elementwise, layout, norms, products, special
from .writer import Shape, Stage, Unfit, Value, Writer

Array = npt.NDArray[Any]
GROUPS: tuple[tuple[Sequence[Stage], int], ...] = (
    (elementwise.STAGES, 4),
    (layout.STAGES, 4),
    (products.STAGES, 6),
    (norms.STAGES, 3),
    (attention.STAGES, 2),
)
ASKED = 0.1  # of the graphs ask for one kind of fault
NEWEST = 26  # that onnxruntime computes
OPSETS = (13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, NEWEST)
DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
}
ROWS = (6, 8, 12, 16)
COLUMNS = (4, 8, 12, 16, 24)


@dataclass(frozen=True)
class Drawn:
    """A float graph: the model, what plain eight-bit arithmetic rounds, the faults it asks for."""

    model: onnx.ModelProto
    rounded: tuple[str, ...]
    kinds: tuple[str, ...]
    stages: tuple[str, ...] = ()
    weights: frozenset[str] = field(default_factory=frozenset)


def draw(seed: int, plain: bool = False) -> Drawn:
    """The graph of a seed. `plain`: float32, of what a quantizer of files knows."""
    choose = np.random.default_rng((seed, 1))
    dtype = str(choose.choice(["float32"] * 8 + ["float16", "double"])) if not plain else "float32"
    opset = int(choose.choice(OPSETS))
    w = Writer(seed, opset, dtype)
    x = _embedded(w) if w.chance(0.08) and not plain else _given(w)
    made: list[Value] = [x]
    stages: list[str] = []
    wanted = w.pick(1, 2, 2, 3, 3, 4)
    asking = w.chance(ASKED)
    for tries in range(60):
        if len(stages) == wanted or made[-1].rank < 2:
            break
        stage = w.pick(*special.STAGES) if asking else _stage(w, plain)
        before = _mark(w)
        try:
            y = stage(w, made[-1])
        except Unfit:
            _undo(w, before)
            continue
        if y.rank > 4 or np.prod(y.shape) > 40_000 or not np.prod(y.shape):
            _undo(w, before)
            continue
        asking = False
        same = [z for z in made if z.shape == y.shape]
        if same and w.chance(0.3):
            y = w.apply("Add", *w.pick((w.pick(*same), y), (y, w.pick(*same))))
        made.append(y)
        stages.append(f"{stage.__module__.rpartition('.')[2]}.{stage.__name__}")
        if tries > 40 and len(stages) > 1:
            break
    return _finished(w, made, stages)


def _mark(w: Writer) -> tuple[int, int, dict[str, None], int]:
    return len(w.nodes), len(w.constants), dict(w.rounded), len(w.kinds)


def _undo(w: Writer, mark: tuple[int, int, dict[str, None], int]) -> None:
    """Forget what a stage wrote before it turned out unfit."""
    del w.nodes[mark[0] :], w.constants[mark[1] :], w.kinds[mark[3] :]
    w.rounded = dict(mark[2])


def _stage(w: Writer, plain: bool) -> Stage:
    shares = np.array([share for _, share in GROUPS], dtype=np.float64)
    if plain:
        shares[-1] = 0
    group, _ = GROUPS[int(w.rng.choice(len(GROUPS), p=shares / shares.sum()))]
    return group[int(w.rng.integers(len(group)))]


def _shape(w: Writer) -> Shape:
    rows, columns = w.pick(*ROWS), w.pick(*COLUMNS)
    batch = w.pick(1, 1, 1, 1, 2, 3)
    form = w.pick("matrix", "rows", "rows", "rows", "heads", "image", "image")
    if form == "matrix":
        return rows, columns
    if form == "rows":
        return batch, rows, columns
    return (batch, 2, rows, columns) if form == "heads" else (batch, 4, 8, 8)


def _given(w: Writer) -> Value:
    x = Value("x", _shape(w))
    w.input("x", x.shape, DTYPES[w.dtype])
    w.rounded["x"] = None
    return x


def _embedded(w: Writer) -> Value:
    """Token ids that look rows of a table up, with positions behind."""
    batch, rows, columns = w.pick(1, 1, 2), w.pick(8, 12), w.pick(8, 16)
    ids = Value("ids", (batch, rows))
    w.input("ids", ids.shape, w.pick(TensorProto.INT64, TensorProto.INT32))
    shape = (batch, rows, columns)
    if w.dtype == "float32" and w.chance(0.2):
        rank = TensorProto.INT32
        w.inputs[-1].type.tensor_type.elem_type = rank
        tables = [w.normal(20, columns), w.normal(rows, columns)]
        affine = [w.normal(columns, mean=1.0, deviation=0.3), w.normal(columns)]
        names = ("ids", "", tables[0], tables[1], "", *affine)
        found, _ = w.node(
            "EmbedLayerNormalization", *names, outputs=2, domain="com.microsoft", epsilon=1e-5
        )
        w.rounded[str(found)] = None
        return Value(str(found), shape)
    x = w.apply("Gather", w.normal(20, columns), ids, shape=shape)
    if w.chance(0.6):
        x = w.apply("Add", x, w.normal(1, rows, columns, deviation=0.5))
    return x


def _finished(w: Writer, made: Sequence[Value], stages: Sequence[str]) -> Drawn:
    """The model, its outputs in one of the forms that users write."""
    floats = DTYPES[w.dtype]
    outputs = {made[-1].name: floats}
    form = w.pick(*["one"] * 8, "two", "given", "constant", "unused", "index", "scalar")
    if form == "two" and len(made) > 2:
        outputs[made[-2].name] = floats
    elif form == "given" and "x" in {value.name for value in w.inputs}:
        outputs["x"] = floats
    elif form == "constant":
        outputs[str(w.node("Constant", value=_tensor(w)))] = floats
    elif form == "unused":
        w.input("unused", (1, 3), floats)
    elif form == "index":
        index = w.apply(w.pick("ArgMax", "ArgMin"), made[-1], axis=-1, keepdims=1, inner=True)
        outputs[index.name] = TensorProto.INT64
    elif form == "scalar":
        outputs[w.apply("ReduceMean", made[-1], keepdims=0, shape=()).name] = floats
    model = w.model(*outputs)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = outputs[value.name]
    if w.chance(0.3):
        _constants_as_nodes(model)
    return Drawn(model, tuple(w.rounded), tuple(dict.fromkeys(w.kinds)), tuple(stages))


def _tensor(w: Writer) -> onnx.TensorProto:
    value = w.rng.normal(size=(2, 3)).astype(w.dtype)
    return onnx.numpy_helper.from_array(value, "")


def _constants_as_nodes(model: onnx.ModelProto) -> None:
    """Initializers as Constant nodes, as some exporters write them."""
    graph = model.graph
    made = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in graph.initializer
    ]
    nodes = [*made, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


def feeds(model: onnx.ModelProto, seed: int) -> Mapping[str, Array]:
    """What `codesign run` draws where the user gives nothing: normal floats, rows of a table."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value for d in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            found[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            found[value.name] = rng.integers(0, 20, shape).astype(dtype)
    return found
