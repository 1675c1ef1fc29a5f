"""Train one set of weights for a whole space of decoders, and measure decoders with it.

BigNAS (arXiv 2003.11142) on `elastic` decoders. A step trains the largest, the smallest and two
random subnets (the sandwich rule) on one batch: the largest on the text, the others on the
largest's probabilities (in-place distillation). The learning rate falls exponentially to a constant
end. A space of one decoder trains just that. Every random number is a function of the seed and of
where training is, so what is saved after an epoch continues to the same bits on the same machine.
Needs torch, of the [train] extra.
"""

from __future__ import annotations

import csv
import io
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ModelError
from codesign.hw.files import write_atomic
from codesign.models import elastic, torch_file
from codesign.models.families import DecoderConfig
from codesign.models.perplexities import Measured, measured
from codesign.models.space import Single, Space

if TYPE_CHECKING:
    import torch

Ids = npt.NDArray[np.int64]
CHECKPOINT, LOG = "supernet.pt", "training.csv"
RANDOM_SUBNETS = 2
BETAS = (0.9, 0.95)
LARGEST_GRADIENT = 1.0
MOST_NATS = 700.0  # a token, whose exp is still a number


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
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where training is: after `epoch` epochs and `step` of `steps` steps of the next one."""

    epoch: int
    step: int
    steps: int
    loss: float  # nats a token of the largest, mean of the epoch so far
    seconds: float  # since training began or was resumed


@dataclass(frozen=True)
class Step:
    """One step of training: a row of LOG. Losses are nats a token, of the largest on the text and of
    the others on the largest's probabilities; None where there are no others."""

    epoch: int  # from 1
    step: int  # from 1, of the epoch
    learning_rate: float
    largest: float
    smallest: float | None
    random: float | None  # their mean


@dataclass(frozen=True)
class Supernet:
    """Trained weights of a space, and the steps that trained them."""

    space: Space | Single
    weights: elastic.Tensors
    log: Sequence[Step] = ()

    def subnet(self, config: DecoderConfig) -> elastic.Tensors:
        """Return the weights of a decoder; raises ModelError when the largest does not hold it."""
        return elastic.subnet(self.weights, self.space.largest, config)


