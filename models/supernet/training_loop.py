"""The steps of a training, in one process or in each of several that share every batch.

Needs torch, of the [train] extra.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from codesign.hw.errors import ModelError
from codesign.models.supernet import schedule
from codesign.models.supernet.compute import Compute
from codesign.models.supernet.ranks import Rank
from codesign.models.supernet.sandwich import Sandwich
from codesign.models.supernet.schedule import Ids, Training
from codesign.models.supernet.space import Single, SubnetSpace
from codesign.models.supernet.training_state import State, TrainingStep
from codesign.models.zoo.model_config import Layer, TextConfig

LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class TrainingJob:
    """What to train: a space, on int64[n] tokens with a checksum, from `checkpoint` on if any."""

    space: SubnetSpace | Single
    training: Training
    tokens: Ids
    checksum: int
    checkpoint: Path | None
    compute: Compute


@dataclass(frozen=True)
class TrainingProgress:
    """Where training is: after `epoch` epochs and `step` of `steps` steps of the next one."""

    epoch: int
    step: int
    steps: int
    loss: float  # nats a token of the largest, mean of the epoch so far
    seconds: float  # since training began or was resumed


def begin(job: TrainingJob, rank: Rank) -> State:
    """Return the state that a training begins with; raises ModelError for a bad checkpoint."""
    state = State(job.space, job.training, job.checksum, rank.device(job.compute.device))
    if job.checkpoint is not None:
        state.load(job.checkpoint)
    return state


def steps(job: TrainingJob, state: State, rank: Rank) -> Iterator[TrainingProgress]:
    """Train what is left, yielding after each step; `state` is that of a whole epoch at its last.

    Raises ModelError when the training diverges.
    """
    training, start = job.training, time.monotonic()
    sandwich = rank.share(
        Sandwich(
            state.weights,
            job.space.largest,
            distil=training.distil,
            dropout=training.dropout,
            layer=_compiled(job.space.kind) if job.compute.compiled else None,
        )
    )
    count = schedule.steps_of_epoch(job.tokens, training)
    for epoch in range(state.epoch, training.epochs):
        total = 0.0
        for step, rows in enumerate(schedule.batches(job.tokens, training, epoch)):
            number = epoch * count + step
            if training.dropout:
                torch.manual_seed(schedule.dropout_seed(training, number, rank.number))
            rate = schedule.learning_rate(training, number, training.epochs * count)
            configs = schedule.sandwich(job.space, training, number)
            batch = torch.from_numpy(rank.part(rows)).to(state.device)
            losses = rank.mean(_step(sandwich, state, configs, batch, rate)).tolist()
            total += losses[0]
            last = step + 1 == count
            if not math.isfinite(total) or (last and not state.is_finite()):
                raise ModelError(
                    f"training diverged in step {step + 1} of epoch {epoch + 1}: "
                    f"give a learning rate below {training.learning_rate}"
                )
            state.log.append(_logged(epoch, step, rate, losses))
            state.epoch = epoch + last
            seconds = time.monotonic() - start
            yield TrainingProgress(epoch, step + 1, count, total / (step + 1), seconds)


def follow(rank: Rank, job: TrainingJob) -> None:
    """Train as a rank whose result nobody asks for."""
    for _ in steps(job, begin(job, rank), rank):
        pass


def _compiled(kind: type[TextConfig]) -> Layer | None:
    """A family's layer by torch.compile; where that cannot compile one, it is computed without."""
    plain = kind.trained_layer()
    if plain is None:
        return None
    from torch import _dynamo  # a second to import

    _dynamo.config.suppress_errors = True
    layer: Layer = torch.compile(plain, dynamic=True)
    return layer


def _step(
    sandwich: nn.Module,
    state: State,
    configs: Sequence[TextConfig],
    batch: torch.Tensor,
    rate: float,
) -> torch.Tensor:
    """Train `configs` on int64[batch, seq + 1]; their losses."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    mean, losses = sandwich(batch, configs)
    mean.backward()
    nn.utils.clip_grad_norm_(state.weights.values(), LARGEST_GRADIENT)
    state.optimizer.step()
    found: torch.Tensor = losses
    return found


def _logged(epoch: int, step: int, rate: float, losses: Sequence[float]) -> TrainingStep:
    smallest = losses[1] if len(losses) > 1 else None
    random = sum(losses[2:]) / len(losses[2:]) if len(losses) > 2 else None
    return TrainingStep(epoch + 1, step + 1, rate, losses[0], smallest, random)
