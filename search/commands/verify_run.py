"""The front of a search held against the RTL: `codesign verify RUN`.

Every point is compiled again. Kernels of one problem and mapping on one machine are one kernel,
whichever points have them: it runs once (`verify.check`), and what came of it is kept in a journal, so
that an interrupted verification goes on. A point agrees when its row in the front is that of the
compiled network, and its kernels take their cycles on the RTL with no difference.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compiler.plan.lower import Plan, lower
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.limits import RTL_DIM
from codesign.hw.platform.processes import cores
from codesign.hw.simulation import simulator, sources, verilator
from codesign.hw.simulation.agreement import Disagreement
from codesign.hw.simulation.verilator import SimulatorError
from codesign.search.checks import verify
from codesign.search.checks.kernel_pool import (
    KernelJob,
    KernelVerdict,
    cycles_of,
    machine_of,
    run_jobs,
)
from codesign.search.checks.verify import CheckOptions, Distinct
from codesign.search.joint.blocks import graph
from codesign.search.joint.finished_run import FinishedRun, open_run
from codesign.search.joint.front import thinned
from codesign.search.joint.objectives import OBJECTIVES
from codesign.search.joint.price_store import code_digest
from codesign.search.joint.results import front_point
from codesign.search.joint.search_records import REPORT_FILE, VERIFICATION, FrontPoint, PointCheck
from codesign.search.pricing.evaluate import Result, result
from codesign.search.runs import output
from codesign.search.runs.output import RunDirectory
from codesign.search.space.quality import Quality
from codesign.search.terminal.messages import say
from codesign.search.terminal.progress import stages

JOURNAL = f"{VERIFICATION}.jsonl"


@dataclass(frozen=True)
class Compiled:
    """A point with its kernels on the accelerator, and what does not match its row in the front."""

    point: FrontPoint
    jobs: tuple[KernelJob, ...]
    plan: Plan
    difference: str


@dataclass(frozen=True)
class VerifyRequest:
    """The options of `codesign verify`."""

    run: Path
    points: str = "all"
    quality: Path | None = None
    seed: int = 0
    workers: int | None = None
    as_json: bool = False


def run_verify(request: VerifyRequest) -> None:
    """Verify points of a run's front, keep and print what came of it.

    Raises Disagreement when a point differs. Its KeyboardInterrupt says what was kept.
    """
    run = open_run(request.run)
    points = chosen_points(run, request.points)
    unknown = request.quality is None and not run.judged_by["is_proxy"]
    quality = None if unknown else run.quality(request.quality)
    verilator.find_verilator()  # before anything is compiled
    workers = cores() if request.workers is None else request.workers
    with output.run_directory(run.path, run.run) as directory:
        compiled = [compile_point(run, point, request.seed, quality) for point in points]
        checks = _checked(compiled, directory, workers, CheckOptions("rtl", seed=request.seed))
        results = [judge(one, checks) for one in compiled]
        directory.write_records(VERIFICATION, results)
        _rewrite_report(directory)
        agree = sum(one.verified for one in results)
        directory.log(f"verified {agree} of {len(results)} points on the RTL")
    ran = {job.key: checks[job.key] for one in compiled for job in one.jobs}
    if request.as_json:
        summary = _summary(results, list(ran.values()))
        output.print_json({"run": str(run.path), "summary": summary, "points": results,
                           "kernels": list(ran.values())})  # fmt: skip
    else:
        _print(results, list(ran.values()))
    require_agreement(results)


def chosen_points(run: FinishedRun, text: str) -> list[FrontPoint]:
    """The points that `text` names: all, N of them that cover most, or numbers with commas.

    Raises CodesignError naming what is wrong.
    """
    front = list(run.front)
    if text == "all":
        return front
    parts = [part.strip() for part in text.split(",")]
    numbers = [part for part in parts if part]
    if not numbers or not all(part.isdecimal() for part in numbers):
        raise CodesignError(f"--points {text!r}: give all, a count, or numbers as in 1,5,9")
    if len(parts) == 1:
        most = int(numbers[0])
        if most < 1:
            raise CodesignError("--points 0: give a count of 1 or more")
        minimized = [OBJECTIVES[name] for name in run.settings.minimize]
        objectives = np.array([[objective.of(p) for objective in minimized] for p in front])
        return [front[k] for k in thinned(objectives, most)]
    by_number = {point.point: point for point in front}
    wanted = [int(part) for part in numbers]
    for number in wanted:
        if number not in by_number:
            raise CodesignError(
                f"--points: the front of {run.path} has no point {number}: "
                f"they are {min(by_number)} to {max(by_number)}"
            )
    return [by_number[number] for number in dict.fromkeys(wanted)]


# -- Compiling -------------------------------------------------------------------------------------


def compile_point(
    run: FinishedRun, point: FrontPoint, seed: int, quality: Quality | None
) -> Compiled:
    """Compile one point and hold it against its row in the front.

    Without `quality` its perplexity is taken as it stands.
    """
    config = run.machine(point)
    if config.dim not in RTL_DIM:
        raise SimulatorError(
            f"point {point.point} has a mesh of {config.dim} but the RTL goes up to "
            f"{RTL_DIM.most}: choose others with --points"
        )
    table = cost_table(config, run.tables)
    plan = lower(graph(run.space.transformer, run.shape(point)), config, run.objective, table)
    difference = _difference(run, point, result(plan, table, run.area_tables), quality)
    jobs = []
    for kernel in verify.distinct(plan):
        if kernel.problem is not None:
            key = _key(kernel, config, seed)
            # Operands depend on the kernel alone, not on its place in a network.
            jobs.append(KernelJob(key, replace(kernel, index=int(key[:8], 16)), config))
    return Compiled(point, tuple(jobs), plan, difference)


def _difference(
    run: FinishedRun, point: FrontPoint, priced: Result, quality: Quality | None
) -> str:
    """The first column of a point that is not the compiled network's, in words; empty for none."""
    perplexity = point.perplexity
    if quality is not None:
        perplexity = float(quality.perplexity(run.space, run.genes(point)[None])[0])
    is_proxy = bool(run.judged_by["is_proxy"])
    found = front_point(run.space, run.shape(point), point.point, perplexity, is_proxy, priced)
    for column, listed in asdict(point).items():
        value = getattr(found, column)
        if listed is None:  # of an objective that is younger than the run
            continue
        # Libraries of mathematics may differ in the last bit of a perplexity; costs may not.
        close = column == "perplexity" and math.isclose(listed, value, rel_tol=1e-9)
        if listed != value and not close:
            return f"the front has {_shown(listed)} in {column} but the compiled network {_shown(value)}"
    return ""


