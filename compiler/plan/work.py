"""What fusion makes of operators: kernels to be, and groups of operators with the ways to compute them."""

from dataclasses import dataclass

from codesign.compiler.graph import Operator
from codesign.compiler.kernels.kinds import Problem
from codesign.compiler.kernels.matmul_shape import MatmulProblem


@dataclass(frozen=True)
class Work:
    """One kernel to be: a problem for the accelerator, or cycles of the host.

    `inputs` are the tensors it reads in the roles of its kernel (a and b; q, k and v; x and y);
    `outputs` the tensors it writes, side by side in one matrix with `output_columns` each.
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
    b_range: int = 0  # of B in its tensor, where Q, K and V are column ranges of one
    ranges: tuple[int, ...] = ()  # the same of Q, K and V, in attention

    @property
    def constant_b(self) -> bool:
        """Whether it multiplies by weights."""
        p = self.problem
        return isinstance(p, MatmulProblem) and len(self.inputs) - p.residual == 1


Alternative = tuple[Work, ...]


@dataclass(frozen=True)
class Group:
    """Operators computed together, and the ways to do it."""

    operators: tuple[Operator, ...]
    alternatives: tuple[Alternative, ...]


PATCHES = "patches"  # behind the names of a convolution and its output: the copy of its patches
LOW = "/low"  # behind a tensor's name: what its int8 values leave, in steps 256 times as fine
