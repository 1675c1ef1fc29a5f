"""`codesign generate`: a decoder in int8 writes on, token after token, on a view of the machine.

Text streams to standard output; what was compiled, what the host does and what it took go to standard
error. With --json one document says all of it.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compiler.network.decoder_file import PLACES, DecoderFile
from codesign.compiler.network.decoding import Decoder, Decoding, Recomputing, Spent
from codesign.compiler.network.inference import BACKENDS, Backend, Network, compile_network
from codesign.compiler.network.rtl_backend import KernelCheck, RunningRtl
from codesign.compiler.onnx.float_model import Array, Feeds, FloatModel
from codesign.compiler.rewrite.given_scales import Codes
from codesign.hw.costs.energy import cost_table
from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.simulation import simulator
from codesign.hw.simulation.session import Session
from codesign.models.zoo.families import FAMILIES
from codesign.search.api.inputs import energy_costs, machine
from codesign.search.commands.network import Quantization
from codesign.search.commands.request import Request, only_machine
from codesign.search.commands.run_tables import Verdict
from codesign.search.inputs import grid, samples
from codesign.search.inputs.prompts import prompt_samples, step_samples
from codesign.search.inputs.samples import table_rows
from codesign.search.inputs.tokens import TextError, Tokenizer, tokenizer_file
from codesign.search.pricing import machine_tables
from codesign.search.runs import output
from codesign.search.terminal.figures import significant
from codesign.search.terminal.messages import say

LEAST_SLOTS, LEAST_PROMPT = 64, 16  # of the shortest Programs of a step and of a prompt
MULTIPLE = 16  # slots of the longest are a multiple of


@dataclass(frozen=True)
class GenerateOptions:
    """What to write, and on which view of the machine; a temperature of 0 takes the best token."""

    prompt: str
    tokens: int
    backend: str  # integers, functional, rtl
    temperature: float = 0.0
    quantization: Quantization = field(default_factory=Quantization)


@dataclass
class Generated:
    """What came of it so far."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    ended: bool = False  # by the model, before all tokens were written
    seconds: float = 0.0  # of running, all that is compiled left out
    compiling: float = 0.0
    host: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by Program, what the host does
    checks: list[KernelCheck] = field(default_factory=list)


def run_generate(request: Request, options: GenerateOptions) -> None:
    """Write `options.tokens` behind the prompt, and say what it took.

    Raises ModelError for what is no decoder, TextError for a prompt that cannot be read, CodesignError
    where the tokens have no places, Disagreement where the RTL differs.
    """
    config = only_machine(grid.points(machine(request.hardware, **request.fixed), request.axes))
    energy_costs(request.energy_table)
    path = _file(request.model)
    tokenizer = _tokenizer(path, options.quantization)
    ids = tokenizer.ids(options.prompt)
    file = DecoderFile.of(FloatModel(path))
    _require_room(file, tokenizer, ids, options)
    found = Generated(ids)
    programs = _Programs(request, config, path, file, tokenizer, options, found)
    with ExitStack() as stack:
        decoder = _decoder(file, programs, options, stack, found)
        stream = _Stream(tokenizer, not request.as_json)
        try:
            _generate(decoder, tokenizer, options, stream, found)
        finally:
            stream.end()
    _show(request, config, options, file, tokenizer, decoder, found)


def _file(model: str) -> Path:
    if model in FAMILIES and not Path(model).exists():
        raise ModelError(
            f"{model} is built in, with random weights and no tokenizer: give an ONNX file, as codesign "
            "export writes one of a checkpoint"
        )
    return Path(model)


def _tokenizer(path: Path, options: Quantization) -> Tokenizer:
    place = options.tokenizer or tokenizer_file(path.absolute().parent)
    if place is None:
        raise TextError(
            f"no tokenizer lies beside {path}: give --tokenizer FILE, or export a checkpoint with its own"
        )
    return Tokenizer(place)


def _require_room(
    file: DecoderFile, tokenizer: Tokenizer, ids: Sequence[int], options: GenerateOptions
) -> None:
    """Raise CodesignError for tokens that are not the model's, or more than it has places for."""
    scores = next(v for v in file.model.proto.graph.output if v.name == file.scores)
    vocabulary = scores.type.tensor_type.shape.dim[-1].dim_value
    if max(ids) >= vocabulary:
        raise TextError(
            f"{tokenizer.path} makes token {max(ids)} of the prompt, but the model has {vocabulary}: "
            "give the tokenizer of this model"
        )
    most = _places(file)
    if most is not None and len(ids) + options.tokens > most:
        room = most - len(ids)
        remedy = f"give --tokens {room} at most" if room > 0 else "shorten the prompt"
        raise CodesignError(
            f"a prompt of {len(ids)} tokens and {options.tokens} more are beyond the {most} positions "
            f"of the model: {remedy}"
        )


