"""A float graph as quantizers of ONNX files write it: QDQ, QOperator and dynamic.

Every rounded tensor has one `Scheme`: a scale and any legal zero point. Where that zero point is the
lowest code of a Relu's or Clip's range, the clamp is deleted and the codes do its work, as
onnxruntime's quantizer does. What such a file means is the float graph with weights on their grid and
every tensor clipped to what its codes reach: `exact` beside the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx_builder import CONTRIB

from .graphs import Array, Drawn

Ranges = Mapping[str, tuple[float, float]]
FORMS = ("float", "float", "float", "QDQ", "float", "float", "QDQ", "QOperator", "float", "dynamic")
CLAMP = "clamp in a zero point"
LAYOUT = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity"})


class NoForm(Exception):
    """A graph without what a form quantizes."""


@dataclass(frozen=True)
class Scheme:
    """value = (code - zero) * scale."""

    scale: np.float32
    zero: int
    dtype: str  # int8, uint8

    @property
    def codes(self) -> tuple[int, int]:
        return (0, 255) if self.dtype == "uint8" else (-128, 127)

    @property
    def reach(self) -> tuple[float, float]:
        low, high = self.codes
        return float((low - self.zero) * self.scale), float((high - self.zero) * self.scale)


@dataclass(frozen=True)
class Quantized:
    """A file, which rounds by itself, what it means exactly, and the faults it asks for."""

    file: onnx.ModelProto
    exact: onnx.ModelProto
    kinds: tuple[str, ...]


def quantize(drawn: Drawn, ranges: Ranges, form: str, seed: int) -> Quantized:
    """A float graph in a quantized form. Raises NoForm."""
    rewriting = _Rewriting(drawn, ranges, form, seed)
    file, exact = rewriting.model(), rewriting.exact()
    return Quantized(file, exact, tuple(rewriting.kinds))


class _Rewriting:
    """One float graph on its way to a quantized file."""

    def __init__(self, drawn: Drawn, ranges: Ranges, form: str, seed: int) -> None:
        self.rng = np.random.default_rng((seed, 2))
        self.form, self.drawn = form, drawn
        self.source = drawn.model
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.source.graph.initializer}
        for node in self.source.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.nodes = [node for node in self.source.graph.node if node.op_type != "Constant"]
        self.outputs = {value.name for value in self.source.graph.output}
        self.dtype = str(self.rng.choice(["uint8", "int8"]))
        self.family = str(self.rng.choice(["symmetric", "natural", "natural", "mixed", "mixed"]))
        self.schemes: dict[str, Scheme] = {}
        self.kinds: dict[str, None] = dict.fromkeys(drawn.kinds)
        self.clamped: dict[str, str] = {}  # the output of a deleted clamp: its input
        self.weights: dict[str, tuple[Array, Array, Array, int]] = {}  # codes, scales, zeros, axis
        if form != "dynamic":
            self._choose(ranges)
        self._choose_weights()
        if not self.schemes and not self.weights:
            raise NoForm
        self.made: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    # -- Schemes -----------------------------------------------------------------------------------

    def _choose(self, ranges: Ranges) -> None:
        for name, (low, high) in ranges.items():
            self.schemes[name] = self._scheme(low, high)
        readers = [name for node in self.nodes for name in node.input]
        for node in self.nodes:
            x, y = node.input[0] if node.input else "", node.output[0]
            bounds = self._bounds(node)
            alone = readers.count(x) == 1 and x not in self.outputs and x not in self.clamped
            written = any(x in other.output for other in self.nodes)
            if bounds is None or y not in self.schemes or not alone or not written:
                continue
            if self.family != "symmetric" and self.rng.random() < 0.7:
                self.schemes[y] = self._clamp(bounds, ranges[y])
                self.schemes.pop(x, None)
                self.clamped[y] = x
                self.kinds[CLAMP] = None
        if self.form == "QOperator":  # the same codes behind a view
            for node in self.nodes:
                x, y = node.input[0] if node.input else "", node.output[0]
                if node.op_type in LAYOUT and {x, y} <= self.schemes.keys():
                    self.schemes[y] = self.schemes[x]

    def _bounds(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """The range of a Relu or of a Clip with bounds around 0."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        if node.op_type != "Clip":
            return None
        given = [self.constants.get(name) for name in node.input[1:]]
        low = -np.inf if not given or given[0] is None else float(given[0])
        high = np.inf if len(given) < 2 or given[1] is None else float(given[1])
        return (low, high) if low <= 0 <= high and (low, high) != (-np.inf, np.inf) else None

    def _clamp(self, bounds: tuple[float, float], seen: tuple[float, float]) -> Scheme:
        """Codes that reach exactly a clamp's bounds, or what was seen where it has none."""
        low = bounds[0] if np.isfinite(bounds[0]) else seen[0]
        high = bounds[1] if np.isfinite(bounds[1]) else seen[1]
        return self._covering(min(low, 0.0), max(high, 0.0, min(low, 0.0) + 1e-3))

    def _covering(self, low: float, high: float) -> Scheme:
        """The least range that has a code for 0."""
        first, last = (0, 255) if self.dtype == "uint8" else (-128, 127)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = int(np.clip(np.round(first - low / scale), first, last))
        return Scheme(scale, zero, self.dtype)

    def _scheme(self, low: float, high: float) -> Scheme:
        first, last = (0, 255) if self.dtype == "uint8" else (-128, 127)
        kind = self.family
        if kind == "mixed":
            kind = str(self.rng.choice(["symmetric", "natural", "any", "extreme"]))
        largest = max(abs(low), abs(high), 1e-6)
        if kind == "symmetric":
            middle = 128 if self.dtype == "uint8" else 0
            return Scheme(np.float32(largest / 127), middle, self.dtype)
        if kind == "natural":
            return self._covering(low, high)
        zero = int(self.rng.integers(first, last + 1))
        if kind == "extreme":
            zero = first if high >= -low else last
        # The wider side must fit; the other is clamped where the zero point leaves it no room.
        room, reach = (last - zero, high) if high >= -low else (zero - first, -low)
        if (
            room < 60
            or zero not in (first, last)
            and not _fits(low, high, zero - first, last - zero)
        ):
            zero = first if high >= -low else last
            room = 255
        if zero in (first, last) and min(high, -low) > 0:
            self.kinds[CLAMP] = None
        return Scheme(np.float32(max(reach, 1e-6) / room), zero, self.dtype)

    def _choose_weights(self) -> None:
        whole = self.rng.random() < 0.3
        for node in self.nodes:
            if node.op_type not in ("MatMul", "Gemm", "Conv"):
                continue
            name = node.input[1]
            value = self.constants.get(name)
            if (
                value is None
                or value.ndim < 2
                or (self.form != "QDQ" and value.ndim != 2 and node.op_type != "Conv")
            ):
                continue
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            axis = 0 if node.op_type == "Conv" or turned else value.ndim - 1
            self.weights[name] = self._weights(value, axis, whole)

    def _weights(self, value: Array, axis: int, whole: bool) -> tuple[Array, Array, Array, int]:
        others = tuple(at for at in range(value.ndim) if at != axis)
        reach = np.abs(value).max(axis=None if whole else others)
        scales = np.maximum(reach / 127, 1e-8).astype(np.float32)
        along = scales.reshape([-1 if at == axis else 1 for at in range(value.ndim)])
        along = scales if whole else along
        unsigned = whole and self.rng.random() < 0.4 and self.form != "dynamic"
        zero = int(self.rng.integers(100, 156)) if unsigned else 0
        dtype = np.uint8 if unsigned else np.int8
        limits = (0, 255) if unsigned else (-127, 127)
        codes = np.clip(np.round(value / along) + zero, *limits).astype(dtype)
        return codes, scales, np.full(scales.shape, zero, dtype), axis

    # -- The file ----------------------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        """The quantized file."""
        {"QDQ": self._qdq, "QOperator": self._qoperator, "dynamic": self._dynamic}[self.form]()
        return self._finished(self.made, self.tensors)

    def _finished(
        self, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]
    ) -> onnx.ModelProto:
        old = self.source.graph
        read = {name for node in nodes for name in node.input} | self.outputs
        known = {tensor.name for tensor in tensors}
        kept = [
            numpy_helper.from_array(value, name)
            for name, value in self.constants.items()
            if name in read and name not in known
        ]
        graph = helper.make_graph(nodes, "test", old.input, old.output, [*kept, *tensors])
        opsets = [*self.source.opset_import]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _tensor(self, name: str, value: Any, dtype: str) -> str:
        if name not in {tensor.name for tensor in self.tensors}:
            self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def _node(self, op_type: str, inputs: list[str], output: str, **more: Any) -> str:
        self.made.append(
            helper.make_node(op_type, inputs, [output], name=f"{output}/{op_type}", **more)
        )
        return output

    def _scale(self, name: str) -> list[str]:
        scheme = self.schemes[name]
        return [
            self._tensor(f"{name}/scale", scheme.scale, "float32"),
            self._tensor(f"{name}/zero", scheme.zero, scheme.dtype),
        ]

    def _weight(self, name: str) -> list[str]:
        codes, scales, zeros, _ = self.weights[name]
        return [
            self._tensor(f"{name}/codes", codes, str(codes.dtype)),
            self._tensor(f"{name}/scale", scales, "float32"),
            self._tensor(f"{name}/zero", zeros, str(zeros.dtype)),
        ]

    def _float_weight(self, name: str) -> str:
        """The floats of a quantized weight."""
        axis = self.weights[name][3]
        output = f"{name}/floats"
        if not any(output in node.output for node in self.made):
            self._node("DequantizeLinear", self._weight(name), output, axis=axis)
        return output

    def _qdq(self) -> None:
        """Every tensor through a pair."""
        names: dict[str, str] = {}

        def pair(name: str, written: str) -> None:
            codes = self._node("QuantizeLinear", [written, *self._scale(name)], f"{name}/q")
            target = name if name in self.outputs and written != name else f"{name}/dq"
            self._node("DequantizeLinear", [codes, *self._scale(name)], target)
            names[name] = target

        for value in self.source.graph.input:
            if value.name in self.schemes:
                pair(value.name, value.name)
        for node in self.nodes:
            self._copied(node, names, pair)

    def _copied(self, node: onnx.NodeProto, names: dict[str, str], pair: Any) -> None:
        output = node.output[0]
        if output in self.clamped:
            pair(output, names.get(self.clamped[output], self.clamped[output]))
            return
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            weight = (
                index == 1 and name in self.weights and node.op_type in ("MatMul", "Gemm", "Conv")
            )
            copy.input[index] = self._float_weight(name) if weight else names.get(name, name)
        self.made.append(copy)
        for index, name in enumerate(node.output):
            if name in self.schemes:
                copy.output[index] = f"{name}/exact" if name in self.outputs else name
                pair(name, copy.output[index])

    def exact(self) -> onnx.ModelProto:
        """The float graph with weights on their grid and every tensor clipped to its codes' reach."""
        tensors: dict[str, onnx.TensorProto] = {}
        nodes: list[onnx.NodeProto] = []
        names: dict[str, str] = {}

        def clip(name: str, written: str) -> None:
            limits = []
            for label, bound in zip(("low", "high"), self.schemes[name].reach, strict=True):
                made = numpy_helper.from_array(np.array(bound, np.float32), f"{name}/{label}")
                tensors[made.name] = made
                limits.append(made.name)
            target = name if name in self.outputs and written != name else f"{name}/clipped"
            nodes.append(helper.make_node("Clip", [written, *limits], [target]))
            names[name] = target

        for value in self.source.graph.input:
            if value.name in self.schemes:
                clip(value.name, value.name)
        for node in self.nodes:
            output = node.output[0]
            if output in self.clamped:
                clip(output, names.get(self.clamped[output], self.clamped[output]))
                continue
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for index, name in enumerate(node.input):
                copy.input[index] = names.get(name, name)
                if index == 1 and name in self.weights:
                    tensors[f"{name}/grid"] = self._grid(name)
                    copy.input[index] = f"{name}/grid"
            nodes.append(copy)
            for index, name in enumerate(node.output):
                if name in self.schemes:
                    copy.output[index] = f"{name}/exact" if name in self.outputs else name
                    clip(name, copy.output[index])
        return self._finished(nodes, [*tensors.values()])

    def _grid(self, name: str) -> onnx.TensorProto:
        codes, scales, zeros, axis = self.weights[name]
        along = [-1 if at == axis else 1 for at in range(codes.ndim)]
        scale, zero = ((a if a.ndim == 0 else a.reshape(along)) for a in (scales, zeros))
        floats = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
        return numpy_helper.from_array(floats.astype(np.float32), f"{name}/grid")

    # -- QOperator ---------------------------------------------------------------------------------

    def _qoperator(self) -> None:
        """Integers from node to node where there is an operator for them."""
        codes: dict[str, str] = {}  # the integers of a tensor
        floats: dict[str, str] = {}

        def integers(name: str) -> str:
            if name not in codes:
                codes[name] = self._node(
                    "QuantizeLinear", [floats.get(name, name), *self._scale(name)], f"{name}/q"
                )
            return codes[name]

        def as_floats(name: str) -> str:
            if name in self.schemes and name not in self.constants:
                target = f"{name}/dq"
                if not any(target in node.output for node in self.made):
                    self._node("DequantizeLinear", [integers(name), *self._scale(name)], target)
                return target
            return name

        for node in self.nodes:
            output = node.output[0]
            source = self.clamped.get(output)
            if source is not None:
                codes[output] = self._node(
                    "QuantizeLinear", [as_floats(source), *self._scale(output)], f"{output}/q"
                )
                continue
            if self._integer_node(node, codes, integers):
                continue
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for index, name in enumerate(node.input):
                weight = index == 1 and name in self.weights
                copy.input[index] = self._float_weight(name) if weight else as_floats(name)
            self.made.append(copy)
            for index, name in enumerate(node.output):
                if name in self.schemes:
                    copy.output[index] = floats[name] = f"{name}/exact"
                    integers(name)
        for name in sorted(self.outputs & self.schemes.keys()):
            if any(name in value for value in codes):
                self._node("DequantizeLinear", [integers(name), *self._scale(name)], name)

    def _integer_node(self, node: onnx.NodeProto, codes: dict[str, str], integers: Any) -> bool:
        """Write a node that computes on integers, where there is one."""
        x, y = node.input[0] if node.input else "", node.output[0]
        kind = node.op_type
        if y not in self.schemes or x not in self.schemes or len(node.output) > 1:
            return False
        target, own = f"{y}/q", dict(_attributes(node))

        def triple(name: str) -> list[str]:
            return [integers(name), *self._scale(name)]

        if kind in LAYOUT:
            self._node(kind, [integers(x), *node.input[1:]], target, **own)
        elif kind in ("MatMul", "Gemm", "Conv"):
            return self._product(node, codes, triple)
        elif kind in ("Add", "Mul") and node.input[1] in self.schemes:
            given = [*triple(x), *triple(node.input[1]), *self._scale(y)]
            self._node(f"QLinear{kind}", given, target, domain=CONTRIB)
        elif kind in ("Sigmoid", "LeakyRelu"):
            self._node(
                f"QLinear{kind}", [*triple(x), *self._scale(y)], target, domain=CONTRIB, **own
            )
        elif kind == "Softmax":
            more = {"axis": own.get("axis", -1), "opset": 13}
            given = [*triple(x), *self._scale(y)]
            self._node("QLinearSoftmax", given, target, domain=CONTRIB, **more)
        elif kind == "Concat" and all(name in self.schemes for name in node.input):
            given = [*self._scale(y), *(each for name in node.input for each in triple(name))]
            self._node("QLinearConcat", given, target, domain=CONTRIB, **own)
        elif kind in ("GlobalAveragePool", "AveragePool"):
            given = [*triple(x), *self._scale(y)]
            self._node(f"QLinear{kind}", given, target, domain=CONTRIB, **own)
        else:
            return False
        codes[y] = target
        return True

    def _product(self, node: onnx.NodeProto, codes: dict[str, str], triple: Any) -> bool:
        x, b, y = node.input[0], node.input[1], node.output[0]
        kind, target, own = node.op_type, f"{y}/q", dict(_attributes(node))
        if b in self.weights:
            second = self._weight(b)
        elif kind == "MatMul" and b in self.schemes:
            second = triple(b)
        else:
            return False
        c = node.input[2] if len(node.input) > 2 else ""
        given = [*triple(x), *second]
        if kind == "MatMul":
            self._node("QLinearMatMul", [*given, *self._scale(y)], target)
        elif kind == "Conv":
            bias = [self._bias(c, x, b, 1.0)] if c else []
            self._node("QLinearConv", [*given, *self._scale(y), *bias], target, **own)
        else:
            row = c and self.constants.get(c) is not None and self.constants[c].ndim == 1
            if (c and not row) or own.pop("beta", 1.0) != 1.0:
                return False
            bias = [self._bias(c, x, b, own.get("alpha", 1.0))] if c else [""]
            self._node("QGemm", [*given, *bias, *self._scale(y)], target, domain=CONTRIB, **own)
        codes[y] = target
        return True

    def _bias(self, c: str, x: str, b: str, alpha: float) -> str:
        unit = self.schemes[x].scale * self.weights[b][1] * alpha
        return self._tensor(f"{c}/{b}/codes", np.round(self.constants[c] / unit), "int32")

    # -- Dynamic -----------------------------------------------------------------------------------

    def _dynamic(self) -> None:
        """Activations quantized as they come, before products with weights."""
        form = str(self.rng.choice(["whole", "float", "steps"]))
        for node in self.nodes:
            name = node.input[1] if len(node.input) > 1 else ""
            if node.op_type != "MatMul" or name not in self.weights:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                if len(node.input) > 1 and name in self.weights:
                    copy.input[1] = self._float_weight(name)
                self.made.append(copy)
                continue
            weight, y = self._weight(name), node.output[0]
            if form == "whole":
                given = [node.input[0], *weight]
                self._node("DynamicQuantizeMatMul", given, y, domain=CONTRIB)
                continue
            names = [f"{y}/{part}" for part in ("codes", "scale", "zero")]
            self.made.append(helper.make_node("DynamicQuantizeLinear", [node.input[0]], names))
            if form == "float":
                given = [names[0], weight[0], names[1], weight[1], names[2], weight[2]]
                self._node("MatMulIntegerToFloat", given, y, domain=CONTRIB)
                continue
            sums = self._node("MatMulInteger", [names[0], weight[0], names[2]], f"{y}/sums")
            wide = self._node("Cast", [sums], f"{y}/wide", to=1)
            unit = self._node("Mul", [names[1], weight[1]], f"{y}/unit")
            self._node("Mul", [wide, unit], y)


def _fits(low: float, high: float, below: int, above: int) -> bool:
    """Whether the narrower side of a range has room beside a scale that the wider one sets."""
    unit = high / max(above, 1) if high >= -low else -low / max(below, 1)
    return -low <= unit * below * 1.001 and high <= unit * above * 1.001


def _attributes(node: onnx.NodeProto) -> list[tuple[str, Any]]:
    return [(a.name, helper.get_attribute_value(a)) for a in node.attribute]
