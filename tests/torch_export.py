"""torch's two exporters as a user calls them: symbolic axes, one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


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
