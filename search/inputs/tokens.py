"""Text to the inputs of a language model: tokens, padded to the length that a network is compiled for.

Tokenizers are files: tokenizer.json, or vocab.txt as BERT's WordPiece. Needs the package tokenizers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compiler.onnx.float_model import Array
from codesign.hw.errors import CodesignError
from codesign.hw.platform.installation import install_command
from codesign.hw.platform.quiet import quiet
from codesign.hw.platform.text import reason

TOKENIZER_FILE, VOCABULARY_FILE, SETTINGS_FILE = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
)
_MOST_BYTES = 256 << 20
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of one byte
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>")
IDS, MASK, TYPES, POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"


class TextError(CodesignError):
    """A tokenizer that cannot be read, or text that does not fit a network."""


class Tokenizer:
    """A tokenizer of the package tokenizers, read from `path`: a file or the folder it is in.

    Raises TextError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = tokenizer_file(path) if path.is_dir() else path
        if self.path is None:
            raise TextError(f"{path} has neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}")
        self._tokenizer = _read(self.path)
        with _refuse_panic(self.path):
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            found = [self._tokenizer.token_to_id(token) for token in _PADDING]
        self._padding = next((number for number in found if number is not None), 0)

    def count(self, text: str) -> int:
        """How many tokens a text is."""
        with _refuse_panic(self.path):
            return len(self._tokenizer.encode(text).ids)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, with those that the tokenizer puts around it but none behind it.

        Raises TextError for a text that is empty.
        """
        if not text.strip():
            raise TextError("the text is empty: give at least one word")
        with _refuse_panic(self.path):
            found: list[int] = self._tokenizer.encode(text).ids
        while len(found) > 1 and found[-1] in self.special:
            found.pop()
        return found

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        with _refuse_panic(self.path):
            found: str = self._tokenizer.decode(list(ids))
        return found

    def settled(self, ids: Sequence[int]) -> str:
        """The text of tokens as far as no later one changes it: bytes at its end may become a character."""
        count = len(ids)
        with _refuse_panic(self.path):
            while count and _BYTE.fullmatch(self._tokenizer.id_to_token(ids[count - 1]) or ""):
                count -= 1
        return self.text(ids[:count]).rstrip("\ufffd")

    @cached_property
    def special(self) -> frozenset[int]:
        """The tokens that stand for no text: they begin one, end one, or part two."""
        with _refuse_panic(self.path):
            added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def feeds(self, text: str, inputs: Sequence[str], length: int) -> Mapping[str, Array]:
        """The inputs of those names, int64[1, length] each: a text, and padding behind it.

        A text that is longer is cut, its last special token kept. Raises TextError for an input that
        text does not give.
        """
        with _refuse_panic(self.path):
            self._tokenizer.enable_truncation(length)
            encoding = self._tokenizer.encode(text)
            self._tokenizer.no_truncation()
        used = len(encoding.ids)
        values = {
            IDS: [*encoding.ids, *[self._padding] * (length - used)],
            MASK: [1] * used + [0] * (length - used),
            TYPES: [*encoding.type_ids, *[0] * (length - used)],
            POSITIONS: list(range(length)),
        }
        require_text(inputs)
        return {name: np.array([values[name]], dtype=np.int64) for name in inputs}


def require_text(inputs: Sequence[str]) -> None:
    """Raise TextError unless text alone gives the inputs of those names."""
    other = [name for name in inputs if name not in (IDS, MASK, TYPES, POSITIONS)]
    if IDS not in inputs:
        raise TextError(f"the model has no input {IDS} that takes text: use --input FILE.npz")
    if other:
        raise TextError(
            f"text gives {IDS}, {MASK}, {TYPES} and {POSITIONS}, but the model wants "
            f"{', '.join(other)} too: use --input FILE.npz"
        )


def tokenizer_file(folder: Path) -> Path | None:
    """The tokenizer's file in a folder, if there is one."""
    names = (TOKENIZER_FILE, VOCABULARY_FILE)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(path: Path) -> Any:
    try:
        import tokenizers
        from tokenizers import BertWordPieceTokenizer
    except ImportError as error:
        raise TextError(f"reading {path} needs tokenizers: {install_command('run')}") from error
    if not path.is_file():
        raise TextError(f"cannot read {path}: no such file")
    if path.stat().st_size > _MOST_BYTES:
        raise TextError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: that is no tokenizer")
    with _refuse_panic(path):
        if path.suffix == ".txt":
            words = tokenizers.models.WordPiece.read_file(str(path))
            return BertWordPieceTokenizer(words, lowercase=_lower_case(path.parent))
        return tokenizers.Tokenizer.from_file(str(path))


@contextmanager
def _refuse_panic(path: Path | None) -> Iterator[None]:
    """Whatever the package raises, its panics (no Exception) with it, is the file's fault: TextError."""
    try:
        with quiet():  # a panic prints its stack
            yield
    except (KeyboardInterrupt, SystemExit, CodesignError):
        raise
    except BaseException as error:
        raise TextError(
            f"{path} is no tokenizer ({reason(error)}): give a {TOKENIZER_FILE}, or a "
            f"{VOCABULARY_FILE} of BERT"
        ) from error


def _lower_case(folder: Path) -> bool:
    """Whether a vocabulary is of lower-case text: as its settings say, or the common case."""
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        return bool(settings.get("do_lower_case", True))
    except (OSError, ValueError, AttributeError, RecursionError):
        return True
