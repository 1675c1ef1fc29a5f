"""What steps of training take: the whole text every epoch, rates that rise and fall."""

import itertools
from collections import Counter

import numpy as np
import pytest

from codesign.models.supernet import schedule
from codesign.models.text import tokens

TEXT = tokens.built_in_tokens(20_000, 1_000)
TRAINING = schedule.Training(epochs=2, batch=16, seq=32, learning_rate=5e-3, seed=3)


def test_an_epoch_is_the_text_once_in_another_order() -> None:
    first, second = (
        np.concatenate(list(schedule.batches(TEXT.train, TRAINING, epoch))) for epoch in (0, 1)
    )
    assert first.shape == second.shape == (16 * schedule.steps_of_epoch(TEXT.train, TRAINING), 33)
    seen = Counter(first[:, :-1].flatten().tolist())
    whole = Counter(TEXT.train.tolist())
    assert all(seen[i] <= whole[i] for i in seen)
    assert seen.total() > 0.98 * whole.total()
    assert not np.array_equal(first, second)


def test_the_learning_rate_rises_falls_and_stays() -> None:
    rates = [schedule.learning_rate(TRAINING, step, 1000) for step in range(1000)]
    assert rates[19] == pytest.approx(5e-3) and rates[0] == pytest.approx(5e-3 / 20)
    ratios = [b / a for a, b in itertools.pairwise(rates[20:900])]
    assert ratios == pytest.approx([0.05 ** (1 / 880)] * 879), "an exponential"
    assert rates[900:] == pytest.approx([5e-3 * 0.05] * 100)
