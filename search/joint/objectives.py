"""What a search may minimise: one row an objective, and nothing of it written anywhere else.

Its name on the command line, its column in every table and file, how people read it, and its formula
from the costs of an inference. A new one is a new row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

Formula = Callable[[Any, Any, Any], Any]  # of energy in J, latency in s, area in mm2


class Priced(Protocol):
    """A candidate with what it costs: a point of a front, a baseline."""

    @property
    def perplexity(self) -> float: ...
    @property
    def energy_j(self) -> Any: ...
    @property
    def latency_s(self) -> Any: ...
    @property
    def area_mm2(self) -> Any: ...


class Objective(NamedTuple):
    """Something that is minimised. Without a `formula` it is quality, the Transformer's alone.

    No dataclass: the command line lists the names, and `--help` would load `dataclasses` for it.
    """

    name: str
    column: str
    label: str
    unit: str
    formula: Formula | None
    prefixed: bool = True  # its unit takes SI prefixes
    mapped: bool = True  # heat maps of machines show it, and the baseline beside a front

    @property
    def within(self) -> str:
        """Its label within a sentence."""
        return self.label if self.label.isupper() else self.label.lower()

    def of(self, point: Priced) -> float:
        """Its value for a candidate that is priced."""
        if self.formula is None:
            return point.perplexity
        return float(self.formula(point.energy_j, point.latency_s, point.area_mm2))


_ROWS = (
    Objective("perplexity", "perplexity", "Perplexity", "", None),
    Objective("edp", "edp_js", "EDP", "J·s", lambda energy, latency, area: energy * latency),
    Objective("latency", "latency_s", "Latency", "s", lambda energy, latency, area: latency),
    Objective("energy", "energy_j", "Energy", "J", lambda energy, latency, area: energy),
    Objective(
        "area", "area_mm2", "Area", "mm²", lambda energy, latency, area: area, prefixed=False
    ),
    Objective(
        "power",
        "power_w",
        "Power",
        "W",
        lambda energy, latency, area: energy / latency,
        mapped=False,
    ),
)
OBJECTIVES = {row.name: row for row in _ROWS}
COSTS = {row.column: row for row in _ROWS if row.formula is not None}


def costs_of(energy_j: Any, latency_s: Any, area_mm2: Any) -> dict[str, Any]:
    """Every objective that has a formula, by its column: of one candidate, or arrays of many."""
    return {
        column: row.formula(energy_j, latency_s, area_mm2)
        for column, row in COSTS.items()
        if row.formula is not None
    }
