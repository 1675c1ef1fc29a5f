"""What the commands that take a model and a machine share: a request, read and checked.

The command line makes a Request; commands prepare it and act on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesign.compiler.graph import Graph, Matmul
from codesign.hw.costs import host
from codesign.hw.costs.area import AreaOverrides
from codesign.hw.costs.energy import EnergyOverrides
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.inputs import area_costs, energy_costs, load_model, machine
from codesign.search.inputs import grid, sources
from codesign.search.inputs.grid import Point
from codesign.search.inputs.sources import Model
from codesign.search.runs import output
from codesign.search.terminal.messages import say

MOST_WARNINGS = 4
_MAPPED = {"cycles": "fewest cycles", "energy": "least energy", "edp": "least EDP"}


@dataclass(frozen=True)
class Request:
    """What sweep, simulate and compile share: a model, a grid of machines, and how to price it."""

    command: str  # as typed, without what does not change results
    model: str
    seq: int | None
    batch: int | None
    dimensions: tuple[tuple[str, int], ...]
    hardware: str
    fixed: Mapping[str, int]  # fields of HardwareConfig that replace the machine's own
    axes: Mapping[str, Sequence[int]]  # and those that make a grid
    objective: str
    energy_table: str
    area_table: str = sources.DEFAULT_AREAS
    past: int | None = None  # tokens in a decoder's cache; None: whatever the model has
    out: Path | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Prepared:
    """A request with everything read and checked."""

    request: Request
    base: HardwareConfig
    points: list[Point]
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides
    model: Model

    @property
    def title(self) -> str:
        """One line over every table and plot of a run."""
        objective = _MAPPED[self.request.objective]
        return f"{self.model.title} on {self.base.name}, kernels mapped for {objective}"

    @property
    def machine(self) -> HardwareConfig:
        """The only machine. Raises CodesignError for a grid of several."""
        return only_machine(self.points)

    def describe(self, action: str, **more: Any) -> dict[str, Any]:
        """What `run.json` says of it; `more` decides results too."""
        run_inputs = {
            "action": action,
            "model": self.request.model,
            "graph": sources.graph_digest(self.model.graph),
            "seq": self.model.seq,
            "batch": self.model.batch,
            "hardware": asdict(self.base),
            "grid": {axis: list(values) for axis, values in self.request.axes.items()},
            "objective": self.request.objective,
            "energy_table": recorded(self.tables),
            "area_table": recorded(self.area_tables),
            **self._decoder_inputs(),
            **more,
        }
        return output.describe_run(self.request.command, run_inputs, more.get("seed"))

    def _decoder_inputs(self) -> dict[str, Any]:
        """What decides the results of a decoder besides; nothing of other models."""
        decoder = self.model.decoder
        if decoder is None:
            return {}
        prefill = None if decoder.prefill is None else sources.graph_digest(decoder.prefill)
        return {"past": decoder.past, "prefill": prefill}


def prepare(request: Request) -> Prepared:
    """Read and check everything that a request names, cheap checks first."""
    base = machine(request.hardware, **request.fixed)
    points = grid.points(base, request.axes)
    _require_a_machine([point for point in points if point.config is None], points)
    energy, areas = energy_costs(request.energy_table), area_costs(request.area_table)
    model = load_model(
        request.model,
        seq=request.seq,
        batch=request.batch,
        dimensions=dict(request.dimensions),
        past=request.past,
    )
    _warn(points)
    return Prepared(request, base, points, energy, areas, model)


def only_machine(points: Sequence[Point]) -> HardwareConfig:
    """The machine of a grid of one. Raises CodesignError for several, and for one that cannot be."""
    if len(points) != 1:
        raise CodesignError(
            f"the options name {len(points)} machines but this command takes one: "
            "give single values, or use codesign sweep"
        )
    if points[0].config is None:
        raise CodesignError(points[0].reason)
    return points[0].config


def _require_a_machine(impossible: Sequence[Point], points: Sequence[Point]) -> None:
    if len(impossible) == len(points):
        reason = impossible[0].reason
        raise CodesignError(
            reason if len(points) == 1 else f"no machine of the grid can be built: {reason}"
        )


def _warn(points: Sequence[Point]) -> None:
    """Say on standard error which memories cannot meet the clock."""
    from codesign.hw.costs.sram import timing_warnings

    warnings: dict[str, None] = {}
    for point in points:
        if point.config is not None:
            warnings.update(dict.fromkeys(timing_warnings(point.config)))
    shown = list(warnings)[:MOST_WARNINGS]
    if len(warnings) > len(shown):
        shown.append(f"and {len(warnings) - len(shown)} more memories that miss the clock")
    for warning in shown:
        say(f"warning: {warning}")


def say_costs(prepared: Prepared) -> None:
    """Say on standard error what a reader of energies and areas has to know of their tables."""
    from codesign.search.pricing.cost_notes import cost_notes

    configs = [point.config for point in prepared.points if point.config is not None]
    notes = cost_notes(configs, prepared.tables, prepared.area_tables)
    say_patches(prepared.model.graph)
    shown = notes[:MOST_WARNINGS]
    if len(notes) > len(shown):
        shown.append(f"and {len(notes) - len(shown)} more of what is priced so")
    for note in shown:
        say(f"warning: {note}")


def say_patches(graph: Graph) -> None:
    """Say on standard error what the copies cost that convolutions need, which no kernel makes."""
    copied = [op for op in graph.operators() if isinstance(op, Matmul) and op.patches]
    if not copied:
        return
    sizes = [(op.patches, op.batch * op.m * op.k) for op in copied]
    cycles = sum(host.total_host_cycles(f"copy_{how}", size) for how, size in sizes)
    what = "1 convolution" if len(copied) == 1 else f"{len(copied)} convolutions"
    say(
        f"note: the host copies the patches of {what}, {sum(s for _, s in sizes):,} bytes in "
        f"{cycles:,} cycles of an inference; the figures include it (docs/host.md)"
    )


def recorded(table: str | EnergyOverrides | AreaOverrides) -> Any:
    """A table as `run.json` keeps it: the name of a shipped one, all the numbers of a user's."""
    return table if isinstance(table, str) else asdict(table)
