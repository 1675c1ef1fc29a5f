"""A small writer of ONNX graphs: nodes, constants, weights, and the operators whose form depends
on the opset (LayerNormalization from 17, Gelu from 20, reduction axes as inputs from 18)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Dimension = int | str | None


class GraphBuilder:
    """Collects the nodes and initializers of one graph; every method that adds a node returns the
    name of its output tensor.

    `shapes` are the weights that may be asked for, `value` gives one when it is first used; None
    writes the weight as ConstantOfShape, which holds its shape without its values.
    """

    def __init__(
        self,
        opset: int,
        shapes: Mapping[str, tuple[int, ...]],
        value: Callable[[str], Array | None],
    ) -> None:
        self.opset = opset
        self._shapes = shapes
        self._value = value
        opsets = [helper.make_opsetid("", opset)]
        # Filled in place: assembling a graph from lists would copy every weight.
        self._model = helper.make_model(
            helper.make_graph([], "", [], []),
            producer_name="codesign",
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
        )
        self._graph = self._model.graph
        self._weights: set[str] = set()
        self._used: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, shape: tuple[Dimension, ...], integer: bool = False) -> str:
        """Declare a graph input, float32 or int64."""
        kind = TensorProto.INT64 if integer else TensorProto.FLOAT
        self._graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, tensor: str, name: str, shape: tuple[Dimension, ...]) -> None:
        """Declare `tensor` a float32 graph output called `name`."""
        self._graph.node.append(
            helper.make_node("Identity", [tensor], [name], name=f"{name}/Identity")
        )
        self._graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node; its name is `name` (default: the operator), made unique."""
        label = self._unique(name or kind)
        output = f"{label}_output"
        self._graph.node.append(
            helper.make_node(kind, list(inputs), [output], name=label, **attributes)
        )
        return output

    def constant(self, value: Array) -> str:
        """Return an initializer holding `value`; equal constants share one."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return self._constants[key]

    def scalar(self, value: float) -> str:
        """Return a float32 scalar constant."""
        return self.constant(np.asarray(value, np.float32))

    def integers(self, *values: int) -> str:
        """Return an int64 vector constant."""
        return self.constant(np.asarray(values, np.int64))

    def weight(self, name: str) -> str:
        """Return the tensor of a weight, writing it on first use."""
        if name in self._weights:
            return name
        self._weights.add(name)
        value = self._value(name)
        if value is None:
            splat = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.01])
            shape = self.integers(*self._shapes[name])
            node = helper.make_node("ConstantOfShape", [shape], [name], name=f"{name}/Splat")
            node.attribute.append(helper.make_attribute("value", splat))
            self._graph.node.append(node)
        else:
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def note(self, key: str, value: str) -> None:
        """Say something of the model that no node does."""
        self._model.metadata_props.add(key=key, value=value)

    def model(self, name: str) -> onnx.ModelProto:
        """Return the finished model, named `name`; the builder is spent."""
        self._graph.name = name
        return self._model

    # Operators that every family uses.

    def linear(self, x: str, prefix: str, bias: bool = True) -> str:
        """x[..., in] @ weight[in, out] + bias[out]."""
        y = self.op("MatMul", x, self.weight(f"{prefix}.weight"), name=f"{prefix}/MatMul")
        if not bias:
            return y
        return self.op("Add", y, self.weight(f"{prefix}.bias"), name=f"{prefix}/Add")

    def gemm(self, x: str, prefix: str) -> str:
        """x[rows, in] @ weight[in, out] + bias[out], one node."""
        weight, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.op("Gemm", x, weight, bias, name=f"{prefix}/Gemm")

    def convolution(self, x: str, prefix: str, kernel: int = 1, stride: int = 1) -> str:
        """A square convolution with bias of x[batch, channels, height, width], padded to its size."""
        return self.op(
            "Conv",
            x,
            self.weight(f"{prefix}.weight"),
            self.weight(f"{prefix}.bias"),
            name=f"{prefix}/Conv",
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
        )

    def layer_norm(self, x: str, prefix: str, epsilon: float) -> str:
        """LayerNorm over the last axis with gamma and beta."""
        gamma, beta = self.weight(f"{prefix}.gamma"), self.weight(f"{prefix}.beta")
        if self.opset >= 17:
            name = f"{prefix}/LayerNormalization"
            return self.op(
                "LayerNormalization", x, gamma, beta, name=name, axis=-1, epsilon=epsilon
            )
        centred = self.op("Sub", x, self._mean(x, prefix), name=f"{prefix}/Sub")
        squares = self.op("Pow", centred, self.scalar(2.0), name=f"{prefix}/Pow")
        variance = self.op("Add", self._mean(squares, prefix), self.scalar(epsilon))
        unit = self.op("Div", centred, self.op("Sqrt", variance), name=f"{prefix}/Div")
        scaled = self.op("Mul", unit, gamma, name=f"{prefix}/Mul")
        return self.op("Add", scaled, beta, name=f"{prefix}/Add")

    def rms_norm(self, x: str, prefix: str, epsilon: float) -> str:
        """RMSNorm over the last axis with gamma (T5's LayerNorm: no mean, no beta)."""
        squares = self.op("Pow", x, self.scalar(2.0), name=f"{prefix}/Pow")
        mean = self.op("Add", self._mean(squares, prefix), self.scalar(epsilon))
        unit = self.op("Div", x, self.op("Sqrt", mean), name=f"{prefix}/Div")
        return self.op("Mul", unit, self.weight(f"{prefix}.gamma"), name=f"{prefix}/Mul")

    def gelu(self, x: str, prefix: str, tanh: bool = False) -> str:
        """GELU: x Phi(x) by erf, or the tanh approximation (arXiv 1606.08415)."""
        if self.opset >= 20:
            form = "tanh" if tanh else "none"
            return self.op("Gelu", x, name=f"{prefix}/Gelu", approximate=form)
        if tanh:
            cube = self.op("Pow", x, self.scalar(3.0), name=f"{prefix}/Pow")
            inner = self.op("Add", x, self.op("Mul", cube, self.scalar(0.044715)))
            gate = self.op("Tanh", self.op("Mul", inner, self.scalar(math.sqrt(2 / math.pi))))
        else:
            scaled = self.op("Div", x, self.scalar(math.sqrt(2)), name=f"{prefix}/Div")
            gate = self.op("Erf", scaled, name=f"{prefix}/Erf")
        twice = self.op("Mul", x, self.op("Add", gate, self.scalar(1.0)), name=f"{prefix}/Mul")
        return self.op("Mul", twice, self.scalar(0.5), name=f"{prefix}/Mul")

    def attention(
        self,
        x: str,
        memory: str,
        prefix: str,
        heads: int,
        head_dim: int,
        mask: str | None = None,
        bias: bool = True,
        scaled: bool = True,
        cached: Callable[[str, str], str] | None = None,
    ) -> str:
        """Multi-head attention of x[batch, m, d] over memory[batch, n, d], after the output
        projection; `mask` is added to the scores[batch, heads, m, n]. `cached` puts a "key" or "value"
        [batch, heads, n, head_dim] behind earlier ones."""
        query = self._heads(self.linear(x, f"{prefix}.query", bias), heads, head_dim, (0, 2, 1, 3))
        turned = (0, 2, 3, 1) if cached is None else (0, 2, 1, 3)
        key = self._heads(self.linear(memory, f"{prefix}.key", bias), heads, head_dim, turned)
        value = self._heads(
            self.linear(memory, f"{prefix}.value", bias), heads, head_dim, (0, 2, 1, 3)
        )
        if cached is not None:
            key = self.op("Transpose", cached(key, "key"), perm=[0, 1, 3, 2])
            value = cached(value, "value")
        scores = self.op("MatMul", query, key, name=f"{prefix}.scores/MatMul")
        if scaled:
            root = self.scalar(math.sqrt(head_dim))
            scores = self.op("Div", scores, root, name=f"{prefix}.scores/Div")
        if mask is not None:
            scores = self.op("Add", scores, mask, name=f"{prefix}.scores/Add")
        weights = self.op("Softmax", scores, name=f"{prefix}/Softmax", axis=-1)
        context = self.op("MatMul", weights, value, name=f"{prefix}.context/MatMul")
        merged = self.op("Transpose", context, perm=[0, 2, 1, 3])
        flat = self.op("Reshape", merged, self.integers(0, 0, heads * head_dim))
        return self.linear(flat, f"{prefix}.output", bias)

    def length(self, tensor: str, axis: int) -> str:
        """Return the length of an axis as an int64 vector of one element."""
        shape = self.op("Shape", tensor)
        return self.op("Gather", shape, self.integers(axis), axis=0)

    def _heads(self, x: str, heads: int, head_dim: int, permutation: tuple[int, ...]) -> str:
        split = self.op("Reshape", x, self.integers(0, 0, heads, head_dim))
        return self.op("Transpose", split, perm=list(permutation))

    def _mean(self, x: str, prefix: str) -> str:
        name = f"{prefix}/ReduceMean"
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.integers(-1), name=name, keepdims=1)
        return self.op("ReduceMean", x, name=name, axes=[-1], keepdims=1)

    def _unique(self, label: str) -> str:
        count = self._used.get(label, 0)
        self._used[label] = count + 1
        return f"{label}_{count}" if count else label
