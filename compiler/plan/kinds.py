"""The kinds of kernels, and what is asked of a problem whatever its kind."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.compiler.kernels.attention.attention_kind import AttentionKind
from codesign.compiler.kernels.attention.streamed_kind import StreamedAttentionKind
from codesign.compiler.kernels.kernel_kind import Drain, Kind, Operand, Problem
from codesign.compiler.kernels.mapspace import Choice, Ints, Mapspace, Prices
from codesign.compiler.kernels.matmul_kind import MatmulKind
from codesign.compiler.kernels.matmul_space import roomy
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.rotary_kind import RotaryKind
from codesign.compiler.kernels.row_kind import RowKind
from codesign.hw.costs.energy import CostTable
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body

KINDS: tuple[Kind[Any], ...] = (
    MatmulKind(),
    AttentionKind(),
    StreamedAttentionKind(),
    RowKind(),
    RotaryKind(),
)

MOST_WORK = 1 << 50  # MACs of a kernel: thousands of the largest still add up in 64 bits
MOST_EXTENT = 1 << 26  # of a kernel's dimensions: exact timing takes time along some of them


def kind_of(problem: Problem) -> Kind[Any]:
    """The kind that a problem is of."""
    return next(kind for kind in KINDS if type(problem) is kind.problem_type)


@lru_cache(maxsize=100_000)
def choose(
    problem: Problem, config: HardwareConfig, objective: str, table: CostTable
) -> Choice | None:
    """The best mapping of a problem, remembered per shape; None when no tile fits.

    Raises MappingError where counts could wrap.
    """
    _check_counts(problem, config)
    return kind_of(problem).best(problem, config, Prices.of(table), objective)


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


def spaces(problem: Problem, config: HardwareConfig) -> list[Mapspace]:
    """The stated mapspace of a problem. Raises MappingError where counts could wrap."""
    _check_counts(problem, config)
    return list(kind_of(problem).spaces(problem, config))


def _check_counts(problem: Problem, config: HardwareConfig) -> None:
    """Mapspaces count in 64 bits; no count is above that of PEs times rows, edges filled up."""
    kind, dim = kind_of(problem), config.dim
    if kind.work(problem, dim) > MOST_WORK:
        raise MappingError(
            f"a kernel of {shape(problem)} on a mesh of {dim}x{dim} is beyond what is counted, "
            f"{MOST_WORK:.1e} MACs: split the operator"
        )
    if max(kind.extents(problem)) > MOST_EXTENT:
        raise MappingError(
            f"a kernel of {shape(problem)} is beyond what is timed, {MOST_EXTENT:,} rows or columns: "
            "split the operator"
        )


NOWHERE: Mapping[str, int] = {}
NO_NUMBERS = StepNumbers()


def body(
    problem: Problem,
    mapping: Any,
    config: HardwareConfig,
    places: Mapping[str, int] = NOWHERE,
    numbers: StepNumbers = NO_NUMBERS,
) -> Body:
    """The kernel of a problem under a mapping, with its operands at the given DRAM addresses.

    Without places and numbers it takes the same cycles and computes nothing useful.
    """
    return kind_of(problem).kernel(problem, mapping, config, places, numbers)


def operands(problem: Problem, config: HardwareConfig) -> tuple[Operand, ...]:
    """What a kernel of the problem reads and writes in DRAM."""
    return tuple(o for o in kind_of(problem).operands(problem, config) if o.size_bytes)


def output(problem: Problem, config: HardwareConfig) -> Operand:
    """What a kernel of the problem writes."""
    return next(o for o in operands(problem, config) if o.role == "output")


def drains(problem: Problem) -> tuple[Drain, ...]:
    """The drains of a kernel of the problem."""
    return kind_of(problem).drains(problem)


def shape(problem: Problem) -> str:
    """What a problem computes, in one line for people."""
    return kind_of(problem).shape(problem)


def describe(problem: Problem, mapping: Any, config: HardwareConfig) -> str:
    """A mapping in one line for people: tile sizes in rows and columns, order, residency."""
    return kind_of(problem).describe(problem, mapping, config)
