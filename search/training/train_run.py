"""What `codesign train` does: trains and measures, keeps the run, says what it found."""

from collections.abc import Callable
from dataclasses import replace

from codesign.hw.platform.processes import cores
from codesign.search.runs import output
from codesign.search.runs.files import RUN_FILE
from codesign.search.terminal.messages import say
from codesign.search.terminal.progress import stages
from codesign.search.training.train_request import (
    EXTREMES,
    PreparedTraining,
    TrainRequest,
    prepare_training,
)
from codesign.search.training.train_tables import (
    SPACE_FILE,
    TrainingResults,
    described,
    print_table,
    training_summary,
    warn_of_unknown_words,
)

SUMMARY_FILE, PLOT_FILE = "summary.json", "training.png"


def run_train(request: TrainRequest) -> None:
    """Train, measure, write the run and print its table. Raises CodesignError for bad input.

    A run that ends before its first epoch does leaves nothing, so that its folder can be taken again.
    Its KeyboardInterrupt says what was kept.
    """
    from codesign.models.supernet.measurement import kept
    from codesign.models.supernet.supernet import CHECKPOINT
    from codesign.search.training.train_plots import training_plot

    prepared = prepare_training(request)
    run = prepared.describe()
    with output.run_directory(request.out, run, resume=request.resume) as directory:

        def describe() -> None:
            directory.write_text(RUN_FILE, output.json_text(run))
            directory.write_text(SPACE_FILE, prepared.space.to_toml())

        if request.resume:
            before = kept(prepared.text, prepared.trained, prepared.training, request.out)
            prepared = replace(prepared, kept=len(before))
        say(described(prepared))
        warn_of_unknown_words(prepared.text)
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
        found = training_summary(prepared, results)
        directory.write_text(SUMMARY_FILE, output.json_text(found))
        directory.write_bytes(
            PLOT_FILE, training_plot(results.measurement.log, prepared.training.distil)
        )
        made = results.measurement
        directory.log(
            f"trained in {made.training_seconds:.1f} s, measured {len(made.table.rows)} subnets "
            f"({prepared.kept} before) in {made.measuring_seconds:.1f} s"
        )
    if request.as_json:
        output.print_json({**run, "out": str(request.out), **found})
    else:
        print_table(prepared, results)


def _run(prepared: PreparedTraining, describe: Callable[[], None]) -> TrainingResults:
    """Train and measure; `describe` writes what says whose the first thing kept is."""
    from codesign.models.supernet import from_scratch
    from codesign.models.supernet.measurement import train_and_measure

    request, space = prepared.request, prepared.trained
    with stages() as show:
        found = train_and_measure(
            prepared.text,
            space,
            prepared.training,
            request.out,
            networks=prepared.subnets,
            resume=request.resume,
            compute=prepared.compute,
            on_training=lambda p: show(
                "training steps",
                p.epoch * p.steps + p.step,
                prepared.training.epochs * p.steps,
                f"epoch {p.epoch + 1}, loss {p.loss:.3f}",
            ),
            before_save=describe,
            on_measured=lambda count, _: show("subnets measured", count, prepared.rows),
        )
        compared = []
        if request.honest:
            chosen = found.table.rows[EXTREMES : EXTREMES + request.honest]
            workers = 1 if prepared.compute.device != "cpu" else request.workers or cores()
            show("trained from scratch", 0, len(chosen))
            for pair in from_scratch.compare_alone(
                prepared.text, space, prepared.training, chosen, request.out,
                compute=prepared.compute, workers=workers,
            ):  # fmt: skip
                compared.append(pair)
                show("trained from scratch", len(compared), len(chosen))
    return TrainingResults(found, compared)
