"""How fast mappings are found and priced, and how good they are, beside references of the same run.

    python tests/benchmarks/bench_mapping.py

The mappings are the matmuls of a BERT-base layer on two machines (`test_peer_mappings.py`). Where
zigzag-dse is installed (with six, which it needs), it maps the 64K/256K shapes of 128 tokens too.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compiler.kernels.mapspace import Choice, Ints
from codesign.compiler.kernels.matmul_kernel import matmul_kernel
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.matmul_space import matmul_spaces
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.hw.views.fast_timing import encode, evaluate_batch, evaluate_words, time_kernel
from codesign.hw.views.timing import evaluate_unrolled

sys.path.append(str(Path(__file__).resolve().parent.parent))
from peer_cases import (
    CASES,
    LAYERS,
    best,
    dram_bytes,
    reference_bytes,
    shape,
)

TARGET_SEARCH_S, TARGET_PRICE_US = 1.0, 20.0
COPIES = 100  # of a mapping, timed in one call
Found = dict[tuple[str, int, str], tuple[HardwareConfig, Choice]]


def map_all() -> Found:
    """All 24 mappings for EDP, with the time of the whole and then what each is worth."""
    begin = time.perf_counter()
    found = {case: best(*case, "edp") for case in CASES}
    seconds = time.perf_counter() - begin
    print(f"{len(found)} mappings, cold: {seconds:.3f} s (target {TARGET_SEARCH_S} s)\n")
    print("split     tokens layer  cycles    utilization  DRAM KB   / int32 ref   / 8-bit ref")
    for case, (config, choice) in found.items():
        macs = int(choice.events[EVENT_INDEX["macs"]])
        ours = dram_bytes(choice)
        print(
            f"{case[0]} {case[1]:6} {case[2]:5} {choice.cycles:8}"
            f"     {macs / config.macs_per_cycle / choice.cycles:8.4f} {ours / 1024:8.0f}"
            f" {ours / reference_bytes(*case):12.3f} {ours / reference_bytes(*case, 1):14.3f}"
        )
    return found


def price_all(found: Found) -> None:
    """Microseconds to price one mapping.

    The timing of a chosen mapping's kernel in a batch of itself; the same written and timed alone
    from Python; all mappings of the spaces, small tiles included; and the plain recurrence.
    """
    batch_s, batched, alone_s, timed_s = 0.0, 0, [], []
    for (_, length, layer), (config, choice) in found.items():
        m, k, n = shape(layer, length)
        problem = MatmulProblem(m, k, n, transposed_b=layer == "qkT")
        for space in matmul_spaces(problem, config):
            every = np.arange(len(space))
            begin = time.perf_counter()
            evaluate_batch(space.kernel(every), config)
            batch_s += time.perf_counter() - begin
            batched += len(space)
        body = matmul_kernel(problem, choice.mapping, config)
        begin = time.perf_counter()
        for _ in range(20):
            time_kernel(body, config)
        alone_s.append((time.perf_counter() - begin) / 20)
        chosen = matmul_kernel(problem, replace(choice.mapping, tile_m=_many(choice)), config)
        words = encode(chosen)
        repeats = []
        for _ in range(5):
            begin = time.perf_counter()
            evaluate_words(words, chosen, config)
            repeats.append((time.perf_counter() - begin) / COPIES)
        timed_s.append(min(repeats))
    (_, length, layer), (config, choice) = min(found.items(), key=lambda item: item[1][1].cycles)
    m, k, n = shape(layer, length)
    body = matmul_kernel(MatmulProblem(m, k, n), choice.mapping, config)
    begin = time.perf_counter()
    evaluate_unrolled(body, config)
    plain_s = time.perf_counter() - begin
    begin = time.perf_counter()
    time_kernel(body, config)
    fast_s = time.perf_counter() - begin
    each_us = 1e6 * batch_s / batched
    priced = sum(choice.priced for _, choice in found.values())
    print(f"\nthe search timed {priced} of {batched} mappings; bounds excluded the rest")
    timed_us = 1e6 * np.median(timed_s)
    print(
        f"\nexact timing of a chosen mapping, median: {timed_us:.1f} us (target {TARGET_PRICE_US} us)"
    )
    print(f"  written and timed alone, from Python: {1e6 * np.median(alone_s):.0f} us")
    print(f"  all {batched} mappings of the spaces, written and timed in batches: {each_us:.0f} us")
    print(f"  1/{plain_s / fast_s:.0f} of the plain recurrence's time for the same mapping")


def _many(choice: Choice) -> Ints:
    """The chosen tile_m as a batch of equal mappings."""
    return np.full(COPIES, choice.mapping.tile_m)


# -- zigzag-dse ----------------------------------------------------------------------------------------


def _port(name: str, kind: str, bits: int, allocation: str) -> str:
    uses = "".join(f"\n          - {use}" for use in allocation.split("; "))
    return (
        f"\n      - name: {name}\n        type: {kind}\n        bandwidth_min: {min(bits, 8)}"
        f"\n        bandwidth_max: {bits}\n        allocation:{uses}"
    )


def _memory(name: str, bits: int, cost: float, operands: str, served: str, *ports: str) -> str:
    return (
        f"\n  {name}:\n    size: {bits}\n    r_cost: {cost}\n    w_cost: {cost}\n    area: 0"
        f"\n    latency: 1\n    operands: [{operands}]\n    ports:{''.join(ports)}"
        f"\n    served_dimensions: [{served}]\n"
    )


def zigzag_machine(config: HardwareConfig) -> str:
    """The machine in zigzag's terms; energies per access are placeholders of usual proportions."""
    row, dim = 8 * config.dim, config.dim
    bus = 8 * config.bus_bytes
    both = "D1, D2"
    in_out = "O, fh; O, fl"
    return (
        "name: weight_stationary\n\nmemories:"
        + _memory(
            "weight_register", 8, 0.02, "I2", "",
            _port("r_port_1", "read", 8, "I2, tl"), _port("w_port_1", "write", 8, "I2, fh"),
        )
        + _memory(
            "accumulator", 8 * config.accumulator_bytes, 20, "O", both,
            _port("r_port_1", "read", 4 * row, "O, tl; O, th"), _port("w_port_1", "write", 4 * row, in_out),
        )
        + _memory(
            "scratchpad", 8 * config.scratchpad_bytes, 5, "I1, I2", both,
            _port("r_port_1", "read", 2 * row, "I1, tl; I2, tl"),
            _port("w_port_1", "write", bus, "I1, fh; I2, fh"),
        )
        + _memory(
            "dram", 10**10, 500, "I1, I2, O", both,
            _port("r_port_1", "read", bus, "I1, tl; I2, tl; O, tl; O, th"),
            _port("w_port_1", "write", bus, "I1, fh; I2, fh; O, fh; O, fl"),
        )
        + f"\noperational_array:\n  unit_energy: 0.2\n  unit_area: 1\n  dimensions: [D1, D2]"
        f"\n  sizes: [{dim}, {dim}]\n"
    )  # fmt: skip


