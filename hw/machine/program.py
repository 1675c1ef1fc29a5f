"""Program: kernels of counted loops over instructions, the language all three views of the machine take.

The grammar, smallest first:

    Guard        loop index in [lo, hi), counted from the front or from the back
    Cases        a number that changes in the last iteration of some loops (ragged edges)
    Affine       base + sum(index * stride), optionally rotating through a ring of buffers
    Token        one wait on, or one signal to, a token channel
    Instruction  an operation of `isa.py` with its fields, guards and tokens
    Loop         count, body
    Pipeline     a software-pipelined nest: step g runs stage s on the g-s th index, so that
                 stage 0 (loads) runs ahead of stage 1 (compute) and so on
    Kernel       a body, with what it computes; starts and ends with all units idle
    Program      kernels in order

Timing depends on operations, rows, blocks, guards and tokens, never on addresses. Every number may
also be a numpy array: such a kernel is a batch of kernels of one structure, which the mapper prices
in one call.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Int: TypeAlias = "int | npt.NDArray[np.int64]"
NO_UPPER_BOUND = 1 << 40


@dataclass(frozen=True)
class Guard:
    """True while lo <= index < hi; with `from_end`, the index is counted back from the last."""

    loop: str
    lo: Int = 0
    hi: Int = NO_UPPER_BOUND
    from_end: bool = False

    def holds(self, index: int, count: int) -> bool:
        """Whether the guard lets iteration `index` of `count` pass."""
        position = count - 1 - index if self.from_end else index
        return bool(self.lo <= position < self.hi)


Guards: TypeAlias = tuple[Guard, ...]


def first(*loops: str) -> Guards:
    """Guards that hold in the first iteration of every loop named."""
    return tuple(Guard(loop, hi=1) for loop in loops)


def last(*loops: str) -> Guards:
    """Guards that hold in the last iteration of every loop named."""
    return tuple(Guard(loop, hi=1, from_end=True) for loop in loops)


@dataclass(frozen=True)
class Cases:
    """`default`, replaced by the first case all of whose loops are in their last iteration."""

    default: Int
    cases: tuple[tuple[tuple[str, ...], Int], ...] = ()

    def at(self, is_last: Mapping[str, bool]) -> Int:
        """The value where `is_last` tells of each loop whether it is in its last iteration."""
        for loops, value in self.cases:
            if all(is_last[loop] for loop in loops):
                return value
        return self.default


Value: TypeAlias = "int | npt.NDArray[np.int64] | Cases"


@dataclass(frozen=True)
class Ring:
    """A rotating buffer: slot (offset + sum(index * step)) mod slots, `pitch` apart.

    With `held`, the first `held` indices of `held_loop` have a slot each of their own, ahead of
    the ring. Where the guards `jump_when` hold, `jump` is added to the turn: a nest that is
    software-pipelined by hand takes its first or last turn out of step.
    """

    slots: Int
    pitch: Int
    steps: Mapping[str, Int]
    offset: Int = 0
    held: Int = 0
    held_loop: str = ""
    jump: Int = 0
    jump_when: Guards = ()

    def at(self, indices: Mapping[str, int], counts: Mapping[str, int]) -> int:
        """Offset of the slot at these loop indices."""
        if self.held_loop and indices[self.held_loop] < self.held:
            return int(indices[self.held_loop] * self.pitch)
        turn = self.offset + sum(indices[loop] * step for loop, step in self.steps.items())
        if self.jump_when and all(g.holds(indices[g.loop], counts[g.loop]) for g in self.jump_when):
            turn = turn + self.jump
        return int((self.held + turn % self.slots) * self.pitch)


@dataclass(frozen=True)
class Affine:
    """An address: base + sum(index * stride) (+ the offset of a rotating buffer)."""

    base: Int = 0
    strides: Mapping[str, Int] = field(default_factory=dict)
    ring: Ring | None = None

    def at(self, indices: Mapping[str, int], counts: Mapping[str, int]) -> int:
        """The address at these loop indices and counts."""
        address = self.base + sum(indices[loop] * step for loop, step in self.strides.items())
        return int(address) + (self.ring.at(indices, counts) if self.ring is not None else 0)


@dataclass(frozen=True)
class Token:
    """`count` tokens of a channel (see `isa.CHANNELS`), passed only where the guards hold."""

    channel: str
    when: Guards = ()
    count: Int = 1


@dataclass(frozen=True)
class Instruction:
    """One operation. It is issued only where all guards of `when` hold.

    `values` are numbers that timing sees (rows, blocks, ...), `addresses` those it does not;
    `flags` are true where all their guards hold (an empty tuple: always).
    """

    op: str
    values: Mapping[str, Value] = field(default_factory=dict)
    addresses: Mapping[str, Affine] = field(default_factory=dict)
    flags: Mapping[str, Guards] = field(default_factory=dict)
    when: Guards = ()
    waits: tuple[Token, ...] = ()
    signals: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Loop:
    """`count` repetitions of `body`; the name is how guards and addresses refer to its index."""

    name: str
    count: Value
    body: "Body"


@dataclass(frozen=True)
class Pipeline:
    """A nest of loops whose stages run skewed: at step g, stage s runs on index g - s.

    Steps follow the nest's lexicographic order; after the last one the later stages run dry.
    """

    loops: tuple[tuple[str, Int], ...]
    stages: tuple["Body", ...]


Node: TypeAlias = "Instruction | Loop | Pipeline"
Body: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True)
class Kernel:
    """One step of a Program: accelerator work (`body`), host work (`host_cycles`), or both in turn."""

    name: str
    body: Body = ()
    host_cycles: int = 0
    note: str = ""  # the mapping, for people


@dataclass(frozen=True)
class Region:
    """A named range of DRAM: a tensor in the blocked layout, weights or parameters."""

    name: str
    address: int
    size_bytes: int


@dataclass(frozen=True)
class Program:
    """Kernels in order, the machine they were made for, and where their tensors lie in DRAM."""

    name: str
    kernels: tuple[Kernel, ...]
    memory: tuple[Region, ...] = ()

    @property
    def dram_bytes(self) -> int:
        """Bytes of DRAM that the memory map spans."""
        return max((region.address + region.size_bytes for region in self.memory), default=0)


@dataclass(frozen=True)
class Issued:
    """An instruction with every field a number: what the machine receives.

    `site` numbers the instruction in the kernel's text, in reading order.
    """

    site: int
    op: str
    values: Mapping[str, int]
    addresses: Mapping[str, int]
    flags: Mapping[str, bool]
    waits: tuple[tuple[str, int], ...]
    signals: tuple[tuple[str, int], ...]


def instructions(body: Body) -> Iterator[Instruction]:
    """The instructions of a body in reading order, loops left rolled."""
    for node in body:
        match node:
            case Instruction():
                yield node
            case Loop():
                yield from instructions(node.body)
            case Pipeline():
                for stage in node.stages:
                    yield from instructions(stage)


def unroll(body: Body) -> Iterator[Issued]:
    """Every instruction of a kernel's body in program order, all fields evaluated."""
    yield from _Unroller().body(body, 0)


