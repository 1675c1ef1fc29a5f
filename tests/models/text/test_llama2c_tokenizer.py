"""tokenizer.json gives the tokens of llama2.c's own rule, and text back from them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama2c_files import SIZES, tokenizer, tokens
from tokenizers import Tokenizer

from codesign.hw.errors import ModelError
from codesign.models.text.llama2c import tokenizer_json


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("llama2c") / "tokens.bin"
    tokenizer(path)
    return Tokenizer.from_str(tokenizer_json(path, SIZES[5]))


def encoded(text: str) -> list[int]:
    """The rule itself: characters or bytes, then again and again the best union of neighbours."""
    known, scores = tokens()
    number = {token: index for index, token in enumerate(known)}
    ids = [1]
    for character in f" {text}" if text else "":
        word = character.encode()
        ids += [number[word]] if word in number else [byte + 3 for byte in word]
    while True:
        unions = (
            (-scores[number[union]], place, number[union])
            for place in range(1, len(ids) - 1)
            if (union := known[ids[place]] + known[ids[place + 1]]) in number
        )
        best = min(unions, default=None)
        if best is None:
            return ids
        _, place, union_number = best
        ids[place : place + 2] = [union_number]


@given(text=st.text(st.sampled_from("aab b é日\n~")))
def test_tokens_are_those_of_the_rule(read: Tokenizer, text: str) -> None:
    ids = read.encode(text).ids
    assert ids == encoded(text)
    assert read.decode(ids) == text


@pytest.mark.parametrize(
    ("start", "end", "said"),
    (
        (0, -1, "token 269 has 2 bytes"),
        (0, -5, "ends within token 269"),
        (0, -10, "has 269 tokens, but the model 270"),
        (20, None, r"token \d+ "),
    ),
)
def test_another_file_is_refused(start: int, end: int | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.bin"
    tokenizer(path)
    path.write_bytes(path.read_bytes()[start:end])
    with pytest.raises(ModelError, match=said):
        tokenizer_json(path, SIZES[5])
    with pytest.raises(ModelError, match="cannot read .*: No such file"):
        tokenizer_json(tmp_path / "none", SIZES[5])
