"""An idealised mapper to compare with: the fewest DRAM bytes of a matmul over all perfect tilings.

This is the model on which analytical mappers (Timeloop v2.0, AccelForge 1.0.467) agree for a
weight-stationary array with one scratchpad for A and B and an accumulator for C: one tile of whole
array blocks in each memory, loops outside the tiles in any order, a tile fetched again whenever a
loop that its tensor depends on moves, and kept otherwise. Tiles divide their extents; nothing is
double-buffered, nothing resident in part. Partial sums that leave the accumulator come back in.

Either memory may be the outer one: accumulator outside, a tile of C stays while tiles of A and B
pass through the scratchpad; scratchpad outside, tiles of A and B stay while tiles of C pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

BLOCK = 16  # side of the array
TENSORS = {"a": ("m", "k"), "b": ("k", "n"), "c": ("m", "n")}

Ints = npt.NDArray[np.int64]
Sizes = dict[str, Ints]  # by dimension m, k, n


@dataclass(frozen=True)
class Reference:
    """The least DRAM bytes and a tiling that reaches them, sizes in elements."""

    dram_bytes: int
    nesting: str  # the outer memory
    outer_tile: dict[str, int]
    inner_tile: dict[str, int]


def least_traffic(
    m: int, k: int, n: int, scratchpad_bytes: int, accumulator_bytes: int, spilled_bytes: int = 4
) -> Reference:
    """Search all tilings, loop orders and both nestings. Extents are multiples of BLOCK.

    int8 operands and results; a partial sum that leaves the accumulator takes `spilled_bytes`.
    """
    extents = {"m": m // BLOCK, "k": k // BLOCK, "n": n // BLOCK}
    candidates = []
    for nesting in ("accumulator", "scratchpad"):
        outer, inner = _tilings(extents)
        ab_tile, c_tile = (inner, outer) if nesting == "accumulator" else (outer, inner)
        ab_blocks = ab_tile["m"] * ab_tile["k"] + ab_tile["k"] * ab_tile["n"]
        fits = ab_blocks * BLOCK**2 <= scratchpad_bytes
        fits &= c_tile["m"] * c_tile["n"] * BLOCK**2 * 4 <= accumulator_bytes
        outer = {d: size[fits] for d, size in outer.items()}
        inner = {d: size[fits] for d, size in inner.items()}
        best = _best_orders(extents, outer, inner, nesting, spilled_bytes)
        at = int(np.argmin(best))
        tiles = [{d: int(size[at]) * BLOCK for d, size in tile.items()} for tile in (outer, inner)]
        candidates.append(Reference(int(best[at]), nesting, *tiles))
    return min(candidates, key=lambda candidate: candidate.dram_bytes)


def _tilings(extents: dict[str, int]) -> tuple[Sizes, Sizes]:
    """Every pair of an outer tile that divides the extents and an inner one that divides it."""
    pairs = [np.array(list(_chains(extent))) for extent in extents.values()]
    grid = np.meshgrid(*(np.arange(len(pair)) for pair in pairs), indexing="ij")
    rows = [pair[index.ravel()] for pair, index in zip(pairs, grid, strict=True)]
    outer = {d: row[:, 0] for d, row in zip(extents, rows, strict=True)}
    return outer, {d: row[:, 1] for d, row in zip(extents, rows, strict=True)}


def _chains(extent: int) -> Iterator[tuple[int, int]]:
    for outer in range(1, extent + 1):
        if extent % outer == 0:
            yield from ((outer, inner) for inner in range(1, outer + 1) if outer % inner == 0)


def _best_orders(
    extents: dict[str, int], outer: Sizes, inner: Sizes, nesting: str, spilled_bytes: int
) -> Ints:
    """DRAM bytes of every tiling under its best loop orders."""
    above = {d: extents[d] // outer[d] for d in extents}  # loops around the outer tile
    between = {d: outer[d] // inner[d] for d in extents}  # loops around the inner one, within
    size = {t: extents[p] * extents[q] * BLOCK**2 for t, (p, q) in TENSORS.items()}
    best = np.full(len(outer["m"]), np.iinfo(np.int64).max)
    for first in permutations("mkn"):
        loops_above = [(d, above[d]) for d in first]
        for second in permutations("mkn"):
            whole = loops_above + [(d, between[d]) for d in second]
            deep, shallow = whole, loops_above
            ab, c = (deep, shallow) if nesting == "accumulator" else (shallow, deep)
            traffic = sum(size[t] * _refetches(t, ab) for t in "ab")
            spills = _refetches("c", c) - 1
            best = np.minimum(best, traffic + size["c"] * (1 + 2 * spilled_bytes * spills))
    return best


def _refetches(tensor: str, loops: list[tuple[str, Ints]]) -> Ints:
    """How often the whole tensor is fetched under these loops, outermost first.

    Loops inside the innermost one that the tensor depends on reuse its tile; of the others, those
    it does not depend on fetch all of it again.
    """
    count = np.ones_like(loops[0][1])
    moving = np.zeros(len(count), dtype=np.bool_)
    for dim, trips in reversed(loops):
        if dim in TENSORS[tensor]:
            moving |= trips > 1
        else:
            count = np.where(moving, count * trips, count)
    return count
