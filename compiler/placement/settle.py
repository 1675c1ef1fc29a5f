"""Who computes what: an operator graph, revised until every operator is a kernel's or the host's.

The import prices shapes; whether a file really computes, and stores, what a kernel expects is known
once its constants are probed. What does not fit gets the cheapest remedy that does, one a round: the
host writes the operands in the order in which the kernel reads them; a mask of single scores enters
as a matrix; the host computes the operator in float. Tensors that the import made for itself have no
piece of the file that computes them, so they disappear into their readers. Nothing is done in
silence: `host_notes` says what the host does beyond its own operators.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.compiler.graph import Graph, HostOp, Matmul, Operator, Rearrange, Rotary, Softmax
from codesign.compiler.numerics.asking import OtherOrder, Refusal
from codesign.compiler.numerics.calibrate import CalibrationError, Observed, observe
from codesign.compiler.numerics.constants import Constants
from codesign.compiler.numerics.hidden_rows import astray
from codesign.compiler.numerics.matrices import Matrices, not_in_patches
from codesign.compiler.numerics.probe import probe
from codesign.compiler.onnx.float_model import Feeds, FloatModel
from codesign.compiler.placement.operands import file_operands, only_moved


@dataclass(frozen=True)
class Settled:
    """A graph whose operators all have someone to compute them, and what was found out on the way."""

    graph: Graph
    observed: Observed
    matrices: Matrices
    constants: Constants


@dataclass
class Remedies:
    """What has been done so far, by the tensor that an operator writes.

    `whole`: why the file's node that writes a tensor was not taken apart.
    """

    whole: Mapping[str, str] = field(default_factory=dict)
    rearranged: set[str] = field(default_factory=set)
    as_matrix: set[str] = field(default_factory=set)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of a rotation's columns
    on_host: dict[str, tuple[Operator, str]] = field(default_factory=dict)  # and why

    def sums(self) -> frozenset[str]:
        """Names of the host's own operators that a kernel would take over, and must not."""
        return frozenset(op.name for op, _ in self.on_host.values() if isinstance(op, HostOp))


@dataclass(frozen=True)
class Observer:
    """What calibration runs: a model with all its clamps, samples, and `observe`'s limits."""

    model: FloatModel
    samples: Sequence[Feeds]
    limits: Mapping[str, tuple[str, float, float]]

    def __call__(self, graph: Graph) -> Observed:
        """What it sees of the float tensors of a graph."""
        tensors = observed_tensors(graph, self.model)
        elements = {op.output: op.elements for op in graph.operators()}
        return observe(self.model, tensors, self.samples, self.limits, elements)


def settle(model: FloatModel, observer: Observer, graph: Graph, remedies: Remedies) -> Settled:
    """Observe, probe and revise `graph` until nothing is refused; `remedies` keeps what was done.

    Raises CalibrationError for samples that do not fit, or say nothing.
    """
    images = {op.output for op in graph.operators() if isinstance(op, Matmul) and op.im2col_bytes}
    for op in graph.operators():
        if reason := not_in_patches(graph, op):
            remedies.on_host[op.output] = (op, reason)
    graph = _revised(model, graph, remedies)
    while True:
        observed = observer(graph)
        _check_shapes(graph, observed.shapes)
        matrices = Matrices(graph, dict(observed.shapes), images)
        constants, refused = probe(model, graph, matrices, observed.feeds)
        refused = {**refused, **dict(_astray(model, graph, matrices, constants, observer.samples))}
        if not refused:
            return Settled(graph, observed, matrices, constants)
        for name, refusal in refused.items():
            output = graph.dag[name].output
            if isinstance(refusal, OtherOrder) and output not in remedies.orders:
                remedies.orders[output] = refusal.order
                continue
            remedy(model, graph.dag[name], refusal.reason, remedies)
        graph = _revised(model, graph, remedies)


def _astray(
    model: FloatModel,
    graph: Graph,
    matrices: Matrices,
    constants: Constants,
    samples: Sequence[Feeds],
) -> Iterator[tuple[str, Refusal]]:
    """The softmaxes of which a kernel would make what float does not where a mask hides every key."""
    for name, scores in constants.scores.items():
        op = graph.operator(name, Softmax)
        seen = samples if scores.computed else samples[:1]
        counts = [int(astray(model, matrices, op, scores, feeds).sum()) for feeds in seen]
        if any(counts):
            queries = matrices[op.output].rows
            yield (
                name,
                Refusal(
                    op,
                    f"hides every key from {max(counts)} of {queries} queries, whose scores float "
                    "loses beside such a mask: their keys weigh alike",
                ),
            )


def remedy(model: FloatModel, op: Operator, reason: str, remedies: Remedies) -> None:
    """The next remedy for an operator that no kernel computes as it is."""
    if op.output not in remedies.rearranged | remedies.as_matrix:
        found = file_operands(model, op)
        if found is not None and found[0] != op.inputs[: len(found[0])]:
            remedies.rearranged.add(op.output)
            return
    if isinstance(op, Softmax) and op.output not in remedies.as_matrix and not op.bias_elements:
        remedies.as_matrix.add(op.output)
        return
    remedies.on_host[op.output] = (op, reason)


