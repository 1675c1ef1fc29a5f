"""A plan becomes a Program: every kernel with its DRAM addresses, and the memory map.

Weights and parameters get places of their own; activations share memory by liveness: a tensor's
place is free again once its last reader has run. All matrices are in the blocked layout
[columns / dim][rows][dim].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.compiler.kernels.attention_kernel import AttentionAddresses, AttentionProblem
from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes, plane_bytes
from codesign.compiler.kernels.kinds import body
from codesign.compiler.kernels.matmul_kernel import MatmulAddresses
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.kernels.row_kernel import RowAddresses, RowProblem
from codesign.compiler.plan.lower import Plan, Step
from codesign.compiler.plan.work import Work
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import PARAMETER_BYTES
from codesign.hw.machine.program import Kernel, Program, Region

ALIGNMENT = 4096  # an AXI4 burst does not cross it


@dataclass
class _Tensor:
    """An activation: how large it is and which kernels it lives through."""

    size_bytes: int
    born: int
    last_read: int


def emit(plan: Plan, numbers: Mapping[int, StepNumbers] | None = None) -> Program:
    """The Program of a plan, with its memory map; `numbers` by step, from quantization.

    Without them it takes the same cycles and computes nothing useful.
    """
    memory = _Memory(plan, numbers or {})
    kernels = tuple(
        Kernel(
            name=step.name,
            body=_body(step, index, memory),
            host_cycles=step.host_cycles,
            note=step.mapping_text,
        )
        for index, step in enumerate(plan.steps)
    )
    return Program(plan.model, kernels, tuple(memory.regions))


def places(plan: Plan) -> dict[str, int]:
    """DRAM addresses of every tensor and constant, by name; side-by-side outputs have their own."""
    return _Memory(plan, {}).place


def _body(step: Step, index: int, memory: "_Memory") -> Any:
    problem = step.work.problem
    if problem is None:
        return ()
    epilogues = memory.of_step(index).epilogues
    return body(problem, step.mapping, memory.config, memory.addresses(step, index), *epilogues)


class _Memory:
    """Places for everything a plan keeps in DRAM."""

    def __init__(self, plan: Plan, numbers: Mapping[int, StepNumbers]) -> None:
        self.config, self.numbers = plan.config, numbers
        self.regions: list[Region] = []
        self.place: dict[str, int] = {}
        self.end = 0
        for index, step in enumerate(plan.steps):
            for suffix, size in _constants(step.work, plan.config):
                self._fixed(f"{index}:{step.name}/{suffix}", size)
        self._activations(plan)

    def of_step(self, index: int) -> StepNumbers:
        """The numbers of a step, or none."""
        return self.numbers.get(index, StepNumbers())

    def addresses(self, step: Step, index: int) -> Any:
        """Operand addresses of a step, in the form its kernel takes."""
        constant = {
            name: self.place.get(f"{index}:{step.name}/{name}", 0)
            for name in ("weights", "parameters", "mask", "bias", "operand")
        }
        inputs = [self.place[tensor] for tensor in step.work.inputs]
        out = self.place[step.work.outputs[0]]
        match step.work.problem:
            case MatmulProblem() as p:
                b = constant["weights"]
                if not step.work.constant_b:
                    shape = (p.n, p.k) if p.transposed_b else (p.k, p.n)
                    width = p.batch * matrix_bytes(*shape, self.config)
                    b = inputs[1] + step.work.b_range * width
                residual = inputs[-1] if p.residual else 0
                part = self.of_step(index)
                a = inputs[0] + part.first_row * self.config.dim
                rows = part.source_rows
                return MatmulAddresses(a, b, out, constant["parameters"], residual, rows)
            case AttentionProblem() as p:
                q, k, v = self._heads(step.work, p)
                return AttentionAddresses(q, k, v, out, constant["bias"], constant["mask"])
            case RowProblem() as p:
                added = len(inputs) > 1 and p.function != "softmax"
                y = inputs[1] if added else constant["operand"]
                return RowAddresses(inputs[0], y, out, constant["parameters"])
        return None

    def _heads(self, work: Work, p: AttentionProblem) -> tuple[int, int, int]:
        """Q, K and V; where they are column ranges of one matrix, they lie one after another."""
        width = p.heads * ceil_div(p.head_dim, self.config.dim) * plane_bytes(p.keys, self.config)
        q, k, v = (
            self.place[tensor] + turn * width
            for tensor, turn in zip(work.inputs[:3], work.ranges, strict=True)
        )
        return q, k, v

    def _fixed(self, name: str, size: int) -> None:
        address = _aligned(self.end)
        self.regions.append(Region(name, address, size))
        self.place[name] = address
        self.end = address + size

    def _activations(self, plan: Plan) -> None:
        """First fit over lifetimes, in order of birth."""
        tensors = _lifetimes(plan)
        base = _aligned(self.end)
        taken: list[tuple[int, int, int]] = []  # last read, address, end
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].born):
            taken = [block for block in taken if block[0] >= tensor.born]
            address = base
            for _, begin, end in sorted(taken, key=lambda block: block[1]):
                if address + tensor.size_bytes <= begin:
                    break
                address = max(address, _aligned(end))
            taken.append((tensor.last_read, address, address + tensor.size_bytes))
            self.place[name] = address
            self.regions.append(Region(name, address, tensor.size_bytes))
        self._side_by_side(plan)

    def _side_by_side(self, plan: Plan) -> None:
        """Tensors that one kernel writes as one matrix start where the one before ends."""
        for step in plan.steps:
            address = self.place[step.work.outputs[0]]
            for output, columns in zip(
                step.work.outputs[1:], step.work.output_columns[:-1], strict=False
            ):
                problem = step.work.problem
                assert isinstance(problem, MatmulProblem)
                blocks = ceil_div(columns, self.config.dim)
                address += blocks * plane_bytes(problem.m, self.config)
                self.place[output] = address


def _aligned(address: int) -> int:
    return int(ceil_div(address, ALIGNMENT)) * ALIGNMENT


def _constants(work: Work, config: HardwareConfig) -> list[tuple[str, int]]:
    """Names and bytes of what a kernel reads that no kernel writes."""
    dim = config.dim
    match work.problem:
        case MatmulProblem() as p:
            parameters = p.batch * ceil_div(p.n, dim) * p.parameter_sets * dim * PARAMETER_BYTES
            if not work.constant_b:
                return [("parameters", parameters)] if parameters else []
            weights = p.batch * matrix_bytes(p.k, p.n, config)
            return [("weights", weights), ("parameters", parameters)]
        case AttentionProblem() as p:
            mask = [("mask", p.mask_rows * dim * PARAMETER_BYTES)] if p.mask_rows else []
            bias = p.heads * matrix_bytes(p.queries, p.keys, config)
            return [*mask, ("bias", bias)] if p.bias else mask
        case RowProblem() as p:
            parameters = p.parameter_rows(config) * dim * PARAMETER_BYTES
            found = [("parameters", parameters)] if parameters else []
            if p.operands > (1 if p.function == "softmax" else len(work.inputs)):
                found.append(("operand", p.batch * matrix_bytes(p.rows, p.cols, config)))
            return found
    return []


def _written(step: Step, config: HardwareConfig) -> int:
    """Bytes of everything a step writes."""
    match step.work.problem:
        case MatmulProblem() as p:
            return p.batch * matrix_bytes(p.m, p.n, config)
        case AttentionProblem() as p:
            return p.heads * matrix_bytes(p.queries, p.head_dim, config)
        case RowProblem() as p:
            return p.batch * matrix_bytes(p.rows, p.cols, config)
    return step.work.elements


def _lifetimes(plan: Plan) -> dict[str, _Tensor]:
    """Activations by name, in order of birth; side-by-side outputs live and die together."""
    tensors: dict[str, _Tensor] = {}
    owner: dict[str, str] = {}
    for index, step in enumerate(plan.steps):
        for tensor, size in zip(step.work.inputs, _operands(step, plan.config), strict=True):
            first = owner.setdefault(tensor, tensor)
            known = tensors.setdefault(first, _Tensor(0, -1, index))
            known.last_read = max(known.last_read, index)
            if tensor == first:  # padded by a kernel where the host wrote plain elements
                known.size_bytes = max(known.size_bytes, size)
        name = step.work.outputs[0]
        owner.update((output, name) for output in step.work.outputs)
        tensors[name] = _Tensor(_written(step, plan.config), index, index)
    for tensor in plan.graph.outputs:
        if tensor in owner:
            tensors[owner[tensor]].last_read = len(plan.steps)
    return tensors


def _operands(step: Step, config: HardwareConfig) -> tuple[int, ...]:
    """Bytes of each input, as the kernel sees it."""
    count = len(step.work.inputs)
    match step.work.problem:
        case MatmulProblem() as p:
            b = (p.n, p.k) if p.transposed_b else (p.k, p.n)
            second = (p.m, p.n) if p.residual else b
            shapes = [(p.m, p.k)] + [second] * (count - 1)
            return tuple(p.batch * matrix_bytes(*shape, config) for shape in shapes)
        case AttentionProblem() as p:
            q, k = (p.queries, p.head_dim), (p.keys, p.head_dim)
            other = [(p.queries, p.keys)] * (count - 3)
            return tuple(p.heads * matrix_bytes(*shape, config) for shape in (q, k, k, *other))
        case RowProblem() as p:
            return (p.batch * matrix_bytes(p.rows, p.cols, config),) * count
    return (step.work.elements,) * count
