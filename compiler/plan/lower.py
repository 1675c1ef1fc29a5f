"""Lowering: an operator graph becomes a plan of mapped kernels, and the plan a Program.

Kernels run one after another, each from an idle machine to an idle machine, so that the cost of
a network is the sum of its kernels' and the mapping of one does not depend on its neighbours.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from codesign.compiler.graph import Add, Gate, Graph, LayerNorm, Matmul
from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES, Ints
from codesign.compiler.plan.fusion import fuse
from codesign.compiler.plan.kinds import describe
from codesign.compiler.plan.pricing import GroupShape, PriceTables, price_tables
from codesign.compiler.plan.work import Group, Work
from codesign.hw.costs.energy import CostTable
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.sizes import format_size


@dataclass(frozen=True)
class Step:
    """One kernel of a plan, mapped and priced."""

    work: Work
    mapping: Any
    mapping_text: str
    cycles: int
    events: Ints
    proved: bool

    @property
    def name(self) -> str:
        """Name of the first operator it computes."""
        return self.work.name

    @property
    def kind(self) -> str:
        """matmul, attention, softmax, layernorm, activation, add or host."""
        return self.work.kind

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the graph's operators that it computes."""
        return self.work.operators

    @property
    def host_cycles(self) -> int:
        """Cycles of the host CPU within `cycles`."""
        return self.work.host_cycles

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates."""
        return self.work.macs


@dataclass(frozen=True)
class Plan:
    """A network mapped onto a machine: its kernels in order."""

    model: str
    config: HardwareConfig
    objective: str
    graph: Graph
    steps: tuple[Step, ...]


def lower(
    graph: Graph,
    config: HardwareConfig,
    objective: str,
    table: CostTable,
    accurate: bool = False,
    apart: Collection[str] = (),
    moved: Collection[str] = (),
    by_host: Collection[str] = (),
) -> Plan:
    """Fuse, map and price every operator of `graph` for the objective.

    With `accurate`, sums of activations stay in the accumulator wherever that fits, whatever it
    costs: between a matmul and a sum or norm there is no rounding to int8 (see also `fuse`).
    A matmul named in `apart` writes int8 all the same: no sum follows it in its kernel; an activation
    named there feeds no product in one. The tensors in `moved` have a zero point; the host computes
    what is named in `by_host`.
    Raises MappingError naming the operator that fits no tile of the machine.
    """
    if objective not in MAPPING_OBJECTIVES:
        raise MappingError(
            f"unknown objective {objective!r}: choose {', '.join(MAPPING_OBJECTIVES)}"
        )
    tables = price_tables(config, objective, table)
    groups = fuse(graph, config, accurate, moved, by_host)
    steps = [step for group in groups for step in _steps(group, tables, accurate, apart)]
    return Plan(graph.name, config, objective, graph, tuple(steps))


def _steps(
    group: Group, tables: PriceTables, accurate: bool, apart: Collection[str]
) -> Iterator[Step]:
    """The kernels of a group's cheapest alternative; of the most fused one for an accurate sum."""
    alternatives = group.alternatives
    gated = any(isinstance(op, Gate) for op in group.operators)  # whose sums need no common unit
    named = {op.name for op in group.operators if not (gated and isinstance(op, Matmul))}
    if not named.isdisjoint(apart):
        alternatives = alternatives[-1:]
    price = None
    if accurate and any(isinstance(op, Add | Gate | LayerNorm) for op in group.operators):
        price = tables.group(GroupShape.of(alternatives[:1]))
    price = price or tables.group(GroupShape.of(alternatives))
    if price is None:
        raise MappingError(_misfit(group, tables.config))
    works = alternatives[price.alternative]
    for work, choice, cycles, events in zip(
        works, price.choices, price.cycles, price.events, strict=True
    ):
        if choice is None or work.problem is None:
            yield Step(work, None, "", cycles, events, True)
        else:
            text = describe(work.problem, choice.mapping, tables.config)
            yield Step(work, choice.mapping, text, cycles, events, choice.proved)


def _misfit(group: Group, config: HardwareConfig) -> str:
    op = group.operators[0]
    shape = f" ({op.m}x{op.k}x{op.n})" if isinstance(op, Matmul) else f" ({op.elements} elements)"
    return (
        f"{op.kind} {op.name!r}{shape} fits no tile of machine {config.name!r} with "
        f"{format_size(config.scratchpad_bytes)} scratchpad, "
        f"{format_size(config.accumulator_bytes)} accumulator and "
        f"{config.parameter_channels} parameter channels: enlarge them or use fewer banks"
    )
