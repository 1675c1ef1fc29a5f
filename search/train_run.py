"""What `codesign train` does: reads its request, trains and measures, keeps the run, says what it found.

The space is a search space, so that one file serves both commands; the run keeps it as `space.toml`
with the vocabulary of the text, beside the table that `codesign search --quality` takes.
"""

import importlib.util
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.processes import cores
from codesign.models.perplexities import Measured
from codesign.models.space import Space
from codesign.models.tokens import Tokenization, Tokens, built_in, read
from codesign.search import output
from codesign.search.quality import non_embedding_parameters
from codesign.search.request import say
from codesign.search.space import SearchSpace, small_space
from codesign.search.space_file import read_space

if TYPE_CHECKING:
    from codesign.models.compute import Compute
    from codesign.models.from_scratch import Compared
    from codesign.models.measurement import Measurement
    from codesign.models.schedule import Training

SPACE_FILE, SUMMARY_FILE, PLOT_FILE = "space.toml", "summary.json", "training.png"
SURVEY, SMALL = "survey", "small"
SURVEY_SEQ = 512  # tokens a sequence of training (arXiv 2302.14017 §6.4)
DEFAULTS = {  # epochs, learning rate, subnets
    SURVEY: (50, 1e-3, 1000),
    SMALL: (4, 6e-3, 200),
}
EXTREMES = 2  # rows of a table, before its random subnets
SIZE_CLASSES = 4  # of parameters, whose best subnets are shown
MOST_UNKNOWN = 0.2  # of the validation text, before it is warned of
SAID_SECONDS = 15.0  # between two lines of progress where there is no terminal


@dataclass(frozen=True)
class TrainRequest:
    """The options of `codesign train`."""

    command: str
    data: Path | None = None
    validation: Path | None = None
    tokens: Tokenization | None = None
    vocabulary: int | None = None
    space: str = SURVEY
    epochs: int | None = None
    batch: int = 16
    seq: int | None = None
    learning_rate: float | None = None
    dropout: float = 0.0
    seed: int = 0
    subnets: int | None = None
    honest: int | None = None
    distil: bool = True
    device: str | None = None
    ranks: int = 1
    compiled: bool | None = None
    workers: int | None = None
    resume: bool = False
    out: Path = Path("codesign-train")
    as_json: bool = False


@dataclass(frozen=True)
class _Prepared:
    """A request with everything read and checked."""

    request: TrainRequest
    text: Tokens
    space: SearchSpace
    training: "Training"
    subnets: int  # no more than there are
    compute: "Compute"
    kept: int = 0  # subnets that the folder has already

    @property
    def trained(self) -> Space:
        """The space of the supernet."""
        return self.space.transformer.trained(self.training.seq)

    @property
    def rows(self) -> int:
        """Subnets in the table in the end."""
        return max(self.subnets, self.kept)

    def describe(self) -> dict[str, Any]:
        """What `run.json` says of it; more subnets of one training are no other run."""
        from codesign.models.measurement import describe

        made = describe(self.text, self.trained, self.training)
        inputs = {name: made[name] for name in ("space", "training", "text")}
        return output.describe_run(
            self.request.command, {"action": "train", **inputs}, self.training.seed
        )


@dataclass(frozen=True)
class _Results:
    measurement: "Measurement"
    compared: "Sequence[Compared]"


def run_train(request: TrainRequest) -> None:
    """Train, measure, write the run and print its table. Raises CodesignError for bad input.

    A run that ends before its first epoch does leaves nothing, so that its folder can be taken again.
    Its KeyboardInterrupt says what was kept.
    """
    from codesign.models.measurement import kept
    from codesign.models.supernet import CHECKPOINT
    from codesign.search.train_plots import training_plot

    prepared = _prepare(request)
    run = prepared.describe()
    with output.run_directory(request.out, run) as directory:

        def describe() -> None:
            directory.write_text(output.RUN_FILE, output.json_text(run))
            directory.write_text(SPACE_FILE, prepared.space.to_toml())

        if request.resume:
            before = kept(prepared.text, prepared.trained, prepared.training, request.out)
            prepared = replace(prepared, kept=len(before))
        say(_described(prepared))
        _warn_of_unknown_words(prepared.text)
        try:
            results = _run(prepared, describe)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"whole epochs and measured subnets are kept in {request.out}: repeat the command "
                "with --resume"
                if (request.out / CHECKPOINT).exists()
                else "no epoch was whole, nothing is kept"
            ) from None
        describe()
        summary = _summary(prepared, results)
        directory.write_text(SUMMARY_FILE, output.json_text(summary))
        directory.write_bytes(PLOT_FILE, training_plot(results.measurement.log))
        found = results.measurement
        directory.log(
            f"trained in {found.training_seconds:.1f} s, measured {len(found.table.rows)} subnets "
            f"({prepared.kept} before) in {found.measuring_seconds:.1f} s"
        )
    if request.as_json:
        output.print_json({**run, "out": str(request.out), **summary})
    else:
        _print(prepared, results)


