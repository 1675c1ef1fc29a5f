"""The kinds of kernels in one place: the best mapping of a problem, and its body with addresses."""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from codesign.compiler.kernels.attention_kernel import AttentionProblem, attention_kernel
from codesign.compiler.kernels.attention_space import attention_spaces
from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes
from codesign.compiler.kernels.mapspace import Choice, Ints, Prices, Space, best_mapping
from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.matmul_space import best_matmul_mapping, matmul_spaces, roomy
from codesign.compiler.kernels.numbers import Numbers
from codesign.compiler.kernels.row_kernel import RowProblem, RowSpace, flattened, row_kernel
from codesign.hw.costs.energy import CostTable
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.program import Body

Problem: TypeAlias = MatmulProblem | AttentionProblem | RowProblem

MOST_WORK = 1 << 50  # MACs of a kernel: thousands of the largest still add up in 64 bits
MOST_EXTENT = 1 << 26  # of a kernel's dimensions: exact timing takes time along some of them


@lru_cache(maxsize=100_000)
def choose(
    problem: Problem, config: HardwareConfig, objective: str, table: CostTable
) -> Choice | None:
    """The best mapping of a problem, remembered per shape; None when no tile fits.

    Raises MappingError where counts could wrap.
    """
    _check_counts(problem, config)
    prices = Prices.of(table)
    if isinstance(problem, MatmulProblem):
        return best_matmul_mapping(problem, config, prices, objective)
    return best_mapping(spaces(problem, config), config, prices, objective)


def floor(problem: Problem, config: HardwareConfig) -> tuple[int, Ints] | None:
    """Cycles and events that the problem takes at least on any machine that moves and computes
    like `config`, whatever its memories; None where that is not known.
    """
    return _floor(problem, roomy(config))


@lru_cache(maxsize=100_000)
def _floor(problem: Problem, config: HardwareConfig) -> tuple[int, Ints] | None:
    floors = [space.floor() for space in spaces(problem, config) if len(space)]
    if not floors:
        return None
    least = min(int(cycles.min()) for cycles, _ in floors)
    return least, np.min([events.min(axis=0) for _, events in floors], axis=0)


def spaces(problem: Problem, config: HardwareConfig) -> list[Any]:
    """The stated mapspace of a problem. Raises MappingError where counts could wrap."""
    _check_counts(problem, config)
    found: list[Space]
    match problem:
        case MatmulProblem():
            found = list(matmul_spaces(problem, config))
        case AttentionProblem():
            found = list(attention_spaces(problem, config))
        case RowProblem():
            flat = flattened(problem, config)
            found = [RowSpace.build(flat, config), RowSpace.build(flat, config, serial=True)]
    return found


def _check_counts(problem: Problem, config: HardwareConfig) -> None:
    """Mapspaces count in 64 bits; no count is above that of PEs times rows, edges filled up."""
    dim = config.dim
    match problem:
        case MatmulProblem() as p:
            extents = (p.m, p.k, p.n)
            work = p.batch * (p.m + dim) * (p.k + dim) * (p.n + dim)
        case AttentionProblem() as p:
            extents = (p.queries, p.keys, p.head_dim)
            work = 2 * p.heads * (p.queries + dim) * (p.keys + dim) * (p.head_dim + dim)
        case RowProblem() as p:
            extents = (p.rows, p.cols, p.cols)
            work = p.batch * (p.rows + dim) * (p.cols + dim)
    if work > MOST_WORK:
        raise MappingError(
            f"a kernel of {shape(problem)} on a mesh of {dim}x{dim} is beyond what is counted, "
            f"{MOST_WORK:.1e} MACs: split the operator"
        )
    if max(extents) > MOST_EXTENT:
        raise MappingError(
            f"a kernel of {shape(problem)} is beyond what is timed, {MOST_EXTENT:,} rows or columns: "
            "split the operator"
        )


