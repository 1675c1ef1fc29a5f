"""SRAM: energy, leakage, area and cycle time of banked memories, from a shipped CACTI 7 grid.

Each bank is its own macro of size / banks bytes, with one read and one write port; CACTI's own
banking is not used, because its H-tree inflates wide rows. A memory of more bytes or
wider rows never costs less; `levelled` sees to it. Between grid points values are interpolated in
log-log space and say so. `energy.py` and `area.py` stand on this module.
"""

import csv
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import TableError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.memories import Memory, present
from codesign.hw.sizes import format_size

Range = tuple[float, float, float]  # low, nominal, high
Ports = Literal["1R1W", "1RW"]

MAX_ROW_BITS = 1024  # wider rows are several macros side by side
_GRIDS: Mapping[Ports, str] = {"1R1W": "lstp_1r1w", "1RW": "lstp_1rw"}
_OPTIMISERS = ("lstp_min_energy_1rw", "lstp_min_delay_1rw", "lstp_min_area_1rw")
_FLAVOURS = ("lop_1rw", "hp_1rw")
_OPTIMISER_NODE_NM = 22  # the optimiser's objective was swept at this node only
_COLUMNS = ("read_pj", "write_pj", "leakage_mw", "area_mm2", "cycle_ns")
_READ, _WRITE, _, _AREA, _CYCLE = range(len(_COLUMNS))
_LEVELLED = (_READ, _WRITE, _AREA)  # costs that never fall with size or row width

_Point = tuple[float, ...]  # values of _COLUMNS
_Grid = dict[int, dict[float, _Point]]  # row_bits -> size_kb -> values


@dataclass(frozen=True)
class Sram:
    """One memory of several banks; an access reads or writes one whole row of one bank.

    `exactness` says where the numbers lie: "grid" (CACTI's own digits), "levelled" (see
    `levelled`), "interpolated", "composed" (several macros to a bank) or "clamped" (smaller than
    the smallest macro, priced as that one).
    """

    name: str
    banks: int
    bank_bytes: int
    row_bits: int
    read_j: Range
    write_j: Range
    leakage_w: Range  # all banks
    area_mm2: Range  # all banks
    cycle_ns: float  # random cycle of a macro: the shortest clock period it allows
    exactness: str


