"""The networks of a search space: choices on the axes of a model family.

`models.zoo.families.SEARCHED` names the families; each says what may be chosen of it. A layer axis
is chosen in every layer of a network, or once for all layers where the space is uniform.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import LARGEST as LARGEST_OF_MACHINE
from codesign.hw.platform.text import said
from codesign.models.zoo.axes import (
    LARGEST_CHOICE,
    MOST_LAYERS,
    Axis,
    NetworkShape,
    depth_axis,
    wrong_axes,
)
from codesign.models.zoo.families import SEARCHED
from codesign.models.zoo.model_config import ModelConfig

DEFAULT_FAMILY = "lm"
SHORTEST_TABLE = 512  # positions that a network has at least
MOST_CHOICES = 255  # of one gene
# The sequence is bounded by its causal mask in memory.
LARGEST: Mapping[str, int] = {"sequence": 1 << 13, "vocab_size": 1 << 24}

Choices = tuple[tuple[str, tuple[int, ...]], ...]


class SpaceError(CodesignError):
    """A search space that is empty, contradictory or cannot be read."""


@dataclass(frozen=True)
class Networks:
    """The choices of one family, and what all of its networks have in common; made by `networks`."""

    family: str
    choices: Choices  # of every axis of the family, in their order
    sequence: int
    options: tuple[tuple[str, int | bool], ...]
    uniform: bool  # all layers have the values of the first

    @property
    def kind(self) -> type[ModelConfig]:
        """The family."""
        return SEARCHED[self.family]

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the family."""
        return self.kind.axes()

    @cached_property
    def depth(self) -> Axis | None:
        """The axis that is the number of layers."""
        return depth_axis(self.axes)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """The numbers of layers that there are; one where the family has no such axis."""
        return (1,) if self.depth is None else self[self.depth.name]

    @cached_property
    def of_network(self) -> Choices:
        """The choices that are made once a network, besides its depth."""
        return self._of("network")

    @cached_property
    def of_layer(self) -> Choices:
        """The choices that are made in each layer."""
        return self._of("layer")

    def _of(self, scope: str) -> Choices:
        return tuple((axis.name, self[axis.name]) for axis in self.axes if axis.scope == scope)

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """The choices of an axis."""
        return dict(self.choices)[name]

    @property
    def size(self) -> int:
        """Number of distinct shapes."""
        of_network, of_layer = (
            math.prod(len(values) for _, values in part)
            for part in (self.of_network, self.of_layer)
        )
        return of_network * sum(
            int(of_layer ** (1 if self.uniform else depth)) for depth in self.depths
        )

    def changed(self, **fields: Any) -> "Networks":
        """The same with other choices of axes, options, `sequence` or `uniform`."""
        own = {name: fields.pop(name) for name in ("sequence", "uniform") if name in fields}
        choices, options = dict(self.choices), dict(self.options)
        for name, value in fields.items():
            (choices if name in choices else options)[name] = value
        return replace(self, choices=tuple(choices.items()), options=tuple(options.items()), **own)

    def shape(self, network: Sequence[int], layers: Sequence[Sequence[int]]) -> NetworkShape:
        """The shape with values of the network's own axes, and of the layer axes in each layer."""
        own = iter(network)
        each = iter(zip(*layers, strict=True)) if self.of_layer else iter(())
        values: list[tuple[str, int | tuple[int, ...]]] = []
        for axis in self.axes:
            if axis.scope == "depth":
                values.append((axis.name, len(layers)))
            else:
                values.append((axis.name, next(own) if axis.scope == "network" else next(each)))
        return NetworkShape(tuple(values))

    def told(self, row: Mapping[str, Any]) -> NetworkShape:
        """The shape that the columns of a table tell: numbers, in each layer with commas between.

        Raises KeyError or ValueError for what is not there or no number.
        """
        layered = {name: tuple(map(int, str(row[name]).split(","))) for name, _ in self.of_layer}
        known: dict[str, int | tuple[int, ...]] = {**layered}
        for axis in self.axes:
            if axis.scope == "depth" and layered:
                known[axis.name] = len(next(iter(layered.values())))
            elif axis.scope != "layer":
                known[axis.name] = int(row[axis.name])
        return NetworkShape(tuple((axis.name, known[axis.name]) for axis in self.axes))

    def config(self, shape: NetworkShape) -> ModelConfig:
        """The network of a shape as `models` builds it."""
        return self.kind.point(dict(shape.values), self.sequence, dict(self.options))

    def name(self, shape: NetworkShape) -> str:
        """A network in one line: 6L-768d-h12,6,...-f1280,..."""
        return "-".join(axis.short.format(each(shape[axis.name])) for axis in self.axes)

    @property
    def largest(self) -> NetworkShape:
        """The largest network: what improvements are measured against."""
        layer = [max(values) for _, values in self.of_layer]
        return self.shape(
            [max(values) for _, values in self.of_network], [layer] * max(self.depths)
        )

    def document(self) -> dict[str, Any]:
        """The section of a space's TOML; the family that a space is of unless it says so is left out."""
        family = {} if self.family == DEFAULT_FAMILY else {"family": self.family}
        choices = {name: list(values) for name, values in self.choices}
        return {
            **family, **choices, "sequence": self.sequence, **dict(self.options),
            "uniform": self.uniform,
        }  # fmt: skip

    def violations(self) -> Iterator[str]:
        """What of these choices no space can have."""
        yield from wrong_axes(self.axes, self.kind.layer_parts())
        for name, values in self.choices:
            scope = next(axis.scope for axis in self.axes if axis.name == name)
            yield from bad_choices(
                name, values, LARGEST_OF_MACHINE if scope == "depth" else LARGEST_CHOICE
            )
        whole = {name: value for name, value in self.kind.options().items() if type(value) is int}
        stated = {"sequence": self.sequence, **dict(self.options), "uniform": self.uniform}
        for name in ("sequence", *whole):
            yield from _not_a_size(name, stated[name])
        for name, value in stated.items():
            if name not in ("sequence", *whole) and type(value) is not bool:
                yield f"{name} is {value!r} but must be true or false"
        yield from self.kind.wrong_choices(dict(self.choices))
        if any(type(depth) is int and depth > MOST_LAYERS for depth in self.depths):
            assert self.depth is not None
            yield f"{self.depth.name} {max(self.depths)} is more than {MOST_LAYERS}"


