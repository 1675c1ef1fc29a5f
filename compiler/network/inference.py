"""A network in int8 as it runs, on any view of the machine.

    inputs ──► host (look-ups) ──► int8 ──► machine, kernel by kernel ──► float ──► host ──► outputs

The host's share is the float model's own: pieces of its ONNX graph, run by onnxruntime.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from codesign.compiler.graph import Graph, Softmax
from codesign.compiler.numerics import integers
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.numerics.elementwise import run_table
from codesign.compiler.numerics.hidden_rows import astray, masked_scores
from codesign.compiler.numerics.masks import Mask
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.quantized import Quantized, mask_of
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, needed
from codesign.compiler.placement.host_rounding import (
    Watch,
    breaking,
    first_few,
)
from codesign.compiler.placement.settle import masks_only
from codesign.compiler.plan.lower import Plan
from codesign.compiler.plan.work import LOW, Work
from codesign.compiler.program.emit import places
from codesign.compiler.program.image import mask_contents
from codesign.hw.errors import ModelError
from codesign.hw.machine.arithmetic import Bools, Bytes
from codesign.hw.machine.program import Program
from codesign.hw.views.functional import Machine


class NoCode(ModelError):
    """A value that int8 has no code for: what the host makes of rounded values is not a number."""


@dataclass(frozen=True)
class Network:
    """A quantized network: its Program and DRAM image, and what the host needs beside them."""

    plan: Plan
    program: Program
    image: Bytes
    quantized: Quantized
    constants: Constants
    matrices: Matrices
    model: FloatModel
    clamped: FloatModel  # with every clamp of a quantized file, for the host and as a reference
    from_quantized: bool = False  # the file has scales of its own
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of inputs, by name
    notes: tuple[str, ...] = ()  # what of them could not be kept
    host: tuple[str, ...] = ()  # what the host does for the machine, a line each
    kept: tuple[str, ...] = ()  # tensors that stay in DRAM for the next run


def by_kernels(network: Network, given: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """What kernels write of what lies on the way to `wanted`, where `given` is known."""
    kernels = (step.work for step in network.plan.steps if step.work.problem is not None)
    written = {name for work in kernels for name in work.outputs}
    _, names = needed(network.clamped, set(given), list(wanted))
    return sorted(names & written - set(given))


def run(
    network: Network,
    feeds: Feeds,
    backend: "str | Backend" = "functional",
    watch: Watch | None = None,
) -> dict[str, Array]:
    """Outputs by name of one input. `backend`: "functional", the machine, "integers", the same in
    plain numpy and faster, or one at hand that has run nothing yet (see `rtl_backend`). `watch` sees
    what the host computes.
    """
    ready = BACKENDS[backend](network) if isinstance(backend, str) else backend
    return network.model.declared(Run(network, feeds, ready, watch).outputs())


def astray_queries(network: Network, feeds: Feeds) -> dict[int, Bools]:
    """By step, the queries from which its mask hides every key on one input, and whose probabilities
    are not float's there (see `hidden_rows`): calibration saw none like it.
    """
    found = {}
    for index, step in network.quantized.steps.items():
        if step.added is not None and step.added.computed:
            op = network.plan.graph.operator(step.added.softmax, Softmax)
            scores = network.constants.scores[op.name]
            queries = astray(network.model, network.matrices, op, scores, feeds)
            if queries.any():
                found[index] = queries
    return found


class Backend(Protocol):
    """Where a run's int8 matrices are, and what computes them."""

    def read(self, tensor: str) -> Array: ...  # an int8 matrix
    def write(self, tensor: str, matrix: Array) -> None: ...
    def put(self, tensor: str, row: int, rows: Array) -> None: ...  # some rows of a matrix
    def mask(self, index: int, mask: Mask) -> None: ...  # of the softmax in step `index`
    def step(self, index: int) -> None: ...


class Functional:
    """The machine's functional model on a copy of the DRAM image."""

    def __init__(self, network: Network) -> None:
        self.network, self.config = network, network.plan.config
        self.machine = Machine(self.config, network.image.copy())
        self.places = places(network.plan, network.kept)

    @property
    def dram(self) -> Bytes:
        """What the host reads."""
        return self.machine.dram

    def read(self, tensor: str) -> Array:
        return self.network.matrices.unpack(tensor, self.dram[self.places[tensor] :], self.config)

    def write(self, tensor: str, matrix: Array) -> None:
        self._store(self.places[tensor], self.network.matrices.pack(tensor, matrix, self.config))

    def put(self, tensor: str, row: int, rows: Array) -> None:
        data = self.network.matrices.pack(tensor, rows, self.config)
        whole, dim = self.network.matrices[tensor].rows, self.config.dim
        planes = data.reshape(-1, len(rows) * dim)
        for number, plane in enumerate(planes):
            self._store(self.places[tensor] + (number * whole + row) * dim, plane)

    def mask(self, index: int, mask: Mask) -> None:
        work, step = self.network.plan.steps[index].work, self.network.quantized.steps[index]
        for suffix, data in mask_contents(step, work, mask, self.config).items():
            self._store(self.places[f"{index}:{work.name}/{suffix}"], data)

    def step(self, index: int) -> None:
        self.machine.run(self.network.program.kernels[index].body)

    def _store(self, place: int, data: Bytes) -> None:
        self.machine.dram[place : place + len(data)] = data


