"""What the commands that price, compile and export do; `cli` only parses.

A command takes plain values, writes its tables to standard output (or one JSON document, and then
nothing else), its warnings and progress to standard error, and its files to `--out`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.hw.area import AreaOverrides
from codesign.hw.config import HardwareConfig, to_toml
from codesign.hw.energy import EnergyOverrides
from codesign.hw.errors import CodesignError
from codesign.search import grid, inputs, output, tables
from codesign.search.grid import Point
from codesign.search.inputs import Model
from codesign.search.output import RunDirectory
from codesign.search.sweep import FailedMachines, Job, Row, best, feasible_row, sweep

if TYPE_CHECKING:
    from codesign.search.verify import Checked, Distinct, Options

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
    area_table: str = inputs.DEFAULT_AREAS
    out: Path | None = None
    as_json: bool = False


@dataclass(frozen=True)
class _Prepared:
    """A request with everything read and checked."""

    request: Request
    base: HardwareConfig
    points: list[Point]
    tables: str | EnergyOverrides
    area_tables: str | AreaOverrides
    model: Model

    def describe(self, action: str, **more: Any) -> dict[str, Any]:
        """What `run.json` says of it; `more` decides results too."""
        run_inputs = {
            "action": action,
            "model": self.request.model,
            "graph": inputs.digest(self.model.graph),
            "seq": self.model.seq,
            "batch": self.model.batch,
            "hardware": asdict(self.base),
            "grid": {axis: list(values) for axis, values in self.request.axes.items()},
            "objective": self.request.objective,
            "energy_table": _recorded(self.tables),
            "area_table": _recorded(self.area_tables),
            **more,
        }
        return output.describe_run(self.request.command, run_inputs, more.get("seed"))


def run_sweep(request: Request, jobs: int) -> None:
    """Evaluate the model on every machine of the grid; tables, files, journal and resume.

    Raises CodesignError for bad input and when the model runs on no machine at all, FailedMachines
    when all is done that can be; its KeyboardInterrupt says what was kept.
    """
    prepared = _prepare(request)
    run = prepared.describe("sweep")
    if request.out is None:
        rows = _sweep_rows(prepared, jobs, [], lambda row: None, None)
    else:
        with output.run_directory(request.out, run) as directory:
            done = [row for row in directory.journal(Row) if not row.failed]
            rows = _sweep_rows(prepared, jobs, done, directory.append, request.out)
            _write_sweep(directory, rows, prepared)
    winner = best(rows)
    if request.as_json:
        output.print_json({**run, "rows": rows, "best": None if winner is None else winner.index})
    else:
        console = tables.console()
        console.print(tables.sweep_table(rows, _title(prepared), console.width))
        _say_where(request.out)
    _report_failures(rows)


def run_simulate(request: Request) -> None:
    """Break one inference on one machine down by kernel and by component."""
    from codesign.compiler.emit import emit
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table
    from codesign.search import breakdown
    from codesign.search.evaluate import result

    prepared = _prepare(request)
    config = _only_machine(prepared.points)
    run = prepared.describe("simulate")
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, request.objective, table)
    priced = result(plan, table, prepared.area_tables)
    row, kernels = feasible_row(0, priced), breakdown.kernels(priced)
    if request.out is not None:
        from codesign.search import plots, timeline

        files = plots.simulation_plots(priced, _title(prepared))
        trace = output.json_compact(timeline.chrome_trace(emit(plan), config))
        with output.run_directory(request.out, run) as directory:
            directory.write_records("results", [row])
            directory.write_records("kernels", kernels)
            directory.write_text("timeline.json", trace)
            for name, content in files.items():
                directory.write_bytes(name, content)
            directory.log("simulated")
    if request.as_json:
        components = {name: joules.tolist() for name, joules in priced.breakdown().items()}
        output.print_json(
            {**run, "total": row, "energy_by_component_j": components, "kernels": kernels}
        )
        return
    console = tables.console()
    width = console.width
    title = _title(prepared)
    console.print(tables.machine_title(config), style="dim")
    console.print(tables.kernel_table(priced, title, width))
    console.print()
    console.print(tables.energy_table(priced, width))
    console.print()
    console.print(tables.totals_table(priced))
    _say_where(request.out)


def run_verify(request: Request, options: "Options") -> None:
    """Hold every kernel of one inference against the functional model or the RTL.

    Raises Disagreement when they differ. Its KeyboardInterrupt comes after the kernels that were
    done are printed, and kept.
    """
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table
    from codesign.search import verify

    prepared = _prepare(request)
    config = _only_machine(prepared.points)
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, request.objective, table)
    chosen = verify.select(verify.distinct(plan), options)
    if options.waves is not None:
        output.require_writable(options.waves)
    asked = {"backend": options.backend, "kernel": options.kernel, "seed": options.seed}
    run = prepared.describe("verify", **asked)
    with _directory(request.out, run) as directory:
        verify.build(config, options, _say)
        results, interrupted = _verify(chosen, config, options)
        checks = [result.check for result in results]
        if directory is not None and checks:
            directory.write_records("verification", checks)
            directory.log(f"checked {len(checks)} of {len(chosen)} kernels")
    summary = verify.summary(checks, plan, options)
    if request.as_json:
        output.print_json({**run, "summary": summary, "kernels": checks})
    elif checks:
        console = tables.console()
        console.print(tables.machine_title(config), style="dim")
        console.print(tables.verification_table(results, summary, _title(prepared), console.width))
        _say_where(request.out, options.waves)
    if interrupted:
        raise KeyboardInterrupt(f"{len(checks)} of {len(chosen)} kernels were done")
    verify.require_agreement(checks, summary)


def run_compile(request: Request) -> None:
    """Write the Program of a model: its listing, its mappings and its memory map."""
    from codesign.compiler import listing
    from codesign.compiler.emit import emit
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table
    from codesign.search import breakdown
    from codesign.search.evaluate import result

    assert request.out is not None
    prepared = _prepare(request)
    config = _only_machine(prepared.points)
    run = prepared.describe("compile")
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, request.objective, table)
    program, priced = emit(plan), result(plan, table)
    with output.run_directory(request.out, run) as directory:
        directory.write_text("program.txt", listing.text(program))
        directory.write_records("mapping", breakdown.kernels(priced))
        directory.write_records("memory", program.memory)
        directory.write_text("hardware.toml", to_toml(config))
        directory.log("compiled")
    summary = {
        "kernels": len(program.kernels),
        "dram_bytes": program.dram_bytes,
        "cycles": priced.cycles,
    }
    if request.as_json:
        output.print_json({**run, **summary})
        return
    console = tables.console()
    console.print(tables.machine_title(config), style="dim")
    title = _title(prepared)
    console.print(tables.mapping_table(priced, title, console.width))
    console.print(
        f"{len(program.kernels)} kernels, {priced.cycles:,} cycles, "
        f"{program.dram_bytes / 1e6:,.1f} MB of DRAM in use"
    )
    _say_where(request.out)


def run_export(
    config: Any, path: Path, seq: int | None, batch: int | None, opset: int, seed: int, weights: Any
) -> None:
    """Write a model configuration as ONNX; None makes an axis dynamic."""
    from codesign.models.export import export, save

    model = export(config, batch=batch, seq=seq, opset=opset, seed=seed, weights=weights)
    save(model, path)


def _prepare(request: Request) -> _Prepared:
    """Read and check everything that a request names, cheap checks first."""
    base = inputs.load_machine(request.hardware)
    base = replace(base, **request.fixed)  # type: ignore[arg-type]
    points = grid.points(base, request.axes)
    _require_a_machine([point for point in points if point.config is None], points)
    energy = inputs.load_tables(request.energy_table)
    areas = inputs.load_area_tables(request.area_table)
    model = inputs.load_model(request.model, request.seq, request.batch, request.dimensions)
    _warn(points, energy, areas)
    return _Prepared(request, base, points, energy, areas, model)


def _require_a_machine(impossible: Sequence[Point], points: Sequence[Point]) -> None:
    if len(impossible) == len(points):
        reason = impossible[0].reason
        raise CodesignError(
            reason if len(points) == 1 else f"no machine of the grid can be built: {reason}"
        )


def _title(prepared: _Prepared) -> str:
    """One line over every table and plot of a run."""
    objective = _MAPPED[prepared.request.objective]
    return f"{prepared.model.title} on {prepared.base.name}, kernels mapped for {objective}"


def _only_machine(points: Sequence[Point]) -> HardwareConfig:
    if len(points) != 1:
        raise CodesignError(
            f"the options name {len(points)} machines but this command takes one: "
            "give single values, or use codesign sweep"
        )
    assert points[0].config is not None  # _prepare refused a machine that cannot be
    return points[0].config


def _sweep_rows(
    prepared: _Prepared,
    jobs: int,
    done: Sequence[Row],
    keep: Callable[[Row], None],
    out: Path | None,
) -> list[Row]:
    """Return all rows in the grid's order: those of `done`, and the others as they are made."""
    rows = {row.index: row for row in done}
    waiting: list[Row] = []  # nothing is kept before one machine has run the model
    total = len(prepared.points)
    graph, objective = prepared.model.graph, prepared.request.objective
    job = Job(graph, objective, prepared.tables, prepared.area_tables)
    with _progress(total, len(rows)) as advance:

        def take(row: Row) -> None:
            rows[row.index] = row
            waiting.append(row)
            if any(r.feasible for r in waiting) or done:
                while waiting:
                    keep(waiting.pop(0))
            advance()

        todo = [point for point in prepared.points if point.index not in rows]
        try:
            sweep(job, todo, prepared.base, jobs, take)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(out, len(rows) - len(waiting), total)) from None
    ordered = [rows[index] for index in sorted(rows)]
    if not any(row.feasible for row in ordered):
        _report_failures(ordered)
        reason = ordered[0].infeasible
        name = prepared.model.name
        raise CodesignError(
            reason if total == 1 else f"{name} runs on none of the {total} machines: {reason}"
        )
    return ordered


