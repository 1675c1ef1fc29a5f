"""Text files to tokens: bytes and words round trip, and files that do not do are refused."""

from pathlib import Path

import numpy as np
import pytest

from codesign.hw.errors import ModelError
from codesign.models.text.tokens import LINE_END, UNKNOWN, Tokens, built_in_tokens, read_tokens

LINES = [f"the line ñ {i % 7} of {i}" for i in range(40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return file


def text(tokens: Tokens) -> tuple[list[str], list[str]]:
    train, held = ([tokens.vocabulary[i] for i in ids] for ids in (tokens.train, tokens.validation))
    return train, held


def test_bytes_are_the_file(path: Path) -> None:
    tokens = read_tokens(path, "bytes", validation=path)
    assert bytes(tokens.train.astype(np.uint8)) == path.read_bytes()
    assert len(tokens.vocabulary) == 256
    held = bytes(read_tokens(path, "bytes").validation.astype(np.uint8)).decode()
    assert held == "".join(line + "\n" for line in LINES[9::10])


def test_words_are_the_lines(path: Path) -> None:
    train, validation = text(read_tokens(path, "words"))
    held = set(range(9, 40, 10))
    wanted = [[*line.split(), LINE_END] for i, line in enumerate(LINES) if i not in held]
    assert train == [word for line in wanted for word in line]
    assert validation.count(LINE_END) == 4 and UNKNOWN in validation, "39 occurs once"


def test_a_small_vocabulary_keeps_the_frequent_words(path: Path) -> None:
    tokens = read_tokens(path, "words", vocabulary_size=8)
    assert tokens.vocabulary[:6] == (LINE_END, UNKNOWN, "line", "of", "the", "ñ")
    assert tokens.train.max() == 7
    train, _ = text(tokens)
    assert train.count(UNKNOWN) == 36 * 2 - sum(train.count(word) for word in tokens.vocabulary[6:])


def test_the_share_of_unknown_words(path: Path) -> None:
    assert read_tokens(path, "bytes").unknown is None
    assert built_in_tokens(200, 100).unknown is None
    tokens = read_tokens(path, "words", vocabulary_size=8)
    train, validation = (words.count(UNKNOWN) / len(words) for words in text(tokens))
    assert tokens.unknown == pytest.approx((train, validation)) and validation > train > 0


def test_built_in_text_validates_on_other_text() -> None:
    tokens = built_in_tokens(2000, 1000)
    assert len(tokens.train) >= 2000 and len(tokens.validation) >= 1000
    assert not np.array_equal(tokens.train[:1000], tokens.validation[:1000])


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"one line", "has 1 line, none to hold out"),
        (b"a\0b\n", "is binary, it has a zero at byte 1"),
        (b"ab\xff\n", "is not UTF-8 at byte 2"),
    ),
)
def test_files_that_do_not_do(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        read_tokens(file, "words")
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_other_errors(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read .*missing.txt: No such file"):
        read_tokens(tmp_path / "missing.txt", "bytes")
    with pytest.raises(ModelError, match="a vocabulary of 100 does not fit bytes"):
        read_tokens(path, "bytes", vocabulary_size=100)
    for size, share in ((2, "86%"), (3, "71%")):
        with pytest.raises(ModelError, match=f"a vocabulary of {size} is too small.*{share}"):
            read_tokens(path, "words", vocabulary_size=size)
