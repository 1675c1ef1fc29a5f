"""The space of networks that one supernet holds: choices on the axes of a family.

`search.space.networks` is what a search chooses from; this is what trains: choices in rising order, so
that the last network of them all holds every other.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.hw.errors import ModelError
from codesign.models.text.corpus import VOCABULARY
from codesign.models.zoo.axes import NetworkShape, depth_axis
from codesign.models.zoo.decoder import DecoderConfig
from codesign.models.zoo.families import TRAINED
from codesign.models.zoo.model_config import TextConfig

DEFAULT_FAMILY = DecoderConfig  # of which a document says nothing
POSITIONS = 512  # unless said

Choices = tuple[tuple[str, tuple[int, ...]], ...]
Options = tuple[tuple[str, int | bool], ...]


@dataclass(frozen=True)
class SubnetSpace:
    """Choices on every axis of a family, in their order, each in rising order; made by `subnets`."""

    kind: type[TextConfig]
    choices: Choices
    vocab_size: int
    max_positions: int
    options: Options = ()  # those that its trained networks heed

    def __post_init__(self) -> None:
        problems = [
            f"{field} is {list(values)} but must list choices in rising order"
            for field, values in self.choices
            if not values or list(values) != sorted(set(values))
        ]
        if problems:
            raise ModelError("invalid space: " + "; ".join(problems))
        of_network = [axis.name for axis in self.kind.axes() if axis.scope == "network"]
        for pick in (0, -1):  # raises what is wrong with its extremes
            extreme = {name: values[pick] for name, values in self.choices}
            self._point(extreme)
            for name in of_network:
                for value in self[name]:
                    self._point(extreme | {name: value})

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """The choices of an axis."""
        return dict(self.choices)[name]

    @property
    def largest(self) -> TextConfig:
        """The network that holds all others."""
        return self._point({name: values[-1] for name, values in self.choices})

    @property
    def smallest(self) -> TextConfig:
        """The network that all others hold."""
        return self._point({name: values[0] for name, values in self.choices})

    @property
    def _depths(self) -> tuple[int, ...]:
        depth = depth_axis(self.kind.axes())
        return (1,) if depth is None else self[depth.name]

    def size(self) -> int:
        """Return the number of networks."""
        of_network, of_layer = (
            math.prod(len(self[axis.name]) for axis in self.kind.axes() if axis.scope == scope)
            for scope in ("network", "layer")
        )
        return of_network * sum(int(of_layer**depth) for depth in self._depths)

    def draw(self, rng: np.random.Generator) -> TextConfig:
        """Return a random network: every choice is as likely as every other of its axis."""
        layers = int(rng.choice(self._depths))
        values: dict[str, int | tuple[int, ...]] = {}
        for axis in self.kind.axes():
            if axis.scope == "depth":
                values[axis.name] = layers
            elif axis.scope == "layer":
                values[axis.name] = tuple(rng.choice(self[axis.name], layers).tolist())
            else:
                values[axis.name] = int(rng.choice(self[axis.name]))
        return self._point(values)

    def sample(self, count: int, seed: int) -> Iterator[TextConfig]:
        """Yield `count` different random networks, all of them in a smaller space."""
        rng, seen = np.random.default_rng(seed), set[TextConfig]()
        while len(seen) < min(count, self.size()):
            config = self.draw(rng)
            if config not in seen:
                seen.add(config)
                yield config

    def point(self, shape: NetworkShape) -> TextConfig:
        """Return the network of a shape, which need not be of these choices."""
        return self._point(dict(shape.values))

    def _point(self, values: Mapping[str, int | tuple[int, ...]]) -> TextConfig:
        """The network of these values; one number on a layer axis serves every layer."""
        depth = depth_axis(self.kind.axes())
        layers: Any = 1 if depth is None else values[depth.name]
        full = {
            axis.name: (value,) * layers if axis.scope == "layer" and type(value) is int else value
            for axis in self.kind.axes()
            for value in (values[axis.name],)
        }
        return self.kind.trained(full, self.max_positions, self.vocab_size, dict(self.options))

    def document(self) -> dict[str, Any]:
        """What a file keeps of it; `subnets_of` reads it."""
        sizes = {"vocab_size": self.vocab_size, "max_positions": self.max_positions}
        return _family(self.kind) | sizes | dict(self.options) | dict(self.choices)


@dataclass(frozen=True)
class Single:
    """The space of one network, to train just that."""

    only: TextConfig

    @property
    def kind(self) -> type[TextConfig]:
        """Its family."""
        return type(self.only)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.only.vocab_size

    @property
    def max_positions(self) -> int:
        """Longest sequence."""
        return self.only.max_positions

    @property
    def largest(self) -> TextConfig:
        """The network."""
        return self.only

    @property
    def smallest(self) -> TextConfig:
        """The network."""
        return self.only

    def draw(self, _rng: np.random.Generator) -> TextConfig:
        """Return the network."""
        return self.only

    def document(self) -> dict[str, Any]:
        """What a file keeps of it; `subnets_of` reads it."""
        return _family(self.kind) | {"only": dict(vars(self.only))}


def subnets(
    vocab_size: int,
    max_positions: int = POSITIONS,
    kind: type[TextConfig] = DEFAULT_FAMILY,
    options: Options = (),
    **choices: tuple[int, ...],
) -> SubnetSpace:
    """Return the space of a family; axes that are not among `choices` have those of the family.

    Raises ModelError for choices that no network can have.
    """
    full = tuple((axis.name, choices.get(axis.name, axis.choices)) for axis in kind.axes())
    return SubnetSpace(kind, full, vocab_size, max_positions, options)


def _family(kind: type[TextConfig]) -> dict[str, Any]:
    return {} if kind is DEFAULT_FAMILY else {"family": kind.family}


def subnets_of(document: Mapping[str, Any]) -> SubnetSpace | Single:
    """Return the space of what its `document` said; raises whatever a damaged one makes of it."""
    values = dict(document)
    kind = TRAINED[values.pop("family", DEFAULT_FAMILY.family)]
    if "only" in values:
        return Single(kind(**values["only"]))
    sizes = {name: values.pop(name) for name in ("vocab_size", "max_positions")}
    options = tuple((name, values.pop(name)) for name in kind.trained_options or ())
    return subnets(**sizes, kind=kind, options=options, **values)


# Trains on the built-in corpus in minutes, on one core; small enough that width and heads tell by
# then, for a larger one ranks by how fast it learns.
SMALL = subnets(
    vocab_size=len(VOCABULARY),
    max_positions=64,
    layers=(1, 2),
    d_model=(12, 24, 36, 48),
    heads=(2, 4, 6, 8, 12),
    d_ff=(16, 32, 48, 64, 96, 128),
)
