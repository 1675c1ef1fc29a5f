"""Fusion: groups of operators that one or a few kernels compute, with the alternatives to choose from.

The operator graph is partitioned into groups (a projection with its activation, Q/K/V projections
of one input, a whole attention, a sum with its LayerNorm); the groups form a DAG again. Each group
lists alternatives, from most to least fused; `lower` takes the cheapest.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import networkx as nx

from codesign.compiler.attention_kernel import AttentionProblem
from codesign.compiler.blocks import ceil_div
from codesign.compiler.graph import (
    Activation,
    Add,
    Graph,
    HostOp,
    LayerNorm,
    Matmul,
    Operator,
    Softmax,
)
from codesign.compiler.kernels import Problem
from codesign.compiler.matmul_shape import MatmulProblem
from codesign.compiler.row_kernel import RowProblem
from codesign.hw.config import HardwareConfig
from codesign.hw.host import total_host_cycles


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
    matcher = _Matcher(graph, config, accurate, moved, by_host)
    groups = list(matcher.groups())
    owner = {op.name: index for index, group in enumerate(groups) for op in group.operators}
    order: nx.DiGraph[int] = nx.DiGraph()
    order.add_nodes_from(range(len(groups)))
    order.add_edges_from((owner[u], owner[v]) for u, v in graph.dag.edges if owner[u] != owner[v])
    return [groups[index] for index in nx.lexicographical_topological_sort(order)]


def role(graph: Graph, op: Matmul) -> int:
    """Which column range of its tensor B is, where Q, K and V share one: as many as it has roles
    before this one. 0 where the tensor is no wider than one.
    """
    if op.constant_b:
        return 0

    def writer(tensor: str) -> Operator | None:
        name = graph.producer(tensor)
        return None if name is None else graph.dag.nodes[name]["op"]

    a, b = op.inputs[:2]
    softmax = writer(a)
    scores = writer(softmax.inputs[0]) if isinstance(softmax, Softmax) else None
    earlier = (a,) if op.transposed_b else scores.inputs[:2] if scores is not None else ()
    source = writer(b)
    width = op.batch // op.shared * (op.k if op.transposed_b else op.n)
    rows = op.n if op.transposed_b else op.k
    ranges = source.elements // (rows * width) if source is not None else 1
    return min(earlier.count(b), max(ranges - 1, 0))


class _Matcher:
    """Walks the operators in order and claims those that belong together."""

    def __init__(
        self,
        graph: Graph,
        config: HardwareConfig,
        accurate: bool,
        moved: Collection[str],
        by_host: Collection[str],
    ) -> None:
        self.graph, self.config, self.accurate = graph, config, accurate
        self.moved, self.by_host = frozenset(moved), frozenset(by_host)
        self.order = list(graph.operators())
        self.claimed: set[str] = set()
        self.wide_outputs, self.wide_inputs = self._padded_heads()

    def groups(self) -> Iterator[Group]:
        """Every group; attention first claims its matmuls, the rest follows in graph order."""
        attentions = {op.name: a for op in self.order if (a := self._attention(op)) is not None}
        for group in attentions.values():
            self.claimed.update(op.name for op in group.operators)
        for op in self.order:
            if op.name in attentions:
                yield attentions[op.name]
            elif op.name not in self.claimed:
                group = self._group(op)
                self.claimed.update(member.name for member in group.operators)
                yield group

    def _group(self, op: Operator) -> Group:
        match op:
            case Matmul(constant_b=True, patches="rows" | "bytes"):
                return self._convolution(op)
            case Matmul(constant_b=True):
                return self._projection(op)
            case Matmul():
                return Group((op,), ((self._matmul_work((op,), op.output),),))
            case Softmax():
                return self._softmax(op)
            case LayerNorm():
                return self._norm(op)
            case Activation():
                return self._single(op, self._function(op), op.inputs[:1])
            case Add():
                return self._sum(op)
            case HostOp(function="add") if self._adds_on_chip(op):
                rows, sets = ceil_div(op.count, self.config.dim), self._sets("copy", op, op.inputs)
                problem = RowProblem(rows, self.config.dim, "copy", 2, sets)
                work = Work(op.name, "add", (op.name,), op.inputs, (op.output,), problem)
                return Group((op,), ((work,),))
            case HostOp():
                return Group((op,), ((self._host(op, op.function, op.copy),),))
            case _:  # pragma: no cover - the importer makes no other kinds
                raise AssertionError(op.kind)

    def _adds_on_chip(self, op: HostOp) -> bool:
        return self._on_chip(op) and len(op.inputs) <= 2 and not self.accurate

    def _on_chip(self, op: Operator) -> bool:
        return self.config.normalization and op.name not in self.by_host

    # -- Graph queries -----------------------------------------------------------------------------

    def _only_consumer(self, op: Operator) -> Operator | None:
        """The one reader of an operator's output that nobody has claimed; None otherwise."""
        readers = list(self.graph.dag.successors(op.name))
        if len(readers) != 1 or readers[0] in self.claimed or op.output in self.graph.outputs:
            return None
        reader: Operator = self.graph.dag.nodes[readers[0]]["op"]
        return reader

    def _operator(self, tensor: str) -> Operator | None:
        name = self.graph.producer(tensor)
        return None if name is None else self.graph.dag.nodes[name]["op"]

    # -- Work --------------------------------------------------------------------------------------

    def _host(self, op: Operator, function: str, copy: str = "") -> Work:
        cycles = total_host_cycles(f"copy_{copy}" if copy else function, op.elements)
        return Work(
            op.name,
            "host",
            (op.name,),
            op.inputs,
            (op.output,),
            host_cycles=cycles,
            elements=op.elements,
            copied_bytes=op.elements if copy else 0,
        )

    def _row(
        self, op: Operator, function: str, inputs: tuple[str, ...], before: tuple[str, ...] = ()
    ) -> Work:
        """A row function by itself: the drain's units, or the host where the machine has none."""
        on_chip = self._on_chip(op) or function == "relu"
        if not on_chip:
            return self._host(op, op.kind if function in ("copy", "rmsnorm") else function)
        rows, cols = op.rows, op.cols  # type: ignore[attr-defined]
        problem = RowProblem(rows, cols, function, len(inputs), self._sets(function, op, inputs))
        return Work(op.name, op.kind, (*before, op.name), inputs, (op.output,), problem)

    def _sets(self, function: str, op: Operator, inputs: tuple[str, ...]) -> int:
        """Parameter sets of a row kernel: gamma and beta, and what zero points move before and behind
        the function. A layernorm takes the mean away, with all zero points in it.
        """
        moves_in = not self.moved.isdisjoint(inputs)
        moves = moves_in or op.output in self.moved
        match function:
            case "layernorm":
                return 1
            case "rmsnorm":
                return 1 + moves_in
            case "gelu":
                return 2 * moves
        return int(moves)

    def _function(self, op: Operator | None) -> str:
        """The drain's function for what follows a sum: a norm, an activation, or nothing."""
        match op:
            case LayerNorm():
                return "rmsnorm" if op.rms else "layernorm"
            case Activation(function="relu") if op.output in self.moved:
                return "copy"
            case Activation():
                return op.function
        return "copy"

    def _single(self, op: Operator, function: str, inputs: tuple[str, ...]) -> Group:
        return Group((op,), ((self._row(op, function, inputs),),))

    def _matmul_work(
        self,
        ops: tuple[Matmul, ...],
        output: str,
        function: str = "copy",
        after: tuple[str, ...] = (),
    ) -> Work:
        """Matmuls of one input side by side (n adds up), with an epilogue."""
        op = ops[0]
        columns = tuple(self.wide_outputs.get(member.name, member.n) for member in ops)
        if len(ops) > 1:  # each starts on a block of its own
            columns = tuple(int(ceil_div(n, self.config.dim)) * self.config.dim for n in columns)
        problem = MatmulProblem(
            m=op.m,
            k=self.wide_inputs.get(op.name, op.k),
            n=sum(columns),
            batch=op.batch,
            transposed_b=op.transposed_b,
            parameters=op.constant_b,
            function=function,
        )
        names = tuple(member.name for member in ops) + after
        outputs = tuple(m.output for m in ops) if len(ops) > 1 else (output,)
        macs = sum(member.macs for member in ops)
        return Work(
            op.name,
            "matmul",
            names,
            op.inputs,
            outputs,
            problem,
            macs=macs,
            output_columns=columns if len(ops) > 1 else (),
            b_range=role(self.graph, op),
        )

    # -- Patterns ----------------------------------------------------------------------------------

    def _projection(self, op: Matmul) -> Group:
        """A matmul with weights: with its activation, its LayerNorm, or its siblings of one input."""
        plain = self._matmul_work((op,), op.output)
        reader = self._only_consumer(op)
        if isinstance(reader, Activation):
            if self._on_chip(reader) or reader.function == "relu":
                function = self._function(reader)
                fused = self._matmul_work((op,), reader.output, function, (reader.name,))
                return Group((op, reader), ((self._by_channel(fused),),))
            return Group((op, reader), ((plain, self._host(reader, reader.function)),))
        if isinstance(reader, Add | LayerNorm) and self._on_chip(reader):
            return self._projection_sum(op, plain, reader)
        siblings = self._siblings(op)
        if len(siblings) > 1:
            merged = self._matmul_work(siblings, op.output)
            apart = tuple(self._matmul_work((member,), member.output) for member in siblings)
            return Group(siblings, ((merged,), apart))
        return Group((op,), ((plain,),))

    def _convolution(self, op: Matmul) -> Group:
        """A projection of patches, behind the host's copy of them; in a run the host writes the image
        as patches at once."""
        size, patches = op.batch * op.m * op.k, f"{op.output}/{PATCHES}"
        copy = self._copy(op, PATCHES, op.inputs[0], patches, size, op.patches)
        group = self._projection(op)
        read = op.inputs[0] if self.accurate else patches
        alternatives = tuple(
            (copy, replace(first, inputs=(read, *first.inputs[1:])), *rest)
            for first, *rest in group.alternatives
        )
        return replace(group, alternatives=alternatives)

    def _by_channel(self, work: Work) -> Work:
        """The same work; an accurate GELU behind weights has a scale for each channel."""
        p = work.problem
        assert isinstance(p, MatmulProblem)
        precise = self.accurate or not self.moved.isdisjoint(work.outputs)
        channels = precise and p.parameters and p.function == "gelu"
        return replace(work, problem=replace(p, channel_output=channels))

    def _siblings(self, op: Matmul) -> tuple[Matmul, ...]:
        """Unclaimed projections of the same input whose outputs can lie side by side."""
        if op.batch != 1 or op.im2col_bytes:
            return (op,)
        found = [op]
        for other in self._readers(op.inputs[0]):
            if (
                other is not op
                and isinstance(other, Matmul)
                and other.constant_b
                and other.name not in self.claimed
                and (other.inputs, other.m, other.k, other.batch) == (op.inputs, op.m, op.k, 1)
                and not other.im2col_bytes
                and not isinstance(self._only_consumer(other), Activation | Add | LayerNorm)
            ):
                found.append(other)
        return tuple(found)

    def _projection_sum(self, op: Matmul, plain: Work, reader: Add | LayerNorm) -> Group:
        """Projection, residual sum and norm or activation: behind the mesh, or by themselves."""
        total = reader if isinstance(reader, Add) else None
        last = self._only_consumer(reader) if total else reader
        if not isinstance(last, LayerNorm | Activation) or not self._on_chip(last):
            last = None
        members: list[Operator] = [member for member in (op, total, last) if member is not None]
        others = tuple(t for t in total.inputs if t != op.output) if total else ()
        function = self._function(last)
        base = plain.problem
        assert isinstance(base, MatmulProblem)
        fused = Work(
            plain.name,
            "matmul",
            tuple(member.name for member in members),
            plain.inputs + others,
            (members[-1].output,),
            replace(base, parameters=True, function=function, residual=total is not None),
            macs=op.macs,
        )
        fused = self._by_channel(fused)
        end = last or total
        assert end is not None
        before = (total.name,) if total and last else ()
        alone = self._row(end, function, total.inputs if total else end.inputs, before)
        whole = not isinstance(last, LayerNorm) or op.n == last.cols
        fusable = op.batch == 1 and whole and len(others) == (total is not None)
        apart = (plain, alone)
        return Group(tuple(members), ((fused,), apart) if fusable else (apart,))

    def _norm(self, op: LayerNorm) -> Group:
        inputs = op.inputs[:1]
        by_host = isinstance(self._operator(inputs[0]), HostOp)
        if self.accurate and by_host and inputs[0] not in self.moved:
            inputs += (inputs[0] + LOW,)
        return self._single(op, "rmsnorm" if op.rms else "layernorm", inputs)

    def _sum(self, op: Add) -> Group:
        """A residual sum, with the norm or activation that alone reads it."""
        reader = self._only_consumer(op)
        if not isinstance(reader, LayerNorm | Activation) or not self._on_chip(reader):
            return self._single(op, "copy", op.inputs)
        function = self._function(reader)
        work = self._row(reader, function, op.inputs, (op.name,))
        return Group((op, reader), ((work,),))

    def _attention(self, op: Operator) -> Group | None:
        """Q.K^T, softmax and P.V: on chip throughout, with softmax behind Q.K^T, or apart."""
        if not isinstance(op, Matmul) or op.constant_b or not op.transposed_b:
            return None
        softmax = self._only_consumer(op)
        context = self._only_consumer(softmax) if isinstance(softmax, Softmax) else None
        if not isinstance(softmax, Softmax) or not isinstance(context, Matmul):
            return None
        if context.constant_b or context.transposed_b or context.inputs[0] != softmax.output:
            return None
        if not self._on_chip(softmax):
            return None
        scores = self._matmul_work((op,), op.output)
        apart = (
            scores,
            self._row_batched(softmax, op.batch),
            self._matmul_work((context,), context.output),
        )
        fused = self._matmul_work((op,), softmax.output, "softmax", (softmax.name,))
        assert isinstance(fused.problem, MatmulProblem)
        masked = replace(fused.problem, parameters=self._mask_rows(softmax) > 0)
        behind = (replace(fused, problem=masked), apart[2])
        bias = softmax.bias_elements > 0
        on_chip = Work(
            op.name.rsplit("/", 1)[0],
            "attention",
            (op.name, softmax.name, context.name),
            (*op.inputs, context.inputs[1], *softmax.inputs[1:]),
            (context.output,),
            AttentionProblem(op.batch, op.m, op.n, op.k, bias, self._mask_rows(softmax)),
            macs=op.macs + context.macs,
            ranges=(0, role(self.graph, op), role(self.graph, context)),
        )
        same_heads = context.n == op.k and context.batch == op.batch
        alternatives: list[Alternative] = [apart]
        if not bias:  # a bias matrix enters with the scores: only on chip, or as an addition apart
            alternatives.insert(0, behind)
        if same_heads:
            alternatives.insert(0, (on_chip,))
            alternatives += self._grouped(op, softmax, on_chip)
        return Group((op, softmax, context), tuple(alternatives))

    def _grouped(self, op: Matmul, softmax: Softmax, on_chip: Work) -> list[Alternative]:
        """Attention that loads a key head once for the query heads that share it, as rows of one.

        The host copies the queries into that order and the context back. Not where rows of one head
        see other keys than those of another: causal masks go by the number of the row.
        """
        alike = op.m == 1 or not (softmax.causal or softmax.bias_elements)
        if self.accurate or op.shared == 1 or softmax.bias_elements or not alike:
            return []
        p = on_chip.problem
        assert isinstance(p, AttentionProblem)
        problem = replace(p, heads=p.heads // op.shared, queries=p.queries * op.shared)
        query, (output,) = on_chip.inputs[0], on_chip.outputs
        stacked, result = f"{query}/grouped", f"{output}/grouped"
        size = op.batch * op.m * op.k
        work = replace(
            on_chip,
            inputs=(stacked, *on_chip.inputs[1:]),
            outputs=(result,),
            problem=problem,
        )
        before = self._copy(op, "queries", query, stacked, size)
        return [(before, work, self._copy(op, "context", result, output, size))]

    def _copy(
        self, op: Operator, label: str, source: str, target: str, size: int, how: str = "rows"
    ) -> Work:
        """The host's copy of `size` bytes for an operator: whole rows, or bytes one by one."""
        return Work(
            f"{op.name}/{label}",
            "host",
            (op.name,),
            (source,),
            (target,),
            host_cycles=total_host_cycles(f"copy_{how}", size),
            elements=size,
            copied_bytes=size,
        )

    def _softmax(self, op: Softmax) -> Group:
        """A softmax apart from any product: over the scores of every head where one wrote them."""
        if not self._on_chip(op):
            return self._single(op, "softmax", op.inputs[:1])
        source = self._operator(op.inputs[0])
        product = isinstance(source, Matmul) and not source.constant_b and source.n == op.cols
        heads = source.batch if isinstance(source, Matmul) and product else 1
        return Group((op,), ((self._row_batched(op, heads),),))

    def _row_batched(self, softmax: Softmax, heads: int) -> Work:
        """Softmax over the scores of every head; a bias matrix is a second operand, a mask over keys
        are parameters.
        """
        operands = 2 if softmax.bias_elements else 1
        masked = int(self._mask_rows(softmax) > 0)
        rows = softmax.rows // heads
        problem = RowProblem(rows, softmax.cols, "softmax", operands, masked, heads)
        return Work(
            softmax.name, "softmax", (softmax.name,), softmax.inputs, (softmax.output,), problem
        )

    def _mask_rows(self, softmax: Softmax) -> int:
        """Parameter rows of a mask over keys, which is every computed one beside its bias matrix;
        causal masks come from row numbers.
        """
        if not softmax.masked:
            return 0
        if len(softmax.inputs) == 1 and (softmax.causal or softmax.bias_elements):
            return 0
        return int(ceil_div(softmax.cols, self.config.dim))

    def _padded_heads(self) -> tuple[dict[str, int], dict[str, int]]:
        """Column counts of projections in and out of heads whose width is no multiple of dim.

        A head starts on a block of its own, so the matrices before and after it are padded.
        """
        outputs: dict[str, int] = {}
        inputs: dict[str, int] = {}
        dim = self.config.dim
        for tensor, width in self._head_widths():
            wide = int(ceil_div(width, dim)) * dim
            for source in self._written_heads(tensor):
                if isinstance(source, Matmul) and source.constant_b and source.n % width == 0:
                    outputs[source.name] = source.n // width * wide
            for reader in self._readers(tensor):
                if isinstance(reader, Matmul) and reader.constant_b and reader.k % width == 0:
                    inputs[reader.name] = reader.k // width * wide
        return outputs, inputs

    def _written_heads(self, tensor: str) -> list[Operator | None]:
        """What writes heads: the writer of a tensor, or of what the host appends to a cache. A run
        keeps what the host reads without padding."""
        source = self._operator(tensor)
        if isinstance(source, HostOp) and source.copy == "rows" and not self.accurate:
            return [self._operator(name) for name in source.inputs]
        return [source]

    def _head_widths(self) -> Iterator[tuple[str, int]]:
        """Tensors that hold heads whose width is no multiple of dim, and the width."""
        for op in self.order:
            if isinstance(op, Matmul) and not op.constant_b:
                n = op.k if op.transposed_b else op.n
                for tensor, width in zip((*op.inputs[:2], op.output), (op.k, n, op.n), strict=True):
                    if width % self.config.dim:
                        yield tensor, width

    def _readers(self, tensor: str) -> list[Operator]:
        name = self.graph.producer(tensor)
        if name is None:
            return [op for op in self.order if tensor in op.inputs]
        readers = [self.graph.dag.nodes[reader]["op"] for reader in self.graph.dag.successors(name)]
        return [op for op in readers if tensor in op.inputs]
