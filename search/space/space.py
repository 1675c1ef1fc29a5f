"""The space of a joint search: Transformer shapes times machines, under constraints.

A candidate is a row of genes, each the place of a value in the list of its choices: those of the
machine first, then layers, d_model, heads of every layer, FFN width of every layer. Genes of layers
that a candidate does not have are 0, so that equal candidates have equal genes. The default is
Table 3.1 of UCB/EECS-2023-92 times three meshes with their memories and buses.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tomli_w

from codesign.hw.errors import CodesignError, ConfigError
from codesign.hw.machine.config import LARGEST as LARGEST_OF_MACHINE
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.memories import MEMORIES, SHOWN
from codesign.hw.platform.text import said
from codesign.models.supernet.space import SMALL, Space
from codesign.models.zoo.decoder import (
    LM_HEADS_OF_FULL_WIDTH,
    WIKITEXT2_VOCABULARY,
    DecoderConfig,
    lm,
)

Genes = npt.NDArray[np.uint8]  # [n, genes]
Ints = npt.NDArray[np.int64]

MOST_CHOICES = 255  # of one gene
MOST_MACHINES = 100_000
MOST_LAYERS = 64
# d_model and d_ff are bounded by what 64-bit counts hold, the sequence by its causal mask in memory.
LARGEST: Mapping[str, int] = {
    "sequence": 1 << 13, "d_model": 1 << 20, "d_ff": 1 << 20, "vocab_size": 1 << 24,
}  # fmt: skip

K = 1024
SIZES = tuple(K << power for power in range(4, 10))  # 16K to 512K
DEFAULT_AXES: Mapping[str, tuple[int, ...]] = {
    "dim": (8, 16, 32),
    "scratchpad_bytes": SIZES,
    "scratchpad_banks": (16,),
    "accumulator_bytes": SIZES,
    "accumulator_banks": (8,),
    "bus_bytes": (8, 16, 32, 64),
}
CHOSEN = ("layers", "d_model", "heads", "d_ff")  # genes of a Transformer
_MAY_BE_NONE = {memory.size for memory in MEMORIES if not memory.addressed}
MACHINE_FIELDS = tuple(f.name for f in fields(HardwareConfig) if type(f.default) is int)


class SpaceError(CodesignError):
    """A search space that is empty, contradictory or cannot be read."""


@dataclass(frozen=True)
class Architectures:
    """The Transformers of a space: decoders whose heads are d_model / 12 wide."""

    layers: tuple[int, ...] = Space.layers
    d_model: tuple[int, ...] = Space.d_model
    heads: tuple[int, ...] = Space.heads
    d_ff: tuple[int, ...] = Space.d_ff
    sequence: int = 128
    lm_head: bool = False
    vocab_size: int = WIKITEXT2_VOCABULARY
    uniform: bool = False  # all layers have the heads and the FFN width of the first

    @property
    def size(self) -> int:
        """Number of distinct shapes."""
        per_layer = len(self.heads) * len(self.d_ff)
        counts = [per_layer ** (1 if self.uniform else layers) for layers in self.layers]
        return int(len(self.d_model) * sum(counts))

    def trained(self, positions: int) -> Space:
        """The space of decoders that a supernet of these is trained for; raises ModelError."""
        choices = {name: tuple(sorted(getattr(self, name))) for name in CHOSEN}
        return Space(vocab_size=self.vocab_size, max_positions=positions, **choices)


MOST_LIMIT = 1e30  # of a constraint


@dataclass(frozen=True)
class Constraints:
    """What a candidate must keep to; None is no limit."""

    area_mm2: float | None = 2.0
    power_w: float | None = 1.0
    sram_timing: bool = True  # every memory cycles within a clock period


@dataclass(frozen=True)
class Shape:
    """One Transformer of a space."""

    d_model: int
    heads: tuple[int, ...]
    d_ff: tuple[int, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.heads)


@dataclass(frozen=True)
class SearchSpace:
    """A Cartesian product of choices; raises SpaceError naming every violation."""

    transformer: Architectures = field(default_factory=Architectures)
    base: HardwareConfig = field(default_factory=HardwareConfig)
    axes: tuple[tuple[str, tuple[int, ...]], ...] = tuple(DEFAULT_AXES.items())
    constraints: Constraints = field(default_factory=Constraints)

    def __post_init__(self) -> None:
        violations = list(self._violations())
        if violations:
            raise SpaceError("invalid search space: " + "; ".join(violations))

    # -- Genes -------------------------------------------------------------------------------------

    @cached_property
    def most_layers(self) -> int:
        """Layers of the deepest Transformer."""
        return max(self.transformer.layers)

    @cached_property
    def cardinalities(self) -> Ints:
        """Number of choices of every gene [genes]."""
        t, deep = self.transformer, self.most_layers
        network = [len(t.layers), len(t.d_model)] + [len(t.heads)] * deep + [len(t.d_ff)] * deep
        return np.array([*(len(values) for _, values in self.axes), *network])

    @cached_property
    def columns(self) -> Mapping[str, slice]:
        """Where the genes of the machine, layers, d_model, heads and d_ff are."""
        at, deep = len(self.axes), self.most_layers
        return {
            "machine": slice(0, at),
            "layers": slice(at, at + 1),
            "d_model": slice(at + 1, at + 2),
            "heads": slice(at + 2, at + 2 + deep),
            "d_ff": slice(at + 2 + deep, at + 2 + 2 * deep),
        }

    def canonical(self, genes: Genes) -> Genes:
        """The same candidates with the genes of absent layers 0, of uniform ones as the first."""
        genes = genes.copy()
        if self.transformer.uniform:
            for name in ("heads", "d_ff"):
                genes[:, self.columns[name]] = genes[:, self.columns[name]][:, :1]
        absent = np.arange(self.most_layers) >= self.layers(genes)[:, None]
        genes[:, self.columns["heads"]][absent] = 0
        genes[:, self.columns["d_ff"]][absent] = 0
        return genes

    def layers(self, genes: Genes) -> Ints:
        """Number of layers of each candidate [n]."""
        return np.array(self.transformer.layers)[genes[:, self.columns["layers"]][:, 0]]

    def d_model(self, genes: Genes) -> Ints:
        """Model width of each candidate [n]."""
        return np.array(self.transformer.d_model)[genes[:, self.columns["d_model"]][:, 0]]

    def heads(self, genes: Genes) -> Ints:
        """Heads of each layer [n, most_layers]; 0 where there is none."""
        return self._per_layer(genes, "heads", self.transformer.heads)

    def d_ff(self, genes: Genes) -> Ints:
        """FFN width of each layer [n, most_layers]; 0 where there is none."""
        return self._per_layer(genes, "d_ff", self.transformer.d_ff)

    def _per_layer(self, genes: Genes, name: str, choices: tuple[int, ...]) -> Ints:
        present = np.arange(self.most_layers) < self.layers(genes)[:, None]
        found: Ints = np.where(present, np.array(choices)[genes[:, self.columns[name]]], 0)
        return found

    def sample(self, count: int, rng: np.random.Generator) -> Genes:
        """Random candidates [count, genes], every gene uniform."""
        drawn = rng.integers(0, self.cardinalities, (count, len(self.cardinalities)))
        return self.canonical(drawn.astype(np.uint8))

    def corners(self) -> Genes:
        """The smallest and the largest Transformer, each on the machine nearest to the base."""
        t = self.transformer
        machine = [self._nearest(name, values) for name, values in self.axes]
        rows = []
        for pick in (min, max):
            at = [values.index(pick(values)) for values in (t.layers, t.d_model, t.heads, t.d_ff)]
            deep = self.most_layers
            rows.append([*machine, at[0], at[1], *([at[2]] * deep), *([at[3]] * deep)])
        return self.canonical(np.array(rows, dtype=np.uint8))

    def _nearest(self, name: str, values: tuple[int, ...]) -> int:
        own = int(getattr(self.base, name)) or 1  # a memory that the base has not: least is nearest
        return min(range(len(values)), key=lambda i: (abs(math.log((values[i] or 1) / own)), i))

    def genes(self, machine: Mapping[str, int], shape: Shape) -> Genes:
        """The candidate [genes] of a machine's fields and a Transformer.

        Raises SpaceError naming what the space does not have.
        """
        t = self.transformer
        if len(shape.heads) != len(shape.d_ff):
            raise SpaceError("heads and d_ff name different numbers of layers")
        row = [_place(name, values, machine[name]) for name, values in self.axes]
        row.append(_place("layers", t.layers, shape.layers))
        row.append(_place("d_model", t.d_model, shape.d_model))
        for name, values in (("heads", shape.heads), ("d_ff", shape.d_ff)):
            row += [_place(name, getattr(t, name), value) for value in values]
            row += [0] * (self.most_layers - shape.layers)
        found = np.array(row, dtype=np.uint8)
        if not np.array_equal(self.canonical(found[None])[0], found):
            raise SpaceError("heads and d_ff differ between layers but the space is uniform")
        return found

    # -- Machines and Transformers -----------------------------------------------------------------

    @property
    def machines(self) -> int:
        """Number of combinations of machine choices, possible ones or not."""
        return math.prod(len(values) for _, values in self.axes)

    @property
    def size(self) -> int:
        """Number of candidates, before constraints."""
        return self.machines * self.transformer.size

    def machine_numbers(self, genes: Genes) -> Ints:
        """The machine of each candidate [n] as its number in the grid of the axes."""
        number = np.zeros(len(genes), dtype=np.int64)
        for column, (_, values) in enumerate(self.axes):
            number = number * len(values) + genes[:, column]
        return number

    def machine(self, number: int) -> HardwareConfig:
        """The machine of a number; raises ConfigError where none can be built."""
        values: dict[str, int] = {}
        for name, choices in reversed(self.axes):
            number, place = divmod(number, len(choices))
            values[name] = choices[place]
        return replace(self.base, name=machine_name(self.base, values), **values)  # type: ignore[arg-type]

    def shape(self, genes: Genes) -> Shape:
        """The Transformer of one candidate [genes]."""
        row = genes[None]
        deep = int(self.layers(row)[0])
        heads, d_ff = self.heads(row)[0, :deep].tolist(), self.d_ff(row)[0, :deep].tolist()
        return Shape(int(self.d_model(row)[0]), tuple(heads), tuple(d_ff))

    def network(self, shape: Shape) -> DecoderConfig:
        """A Transformer as `models` builds it."""
        t = self.transformer
        return lm(
            layers=shape.layers,
            d_model=shape.d_model,
            heads=shape.heads,
            d_ff=shape.d_ff,
            vocab_size=t.vocab_size,
            max_positions=max(512, t.sequence),
            lm_head=t.lm_head,
        )

    @property
    def largest(self) -> Shape:
        """The largest Transformer of the space: what improvements are measured against."""
        t = self.transformer
        deep = max(t.layers)
        return Shape(max(t.d_model), (max(t.heads),) * deep, (max(t.d_ff),) * deep)

    # -- Text --------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """The space as plain values, as its TOML has them."""
        transformer = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.transformer).items()
        }
        hardware = asdict(self.base)
        own = hardware.pop("name")  # of no machine: each is named by what it has
        hardware = {"preset": own if own in PRESETS else HardwareConfig.name, **hardware}
        hardware |= {
            name: list(values) if len(values) > 1 else values[0] for name, values in self.axes
        }
        constraints = {
            key: value for key, value in asdict(self.constraints).items() if value is not None
        }
        constraints |= {
            key: "none" for key, value in asdict(self.constraints).items() if value is None
        }
        return {"transformer": transformer, "hardware": hardware, "constraints": constraints}

    def to_toml(self) -> str:
        """The space as TOML text that `read_space` reads back equal."""
        return tomli_w.dumps(self.document())

    # -- Checks ------------------------------------------------------------------------------------

    def _violations(self) -> Iterator[str]:
        wrong = [*self._wrong_transformers()]
        for name, values in self.axes:
            wrong += _bad_choices(name, values)
        if self.machines > MOST_MACHINES:
            wrong.append(
                f"{self.machines:,} machines are more than {MOST_MACHINES:,}: thin the lists"
            )
        yield from wrong or self._impossible_machines()
        yield from self._wrong_constraints()

    def _wrong_transformers(self) -> Iterator[str]:
        t = self.transformer
        for name in CHOSEN:
            yield from _bad_choices(name, getattr(t, name))
        for name in ("sequence", "vocab_size"):
            yield from _not_a_size(name, getattr(t, name))
        for name in ("lm_head", "uniform"):
            if type(getattr(t, name)) is not bool:
                yield f"{name} is {getattr(t, name)!r} but must be true or false"
        for width in t.d_model:
            if type(width) is int and width % LM_HEADS_OF_FULL_WIDTH:
                yield f"d_model {width} is no multiple of {LM_HEADS_OF_FULL_WIDTH}"
        for heads in t.heads:
            if type(heads) is int and heads > LM_HEADS_OF_FULL_WIDTH:
                yield f"heads {heads} is more than {LM_HEADS_OF_FULL_WIDTH}"
        if any(type(layers) is int and layers > MOST_LAYERS for layers in t.layers):
            yield f"layers {max(t.layers)} is more than {MOST_LAYERS}"

    def _impossible_machines(self) -> Iterator[str]:
        """Why values that no machine of the space can have cannot be, each reason once."""
        grid = np.arange(self.machines).reshape([len(values) for _, values in self.axes])
        found: dict[str, str] = {}
        for axis, (name, values) in enumerate(self.axes):
            for place, value in enumerate(values):
                reason = self._why_none(np.take(grid, place, axis).ravel().tolist(), name)
                if reason.startswith(f"{name} is "):
                    found[reason] = reason
                elif reason:
                    found.setdefault(reason, f"no machine can have {name} {value}: {reason}")
                if reason:
                    break
        yield from found.values()

    def _why_none(self, numbers: Sequence[int], name: str) -> str:
        """Why none of these machines can be built; empty where one can."""
        reasons: tuple[str, ...] = ()
        for number in numbers:
            try:
                self.machine(number)
            except ConfigError as error:
                reasons = reasons or error.violations
            else:
                return ""
        return next((text for text in reasons if text.startswith(f"{name} is ")), reasons[0])

    def _wrong_constraints(self) -> Iterator[str]:
        for name in ("area_mm2", "power_w"):
            limit = getattr(self.constraints, name)
            number = type(limit) in (int, float)
            if limit is not None and not (number and 0 < limit <= MOST_LIMIT):
                yield f"constraint {name} is {limit!r} but must be a positive number or 'none'"
        timing = self.constraints.sram_timing
        if type(timing) is not bool:
            yield f"constraint sram_timing is {timing!r} but must be true or false"


def _place(name: str, values: tuple[int, ...], value: int) -> int:
    if value not in values:
        raise SpaceError(f"the space has no {name} of {value}")
    return values.index(value)


def machine_name(base: HardwareConfig, values: Mapping[str, int]) -> str:
    """A short name that tells machines of one space apart: 16x16-64K-256K-16B."""
    full = asdict(base) | dict(values)
    sizes = {memory.size: full[memory.size] for memory in SHOWN}
    parts = [f"{full['dim']}x{full['dim']}", *(f"{size / K:g}K" for size in sizes.values() if size)]
    name = "-".join([*parts, f"{full['bus_bytes']}B"])
    extra = [n for n in values if n not in ("dim", *sizes, "bus_bytes")]
    short = {memory.banks: f"{memory.name[0]}b" for memory in SHOWN}
    changed = [f"{short.get(n, n)}{values[n]}" for n in extra if values[n] != getattr(base, n)]
    return "-".join([name, *changed])


def small_space() -> SearchSpace:
    """The space whose supernet trains in minutes on the built-in corpus."""
    return SearchSpace(
        Architectures(
            SMALL.layers,
            SMALL.d_model,
            SMALL.heads,
            SMALL.d_ff,
            sequence=SMALL.max_positions,
            vocab_size=SMALL.vocab_size,
        )
    )


def _bad_choices(name: str, values: Sequence[int]) -> Iterator[str]:
    if not values:
        yield f"{name} has no choices"
    elif len(values) > MOST_CHOICES:
        yield f"{name} has {len(values)} choices but at most {MOST_CHOICES}"
    for value in values:
        if type(value) is not int or value < (0 if name in _MAY_BE_NONE else 1):
            yield bad_choice(name, value)
            break
        most = LARGEST.get(name, LARGEST_OF_MACHINE)
        if value > most:
            yield f"{name} has the choice {said(value)} but {most} is the most"
            break


def bad_choice(name: str, value: Any) -> str:
    """What is said of a choice that is no positive whole number."""
    return f"{name} has the choice {said(value)} but must hold positive whole numbers"


def _not_a_size(name: str, value: Any) -> Iterator[str]:
    if type(value) is not int or not 1 <= value <= LARGEST[name]:
        yield f"{name} is {said(value)} but must be a whole number from 1 to {LARGEST[name]}"
