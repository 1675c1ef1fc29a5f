"""Build small ONNX models node by node, for the importer's tests."""

from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from codesign.compiler.graph import Graph, Operator

Array = np.ndarray[Any, Any]
Kind = TypeVar("Kind", bound=Operator)
CONTRIB = "com.microsoft"


def kinds(graph: Graph) -> list[str]:
    """The operators in order: kind, or function of an activation or host operator."""
    return [getattr(op, "function", "") or op.kind for op in graph.operators()]


def all_of(graph: Graph, kind: type[Kind]) -> list[Kind]:
    """The operators of one kind, in order."""
    return [op for op in graph.operators() if isinstance(op, kind)]


def only(graph: Graph, kind: type[Kind]) -> Kind:
    """The one operator of a kind."""
    (op,) = all_of(graph, kind)
    return op


class ModelBuilder:
    """Nodes, constants and inputs of one graph; every method returns a tensor name."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(0)

    def input(self, name: str, shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, value: object, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value, dtype)
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int) -> str:
        return self.const(self.rng.normal(0, 0.1, size=shape))

    def ints(self, *values: int) -> str:
        return self.const(values, "int64")

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Return the output's name, or a tuple of names when there are several."""
        domain = attributes.pop("domain", "")
        name = f"{op_type}_{len(self.nodes)}"
        names = tuple(f"{name}.{i}" for i in range(outputs))
        self.nodes.append(
            helper.make_node(op_type, inputs, names, name=name, domain=domain, **attributes)
        )
        return names[0] if outputs == 1 else names

    def linear(self, x: str, k: int, n: int) -> str:
        """x @ W + b, as torch exports a Linear on three axes."""
        product = self.node("MatMul", x, self.weights(k, n))
        return str(self.node("Add", self.weights(n), product))

    def model(self, *outputs: str) -> onnx.ModelProto:
        values = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, values, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, **inputs: Array) -> list[Array]:
    """Return what onnxruntime computes: the check that a test's model is what it claims to be."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))