def _places(file: DecoderFile) -> int | None:
    """How many tokens the model has places for, where its file says it."""
    if not file.past:
        return file.tokens
    return table_rows(file.model, PLACES)


def _lengths(least: int, most: int) -> tuple[int, ...]:
    """Twice as many each time, and at last as many as are needed."""
    last, length = -(-most // MULTIPLE) * MULTIPLE, least
    found = []
    while length < last:
        found.append(length)
        length *= 2
    return (*found, last)


def _decoder(
    file: DecoderFile,
    programs: "_Programs",
    options: GenerateOptions,
    stack: ExitStack,
    found: Generated,
) -> Decoder:
    whole = len(found.prompt) + options.tokens
    backend = _backend(programs.config, options, stack, found)
    if file.past:
        lengths = _lengths(LEAST_SLOTS, whole), _lengths(LEAST_PROMPT, len(found.prompt))
        return Decoding(file, programs, backend, *lengths)
    say("note: the file has no key-value cache: every token runs all before it anew")
    fixed = file.tokens
    return Recomputing(
        file, programs, backend, _lengths(LEAST_SLOTS, whole) if fixed is None else (fixed,)
    )


def _backend(
    config: HardwareConfig, options: GenerateOptions, stack: ExitStack, found: Generated
) -> Callable[[Network], Backend]:
    if options.backend != "rtl":
        return BACKENDS[options.backend]
    line = f"building the RTL of machine {config.name}, about a minute, kept for next time"
    simulator.built_rtl(config, on_build=lambda: say(line))
    seed = options.quantization.seed + 1  # Verilator takes 0 for a seed of its own
    sessions: list[Session] = []

    def running(network: Network) -> Backend:
        if not sessions or sessions[-1].size < len(network.image):
            sessions.append(stack.enter_context(Session(config, len(network.image), seed=seed)))
        return RunningRtl(network, sessions[-1], found.checks.append)

    return running


class _Programs:
    """Compiles a file for so many tokens, calibrated on sentences; says so."""

    def __init__(
        self,
        request: Request,
        config: HardwareConfig,
        path: Path,
        file: DecoderFile,
        tokenizer: Tokenizer,
        options: GenerateOptions,
        found: Generated,
    ) -> None:
        self.request, self.config, self.path, self.file = request, config, path, file
        self.table = cost_table(config, energy_costs(request.energy_table))
        self.quantization, self.found = options.quantization, found
        chosen = options.quantization
        texts, source = samples.texts(chosen.calibration, chosen.samples)
        most = _places(file)
        self.sentences = [tokenizer.ids(text)[:most] for text in texts]
        say(f"calibrating on {len(texts)} sentences: {source}")

    def __call__(self, past: int, seq: int, codes: Mapping[str, Codes]) -> Network:
        """Compile it."""
        began = time.perf_counter()
        kind = f"a step behind up to {past} tokens" if past else f"{seq} tokens"
        say(f"compiling {kind}")
        network = compile_network(
            self.path,
            self.config,
            self._samples(past, seq),
            seq=seq,
            dims=self.file.dimensions(past, seq),
            objective=self.request.objective,
            table=self.table,
            options=self.quantization.choices,
            past=tuple(self.file.past) if past else (),
            codes=codes,
        )
        for note in (*network.notes, *network.host):
            if note not in [n for notes in self.found.host.values() for n in notes]:
                say(f"note: {note}")
        self.found.host[kind] = network.host
        self.found.compiling += time.perf_counter() - began
        return network

    def _samples(self, past: int, seq: int) -> list[Feeds]:
        if past:
            return list(step_samples(self.file, self.sentences, past, self.quantization.seed))
        return prompt_samples(self.file, self.sentences, seq)


class _Stream:
    """Text on standard output, as far as the tokens so far settle it."""

    def __init__(self, tokenizer: Tokenizer, shown: bool) -> None:
        self.tokenizer, self.shown = tokenizer, shown
        self.text = ""

    def show(self, ids: Sequence[int]) -> None:
        """Write what is new of the text of all tokens; bytes that are no character yet wait."""
        text = self.tokenizer.text(ids)
        if not self.shown or text.endswith("\ufffd") or not text.startswith(self.text):
            return
        sys.stdout.write(text[len(self.text) :])
        sys.stdout.flush()
        self.text = text

    def end(self) -> None:
        """End the line."""
        if self.shown and self.text:
            sys.stdout.write("\n")
            sys.stdout.flush()


def _generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    options: GenerateOptions,
    stream: _Stream,
    found: Generated,
) -> None:
    rng = np.random.default_rng(options.quantization.seed)
    began = time.perf_counter()
    try:
        stream.show(found.prompt)
        scores = decoder.prompt(found.prompt)
        for number in range(options.tokens):
            token = _chosen(scores, options.temperature, rng)
            if token in tokenizer.special:
                found.ended = True
                break
            found.ids.append(token)
            stream.show([*found.prompt, *found.ids])
            if number + 1 < options.tokens:
                scores = decoder.next(token)
    finally:
        found.seconds = time.perf_counter() - began - found.compiling


