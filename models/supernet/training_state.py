"""What training changes and a checkpoint keeps: weights, optimizer, epochs done, steps logged.

Needs torch, of the [train] extra.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codesign.hw.errors import ModelError
from codesign.hw.platform.files import write_atomic
from codesign.models.supernet import elastic, torch_file
from codesign.models.supernet.schedule import Training
from codesign.models.supernet.space import Single, SubnetSpace

BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class TrainingStep:
    """One step of training: a row of the log. Losses are nats a token, of the largest on the text and of
    the others on what they learn; None where there are no others."""

    epoch: int  # from 1
    step: int  # from 1, of the epoch
    learning_rate: float
    largest: float
    smallest: float | None
    random: float | None  # their mean


class State:
    """What training changes: weights, moments of AdamW, epochs done, steps logged."""

    def __init__(
        self, space: SubnetSpace | Single, training: Training, text: int, device: str
    ) -> None:
        """`text` is a checksum of the tokens; training begins with random weights."""
        self.device = device
        self.of = {"space": space.document(), "training": asdict(training), "text": {"crc32": text}}
        self.space, self.training = space, training
        self.epoch = 0
        self.log: list[TrainingStep] = []
        self.weights = {
            name: nn.Parameter(value.detach().to(device))
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
        """Write all that `load` needs; raises ModelError when that fails."""
        content = {
            **self.of,
            "epoch": self.epoch,
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "log": [astuple(step) for step in self.log],
        }
        torch_file.save_torch(content, path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote; raises ModelError when it is of another training."""
        saved = torch_file.load_torch(path)
        with torch_file.refuse_torch_damage(path):
            for what, given in self.of.items():
                _same(what, saved[what], given, path)
            self.epoch = saved["epoch"]
            if type(self.epoch) is not int or not 1 <= self.epoch <= self.training.epochs:
                raise ValueError(f"epoch {self.epoch}")
            self.log = [TrainingStep(*row) for row in saved["log"]]
            with torch.no_grad():
                for name, value in self.weights.items():
                    value.copy_(_shaped(saved["weights"][name], value))
            self.optimizer.load_state_dict(saved["optimizer"])
            for value in self.weights.values():
                for moment in ("exp_avg", "exp_avg_sq"):
                    _shaped(self.optimizer.state[value][moment], value)
            if not self.is_finite():
                raise ValueError("weights that are no numbers")

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(value.isfinite().all()) for value in self.weights.values())


def _shaped(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`value`; raises ValueError when it has another shape, which a copy would broadcast."""
    if value.shape != like.shape:
        raise ValueError(f"{list(value.shape)} in place of {list(like.shape)}")
    return value


def write_log(log: Sequence[TrainingStep], path: Path) -> None:
    """Write steps as CSV, whole or not at all; raises ModelError when that fails."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(TrainingStep))
    writer.writerows(map(astuple, log))
    try:
        write_atomic(path, text.getvalue().encode())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another folder") from error


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
