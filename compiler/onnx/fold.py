"""Fold an ONNX model to the nodes that compute on activations, every tensor with a concrete shape.

One pass in the file's order: constants and shape arithmetic are evaluated, constant If branches
inlined, quantization nodes reduced to the operators they surround, and repeated mask computations
shared. What remains is a graph of `Node`s for the pattern matcher.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from codesign.compiler.onnx.boundary import (
    Unreadable,
    node_place,
    reading,
    reading_node,
    require_element_type,
)
from codesign.compiler.onnx.branch_names import own_names, renamed
from codesign.compiler.onnx.diagonals import by_distance
from codesign.compiler.onnx.equal_nodes import EqualValues, attribute_key, is_random
from codesign.compiler.onnx.evaluation import node_outputs, splat
from codesign.compiler.onnx.external import require_whole
from codesign.compiler.onnx.file_codes import LIMITING, FileCodes
from codesign.compiler.onnx.forms import fault
from codesign.compiler.onnx.limits import MOST_WORK, affordable, cost
from codesign.compiler.onnx.load import LARGEST_INTEGER_CONSTANT
from codesign.compiler.onnx.masks import summands
from codesign.compiler.onnx.names import unique
from codesign.compiler.onnx.nodes import OnnxGraph, Unsupported
from codesign.compiler.onnx.quantized_operators import dequantize, without_quantization
from codesign.compiler.onnx.shapes import (
    FLOAT,
    FLOAT_TYPES,
    Node,
    Origin,
    Tensor,
    UnknownOperator,
    UnknownShape,
    output_types,
)
from codesign.hw.errors import ModelError

Array = np.ndarray[Any, Any]
_BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
_INTERNED_ELEMENTS = 1 << 12
_NOTHING: Mapping[str, object] = MappingProxyType({})


def fold(
    model: onnx.ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    apart: Mapping[str, object] = _NOTHING,
) -> OnnxGraph:
    """Return the folded graph of a model whose inputs have the given concrete shapes.

    Tensors that differ in `apart` do not count as equal, whatever makes them.

    Nodes that cannot be folded are listed in `unsupported`, not raised, so that all are reported
    together. Raises ModelError for a graph that is not well formed.
    """
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    codes = FileCodes(model.graph.node)
    folder = _Folder(OnnxGraph(tuple(shapes), opset=opsets.get("", 1)), opsets, codes)
    folder.values = EqualValues(codes, folder.resolve, folder.graph.tensors, apart)
    for weights in model.graph.initializer:
        with reading(f"constant {weights.name!r}"):
            folder.constant(weights.name, weights)
    for value in model.graph.input:
        if value.name in shapes:
            dtype = value.type.tensor_type.elem_type
            origin = _input_origin(value.name, dtype)
            dtype = FLOAT if dtype in FLOAT_TYPES else dtype
            tensor = Tensor(dtype, shapes[value.name], origin)
            folder.graph.tensors[value.name] = tensor
            if not tensor.elements:  # a cache without a past
                folder.empty(value.name, tensor)
    for proto in model.graph.node:
        folder.visit(proto)
    folder.graph.first, folder.graph.reaches = folder.values.first, codes.reaches
    folder.graph.outputs = tuple(
        folder.resolve(output.name) for output in model.graph.output if folder.known(output.name)
    )
    if not folder.graph.unsupported:
        missing = [o.name for o in model.graph.output if not folder.known(o.name)]
        if missing:
            raise ModelError(f"output {missing[0]!r} is written by no node: export the model again")
        folder.graph.prune()
    return folder.graph


def _input_origin(name: str, dtype: int) -> Origin:
    """Integers are token, mask or position inputs, except the bytes of an image."""
    data = dtype in FLOAT_TYPES | _BYTES
    return Origin.ACTIVATION if data and "mask" not in name.lower() else Origin.INDEX


@dataclass
class _Folder:
    graph: OnnxGraph
    opsets: Mapping[str, int]  # by domain
    codes: FileCodes
    aliases: dict[str, str] = field(default_factory=dict)
    tainted: set[str] = field(default_factory=set)  # results of unsupported nodes
    interned: dict[tuple[object, ...], str] = field(default_factory=dict)
    computed: dict[tuple[object, ...], tuple[str, ...]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    inlined: int = 0
    enclosing: list[str] = field(default_factory=list)  # the Ifs whose branches are being folded
    work: int = 0  # done on constants, see `limits`
    values: EqualValues = field(init=False)

    def resolve(self, name: str) -> str:
        return self.aliases.get(name, name)

    def known(self, name: str) -> bool:
        return self.resolve(name) in self.graph.tensors

    def constant(self, name: str, weights: onnx.TensorProto) -> None:
        """Record an initialiser or Constant; one without data keeps only its shape."""
        require_element_type(f"constant {name!r}", weights.data_type)
        if weights.data_location == TensorProto.EXTERNAL:
            dtype = FLOAT if weights.data_type in FLOAT_TYPES else weights.data_type
            self.graph.tensors[name] = Tensor(
                dtype, tuple(weights.dims), Origin.CONSTANT, root=name
            )
        else:
            require_whole(weights)
            try:
                value = onnx.numpy_helper.to_array(weights)
            except (ValueError, TypeError) as error:
                raise Unreadable(f"constant {name!r}", "its data do not fit its type") from error
            self.value(name, value, root=name)

    def value(self, name: str, value: Array, root: str = "", parts: tuple[str, ...] = ()) -> None:
        """Record a known constant; equal small ones become one tensor."""
        if value.dtype.kind == "f" or value.dtype.name == "bfloat16":
            value = value.astype(np.float32, copy=False)
        elif value.dtype.kind not in "biu":  # strings and 4-bit types: only the shape matters
            self.graph.tensors[name] = Tensor(FLOAT, value.shape, Origin.CONSTANT, root=root)
            return
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        self.graph.tensors[name] = Tensor(dtype, value.shape, Origin.CONSTANT, value, root, parts)
        weights = root and value.dtype.kind == "f" and value.size > 1  # keep their own names
        if value.size <= _INTERNED_ELEMENTS and not weights:
            key = (dtype, value.shape, value.tobytes())
            self.aliases[name] = self.interned.setdefault(key, name)

    def empty(self, name: str, tensor: Tensor) -> None:
        """Record a tensor without elements: a constant, whatever it is made of."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype)
        self.graph.tensors[name] = replace(
            tensor, origin=Origin.CONSTANT, value=np.zeros(tensor.shape, dtype)
        )

    def visit(self, proto: onnx.NodeProto) -> None:
        """Fold one node, or append it to the graph; raises ModelError naming one that is damaged."""
        place = node_place(proto.op_type, _title(proto), self.enclosing)
        with reading_node(place, lambda: self._held(proto)):
            self._fold(proto, place)

    def _held(self, proto: onnx.NodeProto) -> str:
        """What a node holds, in words."""
        inputs = tuple(self.resolve(name) for name in proto.input)
        attributes = {a.name: _attribute(a) for a in proto.attribute}
        return self.graph.held(Node("", proto.op_type, "", inputs, (), attributes))

    def _fold(self, proto: onnx.NodeProto, place: str) -> None:
        inputs = tuple(self.resolve(name) for name in proto.input)
        for name in inputs:
            if name and name not in self.graph.tensors and name not in self.tainted:
                raise Unreadable(place, f"it reads {name!r}, which nothing before it writes")
        if any(name in self.tainted for name in inputs):
            self.tainted.update(proto.output)
            return
        written = [n for n in proto.output if n and (self.known(n) or n in self.tainted)]
        if written:
            raise Unreadable(place, f"it writes {written[0]!r}, which is there already")
        if (problem := fault(proto, self.opsets)) is not None:
            raise Unreadable(place, problem)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attributes = {a.name: _attribute(a) for a in proto.attribute}
        node = Node(_title(proto), proto.op_type, domain, inputs, tuple(proto.output), attributes)
        try:
            self._visit(node, proto, place)
            self.codes.follow(proto, self.resolve, self.graph.tensors)
        except UnknownShape as error:
            reason = "" if isinstance(error, UnknownOperator) else str(error)
            self.reject(node, reason, type(error))

    def reject(self, node: Node, reason: str, cause: type[UnknownShape] = UnknownShape) -> None:
        title = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        self.graph.unsupported.append(Unsupported(title, node.name, reason, cause))
        self.tainted.update(node.outputs)

    def _visit(self, node: Node, proto: onnx.NodeProto, place: str) -> None:
        tensors = self.graph.tensors
        if node.op_type == "Constant":
            self._constant_node(node)
        elif node.op_type == "If":
            self._inline(node, proto.name or node.op_type, place)
        elif node.op_type in ("Loop", "Scan", "SequenceMap"):
            self.reject(node, "")
        elif node.op_type == "Shape":
            start, end = node.attribute("start", 0), node.attribute("end", None)
            extents = tensors[node.inputs[0]].shape[start:end]
            self.value(node.outputs[0], np.array(extents, np.int64))
        elif node.op_type == "Size":
            self.value(node.outputs[0], np.array(tensors[node.inputs[0]].elements, np.int64))
        elif self._passes_through(node):
            self.aliases[node.outputs[0]] = node.inputs[0]
            for extra in node.outputs[1:]:  # scale and zero point, or a dropout mask
                tensors[extra] = Tensor(FLOAT, (), Origin.CONSTANT)
        else:
            if node.op_type in ("QLinearAdd", "QLinearMul"):
                node = self._dequantized(node)
            if node.op_type in LIMITING and (
                node.op_type != "Where" or self._varies(node.inputs[0])
            ):
                node = replace(node, inputs=tuple(map(self._rectified, proto.input)))
            self._compute(without_quantization(node), proto)

    def _varies(self, name: str) -> bool:
        return self.graph.tensors[name].origin == Origin.ACTIVATION

    def _rectified(self, name: str) -> str:
        """What a node that compares reads under a name: a relu of it where its codes start at 0."""
        source, code = self.resolve(name), self.codes.of(name)
        if (
            code is None
            or not code.from_zero
            or self.graph.tensors[source].origin < Origin.ACTIVATION
        ):
            return source
        output = f"{source}/rectified"
        if output not in self.graph.tensors:
            title = unique(output, self.names)
            self.graph.tensors[output] = self.graph.tensors[source]
            self.graph.add(Node(title, "Relu", "", (source,), (output,)))
        return output

    def _passes_through(self, node: Node) -> bool:
        """True for nodes that leave a tensor's float values as they are."""
        if node.op_type in ("Identity", "Dropout"):
            return True
        origin = self.graph.tensors[node.inputs[0]].origin if node.input(0) else Origin.CONSTANT
        if node.op_type == "Cast" and origin == Origin.ACTIVATION:
            source = self.graph.tensors[node.inputs[0]].dtype
            return source == FLOAT and node.attribute("to") in FLOAT_TYPES
        quantization = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
        return node.op_type in quantization and origin != Origin.CONSTANT

    def _dequantized(self, node: Node) -> Node:
        """Give the constant operands of a QLinear node (value, scale, zero point) their floats."""
        inputs = list(node.inputs)
        for index in (0, 3):
            parts = [self.graph.tensors[n].value if n else None for n in inputs[index : index + 3]]
            floats = dequantize(*parts)
            if floats is not None:
                # Equal codes are one tensor, whatever their scales: the node's own result tells apart.
                name = f"{node.outputs[0]}/operand{index}"
                self.value(name, floats)
                inputs[index] = self.resolve(name)
        return replace(node, inputs=tuple(inputs))

    def _constant_node(self, node: Node) -> None:
        (kind, value), *_ = node.attributes.items()
        if kind == "sparse_value":
            shape = tuple(value.dims)
            self.graph.tensors[node.outputs[0]] = Tensor(FLOAT, shape, Origin.CONSTANT)
        elif isinstance(value, TensorProto):
            self.constant(node.outputs[0], value)
            root = replace(self.graph.tensors[node.outputs[0]], root="")
            if root.value is not None:
                self.value(node.outputs[0], root.value)
        elif kind.startswith("value_string"):
            self.graph.tensors[node.outputs[0]] = Tensor(TensorProto.STRING, (), Origin.CONSTANT)
        else:
            dtype = np.float32 if "float" in kind else np.int64
            self.value(node.outputs[0], np.asarray(value, dtype))

    def _inline(self, node: Node, name: str, place: str) -> None:
        """Replace an If, of this name in its file, by the branch that its constant condition takes."""
        condition = self.graph.tensors[node.inputs[0]].value
        if condition is None:
            self.reject(
                node, "its condition depends on data: export the branch that is meant alone"
            )
            return
        branch = node.attribute("then_branch" if condition.all() else "else_branch")
        self.inlined += 1
        prefix = f"{name}/{self.inlined}/"
        local = {own: prefix + own for own in own_names(branch)}
        for weights in branch.initializer:
            self.constant(local[weights.name], weights)
        self.enclosing.append(node.name)
        for inner in branch.node:
            self.visit(renamed(inner, local))
        self.enclosing.pop()
        if len(branch.output) != len(node.outputs):
            given = f"{len(branch.output)} outputs in its branch and {len(node.outputs)} of its own"
            raise Unreadable(place, f"it has {given}")
        for outer, inner_output in zip(node.outputs, branch.output, strict=True):
            result = self.resolve(local.get(inner_output.name, inner_output.name))
            if result in self.tainted:
                self.tainted.add(outer)
            elif result in self.graph.tensors:
                self.aliases[outer] = result
            else:
                raise Unreadable(
                    place, f"nothing writes {inner_output.name!r}, its branch's output"
                )

    def _compute(self, node: Node, proto: onnx.NodeProto) -> None:
        tensors = self.graph.tensors
        if node.op_type == "Concat" and (joined := self._without_empty(node)) != node.inputs:
            if len(joined) == 1:
                self.aliases[node.outputs[0]] = joined[0]
                return
            node = replace(node, inputs=joined)
        given = [tensors[name] for name in node.inputs if name]
        values = given[:1] if node.op_type == "CastLike" else given
        origin = max((tensor.origin for tensor in values), default=Origin.CONSTANT)
        types = output_types(node, proto, tensors, self.graph.opset)
        if origin != Origin.CONSTANT and not any(math.prod(shape) for _, shape in types):
            for name, (dtype, shape) in zip(node.outputs, types, strict=True):
                self.empty(name, Tensor(dtype, shape, origin))
            return
        opset = self.opsets.get(node.domain, 1)
        if origin == Origin.CONSTANT:
            self._constant_result(node, proto, types)
            if tensors[
                next(filter(None, node.outputs))
            ].root:  # a number everywhere stands for weights
                self.values.add(node, proto, opset, constant=True)
            return
        if _embeds(node, given):
            origin = Origin.ACTIVATION
        if origin == Origin.ACTIVATION:  # int8 results stand for the floats they quantize
            types = [(FLOAT if t in _BYTES else t, shape) for t, shape in types]
        title = unique(node.name, self.names)
        if title != node.name:
            node = replace(node, name=title)
        if origin == Origin.INDEX and not is_random(node.op_type):
            attributes = attribute_key(proto, node.domain, opset)
            key = (node.op_type, node.domain, node.inputs, attributes)
            if key in self.computed:
                self.aliases.update(zip(node.outputs, self.computed[key], strict=False))
                return
            self.computed[key] = node.outputs
        # May raise, before the node is added.
        made = [Tensor(dtype, shape, origin) for dtype, shape in types]
        tensors.update(zip(node.outputs, made, strict=True))
        self.graph.add(node)
        self.values.add(node, proto, opset, constant=False)
        if node.op_type == "EmbedLayerNormalization" and len(node.outputs) > 1:
            mask = node.outputs[1]
            tensors[mask] = replace(tensors[mask], origin=Origin.INDEX)

    def _without_empty(self, node: Node) -> tuple[str, ...]:
        """The inputs of a Concat that have elements; all of them where none has."""
        return tuple(n for n in node.inputs if self.graph.tensors[n].elements) or node.inputs

    def _constant_result(
        self, node: Node, proto: onnx.NodeProto, types: Sequence[tuple[int, tuple[int, ...]]]
    ) -> None:
        if node.op_type == "CastLike":
            node, proto = _cast(node, types[0][0])
        given = [self.graph.tensors[name] for name in node.inputs if name]
        root = next((tensor.root for tensor in given if tensor.root), "")
        parts = summands(node)
        for name, (dtype, shape) in zip(node.outputs, types, strict=True):
            self.graph.tensors[name] = Tensor(
                dtype, shape, Origin.CONSTANT, root=root, summands=parts
            )
        results = [self.graph.tensors[name] for name in node.outputs if name]
        if any(tensor.value is None for tensor in given) or not given and "Random" in node.op_type:
            return
        elements = sum(tensor.elements for tensor in (*given, *results))
        spent = self.work + cost(node.op_type, elements)
        large = max(tensor.elements for tensor in results) > LARGEST_INTEGER_CONSTANT
        tensors = {name: self.graph.tensors[name] for name in node.inputs if name}
        values = {name: t.value for name, t in tensors.items() if t.value is not None}
        if large and len(results) == 1:
            known = by_distance(node, proto, values, self.graph.opset, types[0][1])
            if known is not None:
                self.value(node.outputs[0], known, root, parts)
                return
        if not affordable(node.op_type, elements) or (large and spent > MOST_WORK // 2):
            return
        first = given[0].value if given else None
        one_number = splat(node, proto, first, types[0][1])
        if one_number is not None:
            self.value(node.outputs[0], one_number, root, parts)
            return
        self.work = spent
        if self.work > MOST_WORK:
            raise UnknownShape(
                "its file asks for more work on constants than docs/limits.md allows"
            )
        computed = node_outputs(node, proto, values, self.graph.opset)
        for name, value in zip(node.outputs, computed, strict=False):
            if name:
                self.value(name, np.asarray(value), root, parts)


def _cast(node: Node, dtype: int) -> tuple[Node, onnx.NodeProto]:
    """A CastLike as the Cast that it is where types are known."""
    inputs = node.inputs[:1]
    proto = onnx.helper.make_node("Cast", inputs, node.outputs, name=node.name, to=dtype)
    return replace(node, op_type="Cast", inputs=inputs, attributes={"to": dtype}), proto


def _embeds(node: Node, given: Sequence[Tensor]) -> bool:
    """True when tokens or positions look up rows of a table of weights."""
    if node.op_type == "EmbedLayerNormalization":
        return True
    constants = [tensor for tensor in given if tensor.origin == Origin.CONSTANT]
    if node.op_type == "MatMul":  # one-hot rows times a table
        return len(constants) == 1 and given[0].origin == Origin.INDEX
    table_types = FLOAT_TYPES | _BYTES
    return (
        node.op_type == "Gather"
        and given[0].origin == Origin.CONSTANT
        and given[0].dtype in table_types
        and len(given[0].shape) == 2
    )


def _title(proto: onnx.NodeProto) -> str:
    return proto.name or (proto.output[0] if proto.output else proto.op_type)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
