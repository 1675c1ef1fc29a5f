"""The blocked layout of a matrix in DRAM: [columns / dim][rows][dim], every block on a beat of its own."""

from collections.abc import Mapping
from typing import Any

from codesign.hw.config import HardwareConfig
from codesign.hw.isa import TARGETS
from codesign.hw.program import Affine, Instruction, Value


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
