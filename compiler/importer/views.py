"""What an ONNX tensor is in the operator graph: a view of a tensor that some operator writes.

Reshape, Transpose, Slice and the like only change the view. Of the layout one thing matters: which
axis runs along the *columns* of the stored matrix, since the machine streams rows. An operand whose
reduced axis is not its column axis is a transposed operand (K in Q.K^T).
"""

import math
from dataclasses import dataclass, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pending:
    """A constant or computed tensor that an elementwise node combined with a view.

    It becomes a mask when a softmax reads the view, part of the weights when a product with weights
    does and it is one number a column, otherwise work for the host.
    """

    function: str  # ONNX operator type, lower case
    tensor: str
    masking: bool  # False for a constant that masks nothing (all zeros)
    causal: bool
    bias_elements: int = 0
    columns: int = 0  # elements of a constant that varies along the columns alone, 0 for any other


@dataclass(frozen=True)
class View:
    """A view of the operator tensor `source`.

    `column` is the axis along its columns, `whole` is False for a part of it, `exclusive` is True
    while nothing else reads those elements, so that bias and scale may be folded into its writer.
    It shows every head `repeats` times, as many query heads read one key head.
    """

    source: str
    column: int
    whole: bool = True
    exclusive: bool = True
    repeats: int = 1
    pending: tuple[Pending, ...] = ()

    def moved(self, column: int) -> "View":
        return replace(self, column=column)


def reshaped_column(column: int, old: Shape, new: Shape) -> int:
    """Return the axis of `new` that holds the columns after a row-major reshape from `old`.

    The last element's stride identifies it: an axis covers the strides from the product of the
    extents behind it up to that times its own extent.
    """
    if not new:
        return 0
    stride = math.prod(old[column + 1 :])
    behind = 1
    for axis in range(len(new) - 1, -1, -1):
        if behind <= stride < behind * new[axis]:
            return axis
        behind *= new[axis]
    return len(new) - 1


def gathered_column(column: int, axis: int, index_rank: int) -> int:
    """Return the column axis after a Gather along `axis` with indices of `index_rank` axes."""
    return column if column <= axis else column + index_rank - 1


def expanded_column(column: int, old: Shape, new: Shape) -> int:
    """Return the column axis after broadcasting, which adds axes in front."""
    return column + len(new) - len(old)