def masks_only(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is read as a mask and in no other way."""
    readers = graph.readers(tensor)
    masks = [isinstance(op, Softmax) and tensor != op.inputs[0] for op in readers]
    return bool(masks) and all(masks) and tensor not in graph.outputs


def observed_tensors(graph: Graph, model: FloatModel) -> list[str]:
    """The float tensors of the graph that calibration looks at: all but tokens and masks."""
    seen: dict[str, None] = {}
    for op in graph.operators():
        data = () if isinstance(op, HostOp) else op.inputs[:2]
        read = data[:1] if isinstance(op, Softmax) else data
        masked = isinstance(op, HostOp) and masks_only(graph, op.output)
        names = read if masked else (*read, op.output)
        seen |= dict.fromkeys(name for name in names if model.has(name))
    return list(seen)


def _check_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for op in graph.operators():
        shape = shapes.get(op.output)
        if shape is not None and not isinstance(op, HostOp) and np.prod(shape) != op.elements:
            raise CalibrationError(
                f"calibration data makes {op.output!r} {list(shape)} but the network is compiled "
                f"for {op.elements} elements: give samples of that batch and of that sequence length"
            )


# -- The revised graph -----------------------------------------------------------------------------


def _revised(model: FloatModel, graph: Graph, remedies: Remedies) -> Graph:
    """The graph with its remedies; without operators whose result nobody reads any more."""
    operators: dict[str, Operator] = {}
    on_chip: set[str] = set()
    made: dict[str, tuple[str, ...]] = {}  # tensors of the import's own: what they are made of
    turned: dict[str, str] = {}  # those that are another tensor, transposed
    for op in graph.operators():
        if isinstance(op, HostOp) and op.function == "transpose" and not model.has(op.output):
            turned[op.output] = op.inputs[0]
            continue
        op = replace(op, inputs=tuple(turned.get(tensor, tensor) for tensor in op.inputs))
        inputs = tuple(
            dict.fromkeys(n for tensor in op.inputs for n in made.get(tensor, (tensor,)))
        )
        mask = isinstance(op, HostOp) and masks_only(graph, op.output)
        if not mask and not model.has(op.output):
            made[op.output] = inputs
        elif inputs != tuple(dict.fromkeys(op.inputs)) and not isinstance(op, HostOp):
            reason = remedies.whole.get(op.output, "has no form that a kernel computes here")
            remedies.on_host.setdefault(op.output, (op, reason))
            operators[op.output] = _on_host(graph, op, inputs, model)
        elif op.output in remedies.on_host:
            operators[op.output] = _on_host(graph, op, inputs, model)
        else:
            whole = inputs == tuple(dict.fromkeys(op.inputs))  # x + x reads x twice
            kept = op if whole else replace(op, inputs=inputs)
            for each in _remedied(model, kept, remedies, on_chip):
                if each is operators.setdefault(each.output, each) and not isinstance(each, HostOp):
                    on_chip.add(each.output)
    return _live(graph, operators)


def _on_host(graph: Graph, op: Operator, inputs: Sequence[str], model: FloatModel) -> HostOp:
    """The operator as the host's; masks it reads are part of what the host computes."""
    if isinstance(op, HostOp):
        return replace(op, inputs=tuple(inputs))
    read: dict[str, None] = {}
    for tensor in inputs:
        name = graph.producer(tensor)
        mask = isinstance(op, Softmax) and tensor != op.inputs[0]
        roots = graph.dag[name].inputs if name is not None else ()
        own = (
            tensor in model.inputs or model.has(tensor) and not (mask and masks_only(graph, tensor))
        )
        read |= dict.fromkeys((tensor,) if own else roots)
    return HostOp(op.name, tuple(read), op.output, function=op.kind, count=op.elements)


def _remedied(
    model: FloatModel, op: Operator, remedies: Remedies, on_chip: Collection[str]
) -> Iterator[Operator]:
    """An operator with what the host does for it beforehand; kernels write the tensors `on_chip`."""
    if op.output in remedies.rearranged and (found := file_operands(model, op)) is not None:
        tensors, transposed = found
        for tensor, source in zip(tensors, op.inputs, strict=False):
            if tensor != source:
                kept = source in on_chip and only_moved(model, source, tensor)
                kind = Rearrange if kept else HostOp
                name, count = f"{tensor}/order", _count(op, tensors, tensor)
                yield kind(name, (source,), tensor, function="rearrange", count=count)
        inputs = (*tensors, *op.inputs[len(tensors) :])
        op = replace(op, inputs=inputs)
        if isinstance(op, Matmul) and not op.constant_b:
            op = replace(op, transposed_b=transposed, shared=1)
    if isinstance(op, Rotary):
        op = replace(op, order=remedies.orders.get(op.output, ()))
    if isinstance(op, Softmax) and op.output in remedies.as_matrix:
        op = replace(op, masked=True, causal=False, bias_elements=op.elements)
    yield op


def _count(op: Operator, tensors: Sequence[str], tensor: str) -> int:
    """Elements of an operand."""
    if not isinstance(op, Matmul):
        return op.elements
    if op.constant_b or tensor == tensors[0]:
        return op.batch * op.m * op.k
    return op.batch * op.k * op.n


def _live(graph: Graph, operators: Mapping[str, Operator]) -> Graph:
    wanted, open_tensors = set(), list(graph.outputs)
    while open_tensors:
        tensor = open_tensors.pop()
        if tensor in operators and tensor not in wanted:
            wanted.add(tensor)
            open_tensors += operators[tensor].inputs
    revised = Graph(graph.name, graph.inputs, graph.outputs)
    for tensor, op in operators.items():
        if tensor in wanted:
            revised.add(op)
    return revised
