"""What `codesign export` does: a built-in model, or a trained checkpoint, as ONNX."""

from pathlib import Path
from typing import Any

from codesign.search.runs import output


def run_export(
    config: Any,
    path: Path,
    seq: int | None,
    batch: int | None,
    opset: int,
    seed: int,
    weights: Any,
    as_json: bool,
) -> None:
    """Write a model configuration as ONNX; None makes an axis dynamic."""
    from codesign.models.zoo.export import export, save
    from codesign.models.zoo.weights import parameter_count

    model = export(config, batch=batch, seq=seq, opset=opset, seed=seed, weights=weights)
    save(model, path)
    if as_json:
        kind = weights if isinstance(weights, str) else "trained"
        output.print_json(
            {
                "model": config.name,
                "file": str(path),
                "bytes": path.stat().st_size,
                "opset": opset,
                "weights": kind,
                "seed": seed if kind == "random" else None,
                "parameters": parameter_count(config),
                "inputs": {value.name: _extents(value) for value in model.graph.input},
                "outputs": {value.name: _extents(value) for value in model.graph.output},
            }
        )


def run_export_checkpoint(
    folder: Path, path: Path, seq: int | None, batch: int | None, opset: int, as_json: bool
) -> None:
    """Write a trained checkpoint as ONNX; None makes an axis dynamic."""
    from codesign.models.zoo.checkpoint import load_checkpoint

    config, weights = load_checkpoint(folder)
    run_export(config, path, seq, batch, opset, 0, weights, as_json)


def _extents(value: Any) -> list[int | str]:
    """The shape of an input or output of an ONNX graph, dynamic axes by name."""
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_param if d.HasField("dim_param") else d.dim_value for d in dimensions]