def _chosen(scores: Array, temperature: float, rng: np.random.Generator) -> int:
    """The best token, or one drawn by the softmax of scores over the temperature."""
    if temperature == 0:
        return int(scores.argmax())
    logits = scores.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _agreeing(file: DecoderFile, found: Generated) -> int | None:
    """How many of the tokens the float model would choose too, given those before; None where it is
    not asked."""
    if not found.ids or not (file.scores_all or file.past):
        return None
    ids = [*found.prompt, *found.ids]
    scores = file.run(ids[:-1])[file.scores][0]
    if len(scores) != len(ids) - 1:
        return None
    best = scores[len(found.prompt) - 1 :].argmax(axis=-1)
    return int((best == np.array(found.ids)).sum())


def _show(
    request: Request,
    config: HardwareConfig,
    options: GenerateOptions,
    file: DecoderFile,
    tokenizer: Tokenizer,
    decoder: Decoder,
    found: Generated,
) -> None:
    """Say what it took, or print all of it as one document."""
    agreeing = _agreeing(file, found) if options.temperature == 0 else None
    verdict = Verdict.of(found.checks, found.seconds, differs=False) if found.checks else None
    by_shape = _by_shape(decoder.spent)
    rate = len(found.ids) / found.seconds if found.seconds else 0.0
    if request.as_json:
        document: dict[str, Any] = output.describe_run(
            request.command,
            {"action": "generate", "model": request.model},
            options.quantization.seed,
        )
        document |= {
            "machine": asdict(config),
            "backend": options.backend,
            "prompt": options.prompt,
            "text": tokenizer.text([*found.prompt, *found.ids]),
            "prompt_tokens": found.prompt,
            "tokens": found.ids,
            "ended": found.ended,
            "float_agrees": agreeing,
            "seconds": found.seconds,
            "compiling_seconds": found.compiling,
            "tokens_per_second": rate,
            "programs": by_shape,
            "host": found.host,
        }
        if verdict is not None:
            document["rtl"] = asdict(verdict)
        output.print_json(document)
        return
    say(machine_tables.machine_title(config))
    ended = ", where the model ends" if found.ended else ""
    say(
        f"{len(found.ids)} tokens behind {len(found.prompt)} in {found.seconds:.1f} s on {options.backend}"
        f"{ended}: {significant(rate, 3)} tokens/s; {found.compiling:.1f} s of compiling"
    )
    for shape in by_shape:
        say(_words(shape, config))
    if agreeing is not None:
        say(
            f"the float model chooses {agreeing} of the {len(found.ids)} tokens too, each given those before"
        )
    if verdict is not None:
        for line in verdict.words.splitlines():
            say(line)


def _by_shape(spent: Sequence[Spent]) -> list[dict[str, int]]:
    """Runs of one Program together: how many, of how many tokens, and the cycles of one."""
    found: dict[Spent, int] = {}
    for one in spent:
        found[one] = found.get(one, 0) + 1
    return [{**asdict(one), "runs": runs} for one, runs in found.items()]


def _words(shape: Mapping[str, int], config: HardwareConfig) -> str:
    cycles = shape["chip_cycles"] + shape["host_cycles"]
    what = "prompt" if shape["tokens"] > 1 else "step"
    times = "once" if shape["runs"] == 1 else f"{shape['runs']} times"
    return (
        f"a {what} on {shape['slots']} places, {times}: {shape['chip_cycles']:,} cycles of kernels and "
        f"{shape['host_cycles']:,} of the host, {significant(cycles / config.clock_hz * 1e3)} ms"
    )
