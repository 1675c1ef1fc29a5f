"""The commands of the joint search: `search`, `verify`, `study` and `report`. They parse, no more.

`register` adds them to the group that `cli` defines.
"""

from pathlib import Path
from typing import Any

import click

from codesign.search.cli.command_group import CommandGroup
from codesign.search.cli.options import PATH, POSITIVE, debug_option, json_option, workers_option
from codesign.search.joint.objectives import OBJECTIVES


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@click.command()
@click.option("--space", type=PATH, metavar="FILE.toml", help="The space to search; see docs/search.md.  [default: UCB/EECS-2023-92 x 432 machines]")  # fmt: skip
@click.option("--seq", type=POSITIVE, help="Sequence length, instead of the space's.")
@click.option("--uniform", is_flag=True, help="One head count and FFN width for all layers.")
@click.option("--minimize", type=_names, default="perplexity,edp", show_default=True,
              metavar="OBJECTIVES", help=f"Two or more of {', '.join(OBJECTIVES)}.")  # fmt: skip
@click.option("--quality", type=PATH, metavar="FILE.csv|.parquet",
              help="Measured subnets.  [default: a scaling law, labelled as a proxy]")  # fmt: skip
@click.option("--method", type=click.Choice(["nsga2", "random", "exhaustive"]), default="nsga2",
              show_default=True, help="How candidates are chosen.")  # fmt: skip
@click.option("--budget", type=click.IntRange(1, 20_000_000), default=100_000, show_default=True,
              help="Distinct candidates to evaluate, at most those that the space has.")  # fmt: skip
@click.option("--population", type=click.IntRange(8, 5_000), default=200, show_default=True,
              help="Candidates a generation, at most the budget.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 2), default=0, show_default=True,
              help="Of everything random.")  # fmt: skip
@click.option("--front", "points", type=POSITIVE, default=40, show_default=True,
              help="Points of the front to write out and price in full.")  # fmt: skip
@click.option("--warm-start", type=PATH, metavar="RUN|FILE.csv",
              help="Begin with the front of another search.")  # fmt: skip
@click.option("--objective", type=click.Choice(["cycles", "energy", "edp"]), default="edp",
              show_default=True, help="What the mapper minimises for each kernel.")  # fmt: skip
@click.option("--energy-table", default="default", show_default=True,
              metavar="default|timeloop-pat|FILE.yaml", help="Energy costs.")  # fmt: skip
@click.option("--area-table", default="default", show_default=True, metavar="default|FILE.yaml",
              help="Areas.")  # fmt: skip
@workers_option()
@click.option("--dask", metavar="ADDRESS", help="Price on a Dask cluster instead.")
@click.option("--resume", is_flag=True, help="Go on with a search that was stopped.")
@click.option("--out", "-o", type=PATH, metavar="DIR",
              help="Keep the run here.  [default: codesign-search, or -2, -3, ...]")  # fmt: skip
@json_option
@debug_option
@click.pass_obj
def search(command: str, /, **options: Any) -> None:
    """Search machines and Transformers together: the front of quality and EDP, plots and a report.

    The state is written after every generation: --resume goes on to the same front.
    """
    from codesign.search.commands.search_run import SearchRequest, run_search

    run_search(SearchRequest(command=command, **options))


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--out", "-o", type=PATH, metavar="FILE", help="The file.  [default: RUN/report.html]"
)
@click.option("--format", "form", type=click.Choice(["html", "md"]), default="html", show_default=True,
              help="A page by itself, or Markdown.")  # fmt: skip
@json_option
@debug_option
def report(run: Path, out: Path | None, form: str, as_json: bool) -> None:
    """Write the report of a search's RUN directory: one file that opens anywhere."""
    from codesign.search.report.pages import run_report

    run_report(run, out, form, as_json)


@click.command()
@click.argument("run", type=PATH)
@click.option("--points", default="all", show_default=True, metavar="all|COUNT|1,5,9",
              help="Points of the front: all, so many that cover most, or by number (5, is one).")  # fmt: skip
@click.option("--quality", type=PATH, metavar="FILE.csv|.parquet",
              help="The measured subnets of the run, if it had some: perplexities are compared too.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 2), default=0, show_default=True,
              help="Of the random operands.")  # fmt: skip
@workers_option()
@json_option
@debug_option
def verify(**options: Any) -> None:
    """Run the front of a search's RUN directory on the RTL: bytes, cycles and counts must agree.

    Each distinct kernel runs once and is kept: a verification that was stopped goes on.
    """
    from codesign.search.commands.verify_run import VerifyRequest, run_verify

    run_verify(VerifyRequest(**options))


@click.group(cls=CommandGroup)
def study() -> None:
    """Re-do a published comparison and print ours beside it."""


@study.command("two-stage")
@click.argument("run", type=PATH)
@click.option("--quality", type=PATH, metavar="FILE.csv|.parquet",
              help="The measured subnets of the run, if it had some.")  # fmt: skip
@workers_option()
@click.option("--dask", metavar="ADDRESS", help="Price on a Dask cluster instead.")
@json_option
@debug_option
def two_stage(**options: Any) -> None:
    """Beside the joint search in RUN: Transformers first, on `ibert`, then machines for the winners.

    Both spend the same budget; RUN keeps both fronts and its report shows them.
    """
    from codesign.search.commands.study import StudyRequest, run_two_stage

    run_two_stage(StudyRequest(**options))


def register(group: click.Group) -> None:
    """Add the commands to `codesign`."""
    group.add_command(study)
    group.add_command(search)
    group.add_command(verify)
    group.add_command(report)
