"""Energies that others published, and ours in their terms."""

from dataclasses import replace

import numpy as np

from codesign.hw.costs import energy
from codesign.hw.machine.config import preset
from codesign.hw.machine.events import EVENT_INDEX, EVENTS

GEMMINI = replace(preset("gemmini"), scratchpad_banks=4, accumulator_banks=2)


def event_counts(**counts: int) -> energy.Ints:
    events = np.zeros(len(EVENTS), dtype=np.int64)
    for name, count in counts.items():
        events[EVENT_INDEX[name]] = count
    return events


def event_pj(table: energy.CostTable, name: str) -> list[float]:
    return [float(pj) for pj in 1e12 * table.event_j[:, EVENT_INDEX[name]]]


def matmul_priced(m: int, k: int, n: int, dim: int) -> energy.Ints:
    """Events of a weight-stationary m x k x n matmul, each operand moved once, by hand."""
    k_tiles, n_tiles = k // dim, n // dim
    results = m * k_tiles * n_tiles
    return event_counts(
        dram_read_bytes=m * k + k * n,
        dram_write_bytes=m * n,
        scratchpad_writes=(m * k + k * n) // dim,
        scratchpad_reads=results + k * n_tiles,
        accumulator_writes=results,
        accumulator_reads=m * (k_tiles - 1) * n_tiles + m * n_tiles,
        accumulator_adds=m * (k_tiles - 1) * n_tiles * dim,
        macs=m * k * n,
        pe_active=m * k * n,
        pe_weight_loads=k * n,
        requantize=m * n,
    )


# Gate-level simulation of synthesised units (yosys, 45 nm open cells at 1.1 V, random operands), from
# no glitches to unit-delay glitches, in pJ at 45 nm; none of these numbers is in a table.
GATE_LEVEL_45NM = {
    "pe_active": (1.56, 2.28),
    "exp": (5.1, 14.3),
    "gelu": (12.6, 44.0),
    "divide": (47.0, 50.0),
    "sqrt": (24.0, 32.0),
}
