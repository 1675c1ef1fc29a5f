"""What a decoder is calibrated on: sentences as the inputs of its Programs."""

from collections.abc import Iterator, Sequence

import numpy as np

from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.onnx.float_model import Feeds

STEPS = 2  # of a sentence, as samples of a step


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
        for place in sorted(places):
            yield file.step(ids[place], place, file.cache(outputs, place, past))
