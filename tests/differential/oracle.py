"""onnxruntime on a graph, and plain eight-bit rounding of the same tensors.

Plain rounding is independent of the compiler's: every tensor that an operator writes, and what an
attention operator multiplies inside, is rounded to steps of its range over 127, weights to steps of
each output channel's range over 127, and all else is float.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.rewrite.decompose import decomposed

from .graphs import Array

Feeds = Mapping[str, Array]
LEVELS = 127
EQUAL = 80.0  # dB
PRODUCTS = frozenset({"MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm", "Einsum"})
PRODUCTS |= {"Conv", "FusedConv", "Attention"}


class NoReference(Exception):
    """onnxruntime does not compute the graph: there is nothing to hold codesign against."""


class Session:
    """A model in onnxruntime, as it is written: no fusion."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self.session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own types derive from Exception alone
            raise NoReference(str(error).splitlines()[0]) from error
        self.names = [value.name for value in self.session.get_outputs()]

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        try:
            found = self.session.run(None, dict(feeds))
        except Exception as error:
            raise NoReference(str(error).splitlines()[0]) from error
        return {name: np.asarray(value) for name, value in zip(self.names, found, strict=True)}


def ranges(
    model: onnx.ModelProto, tensors: Sequence[str], samples: Sequence[Feeds]
) -> dict[str, tuple[float, float]]:
    """The least and largest value of float tensors over some samples."""
    inputs = {value.name for value in model.graph.input}
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.output[:]
    written = [name for name in tensors if name not in inputs]
    wide.graph.output.extend(helper.make_value_info(name, onnx.TypeProto()) for name in written)
    session = Session(wide) if written else None
    found: dict[str, tuple[float, float]] = {}
    for feeds in samples:
        values = dict(session(feeds)) if session is not None else {}
        values |= {name: feeds[name] for name in tensors if name in inputs}
        for name, value in values.items():
            if value.dtype.kind != "f" or not value.size:
                continue
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, float(value.min())), max(high, float(value.max()))
    return found


def rounded(
    model: onnx.ModelProto, tensors: Mapping[str, tuple[float, float]], wider: float = 1.0
) -> onnx.ModelProto:
    """The model with tensors of these ranges, or `wider` ones, rounded to eight bits, and its weights."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = plain.graph
    _round_weights(graph)
    own = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    kinds: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
    floats = next((kind for kind in _float_types(model) if kind in kinds), TensorProto.FLOAT)
    dtype = kinds.get(floats, np.float32)
    nodes: list[onnx.NodeProto] = []
    names: dict[str, str] = {}

    def add(name: str, written: str) -> None:
        """Round `written` into the tensor that is read in the place of `name`."""
        reach = wider * max(map(abs, tensors[name]))
        unit = numpy_helper.from_array(np.array(reach / LEVELS or 1.0, np.float64), f"{name}/unit")
        limits = [
            numpy_helper.from_array(np.array(v, np.float64), f"{name}/{v}")
            for v in (-LEVELS, LEVELS)
        ]
        graph.initializer.extend((unit, *limits))
        steps: tuple[tuple[str, list[str], dict[str, Any]], ...] = (
            ("Cast", [written], {"to": TensorProto.DOUBLE}),
            ("Div", ["", unit.name], {}),
            ("Round", [""], {}),
            ("Max", ["", limits[0].name], {}),
            ("Min", ["", limits[1].name], {}),
            ("Mul", ["", unit.name], {}),
            ("Cast", [""], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}),
        )
        last = ""
        for index, (op_type, given, more) in enumerate(steps):
            output = f"{name}/r{index}" if index < len(steps) - 1 else names[name]
            nodes.append(
                helper.make_node(op_type, [each or last for each in given], [output], **more)
            )
            last = output

    for value in graph.input:
        if value.name in tensors and own[value.name] == floats:
            names[value.name] = f"{value.name}/rounded"
            add(value.name, value.name)
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(copy.input):
            copy.input[index] = names.get(name, name)
        nodes.append(copy)
        for index, name in enumerate(node.output):
            if name in tensors:
                copy.output[index] = f"{name}/exact"
                names[name] = name
                add(name, f"{name}/exact")
    del graph.node[:]
    graph.node.extend(nodes)
    return plain


def opened(model: onnx.ModelProto, sample: Feeds) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its attention operators as products, and the activations that those multiply:
    eight-bit arithmetic rounds them as any others. That it computes the same is onnxruntime's word.
    """
    if not any("Attention" in node.op_type for node in model.graph.node):
        return model, ()
    apart, _ = decomposed(model, {name: value.shape for name, value in sample.items()})
    whole = Session(model)(sample)
    try:
        parts = Session(apart)(sample)
    except NoReference:  # of doubles
        return model, ()
    if any(decibels([parts[name]], [whole[name]]) < EQUAL for name in whole):
        return model, ()
    known = {name for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in apart.graph.initializer}
    operands = [
        name
        for node in apart.graph.node
        if node.op_type == "MatMul" and not known.issuperset(node.output)
        for name in node.input
        if name not in constants and name not in known
    ]
    return apart, tuple(dict.fromkeys(operands))


