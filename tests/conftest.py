"""What all tests share: how property tests draw examples, and the fixtures.

Property tests draw the same examples in every run, so that `pytest -n auto` never fails by chance.
With `-m long`, or with a seed (`--hypothesis-seed 7` or `HYPOTHESIS_SEED=7`), they draw others.
The RTL is compiled quickly rather than to run quickly, but for `-m long`.
Golden texts are kept beside the tests and recorded again with `pytest --update-golden`.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import HealthCheck, settings

from codesign.hw.simulation import simulator
from codesign.search.terminal import tables

# How long an example takes is the machine's business: neither a deadline nor a health check.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "fixed", settings.get_profile("random"), derandomize=True, database=None, print_blob=False
)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="record tests/golden anew instead of comparing"
    )


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its options
def pytest_configure(config: pytest.Config) -> None:
    options = config.option
    if options.hypothesis_seed is None:
        options.hypothesis_seed = os.environ.get("HYPOTHESIS_SEED")
    long = "long" in re.sub(r"\bnot\s+long\b", "", options.markexpr)
    if not long:
        simulator.OPTIMIZE = "-O1"
    settings.load_profile("random" if long or options.hypothesis_seed is not None else "fixed")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/<name>, or record it."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: record it with pytest --update-golden"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make standard output pass for a terminal of so many columns."""

    def of(width: int) -> None:
        def columns(stream: TextIO) -> int | None:
            return width if stream is sys.stdout else None

        monkeypatch.setattr(tables, "terminal_width", columns)

    return of


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children that signals end also where pytest runs in a shell's background or under nohup.

    What a process ignores its children ignore from their beginning.
    """
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hang_up)
