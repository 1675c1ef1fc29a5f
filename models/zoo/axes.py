"""What a search may choose of a family: named axes, of which the search makes its genes.

The depth axis is the number of layers; a layer axis is chosen in each of them, and needs one. An
axis has the name of what it sets in a configuration: a number, or of a layer axis a tuple.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

LARGEST_CHOICE = 1 << 20  # of a width: what 64-bit counts of a network's work hold
MOST_LAYERS = 64

Values = Mapping[
    str, int | tuple[int, ...]
]  # of every axis of a family; of a layer axis, one a layer
Parts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Axis:
    """One choice, its values where a space names none, and how it is told."""

    name: str
    choices: tuple[int, ...]
    text: str  # of choices, in words: "{} heads in each layer"
    scope: Literal["depth", "network", "layer"] = "network"
    label: str = ""  # of a column of values; the name unless given
    phrase: str = ""  # of one value, in words; the label and the value unless given
    short: str = ""  # of one value in the name of a network; the name and the value unless given

    def __post_init__(self) -> None:
        label = self.label or self.name
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "phrase", self.phrase or f"{label} {{}}")
        object.__setattr__(self, "short", self.short or f"{self.name}{{}}")

    @property
    def header(self) -> str:
        """Of its column in a table for a terminal."""
        return "L" if self.scope == "depth" else self.name


@dataclass(frozen=True)
class NetworkShape:
    """One network: its value on every axis of its family, in their order; of a layer axis one a layer."""

    values: tuple[tuple[str, int | tuple[int, ...]], ...]

    @classmethod
    def of(cls, **values: int | tuple[int, ...]) -> "NetworkShape":
        """The shape with these values, which are in the order of the axes."""
        return cls(tuple(values.items()))

    def __getitem__(self, name: str) -> Any:
        """The value on an axis."""
        return dict(self.values)[name]


def depth_axis(axes: tuple[Axis, ...]) -> Axis | None:
    """The axis that is the number of layers; None of a family whose networks have one depth."""
    return next((axis for axis in axes if axis.scope == "depth"), None)


def wrong_axes(axes: tuple[Axis, ...], parts: Parts) -> Iterator[str]:
    """What of a family's axes and of the parts of its layers contradicts."""
    layered = [axis.name for axis in axes if axis.scope == "layer"]
    if sum(axis.scope == "depth" for axis in axes) > 1:
        yield "it has several depth axes"
    if layered and depth_axis(axes) is None:
        yield f"{layered[0]} is chosen in each layer but no axis is the depth"
    if sorted(name for part in parts for name in part) != sorted(layered):
        yield "the parts of a layer do not share out the axes that are chosen in each layer"
