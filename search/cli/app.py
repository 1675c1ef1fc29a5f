"""The command line: `codesign COMMAND [MODEL] [options]`. It parses; the modules of `search/commands` act.

Whatever a user can mend ends with exit code 2 and one line on standard error; a bug, and a sweep that
one has left incomplete, with 1. Only click is loaded before a command runs.
"""

import errno
import gc
import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from codesign.hw.errors import CodesignError
from codesign.hw.platform.text import printable, reason
from codesign.search.cli import network_commands, search_commands, train_commands
from codesign.search.cli.command_group import CommandGroup, Escaped
from codesign.search.cli.options import (
    MACHINE_NAMES,
    MODEL_NAMES,
    PATH,
    POSITIVE,
    area_option,
    counts,
    debug_option,
    extent_option,
    json_option,
    machine_options,
    model_options,
    out_option,
    past_extent,
    past_option,
    reader,
    workers_option,
)
from codesign.search.cli.signals import signals_interrupt
from codesign.search.cli.values import as_request

BUG, BAD_INPUT, BROKEN_PIPE = 1, 2, 141
SIGNALLED = 128  # and the number of the signal: 130 after Ctrl-C, 143 after SIGTERM
# Objects between collections: loading modules and pricing make many, and few that only a collection frees.
COLLECTED = 50_000

# Options that do not change results, with the number of values they take.
_NOT_IN_COMMAND = {
    "--out": 1, "-o": 1, "--jobs": 1, "-j": 1, "--waves": 1, "--json": 0, "--debug": 0,
    "--workers": 1, "--dask": 1, "--resume": 0,
}  # fmt: skip


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="codesign", prog_name="codesign", message="%(prog)s %(version)s")
@debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Co-design of int8 systolic-array accelerators and Transformers.

    MODEL is an ONNX file or a built-in model (codesign models lists them). Sizes read 64K, 64KiB or
    65536, lists 32K,64K, ranges 16K:512K:x2 and 16K:64K:+16K.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@model_options
@past_option
@machine_options
@area_option
@workers_option("--jobs")
@out_option("--out", "-o")
@json_option
@debug_option
@click.pass_obj
def sweep(command: str, /, workers: int | None, **options: Any) -> None:
    """Price MODEL on every machine of a grid: cycles, energy, EDP, area; of decoders also tokens.
    With --out what is done survives an interrupt, and the same command goes on from there.
    """
    from codesign.hw.platform.processes import cores
    from codesign.search.commands.sweep import run_sweep

    run_sweep(as_request(command, **options), cores() if workers is None else workers)


@cli.command()
@model_options
@past_option
@machine_options
@area_option
@click.option("--backend", type=click.Choice(["timing", "functional", "rtl"]), default="timing",
              show_default=True, help="Which view of the machine runs the model.")  # fmt: skip
@click.option("--kernel", metavar="NAME", help="functional, rtl: kernels with this in their names.")
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 2),
              help="functional, rtl: of the random operands.  [default: 0]")  # fmt: skip
@click.option("--waves", type=PATH, metavar="FILE.vcd|.fst",
              help="rtl: waves of one kernel; as .vcd some 20 KB a cycle.")  # fmt: skip
@out_option("--out", "-o")
@json_option
@debug_option
@click.pass_obj
def simulate(command: str, /, backend: str, kernel: str | None, seed: int | None,
             waves: Path | None, **options: Any) -> None:  # fmt: skip
    """Break MODEL on one machine down: kernels, energy, roofline, timeline; decoders by tokens.
    With --backend functional or rtl check it instead: every distinct kernel runs on random operands,
    and the RTL must agree in every byte of memory and in the cycles of every instruction.
    """
    from codesign.search.commands.check import run_check
    from codesign.search.commands.simulate import run_simulate

    given = {"--kernel": kernel, "--seed": seed, "--waves": waves}
    meant = {"timing": (), "functional": ("--kernel", "--seed"), "rtl": tuple(given)}[backend]
    for option, value in given.items():
        if value is not None and option not in meant:
            raise click.UsageError(f"{option} has no meaning with --backend {backend}")
    request = as_request(command, **options)
    if backend == "timing":
        run_simulate(request)
        return
    from codesign.search.checks.verify import CheckOptions

    run_check(request, CheckOptions(backend, kernel, seed or 0, waves))


