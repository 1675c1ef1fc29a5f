"""A quantized ONNX model as the float model it stands for, and the scales that it fixes.

QDQ pairs, dynamic quantization and QLinear operators go: a tensor of integers becomes the floats that
they stand for, under the name of the tensor that was quantized; constants become the floats of their
integers. What one unit stands for is kept: of activations by tensor; of weights as a second model that
has the scale of each weight in its place, so that what lies between a file's weights and a kernel's columns
applies to both (`onnx_scales`). Codes of 8 bits or fewer stay what they are; wider ones get 8 bits over
the same range, said in the notes. Quantizing also clamps, and a quantizer that drops a ReLU or Clip
before it relies on that: every clamp is told (`Clamp`), and stands as a Clip in the float model
where the caller asks for it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.given_scales import LOWEST, Codes
from codesign.compiler.onnx_load import inlined
from codesign.hw.errors import UnsupportedError

Array = npt.NDArray[Any]
LEVELS = 127  # of int8, on either side of zero
BITS = 8
CLIPPED = "/clipped"  # behind the name of integers: the floats that a Clip makes for them
_LARGEST = float(np.finfo(np.float32).max)
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
# The operators whose elements are those of their first input, and those that keep all in order or not.
_PARTS = frozenset({"Expand", "Gather", "GatherElements", "GatherND", "MaxPool", "Slice", "Split"})
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


class _Code(NamedTuple):
    """What integers mean: the names of scale ("" for 1) and zero point, and where they vary."""

    scale: str
    zero: str = ""
    axis: int = -1
    block: int = 0


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


class _Form(NamedTuple):
    """A QLinear operator: its float form, where operands (value, scale, zero) and others start."""

    op_type: str
    operands: tuple[int, ...]
    output_scale: int
    bias: int = 0
    axis: int = -1  # along which the scales of the second operand vary


_QLINEAR: Mapping[str, _Form] = {
    "QGemm": _Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3),
    "QLinearConcat": _Form("Concat", (), 0),  # as many as there are, see `_form`
    "QLinearConv": _Form("Conv", (0, 3), 6, bias=8, axis=0),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3),
}
# Integer products: where B's scale, B's zero point and the bias are, -1 for none.
_PRODUCTS: Mapping[str, tuple[int, int, int]] = {
    "MatMulInteger": (-1, 3, -1),
    "MatMulIntegerToFloat": (3, 5, 6),
    "DynamicQuantizeMatMul": (2, 3, 4),
}
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
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


def dequantized(source: onnx.ModelProto, clipped: Collection[str] | None = ()) -> Dequantized:
    """The float model of a quantized one, with its weights; a float model as it is.

    `clipped`: the integers whose clamp stands as a Clip in the model; None: all of them.
    Raises UnsupportedError naming a quantized operator that has no float form here.
    """
    model = inlined(source, "the model")
    rewriter = _Rewriter(model, clipped)
    known = _QUANTIZERS | _PRODUCTS.keys() | _QLINEAR.keys() | _UNKNOWN
    if not rewriter.codes and not any(node.op_type in known for node in model.graph.node):
        return Dequantized(model)
    return rewriter.result()


class _Rewriter:
    """Rewrites the nodes of one graph in order; integers go by the name of their floats."""

    def __init__(self, model: onnx.ModelProto, clipped: Collection[str] | None) -> None:
        self.model, self.clipped = model, clipped
        graph = model.graph
        self.readers = _Readers(graph)
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.tensors |= {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self.outputs = {value.name for value in graph.output}
        self.codes: dict[str, _Code] = {}
        for node in graph.node:
            self._read_codes(node)
        for node in reversed(graph.node):
            if node.op_type in _VIEWS | _PARTS and node.output[0] in self.codes:
                self.codes.setdefault(node.input[0], self.codes[node.output[0]])
        self.names: dict[str, str] = {}
        self.whole: set[str] = set()  # names of integers whose floats are known
        self.floats: dict[str, Array] = {}
        self.units: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.scales: dict[str, Codes] = {}
        self.clamps: dict[tuple[str, Codes], Clamp] = {}
        self.narrowed: list[str] = []
        self.uneven: list[str] = []

    def result(self) -> Dequantized:
        for node in self.model.graph.node:
            self._node(node)
        for name in sorted(self.outputs & self.names.keys()):
            self.nodes.append(helper.make_node("Identity", [self.names[name]], [name]))
        self._spread_scales()
        units = self._model({**self.floats, **self.units}) if self.units else None
        weights = frozenset(self.units)
        clamps = tuple(self.clamps.values())
        notes = tuple(self._notes())
        return Dequantized(self._model(self.floats), self.scales, weights, units, clamps, notes)

    def _notes(self) -> list[str]:
        found = []
        if self.narrowed:
            found.append(
                f"{len(self.narrowed)} tensors have more than 8 bits, which the machine has not: they get "
                f"8 over the same range, {self.narrowed[0]!r} first"
            )
        if self.uneven:
            found.append(
                f"{len(self.uneven)} tensors have more than one scale: one covers them all or they are "
                f"calibrated, {self.uneven[0]!r} first"
            )
        return found

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

    # -- What integers mean ------------------------------------------------------------------------

    def _read_codes(self, node: onnx.NodeProto) -> None:
        """The meaning of the constants that a node reads, as it says it."""
        kind = node.op_type
        if kind == "DequantizeLinear":
            axis, block = _attribute(node, "axis", 1), _attribute(node, "block_size", 0)
            self.codes.setdefault(
                node.input[0], _Code(_input(node, 1), _input(node, 2), axis, block)
            )
        elif kind in _QLINEAR:
            form = _form(node)
            axis = 0 if kind == "QGemm" and _attribute(node, "transB", 0) else form.axis
            for at in form.operands:
                code = _Code(node.input[at + 1], _input(node, at + 2), axis)
                self.codes.setdefault(node.input[at], code)
        elif kind in _PRODUCTS:
            scale, zero, _ = _PRODUCTS[kind]
            code = _Code(_input(node, scale) if scale > 0 else "", _input(node, zero))
            self.codes.setdefault(node.input[1], code)
        elif kind == "Cast" and _attribute(node, "to", 0) in _FLOATS:
            tensor = self.tensors.get(node.input[0])
            if tensor is not None and tensor.data_type in (TensorProto.INT8, TensorProto.UINT8):
                self.codes.setdefault(node.input[0], _Code(""))

    def _value(self, name: str) -> Array | None:
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def _scale(self, name: str) -> Array | None:
        value = np.ones(()) if not name else self._value(name)
        return None if value is None else value.astype(np.float32)

    def _source(self, name: str) -> str:
        """The tensor that holds the floats of `name`; constants become them here."""
        if name in self.codes and name in self.tensors and name not in self.floats:
            code, integers = self.codes[name], self._value(name)
            scale = self._scale(code.scale)
            if scale is None or integers is None:
                raise _unsupported(name, "the scale of a constant is computed")
            zero = self._value(code.zero)
            self._constant(name, integers, scale, zero, code)
        return self.names.get(name, name)

    def _constant(
        self, name: str, integers: Array, scale: Array, zero: Array | None, code: _Code
    ) -> None:
        """Record the floats of a constant, and what a unit of each stands for."""
        units = _along(scale, integers.shape, code)
        offset = 0 if zero is None else _along(zero.astype(np.float32), integers.shape, code)
        floats = (integers.astype(np.float64) - offset) * units
        self.floats[name] = np.clip(floats, -_LARGEST, _LARGEST)  # of a mask: no infinity
        self.units[name] = units
        self.whole.add(name)

    # -- Nodes -------------------------------------------------------------------------------------

    def _node(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind in _UNKNOWN:
            raise _unsupported(node.name or node.output[0], f"{kind} has no float form here")
        if kind == "QuantizeLinear":
            self._quantize(node)
        elif kind == "DequantizeLinear":
            self._follow(node, node.input[0])
        elif kind == "DynamicQuantizeLinear":
            self._rename(node.output[0], self._source(node.input[0]))
            self.floats[node.output[1]] = np.ones((), dtype=np.float32)
        elif kind in _QLINEAR:
            self._qlinear(node, _form(node))
        elif kind in _PRODUCTS:
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
            raise _unsupported(node.name or node.output[0], f"the integers {name!r} are an input")
        self.names[node.output[0]] = source

    def _quantize(self, node: onnx.NodeProto) -> None:
        """A quantized activation is its floats; a constant is rounded as the file does it."""
        name, output = node.input[0], node.output[0]
        scale, zero = self._scale(node.input[1]), self._value(_input(node, 2))
        values = self._value(name)
        code = _Code(node.input[1], _input(node, 2), _attribute(node, "axis", 1))
        low, high = _bounds(zero, _attribute(node, "output_dtype", 0))
        if values is not None and scale is not None:
            offset = 0 if zero is None else _along(zero.astype(np.float32), values.shape, code)
            integers = np.round(values / _along(scale, values.shape, code)) + offset
            self._constant(output, np.clip(integers, low, high), scale, zero, code)
            return
        source = self._source(name)
        if scale is not None:
            reach = _Reach.of(scale, zero, low, high)
            root, alone = self.readers.root(name, reach)
            source = self._record(source, output, reach, self._source(root), alone)
        if output in self.outputs:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[0] = source
            self.nodes.append(copy)
            self.whole.add(output)
        else:
            self._rename(output, source)

    def _record(
        self, source: str, integers: str, reach: "_Reach | None", root: str, alone: bool
    ) -> str:
        """Keep what the codes of an activation stand for; the tensor that is clamped to them."""
        if reach is None:
            self.uneven.append(source)
            return source
        known = self.clamps.get((source, reach.codes))
        if known is not None:
            return known.root if known.root.endswith(CLIPPED) else source
        tensor = source
        if self.clipped is None or integers in self.clipped:
            tensor = root = f"{integers}{CLIPPED}"
            alone = True
            self._clip(source, tensor, reach)
        self.clamps[source, reach.codes] = Clamp(
            integers, source, root, alone, reach.low, reach.high
        )
        if reach.bits > BITS:
            self.narrowed.append(tensor)
        self._keep(tensor, reach.codes)
        return tensor

    def _keep(self, name: str, codes: Codes) -> None:
        """One tensor has one kind of codes: those that cover all that it is quantized to."""
        other = self.scales.setdefault(name, codes)
        if other != codes:
            self.uneven.append(name)
            self.scales[name] = Codes.over(min(codes.low, other.low), max(codes.high, other.high))

    def _clip(self, source: str, output: str, reach: "_Reach") -> None:
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

    def _qlinear(self, node: onnx.NodeProto, form: _Form) -> None:
        if _attribute(node, "channels_last", 0):
            raise _unsupported(node.name or node.output[0], "its channels are last")
        operands = [self._source(node.input[at]) for at in form.operands]
        unknown = [node.input[at] for at in form.operands if node.input[at] not in self.whole]
        scale, output = _input(node, form.output_scale), node.output[0]
        if unknown or (output in self.outputs and scale):
            title = node.name or output
            raise _unsupported(title, "integers enter or leave the model there")
        bias = _input(node, form.bias) if form.bias else ""
        if bias:
            self._bias(bias, node)
            operands.append(self._source(bias))
        attributes = [a for a in node.attribute if a.name not in ("opset", "channels_last")]
        self._emit(node, form.op_type, operands, output, attributes)
        if scale:
            zero = self._value(_input(node, form.output_scale + 1))
            value = self._scale(scale)
            if value is not None:
                reach = _Reach.of(value, zero, *_bounds(zero, 0))
                self.names[output] = self._record(output, output, reach, output, True)
            self.whole.add(output)

    def _bias(self, bias: str, node: onnx.NodeProto) -> None:
        """An int32 bias counts products: the scales of both operands."""
        scales, integers = [self._scale(node.input[at]) for at in (1, 4)], self._value(bias)
        if scales[0] is None or scales[1] is None or integers is None:
            raise _unsupported(node.name or node.output[0], "its bias or a scale is computed")
        product = scales[0].reshape(-1) * scales[1].reshape(-1)
        factor = _attribute(node, "alpha", 1.0)
        self.floats[bias] = (integers * product * factor).astype(np.float32)

    def _product(self, node: onnx.NodeProto) -> None:
        """A product of integers, in units of A; B's scale is in its floats, 1 in MatMulInteger."""
        a, b = self._source(node.input[0]), self._source(node.input[1])
        title, output = node.name or node.output[0], node.output[0]
        dynamic = node.op_type == "DynamicQuantizeMatMul"
        integers = node.input[1:2] if dynamic else node.input[:2]
        unknown = [name for name in integers if name not in self.whole]
        if unknown or (node.op_type == "MatMulInteger" and a in self.scales):
            raise _unsupported(title, "its integers are not quantized dynamically")
        _, _, at = _PRODUCTS[node.op_type]
        bias = _input(node, at) if at > 0 else ""
        self._emit(node, "MatMul", [a, b], f"{output}/product" if bias else output, [])
        if bias:
            self._emit(node, "Add", [f"{output}/product", bias], output, [])

    def _folds(self, node: onnx.NodeProto) -> bool:
        """Whether a Mul scales a constant of integers by another constant; folded if so."""
        a, b = (self.names.get(name, name) for name in node.input)
        name, other = (a, b) if a in self.units else (b, a)
        factor = self._value(other)
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
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            copy.input[index] = self._source(name)
        self.nodes.append(copy)
        if node.op_type in _VIEWS | _PARTS and node.input[0] in self.whole:
            if self.outputs.intersection(node.output):
                raise _unsupported(node.name or node.output[0], "integers leave the model there")
            self.whole.update(node.output)

    def _spread_scales(self) -> None:
        """Scales of views to what they show, and from there to all parts that have none."""
        for node in reversed(self.nodes):
            if node.op_type in _VIEWS and node.output[0] in self.scales:
                self.scales.setdefault(node.input[0], self.scales[node.output[0]])
        for node in self.nodes:
            if node.op_type in _VIEWS | _PARTS and node.input[0] in self.scales:
                for output in node.output:
                    self.scales.setdefault(output, self.scales[node.input[0]])


