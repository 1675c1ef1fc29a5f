"""The commands that compute a network in int8: `codesign run`, `generate` and `compile`. They parse, no more.

`register` adds them to the group that `cli` defines.
"""

from pathlib import Path
from typing import Any

import click

from codesign.search.cli.options import (
    MODEL_NAMES,
    PATH,
    POSITIVE,
    calibration_options,
    debug_option,
    json_option,
    machine_options,
    model_options,
    out_option,
    quantization_options,
)
from codesign.search.cli.values import as_quantization, as_request


@click.command()
@model_options
@machine_options
@quantization_options
@click.option("--text", "texts", multiple=True, help="An input as text; may be repeated.")
@click.option(
    "--input",
    "files",
    type=PATH,
    metavar="FILE.npz",
    multiple=True,
    help="An input, as arrays by the names of the model's inputs; may be repeated.",
)
@click.option(
    "--backend",
    type=click.Choice(["functional", "rtl", "integers"]),
    default="functional",
    show_default=True,
    help="What computes it; integers: the same numbers without a machine, fast.",
)
@click.option(
    "--report",
    is_flag=True,
    help="Also the error that every kernel adds, its cause and its remedy.",
)
@out_option("--out", "-o")
@json_option
@debug_option
@click.pass_obj
def run(command: str, /, backend: str, report: bool, texts: tuple[str, ...], files: tuple[Path, ...],
        **options: Any) -> None:  # fmt: skip
    """Run MODEL in int8 on an input, and compare with onnxruntime on the float model.

    Without --text and --input the input is random. Without --calibration, calibration is on sentences
    that ship with codesign where there is a tokenizer, else on random inputs. Built-in models have
    random weights. With --backend rtl every kernel must agree with the models of the machine.
    """
    from codesign.search.commands.run import RunOptions, run_network

    quantization = as_quantization(options)
    run_network(
        as_request(command, **options), RunOptions(backend, report, texts, files, quantization)
    )


@click.command("generate")
@click.argument("model", shell_complete=MODEL_NAMES)
@machine_options
@calibration_options
@click.option("--prompt", required=True, metavar="TEXT", help="What to go on from.")
@click.option("--tokens", type=POSITIVE, default=64, show_default=True, metavar="N",
              help="Tokens to write, unless the model ends before.")  # fmt: skip
@click.option(
    "--backend",
    type=click.Choice(["integers", "functional", "rtl"]),
    default="integers",
    show_default=True,
    help="What computes them; integers: the machine's numbers without a machine, fast.",
)
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True,
              help="Draw tokens by their scores over this; 0 takes the best.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 2), default=0, show_default=True,
              help="Of drawn tokens and of what is calibrated on.")  # fmt: skip
@json_option
@debug_option
@click.pass_obj
def generate_text(command: str, /, prompt: str, tokens: int, backend: str, temperature: float,
             **options: Any) -> None:  # fmt: skip
    """Write on behind a prompt with MODEL in int8, token after token.

    MODEL is a decoder's ONNX file with a tokenizer beside it, best with a key-value cache of any length
    (codesign export --past dynamic), which stays in DRAM. Calibration is on text. With --backend rtl one
    simulator runs every kernel, and must agree with the models of the machine.
    """
    from codesign.search.generation.generate import run_generate
    from codesign.search.generation.generated import GenerateOptions

    quantization = as_quantization(options)
    shape: dict[str, Any] = {"seq": None, "batch": None, "dimensions": ()}
    run_generate(
        as_request(command, **shape, **options),
        GenerateOptions(prompt, tokens, backend, temperature, quantization),
    )


@click.command("compile")
@model_options
@machine_options
@quantization_options
@click.option(
    "--weights/--no-weights",
    default=None,
    help="Quantize, or write the Program alone.  [default: only if MODEL is a file]",
)
@out_option("-o", "--out", required=True)
@json_option
@debug_option
@click.pass_obj
def compile_model(command: str, /, weights: bool | None, **options: Any) -> None:  # fmt: skip
    """Write the Program of MODEL: listing, mappings, memory map; and its weights in int8.

    With weights also the DRAM image, the encoded instructions, and where and in which scale every
    int8 tensor is. Calibration is as in codesign run.
    """
    from codesign.search.commands.compile import run_compile

    quantization = as_quantization(options)
    run_compile(as_request(command, **options), quantization, weights)


def register(group: click.Group) -> None:
    """Add the commands to `codesign`."""
    for command in (run, generate_text, compile_model):
        group.add_command(command)
