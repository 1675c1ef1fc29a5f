"""Where the cycles and joules of one inference go: by kernel, by kind of kernel, under the roofs.

Identical kernels of repeated layers are collapsed into one line with a count. The roofline is that
of Williams, Waterman and Patterson (CACM 52(4), 2009) with MACs for FLOPs: no kernel computes more
than dim^2 MACs a cycle, nor more than its MACs per DRAM byte times the bytes that the bus moves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENT_INDEX
from codesign.search.pricing.evaluate import KernelResult, Result


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """`count` identical kernels: their costs together, one kernel's mapping."""

    name: str
    kind: str
    count: int
    operators: str
    mapping: str
    cycles: int
    host_cycles: int
    macs: int
    utilization: float
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    dram_read_bytes: int
    dram_write_bytes: int

    @property
    def dram_bytes(self) -> int:
        """Bytes moved in and out of DRAM."""
        return self.dram_read_bytes + self.dram_write_bytes

    @property
    def intensity(self) -> float | None:
        """MACs per DRAM byte; None for a kernel without either."""
        return self.macs / self.dram_bytes if self.macs and self.dram_bytes else None

    @property
    def macs_per_cycle(self) -> float:
        """MACs per cycle of the accelerator, its host's cycles left out."""
        cycles = self.cycles - self.host_cycles
        return self.macs / cycles if cycles else 0.0


@dataclass(frozen=True)
class Totals:
    """Cycles and energy (low, nominal, high) of all kernels of one kind."""

    kind: str
    cycles: int
    energy_j: tuple[float, float, float]


def kernels(result: Result) -> list[KernelRow]:
    """Return every kernel of `result`, in order."""
    return [_row(result, [kernel]) for kernel in result.kernels]


def groups(result: Result) -> list[KernelRow]:
    """Return the kernels of `result`, identical ones of like name together, in order of the first."""
    alike: dict[tuple[object, ...], list[KernelResult]] = {}
    for kernel in result.kernels:
        key = (
            re.sub(r"\d+", "#", kernel.name),
            kernel.kind,
            kernel.mapping,
            kernel.cycles,
            kernel.host_cycles,
            kernel.macs,
            kernel.events.tobytes(),
        )
        alike.setdefault(key, []).append(kernel)
    return [_row(result, members) for members in alike.values()]


def by_kind(result: Result) -> list[Totals]:
    """Return cycles and energy by kind of kernel, the slowest kind first."""
    rows = kernels(result)
    totals = []
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [row for row in rows if row.kind == kind]
        energy = (
            sum(row.energy_low_j for row in of_kind),
            sum(row.energy_j for row in of_kind),
            sum(row.energy_high_j for row in of_kind),
        )
        totals.append(Totals(kind, sum(row.cycles for row in of_kind), energy))
    return sorted(totals, key=lambda total: -total.cycles)


def roof(config: HardwareConfig, intensity: float, directions: int = 1) -> float:
    """Return the most MACs per cycle that `intensity` MACs per DRAM byte allow.

    The bus moves `bus_bytes` a cycle in each direction: a kernel that only reads has one of them.
    """
    return min(float(config.macs_per_cycle), intensity * config.bus_bytes * directions)


def common_name(names: Sequence[str]) -> str:
    """Return one name for names that differ in their numbers: `layer{0-11}.query`."""
    split = [re.split(r"([0-9]{1,18})", name) for name in names]
    if len({tuple(parts[::2]) for parts in split}) > 1:  # they differ in more than numbers
        return names[0]
    merged = []
    for parts in zip(*split, strict=True):
        merged.append(parts[0] if len(set(parts)) == 1 else "{" + _ranges(parts) + "}")
    return "".join(merged)


def _ranges(numbers: Sequence[str]) -> str:
    """0, 1, 2, 5 -> 0-2,5."""
    runs: list[list[int]] = []
    for number in sorted(set(map(int, numbers))):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _row(result: Result, members: Sequence[KernelResult]) -> KernelRow:
    first, count = members[0], len(members)
    cycles, macs = count * first.cycles, count * first.macs
    low, nominal, high = (count * result.kernel_energy_j(first)).tolist()
    return KernelRow(
        name=common_name([kernel.name for kernel in members]),
        kind=first.kind,
        count=count,
        operators=" ".join(first.operators),
        mapping=first.mapping,
        cycles=cycles,
        host_cycles=count * first.host_cycles,
        macs=macs,
        utilization=macs / (result.config.macs_per_cycle * cycles) if cycles else 0.0,
        energy_j=nominal,
        energy_low_j=low,
        energy_high_j=high,
        dram_read_bytes=count * int(first.events[EVENT_INDEX["dram_read_bytes"]]),
        dram_write_bytes=count * int(first.events[EVENT_INDEX["dram_write_bytes"]]),
    )
