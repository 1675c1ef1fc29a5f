"""The codes of a quantized file's activations, and what quantizing clamps them to.

Codes of 8 bits or fewer stay what they are; wider ones get 8 bits over the same range. Quantizing also
clamps, and a quantizer that drops a ReLU or Clip before it relies on that: every clamp is told, and stands
as a Clip in the float model where the caller of `dequantize` asks for it.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import onnx

from codesign.compiler.rewrite.codes import BITS, PARTS, VIEWS, Reach
from codesign.compiler.rewrite.given_scales import Codes

CLIPPED = "/clipped"  # behind the name of integers: the floats that a Clip makes for them


class Clamp(NamedTuple):
    """What quantizing the tensor `source` to `integers` clamps it to.

    `root`: the tensor that holds the codes, which views lead to. `alone`: whether nothing reads that
    but what is quantized alike.
    """

    integers: str
    source: str
    root: str
    alone: bool
    low: float
    high: float


class ActivationCodes:
    """What is known of the activations of one file, as its nodes are read in order.

    `scales`: codes by tensor. `clipped`: the integers whose clamp is to be a Clip; None: all of them.
    """

    def __init__(self, clipped: Collection[str] | None) -> None:
        self.clipped = clipped
        self.scales: dict[str, Codes] = {}
        self._clamps: dict[tuple[str, Codes], Clamp] = {}
        self._narrowed: list[str] = []
        self._uneven: list[str] = []

    @property
    def clamps(self) -> tuple[Clamp, ...]:
        """Of every quantized activation that has one scale."""
        return tuple(self._clamps.values())

    def record(
        self, source: str, integers: str, reach: Reach | None, root: str, alone: bool
    ) -> tuple[str, bool]:
        """Keep what the codes of an activation stand for: the tensor that is clamped to them, and
        whether it is that of a Clip which is not there yet.
        """
        if reach is None:
            self._uneven.append(source)
            return source, False
        known = self._clamps.get((source, reach.codes))
        if known is not None:
            return known.root if known.root.endswith(CLIPPED) else source, False
        clip = self.clipped is None or integers in self.clipped
        tensor = f"{integers}{CLIPPED}" if clip else source
        held = (tensor, True) if clip else (root, alone)
        self._clamps[source, reach.codes] = Clamp(integers, source, *held, reach.low, reach.high)
        if reach.bits > BITS:
            self._narrowed.append(tensor)
        self._keep(tensor, reach.codes)
        return tensor, clip

    def _keep(self, name: str, codes: Codes) -> None:
        """One tensor has one kind of codes: those that cover all that it is quantized to."""
        other = self.scales.setdefault(name, codes)
        if other != codes:
            self._uneven.append(name)
            self.scales[name] = Codes.over(min(codes.low, other.low), max(codes.high, other.high))

    def spread(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Give scales of views to what they show, and from there to all parts that have none."""
        for node in reversed(nodes):
            if node.op_type in VIEWS and node.output[0] in self.scales:
                self.scales.setdefault(node.input[0], self.scales[node.output[0]])
        for node in nodes:
            if node.op_type in VIEWS | PARTS and node.input[0] in self.scales:
                for output in node.output:
                    self.scales.setdefault(output, self.scales[node.input[0]])

    def notes(self) -> Iterator[str]:
        """What could not be kept, a line each."""
        if self._narrowed:
            yield (
                f"{len(self._narrowed)} tensors have more than 8 bits, which the machine has not: they "
                f"get 8 over the same range, {self._narrowed[0]!r} first"
            )
        if self._uneven:
            yield (
                f"{len(self._uneven)} tensors have more than one scale: one covers them all or they are "
                f"calibrated, {self._uneven[0]!r} first"
            )


class TensorReaders:
    """Who reads the float tensors of a quantized graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: dict[str, list[onnx.NodeProto]] = {}
        self.writers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            self.writers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self.nodes.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}

    def root(self, name: str) -> tuple[str, bool]:
        """The tensor that `name` is a view of, and whether nothing reads it but what is quantized by
        one scale and zero point.
        """
        quantizers = [n for n in self.nodes[name] if n.op_type == "QuantizeLinear"]
        codes = {tuple(node.input[1:]) for node in quantizers}
        while (node := self.writers.get(name)) is not None and node.op_type in VIEWS:
            name = node.input[0]
        return name, len(codes) == 1 and self._alike(name, codes)

    def _alike(self, name: str, codes: Collection[tuple[str, ...]]) -> bool:
        readers = self.nodes.get(name, [])
        return name not in self.outputs and all(
            tuple(node.input[1:]) in codes
            if node.op_type == "QuantizeLinear"
            else node.op_type in VIEWS and self._alike(node.output[0], codes)
            for node in readers
        )
