"""Graph tensors as the matrices that kernels store: rows, and the columns of one head after another.

ONNX has many shapes for one tensor; a kernel knows rows and columns. Heads whose width is no
multiple of dim start on a block of their own (see `blocks`), which `Matrices.heads` tells.
"""

import math
from dataclasses import dataclass

import numpy as np

from codesign.compiler.blocks import blocked, ceil_div, unblocked
from codesign.compiler.fusion import LOW
from codesign.compiler.graph import Activation, Add, Graph, LayerNorm, Matmul, Softmax
from codesign.compiler.onnx_float import Array
from codesign.hw.arithmetic import Bytes
from codesign.hw.config import HardwareConfig


@dataclass(frozen=True)
class Matrix:
    """How a tensor is stored: `rows` of `heads` times `columns` values; ONNX has heads outermost."""

    rows: int
    columns: int
    heads: int = 1

    def of(self, array: Array) -> Array:
        """The matrix [rows, heads * columns] of an ONNX array."""
        parts = array.reshape(self.heads, self.rows, self.columns)
        return parts.transpose(1, 0, 2).reshape(self.rows, self.heads * self.columns)

    def array(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The ONNX array of a matrix [rows, heads * columns]."""
        parts = matrix.reshape(self.rows, self.heads, self.columns)
        return parts.transpose(1, 0, 2).reshape(shape)


class Matrices:
    """The matrices of a graph's tensors, whose ONNX shapes are known."""

    def __init__(self, graph: Graph, shapes: dict[str, tuple[int, ...]]) -> None:
        self.graph, self.shapes = graph, shapes
        self.head_width: dict[str, int] = {}
        for op in graph.operators():
            if isinstance(op, Matmul) and not op.constant_b:
                self.head_width[op.output] = op.n
                for tensor in op.inputs[:2]:
                    if op.transposed_b:
                        self.head_width[tensor] = op.k
                if not op.transposed_b:
                    self.head_width[op.inputs[1]] = op.n

    def __getitem__(self, tensor: str) -> Matrix:
        tensor = tensor.removesuffix(LOW)
        name = self.graph.producer(tensor)
        op = None if name is None else self.graph.dag.nodes[name]["op"]
        match op:
            case Matmul(constant_b=False):
                return Matrix(op.m, op.n, op.batch)
            case Matmul():
                return Matrix(op.m, op.n)
            case Softmax():
                return self[op.inputs[0]]
            case Activation() | Add() | LayerNorm():
                return Matrix(op.rows, op.cols)
        shape = self.shapes[tensor]
        columns = shape[-1] if shape else 1
        return Matrix(math.prod(shape) // columns, columns)

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


def padded_heads(matrix: Array, width: int, wide: int) -> Array:
    """Columns [..., heads * width] as [..., heads * wide], zeros behind each head."""
    heads = matrix.shape[-1] // width
    out = np.zeros((*matrix.shape[:-1], heads, wide), dtype=matrix.dtype)
    out[..., :width] = matrix.reshape(*matrix.shape[:-1], heads, width)
    return out.reshape(*matrix.shape[:-1], heads * wide)