class Integers:
    """Whole int8 matrices by name: no memory, no kernels."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.known: dict[str, Array] = {}
        self.masks: dict[int, Mask] = {}

    def read(self, tensor: str) -> Array:
        return self.known[tensor]

    def write(self, tensor: str, matrix: Array) -> None:
        self.known[tensor] = matrix

    def put(self, tensor: str, row: int, rows: Array) -> None:
        self.known[tensor][row : row + len(rows)] = rows

    def mask(self, index: int, mask: Mask) -> None:
        self.masks[index] = mask

    def step(self, index: int) -> None:
        n = self.network
        step, work = n.quantized.steps[index], n.plan.steps[index].work
        mask = self.masks.get(index, Mask())
        self.known |= integers.integer_outputs(
            step, work, n.plan.config, n.matrices, self.known, mask
        )


BACKENDS: Mapping[str, Callable[[Network], Backend]] = {
    "functional": Functional,
    "integers": Integers,
}


class Run:
    """One input on its way through the network: the host's steps in float, the rest on a backend."""

    def __init__(
        self, network: Network, feeds: Feeds, backend: Backend, watch: Watch | None = None
    ) -> None:
        self.n, self.feeds, self.backend, self.watch = network, feeds, backend, watch
        self.floats: dict[str, Array] = {}
        self.on_chip = {
            read.tensor
            for step in network.plan.steps
            for read in step.work.reads(network.plan.config)
        }

    def outputs(self) -> dict[str, Array]:
        """Run every step; the model's outputs from what the last ones wrote."""
        self.steps()
        given, wanted = self.n.plan.graph.outputs, self.n.clamped.outputs
        return self.computed(given, wanted, self.known(given))

    def steps(self) -> None:
        """Bring the inputs to the machine, and run every step."""
        for tensor in self.on_chip.intersection(self.n.model.inputs):
            self._to_chip(tensor, self.feeds[tensor])
        for index in self.n.quantized.steps:
            self._mask(index)
        for index, step in enumerate(self.n.plan.steps):
            if step.work.problem is None:
                self.host(step.work)
            else:
                self.backend.step(index)

    def host(self, work: Work) -> None:
        """A host step, unless it is a mask, which `_mask` finds by itself."""
        piece = host_piece(self.n, work)
        if piece is None:
            return
        given, (output,) = piece
        known = self.known(given)
        self.floats[output] = value = self.computed(given, (output,), known)[output]
        if output in self.on_chip:
            if np.isnan(value).any():
                made = first_few(breaking(self.n.clamped, given, (output,), known))
                raise NoCode(
                    f"tensor {output!r} is not a number on this input, which int8 has no code for: "
                    f"{made or 'the host'} makes it of values that were rounded to int8; keep what it "
                    "divides by, or takes a logarithm of, away from 0 in the model"
                )
            self._to_chip(output, value)

    def computed(
        self, given: Sequence[str], wanted: Sequence[str], known: Feeds
    ) -> dict[str, Array]:
        """A piece of the host's."""
        found = self.n.clamped.part(given, wanted)(known)
        if self.watch is not None:
            self.watch(given, wanted, known, found)
        return found

    def _mask(self, index: int) -> None:
        """What this run brings to a kernel: angles of its places, or what is added to the scores of a
        softmax, which are the scores where the matrix before it is zero.
        """
        step, n = self.n.quantized.steps[index], self.n
        added = step.added
        if step.angle_step:
            (name,) = n.plan.steps[index].work.operators
            of = n.model, n.plan.graph, n.matrices, name, step.angle_step, self.feeds
            self.backend.mask(index, Mask(table=run_table(*of)))
        if added is None or not (added.keys or added.computed):
            return
        op = self.n.plan.graph.operator(added.softmax, Softmax)
        tensor = self.n.constants.scores[added.softmax].tensor
        values = masked_scores(self.n.model, self.n.matrices, op, tensor, self.feeds)
        self.backend.mask(index, mask_of(added, step.epilogues[0].causal, values))

    def known(self, tensors: Iterable[str]) -> Mapping[str, Array]:
        """Float values of graph tensors, and the model's inputs."""
        return {**self.feeds, **{tensor: self._float(tensor) for tensor in tensors}}

    def _float(self, tensor: str) -> Array:
        if tensor in self.floats or tensor in self.feeds:
            return self.floats.get(tensor, self.feeds.get(tensor))  # type: ignore[return-value]
        matrix = self.backend.read(tensor)
        shape = self.n.matrices.shapes[tensor]
        values = self.n.quantized.values(tensor, matrix).astype(np.float32)
        return self.n.matrices[tensor].array(values, shape)

    def _to_chip(self, tensor: str, value: Array) -> None:
        shape = self.n.matrices.shapes[tensor]
        if value.shape != shape:
            raise ModelError(
                f"tensor {tensor!r} is {list(value.shape)} but the network was compiled for "
                f"{list(shape)}: pad the input to that length, or compile for another"
            )
        quantized = self.n.quantized
        if np.isnan(value).any():
            raise ModelError(
                f"tensor {tensor!r} is not a number on this input, which int8 has no code for: give "
                "another, or mend the model"
            )
        value = self.n.matrices[tensor].of(value)
        high = quantized.codes(tensor, value)
        self.backend.write(tensor, high)
        if tensor + LOW in self.on_chip:
            self.backend.write(tensor + LOW, quantized.remainder(tensor, value, high))


def host_piece(network: Network, work: Work) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The tensors between which a step of the host lies; None of a kernel, a mask, and what is none of
    the file's.
    """
    if work.problem is not None:
        return None
    (output,) = work.outputs
    if not network.model.has(output) or not _wanted(network.plan.graph, output):
        return None
    # A mask that a host softmax reads is part of what the host computes.
    given = tuple(
        name
        for name in work.inputs
        if name not in network.model.inputs and _wanted(network.plan.graph, name)
    )
    # Where the import made what it reads of what a kernel writes, it starts at that.
    return (*given, *by_kernels(network, given, (output,))), (output,)


def _wanted(graph: Graph, tensor: str) -> bool:
    return not masks_only(graph, tensor)
