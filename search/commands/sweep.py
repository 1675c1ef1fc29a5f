"""What `codesign sweep` does: prices a network on every machine of a grid, kept as it goes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from codesign.hw.errors import CodesignError
from codesign.search.api import pricing as api
from codesign.search.commands.request import Prepared, Request, prepare, say_costs
from codesign.search.pricing import machine_tables
from codesign.search.pricing.sweep import FailedMachines, Row, best, row_kind
from codesign.search.runs import output
from codesign.search.runs.files import JOURNAL_FILE
from codesign.search.runs.output import RunDirectory
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say_where
from codesign.search.terminal.progress import progress


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
            kind = row_kind(prepared.model.decoder)
            kept = directory.journal(kind, "their machines are priced again")
            done = _answered(kept, prepared)
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
    with progress(total, len(rows)) as advance:

        def take(row: Row) -> None:
            rows[row.index] = row
            waiting.append(row)
            if any(r.feasible for r in waiting) or done:
                while waiting:
                    keep(waiting.pop(0))
            advance()

        try:
            ordered = api.sweep(
                prepared.model,
                prepared.base,
                prepared.request.axes,
                objective=prepared.request.objective,
                energy_table=prepared.tables,
                area_table=prepared.area_tables,
                workers=jobs,
                done=done,
                keep=take,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(out, len(rows) - len(waiting), total)) from None
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
    done = (out / JOURNAL_FILE).read_text(encoding="utf-8").count("\n") if done else 0
    return f"{done} of {total} machines are kept in {out}: repeat the command to go on"


def _write_sweep(directory: RunDirectory, rows: Sequence[Row], prepared: Prepared) -> None:
    from codesign.search.pricing import plots

    directory.finish_journal(rows)
    directory.write_records("results", rows)
    for name, content in plots.sweep_plots(rows, prepared.title).items():
        directory.write_bytes(name, content)
    directory.log(f"swept {len(rows)} machines")
