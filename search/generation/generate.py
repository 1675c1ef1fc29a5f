"""`codesign generate`: a decoder in int8 writes on, token after token, on a view of the machine.

Text streams to standard output; what was compiled, what the host does and what it took go to standard
error. With --json one document says all of it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.network.decoding import Decoding, Recomputing, TokenDecoder
from codesign.compiler.network.inference import BACKENDS, Backend, Network
from codesign.compiler.network.rtl_backend import RunningRtl
from codesign.compiler.onnx.float_model import Array, FloatModel
from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.platform.text import printable
from codesign.hw.simulation import simulator
from codesign.hw.simulation.session import Session
from codesign.models.zoo.families import FAMILIES
from codesign.search.api.inputs import energy_costs, machine
from codesign.search.commands.network import Quantization
from codesign.search.commands.request import Request, only_machine
from codesign.search.generation.generated import Generated, GenerateOptions, show
from codesign.search.generation.programs import Programs, most_places
from codesign.search.inputs import grid
from codesign.search.inputs.tokens import TextError, Tokenizer, tokenizer_file
from codesign.search.terminal import tables
from codesign.search.terminal.messages import say

LEAST_SLOTS, LEAST_PROMPT = 64, 16  # of the shortest Programs of a step and of a prompt
MULTIPLE = 16  # slots of the longest are a multiple of


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
    stream = _Stream(tokenizer, not request.as_json)
    quantization = options.quantization
    programs = Programs(request, config, path, file, tokenizer, quantization, stream.aside)
    with ExitStack() as stack:
        decoder = _decoder(file, programs, options, stack, found)
        try:
            _generate(decoder, programs, tokenizer, options, stream, found)
        finally:
            stream.end([*found.prompt, *found.ids])
    show(request, programs, options, tokenizer, decoder.spent, found)


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
    most = most_places(file)
    if most is not None and len(ids) + options.tokens > most:
        room = most - len(ids)
        remedy = f"give --tokens {room} at most" if room > 0 else "shorten the prompt"
        raise CodesignError(
            f"a prompt of {len(ids)} tokens and {options.tokens} more are beyond the {most} positions "
            f"of the model: {remedy}"
        )


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
    programs: "Programs",
    options: GenerateOptions,
    stack: ExitStack,
    found: Generated,
) -> TokenDecoder:
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


class _Stream:
    """Text on standard output, as far as the tokens so far settle it."""

    def __init__(self, tokenizer: Tokenizer, shown: bool) -> None:
        self.tokenizer, self.shown = tokenizer, shown
        self.text = ""

    def show(self, ids: Sequence[int]) -> None:
        """Write what is new of the text of all tokens; bytes that are no character yet wait."""
        self._write(self.tokenizer.settled(ids), "")

    def aside(self, message: str) -> None:
        """Say something beside the text. On a terminal it has lines of its own, and behind it the line
        of text that it came into is shown again, to go on.
        """
        together = all(tables.terminal_width(stream) for stream in (sys.stdout, sys.stderr))
        line = printable(self.text.rpartition("\n")[2]) if self.shown and together else ""
        if line:
            print(file=sys.stderr)
        say(message)
        if line:
            print(line, end="", file=sys.stderr, flush=True)

    def end(self, ids: Sequence[int]) -> None:
        """Write what still waits, and end the line; nothing where nothing was written."""
        if self.text:
            self._write(self.tokenizer.text(ids), "\n")

    def _write(self, text: str, behind: str) -> None:
        if self.shown and text.startswith(self.text):
            sys.stdout.write(printable(text[len(self.text) :], keep="\n") + behind)
            sys.stdout.flush()
            self.text = text


def _generate(
    decoder: TokenDecoder,
    programs: Programs,
    tokenizer: Tokenizer,
    options: GenerateOptions,
    stream: _Stream,
    found: Generated,
) -> None:
    rng = np.random.default_rng(options.quantization.seed)
    began = time.perf_counter()
    try:
        scores = decoder.prompt(found.prompt)
        stream.show(found.prompt)
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
        found.seconds = time.perf_counter() - began - programs.seconds


def _chosen(scores: Array, temperature: float, rng: "np.random.Generator") -> int:
    """The best token, or one drawn by the softmax of scores over the temperature."""
    if temperature == 0:
        return int(scores.argmax())
    logits = scores.astype(np.float64) / temperature
    weights = np.exp(logits - logits.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))
