"""The float model itself, whole or in parts, run by onnxruntime.

Quantization needs what the importer leaves behind: values. A `Part` is the piece of the ONNX graph
between some of its tensors and others, plumbing included, so that constants can be probed
(`probe`), ranges observed (`calibrate`) and the host's share of a network run (`inference`).
"""

import re
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from codesign.compiler.onnx.boundary import file_reason, reading
from codesign.compiler.onnx.external import load_external
from codesign.compiler.onnx.load import inlined, load_file, read_model
from codesign.compiler.onnx.precision import OTHER_FLOATS
from codesign.hw.errors import ModelError
from codesign.hw.platform.installation import install_command
from codesign.hw.platform.text import printable

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
LONGEST_REASON = 240  # characters of what onnxruntime says


def load_float_model(source: Path | onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights. Raises ModelError for a file that cannot be read."""
    if isinstance(source, Path):
        with reading(str(source)):
            model = load_file(source)
            load_external(model, source.parent)
        return model
    return source


class FloatModel:
    """An ONNX model with its weights. Raises ModelError for one that cannot be read."""

    def __init__(self, source: Path | onnx.ModelProto) -> None:
        source = load_float_model(source)
        self.proto = inlined(source, "the model")
        graph = self.proto.graph
        self.nodes = tuple(graph.node)
        self.writers = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }
        self.initializers: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self.inputs = {
            value.name: value for value in graph.input if value.name not in self.initializers
        }
        self.outputs = tuple(value.name for value in graph.output)
        self._parts: dict[tuple[tuple[str, ...], tuple[str, ...]], Part] = {}

    def __getstate__(self) -> dict[str, Any]:
        """All but the sessions of its parts, which no other process can have."""
        return {**self.__dict__, "_parts": {}}

    @cached_property
    def types(self) -> Mapping[str, int]:
        """Element types by tensor, as far as ONNX's inference tells them."""
        model = read_model(self.proto)
        for value in model.graph.output:  # as the file declares them, see `declared`
            value.ClearField("type")
        try:
            inferred = onnx.shape_inference.infer_shapes(model).graph
        except (
            RuntimeError,
            ValueError,
            onnx.shape_inference.InferenceError,
        ):  # an operator that ONNX does not know in that form
            inferred = self.proto.graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        return {value.name: value.type.tensor_type.elem_type for value in values}

    def declared(self, outputs: Feeds) -> dict[str, Array]:
        """Outputs in the float types that the model declares, where they were computed in float32."""
        kinds = {value.name: value.type.tensor_type.elem_type for value in self.proto.graph.output}
        with np.errstate(over="ignore"):  # inf, as the file's own operators make it
            return self._declared(outputs, kinds)

    def _declared(self, outputs: Feeds, kinds: Mapping[str, int]) -> dict[str, Array]:
        return {
            name: value.astype(onnx.helper.tensor_dtype_to_np_dtype(kinds[name]))
            if value.dtype == np.float32 and kinds.get(name) in OTHER_FLOATS
            else value
            for name, value in outputs.items()
        }

    def has(self, tensor: str) -> bool:
        """Whether the ONNX graph computes a tensor of this name, or is given it."""
        return any(tensor in of for of in (self.writers, self.inputs, self.initializers))

    def depends(self, tensor: str) -> bool:
        """Whether a tensor depends on the model's inputs at all."""
        return tensor in self._varying

    @cached_property
    def _varying(self) -> set[str]:
        varying = set(self.inputs)
        for node in self.nodes:  # in the order of the data
            if varying.intersection(node.input):
                varying.update(node.output)
        return varying

    def constant(self, tensor: str) -> onnx.TensorProto | None:
        """The tensor that an initializer or a Constant node holds, None for any other name."""
        if tensor in self.initializers:
            return self.initializers[tensor]
        writer = self.nodes[self.writers[tensor]] if tensor in self.writers else None
        if writer is None or writer.op_type != "Constant":
            return None
        held: list[onnx.TensorProto] = [a.t for a in writer.attribute if a.name == "value"]
        return held[0] if held else None

    def broken_weight(self) -> str:
        """The first weight that holds a NaN or +inf (masks hold -inf), or nothing."""
        for name, tensor in self.initializers.items():
            value = onnx.numpy_helper.to_array(tensor)
            if value.dtype.kind == "f" and not (value < np.inf).all():
                return name
        return ""

    def rewritten(self, nodes: Mapping[int, Sequence[onnx.NodeProto]]) -> "FloatModel":
        """The model with others in the place of some of its nodes, by number; they share the rest."""
        model = copy(self)
        model.nodes = tuple(
            each for index, node in enumerate(self.nodes) for each in nodes.get(index, (node,))
        )
        model.writers = {
            name: index for index, node in enumerate(model.nodes) for name in node.output if name
        }
        model._parts = {}
        model.__dict__.pop("_varying", None)
        return model

    def part(self, given: Sequence[str], wanted: Sequence[str]) -> "Part":
        """The piece of the graph that computes `wanted` where the tensors `given` are known.

        Raises ModelError for a tensor that the ONNX graph does not have.
        """
        key = (tuple(dict.fromkeys(given)), tuple(dict.fromkeys(wanted)))
        if key not in self._parts:
            self._parts[key] = Part(self, *key)
        return self._parts[key]


class Part:
    """A piece of a FloatModel: call it with the values of its `inputs`."""

    def __init__(self, model: FloatModel, given: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        self._constants = {  # an output may be a constant of the file
            name: onnx.numpy_helper.to_array(model.initializers[name])
            for name in wanted
            if name in model.initializers
        }
        self.wanted = wanted
        wanted = tuple(name for name in wanted if name not in self._constants)
        missing = [name for name in (*given, *wanted) if not model.has(name)]
        if missing:
            raise ModelError(
                f"tensor {missing[0]!r} is made by the import and is not in the ONNX file: "
                "export the model with standard operators"
            )
        nodes, names = needed(model, set(given), [w for w in wanted if w not in given])
        self.inputs = tuple(
            name
            for name in dict.fromkeys((*given, *model.inputs))
            if name in names or name in wanted
        )
        graph = onnx.GraphProto(name="part")
        graph.node.extend(model.nodes[index] for index in sorted(nodes))
        graph.initializer.extend(
            tensor for name, tensor in model.initializers.items() if name in names
        )
        for name in self.inputs:
            declared = name in model.inputs and name not in given
            graph.input.append(model.inputs[name] if declared else _tensor(name, model))
        self._dtypes = {
            value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in graph.input
        }
        graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in wanted if name not in self.inputs
        )
        self._session = _session(model, graph) if graph.node else None
        self._computed = tuple(output.name for output in graph.output)

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """Values of the wanted tensors. Raises ModelError where onnxruntime cannot compute them."""
        lacking = [name for name in self.inputs if name not in feeds]
        if lacking:
            raise ModelError(f"input {lacking[0]!r} of the model is missing from the data")
        known = {name: self._typed(name, feeds[name]) for name in self.inputs}
        if self._session is not None:
            try:
                results = self._session.run(list(self._computed), known)
            except Exception as error:  # onnxruntime's own types derive from Exception alone
                raise ModelError(
                    f"onnxruntime cannot compute the model on its inputs ({_reason(error)}): give "
                    "others (--input, --calibration) or another --seq"
                ) from error
            known |= dict(zip(self._computed, results, strict=True))
        known |= self._constants
        return {name: np.asarray(known[name]) for name in self.wanted}

    def _typed(self, name: str, value: Array) -> Array:
        """Floats in the model's own width."""
        wanted = self._dtypes[name]
        return value.astype(wanted) if wanted != value.dtype and value.dtype.kind == "f" else value


def needed(model: FloatModel, given: set[str], wanted: list[str]) -> tuple[set[int], set[str]]:
    """Numbers of the nodes between tensors `given` and `wanted`, and every tensor they read."""
    nodes: set[int] = set()
    names: set[str] = set()
    open_names = list(wanted)
    while open_names:
        name = open_names.pop()
        if name in names:
            continue
        names.add(name)
        index = model.writers.get(name)
        if name not in given and index is not None and index not in nodes:
            nodes.add(index)
            open_names += reads(model.nodes[index])
    return nodes, names


def reads(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node reads, also in the graphs inside of it."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            own = {name for inner in graph.node for name in inner.output}
            own |= {value.name for value in (*graph.input, *graph.initializer)}
            outer = [name for inner in graph.node for name in reads(inner)]
            outer += [value.name for value in graph.output]
            found += [name for name in outer if name not in own]
    return found


def _tensor(name: str, model: FloatModel) -> onnx.ValueInfoProto:
    kind = model.types.get(name) or onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, None)


def _session(model: FloatModel, graph: onnx.GraphProto) -> Any:
    try:
        import onnxruntime
    except Exception as error:  # what is installed and broken may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        why = "" if missing else f", which cannot be imported ({file_reason(error)})"
        raise ModelError(
            f"running a float model needs onnxruntime{why}: {install_command('run')}"
        ) from error
    proto = onnx.ModelProto(
        ir_version=model.proto.ir_version, opset_import=model.proto.opset_import, graph=graph
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and said once
    options.enable_cpu_mem_arena = False  # pieces of a long sequence would keep gigabytes each
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(f"onnxruntime: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What onnxruntime says, without the number and the name of its status."""
    status = re.match(
        r"\[ONNXRuntimeError\] : \d+ : \w+ : (Non-zero .* while running )?", str(error)
    )
    if status is None:
        return file_reason(error)
    return printable(" ".join(str(error)[status.end() :].split())[:LONGEST_REASON])
