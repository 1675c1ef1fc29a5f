"""torch's two exporters as a user calls them: symbolic axes, one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


def bert_sizes(
    layers: int, heads: int, width: int, feed_forward: int, vocabulary: int, positions: int
) -> dict[str, Any]:
    """The sizes of a BERT as the configurations of transformers call them."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
    }


def write(
    model: Any,
    arguments: tuple[Any, ...],
    axes: Mapping[str, Mapping[int, str]],
    path: Path,
    *,
    dynamo: bool,
    outputs: list[str] | None = None,
) -> None:
    """Export a module that takes positional `arguments`; `axes` names them and their open extents."""
    torch = pytest.importorskip("torch")
    options = (
        {"dynamo": True, "dynamic_shapes": (tuple(axes.values()),), "external_data": False}
        if dynamo
        else {"dynamo": False, "dynamic_axes": axes}
    )
    with torch.no_grad():
        torch.onnx.export(
            model.eval(), arguments, path, input_names=list(axes), output_names=outputs, **options
        )