def _shown(value: Any) -> str:
    return f"{value:,}" if type(value) in (int, float) else str(value)


def _key(kernel: Distinct, config: HardwareConfig, seed: int) -> str:
    """The digest of a kernel, its machine, the operands' seed and the code on both sides."""
    digest = hashlib.blake2b(code_digest() + sources.sources_digest(), digest_size=16)
    parameters = sorted(simulator.parameters(config).items())
    digest.update(f"{parameters} {kernel.problem} {kernel.steps[0].mapping} {seed}".encode())
    return digest.hexdigest()


def judge(compiled: Compiled, checks: Mapping[str, KernelVerdict]) -> PointCheck:
    """Add up the kernels of a point."""
    point, plan = compiled.point, compiled.plan
    host = sum(step.host_cycles for step in plan.steps)
    cycles: int | None = host
    sums = dict.fromkeys(
        ("instructions", "times_differing", "bytes_differing", "counts_differing"), 0
    )
    difference = compiled.difference
    for job in compiled.jobs:
        check, count = checks[job.key], len(job.kernel.steps)
        if check.rtl_cycles is None or cycles is None:
            cycles = None
        else:
            cycles += count * check.rtl_cycles
        for name in sums:
            sums[name] += count * (getattr(check, name) or 0)
        if check.difference and not difference:
            difference = f"{job.kernel.names[0]}: {check.difference}"
    if cycles != point.cycles and not difference:
        difference = f"the front has {point.cycles:,} cycles but the RTL {cycles:,}"
    return PointCheck(
        point=point.point,
        model=point.model,
        hardware=point.hardware,
        kernels=sum(len(job.kernel.steps) for job in compiled.jobs),
        distinct_kernels=len(compiled.jobs),
        cycles=point.cycles,
        rtl_cycles=cycles,
        host_cycles=host,
        verified=not difference,
        difference=difference,
        **sums,
    )


