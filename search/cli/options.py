"""Options that commands share, and how their values read. Only click is loaded here."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Function = TypeVar("Function", bound=Callable[..., Any])
_Value = TypeVar("_Value")


def reader(read: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Make click say what is wrong with a value instead of repeating it."""

    def convert(text: str) -> _Value:
        try:
            return read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return convert


class PathType(click.Path):
    """A path, which may not be empty; what it is for finds out whether it does."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; fails as click's own types do."""
        if not str(value):
            self.fail("the path is empty: name a file or folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathType()


def names_or_files(names: Callable[[], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """What completes an argument that is one of `names` or a file."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        known = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *known]

    return complete


def _models() -> Iterable[str]:
    from codesign.models.zoo.families import FAMILIES

    return FAMILIES


def _machines() -> Iterable[str]:
    from codesign.hw.machine.config import PRESETS

    return PRESETS


MODEL_NAMES, MACHINE_NAMES = names_or_files(_models), names_or_files(_machines)


def sizes(text: str) -> tuple[int, ...]:
    """Bytes, lists and ranges of them."""
    from codesign.search.inputs import grid

    return grid.parse_values(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers, lists and ranges of them."""
    from codesign.search.inputs import grid

    return grid.parse_values(text, grid.parse_count)


def frequency(text: str) -> int:
    """Hertz."""
    from codesign.search.inputs import grid

    return grid.parse_frequency(text)


def extent(text: str) -> int | str:
    """A positive whole number, or `dynamic` for an axis that the file leaves open."""
    if text != "dynamic" and (not text.isdigit() or int(text) == 0):
        raise ValueError(f"{text!r} is neither a positive whole number nor 'dynamic'")
    return text if text == "dynamic" else int(text)


def past_extent(text: str) -> int | str:
    """A whole number, or `dynamic` for a cache of any length."""
    if text != "dynamic" and not text.isdecimal():
        raise ValueError(f"{text!r} is neither a whole number nor 'dynamic'")
    return text if text == "dynamic" else int(text)


def extent_option(name: str, default: str, help: str) -> Callable[[Function], Function]:
    """The extent of an axis of a file that is written."""
    return click.option(name, type=reader(extent), metavar="N|dynamic", default=default,
                        show_default=True, help=help)  # fmt: skip


def binding(text: str) -> tuple[str, int]:
    """The name and extent of a symbolic dimension."""
    name, equals, extent = text.rpartition("=")
    if not (equals and name and extent.isdecimal()):
        raise ValueError(f"{text!r} is not NAME=VALUE with a whole number")
    return name, int(extent)


def bindings(
    ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    """Each dimension once. Raises BadParameter for one of two extents."""
    extents: dict[str, int] = {}
    for name, extent in given:
        if extents.setdefault(name, extent) != extent:
            raise click.BadParameter(
                f"{name!r} is given {extents[name]} and {extent}: give it once", ctx, param
            )
    return tuple(extents.items())


# option, field of HardwareConfig, how its values read, help
AXES: tuple[tuple[str, str, Callable[[str], tuple[int, ...]], str, str], ...] = (
    ("--scratchpad", "scratchpad_bytes", sizes, "SIZES", "Scratchpad sizes, for example 64K."),
    ("--acc", "accumulator_bytes", sizes, "SIZES", "Accumulator sizes, for example 256K."),
    ("--dim", "dim", counts, "COUNTS", "Sides of the mesh."),
    ("--bus", "bus_bytes", sizes, "SIZES", "Bytes per beat of the DRAM bus."),
    ("--latency", "dram_latency_cycles", counts, "COUNTS", "DRAM latencies in cycles."),
    ("--scratchpad-banks", "scratchpad_banks", counts, "COUNTS", "Banks of the scratchpad."),
    ("--acc-banks", "accumulator_banks", counts, "COUNTS", "Banks of the accumulator."),
)


def grouped(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several options as one decorator."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
POSITIVE = click.IntRange(min=1)
model_options = grouped(
    click.argument("model", default="bert-base", shell_complete=MODEL_NAMES),
    click.option("--seq", type=POSITIVE, help="Sequence length.  [default: 128 where dynamic]"),
    click.option("--batch", type=POSITIVE, help="Batch size.  [default: 1 where dynamic]"),
    click.option(
        "--bind",
        "dimensions",
        type=reader(binding),
        metavar="NAME=VALUE",
        multiple=True,
        callback=bindings,
        help="Another symbolic dimension.",
    ),
)
past_option = click.option(
    "--past", type=click.IntRange(min=0), metavar="N",
    help="Decoders: one step of --seq tokens (1 unless given) behind N in the key-value cache.",
)  # fmt: skip
machine_options = grouped(
    click.option("--hw", "hardware", default="ibert", show_default=True, metavar="PRESET|FILE.toml",
                 shell_complete=MACHINE_NAMES, help="The machine; see codesign hardware."),
    *(click.option(option, field, type=reader(read), metavar=metavar, help=text)
      for option, field, read, metavar, text in AXES),
    click.option("--clock", "clock_hz", type=reader(frequency), metavar="FREQUENCY", help="Clock, for example 500MHz."),
    click.option("--technology", "technology_nm", type=click.Choice(["22", "32", "45"]),
                 help="Node in nm."),
    click.option("--objective", type=click.Choice(["cycles", "energy", "edp"]), default="edp",
                 show_default=True, help="What the mapper minimises."),
    click.option("--energy-table", default="default", show_default=True,
                 metavar="default|timeloop-pat|FILE.yaml",
                 help="Energy costs: shipped ones, or an Accelergy ERT."),
)  # fmt: skip

calibration_options = grouped(
    click.option("--calibration", type=PATH, metavar="FILE|DIR",
                 help="Data to calibrate on: sentences (.txt, one a line), samples (.npz), or a folder of them."),
    click.option("--samples", type=POSITIVE,
                 help="Calibrate on so many at most.  [default: 64, of random inputs 16]"),
    click.option("--method", metavar="NAME",
                 help="How ranges are chosen: minmax, percentile, mse or entropy.  [default: minmax]"),
    click.option("--smoothing", type=float, metavar="0..1",
                 help="How far scales follow channels; 0 is one scale a tensor.  [default: least error]"),
    click.option("--tensor-weights", is_flag=True,
                 help="One scale a weight matrix, not one a channel."),
    click.option("--tokenizer", type=PATH, metavar="FILE|DIR",
                 help="tokenizer.json, or BERT's vocab.txt.  [default: beside MODEL]"),
)  # fmt: skip
quantization_options = grouped(
    calibration_options,
    click.option("--seed", type=click.IntRange(0, (1 << 31) - 2), default=0, show_default=True,
                 help="Of random weights and inputs."),
)  # fmt: skip

area_option = click.option(
    "--area-table", default="default", show_default=True, metavar="default|FILE.yaml",
    help="Areas: shipped ones, or an Accelergy ART.",
)  # fmt: skip


def workers_option(
    *also: str, help: str = "Processes.  [default: all cores]"
) -> Callable[[Function], Function]:
    """The option that says how many processes share the work; `also` are other names for it."""
    return click.option("-j", "--workers", *also, "workers", type=POSITIVE, help=help)


def out_option(*names: str, required: bool = False) -> Callable[[Function], Function]:
    """The option that keeps a run."""
    return click.option(
        *names,
        "out",
        type=PATH,
        required=required,
        metavar="DIR",
        help="Keep the run here.",
    )
