"""A quantized ONNX model as the float model it stands for, and the scales that it fixes.

QDQ pairs, dynamic quantization and QLinear operators go: a tensor of integers becomes the floats that
they stand for, under the name of the tensor that was quantized; constants become the floats of their
integers. What one unit stands for is kept: of activations by tensor (`file_clamps`); of weights as a
second model that has the scale of each weight in its place, so that what lies between a file's weights
and a kernel's columns applies to both (`file_scales`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from codesign.compiler.onnx.file_codes import LIMITING
from codesign.compiler.onnx.load import inlined
from codesign.compiler.onnx.quantized_operators import PRODUCTS, QLINEAR, QUANTIZERS, every_operand
from codesign.compiler.rewrite.codes import (
    PARTS,
    VIEWS,
    Array,
    Code,
    Meanings,
    Reach,
    along,
    attribute,
    code_of,
    given,
    integer_range,
    unsupported,
)
from codesign.compiler.rewrite.file_clamps import ActivationCodes, Clamp, TensorReaders
from codesign.compiler.rewrite.given_scales import Codes

_LARGEST = float(np.finfo(np.float32).max)
_UNKNOWN = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "QAttention", "QEmbedLayerNormalization"}
    | {"QLinearReduceMean"}
)


@dataclass(frozen=True)
class Dequantized:
    """A float model, and what its quantized form said.

    `activations`: what a code stands for, by tensor. `units`: the model with its scale in place of every
    constant in `weights`. `clamps`: of every quantized activation that has one scale. `notes`: what
    could not be kept, a line each.
    """

    model: onnx.ModelProto
    activations: Mapping[str, Codes] = field(default_factory=dict)
    weights: frozenset[str] = frozenset()
    units: onnx.ModelProto | None = None
    clamps: tuple[Clamp, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether the file has scales of its own."""
        return bool(self.activations or self.weights)


def dequantized(source: onnx.ModelProto, clipped: Collection[str] | None = ()) -> Dequantized:
    """The float model of a quantized one, with its weights; a float model as it is.

    `clipped`: the integers whose clamp stands as a Clip in the model; None: all of them.
    Raises UnsupportedError naming a quantized operator that has no float form here, or integers whose
    meaning is not one.
    """
    model = inlined(source, "the model")
    meanings = Meanings(model.graph)
    known = QUANTIZERS | PRODUCTS.keys() | QLINEAR.keys() | _UNKNOWN
    if not meanings.codes and not any(node.op_type in known for node in model.graph.node):
        return Dequantized(model)
    return _Rewriter(model, meanings, clipped).result()


