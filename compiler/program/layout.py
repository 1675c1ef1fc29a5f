"""Whether every kernel of a plan finds its operands in the layout in which others leave them.

A tensor lies in DRAM once, the way `Matrices` says: rows by columns, heads whose width is no multiple
of dim on blocks of their own. Kernels know rows, blocks and heads only; where a graph uses one tensor
in two ways that do not meet, there is no Program for it.
"""

from dataclasses import dataclass

from codesign.compiler.kernels.attention_kernel import AttentionProblem
from codesign.compiler.kernels.blocks import ceil_div, matrix_bytes
from codesign.compiler.kernels.kinds import operand_bytes
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.numerics.quantized import QuantizationError
from codesign.compiler.plan.work import Work
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import ROW_FUNCTIONS


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
        if isinstance(work.problem, RowProblem) and work.problem.function not in ROW_FUNCTIONS:
            _check_elementwise(work, work.problem, matrices, config)
            continue
        for use in _uses(work, config):
            if not _fits(use, matrices, config):
                raise _misfit(work, use.tensor)


def _uses(work: Work, config: HardwareConfig) -> list[_Use]:
    def blocks(columns: int) -> int:
        return int(ceil_div(columns, config.dim))

    match work.problem:
        case MatmulProblem() as p if work.constant_b:
            uses = [_Use(work.inputs[0], p.m, blocks(p.k), part=True)]
            if p.residual:
                uses.append(_Use(work.inputs[-1], p.m, blocks(p.n), p.n))
            widths = work.output_columns or (p.n,)
            whole = p.residual or p.row_function
            outputs = zip(work.outputs, widths, strict=True)
            return uses + [_Use(name, p.m, blocks(n), n * whole) for name, n in outputs]
        case MatmulProblem() as p:
            rows, columns = (p.n, p.k) if p.transposed_b else (p.k, p.n)
            b = p.batch * blocks(columns) * (work.b_range + 1)
            return [
                _Use(work.inputs[0], p.m, p.batch * blocks(p.k), p.k, part=True),
                _Use(work.inputs[1], rows, b, columns, part=True),
                _Use(work.outputs[0], p.m, p.batch * blocks(p.n), p.n),
            ]
        case AttentionProblem() as p:
            wide = p.heads * blocks(p.head_dim)
            counts = (p.queries, p.keys, p.keys)
            uses = [
                _Use(tensor, count, (turn + 1) * wide, p.head_dim, part=True)
                for tensor, count, turn in zip(work.inputs[:3], counts, work.ranges, strict=True)
            ]
            return [*uses, _Use(work.outputs[0], p.queries, wide, p.head_dim)]
        case RowProblem() as p:
            read = work.inputs[:1] if p.function == "softmax" else work.inputs
            wide = p.batch * blocks(p.cols)
            return [_Use(tensor, p.rows, wide, p.cols) for tensor in (*read, work.outputs[0])]
    return []


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
    work: Work, p: RowProblem, matrices: Matrices, config: HardwareConfig
) -> None:
    """Elementwise kernels run over bytes: all operands must lie alike, and as long as is worked on."""
    tensors = (*work.inputs, work.outputs[0])
    worked = operand_bytes(p, config)["out"]
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
    """A kernel that reads or writes a tensor in another layout than it has; `operators` are its own."""

    def __init__(self, work: Work, message: str) -> None:
        self.operators = work.operators
        super().__init__(message)


def _misfit(work: Work, tensor: str) -> LayoutError:
    return LayoutError(
        work,
        f"{work.name!r}: {tensor!r} is stored otherwise than it is used there, and its layout is not "
        "supported: choose a machine whose dim divides the width of heads and rows",
    )