def _report_failures(rows: Sequence[Row]) -> None:
    """Raise FailedMachines for the rows that a bug has left empty, if there are."""
    failed = [row for row in rows if row.failed]
    if failed:
        raise FailedMachines(
            f"{len(failed)} of {len(rows)} machines failed, the first with {failed[0].failed}: this "
            "is a bug in codesign; report it with the command, and leave those machines out"
        )


def _kept(out: Path | None, done: int, total: int) -> str:
    if out is None:
        return f"{done} of {total} machines were done: give --out DIR to keep and resume them"
    # The interrupt may have come between a row's end and its place in the journal.
    done = (out / output.JOURNAL_FILE).read_text(encoding="utf-8").count("\n") if done else 0
    return f"{done} of {total} machines are kept in {out}: repeat the command to go on"


def _write_sweep(directory: RunDirectory, rows: Sequence[Row], prepared: _Prepared) -> None:
    from codesign.search import plots

    directory.finish_journal(rows)
    directory.write_records("results", rows)
    for name, content in plots.sweep_plots(rows, _title(prepared)).items():
        directory.write_bytes(name, content)
    directory.log(f"swept {len(rows)} machines")


def _verify(
    chosen: "Sequence[Distinct]", config: HardwareConfig, options: "Options"
) -> "tuple[list[Checked], bool]":
    """The checked kernels, and whether an interrupt has kept the others from being checked."""
    from codesign.search import verify

    results: list[Checked] = []
    with _progress(len(chosen), 0, "kernels") as advance:

        def take(result: "Checked") -> None:
            results.append(result)
            advance()

        try:
            verify.check_all(chosen, config, options, take)
        except KeyboardInterrupt:
            return results, True
    return results, False


