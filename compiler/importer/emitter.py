"""The operator graph under construction: operators by the tensor they write, and views of them.

The handlers in `operators` and `attention` turn ONNX nodes into calls on an `Emitter`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from codesign.compiler.dag import Dag
from codesign.compiler.graph import Add, Gate, Graph, HostOp, LayerNorm, Matmul, Operator, Softmax
from codesign.compiler.importer.products import product_axis
from codesign.compiler.importer.views import Pending, View
from codesign.compiler.onnx.load import INTEGER_TYPES
from codesign.compiler.onnx.masks import (
    MaskContent,
    any_but_zero,
    computed_content,
    constant_content,
    hides,
)
from codesign.compiler.onnx.names import unique
from codesign.compiler.onnx.nodes import OnnxGraph
from codesign.compiler.onnx.shapes import Node, Origin, Shape, Tensor, UnknownShape

_PARTS = frozenset({"Gather", "Slice", "Split"})
_SUMS = frozenset({"add", "sub"})
_AFFINE = _SUMS | {"mul", "div"}  # of a column, where the other operand is a number a column


_EXTENTS = ("batch", "m", "k", "n", "rows", "cols")  # of operators


@dataclass
class Emitter:
    """Operators in order, keyed by output tensor, and a View for every activation tensor."""

    graph: OnnxGraph
    integers: Collection[str] = ()  # constants that a quantized file holds as integers
    operators: dict[str, Operator] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _uses: dict[str, list[Node]] = field(default_factory=dict)
    _roots: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _contents: dict[str, MaskContent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.graph.nodes():
            for name in set(node.inputs):
                self._uses.setdefault(name, []).append(node)
        for name in self.graph.inputs:
            tensor = self.graph.tensors[name]
            if tensor.origin == Origin.ACTIVATION:
                self.views[name] = View(name, len(tensor.shape) - 1, exclusive=False)
            self._roots[name] = (name,)

    # -- tensors ---------------------------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        return self.graph.tensors[name]

    def shape(self, name: str) -> Shape:
        return self.graph.tensors[name].shape

    def origin(self, name: str) -> Origin:
        return self.graph.tensors[name].origin

    def is_activation(self, name: str) -> bool:
        return bool(name) and self.origin(name) == Origin.ACTIVATION

    def value(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of a small constant, None for anything else."""
        return self.graph.tensors[name].value if name else None

    def root(self, name: str) -> str:
        """The initialiser that a constant is a view of, or its own name."""
        return self.graph.tensors[name].root or name

    def uses(self, name: str) -> int:
        return len(self._uses.get(name, ())) + self.graph.outputs.count(name)

    # -- masks and other computations on token inputs --------------------------------------------

    def index_node(self, node: Node) -> None:
        """Follow a node that computes on tokens or masks: from which inputs, and what it holds."""
        inputs = [name for name in node.inputs if name]
        roots = self.roots(inputs)
        given = {name: self.content(name) for name in inputs}
        constants = [name for name in inputs if self.origin(name) == Origin.CONSTANT]
        for name in filter(None, node.outputs):
            self._roots[name] = roots
            self._contents[name] = computed_content(node, given, constants, self.tensor(name))

    def roots(self, names: Iterable[str]) -> tuple[str, ...]:
        """The model inputs that the index tensors `names` are computed from."""
        return tuple(dict.fromkeys(root for name in names for root in self._roots.get(name, ())))

    def content(self, name: str) -> MaskContent:
        """What a constant or an index tensor holds as a mask; an activation is a bias."""
        if name not in self._contents:
            origin = self.origin(name)
            if origin == Origin.CONSTANT:
                parts = [self.content(part) for part in self.tensor(name).summands]
                self._contents[name] = constant_content(self.tensor(name), parts)
            else:
                rows = origin == Origin.ACTIVATION and self.shape(name)[-2:-1] not in ((), (1,))
                elements = self.tensor(name).elements if rows else 0
                self._contents[name] = MaskContent(bias_elements=elements)
        return self._contents[name]

    def pending(self, function: str, name: str, of: str = "") -> Pending:
        """What combining a constant or a computed tensor with the activation `of` leaves to do."""
        value, content = self.value(name), self.content(name)
        masking = value is None or any_but_zero(value)
        bias = content.bias_elements if function in ("add", "where") else 0
        constant = bool(of) and self.origin(name) == Origin.CONSTANT and not hides(value)
        columns = self.tensor(name).elements if constant and self.along_columns(name, of) else 0
        return Pending(function, name, masking, content.causal, bias, columns)

    # -- operators -------------------------------------------------------------------------------

    def emit(self, op: Operator, tensor: str, column: int | None = None) -> None:
        """Append `op`, which writes the ONNX tensor `tensor` with the given column axis.

        Raises UnknownShape for an operator that computes nothing.
        """
        if any(getattr(op, extent, 1) < 1 for extent in _EXTENTS):
            raise UnknownShape("one of its extents is 0: there is nothing to compute")
        self.operators[op.output] = replace(op, name=unique(op.name, self._names))
        column = len(self.shape(tensor)) - 1 if column is None else column
        self.views[tensor] = View(op.output, column, exclusive=not self._shared(tensor))

    def host(
        self,
        node: Node,
        function: str,
        inputs: Sequence[str],
        output: str,
        count: int = 0,
        copy: str = "",
    ) -> None:
        """Append host work on `count` elements (default: of the largest activation involved), a
        `copy` of whole rows or single bytes."""
        sources: dict[str, None] = {}
        for name in inputs:
            index = self.origin(name) == Origin.INDEX
            sources |= dict.fromkeys(self.roots([name]) if index else [self.source(name)])
        involved = [self.tensor(name).elements for name in (*inputs, output)]
        op = HostOp(
            node.name,
            tuple(sources),
            output,
            function=function,
            count=count or max(involved),
            copy=copy,
        )
        rank = len(self.shape(output))
        columns = [
            self.views[name].column
            for name in inputs
            if name in self.views and len(self.shape(name)) == rank
        ]
        self.emit(op, output, columns[0] if columns else None)

    def alias(self, tensor: str, source: str, column: int, part: bool = False) -> None:
        """Make `tensor` a view of what the ONNX tensor `source` is a view of."""
        view = self.views[source]
        self.views[tensor] = replace(
            view,
            column=column,
            whole=view.whole and not part,
            exclusive=view.exclusive and not self._shared(tensor),
        )

    def _shared(self, tensor: str) -> bool:
        """True when several nodes read the same elements (disjoint parts are not the same)."""
        if tensor in self.graph.outputs:
            return self.uses(tensor) > 1
        readers = self._uses.get(tensor, [])
        return len(readers) > 1 and not all(node.op_type in _PARTS for node in readers)

    # -- operands --------------------------------------------------------------------------------

    def source(self, name: str) -> str:
        """Return the operator tensor (or model input) to read for an ONNX tensor.

        Work left over from elementwise nodes with constants is given to the host here.
        """
        if self.origin(name) == Origin.INDEX:
            return self.mask((name,))
        view = self.views[name]
        for index, left in enumerate(view.pending):
            last = index == len(view.pending) - 1
            output = name if last else f"{name}/{left.function}{index}"
            inputs = [view.source]
            if self.origin(left.tensor) == Origin.INDEX:
                inputs.append(self.mask((left.tensor,)))
            op = HostOp(
                unique(f"{name}/{left.function}", self._names),
                tuple(inputs),
                output,
                function=left.function,
                count=self.tensor(name).elements,
            )
            self.operators[output] = op
            view = replace(view, source=output, whole=True)
        self.views[name] = replace(view, pending=())
        return view.source

    def misaligned(self, name: str, axis: int) -> bool:
        """Whether the mesh wrote the rows of `name` along another axis than its columns' `axis`."""
        view = self.views.get(name)
        if view is None or view.column == axis:
            return False
        if 1 in (self.shape(name)[axis], self.shape(name)[view.column]):
            return False
        writer = self.operators.get(view.source)  # the host writes in any order
        return not (view.pending or writer is None or isinstance(writer, HostOp))

    def aligned(self, name: str, axis: int) -> str:
        """Return the tensor to read for `name` with rows along `axis`; the host transposes it if
        it is stored otherwise and the mesh wrote it."""
        source = self.source(name)
        if not self.misaligned(name, axis):
            return source
        if turned := self._turned(name, axis):
            return turned
        output = f"{name}/transposed"
        if output not in self.operators:
            op = HostOp(
                unique(output, self._names), (source,), output, function="transpose", copy="bytes"
            )
            self.operators[output] = replace(op, count=self.tensor(name).elements)
        return output

    def _turned(self, name: str, axis: int) -> str:
        """The product of activations that `name` is, computed with its operands in the other order where
        its rows then lie along `axis`: (K Q^T)^T is Q K^T. "" for what is none.
        """
        view, found = self.views[name], product_axis(self.graph, name, axis)
        op = self.operators[view.source]
        if found is None or not isinstance(op, Matmul) or not (view.whole and view.exclusive):
            return ""
        sizes = self.shape(name)[axis], self.shape(name)[view.column]
        plain = op.transposed_b and not op.constant_b and op.shared == 1
        if not (plain and found.rows and sizes == (op.m, op.n)):
            return ""
        shared = self.times_read(found.left, op.batch, op.batch // (found.matrices or op.batch))
        del self.operators[op.output]
        op = replace(op, inputs=op.inputs[::-1], m=op.n, n=op.m, shared=shared)
        self.operators[found.product] = replace(op, output=found.product)
        self.views[name] = replace(view, source=found.product, column=axis)
        return found.product

    def times_read(self, b: str, batch: int, broadcast: int) -> int:
        """How many entries of a batch read one matrix B, which the node or a view before repeats."""
        view = self.views.get(b)
        times = max(broadcast, 1) * (1 if view is None else view.repeats)
        return times if batch % times == 0 else 1

    def factor_rows(self, name: str, axis: int, weights: str = "") -> tuple[str, bool]:
        """Return the tensor to read for `name` as the rows of a product with weights that sums along
        `axis`, and whether the weights' bias takes part of what is pending on it.

        Numbers that a column is multiplied by or added to are as well part of the weights behind,
        unless those are integers in the file (the initialiser behind `weights`), which are kept.
        """
        view = self.views[name]
        functions = {left.function for left in view.pending}
        fits = all(left.columns in (1, self.shape(name)[axis]) for left in view.pending)
        if self._integers(weights) or not (fits and functions <= _AFFINE and view.column == axis):
            return self.aligned(name, axis), False
        return view.source, not functions.isdisjoint(_SUMS)

    def _integers(self, weights: str) -> bool:
        """Whether the file holds these weights as integers."""
        root = self.root(weights) if weights else ""
        return root in self.integers or (bool(root) and self.tensor(root).dtype in INTEGER_TYPES)

    def mask(self, names: Sequence[str]) -> str:
        """Return the tensor of the mask computed from index tensors, by the host when it must."""
        if len(names) == 1 and names[0] in self.graph.inputs:
            return names[0]
        output = " ".join(names)
        if output not in self.operators:
            count = max(self.tensor(name).elements for name in names)
            op = HostOp(
                unique(f"{output}/mask", self._names), self.roots(names), output, function="mask"
            )
            self.operators[output] = replace(op, count=count)
        return output

    def on_mesh(self, name: str) -> bool:
        """True when the machine writes the tensor: in the order of its kernels, and no other."""
        writer = self.operators.get(self.source(name))
        return writer is not None and not isinstance(writer, HostOp)

    def on_host(self, name: str) -> bool:
        """True when the host writes the tensor."""
        view = self.views[name]
        return bool(view.pending) or isinstance(self.operators.get(view.source), HostOp)

    # -- folding ---------------------------------------------------------------------------------

    def writer(self, name: str, bias: bool = False) -> Matmul | LayerNorm | None:
        """The operator with constants along its columns whose result may still be changed through
        view `name`: a Matmul with weights, or a norm (an RMSNorm adds nothing, so takes no `bias`).
        """
        view = self.views[name]
        op = self.operators.get(view.source)
        if not view.exclusive or view.pending:
            return None
        match op:
            case Matmul(constant_b=True):
                return op
            case LayerNorm() if view.whole and op.cols == self._columns(name):
                return None if bias and op.rms else op
        return None

    def _columns(self, name: str) -> int:
        shape = self.shape(name)
        return shape[self.views[name].column] if shape else 1

    def along_columns(self, constant: str, name: str) -> bool:
        """True when a constant varies along the columns of `name` only (or not at all)."""
        lead = len(self.shape(name)) - len(self.shape(constant))
        axes = [a + lead for a, extent in enumerate(self.shape(constant)) if extent != 1]
        return lead >= 0 and (axes == [self.views[name].column] or not axes)

    def fold_into_weights(self, node: Node, name: str, output: str, bias: bool) -> bool:
        """Fold a constant scale or bias along the columns into the Matmul or norm before it, if
        there is one; that then writes `output` when the view is the whole of it."""
        op = self.writer(name, bias)
        if op is None:
            return False
        view = self.views[name]
        if isinstance(op, Matmul):
            op = replace(op, bias=op.bias or bias)
        if view.whole:
            del self.operators[op.output]
            self.operators[output] = replace(op, output=output)
            self.views[name] = replace(view, source=output)
        else:
            self.operators[op.output] = op
        self.alias(output, name, self.views[name].column)
        return True

    # -- the common operators --------------------------------------------------------------------

    def softmax(self, name: str, scores: str, output: str, axis: int, cols: int) -> None:
        """Softmax of ONNX tensor `scores` over `cols` elements that end along `axis`, masked by
        what is pending on it."""
        if not all(map(self._masks, self.views[scores].pending)):
            self.source(scores)
        view = self.views[scores]
        self.views[scores] = replace(view, pending=())
        whole = cols == self.shape(scores)[axis]
        source = self.aligned(scores, axis) if whole else self.source(scores)
        op = Softmax(name, (source,), output, rows=self.tensor(scores).elements // cols, cols=cols)
        self.views[scores] = replace(self.views[scores], pending=view.pending)
        self.emit(self.masked(op, view.pending), output, axis)

    def _masks(self, left: Pending) -> bool:
        """True when what is pending on scores may mask them, False for a factor or a difference."""
        if left.function != "mul":
            return left.function in ("add", "where")
        value = self.value(left.tensor)
        return value is None or bool(np.isin(value, (0, 1)).all())

    def masked(self, softmax: Softmax, pending: Sequence[Pending]) -> Softmax:
        """Return `softmax` with what is pending on its scores as its mask."""
        masks = [left for left in pending if left.masking]
        index = [m.tensor for m in masks if self.origin(m.tensor) == Origin.INDEX]
        computed = [self.mask(index)] if index else []
        computed += [self.source(m.tensor) for m in masks if self.is_activation(m.tensor)]
        return replace(
            softmax,
            inputs=(*softmax.inputs, *computed),
            masked=softmax.masked or bool(masks),
            causal=softmax.causal or any(m.causal for m in masks),
            bias_elements=max([softmax.bias_elements, *(m.bias_elements for m in masks)]),
        )

    def layernorm(self, name: str, x: str, output: str, axis: int, cols: int, rms: bool) -> None:
        """LayerNorm or RMSNorm of ONNX tensor `x` over `cols` elements that end along `axis`."""
        rows = self.tensor(x).elements // cols
        source = self.aligned(x, axis) if cols == self.shape(x)[axis] else self.source(x)
        self.emit(LayerNorm(name, (source,), output, rows=rows, cols=cols, rms=rms), output, axis)

    def pairwise(
        self, function: type[Add] | type[Gate], name: str, a: str, b: str, output: str
    ) -> None:
        """Sum or product of two activations; the host computes that of what it wrote itself (embeddings)."""
        rank = len(self.shape(output))
        wide, other = (a, b) if len(self.shape(a)) == rank else (b, a)
        column = self.views[wide].column
        whole = {self.tensor(name).elements for name in (a, b, output)}
        host = self.on_host(a) and self.on_host(b) or len(whole) > 1  # one is repeated
        narrow_axis = column - rank + len(self.shape(other))
        second = self.aligned(other, narrow_axis) if narrow_axis >= 0 else self.source(other)
        inputs = (self.source(wide), second)
        elements = self.tensor(output).elements
        if host:
            kind = "add" if function is Add else "mul"
            self.emit(HostOp(name, inputs, output, function=kind, count=elements), output, column)
        else:
            cols = self.shape(output)[column] if rank else 1
            op = function(name, inputs, output, rows=elements // cols, cols=cols)
            self.emit(op, output, column)

    # -- the result ------------------------------------------------------------------------------

    def finish(self, name: str) -> Graph:
        """Return the Graph of the operators that the model's outputs depend on."""
        outputs = tuple(
            dict.fromkeys(self.source(o) for o in self.graph.outputs if self.is_activation(o))
        )
        dag: Dag[str, Operator] = Dag()
        for output, op in self.operators.items():
            dag.add(output, op)
        for output, op in self.operators.items():
            for tensor in op.inputs:
                if tensor in dag:
                    dag.connect(tensor, output)
        dag.keep(dag.ancestors(output for output in outputs if output in dag))
        graph = Graph(name, inputs=self.graph.inputs, outputs=outputs)
        for output in dag.order():
            graph.add(dag[output])
        return graph
