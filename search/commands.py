"""What the commands that price, compile and export do; `cli` only parses.

A command takes plain values, writes its tables to standard output (or one JSON document, and then
nothing else), its warnings and progress to standard error, and its files to `--out`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.hw.config import HardwareConfig, to_toml
from codesign.hw.errors import CodesignError
from codesign.models.families import FAMILIES
from codesign.search import machine_tables, output, tables, verify_tables
from codesign.search.messages import say, say_where
from codesign.search.output import RunDirectory, optional_directory
from codesign.search.progress import progress
from codesign.search.request import Prepared, Request, prepare, say_costs
from codesign.search.run_files import JOURNAL_FILE
from codesign.search.sweep import FailedMachines, Job, Row, best, feasible_row, sweep

if TYPE_CHECKING:
    from codesign.compiler.inference import Network
    from codesign.compiler.lower import Plan
    from codesign.hw.program import Program
    from codesign.search.network import Quantization
    from codesign.search.verify import Checked, Distinct, Options


def run_sweep(request: Request, jobs: int) -> None:
    """Evaluate the model on every machine of the grid; tables, files, journal and resume.

    Raises CodesignError for bad input and when the model runs on no machine at all, FailedMachines
    when all is done that can be; its KeyboardInterrupt says what was kept.
    """
    prepared = prepare(request)
    run = prepared.describe("sweep")
    if request.out is None:
        rows = _sweep_rows(prepared, jobs, [], lambda row: None, None)
    else:
        with output.run_directory(request.out, run) as directory:
            done = _answered(directory.journal(Row), prepared)
            rows = _sweep_rows(prepared, jobs, done, directory.append, request.out)
            _write_sweep(directory, rows, prepared)
    winner = best(rows)
    say_costs(prepared)
    if request.as_json:
        output.print_json({**run, "rows": rows, "best": None if winner is None else winner.index})
    else:
        console = tables.console()
        console.print(machine_tables.sweep_table(rows, prepared.title, console.width))
        say_where(request.out)
    _report_failures(rows)


def run_simulate(request: Request) -> None:
    """Break one inference on one machine down by kernel and by component."""
    from codesign.compiler.emit import emit
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table
    from codesign.search import breakdown
    from codesign.search.evaluate import result

    prepared = prepare(request)
    config = prepared.machine
    run = prepared.describe("simulate")
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, request.objective, table)
    priced = result(plan, table, prepared.area_tables)
    row, kernels = feasible_row(0, priced), breakdown.kernels(priced)
    say_costs(prepared)
    if request.out is not None:
        from codesign.search import plots, timeline

        files = plots.simulation_plots(priced, prepared.title)
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
    console.print(machine_tables.machine_title(config), style="dim")
    console.print(machine_tables.kernel_table(priced, prepared.title, width))
    console.print()
    console.print(machine_tables.energy_table(priced, width))
    console.print()
    console.print(machine_tables.totals_table(priced))
    say_where(request.out)


def run_verify(request: Request, options: "Options") -> None:
    """Hold every kernel of one inference against the functional model or the RTL.

    Raises Disagreement when they differ. Its KeyboardInterrupt comes after the kernels that were
    done are printed, and kept.
    """
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table
    from codesign.search import verify

    prepared = prepare(request)
    config = prepared.machine
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, request.objective, table)
    chosen = verify.select(verify.distinct(plan), options)
    if options.waves is not None:
        output.require_writable(options.waves)
    asked = {"backend": options.backend, "kernel": options.kernel, "seed": options.seed}
    run = prepared.describe("verify", **asked)
    with optional_directory(request.out, run) as kept:
        verify.build(config, options, say)
        results, interrupted = _verify(chosen, config, options)
        checks = [result.check for result in results]
        if kept is not None and checks:
            kept.write_records("verification", checks)
            kept.log(f"checked {len(checks)} of {len(chosen)} kernels")
    summary = verify.summary(checks, plan, options)
    if request.as_json:
        output.print_json({**run, "summary": summary, "kernels": checks})
    elif checks:
        console = tables.console()
        console.print(machine_tables.machine_title(config), style="dim")
        console.print(
            verify_tables.verification_table(results, summary, prepared.title, console.width)
        )
        say_where(request.out, options.waves)
    if interrupted:
        raise KeyboardInterrupt(f"{len(checks)} of {len(chosen)} kernels were done")
    verify.require_agreement(checks, summary)


def run_compile(request: Request, quantization: "Quantization", weights: bool | None) -> None:
    """Write the Program of a model: its listing, its mappings and its memory map.

    With `weights` (None: if the model is a file, or there is data to calibrate on) it is quantized,
    and what a host needs to run it is written too.
    """
    from codesign.compiler import listing
    from codesign.hw.energy import cost_table
    from codesign.search import breakdown
    from codesign.search.evaluate import result

    assert request.out is not None
    prepared = prepare(request)
    config = prepared.machine
    if weights is False and quantization.calibration is not None:
        raise CodesignError("--no-weights calibrates nothing: drop it, or --calibration")
    if weights is None:
        weights = request.model not in FAMILIES or quantization.calibration is not None
    described = {"seed": quantization.seed, **quantization.describe()} if weights else {}
    run = prepared.describe("compile", **described)
    compiled = _quantized(prepared, quantization) if weights else None
    plan, program = _program(prepared) if compiled is None else (compiled.plan, compiled.program)
    priced = result(plan, cost_table(config, prepared.tables))
    with output.run_directory(request.out, run) as directory:
        directory.write_text("program.txt", listing.text(program))
        directory.write_records("mapping", breakdown.kernels(priced))
        directory.write_records("memory", program.memory)
        directory.write_text("hardware.toml", to_toml(config))
        if compiled is not None:
            _write_image(directory, compiled)
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
    console.print(machine_tables.machine_title(config), style="dim")
    console.print(machine_tables.mapping_table(priced, prepared.title, console.width))
    console.print(
        f"{len(program.kernels)} kernels, {priced.cycles:,} cycles, "
        f"{program.dram_bytes / 1e6:,.1f} MB of DRAM in use"
    )
    if compiled is not None:
        console.print(
            "lowered for accuracy (docs/quantization.md); sweep and --no-weights lower for cost"
        )
    say_where(request.out)


def _program(prepared: Prepared) -> "tuple[Plan, Program]":
    """The Program of a model as it is priced, without numbers."""
    from codesign.compiler.emit import emit
    from codesign.compiler.lower import lower
    from codesign.hw.energy import cost_table

    config = prepared.machine
    table = cost_table(config, prepared.tables)
    plan = lower(prepared.model.graph, config, prepared.request.objective, table)
    return plan, emit(plan)


def _quantized(prepared: Prepared, quantization: "Quantization") -> "Network":
    from codesign.search import network

    try:
        opened = network.open_model(prepared, quantization)
        return network.quantize(opened, prepared, quantization)
    except CodesignError as error:
        raise CodesignError(f"{error}; --no-weights writes the Program alone") from error


def _write_image(directory: RunDirectory, compiled: "Network") -> None:
    """What a host needs beside the listing: weights, instructions, and where every tensor is."""
    from codesign.compiler import tensor_map
    from codesign.hw.encoding import encode_all
    from codesign.hw.program import unroll

    words = [encode_all(unroll(kernel.body)) for kernel in compiled.program.kernels]
    kernels = [
        {"name": kernel.name, "instructions": len(part)}
        for kernel, part in zip(compiled.program.kernels, words, strict=True)
    ]
    document = {
        "layout": tensor_map.LAYOUT,
        "program": tensor_map.PROGRAM,
        "records": tensor_map.RECORDS,
        "dim": compiled.plan.config.dim,
        "kernels": kernels,
        "tensors": [asdict(one) for one in tensor_map.tensor_map(compiled)],
        "masks": [asdict(one) for one in tensor_map.mask_map(compiled)],
    }
    directory.write_bytes("weights.bin", compiled.image.tobytes())
    directory.write_bytes("program.bin", b"".join(part.tobytes() for part in words))
    directory.write_text("scales.json", output.json_text(document))


def run_export(
    config: Any,
    path: Path,
    seq: int | None,
    batch: int | None,
    opset: int,
    seed: int,
    weights: Any,
    as_json: bool,
) -> None:
    """Write a model configuration as ONNX; None makes an axis dynamic."""
    from codesign.models.export import export, save
    from codesign.models.weights import parameter_count

    model = export(config, batch=batch, seq=seq, opset=opset, seed=seed, weights=weights)
    save(model, path)
    if as_json:
        kind = weights if isinstance(weights, str) else "trained"
        output.print_json(
            {
                "model": config.name,
                "file": str(path),
                "bytes": path.stat().st_size,
                "opset": opset,
                "weights": kind,
                "seed": seed if kind == "random" else None,
                "parameters": parameter_count(config),
                "inputs": {value.name: _extents(value) for value in model.graph.input},
                "outputs": {value.name: _extents(value) for value in model.graph.output},
            }
        )


def _extents(value: Any) -> list[int | str]:
    """The shape of an input or output of an ONNX graph, dynamic axes by name."""
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_param if d.HasField("dim_param") else d.dim_value for d in dimensions]


def run_export_checkpoint(
    folder: Path, path: Path, seq: int | None, batch: int | None, opset: int, as_json: bool
) -> None:
    """Write a trained checkpoint as ONNX; None makes an axis dynamic."""
    from codesign.models.checkpoint import load_checkpoint

    config, weights = load_checkpoint(folder)
    run_export(config, path, seq, batch, opset, 0, weights, as_json)


def _sweep_rows(
    prepared: Prepared,
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
    with progress(total, len(rows)) as advance:

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


def _answered(rows: Sequence[Row], prepared: Prepared) -> list[Row]:
    """The rows that say what a machine of the grid costs; others are made again."""
    points = {point.index: point for point in prepared.points}
    name = prepared.model.graph.name
    return [
        row
        for row in rows
        if row.answered
        and row.model == name
        and row.index in points
        and row.is_of(points[row.index])
    ]


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
    done = (out / JOURNAL_FILE).read_text(encoding="utf-8").count("\n") if done else 0
    return f"{done} of {total} machines are kept in {out}: repeat the command to go on"


def _write_sweep(directory: RunDirectory, rows: Sequence[Row], prepared: Prepared) -> None:
    from codesign.search import plots

    directory.finish_journal(rows)
    directory.write_records("results", rows)
    for name, content in plots.sweep_plots(rows, prepared.title).items():
        directory.write_bytes(name, content)
    directory.log(f"swept {len(rows)} machines")


def _verify(
    chosen: "Sequence[Distinct]", config: HardwareConfig, options: "Options"
) -> "tuple[list[Checked], bool]":
    """The checked kernels, and whether an interrupt has kept the others from being checked."""
    from codesign.search import verify

    results: list[Checked] = []
    with progress(len(chosen), 0, "kernels") as advance:

        def take(result: "Checked") -> None:
            results.append(result)
            advance()

        try:
            verify.check_all(chosen, config, options, take)
        except KeyboardInterrupt:
            return results, True
    return results, False
