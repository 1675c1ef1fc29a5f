"""A model of half or double floats as one of float32, in which the host and calibration compute.

Probing asks a model for constants to one part in a thousand, which half floats do not answer; and
onnxruntime lacks many operators in double. Outputs keep their declared types (`FloatModel.declared`).
"""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

OTHER_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_TYPES = frozenset({"to", "dtype", "output_dtype"})  # attributes that name a type
_LARGEST = np.finfo(np.float32).max


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 in the place of other float types, itself where it has none."""
    graph = model.graph
    lists = [graph.node, *(function.node for function in model.functions)]
    if not (
        any(value.type.tensor_type.elem_type in OTHER_FLOATS for value in graph.input)
        or any(tensor.data_type in OTHER_FLOATS for tensor in graph.initializer)
        or any(_names_one(attribute) for nodes in lists for attribute in _attributes(nodes))
    ):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    _change_graph(changed.graph)
    for function in changed.functions:
        _change_nodes(function.node)
    return changed


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[AttributeProto]:
    """The attributes of nodes and of the graphs inside of them."""
    for node in nodes:
        for attribute in node.attribute:
            yield attribute
            for graph in _graphs(attribute):
                yield from _attributes(graph.node)


def _graphs(attribute: AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _names_one(attribute: AttributeProto) -> bool:
    """Whether an attribute holds or names another float type, or a graph whose constants do."""
    if attribute.name in _TYPES and attribute.i in OTHER_FLOATS:
        return True
    tensors = [attribute.t, *attribute.tensors]
    tensors += [t for graph in _graphs(attribute) for t in graph.initializer]
    return any(tensor.data_type in OTHER_FLOATS for tensor in tensors)


def _change_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _change_tensor(tensor)
    for value in graph.input:
        if value.type.tensor_type.elem_type in OTHER_FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
    _change_nodes(graph.node)


def _change_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _TYPES and attribute.i in OTHER_FLOATS:
                attribute.i = TensorProto.FLOAT
            for tensor in (attribute.t, *attribute.tensors):
                _change_tensor(tensor)
            for graph in _graphs(attribute):
                _change_graph(graph)


def _change_tensor(tensor: TensorProto) -> None:
    """Another float type as float32; doubles beyond it, as masks are, become its largest."""
    if tensor.data_type not in OTHER_FLOATS:
        return
    wide = numpy_helper.to_array(tensor).astype(np.float64)
    finite = np.where(np.isfinite(wide), np.clip(wide, -_LARGEST, _LARGEST), wide)
    tensor.CopyFrom(numpy_helper.from_array(finite.astype(np.float32), tensor.name))
