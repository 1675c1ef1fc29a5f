"""How fast candidates are priced: mapping kernels cold, and in bulk from warm tables.

    python tests/benchmarks/bench_search.py

Candidates are drawn from four machines of the default space, so that its tables fill in a minute.
"""

import time

import numpy as np

from codesign.search.joint.blocks import graph
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.pricing.evaluate import evaluate
from codesign.search.space.space import DEFAULT_AXES, SearchSpace

AXES = dict(DEFAULT_AXES) | {
    "dim": (16,),
    "scratchpad_bytes": (64 << 10, 128 << 10),
    "accumulator_bytes": (64 << 10, 256 << 10),
    "bus_bytes": (16,),
}
CANDIDATES = 1_000_000


def main() -> None:
    """Print mappings a second, candidates a second, and both beside one full evaluation."""
    space = SearchSpace(axes=tuple(AXES.items()))
    tables = NetworkTables(space)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    tables.costs(space.sample(20_000, rng))
    cold = time.perf_counter() - start
    print(
        f"cold: {tables.priced:,} kernel groups in {cold:.1f} s, {tables.priced / cold:.0f} a second"
    )
    genes = space.sample(CANDIDATES, rng)
    tables.costs(genes)
    start = time.perf_counter()
    tables.costs(genes)
    warm = (time.perf_counter() - start) / CANDIDATES
    print(f"warm: {1 / warm:,.0f} candidates a second on one core")
    config = space.machine(int(space.machine_numbers(genes[:1])[0]))
    start = time.perf_counter()
    evaluate(graph(space.transformer, space.shape(genes[0])), config)
    full = time.perf_counter() - start
    print(
        f"one full evaluation, its kernels not mapped before: {full:.2f} s, {full / warm:,.0f} times as long"
    )


if __name__ == "__main__":
    main()
