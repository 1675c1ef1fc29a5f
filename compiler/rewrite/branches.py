"""An If whose condition is a constant, as the nodes of the branch that it takes.

The import does so as it folds (`fold`); pieces of the file itself are run and asked for values
(`float_model`), and they have to have the same tensors.
"""

from collections.abc import Iterator, Mapping

import onnx

from codesign.compiler.onnx.branch_names import renamed
from codesign.compiler.onnx.fold import fold
from codesign.compiler.onnx.load import inlined, read_model
from codesign.compiler.onnx.shapes import Shape, Tensor


def without_branches(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    """The model without the Ifs that take one branch where its inputs have these shapes."""
    model = inlined(model, "the model")
    while any(node.op_type == "If" for node in model.graph.node):
        tensors = fold(read_model(model), shapes).tensors
        branches = [_branch(node, tensors) for node in model.graph.node]
        if not any(branches):
            break
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        del changed.graph.node[:]
        for node, branch in zip(model.graph.node, branches, strict=True):
            if branch is None:
                changed.graph.node.append(node)
            else:
                changed.graph.node.extend(_nodes(node, branch))
                changed.graph.initializer.extend(_initializers(node, branch))
        model = changed
    return model


def _branch(node: onnx.NodeProto, tensors: Mapping[str, Tensor]) -> onnx.GraphProto | None:
    """The branch that an If takes; None for other nodes and where data decides."""
    if node.op_type != "If" or node.domain or node.input[0] not in tensors:
        return None
    condition = tensors[node.input[0]].value
    if condition is None:
        return None
    taken = "then_branch" if condition.all() else "else_branch"
    graphs: list[onnx.GraphProto] = [a.g for a in node.attribute if a.name == taken]
    return graphs[0]


def _names(node: onnx.NodeProto, branch: onnx.GraphProto) -> dict[str, str]:
    """Names of a branch's own tensors behind that of the If's first output."""
    own = [name for inner in branch.node for name in inner.output if name]
    own += [tensor.name for tensor in branch.initializer]
    return {name: f"{node.output[0]}/{name}" for name in own}


def _nodes(node: onnx.NodeProto, branch: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    names = _names(node, branch)
    for inner in branch.node:
        copy = renamed(inner, names)
        copy.name = f"{node.output[0]}/{inner.name}" if inner.name else ""
        yield copy
    for output, value in zip(node.output, branch.output, strict=True):
        source = names.get(value.name, value.name)
        yield onnx.helper.make_node("Identity", [source], [output], name=f"{output}/taken")


def _initializers(node: onnx.NodeProto, branch: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    names = _names(node, branch)
    for tensor in branch.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        yield copy
