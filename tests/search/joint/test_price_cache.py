"""The cache of prices: nothing is lost when runs merge or die, old code is forgotten, damage heals."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.search.joint import price_cache, price_store
from codesign.search.joint.price_cache import COLUMNS, KEY_BYTES, MOST_SEGMENTS, VERSIONS
from codesign.search.joint.price_store import PriceStore, code_digest

CODE = code_digest().hex()


def _key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def _fill(store: PriceStore, numbers: Iterable[int]) -> None:
    """Prices that say whose they are, each saved by itself."""
    for number in numbers:
        store.add([_key(number)], np.full((1, COLUMNS), number, dtype=np.int64))
        store.save()


def _numbers(folder: Path) -> set[int]:
    """Whose prices a new run finds, all of them right."""
    store = PriceStore(folder, pytest.fail)
    found = {int.from_bytes(key, "big") for key in store.keys}
    for number in found:
        np.testing.assert_array_equal(store.get([_key(number)]), np.full((1, COLUMNS), number))
    return found


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / CODE).glob("*.prices"))


def test_a_merge_keeps_what_others_have_written_since(tmp_path: Path) -> None:
    early = PriceStore(tmp_path, pytest.fail)
    _fill(PriceStore(tmp_path, pytest.fail), range(MOST_SEGMENTS))
    assert len(_segments(tmp_path)) == MOST_SEGMENTS
    _fill(early, [100])
    assert len(_segments(tmp_path)) == 1  # they were merged
    assert _numbers(tmp_path) == {*range(MOST_SEGMENTS), 100}


WORKER = f"""
import sys, pathlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_price_cache import _fill
from codesign.search.joint.price_store import PriceStore

def warn(message):
    raise SystemExit(message)

store = PriceStore(pathlib.Path(sys.argv[1]), warn)
for number in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
    _fill(store, [number])
    print(number, flush=True)
"""


def test_runs_that_write_and_merge_at_once_lose_nothing_also_when_one_is_killed(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "prices")]
    starts = (0, 1000, 2000)
    runs = [
        subprocess.Popen([*command, str(start), count], stdout=subprocess.PIPE, text=True)
        for start, count in zip(starts, ("60", "60", "999"), strict=True)
    ]
    victim = runs[-1]
    assert victim.stdout is not None
    saved = [int(victim.stdout.readline()) for _ in range(40)]
    victim.kill()
    for run in runs:
        saved += map(int, run.communicate(timeout=120)[0].split())
    assert [run.returncode for run in runs[:-1]] == [0, 0]
    assert len(saved) >= 160 and set(saved) <= _numbers(tmp_path / "prices")


def test_old_code_is_forgotten_and_the_latest_two_are_kept(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.npz").write_bytes(b"of a version that kept all in one folder")
    (tmp_path / "mine.npz").write_bytes(b"no name of ours")
    for age in range(4):
        old = tmp_path / f"{age:032x}"
        old.mkdir()
        (old / "1.prices").write_bytes(b"")
        os.utime(old, (time.time() - 100 * (age + 1),) * 2)
    _fill(PriceStore(tmp_path, pytest.fail), [1])
    kept = {path.name for path in tmp_path.iterdir()}
    assert VERSIONS == 2 and kept == {CODE, f"{0:032x}", "mine.npz"}


def test_runs_may_forget_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run has removed between two looks at it is no error."""
    for number in range(4):
        (tmp_path / f"{number:032x}").mkdir()
    seen = Path.is_dir

    def gone(path: Path, *arguments: Any, **options: Any) -> bool:
        found = seen(path, *arguments, **options)
        if path.name == f"{3:032x}" and found:
            path.rmdir()
        return found

    store = PriceStore(tmp_path, pytest.fail)
    monkeypatch.setattr(Path, "is_dir", gone)
    _fill(store, [1])
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == VERSIONS


def test_reading_is_using(tmp_path: Path) -> None:
    """The state of the code that was read last is the last to be forgotten."""
    _fill(PriceStore(tmp_path, pytest.fail), [1])
    os.utime(tmp_path / CODE, (1, 1))
    PriceStore(tmp_path, pytest.fail)
    assert (tmp_path / CODE).stat().st_mtime > 1000


def test_the_newest_prices_are_kept_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_cache, "MOST_ENTRIES", 20)
    _fill(PriceStore(tmp_path, pytest.fail), range(100))
    found = _numbers(tmp_path)
    assert len(found) < 20 + MOST_SEGMENTS
    assert {*range(80, 100)} <= found


def test_what_a_killed_run_left_half_written_is_removed_in_time(tmp_path: Path) -> None:
    _fill(PriceStore(tmp_path, pytest.fail), [1])
    new, old = (tmp_path / CODE / f".{n:016x}.prices.17" for n in range(2))
    for path in (new, old):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    _fill(PriceStore(tmp_path, pytest.fail), [2])
    assert new.exists() and not old.exists()
    assert _numbers(tmp_path) == {1, 2}


@pytest.mark.parametrize("place", [0, 15, 16, 40, -1, "cut", "longer", "empty", "other"])
def test_damage_is_said_in_one_line_and_heals(tmp_path: Path, place: int | str) -> None:
    _fill(PriceStore(tmp_path, pytest.fail), [1])
    (segment,) = _segments(tmp_path)
    content = bytearray(segment.read_bytes())
    if isinstance(place, int):
        content[place] ^= 0x10
    damaged: dict[str, bytes] = {
        "cut": bytes(content[:-1]),
        "longer": bytes(content) + b"\0",
        "empty": b"",
        "other": b"PK" * 300,
    }
    segment.write_bytes(damaged.get(str(place), bytes(content)))
    said: list[str] = []
    assert not len(PriceStore(tmp_path, said.append))
    assert len(said) == 1 and f"{segment} is damaged" in said[0] and "\n" not in said[0]
    assert not _segments(tmp_path)
    _fill(PriceStore(tmp_path, pytest.fail), [1])
    assert _numbers(tmp_path) == {1}


@pytest.mark.parametrize(
    "changed",
    [
        "compiler/graph.py",
        "compiler/kernels/mapspace.py",
        "hw/machine/events.py",
        "hw/views/timing.py",
        "hw/costs/energy.py",
        "search/joint/pricing_pool.py",
    ],
)
def test_a_change_of_the_code_that_prices_changes_its_name(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layer in ("compiler", "hw", "search"):
        shutil.copytree(
            str(package_files(f"codesign.{layer}")),
            tmp_path / layer,
            ignore=lambda folder, names: [
                n for n in names if not n.endswith(".py") and Path(folder, n).is_file()
            ],
        )
    monkeypatch.setattr(
        price_store, "package_files", lambda name: tmp_path.joinpath(*name.split(".")[1:])
    )
    assert code_digest.__wrapped__().hex() == CODE
    with (tmp_path / changed).open("a") as file:
        file.write("# another\n")
    assert code_digest.__wrapped__().hex() != CODE
