"""Text to tokens: what the language models here are trained and measured on.

A user's file, byte by byte or word by word, or the built-in `corpus`. `supernet` takes the result.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.text import corpus

Ids = npt.NDArray[np.int64]
Tokenization = Literal["bytes", "words"]

UNKNOWN, LINE_END = "<unk>", "<eos>"  # as word-level WikiText writes them (arXiv 1609.07843)
HELD_OUT = 10  # every tenth line validates when there is no file for it
MOST_UNKNOWN = 0.5  # of the words: a model of these says nothing


@dataclass(frozen=True)
class Tokens:
    """int64[n] tokens to train on and to validate with; `vocabulary` is their text, `name` what a
    perplexity of it is called after."""

    train: Ids
    validation: Ids
    vocabulary: tuple[str, ...]
    name: str

    @property
    def unknown(self) -> tuple[float, float] | None:
        """Share of UNKNOWN in both texts; None of a vocabulary without it."""
        if UNKNOWN not in self.vocabulary:
            return None
        index = self.vocabulary.index(UNKNOWN)
        return float((self.train == index).mean()), float((self.validation == index).mean())


def built_in_tokens(tokens: int = 400_000, validation: int = 20_000, seed: int = 1) -> Tokens:
    """Return at least so many tokens of the built-in corpus; other text validates than trains."""
    return Tokens(
        corpus.generate(tokens, seed).ids,
        corpus.generate(validation, seed + 1).ids,
        corpus.VOCABULARY,
        "the built-in grammar",
    )


def read_tokens(
    path: Path,
    tokenization: Tokenization,
    *,
    validation: Path | None = None,
    vocabulary_size: int | None = None,
    name: str | None = None,
) -> Tokens:
    """Return the tokens of UTF-8 text files; without `validation` every tenth line is held out.

    "bytes": 256 tokens. "words": what spaces separate, LINE_END after every line, as published
    perplexities of WikiText count it, and UNKNOWN for all but the `vocabulary_size` most frequent
    (None: no word is unknown). It is called `name`, or after the file.
    Raises ModelError when a file cannot be read as text or the vocabulary does not do.
    """
    lines = _lines(path)
    if validation is not None:
        held = _lines(validation)
    elif len(lines) < HELD_OUT:
        raise ModelError(
            f"{path} has {len(lines)} line{'s' * (len(lines) > 1)}, none to hold out: give a file "
            "to validate with"
        )
    else:
        held = lines[HELD_OUT - 1 :: HELD_OUT]
        lines = [line for i, line in enumerate(lines) if i % HELD_OUT != HELD_OUT - 1]
    if tokenization == "bytes":
        if vocabulary_size not in (None, 256):
            raise ModelError(
                f"a vocabulary of {vocabulary_size} does not fit bytes: leave it out, or choose words"
            )
        vocabulary = tuple(chr(byte) for byte in range(256))
        return Tokens(_bytes(lines), _bytes(held), vocabulary, f"{name or path.name}, bytes")
    vocabulary = _vocabulary(lines, vocabulary_size, path)
    ids, held_ids = _words(lines, vocabulary), _words(held, vocabulary)
    return Tokens(ids, held_ids, vocabulary, name or path.name)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; give a text file") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 at byte {error.start}: give a text file") from error
    if "\0" in text:
        place = text.encode().index(0)
        raise ModelError(f"{path} is binary, it has a zero at byte {place}: give a text file")
    if not text.strip():
        raise ModelError(f"{path} is empty: give a file with text")
    return text.removesuffix("\n").split("\n")


def _bytes(lines: list[str]) -> Ids:
    data = "".join(line + "\n" for line in lines).encode()
    return np.frombuffer(data, dtype=np.uint8).astype(np.int64)


def _vocabulary(lines: list[str], size: int | None, path: Path) -> tuple[str, ...]:
    counts = Counter(word for line in lines for word in (*line.split(), LINE_END))
    counts[UNKNOWN] += 0
    special = (LINE_END, UNKNOWN)
    words = sorted((w for w in counts if w not in special), key=lambda w: (-counts[w], w))
    vocabulary = (*special, *words)[:size]
    unknown = 1 - sum(counts[word] for word in vocabulary) / counts.total()
    if size is not None and (size <= len(special) or unknown > MOST_UNKNOWN):
        raise ModelError(
            f"a vocabulary of {size} is too small for {path}: {unknown:.0%} of its words would be "
            f"unknown; give more, up to {len(words) + len(special)}"
        )
    return vocabulary


def _words(lines: list[str], vocabulary: tuple[str, ...]) -> Ids:
    index = {word: position for position, word in enumerate(vocabulary)}
    unknown = index[UNKNOWN]
    return np.array(
        [index.get(word, unknown) for line in lines for word in (*line.split(), LINE_END)],
        dtype=np.int64,
    )
