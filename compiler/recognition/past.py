"""The past of a decoder: which inputs of an ONNX file are its key-value cache, found by what reads them.

Exporters call them past_key_values.0.key, past_key_0, past_0 or otherwise. A cache is a float input that
is put before new keys or values, by a Concat whose result attention multiplies by, or within a fused
attention. Its tokens lie along the axis that grows.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto

from codesign.compiler.onnx.load import INTEGER_TYPES, UnusableExtent, usual_role
from codesign.compiler.onnx.shapes import FLOAT_TYPES
from codesign.hw.errors import ModelError

Axes = tuple[int, ...]  # of each axis of a tensor the axis of the input that it is

_BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
_CACHED = FLOAT_TYPES | _BYTES
# Attention in one node: at which inputs it takes a cache, and along which of its axes tokens lie.
_FUSED: Mapping[tuple[str, str], Mapping[int, int]] = {
    ("", "Attention"): {4: 2, 5: 2},
    ("com.microsoft", "Attention"): {4: 3},
    ("com.microsoft", "DecoderMaskedMultiHeadAttention"): {5: 2, 6: 2},
    ("com.microsoft", "GroupQueryAttention"): {3: 2, 4: 2},
    ("com.microsoft", "MultiHeadAttention"): {6: 2, 7: 2},
}
_ATTENTION = frozenset(op_type for _, op_type in _FUSED)
_PRODUCTS = frozenset({"Einsum", "FusedMatMul", "MatMul", "MatMulInteger", "QLinearMatMul"})
_SAME = frozenset({"Cast", "CastLike", "DequantizeLinear", "Identity", "QuantizeLinear", "Slice",
                   "Split"})  # fmt: skip
# What keys and values may pass between the cache and attention: views, rotation, a scale.
_ON_THE_WAY = _SAME | {"Add", "Concat", "Div", "Expand", "Gather", "Mul", "Neg", "Reshape", "Squeeze",
                       "Tile", "Transpose", "Unsqueeze"}  # fmt: skip

_VIEWS = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_LOOK_UPS = frozenset({("Gather", 1), ("EmbedLayerNormalization", 0)})  # and the input of indices


def past_axes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the inputs that are a key-value cache, each with the axis along which its tokens lie."""
    return _Readers(model.graph).grown_axes()


def past_extents(
    model: onnx.ModelProto, past: int, seq: int | None, named: Mapping[str, int]
) -> dict[str, int]:
    """Return extents, by symbol or `input.axis`, that make `past` tokens precede `seq` others.

    Those of the cache, and of masks over what is in it and what is new; `named` are others', given by
    the user. A sequence of None is as long as the file fixes it. Raises ModelError for a file without
    a cache or one of a fixed other length, and where `named` says otherwise.
    """
    readers = _Readers(model.graph)
    axes = readers.grown_axes()
    if not axes:
        raise ModelError(
            "--past is for decoders whose key-value cache is an input, and this file has none: write one "
            "with codesign export FAMILY --past N, or export with past key values (optimum: --task "
            "text-generation-with-past)"
        )
    fixed, symbols = readers.lengths(axes)
    if not symbols and past not in fixed:
        raise UnusableExtent(
            f"--past {past} cannot be used: the file fixes it at {min(fixed)}; drop the option, or export "
            "the cache with a dynamic axis"
        )
    found = dict.fromkeys(symbols, past)
    for symbol in found:
        if named.get(symbol, past) != past:
            raise ModelError(
                f"--past {past} is not --bind {symbol}={named[symbol]}: give one of them"
            )
    length = fixed_tokens(model) if seq is None else seq
    unsaid = [symbol for symbol in _other_sequences(readers.inputs) if symbol not in named]
    if unsaid:
        options = " ".join(f"--bind {symbol}=VALUE" for symbol in unsaid)
        raise ModelError(
            f"--seq is of the decoder's step: say how long its encoder's is: {options}"
        )
    if length is not None:
        for symbol in _masked_axes(readers, axes):
            found[symbol] = past + length
    return {symbol: extent for symbol, extent in found.items() if symbol not in named}


