"""What each step of training takes: text, networks, learning rate.

All of it is a function of the seed and of where training is, so that a training that was stopped
goes on as if it had not been.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.models.supernet.space import Single, SubnetSpace
from codesign.models.zoo.model_config import TextConfig

Ids = npt.NDArray[np.int64]
RANDOM_SUBNETS = 2


@dataclass(frozen=True)
class Training:
    """How to train. A step takes `batch` windows of `seq` tokens, an epoch the whole text once."""

    epochs: int = 50
    batch: int = 16
    seq: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.02  # of all steps: a linear rise
    decay: float = 0.9  # of all steps: by then the rate is at its constant end
    end: float = 0.05  # of the learning rate (BigNAS §3.2)
    weight_decay: float = 0.01
    dropout: float = 0.0  # of the largest alone (BigNAS §3.2)
    distil: bool = True  # smaller ones learn the largest's probabilities, else the text (§3.1)
    seed: int = 0


def windows(tokens: Ids, seq: int, offset: int = 0) -> Ids:
    """Return int64[n, seq + 1]: n inputs of `seq` tokens, each with the token that follows it."""
    count = (len(tokens) - offset - 1) // seq
    if count < 1:
        raise ModelError(
            f"{len(tokens)} tokens hold no sequence of {seq} and the token after it: "
            "give more text or a shorter sequence"
        )
    starts = offset + seq * np.arange(count)
    rows: Ids = tokens[starts[:, None] + np.arange(seq + 1)]
    return rows


def sandwich(space: SubnetSpace | Single, training: Training, step: int) -> Sequence[TextConfig]:
    """Return the different networks of a step: the largest, the smallest, two random ones."""
    rng = np.random.default_rng([training.seed, 1, step])
    random = [space.draw(rng) for _ in range(RANDOM_SUBNETS)]
    return list(dict.fromkeys((space.largest, space.smallest, *random)))


def dropout_seed(training: Training, step: int, rank: int) -> int:
    """Return torch's seed of a step, another for every process that takes part."""
    return int(np.random.default_rng([training.seed, 2, step, rank]).integers(2**31))


def steps_of_epoch(tokens: Ids, training: Training) -> int:
    """Return the steps of an epoch: whole batches, at any offset."""
    count = (len(tokens) - training.seq) // training.seq
    return max(1, count // training.batch)


def batches(tokens: Ids, training: Training, epoch: int) -> Iterator[Ids]:
    """Yield int64[batch, seq + 1]: the text from a random offset on, in windows in random order."""
    rng = np.random.default_rng([training.seed, 0, epoch])
    room = len(tokens) - training.seq - 1
    rows = windows(tokens, training.seq, int(rng.integers(min(room, training.seq - 1) + 1)))
    rows = rows[rng.permutation(len(rows))]
    for step in range(steps_of_epoch(tokens, training)):
        yield rows[step * training.batch : (step + 1) * training.batch]


def learning_rate(training: Training, step: int, steps: int) -> float:
    """Return the rate of step `step` of `steps`."""
    rise = max(1, round(training.warmup * steps))
    if step < rise:
        return training.learning_rate * (step + 1) / rise
    fallen = min(1.0, (step - rise) / max(1, round(training.decay * steps) - rise))
    return float(training.learning_rate * training.end**fallen)
