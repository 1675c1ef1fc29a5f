"""The space of decoders that one supernet holds: which layers, widths, heads and FFNs there are.

The default is the space of arXiv 2302.14017 §6.4. Its points are `decoder.DecoderConfig`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codesign.hw.errors import ModelError
from codesign.models.text.corpus import VOCABULARY
from codesign.models.zoo.decoder import DecoderConfig, lm


@dataclass(frozen=True)
class SubnetSpace:
    """Choices in rising order; heads and d_ff are chosen layer by layer, d_model once."""

    vocab_size: int
    max_positions: int = 512
    layers: tuple[int, ...] = (3, 4, 5, 6)
    d_model: tuple[int, ...] = (384, 480, 576, 672, 768)
    heads: tuple[int, ...] = (4, 6, 8, 10, 12)
    d_ff: tuple[int, ...] = tuple(range(768, 3073, 128))

    def __post_init__(self) -> None:
        problems = [
            f"{field} is {list(values)} but must list choices in rising order"
            for field, values in self.choices().items()
            if not values or list(values) != sorted(set(values))
        ]
        if problems:
            raise ModelError("invalid space: " + "; ".join(problems))
        for d_model in self.d_model:  # raises what is wrong with its extremes
            for pick in (0, -1):
                self._point(self.layers[pick], d_model, self.heads[pick], self.d_ff[pick])

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Return the choices by the field that they are of."""
        return {name: getattr(self, name) for name in ("layers", "d_model", "heads", "d_ff")}

    @property
    def largest(self) -> DecoderConfig:
        """The decoder that holds all others."""
        return self._point(*(values[-1] for values in self.choices().values()))

    @property
    def smallest(self) -> DecoderConfig:
        """The decoder that all others hold."""
        return self._point(*(values[0] for values in self.choices().values()))

    def size(self) -> int:
        """Return the number of decoders."""
        per_layer = len(self.heads) * len(self.d_ff)
        stacks = [int(per_layer**layers) for layers in self.layers]
        return len(self.d_model) * sum(stacks)

    def draw(self, rng: np.random.Generator) -> DecoderConfig:
        """Return a random decoder: every choice is as likely as every other of its field."""
        layers = int(rng.choice(self.layers))
        return self._point(
            layers,
            int(rng.choice(self.d_model)),
            tuple(rng.choice(self.heads, layers).tolist()),
            tuple(rng.choice(self.d_ff, layers).tolist()),
        )

    def sample(self, count: int, seed: int) -> Iterator[DecoderConfig]:
        """Yield `count` different random decoders, all of them in a smaller space."""
        rng, seen = np.random.default_rng(seed), set[DecoderConfig]()
        while len(seen) < min(count, self.size()):
            config = self.draw(rng)
            if config not in seen:
                seen.add(config)
                yield config

    def _point(
        self, layers: int, d_model: int, heads: int | tuple[int, ...], d_ff: int | tuple[int, ...]
    ) -> DecoderConfig:
        return lm(
            layers=layers,
            d_model=d_model,
            heads=heads,
            d_ff=d_ff,
            vocab_size=self.vocab_size,
            max_positions=self.max_positions,
        )


@dataclass(frozen=True)
class Single:
    """The space of one decoder, to train just that."""

    only: DecoderConfig

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.only.vocab_size

    @property
    def max_positions(self) -> int:
        """Longest sequence."""
        return self.only.max_positions

    @property
    def largest(self) -> DecoderConfig:
        """The decoder."""
        return self.only

    @property
    def smallest(self) -> DecoderConfig:
        """The decoder."""
        return self.only

    def draw(self, _rng: np.random.Generator) -> DecoderConfig:
        """Return the decoder."""
        return self.only


# Trains on the built-in corpus in minutes, on one core; small enough that width and heads tell by
# then, for a larger one ranks by how fast it learns.
SMALL = SubnetSpace(
    vocab_size=len(VOCABULARY),
    max_positions=64,
    layers=(1, 2),
    d_model=(12, 24, 36, 48),
    heads=(2, 4, 6, 8, 12),
    d_ff=(16, 32, 48, 64, 96, 128),
)