def body(
    problem: Problem,
    mapping: Any,
    config: HardwareConfig,
    addresses: Any = None,
    *numbers: Numbers,
) -> Body:
    """The kernel of a problem under a mapping, at the given DRAM addresses.

    `numbers` are those of its drains: two of an attention (scores, outputs), else one.
    """
    match problem:
        case MatmulProblem():
            return matmul_kernel(problem, mapping, config, addresses, *numbers)
        case AttentionProblem():
            return attention_kernel(problem, mapping, config, addresses, *numbers)
        case RowProblem():
            return row_kernel(flattened(problem, config), mapping, config, addresses, *numbers)


def operand_bytes(problem: Problem, config: HardwareConfig) -> dict[str, int]:
    """Bytes in DRAM of what a kernel reads and writes, by the names of its addresses."""
    record_bytes = config.dim * PARAMETER_BYTES
    match problem:
        case MatmulProblem() as p:
            blocks = int(ceil_div(p.n, config.dim))
            word = 4 if p.destination == "dram_int32" else 1
            b = (p.n, p.k) if p.transposed_b else (p.k, p.n)
            c = p.batch * matrix_bytes(p.m, p.n, config)
            found = {
                "a": p.batch * matrix_bytes(p.m, p.k, config),
                "b": p.batch * matrix_bytes(*b, config),
                "parameters": p.batch * blocks * p.parameter_sets * record_bytes,
                "residual": c if p.residual else 0,
                "c": c * word,
            }
        case AttentionProblem() as p:
            q = p.heads * matrix_bytes(p.queries, p.head_dim, config)
            kv = p.heads * matrix_bytes(p.keys, p.head_dim, config)
            scores = p.heads * matrix_bytes(p.queries, p.keys, config)
            found = {"q": q, "k": kv, "v": kv, "bias": scores if p.bias else 0}
            found |= {"mask": p.mask_rows * record_bytes, "out": q}
        case RowProblem() as p:
            matrix = p.batch * matrix_bytes(p.rows, p.cols, config)
            records = p.parameter_rows(config) * record_bytes
            found = {"x": matrix, "y": matrix if p.operands > 1 else 0}
            found |= {"parameters": records, "out": matrix}
    return {name: size for name, size in found.items() if size}


def shape(problem: Problem) -> str:
    """What a problem computes, in one line for people."""
    match problem:
        case MatmulProblem() as p:
            text = f"{p.m}x{p.k}x{p.n}" if p.batch == 1 else f"{p.batch} of {p.m}x{p.k}x{p.n}"
            said = {"B transposed": p.transposed_b, "residual": p.residual}
            masked = p.parameters and p.function == "softmax"
            said |= {p.function: p.function != "copy", "mask": masked}
        case AttentionProblem() as p:
            text = f"{p.heads} heads of {p.queries}x{p.head_dim}, {p.keys} keys"
            said = {"bias": p.bias, "mask": p.mask_rows > 0}
        case RowProblem() as p:
            text = f"{p.rows}x{p.cols}" if p.batch == 1 else f"{p.batch} of {p.rows}x{p.cols}"
            said = {"sum of two": p.operands == 2, p.function: p.function != "copy"}
            said |= {"mask": p.parameters > 0 and p.function == "softmax"}
    return ", ".join([text, *(words for words, so in said.items() if so)])


def describe(problem: Problem, mapping: Any, config: HardwareConfig) -> str:
    """A mapping in one line for people: tile sizes in rows and columns, order, residency."""
    dim = config.dim
    match problem:
        case MatmulProblem():
            m = mapping
            order = "n inner" if m.order == "mn" else "m inner"
            reused = "A" if m.order == "mn" else "B"
            text = f"tile {m.tile_m}x{m.tile_n * dim}, k chunk {m.chunk_k * dim}, {order}"
            if m.resident:
                text += f", {m.resident} chunks of {reused} resident"
            return text + (f", {m.groups} drain groups" if not problem.whole_tiles else "")
        case AttentionProblem():
            m = mapping
            how = "K and V held" if m.hold else "K and V streamed"
            return f"{m.tile_m} queries, {m.chunk * dim} keys a chunk, ring of {m.ring}, {how}"
        case RowProblem():
            return f"{mapping.tile_rows} rows a tile, {mapping.tiles_held} tiles held"
