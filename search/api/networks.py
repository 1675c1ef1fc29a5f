"""The Python interface: a model in int8, compiled and run."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from codesign.compiler.network import inference
from codesign.compiler.network.inference import Network
from codesign.compiler.network.rtl_backend import KernelCheck, Rtl
from codesign.compiler.numerics.options import DEFAULT, Options
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.hw.costs.energy import EnergyOverrides, cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.models.zoo.families import FAMILIES
from codesign.search.api.inputs import Named, energy_costs
from codesign.search.inputs.sources import built_in_file


def compile(
    source: Named | onnx.ModelProto,
    config: HardwareConfig,
    samples: Iterable[Feeds],
    *,
    seq: int | None = None,
    batch: int | None = 1,
    dimensions: Mapping[str, int] | None = None,
    objective: str = "cycles",
    energy_table: Named | EnergyOverrides = "default",
    options: Options = DEFAULT,
) -> Network:
    """Quantize a model to int8 on calibration samples and compile it for a machine.

    `source` is an ONNX file, float or quantized, as `onnx` reads it too, or a built-in model, whose
    weights are random. Kernels are mapped for `objective`, as in `price`.
    Samples are the model's inputs by name, as arrays. Raises ModelError, UnsupportedError,
    MappingError, CalibrationError or QuantizationError.
    """
    file, length = source, seq
    if not isinstance(source, onnx.ModelProto):
        built_in = str(source) in FAMILIES
        file = built_in_file(str(source), seq, batch) if built_in else Path(source)
        length = None if built_in else seq
    return inference.compile_network(
        file,  # type: ignore[arg-type]
        config,
        samples,
        seq=length,
        batch=batch,
        dims=dimensions,
        objective=objective,
        table=cost_table(config, energy_costs(energy_table)),
        options=options,
    )


def run(network: Network, feeds: Feeds, backend: str = "functional") -> dict[str, Array]:
    """The outputs of a compiled network on one input, by name, in float.

    `backend` is "functional", the machine's functional model; "integers", the same numbers without
    a machine and faster; or "rtl", where every kernel must also agree with functional model and
    timing: it raises Disagreement where one does not, SimulatorError where RTL cannot run.
    """
    if backend != "rtl":
        return inference.run(network, feeds, backend)
    seen: list[KernelCheck] = []
    return inference.run(network, feeds, Rtl(network, seen.append))
