"""`codesign run`: a network in int8 on a user's input, held against the float model in onnxruntime.

The functional model or the RTL computes it, kernel by kernel (`compiler/network/inference.py`); the RTL is
held against the functional and the timing model in passing.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compiler.network.error_report import error_report
from codesign.compiler.network.inference import (
    BACKENDS,
    Backend,
    Functional,
    Network,
    astray_queries,
)
from codesign.compiler.network.inference import run as infer
from codesign.compiler.network.rtl_backend import KernelCheck, Rtl
from codesign.compiler.onnx.float_model import Array, Feeds
from codesign.compiler.placement.formats import saturated
from codesign.compiler.placement.host_rounding import NotFinite, first_few
from codesign.hw.errors import CodesignError
from codesign.hw.simulation import simulator
from codesign.hw.simulation.agreement import Disagreement
from codesign.search.commands import network, run_tables
from codesign.search.commands.calibrated import beyond, covered, say_beyond
from codesign.search.commands.network import OpenModel, Quantization
from codesign.search.commands.request import Prepared, Request, prepare
from codesign.search.commands.run_comparison import (
    compared,
    pooled,
    say_file_rounds,
    similarities,
)
from codesign.search.commands.run_results import (
    Comparison,
    KernelError,
    RtlKernel,
    RunResults,
    Sample,
)
from codesign.search.inputs import samples
from codesign.search.inputs.batch import Batch, leading
from codesign.search.inputs.samples import SampleError
from codesign.search.inputs.tokens import TextError
from codesign.search.pricing import machine_tables
from codesign.search.runs import output
from codesign.search.runs.output import optional_directory
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say, say_where
from codesign.search.terminal.progress import progress


@dataclass(frozen=True)
class RunOptions:
    """What to run, and on which view of the machine; without texts and files one random input."""

    backend: str  # functional, rtl, integers
    report: bool = False  # the error of every kernel
    texts: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    quantization: Quantization = field(default_factory=Quantization)


def run_network(request: Request, options: RunOptions) -> None:
    """Quantize a model, run every input, and print, keep and compare the outputs.

    Raises Disagreement, after what was found is printed, where the RTL differs.
    """
    if options.texts and options.files:
        raise CodesignError("--text and --input exclude each other: give one kind of input")
    prepared = prepare(request)
    config = prepared.machine
    opened = network.open_model(prepared, options.quantization)
    given = _samples(opened, options)
    opened = network.one_by_one(opened, prepared, [one.feeds for one in given])
    described: dict[str, Any] = {"backend": options.backend, "texts": options.texts}
    described |= {"files": options.files, "seed": options.quantization.seed}
    described |= {"report": options.report}
    run = prepared.describe("run", **described, **options.quantization.describe())
    run["versions"]["onnxruntime"] = metadata.version("onnxruntime")
    with optional_directory(request.out, run) as kept:
        if options.backend == "rtl":
            line = f"building the RTL of machine {config.name}, about a minute, kept for next time"
            simulator.built_rtl(config, on_build=lambda: say(line))
        compiled = network.compile_calibrated(opened, prepared, options.quantization)
        results = _run_all(compiled, opened, given, options)
        say_beyond(results.astray, results.saturated, results.beyond, results.calibrated)
        _say_not_finite(results)
        say_file_rounds(results)
        if options.report:
            found = error_report(compiled, [f for one in given for f in _programs(opened, one)])
            results.errors = [KernelError.of(error) for error in found]
        rows = [row for n, one in enumerate(results.shown) for row in compared(n, one, results)]
        if kept is not None:
            _keep(kept, rows, results)
    _show(request, prepared, run, rows, results, compiled)
    if results.disagreement is not None:
        raise results.disagreement


def _samples(opened: OpenModel, options: RunOptions) -> list[Sample]:
    """The inputs to run, checked."""
    if options.texts and opened.tokenizer is None:
        raise TextError("no tokenizer lies beside the model: give --tokenizer FILE, or --input")
    if options.texts:
        assert opened.tokenizer is not None
        size = samples.batch_of(opened.inputs)
        batches = samples.from_texts(options.texts, opened.tokenizer, opened.inputs)
        texts = [
            options.texts[first : first + size] for first in range(0, len(batches) * size, size)
        ]
        return [Sample(t[0], feeds, t) for t, feeds in zip(texts, batches, strict=True)]
    if options.files:
        return [Sample(str(path), samples.from_npz(path, opened.inputs)) for path in options.files]
    seed = options.quantization.seed
    return [Sample(f"random, seed {seed}", samples.at_random(opened.inputs, seed))]


def _programs(opened: OpenModel, one: Sample) -> list[Feeds]:
    """What the Program runs for a sample: each of its batch, or all at once; no text twice."""
    if opened.batch is None:
        return [one.feeds]
    rows = opened.batch.split(one.feeds)
    return rows[: len(one.texts)] if one.texts else rows


def _run_all(
    compiled: Network, opened: OpenModel, given: Sequence[Sample], options: RunOptions
) -> RunResults:
    """Every sample on the backend and in float; ends with the first kernel that differs."""
    # Other methods than minmax clip what they choose to.
    tops = covered(compiled) if options.quantization.choices.method == "minmax" else {}
    results = RunResults(calibrated=len(tops))
    kernels = sum(step.work.problem is not None for step in compiled.plan.steps)
    names = opened.original.outputs
    reference = opened.original.part((), names)
    unrounded = compiled.clamped.part((), names) if compiled.from_quantized else None
    programs = [_programs(opened, one) for one in given]
    numbers = itertools.count()
    began = time.perf_counter()
    with progress(sum(map(len, programs)) * kernels, 0, "kernels") as advance:
        for one, runs in zip(given, programs, strict=True):
            wanted = reference(one.feeds)
            _require_finite(one, wanted)
            found = []
            try:
                for feeds in runs:
                    backend = _backend(compiled, options, next(numbers), results, advance)
                    watch = NotFinite(compiled.clamped, feeds)
                    found.append(infer(compiled, feeds, backend, watch))
                    for name in watch.operators:
                        results.not_finite.setdefault(name, one.name)
            except Disagreement as disagreement:
                results.disagreement = disagreement
                break
            finally:
                results.seconds = time.perf_counter() - began
            for feeds in runs:
                _note_beyond(compiled, tops, one, feeds, results)
            exact = None if unrounded is None else [unrounded(feeds) for feeds in runs]
            _keep_shown(one, found, wanted, exact, opened.batch, results)
    return results


def _note_beyond(
    compiled: Network, tops: Mapping[str, Array], one: Sample, feeds: Feeds, results: RunResults
) -> None:
    """What of one run of the Program lies beyond calibration, for `say_beyond`."""
    for name in saturated(compiled.plan.graph, compiled.quantized, compiled.clamped, feeds):
        results.saturated.setdefault(name, one.name)
    for index, queries in astray_queries(compiled, feeds).items():
        added = compiled.quantized.steps[index].added
        assert added is not None
        results.astray.setdefault(added.softmax, (queries, one.name))
    for name, times in beyond(compiled, tops, feeds).items():
        farthest = results.beyond.get(name, (0.0, ""))
        results.beyond[name] = max((times, one.name), farthest)


def _say_not_finite(results: RunResults) -> None:
    """Say which operators of the host made values not finite that the float model has finite."""
    if results.not_finite:
        sample = next(iter(results.not_finite.values()))
        makes = "makes" if len(results.not_finite) == 1 else "make"
        say(
            f"note: the host's {first_few(results.not_finite)} {makes} values that are not finite on "
            f"{sample}, of values that were rounded to int8; the float model's are finite"
        )


def _keep_shown(
    one: Sample,
    found: Sequence[dict[str, Array]],
    wanted: dict[str, Array],
    exact: Sequence[dict[str, Array]] | None,
    batch: Batch | None,
    results: RunResults,
) -> None:
    """What came of a sample, `found` and `exact` by run: texts each by itself, else the whole batch."""
    if not one.texts:
        results.shown.append(one)
        results.floats.append(wanted)
        for kept, runs in ((results.outputs, found), (results.unrounded, exact)):
            if runs is not None:
                kept.append(runs[0] if batch is None else batch.join(runs))
        return
    size = len(next(iter(one.feeds.values()))) if batch is None else batch.size
    whole = leading(size, wanted) if batch is None else batch
    for index, text in enumerate(one.texts):
        feeds = {name: value[index : index + 1] for name, value in one.feeds.items()}
        alone = Sample(text, feeds, (text,))
        results.shown.append(alone)
        results.floats.append(pooled(alone, whole.of_sample(wanted, index)))
        for kept, runs in ((results.outputs, found), (results.unrounded, exact)):
            if runs is not None:
                outputs = whole.of_sample(runs[0], index) if batch is None else runs[index]
                kept.append(pooled(alone, outputs))


def _require_finite(one: Sample, outputs: Mapping[str, Array]) -> None:
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise SampleError(
                f"the model's own {name!r} is not finite on {one.name}: give ids and masks as it was "
                "trained with (a mask is 0 or 1)"
            )


def _backend(
    compiled: Network,
    options: RunOptions,
    number: int,
    results: RunResults,
    advance: Callable[[], None],
) -> Backend:
    def keep(check: KernelCheck) -> None:
        results.checks.append((number, check))
        advance()

    if options.backend == "rtl":
        return Rtl(compiled, keep, seed=options.quantization.seed)
    if options.backend == "functional":
        return _Functional(compiled, advance)
    return BACKENDS[options.backend](compiled)


class _Functional(Functional):
    """The functional model, which tells of its progress."""

    def __init__(self, compiled: Network, advance: Callable[[], None]) -> None:
        super().__init__(compiled)
        self.advance = advance

    def step(self, index: int) -> None:
        super().step(index)
        self.advance()


def _keep(kept: output.RunDirectory, rows: Sequence[Comparison], results: RunResults) -> None:
    arrays: dict[str, Array] = {}
    for prefix, outputs in (("", results.outputs), ("float.", results.floats)):
        if outputs:
            for name in outputs[0]:
                arrays[prefix + name] = np.stack([one[name] for one in outputs])
    if arrays:
        kept.write_arrays("outputs", arrays)
        kept.write_records("comparison", rows)
    if results.checks:
        kept.write_records("kernels", _rtl_kernels(results))
    if results.errors:
        kept.write_records("errors", results.errors)
    kept.log(f"ran {len(results.outputs)} inputs in {results.seconds:.1f} s")


def _rtl_kernels(results: RunResults) -> list[RtlKernel]:
    return [
        RtlKernel(
            number,
            check.name,
            check.instructions,
            check.cycles,
            check.agreement.rtl_cycles,
            check.agreement.times_differing,
            check.agreement.bytes_differing,
            check.agreement.counts_differing,
        )
        for number, check in results.checks
    ]


def _show(
    request: Request,
    prepared: Prepared,
    run: Mapping[str, Any],
    rows: Sequence[Comparison],
    results: RunResults,
    compiled: Network,
) -> None:
    """Print what came out: one JSON document, or tables."""
    pair = similarities(results.outputs), similarities(results.floats)
    checks = [check for _, check in results.checks]
    verdict = run_tables.Verdict.of(checks, results.seconds, results.disagreement is not None)
    if request.as_json:
        document: dict[str, Any] = {**run, "outputs": rows}
        if pair[0] is not None and pair[1] is not None:
            int8, floats = (
                [[v if np.isfinite(v) else None for v in row] for row in one.tolist()]
                for one in (pair[0], pair[1])
            )
            document["similarity"] = {"int8": int8, "float": floats}
        if checks:
            document |= {"rtl": asdict(verdict), "kernels": _rtl_kernels(results)}
        if results.errors:
            document["errors"] = results.errors
        output.print_json(document)
        return
    console = tables.console()
    console.print(machine_tables.machine_title(prepared.machine), style="dim")
    beside = "quantized file in onnxruntime" if compiled.from_quantized else "float model"
    console.print(f"{prepared.title}; int8 beside the {beside}", style="bold")
    if rows:
        console.print(run_tables.comparison_table(rows, console.width))
    if pair[0] is not None and pair[1] is not None:
        names = [one.name for one in results.shown]
        console.print(run_tables.similarity_table(names, pair[0], pair[1], console.width))
    if checks:
        console.print(run_tables.kernels_table(compiled.plan, results.checks, console.width))
        console.print(verdict.words, style="dim")
    if results.errors:
        console.print(run_tables.error_table(results.errors, console.width))
    say_where(request.out)
