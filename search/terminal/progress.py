"""How far long work is, on standard error: a bar with an estimate on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from codesign.search.terminal import tables
from codesign.search.terminal.messages import say

SAID_SECONDS = 15.0  # between two lines

Show = Callable[
    ..., None
]  # (what, done, total, note="", steady=True): `what` is counted, `note` is beside it


@contextmanager
def stages() -> Iterator[Show]:
    """What to call with how much of something is done; something else to count begins anew.

    Where the pace is not `steady`, lines give no estimate.
    """
    if tables.terminal_width(sys.stderr) is None:
        yield _lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=tables.console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        counted = ""

        def show(what: str, done: int, total: int, note: str = "", steady: bool = True) -> None:
            nonlocal counted
            if what != counted:
                counted = what
                bar.reset(task)
            words = f"{what}, {note}" if note else what
            bar.update(task, description=words, completed=done, total=total)

        yield show


@contextmanager
def progress(total: int, done: int, what: str = "machines") -> Iterator[Callable[[], None]]:
    """What to call after each of `total` things, of which some are done; silent where there is no wait."""
    if total - done <= 1:
        yield lambda: None
        return
    with stages() as show:
        show(what, done, total)

        def advance() -> None:
            nonlocal done
            done += 1
            show(what, done, total)

        yield advance


def _lines() -> Show:
    began: dict[str, tuple[float, int]] = {}
    said = time.monotonic()

    def show(what: str, done: int, total: int, note: str = "", steady: bool = True) -> None:
        nonlocal said
        now = time.monotonic()
        start, first = began.setdefault(what, (now, done))
        if now - said < SAID_SECONDS:
            return
        said = now
        known = steady and done > first
        rest = (now - start) / (done - first) * (total - done) if known else None
        left = "" if rest is None else f", about {rest / 60:.1f} minutes left"
        say(f"{what}: {done:,} of {total:,}{f', {note}' if note else ''}{left}")

    return show