@dataclass(frozen=True)
class _Reach:
    """What the integers of an activation stand for: codes of the machine, and from where to where."""

    codes: Codes
    low: float
    high: float
    bits: int

    @classmethod
    def of(cls, scale: Array, zero: Array | None, low: int, high: int) -> "_Reach | None":
        """Of integers from `low` to `high`; None where there is more than one scale.

        Codes of up to 8 bits are the integers, moved; those of fewer around 0, or from the lowest on
        where nothing lies below 0.
        """
        if scale.size != 1 or (zero is not None and zero.size != 1):
            return None
        middle, unit = 0 if zero is None else int(zero.reshape(())), float(scale.reshape(()))
        bits = (high - low).bit_length()
        ends = (low - middle) * unit, (high - middle) * unit
        if bits > BITS:
            codes = Codes.over(*ends)
        elif bits == BITS or middle == low:
            codes = Codes(unit, middle - low + LOWEST)
        else:
            codes = Codes(unit)
        return cls(codes, *ends, bits)


class _Readers:
    """Who reads the float tensors of a quantized graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: dict[str, list[onnx.NodeProto]] = {}
        self.writers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            self.writers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self.nodes.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}

    def root(self, name: str, reach: _Reach | None) -> tuple[str, bool]:
        """The tensor that `name` is a view of, and whether nothing reads it but what is quantized by
        the same scale and zero point.
        """
        quantizers = [n for n in self.nodes[name] if n.op_type == "QuantizeLinear"]
        codes = {tuple(node.input[1:]) for node in quantizers}
        while (node := self.writers.get(name)) is not None and node.op_type in _VIEWS:
            name = node.input[0]
        return name, reach is not None and len(codes) == 1 and self._alike(name, codes)

    def _alike(self, name: str, codes: Collection[tuple[str, ...]]) -> bool:
        readers = self.nodes.get(name, [])
        return name not in self.outputs and all(
            tuple(node.input[1:]) in codes
            if node.op_type == "QuantizeLinear"
            else node.op_type in _VIEWS and self._alike(node.output[0], codes)
            for node in readers
        )


def _form(node: onnx.NodeProto) -> _Form:
    """The float form of a QLinear operator, with every operand of a QLinearConcat."""
    form = _QLINEAR[node.op_type]
    every = tuple(range(2, len(node.input), 3))
    return form._replace(operands=every) if node.op_type == "QLinearConcat" else form


def _along(values: Array, shape: tuple[int, ...], code: _Code) -> Array:
    """Scales or zero points broadcast to the shape of what they scale."""
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), shape)
    if code.block:
        repeated = np.repeat(values, code.block, axis=code.axis)
        return repeated[tuple(slice(extent) for extent in shape)]
    if values.ndim == 1:
        axis = code.axis % len(shape)
        values = values.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    return np.broadcast_to(values, shape)


def _bounds(zero: Array | None, data_type: int) -> tuple[int, int]:
    """The least and largest integer of a quantized tensor; uint8 where nothing says another."""
    if zero is not None:
        kind = zero.dtype
    else:
        kind = helper.tensor_dtype_to_np_dtype(data_type or TensorProto.UINT8)
    bits = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}.get(kind.name, 8 * kind.itemsize)
    if kind.name.startswith("uint"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _input(node: onnx.NodeProto, index: int) -> str:
    return str(node.input[index]) if index < len(node.input) else ""


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _unsupported(where: str, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"cannot read the quantized model at {where!r}: {reason}; give the float model, or one with "
        "QuantizeLinear and DequantizeLinear pairs"
    )
