"""What `codesign simulate --backend functional` or `rtl` does: every kernel, held against the machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codesign.hw.machine.config import HardwareConfig
from codesign.search.checks import verify_tables
from codesign.search.commands.request import Request, prepare
from codesign.search.pricing import machine_tables
from codesign.search.runs import output
from codesign.search.runs.output import optional_directory
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say, say_where
from codesign.search.terminal.progress import progress

if TYPE_CHECKING:
    from codesign.search.checks.verify import Checked, CheckOptions, Distinct


def run_check(request: Request, options: "CheckOptions") -> None:
    """Hold every kernel of one inference against the functional model or the RTL.

    Raises Disagreement when they differ. Its KeyboardInterrupt comes after the kernels that were
    done are printed, and kept.
    """
    from codesign.search.api import pricing as api
    from codesign.search.checks import verify

    prepared = prepare(request)
    config = prepared.machine
    plan = api.price(
        prepared.model, config, objective=request.objective, energy_table=prepared.tables
    ).plan
    chosen = verify.select(verify.distinct(plan), options)
    if options.waves is not None:
        output.require_writable(options.waves)
    asked = {"backend": options.backend, "kernel": options.kernel, "seed": options.seed}
    run = prepared.describe("verify", **asked)
    with optional_directory(request.out, run) as kept:
        verify.build_rtl(config, options, say)
        results, interrupted = _checked(chosen, config, options)
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


def _checked(
    chosen: "Sequence[Distinct]", config: HardwareConfig, options: "CheckOptions"
) -> "tuple[list[Checked], bool]":
    """The checked kernels, and whether an interrupt has kept the others from being checked."""
    from codesign.search.checks import verify

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
