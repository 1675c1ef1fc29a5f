"""The work of single operators: a kernel's problem, or the host's cycles, before anything is fused.

`Operators` is a graph as fusion walks it: who reads what, what is claimed already, and what each operator
comes to by itself. Heads whose width is no multiple of dim start on a block of their own, so the matrices
before and behind them are padded.
"""

from collections.abc import Collection, Iterator

from codesign.compiler.graph import (
    Activation,
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
from codesign.compiler.kernels.matmul_shape import MatmulProblem
from codesign.compiler.kernels.rotary_kind import RotaryProblem
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.work import Alternative, Work
from codesign.hw.costs.host import total_host_cycles
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.functions import FUNCTION

# The function of two operands that an activation of the first and a product with the second are.
GATES = {"gelu": "geglu", "relu": "reglu", "sigmoid": "glu", "silu": "swiglu"}


def role(graph: Graph, op: Matmul) -> int:
    """Which column range of its tensor B is, where Q, K and V share one: as many as it has roles
    before this one. 0 where the tensor is no wider than one.
    """
    if op.constant_b:
        return 0

    def writer(tensor: str) -> Operator | None:
        name = graph.producer(tensor)
        return None if name is None else graph.dag[name]

    a, b = op.inputs[:2]
    softmax = writer(a)
    scores = writer(softmax.inputs[0]) if isinstance(softmax, Softmax) else None
    earlier = (a,) if op.transposed_b else scores.inputs[:2] if scores is not None else ()
    source = writer(b)
    width = op.batch // op.shared * (op.k if op.transposed_b else op.n)
    rows = op.n if op.transposed_b else op.k
    ranges = source.elements // (rows * width) if source is not None else 1
    return min(earlier.count(b), max(ranges - 1, 0))


class Operators:
    """The operators of a graph in order, for one machine; `claimed`: by name, those that have a group.

    The other arguments are those of `fusion.fuse`.
    """

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

    def on_chip(self, op: Operator) -> bool:
        """Whether a unit of the machine may compute it."""
        units = self.config.normalization and op.name not in self.by_host
        return units and not self.moved_behind(op)

    def moved_behind(self, op: Operator) -> bool:
        """Whether its output has a zero point that must follow a function, but no requantizer does:
        before it, where the first one adds it, it would be part of the argument.
        """
        function = self.function(op)
        return (
            op.output in self.moved and function != "copy" and not FUNCTION[function].normalization
        )

    def only_consumer(self, op: Operator) -> Operator | None:
        """The one reader of an operator's output that nobody has claimed; None otherwise."""
        readers = list(self.graph.dag.successors(op.name))
        if len(readers) != 1 or readers[0] in self.claimed or op.output in self.graph.outputs:
            return None
        reader: Operator = self.graph.dag[readers[0]]
        return reader

    def operator(self, tensor: str) -> Operator | None:
        """The writer of a tensor."""
        name = self.graph.producer(tensor)
        return None if name is None else self.graph.dag[name]

    def readers(self, tensor: str) -> list[Operator]:
        """The operators that read a tensor."""
        name = self.graph.producer(tensor)
        if name is None:
            return [op for op in self.order if tensor in op.inputs]
        readers = [self.graph.dag[reader] for reader in self.graph.dag.successors(name)]
        return [op for op in readers if tensor in op.inputs]

    def gated_by(self, op: Activation) -> Gate | None:
        """The product that alone reads an activation, where one function of the drain is both."""
        gate = self.only_consumer(op)
        if not isinstance(gate, Gate) or op.function not in GATES or op.output in self.moved:
            return None
        alike = gate.inputs[0] != gate.inputs[1] and self.on_chip(op) and self.on_chip(gate)
        return gate if alike else None

    # -- Work --------------------------------------------------------------------------------------

    def host(self, op: Operator, function: str, copy: str = "") -> Work:
        """Work of the host, or a copy that it makes of int8 values."""
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

    def copy(
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

    def row(
        self, op: Operator, function: str, inputs: tuple[str, ...], before: tuple[str, ...] = ()
    ) -> Work:
        """A row function by itself: the drain's units, or the host where the machine has none."""
        needs_units = (
            FUNCTION[function].normalization or function == "copy"
        )  # a sum has no other unit
        if needs_units and not self.on_chip(op) or self.moved_behind(op):
            return self.host(op, FUNCTION[function].host or op.kind)
        rows, cols = op.rows, op.cols  # type: ignore[attr-defined]
        problem = RowProblem(rows, cols, function, len(inputs), self.sets(function, op, inputs))
        return Work(op.name, op.kind, (*before, op.name), inputs, (op.output,), problem)

    def rotary(self, op: Rotary) -> Alternative:
        """Heads turned by the drain; by the host where it has no units, or the tensors zero points.

        Angles of a run's places are behind the host's look-up of them, once for all heads.
        """
        moved = not self.moved.isdisjoint((*op.inputs, op.output))
        if moved or not self.on_chip(op):
            return (self.host(op, "rotaryembedding"),)
        problem = RotaryProblem(op.rows, op.cols, op.heads)
        turned = Work(op.name, op.kind, (op.name,), op.inputs, (op.output,), problem)
        return (self._angles(op, problem.table_bytes), turned) if op.computed else (turned,)

    def _angles(self, op: Rotary, size: int) -> Work:
        """The host's look-up of what a kernel turns rows by, whole rows of a table of codes."""
        return Work(
            f"{op.name}/angles",
            "host",
            (op.name,),
            (),
            (f"{op.output}/angles",),
            host_cycles=total_host_cycles("embedding", size),
            elements=size,
        )

    def sets(self, function: str, op: Operator, inputs: tuple[str, ...]) -> int:
        """Parameter sets of a row kernel: gamma and beta, and what zero points move before the function,
        of each operand that it takes, and behind. A layernorm takes the mean away, with all zero points
        in it.
        """
        moves_in = not self.moved.isdisjoint(inputs)
        moves = moves_in or op.output in self.moved
        of = FUNCTION[function]
        if of.affine:
            return 1 + int(moves_in and not of.centered)
        return int(moves) * (1 + of.operands if of.normalization and not of.by_row else 1)

    def function(self, op: Operator | None) -> str:
        """The drain's function for what follows a sum: a norm, an activation, or nothing."""
        match op:
            case LayerNorm():
                return "rmsnorm" if op.rms else "layernorm"
            case Activation(function="relu") if op.output in self.moved:
                return "copy"
            case Activation():
                return op.function
        return "copy"

    def matmul_problem(
        self,
        ops: tuple[Matmul, ...],
        output: str,
        function: str = "copy",
        *,
        masked: bool = False,
        residual: bool = False,
    ) -> MatmulProblem:
        """Matmuls of one input side by side (n adds up, or the epilogue takes both), with an epilogue;
        `masked` by keys.

        An accurate GELU behind weights has a scale for each channel.
        """
        op, of = ops[0], FUNCTION[function]
        precise = self.accurate or output in self.moved
        return MatmulProblem(
            m=op.m,
            k=self.wide_inputs.get(op.name, op.k),
            n=sum(self._columns(ops)) // of.operands,
            batch=op.batch,
            transposed_b=op.transposed_b,
            parameters=op.constant_b or masked,
            function=function,
            residual=residual,
            channel_output=precise and op.constant_b and of.normalization and not of.by_row,
        )

    def _columns(self, ops: tuple[Matmul, ...]) -> tuple[int, ...]:
        """What each of them takes of the columns; of several, each starts on a block of its own."""
        columns = tuple(self.wide_outputs.get(member.name, member.n) for member in ops)
        if len(ops) > 1:
            columns = tuple(int(ceil_div(n, self.config.dim)) * self.config.dim for n in columns)
        return columns

    def matmul_work(
        self,
        ops: tuple[Matmul, ...],
        output: str,
        function: str = "copy",
        after: tuple[str, ...] = (),
        **fused: bool,
    ) -> Work:
        """The work of `matmul_problem`, of which `fused` are further arguments; the operators named
        in `after` are in it.
        """
        op = ops[0]
        problem = self.matmul_problem(ops, output, function, **fused)
        names = tuple(member.name for member in ops) + after
        merged = len(ops) > problem.taken
        outputs = tuple(m.output for m in ops) if merged else (output,)
        macs = sum(member.macs for member in ops)
        return Work(
            op.name,
            "matmul",
            names,
            op.inputs,
            outputs,
            problem,
            macs=macs,
            output_columns=self._columns(ops) if merged else (),
            constant_b=op.constant_b,
            ranges=(0, role(self.graph, op)),
        )

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
            for reader in self.readers(tensor):
                if isinstance(reader, Matmul) and reader.constant_b and reader.k % width == 0:
                    inputs[reader.name] = reader.k // width * wide
        return outputs, inputs

    def _written_heads(self, tensor: str) -> list[Operator | None]:
        """What writes heads: the writer of a tensor, or of what the host appends to a cache. A run
        keeps what the host reads without padding."""
        source = self.operator(tensor)
        written = [source]
        if isinstance(source, HostOp) and source.copy == "rows" and not self.accurate:
            written = [self.operator(name) for name in source.inputs]
        turned = (self.operator(op.inputs[0]) if isinstance(op, Rotary) else op for op in written)
        return list(turned)

    def _head_widths(self) -> Iterator[tuple[str, int]]:
        """Tensors that hold heads whose width is no multiple of dim, and the width."""
        known: dict[str, int] = {}
        for op in self.order:
            if isinstance(op, Activation) and op.inputs[0] in known:
                known[op.output] = known[op.inputs[0]]
                yield op.output, known[op.output]
            if isinstance(op, Rotary) and op.cols % self.config.dim:
                yield op.output, op.cols
            if isinstance(op, Matmul) and not op.constant_b:
                n = op.k if op.transposed_b else op.n
                for tensor, width in zip((*op.inputs[:2], op.output), (op.k, n, op.n), strict=True):
                    if width % self.config.dim:
                        known[tensor] = width
                        yield tensor, width
