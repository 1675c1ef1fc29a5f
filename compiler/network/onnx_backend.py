"""The functional model as an ONNX backend (`onnx.backend.base`), so that ONNX's own tests can run on it.

int8 needs ranges, which a backend is not told: every call calibrates on its own inputs (min-max; where
a tensor is 0 on them, on random ones too), compiles for their shapes and runs. Weights of operators
that want them constant, and integers beside floats (axes, indices, masks), are constants of the call.
To deploy a model, calibrate with `compilation.compile_network`.
A device is a preset machine by its name; "CPU", ONNX's own default, is `ibert`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from codesign.compiler.importer.import_onnx import NothingToCompute, import_onnx
from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.numerics.calibrate import CalibrationError
from codesign.compiler.onnx.float_model import FloatModel
from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.machine.config import HardwareConfig, preset

Array = npt.NDArray[Any]
DEFAULT = "ibert"
# From which input on an operator's operands are weights or settings.
PARAMETERS = {
    "BatchNormalization": 1,
    "Clip": 1,
    "Conv": 1,
    "Gemm": 1,
    "Dropout": 1,
    "LayerNormalization": 1,
    "Pad": 1,
    "RMSNormalization": 1,
    "Resize": 1,
}


class FunctionalBackend(Backend):
    """Models on the functional model of a machine, one call at a time."""

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any
    ) -> "FunctionalModel":
        """The model ready to run on a device. `config`: a machine that is no preset.

        Raises onnx.checker.ValidationError for a model that is not valid, ConfigError for a device
        that is not there.
        """
        onnx.checker.check_model(model)
        return FunctionalModel(model, kwargs.get("config") or _machine(device))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node on `inputs`, in its order, as a named tuple.

        Raises ModelError for another number of inputs, and what `FunctionalModel.run` raises.
        """
        names = [name for name in node.input if name]
        if len(inputs) != len(names):
            raise ModelError(f"{node.op_type} has {len(names)} inputs, not {len(inputs)}: {names}")
        feeds = dict(zip(names, map(np.asarray, inputs), strict=True))
        given = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in feeds.items()
        ]
        wanted = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
        graph = helper.make_graph([node], "node", given, wanted)
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        model = helper.make_model_gen_version(
            graph, opset_imports=[helper.make_opsetid(node.domain, opset)]
        )
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        return cls.prepare(model, device, **kwargs).run(feeds)

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the importer knows every operator of the model; its shapes must be concrete."""
        try:
            import_onnx(model)
        except CodesignError:
            return False
        return True

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a preset machine has that name, or it is "CPU"."""
        try:
            _machine(device)
        except CodesignError:
            return False
        return True


@dataclass(frozen=True)
class FunctionalModel(BackendRep):
    """A model and the machine that it runs on."""

    model: onnx.ModelProto
    config: HardwareConfig

    def compiled(self, feeds: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
        """The network for these inputs, calibrated on them, and those that it still takes."""
        model, left = _bound(self.model, feeds)
        try:
            return compile_network(model, self.config, [left], batch=None), left
        except CalibrationError as error:
            try:
                return compile_network(model, self.config, [left, _alike(left)], batch=None), left
            except CalibrationError:
                raise CalibrationError(
                    f"a backend calibrates on the inputs of each call, and of these: {error}"
                ) from error

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs in the model's order as a named tuple; inputs in its order, or by name.

        Raises ModelError, UnsupportedError and the errors of `compile_network`, each one line.
        """
        feeds = self.feeds(inputs)
        names = [value.name for value in self.model.graph.output]
        try:
            found = run(*self.compiled(feeds))
        except NothingToCompute:  # integers alone: the host's
            found = FloatModel(self.model).part((), names)(feeds)
        return namedtupledict("Outputs", names)(*(found[name] for name in names))

    def feeds(self, inputs: Any) -> dict[str, Array]:
        """Inputs by name. Raises ModelError for one that is missing or that the model does not have."""
        graph = self.model.graph
        constants = {tensor.name for tensor in graph.initializer}
        names = [value.name for value in graph.input if value.name not in constants]
        if isinstance(inputs, Mapping):
            for problem, wrong in (
                ("needs", [name for name in names if name not in inputs]),
                ("does not take", [name for name in inputs if name not in names]),
            ):
                if wrong:
                    raise ModelError(f"the model {problem} {wrong[0]!r}: its inputs are {names}")
            return {name: np.asarray(value) for name, value in inputs.items()}
        if len(inputs) != len(names):
            raise ModelError(f"the model has {len(names)} inputs, not {len(inputs)}: {names}")
        return {name: np.asarray(value) for name, value in zip(names, inputs, strict=True)}


def _alike(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Floats drawn within the range of each input, so that what is 0 by chance gets a range."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.uniform(-1, 1, value.shape) * (np.abs(value).max() or 1)).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in feeds.items()
    }


def _machine(device: str) -> HardwareConfig:
    return preset(DEFAULT if device == "CPU" else device)


def _bound(
    model: onnx.ModelProto, feeds: Mapping[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with the shapes of the inputs at hand and parameters as constants; other inputs."""
    fixed = _parameters(model, feeds)
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    del bound.graph.input[:]
    for value in model.graph.input:
        if value.name in fixed:
            bound.graph.initializer.append(
                onnx.numpy_helper.from_array(feeds[value.name], value.name)
            )
        elif value.name in feeds:
            kind = value.type.tensor_type.elem_type
            shape = feeds[value.name].shape
            bound.graph.input.append(helper.make_tensor_value_info(value.name, kind, shape))
        else:
            bound.graph.input.append(value)
    return bound, {name: value for name, value in feeds.items() if name not in fixed}


def _parameters(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> set[str]:
    """Inputs that a call fixes: weights where operators want constants, and integers beside floats."""
    fixed = {
        name
        for node in model.graph.node
        for name in list(node.input)[PARAMETERS.get(node.op_type, len(node.input)) :]
    }
    fixed |= {name for name, value in feeds.items() if not value.size}
    kinds = {name: value.dtype.kind for name, value in feeds.items()}
    if any(kind == "f" and name not in fixed for name, kind in kinds.items()):
        fixed |= {name for name, kind in kinds.items() if kind in "biu"}
    return fixed & feeds.keys()
