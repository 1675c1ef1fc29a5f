"""Weights of a projection, read from the constant that its file multiplies by.

Asking for one-hot rows (`probe`) costs a run of the product for every `m` of `k` rows. Where one product
with a constant lies between input and output, it is enough to know which columns meet which: the pieces
before and behind it only move and scale numbers, so they are run on the numbers of columns.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnx

from codesign.compiler.graph import Matmul
from codesign.compiler.numerics.constants import Floats
from codesign.compiler.numerics.matrices import Matrices
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel, needed

_MOST_COLUMNS = 1 << 21  # that float32 tells apart, also scaled


class _Product(NamedTuple):
    """A node that multiplies `source` by a constant [k, n]; the axes of k and n in what it reads and
    writes."""

    source: str
    output: str
    weights: Array
    axis: int


def file_weights(model: FloatModel, matrices: Matrices, op: Matmul, feeds: Feeds) -> Floats | None:
    """[k, n] of a projection; None where its file does more than multiply by one constant."""
    (x,) = op.inputs
    product = _product(model, x, op.output)
    if product is None or product.weights.shape != (op.k, op.n) or max(op.k, op.n) > _MOST_COLUMNS:
        return None
    rows = matrices[x].rows

    def before(columns: Array) -> Array:
        values = matrices[x].array(np.tile(columns, (rows, 1)), matrices.shapes[x])
        part = model.part((x,), (product.source,))
        read = part({**feeds, x: values.astype(np.float32)})[product.source]
        return np.moveaxis(read, product.axis, -1).reshape(-1, op.k)

    sample = model.part((x,), (product.output,))(
        {**feeds, x: np.zeros(matrices.shapes[x], np.float32)}
    )[product.output]

    def behind(columns: Array) -> Array:
        wide = np.ones_like(np.moveaxis(sample, product.axis, -1)) * columns
        part = model.part((product.output,), (op.output,))
        written = part({**feeds, product.output: np.moveaxis(wide, -1, product.axis)})[op.output]
        return np.asarray(matrices[op.output].of(written))

    left, right = _moves(before, op.k), _moves(behind, op.n)
    if left is None or right is None:
        return None
    weights: Floats = np.empty((op.k, op.n))
    weights[left[0]] = left[1][:, None] * product.weights.astype(np.float64)
    return weights[:, right[0]] * right[1]


def _moves(function: Callable[[Array], Array], count: int) -> tuple[Array, Floats] | None:
    """Which column each of its own shows, and times what; None where rows differ, or it does more."""
    columns = np.arange(count, dtype=np.float32)
    zero, one, shown = (
        function(values).astype(np.float64) for values in (0 * columns, columns * 0 + 1, columns)
    )
    scale = one - zero
    if scale.shape[1:] != (count,) or not np.all(scale != 0):
        return None
    places = (shown - zero) / scale
    found = np.rint(places)
    whole = np.abs(places - found).max() < 0.25 and (found == found[0]).all()
    alike = np.abs(scale - scale[0]).max() <= 1e-6 * np.abs(scale).max()
    if not (whole and alike and np.array_equal(np.sort(found[0]), columns)):
        return None
    return found[0].astype(np.int64), scale[0]


def _product(model: FloatModel, x: str, output: str) -> _Product | None:
    """The one product between two tensors through which all of the one reaches the other."""
    numbers, _ = needed(model, {x}, [output])
    products = [p for index in sorted(numbers) for p in _products(model, model.nodes[index])]
    if len(products) != 1:
        return None
    _, names = needed(model, {products[0].output}, [output])
    return None if x in names else products[0]


def _products(model: FloatModel, node: onnx.NodeProto) -> Iterator[_Product]:
    """A node as a product with a constant matrix, where it is one."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or node.domain not in ("", "ai.onnx"):
        return
    source, weights = node.input[:2]
    if not model.depends(source) or model.depends(weights):
        return
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    value = model.part((), (weights,))({})[weights]
    if node.op_type == "Conv":
        plain = value[0].size == value.shape[1] and given.get("group", 1) == 1
        moved = any(given.get("pads", ())) or any(s != 1 for s in given.get("strides", ()))
        if plain and not moved:
            yield _Product(source, node.output[0], value.reshape(value.shape[:2]).T, 1)
    elif value.ndim == 2 and not given.get("transA", 0):
        value = value.T if given.get("transB", 0) else value
        yield _Product(source, node.output[0], given.get("alpha", 1.0) * value, -1)
