"""The blocked layout of a matrix in DRAM: [columns / dim][rows][dim], every block on a beat of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import TARGETS
from codesign.hw.machine.program import Affine, Instruction, Value


def ceil_div(a: Any, b: Any) -> Any:
    """Quotient rounded up, elementwise."""
    return -(-a // b)


def plane_bytes(rows: int, config: HardwareConfig) -> int:
    """Bytes from one column block to the next of a blocked matrix, beats kept whole."""
    return int(ceil_div(rows * config.dim, config.bus_bytes)) * config.bus_bytes


def matrix_bytes(rows: int, cols: int, config: HardwareConfig) -> int:
    """Bytes of a blocked int8 matrix."""
    return int(ceil_div(cols, config.dim)) * plane_bytes(rows, config)


def mvin(
    target: str, values: Mapping[str, Value], addresses: Mapping[str, Affine], **rest: Any
) -> Instruction:
    """A load of `values["blocks"]` blocks of `values["rows"]` rows into one of `isa.TARGETS`."""
    return Instruction("mvin", {**values, "target": TARGETS.index(target)}, addresses, **rest)


def blocked(matrix: npt.NDArray[np.int8], config: HardwareConfig) -> Bytes:
    """The bytes of an int8 matrix [rows, columns] in DRAM, zeros beyond its columns."""
    rows, columns = matrix.shape
    blocks = int(ceil_div(columns, config.dim))
    wide = np.zeros((rows, blocks * config.dim), dtype=np.int8)
    wide[:, :columns] = matrix
    planes = np.zeros((blocks, plane_bytes(rows, config)), dtype=np.uint8)
    parts = wide.reshape(rows, blocks, config.dim).transpose(1, 0, 2)
    planes[:, : rows * config.dim] = parts.reshape(blocks, -1).view(np.uint8)
    return planes.ravel()


def unblocked(data: Bytes, rows: int, columns: int, config: HardwareConfig) -> npt.NDArray[np.int8]:
    """The int8 matrix [rows, columns] of bytes in DRAM; more bytes may follow."""
    blocks, plane = int(ceil_div(columns, config.dim)), plane_bytes(rows, config)
    planes = data[: blocks * plane].reshape(blocks, plane)[:, : rows * config.dim]
    parts = np.ascontiguousarray(planes).view(np.int8).reshape(blocks, rows, config.dim)
    return parts.transpose(1, 0, 2).reshape(rows, -1)[:, :columns]