class _Rewriter:
    """Rewrites the nodes of one graph in order; integers go by the name of their floats."""

    def __init__(
        self, model: onnx.ModelProto, meanings: Meanings, clipped: Collection[str] | None
    ) -> None:
        self.model, self.meanings = model, meanings
        self.codes, self.tensors = meanings.codes, meanings.tensors
        self.readers = TensorReaders(model.graph)
        self.outputs = {value.name for value in model.graph.output}
        self.activations = ActivationCodes(clipped)
        self.names: dict[str, str] = {}
        self.whole: set[str] = set()  # names of integers whose floats are known
        self.from_zero: set[str] = set()  # names of what codes from 0 up stand for
        self.rectified: set[str] = set()  # tensors of relus that are told by those
        self.floats: dict[str, Array] = {}
        self.units: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []

    def result(self) -> Dequantized:
        for node in self.meanings.nodes:
            self._node(node)
        for name in sorted(self.outputs & self.names.keys()):
            self.nodes.append(helper.make_node("Identity", [self.names[name]], [name]))
        self.activations.spread(self.nodes)
        return Dequantized(
            self._model(self.floats),
            self.activations.scales,
            frozenset(self.units),
            self._model({**self.floats, **self.units}) if self.units else None,
            self.activations.clamps,
            tuple(self.activations.notes()),
        )

    def _model(self, floats: Mapping[str, Array]) -> onnx.ModelProto:
        """The rewritten model with these constants."""
        read = {name for node in self.nodes for name in node.input} | self.outputs
        old = self.model.graph
        graph = onnx.GraphProto(name=old.name)
        graph.node.extend(self.nodes)
        graph.input.extend(value for value in old.input if value.name not in floats)
        graph.output.extend(old.output)
        graph.initializer.extend(
            tensor
            for tensor in old.initializer
            if tensor.name in read and tensor.name not in floats
        )
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, dtype=np.float32, order="C"), name)
            for name, value in floats.items()
            if name in read
        )
        return onnx.ModelProto(
            ir_version=self.model.ir_version, opset_import=self.model.opset_import, graph=graph
        )

    # -- Constants ---------------------------------------------------------------------------------

    def _source(self, name: str) -> str:
        """The tensor that holds the floats of `name`; constants become them here."""
        if name in self.codes and name in self.tensors and name not in self.floats:
            code, integers = self.codes[name], self.meanings.value(name)
            scale = self.meanings.scale(code.scale)
            if scale is None or integers is None:
                raise unsupported(name, "the scale of a constant is computed")
            self._constant(name, integers, scale, self.meanings.value(code.zero), code)
        return self.names.get(name, name)

    def _constant(
        self, name: str, integers: Array, scale: Array, zero: Array | None, code: Code
    ) -> None:
        """Record the floats of a constant, and what a unit of each stands for."""
        units = along(scale, integers.shape, code)
        offset = 0 if zero is None else along(zero.astype(np.float32), integers.shape, code)
        floats = (integers.astype(np.float64) - offset) * units
        self.floats[name] = np.clip(floats, -_LARGEST, _LARGEST)  # of a mask: no infinity
        self.units[name] = units
        self.whole.add(name)

    # -- Nodes -------------------------------------------------------------------------------------

    def _node(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind in _UNKNOWN:
            raise unsupported(node.name or node.output[0], f"{kind} has no float form here")
        if kind == "QuantizeLinear":
            self._quantize(node)
        elif kind == "DequantizeLinear":
            self._follow(node, node.input[0])
        elif kind == "DynamicQuantizeLinear":
            self._rename(node.output[0], self._source(node.input[0]))
            self.floats[node.output[1]] = np.ones((), dtype=np.float32)
        elif kind in QLINEAR:
            self._qlinear(node)
        elif kind in PRODUCTS:
            self._product(node)
        elif kind == "Cast" and node.input[0] in self.codes and node.input[0] in self.tensors:
            self._follow(node, node.input[0])
        elif kind == "Mul" and self._folds(node):
            pass
        elif kind == "Constant" and node.output[0] in self.codes:
            self._source(node.output[0])
        else:
            self._copy(node)

    def _rename(self, name: str, source: str) -> None:
        self.names[name] = source
        self.whole.add(name)

    def _follow(self, node: onnx.NodeProto, name: str) -> None:
        """Give the floats of integers `name` the name of the node's output."""
        source = self._source(name)
        if name not in self.whole:
            raise unsupported(node.name or node.output[0], f"the integers {name!r} are an input")
        self.names[node.output[0]] = source
        if name in self.from_zero:
            self.from_zero.add(node.output[0])

    def _quantize(self, node: onnx.NodeProto) -> None:
        """A quantized activation is its floats; a constant is rounded as the file does it."""
        name, output, code = node.input[0], node.output[0], code_of(node, 1)
        scale, zero = self.meanings.scale(code.scale), self.meanings.value(code.zero)
        values = self.meanings.value(name)
        title = node.name or output
        low, high = integer_range(zero, attribute(node, "output_dtype", 0), title)
        if values is not None and scale is not None:
            offset = 0 if zero is None else along(zero.astype(np.float32), values.shape, code)
            integers = np.round(values / along(scale, values.shape, code)) + offset
            self._constant(output, np.clip(integers, low, high), scale, zero, code)
            return
        source = self._source(name)
        if scale is not None:
            root, alone = self.readers.root(name)
            reach = _reach(scale, zero, (low, high), title)
            source = self._record(source, output, reach, self._source(root), alone)
            self._starts(output, reach)
        if output in self.outputs:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[0] = source
            self.nodes.append(copy)
            self.whole.add(output)
        else:
            self._rename(output, source)

    def _record(
        self, source: str, integers: str, reach: Reach | None, root: str, alone: bool
    ) -> str:
        """Keep what the codes of an activation stand for; the tensor that is clamped to them."""
        tensor, clip = self.activations.record(source, integers, reach, root, alone)
        if clip and reach is not None:
            self._clip(source, tensor, reach)
        return tensor

    def _starts(self, integers: str, reach: Reach | None) -> None:
        """Note integers that stand for nothing below 0."""
        if reach is not None and reach.low == 0:
            self.from_zero.add(integers)

    def _rectified(self, name: str) -> str:
        """A relu of `name`, whose codes start at 0: what lies below is 0 in them.

        A quantizer drops a ReLU for that; with it, what follows is a whole clip.
        """
        output = f"{name}/rectified"  # the same whichever clamps are Clips
        if output not in self.rectified:
            self.rectified.add(output)
            self.nodes.append(helper.make_node("Relu", [self._source(name)], [output], output))
        return output

    def _compared(self, node: onnx.NodeProto) -> set[str]:
        """The tensors from 0 up that a node compares with others, or chooses by such a comparison."""
        if node.op_type not in LIMITING or node.domain:
            return set()
        names = self.from_zero.intersection(node.input)
        if node.op_type == "Where":
            condition = self.readers.writers.get(node.input[0])
            names &= set() if condition is None else set(condition.input)
        return names

    def _clip(self, source: str, output: str, reach: Reach) -> None:
        """A Clip to what the codes reach; before opset 11 its bounds are attributes."""
        opset = max((o.version for o in self.model.opset_import if not o.domain), default=1)
        if opset < 11:
            self.nodes.append(
                helper.make_node("Clip", [source], [output], output, min=reach.low, max=reach.high)
            )
            return
        bounds = {f"{output}/low": reach.low, f"{output}/high": reach.high}
        self.floats |= {name: np.array(bound, np.float32) for name, bound in bounds.items()}
        self.nodes.append(helper.make_node("Clip", [source, *bounds], [output], output))

    def _qlinear(self, node: onnx.NodeProto) -> None:
        form = QLINEAR[node.op_type]
        title = node.name or node.output[0]
        if attribute(node, "channels_last", 0):
            raise unsupported(title, "its channels are last")
        integers = [node.input[at] for at in every_operand(node.op_type, len(node.input))]
        operands = [self._source(name) for name in integers]
        scale, output = given(node, form.output_scale), node.output[0]
        if not self.whole.issuperset(integers) or (output in self.outputs and scale):
            raise unsupported(title, "integers enter or leave the model there")
        bias = given(node, form.bias) if form.bias else ""
        if bias:
            operands.append(self._bias(bias, node))
        attributes = [a for a in node.attribute if a.name not in ("opset", "channels_last")]
        self._emit(node, form.op_type, operands, output, attributes)
        if scale:
            zero = self.meanings.value(given(node, form.output_scale + 1))
            value = self.meanings.scale(scale)
            if value is not None:
                reach = _reach(value, zero, integer_range(zero, 0, title), title)
                self.names[output] = self._record(output, output, reach, output, True)
                self._starts(output, reach)
            self.whole.add(output)

    def _bias(self, bias: str, node: onnx.NodeProto) -> str:
        """The floats of an int32 bias: it counts products, in the scales of both operands."""
        scales = [self.meanings.scale(node.input[at]) for at in (1, 4)]
        integers = self.meanings.value(bias)
        if scales[0] is None or scales[1] is None or integers is None:
            raise unsupported(node.name or node.output[0], "its bias or a scale is computed")
        product = scales[0].reshape(-1) * scales[1].reshape(-1)
        name = f"{node.output[0]}/bias"  # another node may read the same numbers in other units
        self.floats[name] = integers * product * attribute(node, "alpha", 1.0)
        return name

    def _product(self, node: onnx.NodeProto) -> None:
        """A product of integers, in units of A; B's scale is in its floats, 1 in MatMulInteger."""
        form = PRODUCTS[node.op_type]
        a, b = self._source(node.input[0]), self._source(node.input[1])
        title, output = node.name or node.output[0], node.output[0]
        dynamic = node.op_type == "DynamicQuantizeMatMul"
        integers = node.input[1:2] if dynamic else node.input[:2]
        static = node.op_type == "MatMulInteger" and a in self.activations.scales
        if static or not self.whole.issuperset(integers):
            raise unsupported(title, "its integers are not quantized dynamically")
        code = None if dynamic else self.codes.get(node.input[0])
        if code is not None and code.zero != given(node, form.a_zero):
            raise unsupported(title, "its input has another zero point than it was quantized with")
        bias = given(node, form.bias)
        self._emit(node, "MatMul", [a, b], f"{output}/product" if bias else output, [])
        if bias:
            self._emit(node, "Add", [f"{output}/product", bias], output, [])

    def _folds(self, node: onnx.NodeProto) -> bool:
        """Whether a Mul scales a constant of integers by another constant; folded if so."""
        a, b = (self.names.get(name, name) for name in node.input)
        name, other = (a, b) if a in self.units else (b, a)
        factor = self.meanings.value(other)
        if name not in self.units or factor is None or other in self.units:
            return False
        output = node.output[0]
        self.floats[output] = self.floats[name] * factor
        self.units[output] = np.abs(
            np.broadcast_to(self.units[name] * factor, self.floats[output].shape)
        )
        return True

    def _emit(
        self, node: onnx.NodeProto, kind: str, inputs: list[str], output: str, attributes: list[Any]
    ) -> None:
        made = helper.make_node(kind, inputs, [output], name=node.name)
        made.attribute.extend(attributes)
        self.nodes.append(made)

    def _copy(self, node: onnx.NodeProto) -> None:
        """Any other node, on floats; its outputs are floats of integers where its input is."""
        compared = self._compared(node)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            copy.input[index] = self._rectified(name) if name in compared else self._source(name)
        self.nodes.append(copy)
        if node.op_type in VIEWS and node.input[0] in self.from_zero:
            self.from_zero.add(node.output[0])
        if node.op_type in VIEWS | PARTS and node.input[0] in self.whole:
            if self.outputs.intersection(node.output):
                raise unsupported(node.name or node.output[0], "integers leave the model there")
            self.whole.update(node.output)


def _reach(scale: Array, zero: Array | None, integers: tuple[int, int], title: str) -> Reach | None:
    """What the integers of an activation stand for. Raises UnsupportedError naming the node."""
    try:
        return Reach.of(scale, zero, *integers)
    except ValueError as error:
        raise unsupported(title, str(error)) from error
