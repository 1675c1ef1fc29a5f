"""A small text that the project makes itself, and whose true entropy it knows.

Input of the language models that are trained here (`supernet`) and of the perplexities that tests
compare. Short documents of a seeded probabilistic grammar over `VOCABULARY`:

    <s> mary has three red coins . john has one red coin . ...     who has what, of one colour
    mary gives two coins to john . now she has one red coin .      sums, pronouns, agreement
    the dogs near the cat sleep . two plus three makes five .      agreement past an attractor
    ( [ ( ) ] ) .                                                  nested brackets

Every derivation is visible in its tokens, so the choices' probabilities multiply to that of the
text: no model's perplexity is below exp(mean of `Text.nats`) but by the chance of the sample.
"""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Option = TypeVar("Option")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


START = "<s>"
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen"
)
WOMEN = _words("mary susan linda karen nancy")
PEOPLE = (*WOMEN, *_words("john robert david james peter"))
THINGS = _words("coin apple pen ball stone card book cup key ring")
COLOURS = _words("red blue green white black yellow")
ANIMALS = _words("dog cat bird horse cow pig duck bear goat frog")
VERBS = _words("sleep run sing eat jump wait play hide")
PREPOSITIONS = _words("near behind above beside")
BRACKETS = {"(": ")", "[": "]", "{": "}"}
LARGEST_SHARE = 6  # of one person at first: three people have at most eighteen
DEEPEST = 5  # nesting of brackets

VOCABULARY = (
    (START, ".", "the", "has", "gives", "to", "now", "she", "he", "plus", "minus", "makes")
    + (*BRACKETS, *BRACKETS.values(), *NUMBERS, *PEOPLE, *COLOURS, *PREPOSITIONS)
    + tuple(word + ending for word in (*THINGS, *ANIMALS, *VERBS) for ending in ("", "s"))
)


@dataclass(frozen=True)
class Text:
    """Tokens of whole documents and what each cost to choose.

    `ids` int64[tokens] index VOCABULARY; `nats` float64[tokens] are -log of the probability of the
    choices made since the token before.
    """

    ids: npt.NDArray[np.int64]
    nats: npt.NDArray[np.float64]

    def words(self) -> list[str]:
        """Return the tokens as text."""
        return [VOCABULARY[index] for index in self.ids]


def generate(tokens: int, seed: int) -> Text:
    """Return documents of at least `tokens` tokens in all; they depend on `seed` alone, and a
    longer text begins with the shorter one."""
    writer = _Writer(np.random.default_rng(seed))
    while len(writer.words) < tokens:
        writer.document()
    index = {word: position for position, word in enumerate(VOCABULARY)}
    ids = np.array([index[word] for word in writer.words], dtype=np.int64)
    return Text(ids, np.array(writer.nats, dtype=np.float64))


class _Writer:
    """The grammar, as it writes: one method a nonterminal."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.words: list[str] = []
        self.nats: list[float] = []
        self.owed = 0.0  # nats of choices that no token shows yet

    def write(self, *words: str) -> None:
        for word in words:
            self.words.append(word)
            self.nats.append(self.owed)
            self.owed = 0.0

    def choose(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        weights = weights or [1.0] * len(options)
        point = self.rng.random() * sum(weights)
        index = bisect(list(accumulate(weights[:-1])), point)
        self.owed -= math.log(weights[index] / sum(weights))
        return options[index]

    def frequent(self, words: Sequence[str], order: Sequence[str]) -> str:
        """One of `words`, as often as Zipf's law has it of its rank in `order`."""
        return self.choose(words, [1 / (1 + order.index(word)) for word in words])

    def document(self) -> None:
        self.write(START)
        thing, colour = "", ""
        shares: dict[str, int] = {}
        for _ in range(3):
            rest = [name for name in PEOPLE if name not in shares]
            name = self.frequent(rest, PEOPLE)
            self.write(name, "has")
            shares[name] = self.choose(range(1, LARGEST_SHARE + 1))
            self.write(NUMBERS[shares[name]])
            if not thing:
                colour = self.frequent(COLOURS, COLOURS)
                self.write(colour)
                thing = self.frequent(THINGS, THINGS)
            else:
                self.write(colour)
            self.write(_of(thing, shares[name]), ".")
        kinds = ("end", "gift", "count", "scene", "sum", "brackets")
        while (kind := self.choose(kinds, (1, 3, 1, 1, 1, 1))) != "end":
            if kind == "gift":
                self.gift(shares, thing, colour)
            elif kind == "count":
                name = self.choose(tuple(shares))
                self.write(name)
                self.count(shares[name], thing, colour)
            else:
                {"scene": self.scene, "sum": self.sum, "brackets": self.brackets}[kind]()

    def gift(self, shares: dict[str, int], thing: str, colour: str) -> None:
        giver = self.choose([name for name in shares if shares[name]])
        self.write(giver, "gives")
        number = self.choose(range(1, shares[giver] + 1))
        self.write(NUMBERS[number], _of(thing, number), "to")
        receiver = self.choose([name for name in shares if name != giver])
        self.write(receiver, ".")
        shares[giver] -= number
        shares[receiver] += number
        self.write("now")
        who = self.choose((giver, receiver))
        self.write(_pronoun(giver) if who == giver else receiver)
        self.count(shares[who], thing, colour)

    def count(self, number: int, thing: str, colour: str) -> None:
        self.write("has", NUMBERS[number], colour, _of(thing, number), ".")

    def scene(self) -> None:
        self.write("the")
        plural = self.noun()
        if self.choose((True, False)):
            self.write(self.frequent(PREPOSITIONS, PREPOSITIONS), "the")
            self.noun()
        verb = self.frequent(VERBS, VERBS)
        self.write(verb if plural else verb + "s", ".")

    def noun(self) -> bool:
        """An animal or several; whether there are several."""
        plural = self.choose((True, False))
        self.write(_of(self.frequent(ANIMALS, ANIMALS), 2 if plural else 1))
        return plural

    def sum(self) -> None:
        first = self.choose(range(10))
        self.write(NUMBERS[first])
        sign = self.choose(("plus", "minus"))
        self.write(sign)
        second = self.choose(range(10 if sign == "plus" else first + 1))
        total = first + second if sign == "plus" else first - second
        self.write(NUMBERS[second], "makes", NUMBERS[total], ".")

    def brackets(self) -> None:
        closing: list[str] = []
        first = True
        while first or closing:
            if first or (len(closing) < DEEPEST and self.choose((True, False), (1, 2))):
                opening = self.choose(tuple(BRACKETS))
                self.write(opening)
                closing.append(BRACKETS[opening])
            else:
                self.write(closing.pop())
            first = False
        self.write(".")


def _pronoun(name: str) -> str:
    return "she" if name in WOMEN else "he"


def _of(thing: str, number: int) -> str:
    return thing if number == 1 else thing + "s"