def require_agreement(results: Sequence[PointCheck]) -> None:
    """Raise Disagreement for the first point that differs, if one does."""
    wrong = [one for one in results if not one.verified]
    if wrong:
        raise Disagreement(
            f"{len(wrong)} of {len(results)} points differ on the RTL, the first is point "
            f"{wrong[0].point}: {wrong[0].difference}"
        )


# -- Running -----------------------------------------------------------------------------------------


def _checked(
    compiled: Sequence[Compiled], directory: RunDirectory, workers: int, options: CheckOptions
) -> dict[str, KernelVerdict]:
    """The checks of all kernels: from the journal, and the others as they are made."""
    kept = directory.journal(KernelVerdict, "their kernels run again", JOURNAL)
    checks = {check.key: check for check in kept}
    jobs = {job.key: job for one in compiled for job in one.jobs}
    todo = [job for key, job in jobs.items() if key not in checks]
    total = sum(cycles_of(job) for job in jobs.values())
    say(
        f"{len(compiled)} points, {len(jobs)} distinct kernels on "
        f"{len({machine_of(job) for job in jobs.values()})} machines, {total / 1e6:,.2f} M cycles"
        + (f"; {len(jobs) - len(todo)} kernels are in {JOURNAL}" if len(todo) < len(jobs) else "")
    )
    ahead, done_cycles = sum(map(cycles_of, todo)), 0
    with stages() as show:

        def keep(job: KernelJob, check: KernelVerdict) -> None:
            nonlocal done_cycles
            directory.append(check, JOURNAL)
            checks[job.key] = check
            done_cycles += cycles_of(job)
            show("RTL cycles", done_cycles, ahead)

        try:
            run_jobs(todo, workers, options, keep)
        except KeyboardInterrupt:
            done = sum(key in checks for key in jobs)
            raise KeyboardInterrupt(
                f"{done} of {len(jobs)} kernels are kept in {directory.path / JOURNAL}: the same "
                "command goes on"
            ) from None
    return checks


# -- What is shown -------------------------------------------------------------------------------------


def _rewrite_report(directory: RunDirectory) -> None:
    """Say in the run's report, where there is one, what was verified."""
    from codesign.search.report.pages import report_html

    if (directory.path / REPORT_FILE).exists():
        directory.write_text(REPORT_FILE, report_html(directory.path))


def _summary(results: Sequence[PointCheck], checks: Sequence[KernelVerdict]) -> dict[str, int]:
    return {
        "points": len(results),
        "verified": sum(one.verified for one in results),
        "distinct_kernels": len(checks),
        "instructions": sum(check.instructions for check in checks),
        "rtl_cycles": sum(check.rtl_cycles or 0 for check in checks),
        "kernels_differing": sum(bool(check.difference) for check in checks),
    }


def _print(results: Sequence[PointCheck], checks: Sequence[KernelVerdict]) -> None:
    from codesign.search.terminal import tables

    def number(value: int | None) -> str:
        return "" if value is None else f"{value:,}"

    console = tables.console()
    headers = [("", ""), ("agrees", ""), ("Transformer", ""), ("machine", ""), ("kernels", "all"), ("kernels", "distinct"),
               ("cycles", "search"), ("cycles", "RTL"), ("times", "differ"), ("bytes", "differ"),
               ("counts", "differ")]  # fmt: skip
    rows = [
        [str(one.point), "yes" if one.verified else "NO", one.model, one.hardware, number(one.kernels), number(one.distinct_kernels),
         number(one.cycles), number(one.rtl_cycles), number(one.times_differing),
         number(one.bytes_differing), number(one.counts_differing)]
        for one in results
    ]  # fmt: skip
    console.print(tables.plain_table(headers, rows, "The front on the RTL", console.width))
    total = _summary(results, checks)
    agrees = "agrees" if total["verified"] == total["points"] else "DIFFERS"
    console.print(
        f"RTL {agrees}: {total['verified']} of {total['points']} points; "
        f"{total['distinct_kernels']} distinct kernels, {total['instructions']:,} instructions, "
        f"{total['rtl_cycles'] / 1e6:,.2f} M cycles, {total['kernels_differing']} differ",
        highlight=False,
    )
