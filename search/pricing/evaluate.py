"""One network on one machine: cycles, energy, EDP and area, kernel by kernel."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.compiler.graph import Graph
from codesign.compiler.plan.lower import Plan, lower
from codesign.hw.costs.area import AreaOverrides, area_mm2
from codesign.hw.costs.energy import (
    CostTable,
    EnergyOverrides,
    breakdown,
    cost_table,
    edp_js,
    energy_j,
)
from codesign.hw.errors import MappingError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX, EVENTS
from codesign.search.inputs.decoders import Decoder

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KernelResult:
    """One kernel of a network: what it covers, how it is mapped, what it costs."""

    name: str
    kind: str  # matmul, attention, softmax, layernorm, activation, add, host
    operators: tuple[str, ...]  # names of the graph's operators that it computes
    mapping: str  # for people; empty for the host
    cycles: int  # accelerator and host, one after the other
    host_cycles: int
    macs: int
    events: Ints  # [len(EVENTS)]


@dataclass(frozen=True)
class Result:
    """A network on a machine. Energy arrays are low / nominal / high."""

    model: str
    config: HardwareConfig
    objective: str
    kernels: tuple[KernelResult, ...]
    table: CostTable
    plan: Plan = field(repr=False, compare=False)  # what was priced
    area_tables: str | AreaOverrides = "default"
    decoder: Decoder | None = None  # of one that predicts the next token
    prefill: "Result | None" = None  # of a decoder's step, what comes before it

    @cached_property
    def cycles(self) -> int:
        """Cycles of one inference: kernels run one after another."""
        return sum(kernel.cycles for kernel in self.kernels)

    @cached_property
    def host_cycles(self) -> int:
        """Cycles of the host CPU within `cycles`."""
        return sum(kernel.host_cycles for kernel in self.kernels)

    @cached_property
    def macs(self) -> int:
        """Useful multiply-accumulates."""
        return sum(kernel.macs for kernel in self.kernels)

    @cached_property
    def events(self) -> Ints:
        """Event counts [len(EVENTS)]."""
        total: Ints = np.zeros(len(EVENTS), dtype=np.int64)
        for kernel in self.kernels:
            total += kernel.events
        return total

    @property
    def latency_s(self) -> float:
        """Seconds of one inference."""
        return self.cycles / self.config.clock_hz

    @cached_property
    def energy_j(self) -> Floats:
        """Joules of one inference, [3]."""
        return energy_j(self.table, self.events, self.cycles)

    @property
    def edp_js(self) -> Floats:
        """Energy-delay product in J s, [3]: total energy times total time."""
        return edp_js(self.energy_j, self.cycles, self.config.clock_hz)

    @cached_property
    def area_mm2(self) -> Floats:
        """Area of the machine in mm2, [3]."""
        return np.asarray(area_mm2(self.config, self.area_tables).total, dtype=np.float64)

    @property
    def utilization(self) -> float:
        """MACs over what the mesh could do in all cycles."""
        return self.macs / (self.config.macs_per_cycle * self.cycles) if self.cycles else 0.0

    @property
    def dram_bytes(self) -> int:
        """Bytes moved in and out of DRAM by the accelerator, and by the host where it copies."""
        read, write = EVENT_INDEX["dram_read_bytes"], EVENT_INDEX["dram_write_bytes"]
        return int(self.events[read] + self.events[write])

    @property
    def time_to_first_token_s(self) -> float | None:
        """Seconds from a decoder's prompt to its first token: of the prefill of its past, of the run where
        that is one. None where it is not known, and of what is no decoder."""
        if self.decoder is None or self.decoder.unknown:
            return None
        return self.latency_s if self.prefill is None else self.prefill.latency_s

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second of all sequences together, of a decoder's step; None of what is no step."""
        tokens = self._step_tokens
        return None if tokens is None else tokens / self.latency_s

    @property
    def energy_per_token_j(self) -> Floats | None:
        """Joules a token, [3], of a decoder's step; None of what is no step."""
        tokens = self._step_tokens
        return None if tokens is None else self.energy_j / tokens

    @property
    def _step_tokens(self) -> int | None:
        """The tokens of a decoder's step; None of what is no step."""
        step = self.decoder is not None and self.decoder.past is not None
        return self.decoder.tokens if step and self.decoder is not None else None

    def breakdown(self) -> dict[str, Floats]:
        """Joules by component, [3] each."""
        return breakdown(self.table, self.events, self.cycles)

    def kernel_energy_j(self, kernel: KernelResult) -> Floats:
        """Joules of one kernel, [3]."""
        return energy_j(self.table, kernel.events, kernel.cycles)


def cost_columns(result: Result) -> dict[str, Any]:
    """The costs of a result by the column names that all tables share, ranges taken apart."""
    energy, edp = result.energy_j.tolist(), result.edp_js.tolist()
    return {
        "cycles": result.cycles,
        "latency_s": result.latency_s,
        "energy_low_j": energy[0],
        "energy_j": energy[1],
        "energy_high_j": energy[2],
        "edp_low_js": edp[0],
        "edp_js": edp[1],
        "edp_high_js": edp[2],
        "area_mm2": float(result.area_mm2[1]),
        "utilization": result.utilization,
        "macs": result.macs,
        "dram_bytes": result.dram_bytes,
    }


def token_columns(result: Result) -> dict[str, Any]:
    """What is known of a decoder's tokens, by the column names that all tables share."""
    energy = result.energy_per_token_j
    low, nominal, high = (None, None, None) if energy is None else energy.tolist()
    return {
        "time_to_first_token_s": result.time_to_first_token_s,
        "first_token_unknown": "" if result.decoder is None else result.decoder.unknown,
        "tokens_per_s": result.tokens_per_s,
        "energy_per_token_j": nominal,
        "energy_per_token_low_j": low,
        "energy_per_token_high_j": high,
    }


def evaluate(
    graph: Graph,
    config: HardwareConfig,
    objective: str = "edp",
    tables: str | EnergyOverrides = "default",
    area_tables: str | AreaOverrides = "default",
    decoder: Decoder | None = None,
) -> Result:
    """Map every kernel of `graph` for the objective ("cycles", "energy", "edp") and price it.

    `tables` are the costs of energy, `area_tables` those of area. Of a `decoder` the prefill is priced too.

    Raises MappingError when an operator fits no tile of the machine, TableError for bad tables.
    """
    table = cost_table(config, tables)
    priced = result(lower(graph, config, objective, table), table, area_tables)
    if decoder is None:
        return priced
    prefill = None
    if decoder.prefill is not None:
        try:
            prefill = result(lower(decoder.prefill, config, objective, table), table, area_tables)
        except MappingError as error:
            decoder = replace(decoder, unknown=f"the machine cannot run the prefill: {error}")
    return replace(priced, decoder=decoder, prefill=prefill)


def result(plan: Plan, table: CostTable, area_tables: str | AreaOverrides = "default") -> Result:
    """Price an existing plan with a cost table and areas."""
    kernels = tuple(
        KernelResult(
            name=step.name,
            kind=step.kind,
            operators=step.operators,
            mapping=step.mapping_text,
            cycles=step.cycles,
            host_cycles=step.host_cycles,
            macs=step.macs,
            events=step.events,
        )
        for step in plan.steps
    )
    return Result(plan.model, plan.config, plan.objective, kernels, table, plan, area_tables)
