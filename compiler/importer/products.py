"""Which operand of a product of activations an axis of a tensor comes from.

Exporters write attention with its operands in either order, and turn what comes out.
"""

import math
from typing import NamedTuple

from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.shapes import Node, Origin

_PRODUCTS = frozenset({"FusedMatMul", "MatMul", "TransposeMatMul"})
_SCALING = frozenset({"Cast", "Div", "Mul"})
_KEEPING = frozenset({"Add", "Cast", "Div", "Mul", "Sub", "Where"})  # with what is no activation


class ProductAxis(NamedTuple):
    """An axis of a tensor that is a product but for transpositions and what is added to it.

    `product`: the same before the additions; `left`: the left operand, of so many `matrices`, or 0 for
    one each of the right one's; `rows`: whether the axis is that of its rows.
    """

    product: str
    left: str
    matrices: int
    rows: bool


def product_axis(graph: OnnxGraph, name: str, axis: int) -> ProductAxis | None:
    """What an axis of a tensor is in a product of activations; None where it is of none."""
    product, node = name, graph.producer(name)
    while node is not None and node.op_type not in _PRODUCTS | {"Einsum"}:
        if node.op_type == "Transpose":
            rank = len(graph.tensors[name].shape)
            axis = node.attribute("perm", list(range(rank))[::-1])[axis]
            name = node.inputs[0]
        elif node.op_type in _KEEPING:
            shown = [n for n in node.inputs if n and _alike(graph, n, name)]
            if len(shown) != 1:
                return None
            (name,) = shown
            product = product if node.op_type in _SCALING else name
        else:
            return None
        node = graph.producer(name)
    if node is None:
        return None
    left = node.inputs[0]
    matrices = 0 if node.op_type == "Einsum" else math.prod(graph.tensors[left].shape[:-2])
    return ProductAxis(product, left, matrices, axis == _rows(graph, node))


def _alike(graph: OnnxGraph, name: str, other: str) -> bool:
    tensor = graph.tensors[name]
    return tensor.origin == Origin.ACTIVATION and tensor.shape == graph.tensors[other].shape


def _rows(graph: OnnxGraph, node: Node) -> int:
    """The axis of a product's rows; -1 where they lie along several."""
    if node.op_type != "Einsum":
        return len(graph.tensors[node.outputs[0]].shape) - 2
    terms, _, result = node.attribute("equation").replace(" ", "").partition("->")
    left, _, right = terms.partition(",")
    rows = [axis for axis, letter in enumerate(result) if letter in left and letter not in right]
    return rows[0] if len(rows) == 1 and "." not in terms else -1
