"""Output shapes of ONNX nodes: broadcasting and matmul rules, ONNX's own inference node by node,
and rules for the com.microsoft operators that onnxruntime's optimiser and quantizer write.

Inferring one node at a time lets shapes that depend on folded constants (Reshape, Range, Expand)
come out exact, which inference over a whole model loses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.shape_inference import infer_node_outputs

Shape = tuple[int, ...]
LARGEST_TENSOR = 1 << 40  # elements; counts of cycles and events stay within 64 bits
FLOAT: int = TensorProto.FLOAT
FLOAT_TYPES = frozenset(
    (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
)
_BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
# Operators that take int8 constants beside activations, which are floats here, as their codes.
_MOVES_CODES = frozenset({"Clip", "Concat", "Pad"})
BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Where", "Sum", "Max", "Min", "Mean"})
_LIKE_FIRST = frozenset({"Erf", "LayerNormalization", "Relu", "Sigmoid", "Softmax", "Sqrt", "Tanh"})
_NOT_INFERRED = frozenset({"GroupNormalization", "MeanVarianceNormalization"})  # by ONNX
_LIKE_FIRST |= _NOT_INFERRED
_FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}  # com.microsoft: an activation is behind them
COMPARING = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"})


class Origin(IntEnum):
    """Where a tensor comes from; an operation's result has its inputs' largest."""

    CONSTANT = 0  # initialisers and what is computed from them and from shapes
    INDEX = 1  # token, mask and position inputs and what is computed from them
    ACTIVATION = 2


@dataclass(frozen=True)
class Tensor:
    """A tensor's type, concrete shape, origin and, when small and constant, its value.

    Raises UnknownShape for extents that no tensor has.
    """

    dtype: int
    shape: Shape
    origin: Origin
    value: np.ndarray[Any, Any] | None = None
    root: str = ""  # the large initialiser that this constant is a view of
    summands: tuple[str, ...] = ()  # the constants that this constant is the sum or a view of

    def __post_init__(self) -> None:
        if min(self.shape, default=0) >= 0 and self.elements <= LARGEST_TENSOR:
            return
        extents = "x".join(map(str, self.shape[:8]))
        if min(self.shape) < 0:
            raise UnknownShape(f"extents {extents} are below 0")
        raise TooLarge(f"extents {extents} are beyond 2^40 elements")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One ONNX node with resolved input names; optional inputs that are absent are ""."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def input(self, index: int) -> str:
        """Return the name of input `index`, "" when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""


class UnknownShape(Exception):
    """A shape that neither ONNX nor this module can tell; the message says why."""


class UnknownOperator(UnknownShape):
    """An operator that the installed onnx has no schema of."""


class ExtentMismatch(UnknownShape):
    """Extents of what one node reads that do not fit one another."""


class TooLarge(UnknownShape):
    """Extents of a tensor that no machine holds."""


def _require_axes(node: Node, shapes: Sequence[Shape], wanted: Mapping[int, Sequence[int]]) -> None:
    """Raise ExtentMismatch where an input that is there has another number of axes than these."""
    for index, counts in wanted.items():
        if node.input(index) and len(shapes[index]) not in counts:
            raise ExtentMismatch(
                f"its input {index} has {len(shapes[index])} axes, and "
                f"{' or '.join(map(str, counts))} are meant"
            )


def output_types(
    node: Node, proto: onnx.NodeProto, tensors: Mapping[str, Tensor], opset: int
) -> list[tuple[int, Shape]]:
    """Return (dtype, shape) of every output of `node`. Raises UnknownShape."""
    given = [tensors[name] for name in node.inputs if name]
    if node.op_type == "Gather" and not node.domain:
        _require_rows(given[0], given[1], node.attribute("axis", 0))
    if node.op_type in BROADCASTING | COMPARING and not node.domain:
        typed = given[0] if node.op_type == "Pow" else given[-1]  # an exponent has its own type
        dtype = TensorProto.BOOL if node.op_type in COMPARING else typed.dtype
        return [(dtype, broadcast(*(tensor.shape for tensor in given)))]
    rule = _CONTRIB.get(node.op_type)
    if rule is not None and (node.domain or node.op_type not in _STANDARD_NAMES):
        shapes = rule(node, [tensors[n].shape if n else () for n in node.inputs])
        return [(FLOAT, shape) for shape in shapes]
    direct = None if node.domain else _direct(node, given)
    return [direct] if direct is not None else _inferred(node, proto, tensors, opset)


