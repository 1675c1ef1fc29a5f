"""The tensors of a file that a kernel's operator reads directly, behind everything that only moves data.

The operator graph leaves plumbing out: an operator reads the tensor that was last computed. Where the
plumbing is more than a kernel's addresses can follow, the host does it, and the operator reads these.
"""

import onnx

from codesign.compiler.graph import Add, Graph, HostOp, Matmul, Operator
from codesign.compiler.onnx.float_model import FloatModel, needed

MOVES = frozenset(
    {
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
PRODUCTS = frozenset({"FusedMatMul", "MatMul"})


def file_operands(model: FloatModel, op: Operator) -> tuple[tuple[str, ...], bool] | None:
    """The operands of `op` as the file's own node reads them, and whether the second is transposed.

    None where the file has no such node, or several.
    """
    if isinstance(op, HostOp) or not model.has(op.output):
        return None
    numbers, _ = needed(model, set(op.inputs), [op.output])
    if isinstance(op, Matmul) and not op.constant_b:
        return _product(model, op, numbers)
    if isinstance(op, Add):
        return _of_node(model, numbers, frozenset({"Add", "Sum"}))
    tensor = _behind_moves(model, op.inputs[0], numbers)
    return None if tensor is None else ((tensor,), False)


def only_moved(model: FloatModel, source: str, tensor: str) -> bool:
    """Whether every value of `tensor` is one of `source`, in whatever order and however often."""
    numbers, names = needed(model, {source}, [tensor])
    others = [n for n in names if n in model.writers and model.writers[n] not in numbers]
    moves = MOVES - {"Pad"}
    return set(others) <= {source} and all(
        model.nodes[index].op_type in moves and not _joins_constants(model, model.nodes[index])
        for index in numbers
        if any(model.depends(name) for name in model.nodes[index].input)
    )


def moved_by_host(graph: Graph, model: FloatModel) -> dict[str, str]:
    """Tensors of kernels that one operator of the host alone reads, which moves values as they are; and
    what it writes: a cache that they are put behind.
    """
    found = {}
    for op in graph.operators():
        if not (isinstance(op, HostOp) and op.copy and model.has(op.output)):
            continue
        numbers, _ = needed(model, set(op.inputs), [op.output])
        varying = [
            model.nodes[n].op_type for n in numbers if any(map(model.depends, model.nodes[n].input))
        ]
        if MOVES.difference(("Cast", "Pad")).issuperset(varying):
            for name in op.inputs:
                alone = len(graph.readers(name)) == 1 and name not in graph.outputs
                if alone and graph.producer(name) is not None:
                    found[name] = op.output
    return found


def _joins_constants(model: FloatModel, node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and not all(model.depends(name) for name in node.input)


def _product(
    model: FloatModel, op: Matmul, numbers: set[int]
) -> tuple[tuple[str, ...], bool] | None:
    """A and B; B as it was before a transposition of its last two axes."""
    found = _of_node(model, numbers, PRODUCTS)
    if found is None:
        return None
    a, b = found[0]
    writer = model.writers.get(b)
    if writer is not None and writer in numbers and _swaps_last(model, writer):
        return (a, model.nodes[writer].input[0]), True
    return (a, b), False


def _of_node(
    model: FloatModel, numbers: set[int], types: frozenset[str]
) -> tuple[tuple[str, ...], bool] | None:
    nodes = [model.nodes[index] for index in numbers if model.nodes[index].op_type in types]
    if len(nodes) != 1 or len(nodes[0].input) != 2:
        return None
    inputs = tuple(nodes[0].input)
    return (inputs, False) if all(model.depends(name) for name in inputs) else None


def _swaps_last(model: FloatModel, index: int) -> bool:
    node = model.nodes[index]
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    rank = len(perm)
    return node.op_type == "Transpose" and perm == [*range(rank - 2), rank - 1, rank - 2]


def _behind_moves(model: FloatModel, source: str, numbers: set[int]) -> str | None:
    """The one tensor that is `source` moved about, and that anything else reads."""
    moved, read = {source}, set()
    for index in sorted(numbers):
        node = model.nodes[index]
        data = [name for name in node.input if name]
        if node.op_type in MOVES and moved.intersection(data) and _all_moved(model, data, moved):
            moved.update(node.output)
        else:
            read |= moved.intersection(node.input)
    return read.pop() if len(read) == 1 else None


def _all_moved(model: FloatModel, data: list[str], moved: set[str]) -> bool:
    """Whether a node reads nothing else that depends on the model's inputs."""
    others = [name for name in data if name not in moved]
    return all(not model.depends(name) for name in others)