def open_past(model: onnx.ModelProto) -> list[str]:
    """Return what the open axes are called along which the tokens of a cache lie."""
    readers = _Readers(model.graph)
    return readers.lengths(readers.grown_axes())[1]


def fixed_tokens(model: onnx.ModelProto) -> int | None:
    """Return how many tokens of a sequence a file takes that fixes it; None of one that leaves it open."""
    dims = _Readers(model.graph).tokens().type.tensor_type.shape.dim
    fixed = len(dims) > 1 and dims[1].HasField("dim_value")
    return int(dims[1].dim_value) if fixed else None


def tokens_of(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many tokens a run takes whose inputs have these shapes, of all sequences together."""
    return math.prod(shapes[_Readers(model.graph).tokens().name][:2])


def _is_mask(value: onnx.ValueInfoProto) -> bool:
    """Masks are told by their names, as everywhere in the import; those of an encoder are no past's."""
    name = value.name.lower()
    return "mask" in name and not any(word in name for word in ("encoder", "cross"))


def _masked_axes(readers: "_Readers", past: Mapping[str, int]) -> Iterator[str]:
    """The open axes that are as long as past and sequence together: the last of masks, and totals.

    So is the second of integers that is named otherwise than that of the tokens.
    """
    tokens = {value.type.tensor_type.shape.dim[1].dim_param for value in readers.looked_up()}
    for value in readers.inputs:
        tensor = value.type.tensor_type
        last = len(tensor.shape.dim) - 1
        for axis, dim in enumerate(tensor.shape.dim):
            symbol, whole = dim.dim_param, "total" in dim.dim_param
            if 0 < axis == last and _is_mask(value):
                whole = True
            elif axis == last == 1 and tensor.elem_type in INTEGER_TYPES and symbol and tokens:
                whole |= symbol not in tokens and usual_role(symbol) is None
            if whole and not dim.HasField("dim_value") and past.get(value.name) != axis:
                yield f"{value.name}.{axis}"


def _other_sequences(inputs: Iterable[onnx.ValueInfoProto]) -> list[str]:
    """The symbols of an encoder's extents, which no step of the decoder changes."""
    symbols = (dim.dim_param for value in inputs for dim in value.type.tensor_type.shape.dim)
    return list(dict.fromkeys(symbol for symbol in symbols if "encoder" in symbol.lower()))


class _Readers:
    """The nodes of a graph and of its branches by what they read."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        initialised = {weights.name for weights in graph.initializer}
        self.inputs = [value for value in graph.input if value.name not in initialised]
        self.constants: dict[str, onnx.TensorProto] = {}
        self.nodes: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        graphs = [graph]
        while graphs:
            inner = graphs.pop()
            self.constants |= {weights.name: weights for weights in inner.initializer}
            for node in inner.node:
                if node.op_type == "Constant" and node.attribute[:1] and node.output:
                    self.constants[node.output[0]] = node.attribute[0].t
                for index, name in enumerate(node.input):
                    self.nodes.setdefault(name, []).append((node, index))
                graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]

    def grown_axes(self) -> dict[str, int]:
        """What `past_axes` returns."""
        found: dict[str, int] = {}
        for value in self.inputs:
            rank = len(value.type.tensor_type.shape.dim)
            if value.type.tensor_type.elem_type in _CACHED and 3 <= rank <= 5:
                axis = self._grown_axis(value.name, rank)
                if axis is not None:
                    found[value.name] = axis
        return found

    def lengths(self, axes: Mapping[str, int]) -> tuple[list[int], list[str]]:
        """The lengths of a cache that the file fixes, and the names of those that it leaves open."""
        fixed: list[int] = []
        open_: list[str] = []
        for value in self.inputs:
            if (axis := axes.get(value.name)) is not None:
                dim = value.type.tensor_type.shape.dim[axis]
                if dim.HasField("dim_value"):
                    fixed.append(dim.dim_value)
                else:
                    open_.append(dim.dim_param or f"{value.name}.{axis}")
        return fixed, list(dict.fromkeys(open_))

    def looked_up(self) -> list[onnx.ValueInfoProto]:
        """The inputs [batch, seq] that are looked up in a table: tokens, and positions."""
        return [
            value
            for value in self.inputs
            if len(value.type.tensor_type.shape.dim) == 2 and self._picks_rows(value.name)
        ]

    def _picks_rows(self, name: str) -> bool:
        """Whether a table's rows are looked up with an input, or with a view of it."""
        waiting, seen = [name], {name}
        while waiting:
            for node, index in self.nodes.get(waiting.pop(), ()):
                if (node.op_type, index) in _LOOK_UPS:
                    return True
                if node.op_type in _VIEWS and index == 0:
                    waiting += [output for output in node.output if output not in seen]
                    seen.update(node.output)
        return False

    def tokens(self) -> onnx.ValueInfoProto:
        """The input that is the tokens of a run, or their embeddings."""
        cached = self.grown_axes()
        others = [v for v in self.inputs if v.name not in cached and "mask" not in v.name.lower()]
        with_axes = [v for v in others if len(v.type.tensor_type.shape.dim) > 1]
        return (self.looked_up() or with_axes or others or self.inputs)[0]

    def _grown_axis(self, name: str, rank: int) -> int | None:
        """The axis of an input along which new keys or values follow it; None where none do."""
        waiting: list[tuple[str, Axes]] = [(name, tuple(range(rank)))]
        seen = {name}
        while waiting:
            tensor, axes = waiting.pop()
            for node, index in self.nodes.get(tensor, ()):
                joined = self._joined(node, index, axes)
                if joined is not None:
                    return joined
                moved = self._moved(node, index, axes)
                for output in node.output:
                    if moved is not None and output not in seen:
                        seen.add(output)
                        waiting.append((output, moved))
        return None

    def _joined(self, node: onnx.NodeProto, index: int, axes: Axes) -> int | None:
        """The axis of the input along which a node puts something behind it that attention reads."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        place = _FUSED.get((domain, node.op_type), {}).get(index)
        if node.op_type == "Concat":
            new = [name for name in node.input if name and name not in self.constants]
            if len(new) > 1 and index == 0 and self._multiplies(node.output[0]):
                place = _attribute(node, "axis", 0)
                place += len(axes) if place < 0 else 0
        return axes[place] if place is not None and 0 <= place < len(axes) else None

    def _moved(self, node: onnx.NodeProto, index: int, axes: Axes) -> Axes | None:
        """Which axes of the input a node's outputs have; None of one that computes, or is not known."""
        if index != 0 or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _SAME:
            return axes
        if node.op_type == "Transpose":
            order = _attribute(node, "perm", range(len(axes))[::-1])
            return tuple(axes[axis] for axis in order) if max(order) < len(axes) else None
        if node.op_type == "Gather":
            picked = self.constants.get(node.input[1])
            if picked is None or picked.dims:
                return None
            return _without(axes, [_attribute(node, "axis", 0)])
        if node.op_type == "Squeeze":
            return _without(axes, self._listed(node))
        return None

    def _listed(self, node: onnx.NodeProto) -> Sequence[int]:
        """The axes that a node names, as an attribute or an input."""
        given = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        if given is None:
            return list(_attribute(node, "axes", ()))
        return [int(axis) for axis in onnx.numpy_helper.to_array(given).ravel()]

    def _multiplies(self, tensor: str) -> bool:
        """Whether something is multiplied by a tensor, or by what it becomes on the way."""
        waiting, seen = [tensor], {tensor}
        while waiting:
            for node, index in self.nodes.get(waiting.pop(), ()):
                if index > 0 and node.op_type in _PRODUCTS | _ATTENTION:
                    return True
                if node.op_type in _ON_THE_WAY:
                    waiting += [output for output in node.output if output not in seen]
                    seen.update(node.output)
        return False


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = [a for a in node.attribute if a.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default


def _without(axes: Axes, dropped: Sequence[int]) -> Axes | None:
    """The axes that are left; None where there is none of the dropped."""
    places = {axis + len(axes) if axis < 0 else axis for axis in dropped}
    if not places <= set(range(len(axes))):
        return None
    return tuple(axis for place, axis in enumerate(axes) if place not in places)
