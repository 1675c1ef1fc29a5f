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
from codesign.compiler.calibrate import METHODS, CalibrationError, observe
from codesign.compiler.constants import Constants, probe
from codesign.compiler.emit import emit, places
from codesign.compiler.fusion import LOW, Work
from codesign.compiler.graph import Graph, HostOp, Operator, Softmax
from codesign.compiler.image import mask_records, pack, step_numbers
from codesign.compiler.lower import Plan, lower
from codesign.compiler.matrices import Matrices
from codesign.compiler.onnx_float import Array, Feeds, FloatModel
from codesign.compiler.onnx_import import import_onnx
from codesign.compiler.quantize import LOW_STEPS, Attention, Quantized, key_mask, quantize, to_int8
from codesign.hw.arithmetic import Bytes, Ints
from codesign.hw.config import HardwareConfig
from codesign.hw.energy import cost_table
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


def compile_network(
    source: Path | onnx.ModelProto,
    config: HardwareConfig,
    samples: Iterable[Feeds],
    *,
    seq: int | None = None,
    objective: str = "cycles",
    method: str = "minmax",
    accurate: bool = True,
) -> Network:
    """Quantize a float model, batch 1, on calibration samples and compile it.

    Samples are inputs by name, all of the sequence length of the Program. Raises ModelError,
    UnsupportedError, MappingError, CalibrationError or QuantizationError, each one line.
    """
    if method not in METHODS:
        raise CalibrationError(f"unknown calibration {method!r}: choose {', '.join(METHODS)}")
    graph = import_onnx(source, batch=1, seq=seq)
    model = FloatModel(source)
    plan = lower(graph, config, objective, cost_table(config), accurate)
    observed = observe(model, _observed_tensors(graph, model), samples)
    _check_shapes(graph, dict(observed.shapes))
    matrices = Matrices(graph, dict(observed.shapes))
    constants = probe(model, graph, matrices, observed.feeds)
    quantized = quantize(plan, constants, observed, METHODS[method])
    program = emit(plan, step_numbers(plan, quantized, matrices))
    image = pack(plan, program, quantized, matrices)
    return Network(plan, program, image, quantized, constants, matrices, model)


def run(network: Network, feeds: Feeds, backend: str = "functional") -> dict[str, Array]:
    """Outputs by name of one input. `backend`: "functional", the machine, or "integers", the same
    in plain numpy and faster.
    """
    return _Run(network, feeds, BACKENDS[backend](network)).outputs()


class Backend(Protocol):
    """Where a run's int8 matrices are, and what computes them."""

    def read(self, tensor: str) -> Array: ...  # an int8 matrix
    def write(self, tensor: str, matrix: Array) -> None: ...
    def mask(self, index: int, offsets: Ints) -> None: ...  # of the attention that step `index` is
    def step(self, index: int) -> None: ...


class Functional:
    """The machine's functional model on a copy of the DRAM image."""

    def __init__(self, network: Network) -> None:
        self.network, self.config = network, network.plan.config
        self.machine = Machine(self.config, network.image.copy())
        self.places = places(network.plan)

    def read(self, tensor: str) -> Array:
        data = self.machine.dram[self.places[tensor] :]
        return self.network.matrices.unpack(tensor, data, self.config)

    def write(self, tensor: str, matrix: Array) -> None:
        self._store(self.places[tensor], self.network.matrices.pack(tensor, matrix, self.config))

    def mask(self, index: int, offsets: Ints) -> None:
        work, step = self.network.plan.steps[index].work, self.network.quantized.steps[index]
        assert isinstance(work.problem, AttentionProblem) and isinstance(step, Attention)
        records = mask_records(step, offsets, work.problem, self.config.dim)
        self._store(self.places[f"{index}:{work.name}/mask"], records)

    def step(self, index: int) -> None:
        self.machine.run(self.network.program.kernels[index].body)

    def _store(self, place: int, data: Bytes) -> None:
        self.machine.dram[place : place + len(data)] = data


class Integers:
    """Whole int8 matrices by name: no memory, no kernels."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.known: dict[str, Array] = {}
        self.masks: dict[int, Ints] = {}

    def read(self, tensor: str) -> Array:
        return self.known[tensor]

    def write(self, tensor: str, matrix: Array) -> None:
        self.known[tensor] = matrix

    def mask(self, index: int, offsets: Ints) -> None:
        self.masks[index] = offsets

    def step(self, index: int) -> None:
        n = self.network
        step, work = n.quantized.steps[index], n.plan.steps[index].work
        mask = self.masks.get(index, np.zeros(1, dtype=np.int64))
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
        return self.n.model.part(graph.outputs, self.n.model.outputs)(self._known(graph.outputs))

    def _host(self, work: Work) -> None:
        """A host step, unless it is a mask, which `_mask` finds by itself."""
        (output,) = work.outputs
        if not self.n.model.has(output) or not _wanted(self.n.plan.graph, output):
            return
        given = tuple(name for name in work.inputs if name not in self.n.model.inputs)
        value = self.n.model.part(given, (output,))(self._known(given))[output]
        self.floats[output] = value
        if output in self.on_chip:
            self._to_chip(output, value)

    def _mask(self, index: int) -> None:
        """What is added to the scores of an attention: the scores where Q and K are zero."""
        step, work = self.n.quantized.steps[index], self.n.plan.steps[index].work
        if not isinstance(step, Attention) or not self.n.constants.scores[step.softmax].keys_hidden:
            return
        tensor = self.n.constants.scores[step.softmax].tensor
        zeros = {
            name: np.zeros(self.n.matrices.shapes[name], dtype=np.float32)
            for name in work.inputs[:2]
        }
        added = self.n.model.part(tuple(zeros), (tensor,))({**self.feeds, **zeros})[tensor]
        self.backend.mask(index, key_mask(step, added.astype(np.float64)))

    def _known(self, tensors: Iterable[str]) -> Mapping[str, Array]:
        """Float values of graph tensors, and the model's inputs."""
        return {**self.feeds, **{tensor: self._float(tensor) for tensor in tensors}}

    def _float(self, tensor: str) -> Array:
        if tensor in self.floats or tensor in self.feeds:
            return self.floats.get(tensor, self.feeds.get(tensor))  # type: ignore[return-value]
        matrix = self.backend.read(tensor)
        shape = self.n.matrices.shapes[tensor]
        values = (matrix * self.n.quantized.scales[tensor]).astype(np.float32)
        return self.n.matrices[tensor].array(values, shape)

    def _to_chip(self, tensor: str, value: Array) -> None:
        shape = self.n.matrices.shapes[tensor]
        if value.shape != shape:
            raise ModelError(
                f"tensor {tensor!r} is {list(value.shape)} but the network was compiled for "
                f"{list(shape)}: pad the input to that length, or compile for another"
            )
        scale, matrix = self.n.quantized.scales[tensor], self.n.matrices[tensor]
        value = matrix.of(value)
        high = to_int8(value, scale)
        self.backend.write(tensor, high)
        if tensor + LOW in self.on_chip:
            low = to_int8(value - high * scale, scale / LOW_STEPS)
            self.backend.write(tensor + LOW, low)


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
