"""Constants that say one thing of each distance: matrices whose elements depend on column minus row alone.

Causal masks are, and windows. One is a view of its diagonals, a few thousand numbers however many it
shows, so that masks which files compute of places are known at any length.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from codesign.compiler.onnx.evaluation import Array, is_splat, node_outputs
from codesign.compiler.onnx.shapes import Node, Shape

_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sub"})
_ELEMENTWISE = _COMPARISONS | {
    "Abs", "Add", "And", "Cast", "Div", "Max", "Min", "Mul", "Neg", "Not", "Or", "Where", "Xor",
}  # fmt: skip
_VIEWS = frozenset({"Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def diagonals(value: Array) -> Array | None:
    """The numbers of a view of diagonals [.., rows, columns], from the lowest diagonal to the highest;
    None of any other array."""
    if value.ndim < 2 or min(value.shape) < 1 or value.shape[-2] < 2:
        return None
    *leading, down, right = value.strides
    alike = all(
        step == 0 or extent == 1 for step, extent in zip(leading, value.shape[:-2], strict=True)
    )
    if not alike or right != value.itemsize or down != -value.itemsize:
        return None
    matrix = value[(0,) * len(leading)]
    return np.concatenate((matrix[:0:-1, 0], matrix[0]))


def shown(numbers: Array, shape: Shape) -> Array:
    """The view [.., rows, columns] of so many diagonals."""
    numbers = np.ascontiguousarray(numbers)
    rows, columns = shape[-2:]
    assert numbers.shape == (rows - 1 + columns,)
    strides = (-numbers.itemsize, numbers.itemsize)
    matrix = np.lib.stride_tricks.as_strided(
        numbers[rows - 1 :], (rows, columns), strides, writeable=False
    )
    return np.broadcast_to(matrix, shape)


def by_distance(
    node: Node, proto: onnx.NodeProto | None, values: Mapping[str, Array], opset: int, shape: Shape
) -> Array | None:
    """The result [.., rows, columns] of a node as a view of diagonals, None where it is none."""
    if node.domain or len(shape) < 2 or shape[-2] < 2 or not node.inputs:
        return None
    given = [values[name] for name in node.inputs if name]
    if node.op_type in _VIEWS:
        numbers = diagonals(given[0])
        kept = given[0].shape[-2:] == shape[-2:]
        return shown(numbers, shape) if numbers is not None and kept else None
    if node.op_type == "Trilu":
        numbers = _triangle(node, given, shape)
    elif node.op_type in _ELEMENTWISE and all(node.inputs):
        numbers = _elementwise(node, proto, given, opset, shape)
    else:
        return None
    return None if numbers is None else shown(_single(numbers), shape)


def _triangle(node: Node, given: list[Array], shape: Shape) -> Array | None:
    whole = _along(given[0], shape)
    if whole is None:
        return None
    distance = np.arange(1 - shape[-2], shape[-1])
    k = int(given[1].reshape(-1)[0]) if len(given) > 1 else 0
    kept = distance >= k if node.attribute("upper", 1) else distance <= k
    return np.where(kept, whole, np.zeros(1, whole.dtype))


def _elementwise(
    node: Node, proto: onnx.NodeProto | None, given: list[Array], opset: int, shape: Shape
) -> Array | None:
    vectors = [_along(value, shape) for value in given]
    if node.op_type in _COMPARISONS and all(vector is None for vector in vectors):
        vectors = list(_places(given[0], given[1], shape))
    known = {f"i{index}": v for index, v in enumerate(vectors) if v is not None}
    if len(known) < len(given):
        return None
    call = Node(node.name, node.op_type, "", tuple(known), node.outputs, node.attributes)
    found = node_outputs(call, proto, known, opset)
    length = shape[-2] - 1 + shape[-1]
    return np.broadcast_to(found[0], length) if found and found[0].size in (1, length) else None


def _along(value: Array, shape: Shape) -> Array | None:
    """An operand along the diagonals of a result: one number, or those of a view as large."""
    if is_splat(value):
        return value.reshape(-1)[:1]
    return diagonals(value) if value.shape[-2:] == shape[-2:] else None


def _places(one: Array, other: Array, shape: Shape) -> tuple[Array | None, Array | None]:
    """Whole numbers along a row and along a column, which both rise by one step: what is said of two of
    them is so of any two that are as far apart."""
    if any(
        value.dtype.kind != "i" or max(value.shape, default=0) != value.size
        for value in (one, other)
    ):
        return None, None
    rows, columns = shape[-2:]
    turned = _is_column(one, rows)
    row, column = (other, one) if turned else (one, other)
    if not _is_column(column, rows) or row.shape[-1:] != (columns,) or row.size < 2:
        return None, None
    steps = {*np.diff(row.ravel()).tolist(), *np.diff(column.ravel()).tolist()}
    if len(steps) != 1:
        return None, None
    along = row.reshape(-1)[0] + steps.pop() * np.arange(1 - rows, columns, dtype=row.dtype)
    first = column.reshape(-1)[:1]
    return (first, along) if turned else (along, first)


def _is_column(value: Array, rows: int) -> bool:
    return value.ndim > 1 and value.shape[-2:] == (rows, 1)


def _single(numbers: Array) -> Array:
    """Floats in float32, as all constants are kept."""
    if numbers.dtype.kind == "f" or numbers.dtype.name == "bfloat16":
        return numbers.astype(np.float32)
    return numbers
