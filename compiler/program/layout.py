"""Whether every kernel of a plan finds its operands in the layout in which others leave them.

A tensor lies in DRAM once, the way `Matrices` says: rows by columns, heads whose width is no multiple
of dim on blocks of their own. Kernels know rows, blocks and heads only; where a graph uses one tensor
in two ways that do not meet, there is no Program for it.
"""

from dataclasses import dataclass

from codesign.compiler.graph import Matmul
from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes
from codesign.compiler.kernels.kernel_kind import Operand, Problem
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.quantized import QuantizationError
from codesign.compiler.plan import kinds
from codesign.compiler.plan.work import Work
from codesign.hw.machine.config import HardwareConfig


@dataclass(frozen=True)
class _Use:
    """How a kernel sees a tensor: rows, blocks, and the width of a head, 0 where any will do."""

    tensor: str
    rows: int
    blocks: int
    width: int = 0
    part: bool = False  # of its rows or blocks


def check_layouts(works: list[Work], matrices: Matrices, config: HardwareConfig) -> None:
    """Raises LayoutError, naming the kernel and the tensor, for a layout that does not fit."""
    for work in works:
        _check_shared(work, matrices, config)
        if work.problem is not None and kinds.kind_of(work.problem).elementwise(work.problem):
            _check_elementwise(work, work.problem, matrices, config)
            continue
        for use in _uses(work, config):
            if not _fits(use, matrices, config):
                raise _misfit(work, use.tensor)


def _check_shared(work: Work, matrices: Matrices, config: HardwareConfig) -> None:
    """Of heads that share those of their second operand, a kernel reads as many as there are."""
    for op in (matrices.graph.dag[name] for name in work.operators):
        if isinstance(op, Matmul) and op.shared > 1:
            reads = [read for read in work.reads(config) if read.tensor == op.inputs[1]]
            if op.batch // op.shared not in [read.operand.shape[0] for read in reads]:
                raise _misfit(work, op.inputs[1], (op.name,))


def _uses(work: Work, config: HardwareConfig) -> list[_Use]:
    """Every tensor as the kernel sees it. Weights are packed as the heads of their input and output
    are padded, so that the kernel may see those as anything; a batch of them has no layout.
    """
    if work.problem is None:
        return []

    def use(tensor: str, operand: Operand, columns: int, turns: int = 1) -> _Use:
        count, rows, _ = operand.shape
        blocks = turns * (1 if work.constant_b else count) * int(ceil_div(columns, config.dim))
        free = work.constant_b and (operand.part or not operand.whole_rows)
        return _Use(tensor, rows, blocks, 0 if free else columns, operand.part)

    uses = [
        use(read.tensor, read.operand, read.operand.shape[-1], read.turn + 1)
        for read in work.reads(config)
    ]
    output = kinds.output(work.problem, config)
    widths = work.output_columns or (output.shape[-1],)
    return uses + [
        use(tensor, output, columns) for tensor, columns in zip(work.outputs, widths, strict=True)
    ]


def _fits(use: _Use, matrices: Matrices, config: HardwareConfig) -> bool:
    matrix = matrices[use.tensor]
    columns = matrix.heads * matrix.columns
    width, wide = matrices.heads(use.tensor, config)
    blocks = int(ceil_div(columns // width * wide, config.dim))
    if use.part:
        reach = matrix.rows >= use.rows and blocks >= use.blocks
    else:
        reach = (matrix.rows, blocks) == (use.rows, use.blocks)
    aligned = width % config.dim == 0 or width == columns
    heads = use.width in (0, width) or (use.width % config.dim == 0 and aligned)
    return columns % width == 0 and reach and (heads or (width == columns == use.width))


def _check_elementwise(
    work: Work, problem: Problem, matrices: Matrices, config: HardwareConfig
) -> None:
    """Elementwise kernels run over bytes: all operands must lie alike, and as long as is worked on."""
    tensors = (*work.inputs, work.outputs[0])
    worked = kinds.output(problem, config).size_bytes
    first = matrices[tensors[0]]
    for tensor in tensors:
        matrix = matrices[tensor]
        width, wide = matrices.heads(tensor, config)
        stored = matrix_bytes(matrix.rows, matrix.heads * matrix.columns // width * wide, config)
        alike = (matrix.rows, matrix.heads * matrix.columns) == (
            first.rows,
            first.heads * first.columns,
        )
        same = matrices.heads(tensor, config) == matrices.heads(tensors[0], config)
        aligned = not width % config.dim and not matrices.heads(tensors[0], config)[0] % config.dim
        if stored != worked or not alike or not (same or aligned):
            raise _misfit(work, tensor)


class LayoutError(QuantizationError):
    """A kernel that reads or writes a tensor in another layout than it has; `operators`, which are its
    own, do so.
    """

    def __init__(self, operators: tuple[str, ...], message: str) -> None:
        self.operators = operators
        super().__init__(message)


def _misfit(work: Work, tensor: str, operators: tuple[str, ...] = ()) -> LayoutError:
    return LayoutError(
        operators or work.operators,
        f"{work.name!r}: {tensor!r} is stored otherwise than it is used there, and its layout is not "
        "supported: choose a machine whose dim divides the width of heads and rows",
    )
