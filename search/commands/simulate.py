"""What `codesign simulate` does: one inference on one machine, by kernel and by component."""

from codesign.search.commands.request import Request, prepare, say_costs
from codesign.search.pricing import machine_tables
from codesign.search.pricing.cost_notes import host_note
from codesign.search.pricing.sweep import feasible_row
from codesign.search.runs import output
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say, say_where


def run_simulate(request: Request) -> None:
    """Break one inference on one machine down by kernel and by component."""
    from codesign.compiler.program.emit import emit
    from codesign.search.api import pricing as api

    prepared = prepare(request)
    config = prepared.machine
    run = prepared.describe("simulate")
    priced = api.price(
        prepared.model,
        config,
        objective=request.objective,
        energy_table=prepared.tables,
        area_table=prepared.area_tables,
    )
    row, kernels = feasible_row(0, priced), api.kernels(priced)
    say_costs(prepared)
    if (note := host_note(priced.plan)) is not None:
        say(f"note: {note}")
    if request.out is not None:
        from codesign.search.pricing import plots, timeline

        files = plots.simulation_plots(priced, prepared.title)
        trace = output.json_compact(timeline.chrome_trace(emit(priced.plan), config))
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