def _prepare(request: TrainRequest) -> _Prepared:
    if importlib.util.find_spec("torch") is None:
        raise ModelError("training needs torch: pip install 'codesign[train]'")
    from codesign.models.schedule import Training, windows

    text = _text(request)
    space = _space(request.space)
    space = replace(space, transformer=replace(space.transformer, vocab_size=len(text.vocabulary)))
    epochs, rate, subnets = DEFAULTS.get(request.space, DEFAULTS[SURVEY])
    training = Training(
        epochs=request.epochs or epochs,
        batch=request.batch,
        seq=request.seq or (SURVEY_SEQ if request.space == SURVEY else space.transformer.sequence),
        learning_rate=request.learning_rate or rate,
        dropout=request.dropout,
        distil=request.distil,
        seed=request.seed,
    )
    for tokens in (text.train, text.validation):
        windows(tokens, training.seq)
    size = space.transformer.trained(training.seq).size()
    subnets = min(request.subnets or subnets, size)
    if request.honest:
        _check_honest(request.honest, subnets, size)
    return _Prepared(request, text, space, training, subnets, _compute(request))


def _check_honest(wanted: int, subnets: int, size: int) -> None:
    """Raises CodesignError where there are not so many beside the largest and the smallest."""
    random = max(0, subnets - EXTREMES)
    if wanted > random:
        remedy = "measure more" if subnets < size else "take a larger space, or leave it out"
        raise CodesignError(
            f"--honest {wanted} is more than {random}, the random ones of "
            f"{_counted(subnets, 'subnet')}: {remedy}"
        )


def _text(request: TrainRequest) -> Tokens:
    if request.data is None:
        for name in ("validation", "tokens", "vocabulary"):
            if getattr(request, name) is not None:
                raise CodesignError(f"--{name} is of a text of your own: name it with --data")
        return built_in()
    data, validation = request.data, request.validation
    if data.is_dir():
        data, validation = data / "train.txt", validation or data / "valid.txt"
    return read(
        data,
        request.tokens or "words",
        validation=validation,
        vocabulary_size=request.vocabulary,
        name=request.data.resolve().name,
    )


def _space(name: str) -> SearchSpace:
    if name == SURVEY:
        return SearchSpace()
    return small_space() if name == SMALL else read_space(Path(name))


def _compute(request: TrainRequest) -> "Compute":
    from codesign.models.compute import Compute

    device = _device(request.device, request.ranks)
    compiled = device != "cpu" if request.compiled is None else request.compiled
    return Compute(device, request.ranks, compiled)


def _device(name: str | None, ranks: int) -> str:
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise CodesignError(f"unknown device {name!r}: choose cpu, cuda or cuda:N")
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise CodesignError("no CUDA device is here: leave --device out, or take --device cpu")
    count = torch.cuda.device_count()
    if name == "cuda" and ranks > count:
        raise CodesignError(f"--ranks {ranks} needs as many GPUs, here are {count}: take fewer")
    if name != "cuda" and ranks > 1:
        raise CodesignError(f"{ranks} ranks do not fit on {name}: take --device cuda")
    if int(name.partition(":")[2] or 0) >= count:
        raise CodesignError(f"no device {name} is here: the last is cuda:{count - 1}")
    return name


def _run(prepared: _Prepared, describe: Callable[[], None]) -> _Results:
    """Train and measure; `describe` writes what says whose the first thing kept is."""
    from codesign.models import from_scratch
    from codesign.models.measurement import train_and_measure

    request, space = prepared.request, prepared.trained
    with _display() as show:
        found = train_and_measure(
            prepared.text,
            space,
            prepared.training,
            request.out,
            decoders=prepared.subnets,
            resume=request.resume,
            compute=prepared.compute,
            on_training=lambda p: show(
                f"epoch {p.epoch + 1}, loss {p.loss:.3f}",
                p.epoch * p.steps + p.step,
                prepared.training.epochs * p.steps,
            ),
            before_save=describe,
            on_measured=lambda count, _: show("measuring subnets", count, prepared.rows),
        )
        compared = []
        if request.honest:
            chosen = found.table.rows[EXTREMES : EXTREMES + request.honest]
            workers = 1 if prepared.compute.device != "cpu" else request.workers or cores()
            show("training from scratch", 0, len(chosen))
            for pair in from_scratch.compare(
                prepared.text, space, prepared.training, chosen, request.out,
                compute=prepared.compute, workers=workers,
            ):  # fmt: skip
                compared.append(pair)
                show("training from scratch", len(compared), len(chosen))
    return _Results(found, compared)


# -- What is said ----------------------------------------------------------------------------------------


