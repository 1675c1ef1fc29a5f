"""Sweep speed: a cold 6x6 grid of BERT-base through the command line, and re-evaluation from warm tables.

Run by hand: `python tests/benchmarks/bench_sweep.py`. Prints each figure beside its target.
"""

import subprocess
import sys
import time

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.compiler.plan.pricing import Workload, price_tables
from codesign.hw.costs.energy import cost_table, energy_j
from codesign.hw.machine.config import preset
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family


def cold_sweep_s() -> float:
    """Seconds of wall time for the 36 machines, process start included."""
    sizes = "16K:512K:x2"
    command = [sys.executable, "-m", "codesign.search.cli.app", "sweep", "bert-base", "--json"]
    begin = time.perf_counter()
    subprocess.run(
        [*command, "--scratchpad", sizes, "--acc", sizes], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


def warm_network_us(repeats: int = 5000) -> float:
    """Microseconds to price BERT-base again: cycles, events and energy."""
    config = preset("ibert")
    table = cost_table(config)
    tables = price_tables(config, "edp", table)
    graph = import_onnx(export(family("bert-base"), seq=128, weights="splat"))
    workload = Workload.of(graph, config)
    assert tables.total(workload) is not None
    begin = time.perf_counter()
    for _ in range(repeats):
        total = tables.total(workload)
        assert total is not None
        energy_j(table, total[1], total[0])
    return (time.perf_counter() - begin) / repeats * 1e6


if __name__ == "__main__":
    print(f"cold 6x6 sweep of bert-base      {cold_sweep_s():8.2f} s   target 10 s")
    print(f"network from warm tables         {warm_network_us():8.2f} us  target 50 us")
