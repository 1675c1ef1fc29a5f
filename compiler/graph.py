"""The operator graph: a Transformer as the machine sees it, between ONNX and kernels.

A `Graph` holds its operators by name in a `Dag`, where an edge u -> v says that v reads a tensor that u
writes. Shape plumbing (Reshape, Transpose, Slice, Concat, ...) is gone: it moves no data in the machine's
blocked layout, or is part of the operator.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import ClassVar, TypeVar

from codesign.compiler.dag import Dag


@dataclass(frozen=True)
class Operator(ABC):
    """One operator. `inputs` and `output` are tensor names; constants are not listed in inputs."""

    name: str
    inputs: tuple[str, ...]
    output: str

    kind: ClassVar[str] = ""

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates."""
        return 0

    @property
    @abstractmethod
    def elements(self) -> int:
        """Elements of the output."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """What costs depend on: the kind and every field except the names."""
        names = {"name", "inputs", "output", "weights_name"}
        return (self.kind, *(getattr(self, f.name) for f in fields(self) if f.name not in names))


@dataclass(frozen=True)
class Matmul(Operator):
    """output[batch, m, n] = A[batch, m, k] @ B, plus an optional bias over n.

    With `constant_b`, B is one weight matrix [k, n] shared by the whole batch when batch == 1, or
    one per batch entry (grouped convolution). Without it B is an activation: inputs == (A, B).
    `transposed_b` says that B is stored [n, k] (K in Q.K^T); for constants the compiler packs
    weights itself, so it is always False. A Conv arrives here as its im2col matmul, with
    `im2col_bytes` > 0: the bytes of its unexpanded int8 input feature map. `patches` says how the
    host first copies that map into the rows of A, as HostOp.copy does; "" where it lies so already.
    `shared` batch entries after one another read one B: the query heads of a key head.
    """

    batch: int = 1
    m: int = 1
    k: int = 1
    n: int = 1
    constant_b: bool = True
    transposed_b: bool = False
    bias: bool = False
    im2col_bytes: int = 0
    patches: str = ""
    shared: int = 1
    weights_name: str = ""

    kind: ClassVar[str] = "matmul"

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.k * self.n

    @property
    def elements(self) -> int:
        return self.batch * self.m * self.n


@dataclass(frozen=True)
class Softmax(Operator):
    """Softmax over rows of `cols` elements; `masked` when a mask or bias is added to the scores.

    inputs[0] are the scores; a computed (non-constant) mask follows as inputs[1].
    `causal` when the constant mask is the lower triangle. `bias_elements` counts the elements of an
    added matrix that does more than hide scores, heads * queries * keys for one of [1, heads,
    queries, keys]: relative positions (T5, Swin) or ALiBi. It is 0 without a mask, and for masks
    over keys alone (padding) and causal ones.
    """

    rows: int = 1
    cols: int = 1
    masked: bool = False
    causal: bool = False
    bias_elements: int = 0

    kind: ClassVar[str] = "softmax"

    @property
    def elements(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class LayerNorm(Operator):
    """LayerNorm over rows of `cols` with gamma and beta; RMSNorm (no mean, no beta) with `rms`."""

    rows: int = 1
    cols: int = 1
    rms: bool = False

    kind: ClassVar[str] = "layernorm"

    @property
    def elements(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class Activation(Operator):
    """Elementwise nonlinearity of the machine: `function` is a row of `hw.machine.functions`, on rows x cols."""

    function: str = "gelu"
    rows: int = 1
    cols: int = 1

    kind: ClassVar[str] = "activation"

    @property
    def elements(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class Add(Operator):
    """Sum of two activations of rows x cols (a residual connection)."""

    rows: int = 1
    cols: int = 1

    kind: ClassVar[str] = "add"

    @property
    def elements(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class Gate(Operator):
    """Product of two activations of rows x cols, element by element."""

    rows: int = 1
    cols: int = 1

    kind: ClassVar[str] = "gate"

    @property
    def elements(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class Rotary(Operator):
    """Pairs of columns of each of `heads` heads of rows x cols, turned by angles of their row that are
    constants of the network or, `computed`, the run's: of places that are an input.

    `order` are the columns of a head as kernels store it, with pairs side by side; () as in the file.
    """

    rows: int = 1
    cols: int = 1
    heads: int = 1
    order: tuple[int, ...] = ()
    computed: bool = False

    kind: ClassVar[str] = "rotary"

    @property
    def elements(self) -> int:
        return self.rows * self.cols * self.heads


@dataclass(frozen=True)
class HostOp(Operator):
    """Work that the host CPU does on `count` elements: embedding look-ups, tanh, pooling, ...

    `function` is the lower-case ONNX operator type, "embedding" for Gather on a table. `copy` says
    that it moves `count` int8 values as they are: "rows", in runs of at least a word, or "bytes",
    one by one.
    """

    function: str = ""
    count: int = 0
    copy: str = ""

    kind: ClassVar[str] = "host"

    @property
    def elements(self) -> int:
        return self.count


@dataclass(frozen=True)
class Rearrange(HostOp):
    """int8 values that the host puts in another order; they keep their scale, so nothing is rounded."""


O = TypeVar("O", bound=Operator)


@dataclass
class Graph:
    """A model's operators in a graph, with the names of what goes in and out."""

    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    dag: Dag[str, Operator] = field(default_factory=Dag)

    def add(self, op: Operator) -> None:
        """Append `op`, with an edge from the producer of each of its inputs."""
        self.dag.add(op.name, op)
        for tensor in op.inputs:
            producer = self.producer(tensor)
            if producer is not None:
                self.dag.connect(producer, op.name)
            self._readers.setdefault(tensor, {})[op.name] = None
        self._producers[op.output] = op.name

    def operator(self, name: str, kind: type[O]) -> O:
        """The operator called `name`, which is of this kind."""
        op = self.dag[name]
        assert isinstance(op, kind), (op, kind)
        return op

    def producer(self, tensor: str) -> str | None:
        """Name of the operator that writes `tensor`; None for a model input."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> list[Operator]:
        """The operators that read `tensor`, in the order in which they were added."""
        return [self.dag[name] for name in self._readers.get(tensor, ())]

    def operators(self) -> Iterator[Operator]:
        """Operators in an order in which every input is written before it is read."""
        return (self.dag[name] for name in self.dag.order())

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of the whole graph."""
        return sum(op.macs for op in self.operators())

    def __post_init__(self) -> None:
        self._producers: dict[str, str] = {}
        self._readers: dict[str, dict[str, None]] = {}
