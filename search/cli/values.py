"""Options of commands as the values that commands take. What those are of is loaded when a command runs."""

from typing import TYPE_CHECKING, Any

from codesign.search.cli.options import AXES

if TYPE_CHECKING:
    from codesign.search.commands.network import Quantization
    from codesign.search.commands.request import Request


def as_quantization(options: dict[str, Any]) -> "Quantization":
    """The options of quantization as one value, taken out of `options`."""
    from codesign.compiler.numerics.options import Options
    from codesign.search.commands.network import Quantization

    chosen = {name: options.pop(name) for name in ("method", "smoothing")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    channels = not options.pop("tensor_weights")
    data = {name: options.pop(name) for name in ("calibration", "samples", "tokenizer", "seed")}
    return Quantization(choices=Options(**chosen, channel_weights=channels), **data)


def as_request(command: str, **options: Any) -> "Request":
    """The options of sweep, simulate and compile as one value."""
    from codesign.search.commands.request import Request

    fields = {field: options.pop(field) for _, field, _, _, _ in AXES}
    axes = {field: values for field, values in fields.items() if values is not None}
    fixed = {field: options.pop(field) for field in ("clock_hz", "technology_nm")}
    fixed = {field: int(value) for field, value in fixed.items() if value is not None}
    return Request(command=command, axes=axes, fixed=fixed, **options)
