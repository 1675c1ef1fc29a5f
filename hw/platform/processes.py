"""Worker processes that end when their parent does.

Alone, a pool of `concurrent.futures` leaves its processes waiting for work for ever when the process
that made it is killed, and an interrupt from the terminal reaches all of them at once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded by who starts processes
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.context import BaseContext

PRELOADED = "codesign.search.pricing.evaluate"  # by the fork server: what most workers import


def start(
    count: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> "ProcessPoolExecutor":
    """Return a pool of `count` processes that leave interrupts to this one and end with it.

    Each begins with `initializer(*arguments)`. End it with `stop`, or with its own shutdown.
    """
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(count, _context(), _begin, (initializer, arguments))
    with _interrupts_ignored():  # what starts here inherits it, deaf from its first moment on
        pool.submit(int)
    return pool


def stop(pool: "ProcessPoolExecutor") -> None:
    """End the processes of a pool (SIGTERM) in the middle of what they do, and wait for that."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    for process in processes:
        process.terminate()
    pool.shutdown(cancel_futures=True)


@contextmanager
def workers(
    count: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator["ProcessPoolExecutor"]:
    """A pool of `start` for a block, which an exception in the block stops."""
    pool = start(count, initializer, arguments)
    try:
        yield pool
    except BaseException:
        stop(pool)
        raise
    pool.shutdown()


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context() -> "BaseContext":
    """A fork server that has loaded us starts workers fastest; without one, spawn.

    Never a plain fork: numerical libraries may hold threads.
    """
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    started: BaseContext = context
    return started


def _begin(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
