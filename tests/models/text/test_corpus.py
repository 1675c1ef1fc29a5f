"""The built-in text keeps its own rules, and its tokens are as likely as it says."""

import itertools
from collections import Counter

import numpy as np
import pytest

from codesign.models.text.corpus import (
    BRACKETS,
    NUMBERS,
    PEOPLE,
    START,
    THINGS,
    VOCABULARY,
    WOMEN,
    generate,
)

TEXT = generate(60_000, seed=7)


def documents() -> list[list[list[str]]]:
    """Sentences of words, document by document."""
    text = " ".join(TEXT.words())
    return [
        [sentence.split() for sentence in document.split(" .")[:-1]]
        for document in text.split(START)[1:]
    ]


def test_it_depends_on_the_seed_alone_and_grows() -> None:
    again = generate(30_000, seed=7)
    np.testing.assert_array_equal(again.ids, TEXT.ids[: len(again.ids)])
    assert not np.array_equal(generate(100, seed=8).ids[:100], TEXT.ids[:100])
    assert sorted(set(TEXT.words())) == sorted(VOCABULARY), "words that are never written"
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_counts_and_pronouns_follow_the_gifts() -> None:
    """Read the documents again and keep the books."""
    gifts = 0
    for sentences in documents():
        shares: dict[str, int] = {}
        last = ("", "")
        for words in sentences:
            if words[0] == "now":
                giver, receiver = last
                pronoun = "she" if giver in WOMEN else "he"
                assert words[1] in (pronoun, receiver)
                name = giver if words[1] == pronoun else receiver
                assert shares[name] == NUMBERS.index(words[3])
            elif words[0] in PEOPLE and words[1] == "gives":
                number = NUMBERS.index(words[2])
                last = (words[0], words[5])
                assert 1 <= number <= shares[words[0]] and words[0] != words[5]
                shares[words[0]] -= number
                shares[words[5]] += number
                gifts += 1
            elif words[0] in PEOPLE:
                number = NUMBERS.index(words[2])
                assert shares.setdefault(words[0], number) == number
            for first, second in itertools.pairwise(words):
                if first in NUMBERS and second.removesuffix("s") in THINGS:
                    assert second.endswith("s") == (first != "one")
        assert len({word for words in sentences for word in words if word in PEOPLE}) == 3
    assert gifts > 1000


def test_scenes_agree_sums_are_right_and_brackets_match() -> None:
    kinds = Counter[str]()
    for words in (words for sentences in documents() for words in sentences):
        if words[0] == "the":
            assert words[1].endswith("s") != words[-1].endswith("s")
            kinds["scene"] += 1
        elif words[0] in NUMBERS:
            a, b, total = (NUMBERS.index(words[i]) for i in (0, 2, 4))
            assert total == (a + b if words[1] == "plus" else a - b)
            kinds["sum"] += 1
        elif words[0] in BRACKETS:
            text = "".join(words)
            while text != (text := text.replace("()", "").replace("[]", "").replace("{}", "")):
                pass
            assert not text
            kinds["brackets"] += 1
    assert min(kinds.values()) > 300


def test_nats_are_what_is_measured() -> None:
    """What a token cost to choose is the entropy of what follows, where that hangs on nothing."""
    words = TEXT.words()
    for before in (START, "the"):
        places = [i + 1 for i, word in enumerate(words) if word == before]
        shares = np.array(list(Counter(words[i] for i in places).values())) / len(places)
        assert TEXT.nats[places].mean() == pytest.approx(-(shares * np.log(shares)).sum(), abs=0.03)


def test_kinds_of_sentence_occur_as_stated() -> None:
    """After three people: a gift 3 times in 8, else each kind and the end once."""
    words = TEXT.words()
    after = [b for a, b in itertools.pairwise(words) if a == "." and b != "now"]
    choices = len(after) - 2 * len(documents())
    people = sum(word in PEOPLE for word in after) - 2 * len(documents())
    assert people / choices == pytest.approx(4 / 8, abs=0.02)
    for first in ((START,), ("the",), NUMBERS, tuple(BRACKETS)):
        assert sum(word in first for word in after) / choices == pytest.approx(1 / 8, abs=0.015)