def train(
    tokens: Ids,
    space: Space | Single,
    training: Training,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    report: Callable[[Progress], None] | None = None,
    before_save: Callable[[], None] | None = None,
) -> Supernet:
    """Train on int64[n] tokens and return the supernet; it is saved in the folder `out`.

    After every epoch it is saved with all that `resume` needs to go on from there, and the losses so
    far as LOG; a run that ended resumes to its own result. `before_save` is called every time.
    Raises ModelError when the text, the folder, what it holds or the memory does not do, or torch is
    not there.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModelError("training needs torch: pip install 'codesign[train]'") from error

    path = out / CHECKPOINT
    _check(tokens, space, training, path, resume)
    start = time.monotonic()
    with _memory(training.batch, training.seq):
        state = _State(space, training, zlib.crc32(tokens.tobytes()), device)
        if resume and path.exists():
            state.load(path)
        steps = _steps(tokens, training)
        for epoch in range(state.epoch, training.epochs):
            total = 0.0
            for step, rows in enumerate(_batches(tokens, training, epoch)):
                rate = _learning_rate(training, epoch * steps + step, training.epochs * steps)
                batch = torch.from_numpy(rows).to(device)
                losses = _step(state, batch, rate, epoch * steps + step)
                total += losses[0]
                if not math.isfinite(total):
                    raise _diverged(training, epoch, step)
                state.log.append(_logged(epoch, step, rate, losses))
                if report:
                    seconds = time.monotonic() - start
                    report(Progress(epoch, step + 1, steps, total / (step + 1), seconds))
            if not _finite(state.weights):
                raise _diverged(training, epoch, step)
            state.epoch = epoch + 1
            if before_save:
                before_save()
            state.save(path)
            _write_log(state.log, out / LOG)
    _write_log(state.log, out / LOG)  # a run killed between both has no file of its last epoch
    return Supernet(space, state.weights, state.log)


def load(out: Path, *, device: str = "cpu") -> Supernet:
    """Return the supernet that `train` saved in `out`, with its space; raises ModelError when there
    is none."""
    path = out / CHECKPOINT
    saved = torch_file.load(path)
    with torch_file.refuse_damage(path):
        only = saved["space"].get("only")
        space = Single(DecoderConfig(**only)) if only else Space(**saved["space"])
        weights = {name: value.to(device) for name, value in saved["weights"].items()}
        return Supernet(space, weights, [Step(*row) for row in saved["log"]])


def perplexity(
    supernet: Supernet, config: DecoderConfig, tokens: Ids, seq: int, batch: int = 32
) -> float:
    """Return exp of the mean cross-entropy of `config` over successive windows of `seq` tokens."""
    import torch
    from torch.nn import functional as F

    weights = supernet.subnet(config)
    device = weights["norm.gamma"].device
    rows = windows(tokens, seq)
    nats = 0.0
    with torch.inference_mode(), _memory(batch, seq):
        for first in range(0, len(rows), batch):
            part = torch.from_numpy(rows[first : first + batch]).to(device)
            logits = elastic.forward(config, weights, part[:, :-1])
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
    supernet: Supernet, configs: Iterable[DecoderConfig], tokens: Ids, seq: int, batch: int = 32
) -> Iterator[Measured]:
    """Yield the perplexity of each decoder, as a row of the table in `perplexities`."""
    for config in configs:
        yield measured(config, perplexity(supernet, config, tokens, seq, batch))


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


class _State:
    """What training changes: weights, moments of AdamW, epochs done, steps logged."""

    def __init__(self, space: Space | Single, training: Training, text: int, device: str) -> None:
        import torch

        self.device = device
        self.of = {"space": asdict(space), "training": asdict(training), "text": {"crc32": text}}
        self.space, self.training = space, training
        self.epoch = 0
        self.log: list[Step] = []
        self.weights = {
            name: value.detach().to(device).requires_grad_()
            for name, value in elastic.initial(space.largest, training.seed).items()
        }
        matrices = [value for value in self.weights.values() if value.ndim > 1]
        vectors = [value for value in self.weights.values() if value.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=BETAS)

    def save(self, path: Path) -> None:
        content = {
            **self.of,
            "epoch": self.epoch,
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "log": [astuple(step) for step in self.log],
        }
        torch_file.save(content, path)

    def load(self, path: Path) -> None:
        import torch

        saved = torch_file.load(path)
        with torch_file.refuse_damage(path):
            for what, given in self.of.items():
                _same(what, saved[what], given, path)
            self.epoch = saved["epoch"]
            if type(self.epoch) is not int or not 1 <= self.epoch <= self.training.epochs:
                raise ValueError(f"epoch {self.epoch}")
            self.log = [Step(*row) for row in saved["log"]]
            with torch.no_grad():
                for name, value in self.weights.items():
                    value.copy_(_shaped(saved["weights"][name], value))
            self.optimizer.load_state_dict(saved["optimizer"])
            for value in self.weights.values():
                for moment in ("exp_avg", "exp_avg_sq"):
                    _shaped(self.optimizer.state[value][moment], value)
            if not _finite(self.weights):
                raise ValueError("weights that are no numbers")


def _shaped(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`value`; raises ValueError when it has another shape, which a copy would broadcast."""
    if value.shape != like.shape:
        raise ValueError(f"{list(value.shape)} in place of {list(like.shape)}")
    return value


