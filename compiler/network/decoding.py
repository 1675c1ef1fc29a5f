"""A decoder in int8, token after token, on Programs for a few lengths of its cache.

    prompt ──► Program of a prompt ──► cache ──► Program of a step ──► scores ──► token ──► step ...

A step's Program has so many places in its cache (`slots`), of which the mask over keys shows those that
hold a token: one Program serves every position up to its length, and then a longer one takes over the
cache. Keys and values stay in DRAM as attention reads them; a token's rows are written behind those
before it, and no other is touched.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.network.inference import Backend, Network, Run, by_kernels
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.compiler.plan.lower import Step
from codesign.compiler.plan.work import Work
from codesign.compiler.program.cache import CachedTensor, cached_tensors
from codesign.compiler.rewrite.given_scales import HIGHEST, Codes
from codesign.hw.errors import ModelError

# Compiles a file for some tokens behind so many, these last: (past, tokens, codes of cached tensors).
Compile: TypeAlias = Callable[[int, int, Mapping[str, Codes]], Network]


class StepProgram:
    """The Program of one token behind a cache, and what of the file it leaves out.

    Raises ModelError where what attention reads of the cache is not a row for each token.
    """

    def __init__(self, file: DecoderFile, network: Network, slots: int) -> None:
        self.file, self.network, self.slots = file, network, slots
        self.caches, self.made = cached_tensors(network.plan, file.past)
        self.past = file.empty(slots - 1)
        self.given = {each.tensor: self._given(each) for each in self.caches.values()}
        for tensor in self.caches:
            self._require_rows(tensor)

    @property
    def codes(self) -> dict[str, Codes]:
        """The codes of the cached tensors."""
        scales = self.network.quantized.scales
        return {t: Codes(float(scales[t][0]), 0, -HIGHEST, HIGHEST) for t in self.caches}

    @property
    def chip_cycles(self) -> int:
        """Cycles of the kernels of a token."""
        steps = self.network.plan.steps
        return sum(s.cycles - s.host_cycles for s in steps if s.work.problem is not None)

    @property
    def host_cycles(self) -> int:
        """Cycles of the host for a token; of what it makes of the cache, for the rows that are new."""
        return sum(self._host_cycles(step) for step in self.network.plan.steps)

    def _host_cycles(self, step: Step) -> int:
        if not self.made.intersection(step.work.outputs):
            return step.host_cycles
        (output,) = step.work.outputs
        row = math.prod(self.network.matrices.shapes[output]) // self.slots
        return -(-step.host_cycles * row // step.work.elements)  # it may move new rows alone

    def start(self, backend: Backend, held: Mapping[str, Array] | None = None) -> None:
        """A cache of what a shorter one held, and nothing else."""
        for tensor in self.caches:
            matrix = self.network.matrices[tensor]
            columns = matrix.heads * matrix.columns
            backend.write(tensor, np.zeros((self.slots, columns), dtype=np.int8))
        for tensor, values in (held or {}).items():
            backend.put(tensor, 0, self.network.quantized.codes(tensor, values))

    def held(self, backend: Backend) -> dict[str, Array]:
        """What is in the cache, in float."""
        return {t: self.network.quantized.values(t, backend.read(t)) for t in self.caches}

    def fill(self, backend: Backend, past: Feeds, tokens: int) -> None:
        """The first `tokens` of a past in float, which has one place fewer than the cache."""
        for tensor in self.caches:
            values = self._matrix(tensor, past, self._nothing(tensor))
            rows = self.network.quantized.codes(tensor, values[:tokens])
            backend.put(tensor, 0, rows)

    def new_rows(self, tensor: str, known: Feeds) -> Array:
        """What the last token adds to a cached tensor, in int8."""
        values = self._matrix(tensor, self.past, known)[-1:]
        return self.network.quantized.codes(tensor, values)

    def scores(self, backend: Backend, token: int, place: int) -> Array:
        """Append a token behind `place` others, and return the scores of the next [vocabulary]."""
        seen = np.arange(self.slots) <= place
        feeds = self.file.feeds([token], [place], seen, self.past)
        return _Step(self, feeds, backend, place).scores()

    def _given(self, cache: CachedTensor) -> tuple[str, ...]:
        """The tensors from which the host computes the rows of a new token."""
        inputs = self.network.model.inputs
        given = tuple(name for name in cache.new if name not in inputs)
        return (*given, *by_kernels(self.network, given, (cache.tensor,)))

    def _nothing(self, tensor: str) -> dict[str, Array]:
        shapes = self.network.matrices.shapes
        return {name: np.zeros(shapes[name], np.float32) for name in self.given[tensor]}

    def _matrix(self, tensor: str, past: Feeds, known: Feeds) -> Array:
        """A cached tensor [slots, columns] in float: of a past, and what it is given of the new token."""
        part = self.network.clamped.part(self.given[tensor], (tensor,))
        feeds = {**self.file.step(0, 0, past), **known}
        return self.network.matrices[tensor].of(part(feeds)[tensor])

    def _require_rows(self, tensor: str) -> None:
        rng = np.random.default_rng(0)
        drawn = {n: rng.standard_normal(v.shape).astype(v.dtype) for n, v in self.past.items()}
        turned = {n: np.roll(v, 1, axis=self.file.past[n]) for n, v in drawn.items()}
        rows = self.network.matrices[tensor].rows
        if rows == self.slots:
            found, moved = (self._matrix(tensor, p, self._nothing(tensor)) for p in (drawn, turned))
            if np.array_equal(np.roll(found[:-1], 1, axis=0), moved[:-1]):
                return
        raise ModelError(
            f"what attention reads of the cache, {tensor!r}, is not a row for each token: such a file "
            "cannot be run token after token"
        )


class _Step(Run):
    """One token on its way through a step's Program."""

    def __init__(self, step: StepProgram, feeds: Feeds, backend: Backend, place: int) -> None:
        super().__init__(step.network, feeds, backend)
        self.program, self.place = step, place

    def scores(self) -> Array:
        """Run every step; the scores from what the last ones wrote."""
        self.steps()
        wanted = self.program.file.scores
        given = [t for t in self.n.plan.graph.outputs if t not in self.program.made]
        found = self.computed(given, (wanted,), self.known(given))[wanted]
        return np.asarray(found[0, -1])

    def host(self, work: Work) -> None:
        """A step of the host; of what it makes of the cache, the rows of the new token."""
        (output,) = work.outputs
        if output in self.program.caches:
            given = self.program.given[output]
            known = {name: self.known((name,))[name] for name in given}
            self.backend.put(output, self.place, self.program.new_rows(output, known))
        elif output not in self.program.made:
            super().host(work)


