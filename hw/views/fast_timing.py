"""Exact timing at speed: hands a kernel's rolled form to the compiled evaluator.

`_timing.cpp` and `evaluator/` hold the same recurrence as `timing.py` and skip repetitions of the machine's state.
A kernel whose numbers are numpy arrays is a batch: all its members are priced in one call.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError, StaleEvaluator
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.events import EVENTS, TIMED_EVENTS
from codesign.hw.machine.isa import CHANNEL_INDEX, OPERATION, UNITS
from codesign.hw.machine.program import (
    Body,
    Cases,
    Guards,
    Instruction,
    Int,
    Loop,
    Pipeline,
    Token,
    Value,
    instructions,
)
from codesign.hw.views import evaluator_tables
from codesign.hw.views.evaluator_tables import (
    COUNTED_FLAGS,
    FAILURES,
    INSTRUCTION,
    LOOP,
    MACHINE_WORDS,
    MAX_LOOPS,
    PIPELINE,
    QUEUE_DEPTHS,
    VALUES,
)
from codesign.hw.views.timing import Timing

Words = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchTiming:
    """Cycles [batch] and event counts [batch, len(EVENTS)] of a batch of kernels."""

    cycles: Words
    events: Words


@dataclass(frozen=True)
class TraceRow:
    """When one instruction was dispatched, started, freed its port and completed, in cycles."""

    site: int
    unit: str
    dispatch: int
    start: int
    free: int
    complete: int


def library_path() -> Path:
    """The compiled evaluator."""
    spec = importlib.util.find_spec("codesign.hw.views._timing")
    if spec is None or spec.origin is None:
        raise ImportError("the compiled timing evaluator is missing: run pip install again")
    return Path(spec.origin)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path()))
    known = getattr(library, "codesign_tables_digest", None)
    if known is not None:
        known.restype = ctypes.c_uint64
    if known is None or known() != evaluator_tables.tables_digest():
        raise StaleEvaluator(
            "the compiled timing evaluator knows other tables of the machine: run pip install again "
            "(pip install -e . in a clone)"
        )
    pointer = ctypes.c_void_p
    library.codesign_evaluate.argtypes = [
        pointer,
        pointer,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int,
        pointer,
        pointer,
        pointer,
        ctypes.c_int64,
        pointer,
    ]
    return library


@cache
def machine_words(config: HardwareConfig) -> Words:
    """Everything about a machine that timing depends on: no memory sizes, no banks."""
    names = (*MACHINE_WORDS, *QUEUE_DEPTHS)
    return np.array([getattr(config, name) for name in names], dtype=np.int64)


class _Encoder:
    """Flattens a body into columns of words; `evaluator/structure.h` documents the form."""

    def __init__(self) -> None:
        self.columns: list[Int] = []
        self.slots: dict[str, int] = {}
        self.sites = 0

    def slot(self, loop: str) -> int:
        return self.slots.setdefault(loop, len(self.slots))

    def value(self, value: Value) -> None:
        if not isinstance(value, Cases):
            self.columns += (value, 0)
            return
        self.columns += (value.default, len(value.cases))
        for loops, case in value.cases:
            self.columns += (case, len(loops), *(self.slot(loop) for loop in loops))

    def guards(self, guards: Guards) -> None:
        self.columns.append(len(guards))
        for guard in guards:
            self.columns += (self.slot(guard.loop), int(guard.from_end), guard.lo, guard.hi)

    def tokens(self, tokens: Sequence[Token]) -> None:
        self.columns.append(len(tokens))
        for token in tokens:
            self.columns += (CHANNEL_INDEX[token.channel], token.count)
            self.guards(token.when)

    def body(self, body: Body) -> None:
        for node in body:
            begin = len(self.columns)
            self.columns += (0, 0)
            match node:
                case Instruction():
                    kind = INSTRUCTION
                    self.instruction(node)
                case Loop():
                    kind = LOOP
                    self.columns.append(self.slot(node.name))
                    self.value(node.count)
                    self.body(node.body)
                case Pipeline():
                    kind = PIPELINE
                    self.pipeline(node)
            self.columns[begin : begin + 2] = (kind, len(self.columns) - begin)

    def pipeline(self, node: Pipeline) -> None:
        self.columns.append(len(node.loops))
        for name, count in node.loops:
            self.columns += (self.slot(name), count)
        self.columns.append(len(node.stages))
        for stage in node.stages:
            at = len(self.columns)
            self.columns.append(0)
            self.body(stage)
            self.columns[at] = len(self.columns) - at - 1

    def instruction(self, node: Instruction) -> None:
        operation = OPERATION[node.op]
        self.columns += (operation.opcode, self.sites)
        self.sites += 1
        for field in operation.values:
            self.value(node.values.get(field.name, 0))
        for _ in range(VALUES - len(operation.values)):
            self.value(0)
        flag = COUNTED_FLAGS.get(operation.name, "")
        if flag in node.flags:
            self.guards(node.flags[flag])
        else:
            self.columns += (1, 0, 0, 0, 0)  # an empty range: never
        self.guards(node.when)
        self.tokens(node.waits)
        self.tokens(node.signals)


def encode(body: Body) -> Words:
    """The words of a kernel, [batch, size]; batch is 1 where no number is an array.

    Raises ProgramError for arrays narrower than the words.
    """
    encoder = _Encoder()
    encoder.body(body)
    if len(encoder.slots) > MAX_LOOPS:
        raise ProgramError(f"a kernel has {len(encoder.slots)} loops; at most {MAX_LOOPS} fit")
    arrays = {
        index: column
        for index, column in enumerate(encoder.columns)
        if isinstance(column, np.ndarray) and column.ndim
    }
    batch = max((len(column) for column in arrays.values()), default=1)
    words = np.empty((batch, len(encoder.columns)), dtype=np.int64)
    words[:] = [0 if index in arrays else column for index, column in enumerate(encoder.columns)]
    for index, array in arrays.items():
        if array.dtype != np.int64:
            raise ProgramError(f"a kernel's numbers are {array.dtype}, in which counts may wrap")
        words[:, index] = array
    return words


def _run(
    words: Words, body: Body, config: HardwareConfig, skip: bool, trace: Words | None
) -> tuple[BatchTiming, int]:
    batch, size = words.shape
    cycles = np.empty(batch, dtype=np.int64)
    events = np.empty((batch, len(TIMED_EVENTS)), dtype=np.int64)
    failure = np.zeros(3, dtype=np.int64)
    status = _library().codesign_evaluate(
        machine_words(config).ctypes.data,
        words.ctypes.data,
        size,
        batch,
        int(skip),
        cycles.ctypes.data,
        events.ctypes.data,
        None if trace is None else trace.ctypes.data,
        0 if trace is None else len(trace),
        failure.ctypes.data,
    )
    if status:
        site = int(failure[1])
        op = list(instructions(body))[site].op
        raise ProgramError(f"{op} at site {site} {tuple(FAILURES.values())[status - 1]}")
    if len(EVENTS) > len(TIMED_EVENTS):
        events = np.pad(events, ((0, 0), (0, len(EVENTS) - len(TIMED_EVENTS))))
    return BatchTiming(cycles, events), int(failure[2])


def evaluate_words(words: Words, body: Body, config: HardwareConfig) -> BatchTiming:
    """Time a batch that `encode` has written; the body is there to name what fails."""
    return _run(words, body, config, True, None)[0]


def evaluate_batch(body: Body, config: HardwareConfig, *, skip: bool = True) -> BatchTiming:
    """Time every kernel of a batch. Raises ProgramError as `timing.evaluate_unrolled` does.

    Without `skip` every iteration of every loop is evaluated, to the same numbers.
    """
    return _run(encode(body), body, config, skip, None)[0]


def time_kernel(body: Body, config: HardwareConfig) -> Timing:
    """Time one kernel. Raises ProgramError as `timing.evaluate_unrolled` does."""
    result = evaluate_batch(body, config)
    return Timing(int(result.cycles[0]), result.events[0])


def trace(body: Body, config: HardwareConfig, limit: int = 1_000_000) -> list[TraceRow]:
    """The first `limit` instructions of one kernel with their times."""
    rows = np.empty((limit, 6), dtype=np.int64)
    _, used = _run(encode(body), body, config, False, rows)
    return [TraceRow(site, UNITS[unit], *times) for site, unit, *times in rows[:used].tolist()]
