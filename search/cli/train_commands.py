"""The command that trains a supernet: `codesign train`. It parses, no more.

`register` adds it to the group that `cli` defines.
"""

import math
from typing import Any

import click

from codesign.search.cli.options import PATH, POSITIVE, debug_option, json_option, workers_option

COUNT = click.IntRange(1, 1_000_000)


class Finite(click.FloatRange):
    """A range of numbers, which `nan` and infinity are not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails as click's own types do."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


@click.command()
@click.option("--data", type=PATH, metavar="FILE|FOLDER",
              help="Text, or a folder of train.txt and valid.txt.  [default: a built-in grammar]")  # fmt: skip
@click.option("--validation", type=PATH, metavar="FILE",
              help="Text to measure on.  [default: every tenth line of FILE]")  # fmt: skip
@click.option(
    "--tokens", type=click.Choice(["words", "bytes"]), help="What a token is.  [default: words]"
)
@click.option(
    "--vocabulary", type=POSITIVE, help="Keep so many words, the most frequent.  [default: all]"
)
@click.option("--space", default="survey", show_default=True, metavar="survey|small|FILE.toml",
              help="The Transformers; a FILE is as `codesign search` takes it. For the names, give search the run's space.toml.")  # fmt: skip
@click.option("--epochs", type=COUNT, help="Times through the text.  [default: 50; small: 4]")
@click.option("--batch", type=COUNT, default=16, show_default=True, help="Sequences a step.")
@click.option("--seq", type=COUNT, help="Tokens a sequence.  [default: 512; else the space's]")
@click.option("--learning-rate", type=Finite(0, min_open=True),
              help="At its highest.  [default: 1e-3; small: 6e-3]")  # fmt: skip
@click.option("--dropout", type=Finite(0, 1, max_open=True), default=0.0, show_default=True,
              help="Of the largest subnet.")  # fmt: skip
@click.option("--distil/--no-distil", default=True, show_default=True,
              help="Smaller subnets learn the largest's probabilities, not the text.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 2), default=0, show_default=True,
              help="Of everything random.")  # fmt: skip
@click.option("--subnets", type=COUNT, help="Measure so many.  [default: 1000; small: 200]")
@click.option("--honest", type=click.IntRange(min=2), metavar="N",
              help="Train N subnets from scratch too; say how well the supernet ranks them (take 8 or more).")  # fmt: skip
@click.option("--device", metavar="cpu|cuda|cuda:N",
              help="Where to compute.  [default: cuda where there is one]")  # fmt: skip
@click.option("--ranks", type=click.IntRange(1, 1024), default=1, show_default=True,
              help="Processes that share every batch, a GPU each on cuda (DistributedDataParallel).")  # fmt: skip
@click.option("--compile/--no-compile", "compiled", default=None,
              help="Layers by torch.compile.  [default: on cuda]")  # fmt: skip
@workers_option(help="Processes of --honest, on the cpu.  [default: all cores]")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
@click.option("--out", "-o", type=PATH, default="codesign-train", show_default=True, metavar="DIR",
              help="Keep the run here.")  # fmt: skip
@json_option
@debug_option
@click.pass_obj
def train(command: str, /, **options: Any) -> None:
    """Train one supernet for a space of Transformers; measure perplexities for `codesign search`.

    Training is saved after every epoch: --resume goes on to the same result.
    """
    from codesign.search.training.train_request import TrainRequest
    from codesign.search.training.train_run import run_train

    run_train(TrainRequest(command=command, **options))


def register(group: click.Group) -> None:
    """Add the command to `codesign`."""
    group.add_command(train)
