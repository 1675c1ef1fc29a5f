"""What fusion makes of operators: kernels to be, and groups of operators with the ways to compute them."""

from dataclasses import dataclass

from codesign.compiler.graph import Operator
from codesign.compiler.kernels.kernel_kind import Drain, Operand, Problem, bound
from codesign.compiler.plan import kinds
from codesign.hw.machine.config import HardwareConfig


@dataclass(frozen=True)
class Read:
    """A tensor that a kernel reads: as which operand, and which of the column ranges of the tensor."""

    operand: Operand
    tensor: str
    turn: int


@dataclass(frozen=True)
class Work:
    """One kernel to be: a problem for the accelerator, or cycles of the host.

    `inputs` are the tensors it reads in the order of its kernel's operands, then the masks that the
    host adds to scores; `outputs` the tensors it writes, side by side in one matrix with `output_columns` each.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    problem: Problem | None = None
    host_cycles: int = 0
    macs: int = 0
    output_columns: tuple[int, ...] = ()
    elements: int = 0  # of the output, for the host
    copied_bytes: int = 0  # that the host reads, and writes, as they are
    constant_b: bool = False  # whether it multiplies by weights
    ranges: tuple[int, ...] = ()  # of inputs in their tensors, where Q, K and V share one; else 0

    def operands(self, config: HardwareConfig) -> tuple[Operand, ...]:
        """What its kernel reads and writes; nothing on the host."""
        return () if self.problem is None else kinds.operands(self.problem, config)

    @property
    def drains(self) -> tuple[Drain, ...]:
        """The drains of its kernel; none on the host."""
        return () if self.problem is None else kinds.drains(self.problem)

    def reads(self, config: HardwareConfig) -> list[Read]:
        """The tensors that its kernel reads; not masks, which are the run's."""
        operands = bound(self.operands(config), len(self.inputs))
        turns = self.ranges or (0,) * len(operands)
        return [
            Read(operand, tensor, turn)
            for operand, tensor, turn in zip(operands, self.inputs, turns, strict=False)
        ]

    def constants(self, config: HardwareConfig) -> list[Operand]:
        """What its kernel reads that no kernel writes, in the order of the memory map."""
        tensors = {read.operand.name for read in self.reads(config)}
        return [o for o in self.operands(config) if o.role != "output" and o.name not in tensors]


Alternative = tuple[Work, ...]


@dataclass(frozen=True)
class Group:
    """Operators computed together, and the ways to do it."""

    operators: tuple[Operator, ...]
    alternatives: tuple[Alternative, ...]


PATCHES = "patches"  # behind the names of a convolution and its output: the copy of its patches
LOW = "/low"  # behind a tensor's name: what its int8 values leave, in steps 256 times as fine
