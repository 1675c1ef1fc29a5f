"""What `codesign train` says: its first line, its table, its summary."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.models.quality.perplexities import Measured
from codesign.models.text.tokens import Tokens
from codesign.search.space.networks import each
from codesign.search.terminal.messages import say
from codesign.search.training.train_request import PreparedTraining, counted

if TYPE_CHECKING:
    from codesign.models.supernet.compute import Compute
    from codesign.models.supernet.from_scratch import Compared
    from codesign.models.supernet.measurement import Measurement

SPACE_FILE = "space.toml"
SIZE_CLASSES = 4  # of parameters, whose best subnets are shown
MOST_UNKNOWN = 0.2  # of the validation text, before it is warned of


@dataclass(frozen=True)
class TrainingResults:
    """What a training found, and what its decoders reach alone."""

    measurement: "Measurement"
    compared: "Sequence[Compared]"


def described(prepared: PreparedTraining) -> str:
    """The first line: what will be trained and measured, on what."""
    space, training, text = prepared.trained, prepared.training, prepared.text
    unknown = text.unknown
    words = unknown and f"; unknown {_percent(unknown[0])}, of validation {_percent(unknown[1])}"
    before = f" ({prepared.kept:,} measured before)" if prepared.kept else ""
    return (
        f"{space.size():.3g} Transformers, {counted(training.epochs, 'epoch')} of "
        f"{len(text.train):,} tokens of {text.name} (vocabulary {space.vocab_size:,}{words or ''}) in "
        f"batches of {training.batch} x {training.seq}, on {_where(prepared.compute)}; then "
        f"{counted(prepared.rows, 'subnet')}{before} on {len(text.validation):,} tokens; "
        f"files go to {prepared.request.out}"
    )


def warn_of_unknown_words(text: Tokens) -> None:
    """Say on standard error when much of the validation text is guessed too easily."""
    if text.unknown and text.unknown[1] > MOST_UNKNOWN:
        say(
            f"warning: {_percent(text.unknown[1])} of the validation text is unknown words, and "
            "guessing those is easy: give more text, a larger --vocabulary, or --tokens bytes"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _where(compute: "Compute") -> str:
    return compute.device if compute.ranks == 1 else f"{compute.ranks} ranks of {compute.device}"


def training_summary(prepared: PreparedTraining, results: TrainingResults) -> dict[str, Any]:
    """What `summary.json` holds."""
    predictor, unknown = results.measurement.predictor, prepared.text.unknown
    return {
        **asdict(prepared.compute),
        "subnets": len(results.measurement.table.rows),
        "unknown_words": unknown and {"train": unknown[0], "validation": unknown[1]},
        "perplexity_of": prepared.text.name,
        "shown": [{"subnet": name, **row.document()} for name, row in _shown(prepared, results)],
        "predictor": predictor
        and {
            "kind": predictor.kind,
            "judged_on": predictor.judged_on,
            "kendall_tau": predictor.kendall_tau,
            "error": predictor.error,
        },
        "from_scratch": {
            "kendall_tau": _tau(results),
            "decoders": [
                {
                    **pair.supernet.document(),
                    "parameters": _parameters(prepared, pair.supernet),
                    "alone": pair.alone,
                }
                for pair in results.compared
            ],
        }
        if results.compared
        else None,
    }


def _tau(results: TrainingResults) -> float | None:
    from codesign.models.supernet.from_scratch import kendall_tau

    return kendall_tau(results.compared)


def _parameters(prepared: PreparedTraining, row: Measured) -> int:
    networks = prepared.space.transformer
    values = {name: np.array([value]) for name, value in row.shape.values}
    return int(networks.kind.layer_parameters(values, dict(networks.options))[0])


def _shown(prepared: PreparedTraining, results: TrainingResults) -> Iterator[tuple[str, Measured]]:
    """The largest, the smallest, and the best of each class of size."""
    rows = results.measurement.table.rows
    largest, others = rows[0], rows[1:]
    yield "largest", largest
    whole = _parameters(prepared, largest)
    shares = [100 * _parameters(prepared, row) / whole for row in others]
    edges = [100 * part / SIZE_CLASSES for part in range(SIZE_CLASSES, -1, -1)]
    for upper, lower in pairwise(edges):
        within = [row for row, share in zip(others, shares, strict=True) if lower < share <= upper]
        best = min(within, key=lambda row: row.perplexity, default=None)
        if best is not None and best is not others[0]:
            yield f"best of {lower:g}–{upper:g} % of its parameters", best
    if others:
        yield "smallest", others[0]


def print_table(prepared: PreparedTraining, results: TrainingResults) -> None:
    """Print subnets of every size, how far they can be trusted, and what to do next."""
    from codesign.models.supernet.from_scratch import FEWEST
    from codesign.search.terminal import tables

    found, out = results.measurement, prepared.request.out
    console = tables.console()
    axes = prepared.space.transformer.axes
    headers = [("", ""), ("perplexity", ""), ("parameters", "no embeddings"),
               *((axis.header, "") for axis in axes)]  # fmt: skip
    cells = [
        [name, f"{row.perplexity:.3f}", f"{_parameters(prepared, row):,}",
         *(each(row.shape[axis.name]) for axis in axes)]
        for name, row in _shown(prepared, results)
    ]  # fmt: skip
    title = (
        f"{counted(len(found.table.rows), 'subnet')} measured on {prepared.text.name} in "
        f"{_time(found.measuring_seconds)}, after {_time(found.training_seconds)} of training"
    )
    console.print(tables.plain_table(headers, cells, title, console.width))
    lines = []
    if found.predictor:
        lines.append(f"Predictor: {found.predictor.describe()}")
    if results.compared:
        count, tau = len(results.compared), _tau(results)
        lines.append(
            f"{count} subnets trained from scratch with the same budget: Kendall tau "
            f"{'undefined' if tau is None else f'{tau:.3f}'} with the supernet"
            + ("" if count >= FEWEST else f" (too few to say: take {FEWEST})")
        )
        lines += [
            "  "
            + " ".join(
                axis.short.format(each(pair.supernet.shape[axis.name]))
                for axis in axes
                if axis.scope != "depth"
            )
            + f": {pair.supernet.perplexity:.3f} in the supernet, {pair.alone:.3f} alone"
            for pair in results.compared
        ]
    lines.append(
        f"codesign search --quality {out / 'perplexities.parquet'} --space {out / SPACE_FILE}"
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