def _size(node: Node) -> int:
    """Instructions in the text of a node."""
    return sum(1 for _ in instructions((node,)))


class _Unroller:
    """Walks a body with the current index and count of every enclosing loop.

    `site` is the number of the body's first instruction in the kernel's text.
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.count: dict[str, int] = {}

    def body(self, body: Body, site: int) -> Iterator[Issued]:
        for node in body:
            match node:
                case Instruction():
                    if self.holds(node.when):
                        yield self.issue(node, site)
                case Loop():
                    self.count[node.name] = count = self.value(node.count)
                    for i in range(count):
                        self.index[node.name] = i
                        yield from self.body(node.body, site)
                case Pipeline():
                    yield from self.pipeline(node, site)
            site += _size(node)

    def pipeline(self, node: Pipeline, site: int) -> Iterator[Issued]:
        sites = [site + sum(map(_size, chain(*node.stages[:s]))) for s in range(len(node.stages))]
        names = [name for name, _ in node.loops]
        counts = [int(count) for _, count in node.loops]
        self.count.update(zip(names, counts, strict=True))
        steps = list(np.ndindex(*counts))
        for g in range(len(steps) + len(node.stages) - 1 if steps else 0):
            for s, stage in enumerate(node.stages):
                if 0 <= g - s < len(steps):
                    self.index.update(zip(names, steps[g - s], strict=True))
                    yield from self.body(stage, sites[s])

    def holds(self, guards: Guards) -> bool:
        return all(guard.holds(self.index[guard.loop], self.count[guard.loop]) for guard in guards)

    def value(self, value: Value) -> int:
        if isinstance(value, Cases):
            is_last = {name: i == self.count[name] - 1 for name, i in self.index.items()}
            return int(value.at(is_last))
        return int(value)

    def tokens(self, tokens: Sequence[Token]) -> tuple[tuple[str, int], ...]:
        return tuple((t.channel, int(t.count)) for t in tokens if self.holds(t.when))

    def issue(self, node: Instruction, site: int) -> Issued:
        return Issued(
            site=site,
            op=node.op,
            values={name: self.value(value) for name, value in node.values.items()},
            addresses={name: a.at(self.index, self.count) for name, a in node.addresses.items()},
            flags={name: self.holds(guards) for name, guards in node.flags.items()},
            waits=self.tokens(node.waits),
            signals=self.tokens(node.signals),
        )


def take(body: Body, item: int) -> Body:
    """One kernel body out of a batch: every array replaced by its element `item`."""
    picked: Any = _take(body, item)
    return tuple(picked)


def _take(thing: Any, item: int) -> Any:
    if isinstance(thing, np.ndarray):
        return int(thing.reshape(-1)[item if thing.size > 1 else 0])
    if isinstance(thing, tuple):
        return tuple(_take(element, item) for element in thing)
    if isinstance(thing, Mapping):
        return {key: _take(element, item) for key, element in thing.items()}
    if isinstance(thing, Guard | Cases | Ring | Affine | Token | Instruction | Loop | Pipeline):
        fields = {name: _take(value, item) for name, value in vars(thing).items()}
        return type(thing)(**fields)
    return thing
