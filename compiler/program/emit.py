"""A plan becomes a Program: every kernel with its DRAM addresses, and the memory map.

Weights and parameters get places of their own; activations share memory by liveness: a tensor's
place is free again once its last reader has run, but of those that are kept for the next run. All
matrices are in the blocked layout [columns / dim][rows][dim].
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes
from codesign.compiler.kernels.kernel_kind import shape_bytes
from codesign.compiler.kernels.numbers import StepNumbers
from codesign.compiler.plan import kinds
from codesign.compiler.plan.kinds import body
from codesign.compiler.plan.lower import Plan, Step
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.program import Body, Kernel, Program, Region

BURST_BOUNDARY = 4096  # an AXI4 burst does not cross it


@dataclass
class _Tensor:
    """An activation: how large it is and which kernels it lives through."""

    size_bytes: int
    born: int
    last_read: int


def emit(
    plan: Plan, numbers: Mapping[int, StepNumbers] | None = None, kept: Collection[str] = ()
) -> Program:
    """The Program of a plan, with its memory map; `numbers` by step, from quantization. Activations
    `kept` are not written over.

    Without numbers it takes the same cycles and computes nothing useful.
    """
    memory = _Memory(plan, numbers or {}, kept)
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


def places(plan: Plan, kept: Collection[str] = ()) -> dict[str, int]:
    """DRAM addresses of every tensor and constant, by name; side-by-side outputs have their own.
    `kept` is `emit`'s."""
    return _Memory(plan, {}, kept).place


def _body(step: Step, index: int, memory: "_Memory") -> Body:
    problem = step.work.problem
    if problem is None:
        return ()
    places, numbers = memory.places(step, index), memory.of_step(index)
    return body(problem, step.mapping, memory.config, places, numbers)


class _Memory:
    """Places for everything a plan keeps in DRAM."""

    def __init__(
        self, plan: Plan, numbers: Mapping[int, StepNumbers], kept: Collection[str]
    ) -> None:
        self.config, self.numbers, self.kept = plan.config, numbers, kept
        self.regions: list[Region] = []
        self.place: dict[str, int] = {}
        self.end = 0
        for index, step in enumerate(plan.steps):
            for operand in step.work.constants(plan.config):
                self._fixed(f"{index}:{step.name}/{operand.region}", operand.size_bytes)
        self._activations(plan)

    def of_step(self, index: int) -> StepNumbers:
        """The numbers of a step, or none."""
        return self.numbers.get(index, StepNumbers())

    def places(self, step: Step, index: int) -> dict[str, int]:
        """Addresses of a step's operands, by their names in its kernel."""
        work, found = step.work, {}
        for operand in work.operands(self.config):
            if operand.role == "output":
                found[operand.name] = self.place[work.outputs[0]]
        for operand in work.constants(self.config):
            found[operand.name] = self.place[f"{index}:{step.name}/{operand.region}"]
        for read in work.reads(self.config):  # column ranges of one matrix lie one after another
            place = self.place[read.tensor] + read.turn * read.operand.size_bytes
            found[read.operand.name] = place
        return found

    def _fixed(self, name: str, size: int) -> None:
        address = _aligned(self.end)
        self.regions.append(Region(name, address, size))
        self.place[name] = address
        self.end = address + size

    def _activations(self, plan: Plan) -> None:
        """First fit over lifetimes, in order of birth."""
        tensors = _lifetimes(plan)
        for name in self.kept:
            tensors[name] = replace(tensors[name], born=-1, last_read=len(plan.steps))
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
            if step.work.problem is None:
                continue
            address = self.place[step.work.outputs[0]]
            for output, columns in zip(
                step.work.outputs[1:], step.work.output_columns[:-1], strict=False
            ):
                _, rows, _ = kinds.output(step.work.problem, self.config).shape
                address += matrix_bytes(rows, columns, self.config)
                self.place[output] = address


def _aligned(address: int) -> int:
    return int(ceil_div(address, BURST_BOUNDARY)) * BURST_BOUNDARY


def _written(step: Step, config: HardwareConfig) -> int:
    """Bytes of everything a step writes."""
    problem = step.work.problem
    return step.work.elements if problem is None else kinds.output(problem, config).size_bytes


def _lifetimes(plan: Plan) -> dict[str, _Tensor]:
    """Activations by name, in order of birth; side-by-side outputs live and die together."""
    tensors: dict[str, _Tensor] = {}
    owner: dict[str, str] = {}
    for index, step in enumerate(plan.steps):
        for tensor, size in zip(step.work.inputs, _sizes(step, plan.config), strict=True):
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


def _sizes(step: Step, config: HardwareConfig) -> tuple[int, ...]:
    """Bytes of each input, as the kernel sees it; a mask takes as many as the scores."""
    work, problem = step.work, step.work.problem
    if problem is None:
        return (work.elements,) * len(work.inputs)
    sizes = [read.operand.size_bytes for read in work.reads(config)]
    masks = len(work.inputs) - len(sizes)
    if masks:
        scores, *_ = kinds.drains(problem)
        sizes += [shape_bytes(scores.shape, config)] * masks
    return tuple(sizes)
