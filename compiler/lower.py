"""Lowering: an operator graph becomes a plan of mapped kernels, and the plan a Program.

Kernels run one after another, each from an idle machine to an idle machine, so that the cost of
a network is the sum of its kernels' and the mapping of one does not depend on its neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.compiler.attention_kernel import AttentionProblem
from codesign.compiler.fusion import Alternative, Group, Work, fuse
from codesign.compiler.graph import Graph
from codesign.compiler.kernels import choose, describe
from codesign.compiler.mapping import OBJECTIVES, Ints, Prices
from codesign.compiler.matmul_kernel import MatmulProblem
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import CostTable
from codesign.hw.errors import MappingError
from codesign.hw.events import EVENT_INDEX, EVENTS
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


def lower(graph: Graph, config: HardwareConfig, objective: str, table: CostTable) -> Plan:
    """Fuse, map and price every operator of `graph` for the objective.

    Raises MappingError naming the operator that fits no tile of the machine.
    """
    if objective not in OBJECTIVES:
        raise MappingError(f"unknown objective {objective!r}: choose {', '.join(OBJECTIVES)}")
    steps = [
        step for group in fuse(graph, config) for step in _cheapest(group, config, objective, table)
    ]
    return Plan(graph.name, config, objective, graph, tuple(steps))


def _cheapest(
    group: Group, config: HardwareConfig, objective: str, table: CostTable
) -> tuple[Step, ...]:
    """The steps of the alternative with the lowest objective over the whole group."""
    prices = Prices.of(table)
    found: list[tuple[float, tuple[Step, ...]]] = []
    for steps in _mapped(group.alternatives, config, objective, table):
        events = np.sum([step.events for step in steps], axis=0)[None]
        cycles = np.array([sum(step.cycles for step in steps)])
        found.append((float(prices.score(objective, events, cycles)[0]), steps))
    if not found:
        raise MappingError(_misfit(group, config))
    return min(found, key=lambda item: item[0])[1]


def _mapped(
    alternatives: tuple[Alternative, ...], config: HardwareConfig, objective: str, table: CostTable
) -> Iterator[tuple[Step, ...]]:
    for alternative in alternatives:
        steps = [_step(work, config, objective, table) for work in alternative]
        if all(step is not None for step in steps):
            yield tuple(step for step in steps if step is not None)


def _step(work: Work, config: HardwareConfig, objective: str, table: CostTable) -> Step | None:
    events = np.zeros(len(EVENTS), dtype=np.int64)
    if work.problem is None:
        events[EVENT_INDEX["host_cycles"]] = work.host_cycles
        return Step(work, None, "", work.host_cycles, events, True)
    choice = choose(work.problem, config, objective, table)
    if choice is None:
        return None
    events = choice.events.copy()
    # Heads padded to whole blocks add work to the mesh, not useful MACs to the network.
    events[EVENT_INDEX["macs"]] = work.macs
    text = describe(work.problem, choice.mapping, config)
    return Step(work, choice.mapping, text, choice.cycles, events, choice.proved)


def _misfit(group: Group, config: HardwareConfig) -> str:
    op = group.operators[0]
    problems = [work.problem for alternative in group.alternatives for work in alternative]
    shape = ""
    for problem in problems:
        if isinstance(problem, MatmulProblem):
            shape = f" ({problem.m}x{problem.k}x{problem.n})"
        elif isinstance(problem, AttentionProblem):
            shape = f" ({problem.queries} queries, {problem.keys} keys)"
    return (
        f"{op.kind} {op.name!r}{shape} fits no tile of machine {config.name!r} with "
        f"{format_size(config.scratchpad_bytes)} scratchpad, "
        f"{format_size(config.accumulator_bytes)} accumulator and "
        f"{config.parameter_channels} parameter channels: enlarge them or use fewer banks"
    )
