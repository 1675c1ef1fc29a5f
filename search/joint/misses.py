"""What candidates that break constraints break, and how far the nearest is from keeping them.

A search without a single feasible candidate ends with this: which constraint to relax, and how far.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from codesign.hw.costs.sram import timing_warnings
from codesign.hw.errors import ConfigError
from codesign.search.joint.network_tables import Costs, NetworkTables
from codesign.search.space.space import Genes

NO_MACHINE, NO_TILE = "a machine that can be built", "tiles that fit"


@dataclass
class Misses:
    """Candidates that break constraints: how many break each, and the one that breaks them least."""

    tables: NetworkTables
    broken: Counter[str] = field(default_factory=Counter)
    least: float = np.inf  # the sum of relative violations, as the search compares them
    nearest: Genes | None = None

    def add(self, genes: Genes, costs: Costs) -> None:
        """Take candidates [n] with their costs; those that keep all constraints do not count."""
        machine, area, power = costs.violation.T
        self.broken["area_mm2"] += int(np.count_nonzero(area > 0))
        self.broken["power_w"] += int(np.count_nonzero(power > 0))
        numbers = self.tables.space.machine_numbers(genes)
        for number in np.unique(numbers[machine > 0]).tolist():
            count = int(np.count_nonzero((numbers == number) & (machine > 0)))
            self.broken[self._of_machine(number)] += count
        total = costs.violation.sum(axis=1)
        missed = np.where(costs.feasible, np.inf, total)
        at = int(np.argmin(missed))
        if missed[at] < self.least:
            self.least, self.nearest = float(missed[at]), genes[at : at + 1]

    def _of_machine(self, number: int) -> str:
        """What is amiss with a machine that breaks no limit on area or power."""
        machine = self.tables.machine(number)
        if machine.config is None:
            return NO_MACHINE
        return "sram_timing" if machine.violation[0] else NO_TILE

    def describe(self) -> str:
        """Which constraints are broken, by how many, and what the nearest candidate misses."""
        counts = [f"{count:,} break {name}" for name, count in self.broken.most_common() if count]
        if self.nearest is None:
            return ""
        return f"{', '.join(counts)}; the nearest misses {' and '.join(self._of_nearest())}"

    def _of_nearest(self) -> list[str]:
        assert self.nearest is not None
        space, limits = self.tables.space, self.tables.space.constraints
        number = int(space.machine_numbers(self.nearest)[0])
        machine, costs = self.tables.machine(number), self.tables.costs(self.nearest)
        found = []
        if machine.config is None:
            try:
                space.machine(number)
            except ConfigError as error:
                found.append(f"{NO_MACHINE} ({error})")
            return found
        if machine.violation[0]:
            slow = timing_warnings(machine.config)
            more = f", and {len(slow) - 1} more" if len(slow) > 1 else ""
            found.append(f"sram_timing ({slow[0]}{more})")
        elif costs.violation[0, 0]:
            found.append(f"{NO_TILE} (a kernel of it fits none)")
        for name, unit, value, limit in (
            ("area_mm2", "mm²", costs.area_mm2[0], limits.area_mm2),
            ("power_w", "W", costs.power_w[0], limits.power_w),
        ):
            if limit is not None and value > limit:
                over = value - limit
                found.append(f"{name} by {over:.3g} {unit} ({value:.4g}, at most {limit:g})")
        return found
