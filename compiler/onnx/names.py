"""Names in an ONNX file: each once, and none that a terminal, table or page should not show as it is.

Exporters write letters, digits and a few signs. A name with control characters or marks that turn the
direction of writing is escaped as the file is read, everywhere alike, so that nothing behind the
reader ever holds it.
"""

from collections.abc import Iterable, Iterator

import onnx

from codesign.hw.platform.text import printable


def unique(name: str, taken: set[str]) -> str:
    """`name`, or where that is taken the first of name.2, name.3, ... that is not; it then is taken."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}.{count}"
    taken.add(candidate)
    return candidate


def make_printable(model: onnx.ModelProto) -> None:
    """Escape what is not printable in all names of `model`, in place.

    Raises UnicodeDecodeError for a name that is not UTF-8.
    """
    if _all_printable(model):
        return
    _clean_graph(model.graph)
    for function in model.functions:
        function.name, function.domain = printable(function.name), printable(function.domain)
        for names in (function.input, function.output, function.attribute):
            names[:] = map(printable, names)
        _clean_nodes(function.node)
    for opset in (*model.opset_import, *(o for f in model.functions for o in f.opset_import)):
        opset.domain = printable(opset.domain)


def _all_printable(model: onnx.ModelProto) -> bool:
    names = [model.graph.name, *(opset.domain for opset in model.opset_import)]
    names += _names_of_graph(model.graph)
    for function in model.functions:
        names += (function.name, function.domain, *function.input, *function.output)
        names += _names_of_nodes(function.node)
    for name in names:
        if isinstance(name, bytes):  # protobuf's way with a string that is not UTF-8
            name.decode()
    return "".join(names).isprintable()


def _names_of_graph(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    yield from _names_of_nodes(graph.node)


def _names_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            if attribute.HasField("g"):
                yield from _names_of_graph(attribute.g)


def _clean_graph(graph: onnx.GraphProto) -> None:
    graph.name = printable(graph.name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = printable(value.name)
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = printable(dim.dim_param)
    tensors = (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))
    for tensor in tensors:
        tensor.name = printable(tensor.name)
    _clean_nodes(graph.node)


def _clean_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        node.name, node.op_type, node.domain = map(
            printable, (node.name, node.op_type, node.domain)
        )
        for names in (node.input, node.output):
            names[:] = [printable(name) for name in names]
        for attribute in node.attribute:
            attribute.name = printable(attribute.name)
            if attribute.HasField("g"):
                _clean_graph(attribute.g)
