"""The space of a joint search: Transformer shapes times machines, under constraints.

A candidate is a row of genes, each the place of a value in the list of its choices: those of the
machine first, then those of the network, axis by axis of its family; a layer axis has a gene a layer.
Genes of layers that a candidate does not have are 0, so that equal candidates have equal genes. The default is
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

from codesign.hw.errors import ConfigError, Violation
from codesign.hw.machine.config import LARGEST as LARGEST_OF_MACHINE
from codesign.hw.machine.config import PRESETS, HardwareConfig
from codesign.hw.machine.memories import MEMORIES, SHOWN
from codesign.models.supernet.space import SMALL
from codesign.models.zoo.axes import NetworkShape
from codesign.models.zoo.model_config import ModelConfig
from codesign.search.space.networks import Networks, SpaceError, bad_choices, networks

Genes = npt.NDArray[np.uint8]  # [n, genes]
Ints = npt.NDArray[np.int64]

MOST_MACHINES = 100_000

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
_MAY_BE_NONE = {memory.size for memory in MEMORIES if not memory.addressed}
AXIS_FIELDS = tuple(f.name for f in fields(HardwareConfig) if type(f.default) is int)


MOST_LIMIT = 1e30  # of a constraint


@dataclass(frozen=True)
class Constraints:
    """What a candidate must keep to; None is no limit."""

    area_mm2: float | None = 2.0
    power_w: float | None = 1.0
    sram_timing: bool = True  # every memory cycles within a clock period


@dataclass(frozen=True)
class SearchSpace:
    """A Cartesian product of choices; raises SpaceError naming every violation."""

    transformer: Networks = field(default_factory=networks)
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
        """Layers of the deepest network."""
        return max(self.transformer.depths)

    @cached_property
    def columns(self) -> Mapping[str, slice]:
        """Where the genes of the machine and of each axis of the networks are."""
        found, at = {"machine": slice(0, len(self.axes))}, len(self.axes)
        for axis in self.transformer.axes:
            width = self.most_layers if axis.scope == "layer" else 1
            found[axis.name] = slice(at, at + width)
            at += width
        return found

    @cached_property
    def cardinalities(self) -> Ints:
        """Number of choices of every gene [genes]."""
        found = [len(values) for _, values in self.axes]
        for name, values in self.transformer.choices:
            at = self.columns[name]
            found += [len(values)] * (at.stop - at.start)
        return np.array(found)

    @cached_property
    def layer_columns(self) -> tuple[slice, ...]:
        """Where the genes of each layer axis are."""
        return tuple(self.columns[name] for name, _ in self.transformer.of_layer)

    def canonical(self, genes: Genes) -> Genes:
        """The same candidates with the genes of absent layers 0, of uniform ones as the first."""
        genes = genes.copy()
        if self.transformer.uniform:
            for at in self.layer_columns:
                genes[:, at] = genes[:, at][:, :1]
        absent = np.arange(self.most_layers) >= self.depth(genes)[:, None]
        for at in self.layer_columns:
            genes[:, at][absent] = 0
        return genes

    def depth(self, genes: Genes) -> Ints:
        """Number of layers of each candidate [n]."""
        axis = self.transformer.depth
        if axis is None:
            return np.ones(len(genes), dtype=np.int64)
        return self._choices(genes, axis.name)[:, 0]

    def values(self, name: str, genes: Genes) -> Ints:
        """The value of each candidate on an axis of its network: [n], or of a layer axis
        [n, most_layers], 0 where there is no layer."""
        if self.columns[name] not in self.layer_columns:
            return self._choices(genes, name)[:, 0]
        present = np.arange(self.most_layers) < self.depth(genes)[:, None]
        found: Ints = np.where(present, self._choices(genes, name), 0)
        return found

    def all_values(self, genes: Genes) -> dict[str, Ints]:
        """`values` of every axis, by name."""
        return {axis.name: self.values(axis.name, genes) for axis in self.transformer.axes}

    def _choices(self, genes: Genes, name: str) -> Ints:
        found: Ints = np.array(self.transformer[name])[genes[:, self.columns[name]]]
        return found

    def sample(self, count: int, rng: "np.random.Generator") -> Genes:
        """Random candidates [count, genes], every gene uniform."""
        drawn = rng.integers(0, self.cardinalities, (count, len(self.cardinalities)))
        return self.canonical(drawn.astype(np.uint8))

    def corners(self) -> Genes:
        """The smallest and the largest network, each on the machine nearest to the base."""
        machine = [self._nearest(name, values) for name, values in self.axes]
        rows = []
        for pick in (min, max):
            row = [*machine]
            for name, values in self.transformer.choices:
                at = self.columns[name]
                row += [values.index(pick(values))] * (at.stop - at.start)
            rows.append(row)
        return self.canonical(np.array(rows, dtype=np.uint8))

    def _nearest(self, name: str, values: tuple[int, ...]) -> int:
        own = int(getattr(self.base, name)) or 1  # a memory that the base has not: least is nearest
        return min(range(len(values)), key=lambda i: (abs(math.log((values[i] or 1) / own)), i))

    def genes(self, machine: Mapping[str, int], shape: NetworkShape) -> Genes:
        """The candidate [genes] of a machine's fields and a network.

        Raises SpaceError naming what the space does not have.
        """
        layered = [name for name, _ in self.transformer.of_layer]
        if len({len(shape[name]) for name in layered}) > 1:
            raise SpaceError(f"{' and '.join(layered)} name different numbers of layers")
        row = [_place(name, values, machine[name]) for name, values in self.axes]
        for name, values in self.transformer.choices:
            own = shape[name] if name in layered else (shape[name],)
            row += [_place(name, values, value) for value in own]
            at = self.columns[name]
            row += [0] * (at.stop - at.start - len(own))
        found = np.array(row, dtype=np.uint8)
        if not np.array_equal(self.canonical(found[None])[0], found):
            raise SpaceError(
                f"{' and '.join(layered)} differ between layers but the space is uniform"
            )
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

    def shape(self, genes: Genes) -> NetworkShape:
        """The network of one candidate [genes]."""
        return next(iter(self.shapes(genes[None])))

    def shapes(self, genes: Genes) -> Iterator[NetworkShape]:
        """The network of each candidate [n, genes]."""
        depth = self.depth(genes).tolist()
        columns = {name: values.tolist() for name, values in self.all_values(genes).items()}
        for row, deep in enumerate(depth):
            yield NetworkShape(
                tuple(
                    (name, tuple(of[row][:deep]) if isinstance(of[row], list) else of[row])
                    for name, of in columns.items()
                )
            )

    def network(self, shape: NetworkShape) -> ModelConfig:
        """A network as `models` builds it."""
        return self.transformer.config(shape)

    @property
    def largest(self) -> NetworkShape:
        """The largest network of the space: what improvements are measured against."""
        return self.transformer.largest

    # -- Text --------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """The space as plain values, as its TOML has them."""
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
        return {
            "transformer": self.transformer.document(),
            "hardware": hardware,
            "constraints": constraints,
        }

    def to_toml(self) -> str:
        """The space as TOML text that `read_space` reads back equal."""
        return tomli_w.dumps(self.document())

    # -- Checks ------------------------------------------------------------------------------------

    def _violations(self) -> Iterator[str]:
        wrong = [*self.transformer.violations()]
        for name, values in self.axes:
            least = 0 if name in _MAY_BE_NONE else 1
            wrong += bad_choices(name, values, LARGEST_OF_MACHINE, least)
        if self.machines > MOST_MACHINES:
            wrong.append(
                f"{self.machines:,} machines are more than {MOST_MACHINES:,}: thin the lists"
            )
        yield from wrong or self._impossible_machines()
        yield from self._wrong_constraints()

    def _impossible_machines(self) -> Iterator[str]:
        """Why values that no machine of the space can have cannot be, each reason once."""
        grid = np.arange(self.machines).reshape([len(values) for _, values in self.axes])
        found: dict[str, str] = {}
        for axis, (name, values) in enumerate(self.axes):
            for place, value in enumerate(values):
                reason = self._why_none(np.take(grid, place, axis).ravel().tolist(), name)
                if reason is None:
                    continue
                if reason.field == name:
                    found[reason] = reason
                else:
                    found.setdefault(reason, f"no machine can have {name} {value}: {reason}")
                break
        yield from found.values()

    def _why_none(self, numbers: Sequence[int], name: str) -> Violation | None:
        """Why none of these machines can be built, by the field `name` if so; None where one can."""
        reasons: tuple[Violation, ...] = ()
        for number in numbers:
            try:
                self.machine(number)
            except ConfigError as error:
                reasons = reasons or error.violations
            else:
                return None
        return next((one for one in reasons if one.field == name), reasons[0])

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
    choices: dict[str, Any] = dict(SMALL.choices)
    return SearchSpace(
        networks(sequence=SMALL.max_positions, vocab_size=SMALL.vocab_size, **choices)
    )
