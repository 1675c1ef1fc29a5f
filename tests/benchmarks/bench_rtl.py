"""The RTL: how fast it simulates, and its cycles beside Gemmini's RTL.

    python tests/benchmarks/bench_rtl.py [speed] [gemmini] [layer]

speed: simulated cycles a second of the 128x768x768 projection on `ibert`, by `hw.simulator` and by
cocotb with Python asleep until the end, best of five. gemmini: the kernels of
`test_against_gemmini.py`; layer: the encoder layer of `test_encoder_layer.py`; each checked to the
bit against the functional model and, instruction by instruction, to the cycle against the timing
model. The default is all three. Executables are built the first time (minutes).
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "hw" / "rtl")]

import cocotb
from cocotb.triggers import RisingEdge
from encoder_kernels import MOST_CYCLES, layer_kernels
from gemmini_kernels import COMPARISONS, CONFIG, dram, kernel
from rtl_agreement import check_agreement, legal_dram
from rtl_bench import run_bench, start_clock_and_reset

from codesign.hw.machine.encoding import encode_all
from codesign.hw.machine.program import Body, unroll
from codesign.hw.simulation.simulator import built_rtl, parameters, run_rtl
from codesign.hw.simulation.sources import SIMULATION

TARGET_SPEED = 200  # thousand cycles a second
TARGET_RATIO = 2
REPEATS = 5


@cocotb.test()
async def program_ends(dut: Any) -> None:
    await start_clock_and_reset(dut)
    wall, cpu = time.perf_counter(), time.process_time()
    await RisingEdge(dut.done_o)
    seconds = (time.perf_counter() - wall, time.process_time() - cpu)
    Path(os.environ["SECONDS_FILE"]).write_text(json.dumps(seconds), encoding="ascii")


def runner_seconds(body: Body, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a kernel by `simulate`; leaves its cycles in `results`."""
    memory = dram()
    used, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    cycles = run_rtl([body], CONFIG, memory, trace=False).cycles
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / "results").write_text(f"kernel {cycles}", encoding="ascii")
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def cocotb_seconds(body: Body, folder: Path) -> tuple[float, float]:
    """The same under cocotb, from the end of reset to the end of the program."""
    encode_all(unroll(body)).tofile(folder / "program")
    dram().tofile(folder / "memory")
    run_bench(
        "system",
        __name__,
        parameters(CONFIG),
        environment={"SECONDS_FILE": str(folder / "seconds")},
        plusargs=[f"+{file}={folder / file}" for file in ("memory", "program", "results")],
        sources=[SIMULATION / "system.cpp"],
        fast=True,
    )
    wall, cpu = json.loads((folder / "seconds").read_text(encoding="ascii"))
    return wall, cpu


def print_speed() -> None:
    built_rtl(CONFIG)
    body = kernel(COMPARISONS["128x768x768"])
    ways = {"hw.simulator": runner_seconds, "cocotb, Python asleep": cocotb_seconds}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    cycles = set()
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results"
        for _ in range(REPEATS):  # in turn: what else the computer does slows both
            for way, measure in ways.items():
                seconds[way].append(measure(body, Path(name)))
                cycles.add(int(results.read_text(encoding="ascii").split()[1]))
    (count,) = cycles
    print("Thousand cycles a second, 128x768x768 on ibert      wall      CPU   target")
    speed = {way: [count / min(c) / 1e3 for c in zip(*seconds[way], strict=True)] for way in ways}
    fast, slow = speed.values()
    for (way, (wall, cpu)), target in zip(speed.items(), (f"{TARGET_SPEED:8d}", ""), strict=True):
        print(f"{way:48s}{wall:8.0f} {cpu:8.0f} {target}".rstrip())
    ratios = " ".join(f"{f / s:8.2f}" for f, s in zip(fast, slow, strict=True))
    print(f"{'times slower under cocotb':48s}{ratios} {TARGET_RATIO:8d}")


def print_gemmini() -> None:
    print(
        "RTL against Gemmini's RTL: 16x16, 16 B a cycle, DRAM latency 50, 64 KB and 256 KB (ibert)"
    )
    print(f"{'cycles':26s}{'here':>10s}{'target':>10s}{'Gemmini':>10s}{'ratio':>7s}{'mesh':>8s}")
    memory = dram()
    for name, comparison in COMPARISONS.items():
        cycles = check_agreement([kernel(comparison)], CONFIG, memory).cycles
        here = cycles / comparison.rows
        used = comparison.macs / (CONFIG.macs_per_cycle * cycles)
        places = 0 if comparison.rows == 1 else 1
        print(
            f"{name:26s}{here:10,.{places}f}{comparison.most:10,}{comparison.gemmini:10,}"
            f"{comparison.gemmini / here:7.2f}" + (f"{100 * used:7.1f}%" if used else f"{'-':>8s}"),
            flush=True,
        )
    print("ratio: Gemmini's cycles over these. mesh: multiplications over 256 a cycle.")
    print("Gemmini: measured on the RTL of ucb-bar/gemmini with ideal command supply.")


def print_layer() -> None:
    layer, dram_bytes = layer_kernels(CONFIG)
    memory = legal_dram(-(-dram_bytes // 8) * 8, CONFIG, seed=1)
    cycles = check_agreement(layer, CONFIG, memory).cycles
    print(
        f"An encoder layer of BERT-base, 128 tokens, on the RTL: {len(layer)} kernels, "
        f"{cycles:,} cycles, target {MOST_CYCLES:,}"
    )


PARTS = {"speed": print_speed, "gemmini": print_gemmini, "layer": print_layer}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    for part in arguments.parts or PARTS:
        PARTS[part]()
