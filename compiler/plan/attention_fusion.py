"""Attention as a group of operators: one kernel, softmax behind Q.K^T, or three kernels; and softmax alone."""

from dataclasses import replace

from codesign.compiler.graph import Activation, Matmul, Operator, Softmax
from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.kernels.attention.streamed_shape import StreamedAttentionProblem
from codesign.compiler.kernels.blocks import ceil_div
from codesign.compiler.kernels.row_kernel import RowProblem
from codesign.compiler.plan.operator_work import Operators, role
from codesign.compiler.plan.work import Alternative, Group, Work

# Keys up to which attention takes whole rows of scores; beyond, int8 probabilities of a diffuse row
# would lose what parts of the row keep: docs/attention.md.
WHOLE_KEYS = 128


class AttentionMatcher:
    """Finds attention and softmax among operators."""

    def __init__(self, operators: Operators) -> None:
        self.ops = operators

    def group(self, op: Operator) -> Group | None:
        """Q.K^T, softmax and P.V: on chip throughout, with softmax behind Q.K^T, or apart."""
        if not isinstance(op, Matmul) or op.constant_b or not op.transposed_b:
            return None
        softmax = self.ops.only_consumer(op)
        context = self.ops.only_consumer(softmax) if isinstance(softmax, Softmax) else None
        if not isinstance(softmax, Softmax) or not isinstance(context, Matmul):
            return None
        if context.constant_b or context.transposed_b or context.inputs[0] != softmax.output:
            return None
        if not self.ops.on_chip(softmax):
            return None
        scores = self.ops.matmul_work((op,), op.output)
        apart = (
            scores,
            self._row_batched(softmax, op.batch),
            self.ops.matmul_work((context,), context.output),
        )
        masked = self._mask_rows(softmax) > 0
        after = (softmax.name,)
        fused = self.ops.matmul_work((op,), softmax.output, "softmax", after, masked=masked)
        behind = (fused, apart[2])
        bias = softmax.bias_elements > 0
        problem = self._problem(op, softmax)
        on_chip = Work(
            op.name.rsplit("/", 1)[0],
            "attention",
            (op.name, softmax.name, context.name),
            (*op.inputs, context.inputs[1], *softmax.inputs[1:]),
            (context.output,),
            problem,
            macs=self._macs(op, context, softmax),
            ranges=(0, role(self.ops.graph, op), role(self.ops.graph, context)),
        )
        same_heads = context.n == op.k and context.batch == op.batch
        alternatives: list[Alternative] = [apart]
        if not bias:  # a bias matrix enters with the scores: only on chip, or as an addition apart
            alternatives.insert(0, behind)
        if same_heads:
            alternatives.insert(0, (on_chip,))
            alternatives += self._grouped(op, softmax, on_chip, problem)
        return Group((op, softmax, context), tuple(alternatives))

    def _problem(self, op: Matmul, softmax: Softmax) -> AttentionProblem | StreamedAttentionProblem:
        """All of attention as one kernel: of whole rows, or in parts."""
        bias, rows = softmax.bias_elements > 0, self._mask_rows(softmax)
        if not _in_parts(op, softmax):
            return AttentionProblem(op.batch, op.m, op.n, op.k, bias, rows, op.shared)
        causal = _triangle(op, softmax)
        return StreamedAttentionProblem(op.batch, op.m, op.n, op.k, rows, causal, op.shared)

    def _macs(self, op: Matmul, context: Matmul, softmax: Softmax) -> int:
        """All of both products, or what a causal mask leaves of them where the kernel spares the rest."""
        every = op.macs + context.macs
        if not _triangle(op, softmax):
            return every
        seen = op.m * (op.n - op.m) + op.m * (op.m + 1) // 2
        return every * seen // (op.m * op.n)

    def _grouped(
        self,
        op: Matmul,
        softmax: Softmax,
        on_chip: Work,
        problem: AttentionProblem | StreamedAttentionProblem,
    ) -> list[Alternative]:
        """Attention of several tokens whose query heads that share K and V are rows of one.

        The host copies the queries into that order and the context back. Not where rows of one head
        see other keys than those of another: causal masks go by the number of the row. A single
        token's lie so already.
        """
        apart = op.m == 1 or softmax.bias_elements or softmax.causal
        if self.ops.accurate or op.shared == 1 or apart:
            return []
        heads, queries = problem.heads // op.shared, problem.queries * op.shared
        problem = replace(problem, heads=heads, queries=queries, shared=1)
        query, (output,) = on_chip.inputs[0], on_chip.outputs
        stacked, result = f"{query}/grouped", f"{output}/grouped"
        size = op.batch * op.m * op.k
        work = replace(
            on_chip,
            inputs=(stacked, *on_chip.inputs[1:]),
            outputs=(result,),
            problem=problem,
        )
        before = self.ops.copy(op, "queries", query, stacked, size)
        return [(before, work, self.ops.copy(op, "context", result, output, size))]

    def softmax(self, op: Softmax) -> Group:
        """A softmax apart from any product: over the scores of every head where one wrote them."""
        if not self.ops.on_chip(op):
            return Group((op,), ((self.ops.row(op, "softmax", op.inputs[:1]),),))
        source = self.ops.operator(op.inputs[0])
        if isinstance(source, Activation):  # capped scores
            source = self.ops.operator(source.inputs[0])
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
        return int(ceil_div(softmax.cols, self.ops.config.dim))


def _in_parts(op: Matmul, softmax: Softmax) -> bool:
    """Whether attention takes no whole rows. It does with a bias matrix, and where the heads of one
    token that share keys are rows of one.
    """
    alone = op.m > 1 or op.shared == 1
    return op.n > WHOLE_KEYS and not softmax.bias_elements and alone


def _triangle(op: Matmul, softmax: Softmax) -> bool:
    """Whether a causal mask hides parts that are not computed."""
    return _in_parts(op, softmax) and softmax.causal and 1 < op.m <= op.n
