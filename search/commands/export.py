"""What `codesign export` does: a built-in model, or a trained checkpoint, as ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import refuse_damage
from codesign.search.inputs.tokens import TOKENIZER_FILE
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
    beside: Mapping[Path, bytes] | None = None,
) -> None:
    """Write a model configuration as ONNX, and the files `beside` with it or nothing at all; None makes
    an axis dynamic."""
    from codesign.models.zoo.export import export, save
    from codesign.models.zoo.weights import parameter_count

    model = export(config, batch=batch, seq=seq, opset=opset, seed=seed, weights=weights)
    save(model, path, beside)
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
    source: Path,
    path: Path,
    seq: int | None,
    batch: int | None,
    opset: int,
    as_json: bool,
    shape: Mapping[str, Any],
    tokenizer: Path | None,
) -> None:
    """Write a trained checkpoint as ONNX; None makes an axis dynamic.

    `source` is a folder as Hugging Face saves it, or a file of llama2.c; `tokenizer`, the latter's, is
    written as tokenizer.json beside the ONNX file. Raises ModelError, with nothing written.
    """
    from codesign.models.checkpoints.hugging_face import load_checkpoint
    from codesign.models.checkpoints.llama2c import load_llama2c

    config: Any
    config, weights = load_checkpoint(source) if source.is_dir() else load_llama2c(source)
    if shape:
        config = config.reshaped(shape)
    beside = {} if tokenizer is None else _tokenizer(tokenizer, config.vocab_size, path)
    run_export(config, path, seq, batch, opset, 0, weights, as_json, beside)


def _tokenizer(tokenizer: Path, vocabulary: int, path: Path) -> dict[Path, bytes]:
    """tokenizer.json beside `path`, and what it is to hold; raises ModelError where it is another's."""
    from codesign.models.text.llama2c import tokenizer_json

    text, beside = tokenizer_json(tokenizer, vocabulary).encode(), path.with_name(TOKENIZER_FILE)
    if beside.resolve() == path.resolve():
        raise ModelError(f"{path} is where the tokenizer goes: call the model FILE.onnx")
    if beside.exists():
        with refuse_damage(beside, ModelError, "write to another folder, or remove it"):
            before = beside.read_bytes()
        if before != text:
            raise ModelError(f"{beside} is of another model: write to another folder, or remove it")
    return {beside: text}


def _extents(value: Any) -> list[int | str]:
    """The shape of an input or output of an ONNX graph, dynamic axes by name."""
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_param if d.HasField("dim_param") else d.dim_value for d in dimensions]