def zigzag_workload(m: int, k: int, n: int) -> list[dict[str, Any]]:
    return [
        {
            "id": 0,
            "name": "matmul",
            "operator_type": "Gemm",
            "equation": "O[d][k]+=I[d][c]*W[c][k]",
            "loop_dims": ["D", "C", "K"],
            "loop_sizes": [m, k, n],
            "dimension_relations": [],
            "operand_precision": {"O": 32, "O_final": 8, "W": 8, "I": 8},
        }
    ]


def zigzag_mapping(dim: int) -> str:
    return (
        f"- name: default\n  spatial_mapping:\n    D1:\n      - K, {dim}\n    D2:\n      - C, {dim}\n"
        "  memory_operand_links:\n    O: O\n    W: I2\n    I: I1\n"
    )


def compare_with_zigzag(found: Found) -> None:
    """Time and cycles of zigzag's best EDP mapping of each shape over ours."""
    from zigzag.api import get_hardware_performance_zigzag  # type: ignore[import-not-found]

    logging.disable(logging.CRITICAL)
    print("\nzigzag-dse, EDP: layer, seconds, ours / theirs in cycles, time ratio")
    ours_s = theirs_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for layer in LAYERS:
            config, choice = found["64K/256K", 128, layer]
            m, k, n = shape(layer, 128)
            accelerator, mapping = Path(folder, "machine.yaml"), Path(folder, "mapping.yaml")
            accelerator.write_text(zigzag_machine(config), encoding="utf-8")
            mapping.write_text(zigzag_mapping(config.dim), encoding="utf-8")
            best.cache_clear()
            begin = time.perf_counter()
            best("64K/256K", 128, layer, "edp")
            ours_s += (mine := time.perf_counter() - begin)
            with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
                begin = time.perf_counter()
                answer = get_hardware_performance_zigzag(
                    zigzag_workload(m, k, n), str(accelerator), str(mapping),
                    opt="EDP", dump_folder=folder, loma_show_progress_bar=False,
                )  # fmt: skip
                theirs_s += (theirs := time.perf_counter() - begin)
            cycles = float(answer[1])
            ratio = choice.cycles / cycles
            print(f"  {layer:5} {theirs:7.2f} s   {ratio:6.3f}   {theirs / mine:8.0f} x")
    print(f"  all   {theirs_s:7.2f} s against {ours_s:.3f} s: {theirs_s / ours_s:.0f} x")


def main() -> None:
    found = map_all()
    price_all(found)
    if importlib.util.find_spec("zigzag") is None:
        print("\nzigzag-dse is not installed: pip install zigzag-dse six to compare")
    else:
        compare_with_zigzag(found)


if __name__ == "__main__":
    main()