def _finite(weights: Mapping[str, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in weights.values())


def _diverged(training: Training, epoch: int, step: int) -> ModelError:
    return ModelError(
        f"training diverged in step {step + 1} of epoch {epoch + 1}: "
        f"give a learning rate below {training.learning_rate}"
    )


def _logged(epoch: int, step: int, rate: float, losses: Sequence[float]) -> Step:
    smallest = losses[1] if len(losses) > 1 else None
    random = sum(losses[2:]) / len(losses[2:]) if len(losses) > 2 else None
    return Step(epoch + 1, step + 1, rate, losses[0], smallest, random)


def _write_log(log: Sequence[Step], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Step))
    writer.writerows(map(astuple, log))
    try:
        write_atomic(path, text.getvalue().encode())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def _step(state: _State, batch: torch.Tensor, rate: float, step: int) -> list[float]:
    """Train on int64[batch, seq + 1]; the losses of the decoders of `_sandwich`."""
    import torch
    from torch.nn import functional as F

    ids, targets = batch[:, :-1], batch[:, 1:].flatten()
    if state.training.dropout:
        torch.manual_seed(_seed(state.training, step))
    configs = _sandwich(state.space, state.training, step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    losses, teacher = [], None
    for config in configs:
        weights = elastic.subnet(state.weights, state.space.largest, config)
        dropout = state.training.dropout if teacher is None else 0.0
        # Mixed precision where it is fast; losses and weights stay float32.
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            logits = elastic.forward(config, weights, ids, dropout)
        logits = logits.flatten(0, 1).float()
        if teacher is None:
            loss = F.cross_entropy(logits, targets)
            teacher = logits.detach().softmax(-1)
        else:
            loss = F.cross_entropy(logits, teacher)
        losses.append(float(loss.detach()))
        (loss / len(configs)).backward()
    torch.nn.utils.clip_grad_norm_(state.weights.values(), LARGEST_GRADIENT)
    state.optimizer.step()
    return losses


def _sandwich(space: Space | Single, training: Training, step: int) -> Sequence[DecoderConfig]:
    rng = np.random.default_rng([training.seed, 1, step])
    random = [space.draw(rng) for _ in range(RANDOM_SUBNETS)]
    return list(dict.fromkeys((space.largest, space.smallest, *random)))


def _seed(training: Training, step: int) -> int:
    return int(np.random.default_rng([training.seed, 2, step]).integers(2**31))


def _steps(tokens: Ids, training: Training) -> int:
    """Steps of an epoch: whole batches, at any offset."""
    count = (len(tokens) - training.seq) // training.seq
    return max(1, count // training.batch)


def _batches(tokens: Ids, training: Training, epoch: int) -> Iterator[Ids]:
    """The text from a random offset on, in windows in random order."""
    rng = np.random.default_rng([training.seed, 0, epoch])
    room = len(tokens) - training.seq - 1
    rows = windows(tokens, training.seq, int(rng.integers(min(room, training.seq - 1) + 1)))
    rows = rows[rng.permutation(len(rows))]
    for step in range(_steps(tokens, training)):
        yield rows[step * training.batch : (step + 1) * training.batch]


def _learning_rate(training: Training, step: int, steps: int) -> float:
    rise = max(1, round(training.warmup * steps))
    if step < rise:
        return training.learning_rate * (step + 1) / rise
    fallen = min(1.0, (step - rise) / max(1, round(training.decay * steps) - rise))
    return float(training.learning_rate * training.end**fallen)


def _check(
    tokens: Ids, space: Space | Single, training: Training, path: Path, resume: bool
) -> None:
    if training.seq > space.max_positions:
        raise ModelError(
            f"seq {training.seq} exceeds the {space.max_positions} positions of the space: "
            "shorten it, or give the space more"
        )
    windows(tokens, training.seq)
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


def _same(what: str, saved: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    differ = [
        f"{key} {_plain(saved.get(key))}, not {_plain(value)}"
        for key, value in given.items()
        if _plain(saved.get(key)) != _plain(value)
    ]
    if differ:
        raise ModelError(
            f"{path} is of another {what}: "
            + "; ".join(differ)
            + ": give that one, or another folder"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


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