def added(first: Range, second: Range) -> Range:
    """Return the sum of two costs."""
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def read_csv(name: str) -> list[dict[str, str]]:
    """Return the rows of a shipped table as dicts; lines that begin with # are its provenance."""
    text = (files("codesign.hw.costs") / "tables" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@cache
def read_toml(name: str) -> dict[str, Any]:
    """Return a shipped TOML table; callers must not change it."""
    return tomllib.loads((files("codesign.hw.costs") / "tables" / name).read_text(encoding="utf-8"))


@cache
def _profiles() -> dict[tuple[str, int], _Grid]:
    profiles: dict[tuple[str, int], _Grid] = {}
    for row in read_csv("sram_cacti7.csv"):
        grid = profiles.setdefault((row["profile"], int(row["node_nm"])), {})
        point = tuple(float(row[column]) for column in _COLUMNS)
        grid.setdefault(int(row["row_bits"]), {})[float(row["size_kb"])] = point
    return profiles


@lru_cache(maxsize=4096)
def memory(
    name: str,
    size_bytes: int,
    banks: int,
    row_bits: int,
    technology_nm: int,
    ports: Ports = "1R1W",
) -> Sram:
    """Return a memory of `banks` macros of size_bytes / banks bytes with rows of `row_bits` bits.

    Rows of more than 1024 bits are split over macros side by side. A bank beyond the largest macro
    (512 KB) is several of those, of which an access enables one. low / nominal / high: see
    `energy_spread`, `leakage_spread` and `area_spread`. Raises TableError off the grid.
    """
    slices = max(1, row_bits // MAX_ROW_BITS)
    macro_bits = row_bits // slices
    macro_kb = size_bytes / banks / slices / 1024
    by_size = levelled(technology_nm, ports).get(macro_bits)
    if by_size is None or macro_bits * slices != row_bits:
        raise TableError(
            f"{name}: no {technology_nm} nm SRAM macro has rows of {row_bits} bits: "
            "use a mesh side (dim) that is a power of two from 4 to 128"
        )
    smallest, largest = min(by_size), max(by_size)
    copies = max(1.0, macro_kb / largest)  # a real number keeps cost monotone in size
    values, exactness = _interpolate(by_size, min(max(macro_kb, smallest), largest))
    if copies > 1:
        exactness = "composed"
    elif macro_kb < smallest:
        exactness = "clamped"
    elif exactness == "grid" and values != cacti(technology_nm, ports)[macro_bits][macro_kb]:
        exactness = "levelled"
    read_pj, write_pj, leakage_mw, macro_mm2, cycle_ns = values
    area = slices * copies * banks * macro_mm2
    leakage_w = slices * copies * banks * leakage_mw * 1e-3
    read_low, read_high = energy_spread(technology_nm, "read_pj")
    write_low, write_high = energy_spread(technology_nm, "write_pj")
    area_low, area_high = area_spread(technology_nm)
    return Sram(
        name=name,
        banks=banks,
        bank_bytes=size_bytes // banks,
        row_bits=row_bits,
        read_j=_range(slices * read_pj * 1e-12, read_low, read_high),
        write_j=_range(slices * write_pj * 1e-12, write_low, write_high),
        leakage_w=_range(leakage_w, 1.0, leakage_spread(technology_nm)),
        area_mm2=_range(area, area_low, area_high),
        cycle_ns=cycle_ns,
        exactness=exactness,
    )


def macros(which: Memory, config: HardwareConfig, ports: Ports = "1R1W") -> Sram:
    """Return one of the memories that `config` has, its macros with `ports`."""
    return memory(
        which.name,
        which.size_bytes(config),
        which.bank_count(config),
        8 * which.word_bytes * config.dim,
        config.technology_nm,
        ports,
    )


def memories(config: HardwareConfig) -> tuple[Sram, ...]:
    """Return all memories that `config` has, in the order of `MEMORIES`."""
    return tuple(macros(which, config) for which in present(config))


def timing_warnings(config: HardwareConfig) -> list[str]:
    """Return one line for each memory whose random cycle is longer than the clock period."""
    warnings = []
    period_ns = 1e9 / config.clock_hz
    for which in present(config):
        sram = macros(which, config)
        if sram.cycle_ns <= period_ns:
            continue
        remedy = f"clock_hz to at most {math.floor(1e3 / sram.cycle_ns)} MHz"
        banks = None if which.banks is None else _banks_that_fit(config, sram, period_ns)
        if banks:
            remedy = f"{which.banks} to {banks} or {remedy}"
        warnings.append(
            f"{sram.name}: a bank of {format_size(sram.bank_bytes)} cycles in "
            f"{sram.cycle_ns:.2f} ns at {config.technology_nm} nm but the clock period is "
            f"{period_ns:.2f} ns: set {remedy}"
        )
    return warnings


@cache
def energy_spread(
    technology_nm: int, column: Literal["read_pj", "write_pj"]
) -> tuple[float, float]:
    """Return factors (low <= 1, high >= 1) on a nominal access energy.

    At each point of the sensitivity grid, the least and the largest energy among cell flavours (low
    operating power, high performance) and optimiser objectives (energy, delay, area), relative to
    the nominal macro; then the 10th percentile of the least and the 90th of the largest.
    """
    flavours = _ratios(technology_nm, _FLAVOURS, column)
    optimisers = _ratios(_OPTIMISER_NODE_NM, _OPTIMISERS, column)
    both = np.concatenate([flavours, optimisers])
    low = _quantile(both.min(axis=0), 0.1)
    high = _quantile(both.max(axis=0), 0.9)
    return min(low, 1.0), max(high, 1.0)


def _quantile(values: npt.ArrayLike, share: float) -> float:
    """The value that `share` of the values lie below, by linear interpolation; 0.5 is the median.

    np.quantile would load numpy.ma.
    """
    rising = np.sort(np.ravel(values))
    return float(np.interp(share * (rising.size - 1), np.arange(rising.size), rising))


@cache
def leakage_spread(technology_nm: int) -> float:
    """Return the factor from low-standby-power cells at 300 K to high-performance cells at 350 K.

    Median over the sensitivity grid; the nominal (low-standby-power, 300 K) is also the low bound.
    """
    return _quantile(_ratios(technology_nm, ("hp_350k_1rw",), "leakage_mw"), 0.5)


@cache
def flavour_leakage(technology_nm: int) -> tuple[float, float]:
    """Return leakage of low-standby-power cells and of hot cells, both over high-performance 300 K.

    `area.py` bounds the leakage of logic with these. Medians over the sensitivity grid.
    """
    fast = _quantile(_ratios(technology_nm, ("hp_1rw",), "leakage_mw"), 0.5)
    return 1.0 / fast, leakage_spread(technology_nm) / fast


@cache
def area_spread(technology_nm: int) -> tuple[float, float]:
    """Return factors (low, high) on the nominal, 1R1W area.

    Low: the same macro with one shared port, where CACTI's second port doubles the area (published
    densities suggest that it costs less). High: the factor by which Gemmini's SRAM in Intel 22FFL
    (DAC 2021, Fig. 6) is larger than CACTI's.
    """
    shared, separate = cacti(technology_nm, "1RW"), cacti(technology_nm, "1R1W")
    ratios = [
        shared[bits][size][_AREA] / separate[bits][size][_AREA]
        for bits in separate
        for size in separate[bits]
    ]
    return _quantile(ratios, 0.5), silicon_factor()


@cache
def silicon_factor() -> float:
    """Return k: Gemmini's published 22FFL SRAM area over CACTI's, least squares in the logarithm.

    Both are 1RW macros here: scratchpad 256 KB in 4 banks of 128 bits, accumulator 64 KB in 2 banks
    of 512 bits.
    """
    silicon = read_toml("technology.toml")["gemmini_22ffl"]
    grid = cacti(silicon["node_nm"], "1RW")
    scratchpad_k = silicon["scratchpad_um2"] * 1e-6 / (4 * grid[128][64.0][_AREA])
    accumulator_k = silicon["accumulator_um2"] * 1e-6 / (2 * grid[512][32.0][_AREA])
    return math.sqrt(scratchpad_k * accumulator_k)


@cache
def levelled(technology_nm: int, ports: Ports) -> Mapping[int, Mapping[float, _Point]]:
    """Return CACTI's macros by row bits and KB, without the jumps of its optimiser.

    For energy x delay^2 CACTI picks organisations that differ from one macro to the next, so that
    one of twice the row width can come out up to a quarter smaller than the narrower one. Here read
    and write energy and area are each at most those of any macro of wider rows or more bytes, which
    could stand in, and for the widest rows at most those of two macros of half the depth, which is
    how still wider rows are built. Leakage and cycle time are the macro's own: cells leak alike in
    any organisation, so that CACTI's leakage differs by 7 % at most between row widths.
    """
    grid = cacti(technology_nm, ports)
    widest = max(grid)
    macros: _Grid = {}
    for bits in sorted(grid, reverse=True):
        own, wider = dict(grid[bits]), macros.get(2 * bits, {})
        for size in sorted(own):
            if bits == widest and size / 2 in own:
                own[size] = _least(own[size], tuple(2 * value for value in own[size / 2]))
        for size in sorted(own, reverse=True):
            for stand_in in (wider.get(size), own.get(2 * size)):
                if stand_in is not None:
                    own[size] = _least(own[size], stand_in)
        macros[bits] = own
    return macros


def _least(point: _Point, stand_in: _Point) -> _Point:
    """Return `point` with the lesser of each levelled cost."""
    costs = list(point)
    for column in _LEVELLED:
        costs[column] = min(point[column], stand_in[column])
    return tuple(costs)


def cacti(technology_nm: int, ports: Ports) -> Mapping[int, Mapping[float, _Point]]:
    """Return CACTI's own macros by row bits and KB, to the digits kept; raises TableError."""
    try:
        return _profiles()[_GRIDS[ports], technology_nm]
    except KeyError:
        known = sorted({node for _, node in _profiles()})
        raise TableError(
            f"no SRAM table for {technology_nm} nm: set technology_nm to one of "
            + ", ".join(map(str, known))
        ) from None


def _interpolate(by_size: Mapping[float, _Point], size_kb: float) -> tuple[_Point, str]:
    """Return the values of _COLUMNS at a size on or between grid points, and which of the two.

    The cycle time is that of the slower neighbour: interpolated, it can be wrong by half.
    """
    if size_kb in by_size:
        return by_size[size_kb], "grid"
    below = max(size for size in by_size if size < size_kb)
    above = min(size for size in by_size if size > size_kb)
    share = math.log(size_kb / below) / math.log(above / below)
    ends = list(zip(by_size[below], by_size[above], strict=True))
    values = [math.exp((1 - share) * math.log(low) + share * math.log(high)) for low, high in ends]
    values[_CYCLE] = max(ends[_CYCLE])
    return tuple(values), "interpolated"


@cache
def _ratios(
    technology_nm: int, profiles: tuple[str, ...], column: str
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return float[profiles, points]: a column of each profile over that of the 1RW grid."""
    base = cacti(technology_nm, "1RW")
    index = _COLUMNS.index(column)
    return np.array(
        [
            [
                grid[bits][size][index] / base[bits][size][index]
                for bits in sorted(grid)
                for size in sorted(grid[bits])
            ]
            for grid in (_profiles()[profile, technology_nm] for profile in profiles)
        ]
    )


def _range(nominal: float, low_factor: float, high_factor: float) -> Range:
    return nominal * low_factor, nominal, nominal * high_factor


def _banks_that_fit(config: HardwareConfig, sram: Sram, period_ns: float) -> int | None:
    """Return the fewest banks with which `sram` meets the clock, None when none does."""
    banks, size = sram.banks, sram.banks * sram.bank_bytes
    while (banks := 2 * banks) <= 64:
        granule = banks * sram.row_bits // 8
        if size % granule or size // granule < config.dim:
            return None
        split = memory(sram.name, size, banks, sram.row_bits, config.technology_nm)
        if split.cycle_ns <= period_ns:
            return banks
    return None
