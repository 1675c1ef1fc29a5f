"""A network in int8, end to end: compile a trained ONNX model for a machine, and run it.

    float model ──► graph ──► plan ──► ranges, constants ──► integers ──► Program and DRAM image
    inputs ──► host (look-ups) ──► int8 ──► machine, kernel by kernel ──► float ──► host ──► outputs

The host's share is the float model's own: pieces of its ONNX graph, run by onnxruntime.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from codesign.compiler import integers
from codesign.compiler.attention_kernel import AttentionProblem
from codesign.compiler.calibrate import CalibrationError, observe
from codesign.compiler.clamps import lost_clamps
from codesign.compiler.constants import Constants, probe
from codesign.compiler.emit import emit, places
from codesign.compiler.fusion import LOW, Work
from codesign.compiler.graph import Graph, HostOp, Operator, Softmax
from codesign.compiler.image import mask_contents, pack, step_numbers
from codesign.compiler.lower import Plan, lower
from codesign.compiler.masks import Mask
from codesign.compiler.matrices import Matrices, require_whole_patches
from codesign.compiler.onnx_branches import without_branches
from codesign.compiler.onnx_dequantize import dequantized
from codesign.compiler.onnx_float import Array, Feeds, FloatModel, load_model
from codesign.compiler.onnx_import import import_onnx
from codesign.compiler.onnx_load import Dimensions, input_shapes
from codesign.compiler.onnx_precision import in_float32
from codesign.compiler.onnx_scales import given_scales, uneven
from codesign.compiler.options import DEFAULT, Options
from codesign.compiler.quantize import quantize
from codesign.compiler.quantized import (
    Projection,
    Quantized,
    added_to,
    mask_of,
)
from codesign.hw.arithmetic import Bytes
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import CostTable, cost_table
from codesign.hw.errors import ModelError
from codesign.hw.functional import Machine
from codesign.hw.program import Program


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
    notes: tuple[str, ...] = ()  # what of them could not be kept


def compile_network(
    source: Path | onnx.ModelProto,
    config: HardwareConfig,
    samples: Iterable[Feeds],
    *,
    seq: int | None = None,
    batch: int | None = 1,
    dims: Mapping[str, int] | None = None,
    objective: str = "cycles",
    table: CostTable | None = None,
    options: Options = DEFAULT,
    accurate: bool = True,
) -> Network:
    """Quantize a float model on calibration samples and compile it; a quantized one keeps its scales.

    Samples are inputs by name, all of the sequence length of the Program. `seq`, `batch` (1, or None
    where the file fixes it) and `dims` are `import_onnx`'s. Raises ModelError,
    UnsupportedError, MappingError, CalibrationError or QuantizationError, each one line.
    """
    name = source.stem if isinstance(source, Path) else None
    file, data = in_float32(load_model(source)), list(samples)
    file = without_branches(file, input_shapes(file, Dimensions(batch, seq, dict(dims or {}))))
    clipped = frozenset[str]()
    every = dequantized(file, None)
    clamped = FloatModel(every.model)
    limits = {c.integers: (c.source, c.low, c.high) for c in every.clamps}
    while True:
        found = dequantized(file, clipped) if every.clamps else every
        graph = import_onnx(found.model, batch=batch, seq=seq, dims=dims, name=name)
        require_whole_patches(graph)
        model = FloatModel(found.model) if every.clamps else clamped
        observed = observe(clamped, _observed_tensors(graph, clamped), data, limits)
        _check_shapes(graph, dict(observed.shapes))
        matrices = Matrices(graph, dict(observed.shapes))
        constants = probe(model, graph, matrices, observed.feeds)
        given, notes = given_scales(found, graph, constants, matrices, observed)
        apart, moved = uneven(given, graph), {t for t, c in given.activations.items() if c.zero}
        table = table or cost_table(config)
        plan = lower(graph, config, objective, table, accurate, apart, moved)
        lost = lost_clamps(found.clamps, plan, given, observed.beyond)
        if lost <= clipped:
            break
        clipped |= lost
    quantized = quantize(plan, constants, observed, options, given)
    program = emit(plan, step_numbers(plan, quantized, matrices))
    image = pack(plan, program, quantized, matrices)
    scaled = bool(found.activations or found.weights)
    return Network(
        plan, program, image, quantized, constants, matrices, model, clamped, scaled, notes
    )


def run(
    network: Network, feeds: Feeds, backend: "str | Backend" = "functional"
) -> dict[str, Array]:
    """Outputs by name of one input. `backend`: "functional", the machine, "integers", the same in
    plain numpy and faster, or one at hand that has run nothing yet (see `rtl_backend`).
    """
    ready = BACKENDS[backend](network) if isinstance(backend, str) else backend
    return network.model.declared(_Run(network, feeds, ready).outputs())


class Backend(Protocol):
    """Where a run's int8 matrices are, and what computes them."""

    def read(self, tensor: str) -> Array: ...  # an int8 matrix
    def write(self, tensor: str, matrix: Array) -> None: ...
    def mask(self, index: int, mask: Mask) -> None: ...  # of the softmax in step `index`
    def step(self, index: int) -> None: ...


