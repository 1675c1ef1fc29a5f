"""Prices of kernel groups, kept: in memory, and in the user's cache from one search to the next.

An entry is named by the digest of all it depends on: the group, the machine, the costs, and the code
that maps and times. `price_cache` is the folder; what is damaged there is dropped with a warning and
computed again.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from codesign.compiler.plan.pricing import GroupShape
from codesign.hw.costs.energy import CostTable
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.views import fast_timing
from codesign.search.joint.price_cache import COLUMNS, KEY_BYTES, Ints, PriceCache

# What prices are computed by: packages with all below them, or some modules of one.
_PRICING_CODE: dict[str, tuple[str, ...]] = {
    "codesign.compiler": (),
    "codesign.hw": (),
    "codesign.search.joint": ("price_cache.py", "price_store.py", "pricing_pool.py"),
}


class PriceStore:
    """Prices by key: int64 [COLUMNS] each, with cycles below 0 where a group fits nowhere.

    `folder` None keeps them in memory alone. `warn` is told of what cannot be read or written.
    """

    def __init__(self, folder: Path | None, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.place: dict[bytes, int] = {}
        self.rows: Ints = np.empty((1024, COLUMNS), dtype=np.int64)
        self.keys: list[bytes] = []
        self.saved = 0  # entries that the folder has
        self.cache: PriceCache | None = None
        if folder is not None:
            self.cache = PriceCache(folder, code_digest().hex(), warn)
            self._read(self.cache)
            self.saved = len(self.keys)

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
        cache = self.cache
        if cache is None or self.saved == len(self.keys):
            return
        try:
            if cache.crowded:
                self._read(cache)
                cache.merge(self.keys, self.rows[: len(self.keys)])
            else:
                cache.write(self.keys[self.saved :], self.rows[self.saved : len(self.keys)])
            self.saved = len(self.keys)
            cache.prune()
        except OSError as error:
            self.warn(f"prices are not cached: {cache.folder}: {error.strerror}")
            self.cache = None

    def _read(self, cache: PriceCache) -> None:
        for keys, rows in cache.unread():
            self.add(keys, rows)


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
    """The sources that prices are computed by, and the compiled evaluator."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for package, chosen in _PRICING_CODE.items():
        for name, file in _modules(package_files(package)):
            if not chosen or name in chosen:
                digest.update(f"{package}/{name}".encode() + b"\0" + file.read_bytes())
    digest.update(fast_timing.library_path().read_bytes())
    return digest.digest()


def _modules(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    """The Python files of a package and of those in it, by their paths, in order."""
    for entry in sorted(folder.iterdir(), key=lambda f: f.name):
        if entry.is_dir():
            yield from _modules(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield above + entry.name, entry
