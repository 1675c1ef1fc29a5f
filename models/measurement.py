"""From text to the table of perplexities: train a supernet, measure decoders, fit the predictor.

The whole way of `codesign train` behind one function. The folder that it is given holds the
supernet (`supernet.pt`) and the table (`perplexities.parquet` and .csv), each from the first epoch
or the first decoders on, so that a run that ends early keeps what it has and resumes.
"""

import dataclasses
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError
from codesign.models.families import DecoderConfig
from codesign.models.perplexities import Measured, Perplexities, read, write
from codesign.models.predictor import FEWEST_ROWS, Predictor, fit
from codesign.models.space import Space
from codesign.models.supernet import Progress, Training, measure, train, windows
from codesign.models.tokens import Tokens

TABLE = "perplexities"  # .parquet, .csv
SAVE_SECONDS = 30.0
SAMPLE_SEED = 1  # beside the seed of training: which decoders are measured


@dataclass(frozen=True)
class Measurement:
    """The table, and the predictor when there are decoders enough for one."""

    table: Perplexities
    predictor: Predictor | None


def train_and_measure(
    text: Tokens,
    space: Space,
    training: Training,
    out: Path,
    *,
    decoders: int = 1000,
    resume: bool = False,
    device: str = "cpu",
    on_training: Callable[[Progress], None] | None = None,
    on_measured: Callable[[int, Measured], None] | None = None,
) -> Measurement:
    """Train on `text.train`, then measure the largest, the smallest and random others, `decoders`
    in all, on `text.validation`; `on_measured` gets the count so far and the latest.

    The space takes the vocabulary of the text. Raises ModelError as `supernet.train` does.
    """
    windows(text.validation, training.seq)  # raises before the training what it would after
    space = dataclasses.replace(space, vocab_size=len(text.vocabulary))
    net = train(text.train, space, training, out, resume=resume, device=device, report=on_training)
    path = out / f"{TABLE}.parquet"
    metadata = describe(text, space, training)
    rows = list(_measured_before(path, metadata)) if resume else []
    saved = time.monotonic()
    try:
        for row in measure(
            net,
            islice(_chosen(space, decoders, training.seed), len(rows), None),
            text.validation,
            training.seq,
            training.batch,
        ):
            rows.append(row)
            if on_measured:
                on_measured(len(rows), row)
            if time.monotonic() - saved > SAVE_SECONDS:
                write(Perplexities(tuple(rows), metadata), path)
                saved = time.monotonic()
    finally:
        table = Perplexities(tuple(rows), metadata)
        write(table, path)
        write(table, path.with_suffix(".csv"))
    predictor = fit(rows, training.seed) if len(rows) >= FEWEST_ROWS else None
    return Measurement(table, predictor)


def describe(text: Tokens, space: Space, training: Training) -> dict[str, Any]:
    """Return what a table is of, as JSON holds it."""
    return {
        "seed": training.seed,
        "space": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(space).items()
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


def _chosen(space: Space, count: int, seed: int) -> Iterator[DecoderConfig]:
    """The extremes, then random decoders: the first of a longer list are those of a shorter one."""
    extremes = dict.fromkeys((space.largest, space.smallest))
    others = (c for c in space.sample(space.size(), seed + SAMPLE_SEED) if c not in extremes)
    yield from islice((*extremes, *islice(others, max(0, count - len(extremes)))), count)


def _measured_before(path: Path, metadata: dict[str, Any]) -> Iterator[Measured]:
    if not path.exists():
        return
    before = read(path)
    differ = [name for name in metadata if before.metadata.get(name) != metadata[name]]
    if differ:
        raise ModelError(
            f"{path} was measured with another {', '.join(differ)}: choose another folder"
        )
    yield from before.rows


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
