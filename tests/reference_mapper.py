"""An idealised mapper for comparison: the fewest DRAM bytes of a matmul over perfectly factored tilings.

This is the model that analytical mappers (Timeloop v2.0, AccelForge 1.0.467) agree on for a
weight-stationary array with a shared A/B scratchpad and an accumulator of C: two tiles of whole
array blocks, one in each memory; loops outside a memory's tile in any order; a tile is fetched again
whenever a loop that it depends on moves, and kept otherwise; no double buffering, no tile that is
resident in part. Partial sums that leave the accumulator before they are final come back in.

Either memory may be the outer one. A scratchpad-outer nest keeps a tile of A and B in which the
accumulator's tiles move; an accumulator-outer nest keeps a tile of C in which the scratchpad's move.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

BLOCK = 16  # side of the array
DIMS = ("m", "k", "n")
TENSORS = {"a": ("m", "k"), "b": ("k", "n"), "c": ("m", "n")}

Sizes = dict[str, int]


@dataclass(frozen=True)
class Traffic:
    """The least DRAM bytes found and how."""

    dram_bytes: int
    nesting: str
    scratchpad_tile: tuple[int, ...]  # m, k, n
    accumulator_tile: tuple[int, ...]
    order: tuple[str, ...]  # outermost loop first


@cache
def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    return tuple(d for d in range(1, number + 1) if number % d == 0)


def fetches(tensor: str, trips: Sizes, order: tuple[str, ...]) -> int:
    """How often a tile of `tensor` is fetched under loops of `trips` in `order`, outermost first.

    Loops of one trip do not exist; those inside the innermost loop the tensor depends on reuse it.
    """
    live = [dim for dim in order if trips[dim] > 1]
    while live and live[-1] not in TENSORS[tensor]:
        live.pop()
    count = 1
    for dim in live:
        count *= trips[dim]
    return count
