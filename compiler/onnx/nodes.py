"""An ONNX model's nodes in a graph, with every tensor they read and write.

Between folding and the handlers: `fold` fills it, `patterns` rewrites it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from codesign.compiler.dag import Dag
from codesign.compiler.onnx.boundary import held_by
from codesign.compiler.onnx.shapes import Node, Tensor, UnknownShape


@dataclass(frozen=True)
class Unsupported:
    """An ONNX node that cannot be imported, and why when its type does not say it."""

    op_type: str
    name: str
    reason: str = ""
    cause: type[UnknownShape] = UnknownShape


@dataclass
class OnnxGraph:
    """The nodes that are left, in order, and every tensor."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    dag: Dag[str, Node] = field(default_factory=Dag)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    opset: int = 0
    first: dict[str, str] = field(default_factory=dict)  # by tensor, the first with its values
    reaches: dict[str, tuple[float, float]] = field(default_factory=dict)  # of codes, by tensor

    def nodes(self) -> Iterator[Node]:
        """Nodes in the order in which the file computes them."""
        return iter(self.dag.values())

    def producer(self, tensor: str) -> Node | None:
        """The node that writes `tensor`, None for inputs and constants."""
        name = self._producers.get(tensor)
        return None if name is None else self.dag[name]

    def consumers(self, tensor: str) -> list[Node]:
        """The nodes that read `tensor`."""
        producer = self.producer(tensor)
        if producer is None:
            return [node for node in self.nodes() if tensor in node.inputs]
        readers = (self.dag[name] for name in self.dag.successors(producer.name))
        return [node for node in readers if tensor in node.inputs]

    def held(self, node: Node) -> str:
        """What a node holds that nothing here understands, in words."""
        shapes = [self.tensors[name].shape for name in node.inputs if name in self.tensors]
        return held_by(node.op_type, shapes, node.attributes)

    def add(self, node: Node) -> None:
        """Append `node`, which may only read tensors that are already there."""
        self.dag.add(node.name, node)
        self._connect(node)

    def rewrite(self, node: Node) -> None:
        """Put `node` in the place of the node of the same name."""
        self.dag.disconnect(node.name)
        self.dag.add(node.name, node)
        self._connect(node)

    def prune(self) -> None:
        """Remove the nodes that no model output depends on."""
        written = [self._producers[tensor] for tensor in self.outputs if tensor in self._producers]
        self.dag.keep(self.dag.ancestors(written))

    def _connect(self, node: Node) -> None:
        for tensor in node.inputs:
            if tensor in self._producers:
                self.dag.connect(self._producers[tensor], node.name)
        for tensor in node.outputs:
            self._producers[tensor] = node.name

    def __post_init__(self) -> None:
        self._producers: dict[str, str] = {}