@cli.command()
@click.argument("family", shell_complete=MODEL_NAMES)
@click.option(
    "-o",
    "--out",
    "path",
    type=PATH,
    required=True,
    metavar="FILE.onnx",
    help="The file to write.",
)
@extent_option("--seq", "dynamic", "Sequence length.")
@extent_option("--batch", "1", "Batch size.")
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX opset.")
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 2),
    default=0,
    show_default=True,
    help="Seed of random weights.",
)
@click.option(
    "--weights",
    type=click.Choice(["random", "splat"]),
    default="random",
    show_default=True,
    help="Random numbers, or one number each: a tiny file.",
)
@click.option("--layers", type=POSITIVE, help="lm, llama: layers.")
@click.option("--d-model", type=POSITIVE, help="lm, llama: width; of lm a multiple of 12.")
@click.option(
    "--heads",
    type=reader(counts),
    metavar="COUNTS",
    help="lm, llama: heads; of lm also a list, one a layer.",
)
@click.option(
    "--kv-heads", type=POSITIVE, help="llama: heads of keys and values, shared by the others."
)
@click.option(
    "--ffn", "d_ff", type=reader(counts), metavar="COUNTS", help="lm, llama: FFN widths, likewise."
)
@click.option("--vocab", "vocab_size", type=POSITIVE, help="lm, llama: vocabulary.")
@click.option("--no-head", "lm_head", flag_value=False, default=None, type=bool,
              help="lm, llama: without the projection to the vocabulary, as search prices it.")  # fmt: skip
@click.option("--last-logits", "logits", flag_value="last", default=None, type=str,
              help="lm, llama: logits of the last position alone.")  # fmt: skip
@click.option("--past", type=reader(past_extent), metavar="N|dynamic",
              help="lm, llama: tokens in a key-value cache that is an input; --seq follow them. "
                   "dynamic: any number, as generate takes it.")  # fmt: skip
@click.option("--tokenizer", type=PATH, metavar="FILE",
              help="Of llama2.c, for tokenizer.json beside the ONNX file.")  # fmt: skip
@json_option
@debug_option
def export(family: str, path: Path, seq: int | str, batch: int | str, opset: int, seed: int,
           weights: str, tokenizer: Path | None, as_json: bool, **shape: Any) -> None:  # fmt: skip
    """Write a built-in model FAMILY, or a shape of your own (lm, llama), as ONNX.

    FAMILY may be a folder that holds a trained BERT or LLaMA, as Hugging Face saves it (config.json
    and model.safetensors), or a checkpoint of llama2.c (.bin).
    """
    from codesign.search.commands.export import run_export, run_export_checkpoint
    from codesign.search.inputs.sources import exported

    if shape["past"] == "dynamic":
        shape |= {"past": None, "any_past": True}
    given = {name: value for name, value in shape.items() if value is not None}
    length = None if seq == "dynamic" else int(seq)
    size = None if batch == "dynamic" else int(batch)
    if tokenizer is not None and not family.endswith(".bin"):
        raise click.UsageError("--tokenizer is for a checkpoint of llama2.c")
    if Path(family).is_dir() or family.endswith(".bin"):
        if given.keys() - {"past", "any_past", "logits", "lm_head"} or weights != "random":
            raise click.UsageError(f"{family} has a shape and weights of its own: name no others")
        run_export_checkpoint(Path(family), path, length, size, opset, as_json, given, tokenizer)
        return
    config = exported(family, length, given)
    run_export(config, path, length, size, opset, seed, weights, as_json)


@cli.command()
@json_option
@debug_option
def models(as_json: bool) -> None:
    """List the built-in models."""
    from codesign.search.commands.catalog import show_models

    show_models(as_json)


