"""Prices of kernel groups, kept: in memory, and in the user's cache from one search to the next.

An entry is named by the digest of all it depends on: the group, the machine, the costs, and the code
that maps and times. The cache is a folder of segments, each written whole and with a checksum; one
that is damaged is dropped with a warning and its prices are computed again.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.compiler.pricing import GroupShape
from codesign.hw import fast_timing, files
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import CostTable
from codesign.hw.events import EVENTS

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint8]

KEY_BYTES = 16
COLUMNS = 1 + len(EVENTS)  # cycles, events
MOST_SEGMENTS = 8  # then they are merged into one


class PriceStore:
    """Prices by key: int64 [COLUMNS] each, with cycles below 0 where a group fits nowhere.

    `folder` None keeps them in memory alone. `warn` is told of what cannot be read or written.
    """

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder, warn
        self.place: dict[bytes, int] = {}
        self.rows: Ints = np.empty((1024, COLUMNS), dtype=np.int64)
        self.keys: list[bytes] = []
        self.saved = 0  # entries that the folder has
        if folder is not None:
            self._load(folder)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, keys: Sequence[bytes], rows: Ints) -> None:
        """Keep new prices; those that are known stay."""
        for key, row in zip(keys, rows, strict=True):
            if key in self.place:
                continue
            at = len(self.keys)
            if at == len(self.rows):
                self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
            self.place[key] = at
            self.keys.append(key)
            self.rows[at] = row

    def get(self, keys: Sequence[bytes]) -> Ints:
        """Prices [n, COLUMNS] of keys that are all known."""
        return self.rows[[self.place[key] for key in keys]]

    def save(self) -> None:
        """Write what the folder has not; a folder that cannot be written is only warned of."""
        if self.folder is None or self.saved == len(self.keys):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            segments = sorted(self.folder.glob("*.npz"))
            merge = len(segments) >= MOST_SEGMENTS
            self._write(0 if merge else self.saved)
            self.saved = len(self.keys)
            for segment in segments if merge else ():
                segment.unlink(missing_ok=True)
        except OSError as error:
            self.warn(f"prices are not cached: {self.folder}: {error.strerror}")
            self.folder = None

    def _write(self, start: int) -> None:
        assert self.folder is not None
        keys = np.frombuffer(b"".join(self.keys[start:]), np.uint8).reshape(-1, KEY_BYTES)
        rows = self.rows[start : len(self.keys)]
        buffer = io.BytesIO()
        np.savez(buffer, keys=keys, rows=rows, checksum=_checksum(keys, rows))
        name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
        files.write_atomic(self.folder / f"{name}.npz", buffer.getvalue())

    def _load(self, folder: Path) -> None:
        for segment in sorted(folder.glob("*.npz")):
            try:
                with np.load(io.BytesIO(segment.read_bytes()), allow_pickle=False) as stored:
                    keys, rows, checksum = (stored[n] for n in ("keys", "rows", "checksum"))
                if rows.shape != (len(keys), COLUMNS) or keys.shape[1:] != (KEY_BYTES,):
                    raise ValueError("of another form")
                if not np.array_equal(checksum, _checksum(keys, rows)):
                    raise ValueError("its checksum differs")
            except FileNotFoundError:
                continue  # another search has merged it
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                reason = " ".join(str(error).split())
                self.warn(f"{segment} is damaged ({reason}): its prices are computed again")
                _discard(segment)
                continue
            self.add([key.tobytes() for key in keys], rows)
        self.saved = len(self.keys)


def cache_folder() -> Path:
    """Where prices are kept: prices in $CODESIGN_CACHE, or codesign/prices in the user's cache."""
    own = os.environ.get("CODESIGN_CACHE")
    if own:
        return Path(own).absolute() / "prices"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "codesign" / "prices"


def machine_digest(config: HardwareConfig, objective: str, table: CostTable) -> bytes:
    """Everything but the group that a price depends on."""
    digest = hashlib.blake2b(code_digest(), digest_size=KEY_BYTES)
    digest.update(f"{asdict(replace(config, name=''))} {objective} {table.dim}".encode())
    for costs in (table.event_j, table.pe_idle_j, table.leakage_w, table.dram_background_w):
        digest.update(np.ascontiguousarray(costs).tobytes())
    return digest.digest()


@cache
def shape_digest(shape: GroupShape) -> bytes:
    """The digest of a group: all its alternatives with their problems."""
    return hashlib.blake2b(repr(shape.alternatives).encode(), digest_size=KEY_BYTES).digest()


def price_key(machine: bytes, shape: GroupShape) -> bytes:
    """The name of a price."""
    return hashlib.blake2b(machine + shape_digest(shape), digest_size=KEY_BYTES).digest()


@cache
def code_digest() -> bytes:
    """The sources of the machine and the compiler, and the compiled evaluator."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for package in ("codesign.compiler", "codesign.hw"):
        found = (f for f in package_files(package).iterdir() if f.name.endswith(".py"))
        for file in sorted(found, key=lambda f: f.name):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(fast_timing.library_path().read_bytes())
    return digest.digest()


def _checksum(keys: Keys, rows: Ints) -> npt.NDArray[np.uint8]:
    digest = hashlib.blake2b(keys.tobytes() + rows.tobytes(), digest_size=KEY_BYTES).digest()
    return np.frombuffer(digest, np.uint8)


def _discard(segment: Path) -> None:
    try:
        segment.unlink(missing_ok=True)
    except OSError:
        return
