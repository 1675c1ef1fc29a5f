"""From text to the table of perplexities: train a supernet, measure networks, fit the predictor.

The whole way of `codesign train` behind one function. The folder that it is given holds the
supernet (`supernet.pt`), its losses (`training.csv`) and the table (`perplexities.parquet` and
.csv), each from the first epoch or the first networks on, so that a run that ends early keeps what
it has and resumes.
"""

import dataclasses
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.hw.errors import ModelError
from codesign.models.quality.perplexities import (
    Measured,
    Perplexities,
    read_perplexities,
    write_perplexities,
)
from codesign.models.quality.predictor import FEWEST_ROWS, Predictor, fit_predictor
from codesign.models.supernet.compute import CPU, Compute
from codesign.models.supernet.schedule import Training, windows
from codesign.models.supernet.space import SubnetSpace
from codesign.models.supernet.supernet import measure, train
from codesign.models.text.tokens import Tokens
from codesign.models.zoo.model_config import TextConfig

if TYPE_CHECKING:
    from codesign.models.supernet.training_loop import TrainingProgress
    from codesign.models.supernet.training_state import TrainingStep

TABLE = "perplexities"  # .parquet, .csv
SAVE_SECONDS = 30.0
SAMPLE_SEED = 1  # beside the seed of training: which decoders are measured


@dataclass(frozen=True)
class Measurement:
    """The table, the predictor when there are networks enough for one, and how it came about."""

    table: Perplexities
    predictor: Predictor | None
    log: "Sequence[TrainingStep]"  # of the whole training
    training_seconds: float  # of this call: none for what was resumed
    measuring_seconds: float


def train_and_measure(
    text: Tokens,
    space: SubnetSpace,
    training: Training,
    out: Path,
    *,
    networks: int = 1000,
    resume: bool = False,
    compute: Compute = CPU,
    on_training: Callable[["TrainingProgress"], None] | None = None,
    before_save: Callable[[], None] | None = None,
    on_measured: Callable[[int, Measured], None] | None = None,
) -> Measurement:
    """Train on `text.train`, then measure the largest, the smallest and random others, `networks`
    in all, on `text.validation`; `on_measured` gets the count so far and the latest.

    The space takes the vocabulary of the text. A smaller one is measured whole, and what `resume`
    finds is kept where it is more. Raises ModelError as `supernet.train` and `kept` do.
    """
    windows(text.validation, training.seq)  # raises before the training what it would after
    space = dataclasses.replace(space, vocab_size=len(text.vocabulary))
    rows = list(kept(text, space, training, out)) if resume else []
    start = time.monotonic()
    net = train(
        text.train, space, training, out,
        resume=resume, compute=compute, report=on_training, before_save=before_save,
    )  # fmt: skip
    path, axes = out / f"{TABLE}.parquet", space.kind.axes()
    metadata = table_document(text, space, training)
    trained = saved = time.monotonic()
    try:
        for row in measure(
            net,
            islice(_chosen(space, networks, training.seed), len(rows), None),
            text.validation,
            training.seq,
            training.batch,
        ):
            rows.append(row)
            if on_measured:
                on_measured(len(rows), row)
            if time.monotonic() - saved > SAVE_SECONDS:
                write_perplexities(Perplexities(axes, tuple(rows), metadata), path)
                saved = time.monotonic()
    finally:
        table = Perplexities(axes, tuple(rows), metadata)
        write_perplexities(table, path)
        write_perplexities(table, path.with_suffix(".csv"))
    ended = time.monotonic()
    predictor = fit_predictor(rows, space.kind, training.seed) if len(rows) >= FEWEST_ROWS else None
    return Measurement(table, predictor, net.log, trained - start, ended - trained)


def kept(text: Tokens, space: SubnetSpace, training: Training, out: Path) -> tuple[Measured, ...]:
    """Return the rows that a measurement in `out` has already, for another to go on from.

    Raises ModelError when they are damaged, or not the first that this one chooses.
    """
    path = out / f"{TABLE}.parquet"
    if not path.exists():
        return ()
    remedy = "delete it, and it is measured again"
    try:
        before = read_perplexities(path, space.kind.axes())
    except ModelError as error:
        raise ModelError(f"what is measured already is damaged ({error}): {remedy}") from error
    metadata = table_document(text, space, training)
    differ = [name for name in metadata if before.metadata.get(name) != metadata[name]]
    if differ:
        raise ModelError(
            f"{path} was measured with another {', '.join(differ)}: {remedy}, or choose another "
            "folder"
        )
    chosen = [*_chosen(space, len(before.rows), training.seed)]
    for i, row in enumerate(before.rows):
        if i >= len(chosen) or Measured(chosen[i].chosen, row.perplexity) != row:
            raise ModelError(f"row {i + 1} of {path} is not the subnet of its place: {remedy}")
    return before.rows


def table_document(text: Tokens, space: SubnetSpace, training: Training) -> dict[str, Any]:
    """Return what a table is of, as JSON holds it."""
    return {
        "seed": training.seed,
        "space": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in space.document().items()
        },
        "training": dataclasses.asdict(training),
        "text": {
            "name": text.name,
            "train_tokens": len(text.train),
            "validation_tokens": len(text.validation),
            "vocabulary": len(text.vocabulary),
            "crc32": zlib.crc32(text.train.tobytes()),
            "validation_crc32": zlib.crc32(text.validation.tobytes()),
        },
        "versions": {name: _version(name) for name in ("codesign", "torch", "numpy")}
        | {"python": platform.python_version()},
    }


def _chosen(space: SubnetSpace, count: int, seed: int) -> Iterator[TextConfig]:
    """The extremes, then random networks: the first of a longer list are those of a shorter one."""
    extremes = dict.fromkeys((space.largest, space.smallest))
    others = (c for c in space.sample(space.size(), seed + SAMPLE_SEED) if c not in extremes)
    for _, config in zip(range(count), chain(extremes, others), strict=False):
        yield config


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
