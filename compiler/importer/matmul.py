"""Handlers for everything that is a matrix product: MatMul and its fused and integer forms, Gemm,
Conv, Einsum, and the bias that follows them.
"""

import math
import string
from collections.abc import Sequence
from dataclasses import replace

from codesign.compiler.graph import Add, Matmul
from codesign.compiler.importer.emitter import Emitter
from codesign.compiler.importer.layout import WORD_BYTES
from codesign.compiler.importer.views import expanded_column
from codesign.compiler.onnx.masks import hides
from codesign.compiler.onnx.shapes import Node, Origin, Shape, UnknownShape


def matmul(emitter: Emitter, node: Node) -> None:
    """MatMul, FusedMatMul and the integer forms; a one-hot A times a table is an embedding."""
    a, b = node.inputs[:2]
    output = node.outputs[0]
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    if emitter.origin(a) == Origin.INDEX and emitter.origin(b) == Origin.CONSTANT:
        emitter.host(node, "embedding", [a], output, count=emitter.tensor(output).elements)
    elif emitter.origin(b) == Origin.CONSTANT:
        linear(emitter, node, a, b, output, trans_a, trans_b)
    elif emitter.origin(a) == Origin.CONSTANT:
        _weights_times_activation(emitter, node, a, b, output, trans_a, trans_b)
    else:
        _activations(emitter, node, trans_a, trans_b)
    if node.input(2) and node.op_type not in ("Gemm", "FusedGemm"):  # of the integer forms
        _own_bias(emitter, node.input(2), output)


def linear(
    emitter: Emitter,
    node: Node,
    a: str,
    b: str,
    output: str,
    trans_a: bool = False,
    trans_b: bool = False,
) -> None:
    """output = A @ B with weights B [k, n] (or one per leading index), A's rows flattened to m."""
    shape_b = emitter.shape(b)
    rank_b = len(shape_b)
    n = 1 if rank_b == 1 else shape_b[-2 if trans_b else -1]
    k = shape_b[0] if rank_b == 1 else shape_b[-1 if trans_b else -2]
    groups = math.prod(shape_b[:-2])
    rank_a = len(emitter.shape(a))
    rows = _rows(emitter, a, rank_a - 2 if trans_a else rank_a - 1, b, groups)
    emitter.emit(_by_weights(emitter, node, rows, b, output, groups, k, n), output)


def _rows(emitter: Emitter, name: str, axis: int, weights: str, groups: int) -> tuple[str, bool]:
    """The rows of an activation along `axis`, and whether they bring a bias (see `factor_rows`)."""
    if groups > 1:
        return emitter.aligned(name, axis), False
    return emitter.factor_rows(name, axis, weights)


def _by_weights(
    emitter: Emitter,
    node: Node,
    rows: tuple[str, bool],
    weights: str,
    output: str,
    groups: int,
    k: int,
    n: int,
) -> Matmul:
    """All rows of an activation times weights [k, n], or one matrix of them a group."""
    source, bias = rows
    return Matmul(
        node.name,
        (source,),
        output,
        batch=groups,
        m=emitter.tensor(output).elements // (n * groups),
        k=k,
        n=n,
        bias=bias,
        weights_name=emitter.root(weights),
    )


def _weights_times_activation(
    emitter: Emitter, node: Node, a: str, b: str, output: str, trans_a: bool, trans_b: bool
) -> None:
    """output = W @ X, computed as its transpose X' @ W' with the rows of X' streaming."""
    shape_a, rank = emitter.shape(a), len(emitter.shape(b))
    m, k = shape_a[-2:] if len(shape_a) > 1 else (1, shape_a[0])
    m, k = (k, m) if trans_a else (m, k)
    groups = math.prod(shape_a[:-2])
    rows = _rows(emitter, b, max(rank - 1 if trans_b else rank - 2, 0), a, groups)
    op = _by_weights(emitter, node, rows, a, output, groups, k, m)
    emitter.emit(op, output, max(len(emitter.shape(output)) - 2, 0))