@dataclass(frozen=True)
class Spent:
    """What one token, or a prompt, took of the machine, on the Program of so many `slots`."""

    slots: int
    tokens: int
    chip_cycles: int
    host_cycles: int


class TokenDecoder(Protocol):
    """One sequence in int8, whose tokens so far it knows; `spent` is a record a run."""

    spent: list[Spent]

    def prompt(self, ids: Sequence[int]) -> Array: ...  # the scores of the token behind them
    def next(self, token: int) -> Array: ...  # those of the token behind this one


@dataclass
class Decoding:
    """A file with a cache. `lengths` are the slots of the step Programs, ascending, and `prompts` the
    tokens of a prompt's Programs; each is compiled when it is first needed. `backend` makes where a
    Program runs.
    """

    file: DecoderFile
    compile: Compile
    backend: Callable[[Network], Backend]
    lengths: Sequence[int]
    prompts: Sequence[int]
    spent: list[Spent] = field(default_factory=list)
    place: int = 0
    step: StepProgram | None = None
    at: Backend | None = None

    def prompt(self, ids: Sequence[int]) -> Array:
        """Take in a prompt, padded where the file scores every position, and return the scores
        [vocabulary] of the next token."""
        if len(ids) == 1 or not self.file.at_once:
            return [self.next(token) for token in ids][-1]
        padded = next(length for length in self.prompts if length >= len(ids))
        length = padded if self.file.scores_all else len(ids)
        network = self.compile(0, length, {})
        outputs = Run(network, self.file.prefill(ids, length), self.backend(network)).outputs()
        step, at = self._ready(len(ids) + 1)
        step.fill(at, self.file.cache(outputs, len(ids), step.slots - 1), len(ids))
        self.spent.append(_spent(network, length, len(ids)))
        self.place = len(ids)
        last = len(ids) - 1 if self.file.scores_all else -1
        return np.asarray(outputs[self.file.scores][0, last])

    def next(self, token: int) -> Array:
        """Append a token, and return the scores [vocabulary] of the one behind it."""
        step, at = self._ready(self.place + 1)
        scores = step.scores(at, token, self.place)
        self.place += 1
        self.spent.append(Spent(step.slots, 1, step.chip_cycles, step.host_cycles))
        return scores

    def _ready(self, tokens: int) -> tuple[StepProgram, Backend]:
        """A step's Program with room for so many tokens, the cache in it."""
        if self.step is None or self.at is None or self.step.slots < tokens:
            slots = next(length for length in self.lengths if length >= tokens)
            codes = {} if self.step is None else self.step.codes
            step = StepProgram(self.file, self.compile(slots - 1, 1, codes), slots)
            held = None if self.step is None or self.at is None else self.step.held(self.at)
            at = self.backend(step.network)
            step.start(at, held)
            self.step, self.at = step, at
        return self.step, self.at


@dataclass
class Recomputing:
    """A file without a cache: every token runs all that are before it anew, padded to one of
    `lengths`."""

    file: DecoderFile
    compile: Compile
    backend: Callable[[Network], Backend]
    lengths: Sequence[int]
    spent: list[Spent] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    network: Network | None = None
    at: Backend | None = None
    length: int = 0

    def prompt(self, ids: Sequence[int]) -> Array:
        """Take in a prompt, and return the scores [vocabulary] of the next token."""
        self.ids += ids
        if self.network is None or self.at is None or self.length < len(self.ids):
            self.length = next(length for length in self.lengths if length >= len(self.ids))
            self.network = self.compile(0, self.length, {})
            self.at = self.backend(self.network)
        feeds = self.file.prefill(self.ids, self.length)
        outputs = Run(self.network, feeds, self.at).outputs()
        self.spent.append(_spent(self.network, self.length, len(ids)))
        return np.asarray(outputs[self.file.scores][0, len(self.ids) - 1])

    def next(self, token: int) -> Array:
        """Append a token, and return the scores [vocabulary] of the one behind it."""
        return self.prompt((token,))


def _spent(network: Network, length: int, tokens: int) -> Spent:
    """What a run of a whole Program takes."""
    host = sum(step.host_cycles for step in network.plan.steps)
    return Spent(length, tokens, sum(s.cycles for s in network.plan.steps) - host, host)
