"""The kinds of kernels in one place: the best mapping of a problem, and its body with addresses."""

from functools import lru_cache
from typing import Any, TypeAlias

from codesign.compiler.attention_kernel import AttentionProblem, attention_kernel
from codesign.compiler.attention_space import attention_spaces
from codesign.compiler.mapping import Choice, Prices, Space, best_mapping
from codesign.compiler.matmul_kernel import matmul_kernel
from codesign.compiler.matmul_shape import MatmulProblem
from codesign.compiler.matmul_space import matmul_spaces
from codesign.compiler.row_kernel import RowProblem, RowSpace, flattened, row_kernel
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import CostTable
from codesign.hw.program import Body

Problem: TypeAlias = MatmulProblem | AttentionProblem | RowProblem


@lru_cache(maxsize=100_000)
def choose(
    problem: Problem, config: HardwareConfig, objective: str, table: CostTable
) -> Choice | None:
    """The best mapping of a problem, remembered per shape; None when no tile fits."""
    return best_mapping(spaces(problem, config), config, Prices.of(table), objective)


def spaces(problem: Problem, config: HardwareConfig) -> list[Any]:
    """The stated mapspace of a problem."""
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


def body(problem: Problem, mapping: Any, config: HardwareConfig, addresses: Any = None) -> Body:
    """The kernel of a problem under a mapping, at the given DRAM addresses."""
    match problem:
        case MatmulProblem():
            return matmul_kernel(problem, mapping, config, addresses)
        case AttentionProblem():
            return attention_kernel(problem, mapping, config, addresses)
        case RowProblem():
            return row_kernel(flattened(problem, config), mapping, config, addresses)


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