@cli.command()
@click.argument("name", required=False, shell_complete=MACHINE_NAMES)
@click.option("--ert", is_flag=True, help="Its energy costs, for --energy-table.")
@click.option("--art", is_flag=True, help="Its areas, for --area-table.")
@json_option
@debug_option
def hardware(name: str | None, ert: bool, art: bool, as_json: bool) -> None:
    """List the preset machines; with NAME print one as TOML to start from.

    NAME may be a TOML file. --ert and --art print its costs as Accelergy tables to start from.
    """
    from codesign.search.commands.catalog import show_hardware

    if ert and art:
        raise click.UsageError("--ert and --art are two files: ask for one at a time")
    show_hardware(name, "ert" if ert else "art" if art else None, as_json)


network_commands.register(cli)
search_commands.register(cli)
train_commands.register(cli)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    gc.set_threshold(COLLECTED)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: nobody wants to read it
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without our characters still prints
    with signals_interrupt() as received:
        try:
            code = cli.main(arguments, "codesign", standalone_mode=False, obj=_command(arguments))
            sys.stdout.flush()
            return code or 0
        except (Escaped, OSError, KeyboardInterrupt) as error:
            return _ended(error.__cause__ or error, received, "--debug" in arguments)
        except (CodesignError, click.ClickException) as error:
            if "--debug" in arguments:
                raise
            code = error.exit_code if isinstance(error, CodesignError) else BAD_INPUT
            return _say(f"error: {_message(error)}", code)
        except Exception as error:
            if "--debug" in arguments:
                raise
            return _failed(error)


def _failed(error: Exception) -> int:
    """The exit code of a command that ran out of memory, lacked a package, or ran into a bug."""
    from codesign.hw.platform.installation import PACKAGE

    if isinstance(error, MemoryError):
        line = "this takes more memory than there is: give a smaller model or fewer samples"
        return _say(f"error: {line}", BAD_INPUT)
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if package not in ("", PACKAGE):
        line = f"codesign needs {package}, which cannot be imported ({reason(error)})"
        return _say(f"error: {line}: pip install {package}, or codesign again", BAD_INPUT)
    line = "this is a bug in codesign: repeat the command with --debug and report what it prints"
    return _say(f"error: {reason(error)}: {line}", BUG)


def _ended(error: BaseException, received: Sequence[int], debug: bool) -> int:
    """The exit code of a command that was interrupted, or lost a file or its reader."""
    if isinstance(error, BrokenPipeError):
        _silence(sys.stdout)  # the reader has gone: nothing more can be said, at exit neither
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        what = "terminated" if received else "interrupted"
        code = SIGNALLED + (received[0] if received else signal.SIGINT)
        return _say(": ".join([what, *map(str, error.args)]), code)
    if debug or not isinstance(error, OSError):
        raise error
    place = "standard output" if error.filename is None else error.filename
    remedy = (
        "make room and run the same command again"
        if error.errno == errno.ENOSPC
        else ("--debug shows where")
    )
    if error.filename is None:
        _silence(sys.stdout)
    return _say(f"error: cannot use {place}: {error.strerror or error}: {remedy}", BAD_INPUT)


def _command(arguments: Sequence[str]) -> str:
    """The command line without the options that do not change results."""
    kept: list[str] = ["codesign"]
    skip = 0
    for argument in arguments:
        name = argument.split("=")[0]
        if skip:
            skip -= 1
        elif (
            argument[:1] == "-" != argument[1:2]
            and len(argument) > 2
            and name[:2] in _NOT_IN_COMMAND
        ):
            continue  # -j2, -oDIR
        elif name in _NOT_IN_COMMAND:
            skip = _NOT_IN_COMMAND[name] if "=" not in argument else 0
        else:
            kept.append(argument)
    return shlex.join(kept)


def _message(error: CodesignError | click.ClickException) -> str:
    """One line, with a pointer to the help where it is the command line that is wrong."""
    if not isinstance(error, click.ClickException):
        return " ".join(str(error).split())
    text = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text += f" (see {error.ctx.command_path} --help)"
    return text


def _say(message: str, code: int) -> int:
    """The last line, on standard error, where it can be written."""
    with suppress(OSError):
        sys.stdout.flush()
    try:
        print(printable(f"codesign: {message}"), file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)
    return code


def _silence(stream: Any) -> None:
    """Let what a stream still holds go nowhere, at exit too."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
