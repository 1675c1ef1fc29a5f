"""Spellings of one computation, and their price: what tests of prices share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.hw.machine.config import preset
from codesign.search.pricing.evaluate import evaluate

Price = tuple[int, int, int, float]


def price(model: onnx.ModelProto, machine: str = "ibert") -> Price:
    """Cycles, DRAM bytes, MACs and joules of a model."""
    priced = evaluate(import_onnx(model), preset(machine))
    return priced.cycles, priced.dram_bytes, priced.macs, float(priced.energy_j[1])


class _Random(CalibrationDataReader):  # type: ignore[misc]
    """One random input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        rng = np.random.default_rng(0)
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in model.graph.input
        }
        feeds = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
        self.left: Iterator[dict[str, Any]] = iter([feeds])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


def quantized(
    model: onnx.ModelProto, folder: Path, quant_format: QuantFormat
) -> onnx.ModelProto | None:
    """The model as onnxruntime's quantizer writes it by default; None where it breaks down, as it does
    on some operators that it has no quantized ones for."""
    path = folder / f"{quant_format.name}.onnx"
    try:
        quantize_static(model, path, _Random(model), quant_format=quant_format)
    except AttributeError:
        return None
    return onnx.load(path)
