"""The space of decoders that a supernet holds."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import codesign.models.supernet
from codesign.hw.errors import ModelError
from codesign.models.supernet.schedule import Training
from codesign.models.supernet.space import Single, subnets
from codesign.models.supernet.supernet import train
from codesign.models.text.tokens import built_in_tokens
from codesign.models.zoo.decoder import lm

SMALL = subnets(
    vocab_size=11, max_positions=8, layers=(1, 2), d_model=(12, 24), heads=(2, 5), d_ff=(8, 16)
)


def test_the_published_space() -> None:
    """arXiv 2302.14017 §6.4: 5 * sum over depths of (5 * 19)^N architectures."""
    space = subnets(vocab_size=100)
    assert space.size() == 5 * sum(95**n for n in (3, 4, 5, 6))
    largest, smallest = space.largest.chosen, space.smallest.chosen
    assert (largest["layers"], largest["d_model"]) == (6, 768)
    assert largest["d_ff"] == (3072,) * 6 and smallest["d_ff"] == (768,) * 3
    assert (smallest["heads"], smallest["d_model"]) == ((4,) * 3, 384)


def test_every_decoder_is_drawn_and_nothing_else() -> None:
    everything = {
        lm(layers=n, d_model=d, heads=heads, d_ff=d_ff, vocab_size=11, max_positions=8)
        for n in (1, 2)
        for d in (12, 24)
        for heads in itertools.product((2, 5), repeat=n)
        for d_ff in itertools.product((8, 16), repeat=n)
    }
    assert set(SMALL.sample(10_000, seed=0)) == everything
    assert SMALL.size() == len(everything) == 40
    assert list(SMALL.sample(9, seed=1)) == list(SMALL.sample(20, seed=1))[:9]


def test_a_space_of_one() -> None:
    space = Single(SMALL.largest)
    assert space.largest == space.smallest == space.draw(np.random.default_rng(0))


def test_errors() -> None:
    with pytest.raises(ModelError, match=r"layers is \[\] .*heads is \[4, 2\] .*rising order"):
        subnets(vocab_size=5, layers=(), heads=(4, 2))
    with pytest.raises(ModelError, match="d_model is 100 but must be divisible by 12"):
        subnets(vocab_size=5, d_model=(96, 100))
    with pytest.raises(ModelError, match=r"heads\[0\] is 13"):
        subnets(vocab_size=5, heads=(4, 13))


def test_missing_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("codesign.models.supernet.")]:
        monkeypatch.delitem(sys.modules, name)  # loaded by another test, with torch
    monkeypatch.delattr(codesign.models.supernet, "training_loop", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"needs torch: pip install .*\[train\]"):
        train(built_in_tokens(1000, 100).train, SMALL, Training(), tmp_path)