def networks(family: str = DEFAULT_FAMILY, **fields: Any) -> Networks:
    """The networks of a family: choices of its axes, its options, `sequence` and `uniform`.

    What is not among `fields` is as the family has it, for sequences of 128, chosen in each layer.
    Raises SpaceError for a family that cannot be searched, or a field that it does not have.
    """
    if not isinstance(family, str) or family not in SEARCHED:
        raise SpaceError(f"no family is called {said(family)}: choose {', '.join(SEARCHED)}")
    kind = SEARCHED[family]
    known = [axis.name for axis in kind.axes()]
    known += ["sequence", *kind.options(), "uniform", "family"]
    for name in fields:
        if name not in known:
            raise SpaceError(f"unknown field transformer.{name}: choose {', '.join(known)}")
    return Networks(
        family,
        tuple((axis.name, fields.get(axis.name, axis.choices)) for axis in kind.axes()),
        fields.get("sequence", 128),
        tuple((name, fields.get(name, value)) for name, value in kind.options().items()),
        fields.get("uniform", False),
    )


def each(values: int | Sequence[int]) -> str:
    """One number where all are equal, else a list."""
    many = (values,) if isinstance(values, int) else values
    return str(many[0]) if len(set(many)) == 1 else ",".join(map(str, many))


def bad_choices(name: str, values: Sequence[int], most: int, least: int = 1) -> Iterator[str]:
    """What of the choices of a gene is wrong: none or too many, or no size from `least` to `most`."""
    if not values:
        yield f"{name} has no choices"
    elif len(values) > MOST_CHOICES:
        yield f"{name} has {len(values)} choices but at most {MOST_CHOICES}"
    for value in values:
        if type(value) is not int or value < least:
            yield bad_choice(name, value)
            break
        if value > most:
            yield f"{name} has the choice {said(value)} but {most} is the most"
            break


def bad_choice(name: str, value: Any) -> str:
    """What is said of a choice that is no positive whole number."""
    return f"{name} has the choice {said(value)} but must hold positive whole numbers"


def _not_a_size(name: str, value: Any) -> Iterator[str]:
    most = LARGEST.get(name, LARGEST_CHOICE)
    if type(value) is not int or not 1 <= value <= most:
        yield f"{name} is {said(value)} but must be a whole number from 1 to {most}"
