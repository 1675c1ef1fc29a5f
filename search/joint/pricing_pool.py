"""Who maps and prices kernel groups: this process, processes of ours, or a Dask cluster.

Prices do not depend on who computes them or when, so results are the same to the byte with any
number of workers, and a worker that is lost costs its time alone.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.compiler.plan.pricing import NOWHERE, GroupShape, PriceTables
from codesign.hw.costs.energy import EnergyOverrides, cost_table
from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENTS
from codesign.hw.platform import processes
from codesign.hw.platform.installation import install_command
from codesign.hw.views.fast_timing import machine_words

Ints = npt.NDArray[np.int64]

LOST_WORKERS = 3  # in a row, before we give up
SMALL = 12  # groups that are not worth sending away
ADDRESS = r"((tcp|tls|ucx|wss?)://)?([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):\d{1,5}"  # of a scheduler


class SchedulerError(CodesignError):
    """The workers asked for cannot be had."""


@dataclass(frozen=True)
class PriceTask:
    """Groups to price on one machine."""

    config: HardwareConfig
    objective: str
    tables: str | EnergyOverrides
    shapes: tuple[GroupShape, ...]


class Pool(Protocol):
    """Prices tasks."""

    def price(self, tasks: Sequence[PriceTask]) -> Iterator[tuple[int, Ints]]:
        """Yield the place of each task with its prices [shapes, 1 + len(EVENTS)], in any order."""


def price(task: PriceTask) -> Ints:
    """Prices [shapes, 1 + len(EVENTS)]: cycles and events; NOWHERE where a group fits nowhere."""
    tables = _tables(task.config, task.objective, task.tables)
    rows = np.zeros((len(task.shapes), 1 + len(EVENTS)), dtype=np.int64)
    for row, shape in zip(rows, task.shapes, strict=True):
        entry = tables.cheapest(shape)
        if entry is None:
            row[0] = NOWHERE
        else:
            row[0], row[1:] = sum(entry.cycles), np.sum(entry.events, axis=0)
    return rows


@lru_cache(maxsize=4096)
def _tables(config: HardwareConfig, objective: str, tables: str | EnergyOverrides) -> PriceTables:
    return PriceTables(config, objective, cost_table(config, tables))


class LocalPool:
    """This process alone."""

    def price(self, tasks: Sequence[PriceTask]) -> Iterator[tuple[int, Ints]]:
        """Price one task after the other."""
        for place, task in enumerate(tasks):
            yield place, price(task)


class ProcessPool:
    """Processes on this machine, started on first use; lost ones are replaced.

    Machines that move and compute alike share exact timings: where the load allows, they go to the
    process that had them before.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executors: list[ProcessPoolExecutor] = []  # of one process each
        self._homes: dict[bytes, int] = {}

    def price(self, tasks: Sequence[PriceTask]) -> Iterator[tuple[int, Ints]]:
        """Price tasks on all workers, a few groups here."""
        if sum(len(task.shapes) for task in tasks) <= SMALL:
            yield from LocalPool().price(tasks)
            return
        todo = dict(enumerate(tasks))
        lost = 0
        while todo:
            try:
                for place, rows in self._round(dict(todo)):
                    del todo[place]
                    lost = 0
                    yield place, rows
            except BrokenProcessPool:
                self.close()
                lost += 1
                if lost == LOST_WORKERS:
                    raise SchedulerError(
                        "worker processes keep dying, for want of memory perhaps: "
                        "choose fewer --workers"
                    ) from None

    def _round(self, todo: dict[int, PriceTask]) -> Iterator[tuple[int, Ints]]:
        homes = self._assigned(todo)
        if not self.executors:
            self.executors = [processes.start(1) for _ in range(self.workers)]
        waiting: dict[Future[Ints], int] = {
            self.executors[homes[place]].submit(price, task): place for place, task in todo.items()
        }
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()

    def _assigned(self, todo: dict[int, PriceTask]) -> dict[int, int]:
        """The worker of each task: its machine's home, or the idlest where that has its share."""
        load = [0] * self.workers
        share = 1.1 * sum(len(task.shapes) for task in todo.values()) / self.workers
        found = {}
        for place, task in todo.items():
            family = machine_words(task.config).tobytes()
            worker = self._homes.setdefault(family, load.index(min(load)))
            if load[worker] + len(task.shapes) > max(share, len(task.shapes)):
                worker = load.index(min(load))
            load[worker] += len(task.shapes)
            found[place] = worker
        return found

    def close(self) -> None:
        """Stop the workers."""
        executors, self.executors = self.executors, []
        for executor in executors:
            processes.stop(executor)


class DaskPool:
    """The workers of a Dask scheduler."""

    WAIT_S = 5.0  # for its answer

    def __init__(self, address: str) -> None:
        if not re.fullmatch(ADDRESS, address):
            raise SchedulerError(
                f"--dask {address!r} is no address: write tcp://HOST:PORT, as the scheduler prints it"
            )
        import asyncio  # slow to load, with all of ssl

        try:
            from distributed import Client
            from distributed.comm import connect
        except ImportError as error:
            raise SchedulerError(f"--dask needs Dask: {install_command('dask')}") from error

        async def knock() -> None:
            comm = await asyncio.wait_for(connect(address, timeout=self.WAIT_S), self.WAIT_S)
            await comm.close()

        try:
            asyncio.run(knock())  # a Client that nobody answers waits, and complains when dropped
            self.client: Any = Client(address, timeout=self.WAIT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise SchedulerError(
                f"no Dask scheduler answers at {address}: start one (dask scheduler) or drop --dask"
            ) from error

    def price(self, tasks: Sequence[PriceTask]) -> Iterator[tuple[int, Ints]]:
        """Price tasks on the cluster; the scheduler repeats those of lost workers."""
        from distributed import KilledWorker, as_completed

        try:
            futures = self.client.map(price, tasks, pure=False, retries=LOST_WORKERS)
            places = {future.key: place for place, future in enumerate(futures)}
            for future in as_completed(futures, loop=self.client.loop):
                yield places[future.key], future.result()
        except KilledWorker as error:
            raise SchedulerError(
                "the workers of the Dask cluster keep dying, for want of memory perhaps: "
                "give them more and --resume"
            ) from error
        except (OSError, TimeoutError, CancelledError) as error:
            raise SchedulerError(
                "the Dask scheduler is gone: start it again, and add --resume"
            ) from error

    def close(self) -> None:
        """Leave the cluster."""
        self.client.close()


@contextmanager
def pool_of(workers: int, dask: str | None) -> Iterator[Pool]:
    """The pool that the command line asks for."""
    if dask is None and workers <= 1:
        yield LocalPool()
        return
    pool = ProcessPool(workers) if dask is None else DaskPool(dask)
    try:
        yield pool
    finally:
        pool.close()
