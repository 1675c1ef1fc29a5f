"""Fusion: groups of operators that one or a few kernels compute, with the alternatives to choose from.

The operator graph is partitioned into groups (a projection with its activation, Q/K/V projections
of one input, a whole attention, a sum with its LayerNorm); the groups form a DAG again. Each group
lists alternatives, from most to least fused; `lower` takes the cheapest.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from codesign.compiler.dag import Dag
from codesign.compiler.graph import (
    Activation,
    Add,
    Gate,
    Graph,
    HostOp,
    LayerNorm,
    Matmul,
    Operator,
    Rotary,
    Softmax,
)
from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.attention_fusion import AttentionMatcher
from codesign.compiler.plan.operator_work import GATES, Operators
from codesign.compiler.plan.work import LOW, PATCHES, Group, Work
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION


def fuse(
    graph: Graph,
    config: HardwareConfig,
    accurate: bool = False,
    moved: Collection[str] = (),
    by_host: Collection[str] = (),
) -> list[Group]:
    """Groups of the whole graph in an order in which inputs come before their readers.

    With `accurate` the host sums embeddings in float, and a norm of what the host wrote reads it as
    two int8 matrices, values and remainders. The tensors in `moved` have a zero point: kernels load
    the parameters that move their numbers, and a relu is what saturation does at the lowest code.
    The operators in `by_host` do not fit the machine's formats or layouts.
    """
    operators = Operators(graph, config, accurate, moved, by_host)
    groups = list(_Matcher(operators).groups())
    owner = {op.name: index for index, group in enumerate(groups) for op in group.operators}
    dag: Dag[int, Group] = Dag()
    for index, group in enumerate(groups):
        dag.add(index, group)
    for u, v in graph.dag.edges:
        if owner[u] != owner[v]:
            dag.connect(owner[u], owner[v])
    return [groups[index] for index in dag.order()]


class _Matcher:
    """Walks the operators in order and claims those that belong together."""

    def __init__(self, operators: Operators) -> None:
        self.ops, self.attention = operators, AttentionMatcher(operators)

    def groups(self) -> Iterator[Group]:
        """Every group; attention first claims its matmuls, the rest follows in graph order."""
        attentions = {
            op.name: a for op in self.ops.order if (a := self.attention.group(op)) is not None
        }
        for group in attentions.values():
            self.ops.claimed.update(op.name for op in group.operators)
        for op in self.ops.order:
            if op.name in attentions:
                yield attentions[op.name]
            elif op.name not in self.ops.claimed:
                group = self._group(op)
                self.ops.claimed.update(member.name for member in group.operators)
                yield group

    def _group(self, op: Operator) -> Group:
        match op:
            case Matmul(constant_b=True, patches="rows" | "bytes"):
                return self._convolution(op)
            case Matmul(constant_b=True):
                return self._projection(op)
            case Matmul():
                return self._product(op)
            case Softmax():
                return self.attention.softmax(op)
            case LayerNorm():
                return self._norm(op)
            case Activation():
                return self._activation(op)
            case Gate():
                return self._single(op, "product", op.inputs)
            case Rotary():
                return Group((op,), (self.ops.rotary(op),))
            case Add():
                return self._sum(op)
            case HostOp(function="add") if self._adds_on_chip(op):
                dim, sets = self.ops.config.dim, self.ops.sets("copy", op, op.inputs)
                problem = RowProblem(ceil_div(op.count, dim), dim, "copy", 2, sets)
                work = Work(op.name, "add", (op.name,), op.inputs, (op.output,), problem)
                return Group((op,), ((work,),))
            case HostOp():
                return Group((op,), ((self.ops.host(op, op.function, op.copy),),))
            case _:  # pragma: no cover - the importer makes no other kinds
                raise AssertionError(op.kind)

    def _adds_on_chip(self, op: HostOp) -> bool:
        return self.ops.on_chip(op) and len(op.inputs) <= 2 and not self.ops.accurate

    def _single(self, op: Operator, function: str, inputs: tuple[str, ...]) -> Group:
        return Group((op,), ((self.ops.row(op, function, inputs),),))

    # -- Patterns ----------------------------------------------------------------------------------

    def _product(self, op: Matmul) -> Group:
        """A product of activations, with the function that alone reads it (a softcap's tanh)."""
        reader = self.ops.only_consumer(op)
        fits = isinstance(reader, Activation) and self.ops.gated_by(reader) is None
        if not isinstance(reader, Activation) or not fits or not self.ops.on_chip(reader):
            return Group((op,), ((self.ops.matmul_work((op,), op.output),),))
        function = self.ops.function(reader)
        fused = self.ops.matmul_work((op,), reader.output, function, (reader.name,))
        return Group((op, reader), ((fused,),))

    def _projection(self, op: Matmul) -> Group:
        """A matmul with weights: with its activation, its LayerNorm, or its siblings of one input."""
        plain = self.ops.matmul_work((op,), op.output)
        reader = self.ops.only_consumer(op)
        if (gated := self._gated(op)) is not None:
            return gated
        if isinstance(reader, Activation):
            direct = not FUNCTION[reader.function].normalization
            if self.ops.on_chip(reader) or direct and not self.ops.moved_behind(reader):
                function = self.ops.function(reader)
                fused = self.ops.matmul_work((op,), reader.output, function, (reader.name,))
                return Group((op, reader), ((fused,),))
            return Group((op, reader), ((plain, self.ops.host(reader, reader.function)),))
        if isinstance(reader, Add | LayerNorm) and self.ops.on_chip(reader):
            return self._projection_sum(op, plain, reader)
        siblings = self._siblings(op)
        if len(siblings) > 1:
            merged = self.ops.matmul_work(siblings, op.output)
            apart = tuple(self.ops.matmul_work((member,), member.output) for member in siblings)
            return Group(siblings, ((merged,), apart))
        return Group((op,), ((plain,),))

    def _gated(self, op: Matmul) -> Group | None:
        """Two projections of one input with the product of both, or of one's activation and the other:
        one kernel; side by side, and the product by itself; or each by itself.
        """
        reader = self.ops.only_consumer(op)
        gate = self.ops.gated_by(reader) if isinstance(reader, Activation) else reader
        if not isinstance(gate, Gate) or not self.ops.on_chip(gate):
            return None
        sides = [self._gate_side(tensor) for tensor in gate.inputs]
        (first, inner), (second, other) = sorted(sides, key=lambda side: side[1] is None)
        if first is None or second is None or first is second or other is not None:
            return None
        if op.batch != 1 or op.im2col_bytes or (first.inputs, first.n) != (second.inputs, second.n):
            return None
        function = "product" if inner is None else GATES[inner.function]
        names = (gate.name,) if inner is None else (inner.name, gate.name)
        both, outputs = (first, second), (first.output, second.output)
        fused = self.ops.matmul_work(both, gate.output, function, names)
        beside = self.ops.matmul_work(both, first.output)
        of_both = self.ops.row(gate, function, outputs, names[:-1])
        activated = self.ops.matmul_work((first,), first.output)
        if inner is not None:
            behind = self.ops.function(inner)
            activated = self.ops.matmul_work((first,), inner.output, behind, (inner.name,))
        product = self.ops.row(gate, "product", gate.inputs)
        apart = (activated, self.ops.matmul_work((second,), second.output), product)
        members = [member for member in (first, second, inner, gate) if member is not None]
        return Group(tuple(members), ((fused,), (beside, of_both), apart))

    def _gate_side(self, tensor: str) -> tuple[Matmul | None, Activation | None]:
        """The projection that a side of a product is, and the activation between, if nobody else reads
        them."""
        writer = self.ops.operator(tensor)
        inner = writer if isinstance(writer, Activation) and self.ops.gated_by(writer) else None
        writer = self.ops.operator(inner.inputs[0]) if inner is not None else writer
        if not isinstance(writer, Matmul) or not writer.constant_b:
            return None, inner
        free = writer.name not in self.ops.claimed and self.ops.only_consumer(writer) is not None
        return (writer if free else None), inner

    def _activation(self, op: Activation) -> Group:
        """An activation by itself, or with the product that alone reads it."""
        gate = self.ops.gated_by(op)
        if gate is None:
            return self._single(op, self.ops.function(op), op.inputs[:1])
        other = next(tensor for tensor in gate.inputs if tensor != op.output)
        fused = self.ops.row(gate, GATES[op.function], (op.inputs[0], other), (op.name,))
        apart = (
            self.ops.row(op, op.function, op.inputs[:1]),
            self.ops.row(gate, "product", gate.inputs),
        )
        return Group((op, gate), ((fused,), apart))

    def _convolution(self, op: Matmul) -> Group:
        """A projection of patches, behind the host's copy of them; in a run the host writes the image
        as patches at once."""
        size, patches = op.batch * op.m * op.k, f"{op.output}/{PATCHES}"
        copy = self.ops.copy(op, PATCHES, op.inputs[0], patches, size, op.patches)
        group = self._projection(op)
        read = op.inputs[0] if self.ops.accurate else patches
        alternatives = tuple(
            (copy, replace(first, inputs=(read, *first.inputs[1:])), *rest)
            for first, *rest in group.alternatives
        )
        return replace(group, alternatives=alternatives)

    def _siblings(self, op: Matmul) -> tuple[Matmul, ...]:
        """Unclaimed projections of the same input whose outputs can lie side by side."""
        if op.batch != 1 or op.im2col_bytes:
            return (op,)
        found = [op]
        for other in self.ops.readers(op.inputs[0]):
            if (
                other is not op
                and isinstance(other, Matmul)
                and other.constant_b
                and other.name not in self.ops.claimed
                and (other.inputs, other.m, other.k, other.batch) == (op.inputs, op.m, op.k, 1)
                and not other.im2col_bytes
                and not isinstance(self.ops.only_consumer(other), Activation | Add | LayerNorm)
            ):
                found.append(other)
        return tuple(found)

    def _projection_sum(self, op: Matmul, plain: Work, reader: Add | LayerNorm) -> Group:
        """Projection, residual sum and norm or activation: behind the mesh, or by themselves."""
        total = reader if isinstance(reader, Add) else None
        last = self.ops.only_consumer(reader) if total else reader
        if not isinstance(last, LayerNorm | Activation) or not self.ops.on_chip(last):
            last = None
        members: list[Operator] = [member for member in (op, total, last) if member is not None]
        others = tuple(t for t in total.inputs if t != op.output) if total else ()
        function = self.ops.function(last)
        after = tuple(member.name for member in members[1:])
        residual = total is not None
        fused = self.ops.matmul_work((op,), members[-1].output, function, after, residual=residual)
        fused = replace(fused, inputs=plain.inputs + others)
        end = last or total
        assert end is not None
        before = (total.name,) if total and last else ()
        alone = self.ops.row(end, function, total.inputs if total else end.inputs, before)
        whole = not isinstance(last, LayerNorm) or op.n == last.cols
        fusable = op.batch == 1 and whole and len(others) == residual
        apart = (plain, alone)
        return Group(tuple(members), ((fused,), apart) if fusable else (apart,))

    def _norm(self, op: LayerNorm) -> Group:
        inputs = op.inputs[:1]
        by_host = isinstance(self.ops.operator(inputs[0]), HostOp)
        if self.ops.accurate and by_host and inputs[0] not in self.ops.moved:
            inputs += (inputs[0] + LOW,)
        return self._single(op, "rmsnorm" if op.rms else "layernorm", inputs)

    def _sum(self, op: Add) -> Group:
        """A residual sum, with the norm or activation that alone reads it."""
        reader = self.ops.only_consumer(op)
        if not isinstance(reader, LayerNorm | Activation) or not self.ops.on_chip(reader):
            return self._single(op, "copy", op.inputs)
        function = self.ops.function(reader)
        work = self.ops.row(reader, function, op.inputs, (op.name,))
        return Group((op, reader), ((work,),))