def _described(prepared: _Prepared) -> str:
    space, training, text = prepared.trained, prepared.training, prepared.text
    unknown = text.unknown
    words = unknown and f"; unknown {_percent(unknown[0])}, of validation {_percent(unknown[1])}"
    before = f" ({prepared.kept:,} measured before)" if prepared.kept else ""
    return (
        f"{space.size():.3g} Transformers, {_counted(training.epochs, 'epoch')} of "
        f"{len(text.train):,} tokens of {text.name} (vocabulary {space.vocab_size:,}{words or ''}) in "
        f"batches of {training.batch} x {training.seq}, on {_where(prepared.compute)}; then "
        f"{_counted(prepared.rows, 'subnet')}{before} on {len(text.validation):,} tokens; "
        f"files go to {prepared.request.out}"
    )


def _warn_of_unknown_words(text: Tokens) -> None:
    if text.unknown and text.unknown[1] > MOST_UNKNOWN:
        say(
            f"warning: {_percent(text.unknown[1])} of the validation text is unknown words, and "
            "guessing those is easy: give more text, a larger --vocabulary, or --tokens bytes"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _where(compute: "Compute") -> str:
    return compute.device if compute.ranks == 1 else f"{compute.ranks} ranks of {compute.device}"


@contextmanager
def _display() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with an estimate on standard error where that is a terminal, else a line now and then."""
    from codesign.search import tables

    console = tables.console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training")
        stage = [""]

        def show(what: str, done: int, total: int) -> None:
            if what.partition(" ")[0] != stage[0]:
                stage[0] = what.partition(" ")[0]
                bar.reset(task)
            bar.update(task, description=what, completed=done, total=total)

        yield show


def _lines() -> Callable[[str, int, int], None]:
    began: dict[str, tuple[float, int]] = {}
    said = [time.monotonic()]

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, first = began.setdefault(what.partition(" ")[0], (now, done))
        if now - said[0] < SAID_SECONDS:
            return
        said[0] = now
        rest = (now - start) / (done - first) * (total - done) if done > first else None
        left = "" if rest is None else f", about {rest / 60:.1f} minutes left"
        say(f"{what}: {done:,} of {total:,}{left}")

    return show


def _summary(prepared: _Prepared, results: _Results) -> dict[str, Any]:
    predictor, unknown = results.measurement.predictor, prepared.text.unknown
    return {
        **asdict(prepared.compute),
        "subnets": len(results.measurement.table.rows),
        "unknown_words": unknown and {"train": unknown[0], "validation": unknown[1]},
        "perplexity_of": prepared.text.name,
        "shown": [{"subnet": name, **asdict(row)} for name, row in _shown(results)],
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
                    **asdict(pair.supernet),
                    "parameters": _parameters(pair.supernet),
                    "alone": pair.alone,
                }
                for pair in results.compared
            ],
        }
        if results.compared
        else None,
    }


def _tau(results: _Results) -> float | None:
    from codesign.models.from_scratch import kendall_tau

    return kendall_tau(results.compared)


def _parameters(row: Measured) -> int:
    heads, d_ff = np.array([row.heads]), np.array([row.d_ff])
    return int(non_embedding_parameters(np.array([row.d_model]), heads, d_ff)[0])


def _shown(results: _Results) -> Iterator[tuple[str, Measured]]:
    """The largest, the smallest, and the best of each class of size."""
    rows = results.measurement.table.rows
    largest, others = rows[0], rows[1:]
    yield "largest", largest
    edges = [100 * part / SIZE_CLASSES for part in range(SIZE_CLASSES, -1, -1)]
    for upper, lower in pairwise(edges):
        within = [
            row for row in others if lower < 100 * _parameters(row) / _parameters(largest) <= upper
        ]
        best = min(within, key=lambda row: row.perplexity, default=None)
        if best is not None and best is not others[0]:
            yield f"best of {lower:g}–{upper:g} % of its parameters", best
    if others:
        yield "smallest", others[0]


def _print(prepared: _Prepared, results: _Results) -> None:
    from codesign.models.from_scratch import FEWEST
    from codesign.search import tables

    found, out = results.measurement, prepared.request.out
    console = tables.console()
    headers = [("", ""), ("perplexity", ""), ("parameters", "no embeddings"), ("L", ""),
               ("d_model", ""), ("heads", ""), ("d_ff", "")]  # fmt: skip
    cells = [
        [name, f"{row.perplexity:.3f}", f"{_parameters(row):,}", str(row.layers), str(row.d_model),
         _each(row.heads), _each(row.d_ff)]
        for name, row in _shown(results)
    ]  # fmt: skip
    title = (
        f"{_counted(len(found.table.rows), 'subnet')} measured on {prepared.text.name} in "
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
            f"  {pair.supernet.d_model}d h{_each(pair.supernet.heads)} f{_each(pair.supernet.d_ff)}: "
            f"{pair.supernet.perplexity:.3f} in the supernet, {pair.alone:.3f} alone"
            for pair in results.compared
        ]
    lines.append(
        f"codesign search --quality {out / 'perplexities.parquet'} --space {out / SPACE_FILE}"
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _each(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ",".join(map(str, values))
