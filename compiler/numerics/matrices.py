"""Graph tensors as the matrices that kernels store: rows, and the columns of one head after another.

ONNX has many shapes for one tensor; a kernel knows rows and columns. Heads whose width is no
multiple of dim start on a block of their own (see `blocks`), which `Matrices.heads` tells.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from codesign.compiler.graph import (
    Activation,
    Add,
    Gate,
    Graph,
    HostOp,
    LayerNorm,
    Matmul,
    Operator,
    Rotary,
    Softmax,
)
from codesign.compiler.kernels.blocks import blocked, ceil_div, unblocked
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.plan.work import LOW
from codesign.hw.errors import UnsupportedError
from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig

# What the host computes of each value alone, by HostOp.function.
VALUE_BY_VALUE = frozenset({
    "activation", "add", "clip", "div", "elu", "exp", "gate", "hardsigmoid", "hardswish",
    "leakyrelu", "mul", "prelu", "sigmoid", "sub", "tanh",
})  # fmt: skip


@dataclass(frozen=True)
class Matrix:
    """How a tensor is stored: `rows` of `heads` times `columns` values; ONNX has heads outermost.

    `channels_first`: ONNX has the columns before the rows, [1, channels, ...]. `patch`: the array is
    an image [1, channels, height, width], or has another number of axes behind its channels, whose
    patches of this height and width are the rows. `order`: the array's columns within each head, where
    they lie in another.
    """

    rows: int
    columns: int
    heads: int = 1
    channels_first: bool = False
    patch: tuple[int, ...] = ()
    order: tuple[int, ...] = ()

    def of(self, array: Array) -> Array:
        """The matrix [rows, heads * columns] of an ONNX array."""
        if self.channels_first:
            return array.reshape(self.columns, self.rows).T
        if self.patch:
            cut, order = self._cut(array.shape)
            return array.reshape(cut).transpose(order).reshape(self.rows, self.columns)
        parts = array.reshape(self.heads, self.rows, self.columns)
        return self._ordered(parts.transpose(1, 0, 2), self.order)

    def array(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The ONNX array of a matrix [rows, heads * columns]."""
        if self.channels_first:
            return matrix.T.reshape(shape)
        if self.patch:
            cut, order = self._cut(shape)
            patches = matrix.reshape([cut[axis] for axis in order])
            return patches.transpose(np.argsort(order)).reshape(shape)
        back = tuple(np.argsort(self.order).tolist())
        parts = self._ordered(matrix, back).reshape(self.rows, self.heads, self.columns)
        return parts.transpose(1, 0, 2).reshape(shape)

    def _ordered(self, matrix: Array, order: tuple[int, ...]) -> Array:
        """[rows, heads * columns] with the columns of each head in this order."""
        if order:
            matrix = matrix.reshape(self.rows, -1, len(order))[:, :, order]
        return matrix.reshape(self.rows, self.heads * self.columns)

    def _cut(self, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """An image as [channels, patches, patch, ...], a pair for every axis, and the order of these
        axes in which patches are rows and [channels, patch, ...] columns."""
        pairs = [(size // p, p) for size, p in zip(shape[2:], self.patch, strict=True)]
        axes = range(1, 1 + 2 * len(pairs))
        return [shape[1], *(n for pair in pairs for n in pair)], [*axes[::2], 0, *axes[1::2]]


class Matrices:
    """The matrices of a graph's tensors, whose ONNX shapes are known; `images` are what convolutions
    write, on the host too."""

    def __init__(
        self, graph: Graph, shapes: dict[str, tuple[int, ...]], images: Collection[str] = ()
    ) -> None:
        self.graph, self.shapes, self.images = graph, shapes, images
        self.head_width: dict[str, int] = {}
        self.headed: dict[str, Matrix] = {}  # what products of heads read
        self.normed: dict[str, int] = {}
        self.convolved: dict[str, Matmul] = {}  # what convolutions read
        self.orders: dict[str, tuple[int, ...]] = {}  # of columns, where not as in the file
        for op in graph.operators():
            if isinstance(op, LayerNorm):
                self.normed[op.inputs[0]] = op.cols  # several axes at once
            if isinstance(op, Rotary):
                self.head_width |= dict.fromkeys((op.inputs[0], op.output), op.cols)
                self.orders |= dict.fromkeys((op.inputs[0], op.output), op.order)
            if isinstance(op, Matmul) and op.im2col_bytes:
                self.convolved[op.inputs[0]] = op
            if isinstance(op, Matmul) and not op.constant_b:
                self.head_width[op.output] = op.n
                self.head_width[op.inputs[0]] = op.k
                self.head_width[op.inputs[1]] = op.k if op.transposed_b else op.n
                heads = op.batch // op.shared
                b = Matrix(op.n, op.k, heads) if op.transposed_b else Matrix(op.k, op.n, heads)
                self.headed |= {op.inputs[0]: Matrix(op.m, op.k, op.batch), op.inputs[1]: b}

        for op in graph.operators():
            if isinstance(op, Activation) and op.inputs[0] in self.head_width:
                self.head_width.setdefault(op.output, self.head_width[op.inputs[0]])
            # What is multiplied by heads whose columns lie in another order has it too.
            if isinstance(op, Matmul) and op.transposed_b:
                orders = [self.orders[name] for name in op.inputs[:2] if name in self.orders]
                self.orders |= dict.fromkeys(op.inputs[:2], orders[0]) if orders else {}

    def __getitem__(self, tensor: str) -> Matrix:
        """The matrix of a tensor. Raises UnsupportedError for one that the file does not have."""
        tensor = tensor.removesuffix(LOW)
        found, order = self._stored(tensor), self.orders.get(tensor, ())
        return replace(found, order=order) if order else found

    def _stored(self, tensor: str) -> Matrix:
        name = self.graph.producer(tensor)
        op = None if name is None else self.graph.dag[name]
        match op:
            case Matmul(constant_b=False):
                return Matrix(op.m, op.n, op.batch)
            case Matmul():
                rows = op.m if op.im2col_bytes else op.batch * op.m
                return Matrix(rows, op.n, 1, self._channels_first(op))
            case Softmax():
                scores = self[op.inputs[0]]
                whole = scores.columns != op.cols
                return Matrix(op.rows, op.cols) if whole else scores
            case Activation() | Add() | Gate() if self._like_input(op):
                return self[op.inputs[0]]
            case Rotary():
                apart = self.shapes.get(op.output, ())[-2:] == (op.rows, op.cols)
                beside = Matrix(op.rows, op.heads * op.cols)
                return Matrix(op.rows, op.cols, op.heads) if apart else beside
            case Activation() | Add() | Gate() | LayerNorm():
                return Matrix(op.rows, op.cols)
        if tensor not in self.shapes:
            raise UnsupportedError(
                f"tensor {tensor!r} is not in the ONNX file but made by the import, for an operator "
                "whose columns another has as rows: such a transpose of int8 data is not supported"
            )
        shape = self.shapes[tensor]
        if tensor in self.convolved:
            return self._patches(self.convolved[tensor], shape)
        if self._image(tensor, op):
            return Matrix(math.prod(shape[2:]), shape[1], channels_first=True)
        head = self.headed.get(tensor)
        if head is not None and (math.prod(shape[:-2]), *shape[-2:]) == (
            head.heads,
            head.rows,
            head.columns,
        ):
            return head
        columns = self.normed.get(tensor, shape[-1] if shape else 1)
        return Matrix(math.prod(shape) // columns, columns)

    def _channels_first(self, op: Matmul) -> bool:
        """Whether the output is that of a convolution, in its own order of axes."""
        shape = self.shapes.get(op.output, ())
        return op.im2col_bytes > 0 and shape[1:2] == (op.n,) and math.prod(shape[2:]) == op.m

    def _image(self, tensor: str, op: Operator | None) -> bool:
        """Whether what the host wrote is an image, of a convolution or value by value of another."""
        shape = self.shapes[tensor]
        if not isinstance(op, HostOp) or shape[:1] != (1,) or len(shape) < 3:
            return False
        if tensor in self.images:
            return True
        like = [name for name in op.inputs if self.shapes.get(name) == shape]
        return op.function in VALUE_BY_VALUE and any(self[name].channels_first for name in like)

    def _like_input(self, op: Activation | Add | Gate) -> bool:
        """Whether an elementwise operator keeps heads or channels where its input has them."""
        shapes = [self.shapes.get(tensor, ()) for tensor in (op.output, op.inputs[0])]
        return len(shapes[0]) > 2 and shapes[0] == shapes[1]

    def _patches(self, op: Matmul, shape: tuple[int, ...]) -> Matrix:
        """The input of a convolution whose patches do not overlap, as its product reads it."""
        out = self.shapes[op.output]
        if len(shape) != len(out):  # the file reshapes it: probing tells whether rows fit
            return Matrix(op.m, op.k)
        if shape[0] != 1:
            raise UnsupportedError(
                f"convolution {op.name!r} cannot run on a batch of {shape[0]}: run one at a time"
            )
        patch = tuple(size // steps for size, steps in zip(shape[2:], out[2:], strict=True))
        return Matrix(op.m, op.k, 1, patch=patch)

    def heads(self, tensor: str, config: HardwareConfig) -> tuple[int, int]:
        """Width of a head in the matrix of `tensor` and in DRAM; twice the whole one without heads."""
        matrix = self[tensor]
        if tensor not in self.head_width:
            return matrix.columns * matrix.heads, matrix.columns * matrix.heads
        width = self.head_width[tensor]
        return width, int(ceil_div(width, config.dim)) * config.dim

    def pack(self, tensor: str, matrix: Array, config: HardwareConfig) -> Bytes:
        """The bytes in DRAM of an int8 matrix of `tensor`."""
        return blocked(padded_heads(matrix, *self.heads(tensor, config)), config)

    def unpack(self, tensor: str, data: Bytes, config: HardwareConfig) -> Array:
        """The int8 matrix of `tensor` from its bytes in DRAM, which may be longer."""
        width, wide = self.heads(tensor, config)
        matrix = self[tensor]
        heads = matrix.heads * matrix.columns // width
        columns = unblocked(data, matrix.rows, heads * wide, config)
        return columns.reshape(matrix.rows, heads, wide)[:, :, :width].reshape(matrix.rows, -1)


def not_in_patches(graph: Graph, op: Operator) -> str:
    """Why the host cannot lay out the input of a convolution as a matrix; "" where it can.

    The host writes an image as patches where each of its values is in one of them; it gathers none
    from what the machine wrote.
    """
    if not isinstance(op, Matmul) or not op.patches:
        return ""
    writer = graph.producer(op.inputs[0])
    if op.batch > 1:
        return f"is a convolution of {op.batch} groups"
    if op.m * op.k != op.im2col_bytes:
        return "is a convolution whose patches overlap, leave gaps or are padded"
    if writer is not None and not isinstance(graph.dag[writer], HostOp):
        return "is a convolution over patches of what the machine wrote"
    return ""


def padded_heads(matrix: Array, width: int, wide: int) -> Array:
    """Columns [..., heads * width] as [..., heads * wide], zeros behind each head."""
    heads = matrix.shape[-1] // width
    out = np.zeros((*matrix.shape[:-1], heads, wide), dtype=matrix.dtype)
    out[..., :width] = matrix.reshape(*matrix.shape[:-1], heads, width)
    return out.reshape(*matrix.shape[:-1], heads * wide)
