"""The Programs of a decoder, compiled when they are needed, and the sentences that they are calibrated on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.decoder_file import PLACES, DecoderFile
from codesign.compiler.network.inference import Network
from codesign.compiler.onnx.float_model import Feeds
from codesign.compiler.rewrite.given_scales import Codes
from codesign.hw.costs.energy import cost_table
from codesign.hw.machine.config import HardwareConfig
from codesign.search.api.inputs import energy_costs
from codesign.search.commands.network import Quantization
from codesign.search.commands.request import Request
from codesign.search.inputs import samples
from codesign.search.inputs.samples import table_rows
from codesign.search.inputs.tokens import Tokenizer

MOST_PLACES = "max_position_embeddings"  # as Hugging Face calls it; in a file's metadata
STEPS = 4  # of a sentence, as samples of a step


def prompt_samples(
    file: DecoderFile, sentences: Sequence[Sequence[int]], tokens: int
) -> list[Feeds]:
    """Sentences of token ids as prompts of so many tokens: cut, or padded."""
    return [file.prefill(ids[:tokens], tokens) for ids in sentences]


def step_samples(
    file: DecoderFile, sentences: Sequence[Sequence[int]], past: int, seed: int
) -> Iterator[Feeds]:
    """Tokens of sentences, each behind those before it, as steps with a cache for `past`.

    Of each sentence the last that fits, and others at random: a longer cache sees the same and more.
    """
    rng = np.random.default_rng(seed)
    for ids in sentences:
        most = min(len(ids), past + 1)
        outputs = file.run(ids[:most])
        places = {most - 1, *rng.integers(most, size=STEPS - 1).tolist()}
        for place in sorted(places, reverse=True):  # the first sample says what a rotation turns
            yield file.step(ids[place], place, file.cache(outputs, place, past))


def most_places(file: DecoderFile) -> int | None:
    """How many tokens the model has places for, where its file says it."""
    if not file.past:
        return file.tokens
    said = (one.value for one in file.model.proto.metadata_props if one.key == MOST_PLACES)
    number = next(said, "")
    rows = table_rows(file.model, PLACES)
    return int(number) if rows is None and number.isdecimal() else rows


class Programs:
    """Compiles a file for so many tokens, calibrated on sentences; says so with `say`."""

    def __init__(
        self,
        request: Request,
        config: HardwareConfig,
        path: Path,
        file: DecoderFile,
        tokenizer: Tokenizer,
        quantization: Quantization,
        say: Callable[[str], None],
    ) -> None:
        self.request, self.config, self.path, self.file = request, config, path, file
        self.table = cost_table(config, energy_costs(request.energy_table))
        self.quantization, self.say = quantization, say
        self.host: dict[str, tuple[str, ...]] = {}  # by Program, what the host does
        self.seconds = 0.0  # of compiling
        texts, source = samples.texts(
            quantization.calibration, quantization.samples or samples.DEFAULT_SAMPLES
        )
        most = most_places(file)
        self.sentences = [tokenizer.ids(text)[:most] for text in texts]
        self.say(f"calibrating on {len(texts)} sentences: {source}")

    def __call__(self, past: int, seq: int, codes: Mapping[str, Codes]) -> Network:
        """Compile it."""
        began = time.perf_counter()
        kind = f"a step behind up to {past} tokens" if past else f"{seq} tokens"
        self.say(f"compiling {kind}")
        file = self.file if past else self.file.of_prompts(seq)
        network = compile_network(
            self.path if past else file.model.proto,
            self.config,
            self._samples(past, seq),
            seq=seq,
            dims=file.dimensions(past, seq),
            objective=self.request.objective,
            table=self.table,
            options=self.quantization.choices,
            past=tuple(self.file.past) if past else (),
            codes=codes,
        )
        for note in (*network.notes, *network.host):
            if note not in [n for notes in self.host.values() for n in notes]:
                self.say(f"note: {note}")
        self.host[kind] = network.host
        self.seconds += time.perf_counter() - began
        return network

    def _samples(self, past: int, seq: int) -> list[Feeds]:
        if past:
            return list(step_samples(self.file, self.sentences, past, self.quantization.seed))
        return prompt_samples(self.file, self.sentences, seq)