class Functional:
    """The machine's functional model on a copy of the DRAM image."""

    def __init__(self, network: Network) -> None:
        self.network, self.config = network, network.plan.config
        self.machine = Machine(self.config, network.image.copy())
        self.places = places(network.plan)

    @property
    def dram(self) -> Bytes:
        """What the host reads."""
        return self.machine.dram

    def read(self, tensor: str) -> Array:
        return self.network.matrices.unpack(tensor, self.dram[self.places[tensor] :], self.config)

    def write(self, tensor: str, matrix: Array) -> None:
        self._store(self.places[tensor], self.network.matrices.pack(tensor, matrix, self.config))

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

    def mask(self, index: int, mask: Mask) -> None:
        self.masks[index] = mask

    def step(self, index: int) -> None:
        n = self.network
        step, work = n.quantized.steps[index], n.plan.steps[index].work
        mask = self.masks.get(index, Mask())
        graph, matrices = n.plan.graph, n.matrices
        self.known |= integers.evaluate(step, work, graph, matrices, self.known, mask)


BACKENDS: Mapping[str, Callable[[Network], Backend]] = {
    "functional": Functional,
    "integers": Integers,
}


class _Run:
    """One input on its way through the network: the host's steps in float, the rest on a backend."""

    def __init__(self, network: Network, feeds: Feeds, backend: Backend) -> None:
        self.n, self.feeds, self.backend = network, feeds, backend
        self.floats: dict[str, Array] = {}
        self.on_chip = {name for step in network.plan.steps for name in _data(step.work)}

    def outputs(self) -> dict[str, Array]:
        """Run every step; the model's outputs from what the last ones wrote."""
        for tensor in self.on_chip.intersection(self.n.model.inputs):
            self._to_chip(tensor, self.feeds[tensor])
        for index in self.n.quantized.steps:
            self._mask(index)
        for index, step in enumerate(self.n.plan.steps):
            if step.work.problem is None:
                self._host(step.work)
            else:
                self.backend.step(index)
        graph = self.n.plan.graph
        part = self.n.clamped.part(graph.outputs, self.n.clamped.outputs)
        return part(self._known(graph.outputs))

    def _host(self, work: Work) -> None:
        """A host step, unless it is a mask, which `_mask` finds by itself."""
        (output,) = work.outputs
        if not self.n.model.has(output) or not _wanted(self.n.plan.graph, output):
            return
        # A mask that a host softmax reads is part of what the host computes.
        given = tuple(
            name
            for name in work.inputs
            if name not in self.n.model.inputs and _wanted(self.n.plan.graph, name)
        )
        value = self.n.clamped.part(given, (output,))(self._known(given))[output]
        self.floats[output] = value
        if output in self.on_chip:
            self._to_chip(output, value)

    def _mask(self, index: int) -> None:
        """What is added to the scores of a softmax: the scores where the matrix before it is zero."""
        step = self.n.quantized.steps[index]
        added = added_to(step)
        if added is None or not (added.keys or added.computed):
            return
        op = self.n.plan.graph.dag.nodes[added.softmax]["op"]
        source, matrix = op.inputs[0], self.n.matrices[op.output]
        zeros = np.zeros(self.n.matrices.shapes[source], dtype=np.float32)
        tensor = self.n.constants.scores[added.softmax].tensor
        values = self.n.model.part((source,), (tensor,))({**self.feeds, source: zeros})[tensor]
        heads = matrix.of(values.astype(np.float64)).reshape(matrix.rows, matrix.heads, -1)
        causal = not isinstance(step, Projection) and step.causal
        self.backend.mask(index, mask_of(added, causal, heads.transpose(1, 0, 2)))

    def _known(self, tensors: Iterable[str]) -> Mapping[str, Array]:
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
        value = self.n.matrices[tensor].of(value)
        high = quantized.codes(tensor, value)
        self.backend.write(tensor, high)
        if tensor + LOW in self.on_chip:
            self.backend.write(tensor + LOW, quantized.remainder(tensor, value, high))


def _data(work: Work) -> tuple[str, ...]:
    """The tensors that a kernel reads as int8 matrices: not its masks."""
    if work.problem is None:
        return ()
    if work.kind == "softmax":
        return work.inputs[:1]
    return work.inputs[:3] if isinstance(work.problem, AttentionProblem) else work.inputs


def _masks_only(graph: Graph, tensor: str) -> bool:
    readers: list[Operator] = [
        graph.dag.nodes[name]["op"]
        for _, name, read in graph.dag.out_edges(graph.producer(tensor), data="tensor")
        if read == tensor
    ]
    masks = [isinstance(op, Softmax) and tensor != op.inputs[0] for op in readers]
    return bool(masks) and all(masks) and tensor not in graph.outputs


def _wanted(graph: Graph, tensor: str) -> bool:
    return not _masks_only(graph, tensor)


def _observed_tensors(graph: Graph, model: FloatModel) -> list[str]:
    """The float tensors of the graph that calibration looks at: all but tokens and masks."""
    seen: dict[str, None] = {}
    for op in graph.operators():
        data = () if isinstance(op, HostOp) else op.inputs[:2]
        read = data[:1] if isinstance(op, Softmax) else data
        masked = isinstance(op, HostOp) and _masks_only(graph, op.output)
        names = read if masked else (*read, op.output)
        seen |= dict.fromkeys(name for name in names if model.has(name))
    return list(seen)


def _check_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for op in graph.operators():
        shape = shapes.get(op.output)
        if shape is not None and not isinstance(op, HostOp) and np.prod(shape) != op.elements:
            raise CalibrationError(
                f"calibration data makes {op.output!r} {list(shape)} but the network is compiled "
                f"for {op.elements} elements: give samples of batch 1 and that sequence length"
            )
