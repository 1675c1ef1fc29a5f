"""What is added to attention scores, taken apart into what the machine has: a causal limit per row,
an offset per key, a matrix.

The offsets are parameters of the drain behind Q.K^T, the matrix enters the accumulator before it.
"""

from dataclasses import dataclass

import numpy as np

from codesign.compiler.onnx.float_model import Array
from codesign.hw.machine import arithmetic
from codesign.hw.machine.arithmetic import Bools, Ints

HIDDEN = -1e3  # scores lowered by this have no probability
LOW = -arithmetic.SOFTMAX_INPUT_SCALE * (1 << (arithmetic.VALUE_BITS - 2))  # half of what there is


@dataclass(frozen=True)
class Apart:
    """Summands of what is added to the scores: of each key [keys], -inf where hidden, and the matrix
    [heads, queries, keys], -inf where single scores are hidden.
    """

    keys: Array
    matrix: Array


@dataclass(frozen=True)
class Mask:
    """What a run brings to a kernel, in integers: offsets of the sums, and the matrix [queries, heads *
    keys]; or the `table` of a rotation. None: without."""

    offsets: Ints | None = None
    matrix: Array | None = None
    table: Array | None = None


def future(queries: int, keys: int) -> Bools:
    """[queries, keys]: what a causal softmax hides; the last query sees every key."""
    return np.triu(np.ones((queries, keys), dtype=np.bool_), k=1 + keys - queries)


def low_rows(added: Array) -> Bools:
    """[heads, queries]: where the mask lowers every score so far that the machine's saturate."""
    return np.asarray(added.max(axis=-1) < LOW)


def raised(added: Array) -> Array:
    """`added` [heads, queries, keys] with 0 for what hides least in every low row: a softmax does not
    change. Rows of -inf, of which float makes no number, stay.
    """
    top = added.max(axis=-1, keepdims=True)
    low = low_rows(added)[..., np.newaxis] & np.isfinite(top)
    return np.asarray(added - np.where(low, top, 0.0))


def take_apart(added: Array, causal: bool, matrix: bool) -> Apart | None:
    """The summands of `added` [heads, queries, keys] beyond what `causal` hides.

    With `matrix`, keys are only hidden from all queries and the rest is the matrix. Without, None
    where the mask differs from query to query or from head to head, or where it does not hide what
    `causal` does: heads that lie one below the other have a limit each.
    """
    heads, queries, keys = added.shape
    open_to = ~future(queries, keys) if causal else np.ones((queries, keys), dtype=np.bool_)
    seen = np.broadcast_to(open_to, added.shape)
    hidden = ~(added > HIDDEN)
    if (~hidden & ~seen).any():
        return None
    if matrix:
        gone = (hidden | ~seen).all(axis=(0, 1))
        values = np.where(seen & ~gone, np.where(hidden, -np.inf, added), 0.0)
        return Apart(np.where(gone, -np.inf, 0.0), values)
    clipped = np.where(hidden, -np.inf, added)
    of_key = np.where(seen, clipped, -np.inf).max(axis=(0, 1))
    if (seen & (clipped != of_key)).any():
        return None
    return Apart(of_key, np.zeros((heads, queries, keys)))
