"""The head of a language model in an ONNX file: which output scores every token of the vocabulary.

That is one as wide as the table in which the tokens are looked up. Whether the model is causal the masks
of its attention say, which the import knows.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

# What tokens and tables pass on the way to the look-up.
_AS_IT_IS = frozenset({"Cast", "DequantizeLinear", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# What may stand between the projection and the output: scales, softcaps, formats.
_BEHIND = frozenset(
    {"Add", "Cast", "DequantizeLinear", "Div", "Identity", "Mul", "QuantizeLinear", "Tanh"}
)
_PROJECTIONS = frozenset(
    {"FusedMatMul", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits", "QLinearMatMul"}
)
_PLACES = "position"  # in the names of inputs that look a place up, as everywhere in the import
_LAST = {"starts": -1, "ends": np.iinfo(np.int64).max, "axes": -2}  # of a Slice of rows


def scores_output(model: onnx.ModelProto) -> str | None:
    """Return the output that scores each token of the vocabulary; None where there is none.

    None too where two inputs are tokens of it: one of them is an encoder's.
    """
    graph = _Nodes(model.graph)
    tokens: dict[int, set[str]] = {}
    for table, ids in graph.look_ups():
        rows, given = graph.rows(table), graph.given(ids)
        if rows is not None and given is not None and _PLACES not in given.lower():
            tokens.setdefault(rows, set()).add(given)
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        if len(dims) > 1 and len(tokens.get(dims[-1].dim_value, ())) == 1:
            return str(output.name)
    return None


def with_last_scores(model: onnx.ModelProto, output: str) -> onnx.ModelProto | None:
    """Return a copy that computes an output of `scores_output` for the last position alone.

    None where no projection to the vocabulary is found behind it.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    place = _Nodes(graph).projection(output)
    if place is None:
        return None
    rows = graph.node[place].input[0]
    last = f"{graph.node[place].output[0]}/last"
    for name, value in _LAST.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value]), f"{last}/{name}"))
    graph.node[place].input[0] = last
    bounds = (f"{last}/{name}" for name in _LAST)
    graph.node.insert(place, helper.make_node("Slice", [rows, *bounds], [last], name=last))
    return changed


class _Nodes:
    """The nodes of a graph by what they write."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {weights.name: weights for weights in graph.initializer}
        self.inputs = {value.name for value in graph.input} - self.constants.keys()
        self.places = {name: n for n, node in enumerate(graph.node) for name in node.output if name}

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        place = self.places.get(tensor)
        return None if place is None else self.graph.node[place]

    def look_ups(self) -> Iterator[tuple[str, str]]:
        """Table and indices of what is looked up."""
        for node in self.graph.node:
            if node.op_type == "Gather" and len(node.input) > 1:
                yield node.input[0], node.input[1]
            elif node.op_type == "EmbedLayerNormalization" and len(node.input) > 2:
                yield node.input[2], node.input[0]

    def rows(self, table: str) -> int | None:
        """The rows of a matrix of weights."""
        table = self._source(table)
        made = self.producer(table)
        if made is not None and made.op_type == "ConstantOfShape":
            extents = self.constants.get(made.input[0])
            dims = () if extents is None else numpy_helper.to_array(extents).ravel().tolist()
        else:
            dims = tuple(self.constants[table].dims) if table in self.constants else ()
        return int(dims[0]) if len(dims) == 2 else None

    def given(self, ids: str) -> str | None:
        """The input of the model that indices are; None where they are computed."""
        source = self._source(ids)
        return source if source in self.inputs else None

    def _source(self, tensor: str) -> str:
        """What a tensor is a view or another format of."""
        for _ in range(len(self.places)):
            made = self.producer(tensor)
            if made is None or made.op_type not in _AS_IT_IS or not made.input:
                break
            tensor = made.input[0]
        return tensor

    def projection(self, output: str) -> int | None:
        """Where the node is that multiplies by the vocabulary, before what only scales."""
        for _ in range(len(self.places)):
            place = self.places.get(output)
            if place is None:
                return None
            node = self.graph.node[place]
            if node.op_type in _PROJECTIONS:
                return place
            computed = [name for name in node.input if name in self.places or name in self.inputs]
            if node.op_type not in _BEHIND or not computed:
                return None
            output = computed[0]
        return None
