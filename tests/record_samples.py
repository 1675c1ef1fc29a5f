"""Records with every kind of column and values that files distort easily."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A record with every kind of column."""

    index: int
    name: str
    cycles: int | None = None
    energy_j: float | None = None


SAMPLES = [Sample(0, "a, b", 1 << 60, 0.1 + 0.2), Sample(1, 'say "x"'), Sample(2, "ü", 0, 5e-324)]