@contextmanager
def _directory(out: Path | None, run: Mapping[str, Any]) -> Iterator[RunDirectory | None]:
    """The run directory of a command, where one was asked for."""
    if out is None:
        yield None
        return
    with output.run_directory(out, run) as directory:
        yield directory


@contextmanager
def _progress(total: int, done: int, what: str = "machines") -> Iterator[Callable[[], None]]:
    """A bar with an estimate on standard error, where that is a terminal and there is a wait."""
    console = tables.console(stderr=True)
    if total - done <= 1 or not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)


def _warn(
    points: Sequence[Point], energy: str | EnergyOverrides, areas: str | AreaOverrides
) -> None:
    """Say on standard error which memories cannot meet the clock, and what tables do not say."""
    from codesign.hw.sram import timing_warnings

    warnings: dict[str, None] = {}
    for point in points:
        if point.config is not None:
            warnings.update(dict.fromkeys(timing_warnings(point.config)))
    shown = list(warnings)[:MOST_WARNINGS]
    if len(warnings) > len(shown):
        shown.append(f"and {len(warnings) - len(shown)} more memories that miss the clock")
    if energy == "timeloop-pat":
        shown.append("timeloop-pat has relative units: its energies compare but are not joules")
    for table, quantity in ((energy, "costs"), (areas, "areas")):
        if not isinstance(table, str) and len(points) > 1:
            shown.append(f"{table.source}: every machine of the grid gets the same {quantity}")
    for warning in shown:
        _say(f"warning: {warning}")


def _say(message: str) -> None:
    print(f"codesign: {message}", file=sys.stderr)


def _say_where(out: Path | None, waves: Path | None = None) -> None:
    for what, path in (("files", out), ("waves", waves)):
        if path is not None:
            print(f"{what} are in {path}", file=sys.stderr)


def _recorded(table: str | EnergyOverrides | AreaOverrides) -> Any:
    """A table as `run.json` keeps it: the name of a shipped one, all the numbers of a user's."""
    return table if isinstance(table, str) else asdict(table)
