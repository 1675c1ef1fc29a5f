"""The Python interface: a model in int8, compiled and run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import onnx

from codesign.compiler.kernels.mapspace import MAPPING_OBJECTIVES
from codesign.compiler.network import compilation, inference
from codesign.compiler.network.inference import Network
from codesign.compiler.network.rtl_backend import KernelCheck, Rtl
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.onnx.float_model import Array
from codesign.compiler.onnx.load import Dimensions, UnusableExtent, input_shapes, read_model
from codesign.hw.costs.energy import EnergyOverrides, cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.models.zoo.families import FAMILIES
from codesign.search.api import arguments
from codesign.search.api.arguments import ArgumentError, Feed, Named
from codesign.search.api.inputs import energy_costs, given_machine
from codesign.search.inputs.sources import Model, built_in_file


def compile(
    source: Named | onnx.ModelProto,
    config: HardwareConfig | Named,
    samples: Iterable[Feed],
    *,
    seq: SupportsIndex | None = None,
    batch: SupportsIndex | None = None,
    dimensions: Mapping[str, SupportsIndex] | None = None,
    objective: str = "cycles",
    energy_table: Named | EnergyOverrides = "default",
    options: Options = DEFAULT,
) -> Network:
    """Quantize a model to int8 on calibration samples and compile it for a machine.

    `source` is an ONNX file, float or quantized, as `onnx` reads it too, or a built-in model, whose
    weights are random. Kernels are mapped for `objective`, as in `price`. A batch is 1 unless given,
    or what the file fixes. Samples are the model's inputs by name, as arrays. Raises ModelError,
    UnsupportedError, MappingError, CalibrationError, QuantizationError or ArgumentError.
    """
    arguments.choice("objective", objective, MAPPING_OBJECTIVES)
    arguments.of_kind("options", options, Options, "Options")
    length = arguments.optional_whole("seq", seq, 1)
    size = arguments.optional_whole("batch", batch, 1)
    named = arguments.given_extents("dimensions", dimensions)
    given = arguments.collected(
        "samples", samples, "a list of the model's inputs: write [feeds] for one"
    )
    machine = given_machine("config", config)
    file, built_in = _file(source, length, size)
    length = None if built_in else length
    proto = read_model(file)
    extents = _extents(proto, size, length, named)
    shapes = input_shapes(proto, extents)
    types = _types(proto, shapes)
    return compilation.compile_network(
        file,
        machine,
        [arguments.feeds(f"sample {n}", one, types, shapes) for n, one in enumerate(given)],
        seq=length,
        batch=extents.batch,
        dims=named,
        objective=objective,
        table=cost_table(machine, energy_costs(energy_table)),
        options=options,
    )


def run(network: Network, feeds: Feed, backend: str = "functional") -> dict[str, Array]:
    """The outputs of a compiled network on one input, by name, in float.

    `backend` is "functional", the machine's functional model; "integers", the same numbers without
    a machine and faster; or "rtl", where every kernel must also agree with functional model and
    timing: it raises Disagreement where one does not, SimulatorError where RTL cannot run. Raises
    ArgumentError for feeds that are not the model's inputs.
    """
    arguments.of_kind("network", network, Network, "a Network, as `compile` gives it")
    arguments.choice("backend", backend, (*inference.BACKENDS, "rtl"))
    types = _types(network.model.proto, network.model.inputs)
    arrays = arguments.feeds("feeds", feeds, types, network.shapes)
    if backend != "rtl":
        return inference.run(network, arrays, backend)
    seen: list[KernelCheck] = []
    return inference.run(network, arrays, Rtl(network, seen.append))


def _file(
    source: Named | onnx.ModelProto, seq: int | None, batch: int | None
) -> tuple[Path | onnx.ModelProto, bool]:
    """What `source` names, as `onnx` reads it or as a file, and whether it is built in."""
    if isinstance(source, onnx.ModelProto):
        return source, False
    if isinstance(source, Model):
        raise ArgumentError(
            "source is a Model, which has no weights: give its ONNX file or its name"
        )
    name = arguments.place("source", source, "an ONNX file or the name of a built-in model")
    if name not in FAMILIES and (name.endswith(".onnx") or Path(name).exists()):
        return Path(name), False
    return built_in_file(name, seq, 1 if batch is None else batch), True


def _extents(
    proto: onnx.ModelProto, batch: int | None, seq: int | None, named: dict[str, int]
) -> Dimensions:
    """The extents to compile for: a batch of 1 where none is given and the file fixes no other."""
    if batch is None:
        try:
            input_shapes(proto, Dimensions(1, seq, dict(named)))
        except UnusableExtent:
            return Dimensions(None, seq, dict(named))
        return Dimensions(1, seq, dict(named))
    return Dimensions(batch, seq, dict(named))


def _types(proto: onnx.ModelProto, names: Iterable[str]) -> dict[str, np.dtype[Any]]:
    """The element types of some of a model's inputs."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
    return {name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kinds[name])) for name in names}
