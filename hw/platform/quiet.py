"""What native libraries write to standard error by themselves, kept from a user's terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator

_STDERR = 2  # the descriptor, whatever sys.stderr is


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send descriptor 2 nowhere for the block: what went wrong in it comes as an exception, too."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # closed: there is nothing to keep quiet
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
