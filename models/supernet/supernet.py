"""Train one set of weights for a whole space of networks, and measure networks with it.

BigNAS (arXiv 2003.11142) on `elastic` networks of a family. A step trains the largest, the smallest and two
random subnets (the sandwich rule) on one batch: the largest on the text, the others on the
largest's probabilities (in-place distillation) or on the text. The learning rate falls exponentially
to a constant end. A space of one network trains just that. What is saved after an epoch continues to
the same bits on the same machine. Needs torch, of the [train] extra.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.hw.errors import ModelError
from codesign.hw.platform.installation import install_command
from codesign.models.quality.perplexities import Measured
from codesign.models.supernet import elastic, torch_file
from codesign.models.supernet.compute import CPU, Compute
from codesign.models.supernet.schedule import Ids, Training, windows
from codesign.models.supernet.space import Single, SubnetSpace, subnets_of
from codesign.models.zoo.model_config import Tensors, TextConfig

if TYPE_CHECKING:
    from codesign.models.supernet.training_loop import TrainingProgress
    from codesign.models.supernet.training_state import TrainingStep

CHECKPOINT, LOG = "supernet.pt", "training.csv"
MOST_NATS = 700.0  # a token, whose exp is still a number


@dataclass(frozen=True)
class Supernet:
    """Trained weights of a space, and the steps that trained them."""

    space: SubnetSpace | Single
    weights: Tensors
    log: Sequence[TrainingStep] = ()

    def subnet(self, config: TextConfig) -> Tensors:
        """Return the weights of a network; raises ModelError when the largest does not hold it."""
        return elastic.subnet(self.weights, self.space.largest, config)


def train(
    tokens: Ids,
    space: SubnetSpace | Single,
    training: Training,
    out: Path,
    *,
    resume: bool = False,
    compute: Compute = CPU,
    report: Callable[[TrainingProgress], None] | None = None,
    before_save: Callable[[], None] | None = None,
) -> Supernet:
    """Train on int64[n] tokens and return the supernet; it is saved in the folder `out`.

    After every epoch it is saved with all that `resume` needs to go on from there, and the losses so
    far as LOG; a run that ended resumes to its own result. `before_save` is called every time.
    Raises ModelError when the text, the folder, what it holds or the memory does not do, or torch is
    not there.
    """
    try:
        from codesign.models.supernet import training_loop
    except ModuleNotFoundError as error:
        raise ModelError(f"training needs torch: {install_command('train')}") from error
    from codesign.models.supernet.ranks import together
    from codesign.models.supernet.training_state import write_log

    path = out / CHECKPOINT
    _check(tokens, space, training, path, resume, compute.ranks)
    before = path if resume and path.exists() else None
    checksum = zlib.crc32(tokens.tobytes())
    job = training_loop.TrainingJob(space, training, tokens, checksum, before, compute)
    with (
        _memory(training.batch, training.seq),
        together(compute.ranks, compute.device, training_loop.follow, job) as rank,
    ):
        state = training_loop.begin(job, rank)
        for progress in training_loop.steps(job, state, rank):
            if report:
                report(progress)
            if progress.step == progress.steps:
                if before_save:
                    before_save()
                state.save(path)
                write_log(state.log, out / LOG)
    write_log(state.log, out / LOG)  # a run killed between both has no file of its last epoch
    return Supernet(space, state.weights, state.log)


def load(out: Path, *, device: str = "cpu") -> Supernet:
    """Return the supernet that `train` saved in `out`, with its space; raises ModelError when there
    is none."""
    from codesign.models.supernet.training_state import TrainingStep

    path = out / CHECKPOINT
    saved = torch_file.load_torch(path)
    with torch_file.refuse_torch_damage(path):
        space = subnets_of(saved["space"])
        weights = {name: value.to(device) for name, value in saved["weights"].items()}
        return Supernet(space, weights, [TrainingStep(*row) for row in saved["log"]])


def perplexity(
    supernet: Supernet, config: TextConfig, tokens: Ids, seq: int, batch: int = 32
) -> float:
    """Return exp of the mean cross-entropy of `config` over successive windows of `seq` tokens."""
    import torch
    from torch.nn import functional as F

    weights = supernet.subnet(config)
    device = next(iter(weights.values())).device
    rows = windows(tokens, seq)
    nats = 0.0
    with torch.inference_mode(), _memory(batch, seq):
        for first in range(0, len(rows), batch):
            part = torch.from_numpy(rows[first : first + batch]).to(device)
            logits = config.forward(weights, part[:, :-1])
            nats += float(
                F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            )
    nats /= rows.shape[0] * seq
    if not nats <= MOST_NATS:
        raise ModelError(
            f"a subnet's loss is {nats:.3g} nats a token: train in another folder with a lower "
            "learning rate"
        )
    return math.exp(nats)


def measure(
    supernet: Supernet, configs: Iterable[TextConfig], tokens: Ids, seq: int, batch: int = 32
) -> Iterator[Measured]:
    """Yield the perplexity of each network, as a row of the table in `perplexities`."""
    for config in configs:
        yield Measured(config.chosen, perplexity(supernet, config, tokens, seq, batch))


def _check(
    tokens: Ids,
    space: SubnetSpace | Single,
    training: Training,
    path: Path,
    resume: bool,
    ranks: int,
) -> None:
    if training.seq > space.max_positions:
        raise ModelError(
            f"seq {training.seq} exceeds the {space.max_positions} positions of the space: "
            "shorten it, or give the space more"
        )
    rows = len(windows(tokens, training.seq))
    if training.batch % ranks or (ranks > 1 and rows <= training.batch):
        raise ModelError(
            f"{ranks} ranks cannot share batches of {training.batch} out of {rows} sequences "
            "equally: give a batch that is a multiple, or more text"
        )
    if tokens.min() < 0 or tokens.max() >= space.vocab_size:
        raise ModelError(
            f"token {tokens.max()} of the text is outside the vocabulary of {space.vocab_size}: "
            "make the space with the vocabulary of the text"
        )
    if path.exists() and not resume:
        raise ModelError(f"{path} is there already: resume it, or choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {path.parent}: {error.strerror}; choose another") from error


@contextmanager
def _memory(batch: int, seq: int) -> Iterator[None]:
    """Name what to do when memory ends, on either kind of device."""
    try:
        yield
    except (RuntimeError, MemoryError, TypeError) as error:
        said = str(error).lower()  # a size beyond 64 bits overflows before memory is asked for
        if isinstance(error, MemoryError) or "memory" in said or "overflow" in said:
            raise ModelError(
                f"out of memory with batches of {batch} x {seq} tokens: "
                "give a smaller batch, a shorter sequence or a smaller space"
            ) from error
        raise
