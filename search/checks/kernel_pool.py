"""Kernels on the RTL, in processes: what `codesign verify` spends its time on.

Each machine's RTL is built once, by one worker, while others run kernels of machines that are built.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.platform import processes
from codesign.hw.simulation import simulator
from codesign.hw.simulation.verilator import SimulatorError
from codesign.search.checks import verify
from codesign.search.checks.verify import CheckOptions, Distinct
from codesign.search.terminal.messages import say


@dataclass(frozen=True)
class KernelVerdict:
    """What came of one kernel; `key` names everything that it depends on. A line of the journal."""

    key: str
    hardware: str
    name: str
    shape: str
    instructions: int
    cycles: int  # by the timing model
    rtl_cycles: int | None
    times_differing: int | None
    bytes_differing: int | None
    counts_differing: int | None
    difference: str  # the first, in words; empty where it agrees


@dataclass(frozen=True)
class KernelJob:
    """A kernel to run on a machine."""

    key: str
    kernel: Distinct
    config: HardwareConfig


def run_jobs(
    jobs: Sequence[KernelJob],
    workers: int,
    options: CheckOptions,
    keep: Callable[[KernelJob, KernelVerdict], None],
) -> None:
    """Run kernels in `workers` processes, machine after machine, the longest first.

    Each machine's RTL is built once. Raises SimulatorError when it cannot be, or a worker is lost.
    """
    machines: dict[str, list[KernelJob]] = {}
    for job in sorted(jobs, key=cycles_of, reverse=True):
        machines.setdefault(machine_of(job), []).append(job)
    if workers == 1 or len(jobs) == 1:
        for group in machines.values():
            verify.build_rtl(group[0].config, options, say)
            for job in group:
                keep(job, check_kernel(job, options))
        return
    unbuilt, ready = list(machines.values()), list[KernelJob]()
    with _executor(workers) as pool:
        running: dict[Future[Any], KernelJob | list[KernelJob]] = {}
        while unbuilt or ready or running:
            while len(running) < workers and (ready or unbuilt):
                if ready:
                    job = ready.pop(0)
                    running[pool.submit(check_kernel, job, options)] = job
                else:
                    group = unbuilt.pop(0)
                    running[pool.submit(verify.build_rtl, group[0].config, options, say)] = group
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done = running.pop(future)
                found = future.result()
                if isinstance(done, KernelJob):
                    keep(done, found)
                else:
                    ready += done


def check_kernel(job: KernelJob, options: CheckOptions) -> KernelVerdict:
    """Run one kernel on the RTL; a difference is part of what is returned."""
    check = verify.check(job.kernel, job.config, options).check
    return KernelVerdict(
        key=job.key,
        hardware=job.config.name,
        name=check.name,
        shape=check.shape,
        instructions=check.instructions or 0,
        cycles=check.cycles - check.host_cycles,
        rtl_cycles=check.rtl_cycles,
        times_differing=check.times_differing,
        bytes_differing=check.bytes_differing,
        counts_differing=check.counts_differing,
        difference=check.difference,
    )


def cycles_of(job: KernelJob) -> int:
    step = job.kernel.steps[0]
    return step.cycles - step.host_cycles


def machine_of(job: KernelJob) -> str:
    return str(sorted(simulator.parameters(job.config).items()))


@contextmanager
def _executor(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that end their simulators and remove their files when they are stopped."""
    try:
        with processes.workers(workers, _end_when_terminated) as pool:
            yield pool
    except BrokenProcessPool:
        raise SimulatorError(
            "a worker process died, for want of memory perhaps: the same command goes on, with "
            "fewer --workers if it happens again"
        ) from None


def _end_when_terminated() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
