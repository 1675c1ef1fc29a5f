"""The Python interface: processes of a caller's program, which is read again by each of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import SupportsIndex

from codesign.hw.errors import CodesignError
from codesign.search.api.arguments import whole


def worker_count(workers: SupportsIndex) -> int:
    """How many processes are asked for. Raises ArgumentError for less than one.

    A worker reads the script that starts it first. Where that leads it here it ends without a word, and
    `lost_workers` says why: Python would print a traceback for each, and start none either.
    """
    count = whole("workers", workers, least=1)
    if count > 1:
        import multiprocessing

        if getattr(multiprocessing.current_process(), "_inheriting", False):
            sys.exit(1)
    return count


@contextmanager
def lost_workers() -> Iterator[None]:
    """Raises CodesignError for processes that ended before their work."""
    try:
        yield
    except Exception as error:
        from concurrent.futures.process import BrokenProcessPool

        from codesign.search.joint.pricing_pool import SchedulerError

        if not isinstance(error, BrokenProcessPool | SchedulerError):
            raise
        raise CodesignError(
            "worker processes ended before their work: a script that starts them has what it does under "
            '`if __name__ == "__main__":`, as each of them reads the script first, or workers=1; where '
            "that is so they want memory, and fewer may do"
        ) from None