def _direct(node: Node, given: Sequence[Tensor]) -> tuple[int, Shape] | None:
    """Return the output of the commonest nodes, None for others: ONNX's inference is slow."""
    if len(node.outputs) != 1 or not given:
        return None
    first = given[0]
    if node.op_type in _LIKE_FIRST:
        return first.dtype, first.shape
    if node.op_type == "Transpose":
        axes = node.attribute("perm", range(len(first.shape))[::-1])
        fits = sorted(axes) == list(range(len(first.shape)))
        return (first.dtype, tuple(first.shape[axis] for axis in axes)) if fits else None
    if node.op_type == "Reshape" and len(given) == 2 and not node.attribute("allowzero", 0):
        shape = _reshaped(first, given[1].value)
        return None if shape is None else (first.dtype, shape)
    if node.op_type == "ConstantOfShape" and first.value is not None:
        extents = first.value.tolist()
        if first.value.ndim == 1 and min(extents, default=0) >= 0:
            dtype = node.attribute("value", TensorProto(data_type=FLOAT)).data_type
            return FLOAT if dtype in FLOAT_TYPES else dtype, tuple(extents)
    return None


def _reshaped(tensor: Tensor, wanted: np.ndarray[Any, Any] | None) -> Shape | None:
    """The shape of a tensor that is asked for `wanted`, where 0 keeps an extent and one -1 is what is
    left; None where that is not known or does not fit.
    """
    if wanted is None or wanted.ndim != 1:
        return None
    asked = wanted.tolist()
    if any(not extent and axis >= len(tensor.shape) for axis, extent in enumerate(asked)):
        return None
    shape = [extent or tensor.shape[axis] for axis, extent in enumerate(asked)]
    if shape.count(-1) == 1:
        others = -math.prod(shape)
        shape[shape.index(-1)] = tensor.elements // others if others > 0 else 0
    fits = min(shape, default=0) >= 0 and math.prod(shape) == tensor.elements
    return tuple(shape) if fits and tensor.elements else None


def _require_rows(table: Tensor, indices: Tensor, axis: int) -> None:
    """Raise ExtentMismatch for known indices that a table has no rows for."""
    if indices.value is None or not indices.elements or not table.shape:
        return
    if not -len(table.shape) <= axis < len(table.shape):
        raise ExtentMismatch(f"its axis {axis} is none of {len(table.shape)} axes")
    rows = table.shape[axis]
    low, high = int(indices.value.min()), int(indices.value.max())
    if not -rows <= low <= high < rows:
        index = high if high >= rows else low
        raise ExtentMismatch(f"it looks up row {index} of a table of {rows}")


def broadcast(*shapes: Shape) -> Shape:
    """Return the numpy broadcast of `shapes`; raises ExtentMismatch when they do not fit."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ExtentMismatch(f"shapes {shapes} do not broadcast") from error


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Return the shape of numpy's `a @ b`; raises ExtentMismatch when they do not fit."""
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    if not a or not b or left[-1] != right[-2]:
        raise ExtentMismatch(f"shapes {a} and {b} do not multiply")
    lead = broadcast(left[:-2], right[:-2])
    return lead + left[-2:-1] * (len(a) > 1) + right[-1:] * (len(b) > 1)