def _activations(emitter: Emitter, node: Node, trans_a: bool, trans_b: bool) -> None:
    a, b = node.inputs[:2]
    shape_a, shape_b = emitter.shape(a), emitter.shape(b)
    inner_a = max(len(shape_a) - (2 if trans_a else 1), 0)
    inner_b = max(len(shape_b) - (1 if trans_b else 2), 0)
    n = emitter.shape(b)[-2 if trans_b else -1] if len(shape_b) > 1 else 1
    k = shape_a[inner_a]
    elements = emitter.tensor(node.outputs[0]).elements
    lead = math.prod(emitter.shape(node.outputs[0])[:-2])
    different = math.prod(shape_b[:-2])
    if _better_turned(emitter, (a, inner_a), (b, inner_b)) and lead == different:
        rows = max(len(emitter.shape(node.outputs[0])) - 2, 0)
        op = Matmul(
            node.name,
            (emitter.source(b), emitter.source(a)),
            node.outputs[0],
            batch=lead,
            m=n,
            k=k,
            n=elements // (lead * n),
            constant_b=False,
            shared=emitter.times_read(a, lead, lead // max(math.prod(shape_a[:-2]), 1)),
        )
        emitter.emit(op, node.outputs[0], rows)
        return
    # Without heads all rows of A lie one after another: one product.
    batch = 1 if different == 1 and len(shape_a) < 4 else lead
    inputs = (emitter.aligned(a, inner_a), emitter.source(b))
    op = Matmul(
        node.name,
        inputs,
        node.outputs[0],
        batch=batch,
        m=elements // (batch * n),
        k=k,
        n=n,
        constant_b=False,
        transposed_b=_stored_transposed(emitter, b, inner_b),
        shared=emitter.times_read(b, batch, batch // max(different, 1)),
    )
    emitter.emit(op, node.outputs[0])


def _better_turned(emitter: Emitter, a: tuple[str, int], b: tuple[str, int]) -> bool:
    """Whether B's rows lie along the axis that a product of activations sums over, and A's do not: its
    transpose is the product of both as they lie. Each is a name and that axis.
    """
    return emitter.misaligned(*a) and _stored_transposed(emitter, *b)


def _stored_transposed(emitter: Emitter, b: str, inner_axis: int) -> bool:
    """True when B's columns in memory run along the axis that the matmul sums over."""
    view = emitter.views.get(b)
    return view is not None and view.column == inner_axis and len(emitter.shape(b)) > 1


def gemm(emitter: Emitter, node: Node) -> None:
    """Gemm: a linear layer with a constant C, otherwise a product and a sum."""
    matmul(emitter, node)
    c, output = node.input(2), node.outputs[0]
    if c and emitter.is_activation(c):
        product = emitter.views.pop(output)
        emitter.graph.tensors[f"{output}/product"] = emitter.tensor(output)
        op = replace(emitter.operators.pop(product.source), output=f"{output}/product")
        emitter.operators[op.output] = op
        emitter.views[op.output] = replace(product, source=op.output)
        emitter.pairwise(Add, f"{node.name}/add", op.output, c, output)
    elif c:
        _own_bias(emitter, c, output)


def _own_bias(emitter: Emitter, constant: str, output: str) -> None:
    """Give the Matmul that has just been emitted the bias that its ONNX node holds."""
    view = emitter.views[output]
    op = emitter.operators[view.source]
    if isinstance(op, Matmul) and op.constant_b and emitter.along_columns(constant, output):
        emitter.operators[op.output] = replace(op, bias=True)
    else:
        product = f"{output}/product"  # apart from the sum that the host makes of it
        emitter.graph.tensors[product] = emitter.tensor(output)
        emitter.operators[product] = replace(emitter.operators.pop(op.output), output=product)
        left = (emitter.pending("add", constant),)
        emitter.views[output] = replace(view, source=product, pending=left)


def bias(emitter: Emitter, node: Node, name: str, constant: str, output: str) -> None:
    """output = name + constant: a bias when it can be folded, else pending."""
    value = emitter.value(constant)
    column = emitter.views[name].column
    same = emitter.tensor(name).elements == emitter.tensor(output).elements
    if same and value is not None and value.size == 1 and not value.any():
        emitter.alias(output, name, column)
    elif (
        same
        and not hides(value)
        and emitter.along_columns(constant, name)
        and emitter.origin(constant) == Origin.CONSTANT
        and emitter.fold_into_weights(node, name, output, bias=True)
    ):
        return
    else:
        leave_pending(emitter, "add", name, constant, output)


def leave_pending(emitter: Emitter, function: str, name: str, other: str, output: str) -> None:
    column = emitter.views[name].column
    column = expanded_column(column, emitter.shape(name), emitter.shape(output))
    emitter.alias(output, name, column)
    view = emitter.views[output]
    left = (*view.pending, emitter.pending(function, other, output))
    emitter.views[output] = replace(view, pending=left)


def convolution_matmul(emitter: Emitter, node: Node) -> None:
    """Conv as its im2col matmul: rows are output pixels, columns output channels.

    Only a kernel of one pixel at every pixel finds its rows where the operator before left them;
    for all others the host copies the patches, into rows of their own.
    """
    x, weights = node.inputs[:2]
    shape = emitter.shape(weights)  # [out channels, in channels / groups, *kernel]
    if emitter.origin(weights) != Origin.CONSTANT or not emitter.is_activation(x):
        raise UnknownShape("its weights are not constant")
    groups = node.attribute("group", 1)
    output = node.outputs[0]
    pixels = math.prod(shape[2:]) == 1 and emitter.shape(x)[2:] == emitter.shape(output)[2:]
    as_it_lies = pixels and groups == 1
    source, moved = emitter.factor_rows(x, 1, weights) if as_it_lies else (emitter.source(x), False)
    op = Matmul(
        node.name,
        (source,),
        output,
        batch=groups,
        m=emitter.tensor(output).elements // shape[0],
        k=math.prod(shape[1:]),
        n=shape[0] // groups,
        bias=bool(node.input(2)) or moved,
        im2col_bytes=emitter.tensor(x).elements,
        patches="" if as_it_lies else _patch_copy(emitter, x, shape, groups),
        weights_name=emitter.root(weights),
    )
    emitter.emit(op, output, 1)


def _patch_copy(emitter: Emitter, x: str, weights: Shape, groups: int) -> str:
    """How the host copies patches: in runs of a word or more, or byte by byte.

    A run is the channels of a pixel where the machine wrote them; a whole line of a patch in an
    image that is given, which lies pixel behind pixel.
    """
    run = weights[1]
    if not emitter.on_mesh(x) and groups == 1:
        run *= weights[-1]
    channels_last = not emitter.on_mesh(x) or emitter.views[x].column == 1
    return "rows" if channels_last and run >= WORD_BYTES else "bytes"


def einsum(emitter: Emitter, node: Node) -> None:
    """Einsum of two operands that is a (batched) matmul after reordering axes."""
    ranks = [len(emitter.shape(name)) for name in node.inputs]
    equation = _spelled_out(node.attribute("equation").replace(" ", ""), ranks)
    terms, arrow, result = equation.partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or not arrow or "." in equation:
        raise UnknownShape(f"its equation {equation} is not a matmul")
    left, right = operands
    a, b = node.inputs
    if emitter.origin(a) == Origin.CONSTANT:
        a, b, left, right = b, a, right, left
    axes = [*zip(left + right, emitter.shape(a) + emitter.shape(b), strict=True)]
    extents = dict(axes)
    if any(extents[axis] != extent for axis, extent in axes):
        raise UnknownShape(f"its equation {equation} repeats an axis of one element")
    inner = [c for c in left if c in right and c not in result]
    both = emitter.is_activation(a) and emitter.is_activation(b)
    if (
        inner
        and both
        and _better_turned(emitter, (a, left.index(inner[-1])), (b, right.index(inner[-1])))
    ):
        a, b, left, right = b, a, right, left
    lead = [c for c in left if c in right and c in result]
    if set(left) - set(right) - set(result) or set(right) - set(left) - set(result) or not inner:
        raise UnknownShape(f"its equation {equation} is not a matmul")
    columns = [c for c in result if c in right and c not in left]
    constant = emitter.origin(b) == Origin.CONSTANT
    sizes = {c: extents[c] for c in result}
    batch = math.prod(sizes[c] for c in lead)
    n = math.prod(sizes[c] for c in columns)
    axis = left.index(inner[-1])
    by_weights = constant and len(inner) == 1 and not lead
    source, moved = (
        emitter.factor_rows(a, axis, b) if by_weights else (emitter.aligned(a, axis), False)
    )
    inputs = [source] if constant else [source, emitter.source(b)]
    transposed = not constant and _stored_transposed(emitter, b, right.index(inner[-1]))
    op = Matmul(
        node.name,
        tuple(inputs),
        node.outputs[0],
        batch=batch,
        m=emitter.tensor(node.outputs[0]).elements // (batch * n),
        k=math.prod(extents[c] for c in inner),
        n=n,
        constant_b=constant,
        transposed_b=transposed,
        bias=moved,
        shared=1 if constant else emitter.times_read(b, batch, 1),
        weights_name=emitter.root(b) if constant else "",
    )
    emitter.emit(op, node.outputs[0], result.index(columns[-1]) if columns else len(result) - 1)


def _spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """An equation with letters for the axes that "..." stands for, the same from behind."""
    terms, arrow, result = equation.partition("->")
    operands = terms.split(",")
    counts = [
        rank - len(term) + 3 if "..." in term else 0
        for term, rank in zip(operands, ranks, strict=False)
    ]
    free = [letter for letter in string.ascii_letters if letter not in equation]
    letters = "".join(free[: max(counts, default=0)])
    dots = [letters[len(letters) - max(count, 0) :] for count in counts]
    operands = [term.replace("...", own) for term, own in zip(operands, dots, strict=False)]
    return ",".join(operands) + arrow + result.replace("...", letters)


def matmul_nbits(emitter: Emitter, node: Node) -> None:
    """com.microsoft MatMulNBits: weights of few bits, computed in int8 here."""
    k, n = node.attribute("K"), node.attribute("N")
    a, output = node.inputs[0], node.outputs[0]
    source, moved = emitter.factor_rows(a, len(emitter.shape(a)) - 1)
    op = Matmul(
        node.name,
        (source,),
        output,
        m=emitter.tensor(a).elements // k,
        k=k,
        n=n,
        bias=bool(node.input(5)) or moved,
        weights_name=emitter.root(node.inputs[1]),
    )
    emitter.emit(op, output)