def with_weights_rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the float weights of its products rounded to eight bits."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    _round_weights(plain.graph)
    return plain


def _float_types(model: onnx.ModelProto) -> list[int]:
    given = [value.type.tensor_type.elem_type for value in model.graph.input]
    constants = [tensor.data_type for tensor in model.graph.initializer]
    written = [
        a.t.data_type for node in model.graph.node for a in node.attribute if a.name == "value"
    ]
    return [*given, *constants, *written]


def _round_weights(graph: onnx.GraphProto) -> None:
    """Weights of products in steps of each output channel's range."""
    axes: dict[str, tuple[int, ...]] = {}
    shapes = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    shapes |= {
        node.output[0]: len(node.attribute[0].t.dims)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    }
    for node in graph.node:
        if node.op_type in PRODUCTS:
            for at, name in enumerate(node.input[:2]):
                if name in shapes:
                    axes[name] = _summed(node, at, shapes[name])
    for index, tensor in enumerate(graph.initializer):
        if tensor.name in axes:
            graph.initializer[index].CopyFrom(_rounded(tensor, axes[tensor.name]))
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in axes:
            node.attribute[0].t.CopyFrom(_rounded(node.attribute[0].t, axes[node.output[0]]))


def _summed(node: onnx.NodeProto, at: int, rank: int) -> tuple[int, ...]:
    """The axes of a weight that a product sums over."""
    if node.op_type in ("Conv", "FusedConv"):
        return tuple(range(1, rank))
    if node.op_type == "Einsum":
        equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
        terms, _, result = equation.replace("...", "").replace(" ", "").partition("->")
        term = terms.split(",")[at]
        return tuple(axis for axis, letter in enumerate(term) if letter not in result)
    if rank == 1:
        return (0,)
    turned = any(a.name == ("transA", "transB")[at] and a.i for a in node.attribute)
    inner = (rank - 1) if (at == 0) != turned else rank - 2
    return (inner,)


def _rounded(tensor: onnx.TensorProto, axes: tuple[int, ...]) -> onnx.TensorProto:
    value = numpy_helper.to_array(tensor)
    wide = value.astype(np.float64)
    unit = np.abs(wide).max(axis=axes, keepdims=True) / LEVELS
    unit = np.where(unit > 0, unit, 1.0)
    return numpy_helper.from_array((np.round(wide / unit) * unit).astype(value.dtype), tensor.name)


def decibels(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """The signal-to-noise ratio over several samples; infinite where they are equal."""
    signal = noise = 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        signal += float((theirs.astype(np.float64) ** 2).sum())
        noise += float(((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2).sum())
    if noise == 0.0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal > 0 else -np.inf