def _inferred(
    node: Node, proto: onnx.NodeProto, tensors: Mapping[str, Tensor], opset: int
) -> list[tuple[int, Shape]]:
    if node.op_type in _FUSED:
        node = replace(node, op_type=_FUSED[node.op_type], domain="")
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError as error:
        raise UnknownOperator("unknown operator") from error
    call = onnx.NodeProto()
    call.CopyFrom(proto)
    call.op_type = node.op_type
    call.domain = node.domain
    del call.attribute[:]  # operators reduced from fused ones keep attributes of their own
    call.attribute.extend(a for a in proto.attribute if a.name in schema.attributes)
    del call.input[:]
    call.input.extend(node.inputs)
    del call.output[:]
    call.output.extend(node.outputs)
    types, data = {}, {}
    quantized = proto.op_type != node.op_type  # its float operator takes no int8 weights
    for name in node.inputs:
        if not name:
            continue
        tensor = tensors[name]
        codes = tensor.dtype in _BYTES and node.op_type in _MOVES_CODES
        codes = codes and FLOAT in (tensors[n].dtype for n in node.inputs if n)
        dtype = FLOAT if quantized or codes else tensor.dtype
        types[name] = onnx.helper.make_tensor_type_proto(dtype, tensor.shape)
        if tensor.value is not None and tensor.elements <= 1024 and not (quantized or codes):
            data[name] = onnx.numpy_helper.from_array(tensor.value, name)
    try:
        inferred = infer_node_outputs(
            schema, call, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except onnx.shape_inference.InferenceError as error:
        raise ExtentMismatch(" ".join(str(error).split())[:160]) from error
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise UnknownShape(" ".join(str(error).split())[:160]) from error
    return [_concrete(inferred, name) for name in node.outputs]


def _concrete(inferred: Mapping[str, onnx.TypeProto], name: str) -> tuple[int, Shape]:
    if not name:
        return FLOAT, ()
    if name not in inferred or not inferred[name].tensor_type.HasField("shape"):
        raise UnknownShape("ONNX does not say what shape its output has")
    tensor = inferred[name].tensor_type
    if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise UnknownShape("its output shape depends on data")
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    return (FLOAT if tensor.elem_type in FLOAT_TYPES else tensor.elem_type), shape


def _like_first(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    return [shapes[0]] * len(node.outputs)


def _skip_norm(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    statistics = (*shapes[0][:-1], 1)
    return [shapes[0], statistics, statistics, shapes[0]][: len(node.outputs)]


def _embed_norm(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    _require_axes(node, shapes, {0: (2,), 1: (2,), 2: (2,), 3: (2,), 4: (2,)})
    positions_given = len(shapes) > 8 and shapes[8]
    if not positions_given and shapes[3][0] < shapes[0][1]:
        raise ExtentMismatch(f"{shapes[0][1]} tokens have {shapes[3][0]} positions")
    hidden = (*shapes[0], shapes[2][-1])
    return [hidden, shapes[0][:1], hidden][: len(node.outputs)]


def _attention(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    _require_axes(node, shapes, {0: (3,), 1: (2,), 4: (5,)})
    sizes = node.attribute("qkv_hidden_sizes")
    width = sizes[2] if sizes else shapes[1][-1] // 3
    heads = node.attribute("num_heads")
    batch, rows = shapes[0][:2]
    past = shapes[4][3] if len(shapes) > 4 and shapes[4] else 0
    present = (2, batch, heads, rows + past, width // heads)
    return [(batch, rows, width), present][: len(node.outputs)]


def _multi_head(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    _require_axes(node, shapes, {0: (3, 5), 1: (3, 4, 5), 2: (3, 4), 6: (4,)})
    query = shapes[0]
    heads = node.attribute("num_heads")
    if len(query) == 5:  # packed [batch, seq, heads, 3, size]
        width, rows = heads * query[-1], query[1]
        size = query[-1]
    else:
        value = shapes[2] if len(shapes) > 2 and shapes[2] else ()
        packed = len(shapes[1]) == 5  # [batch, seq, heads, 2, size]
        width = heads * shapes[1][-1] if packed else value[-1]
        width = heads * value[-1] if len(value) == 4 else width
        rows = shapes[1][1] if len(shapes[1]) != 4 else shapes[1][2]
        size = width // heads
    past = shapes[6][2] if len(shapes) > 6 and shapes[6] else 0
    present = (query[0], heads, rows + past, size)
    return [(*query[:2], width), present, present][: len(node.outputs)]


def _grouped_query(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    _require_axes(node, shapes, {0: (3,), 1: (3,), 2: (3,), 3: (4,)})
    batch, rows, width = shapes[0]
    heads, kv_heads = node.attribute("num_heads"), node.attribute("kv_num_heads")
    packed = not shapes[1]
    size = width // (heads + 2 * kv_heads) if packed else width // heads
    past = shapes[3][2] if len(shapes) > 3 and shapes[3] else 0
    present = (batch, kv_heads, rows + past, size)
    return [(batch, rows, heads * size), present, present][: len(node.outputs)]


def _matmul(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    a, b = shapes[:2]
    if node.attribute("transA", 0):
        a = (*a[:-2], a[-1], a[-2])
    if node.attribute("transB", 0):
        b = (*b[:-2], b[-1], b[-2])
    return [matmul_shape(a, b)]


def _matmul_nbits(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    return [(*shapes[0][:-1], node.attribute("N"))]


_STANDARD_NAMES = {"Attention", "Gelu", "RotaryEmbedding", "LayerNormalization"}
_CONTRIB: dict[str, Callable[[Node, Sequence[Shape]], list[Shape]]] = {
    "Attention": _attention,
    "BiasGelu": _like_first,
    "DynamicQuantizeMatMul": _matmul,
    "EmbedLayerNormalization": _embed_norm,
    "FastGelu": _like_first,
    "FusedMatMul": _matmul,
    "Gelu": _like_first,
    "GroupQueryAttention": _grouped_query,
    "LayerNormalization": _skip_norm,
    "MatMul": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "MatMulNBits": _matmul_nbits,
    "MultiHeadAttention": _multi_head,
    "QuickGelu": _like_first,
    "RotaryEmbedding": _like_first,
    "SimplifiedLayerNormalization": _like_first,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "TransposeMatMul": _matmul,
}
