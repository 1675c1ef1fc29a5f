"""Processes that share every batch of a training: torch's DistributedDataParallel on one machine.

The caller is rank 0; the others live as long as its block and end with it. Gradients are means over
the ranks, so that training is that of one process but for rounding. Needs torch.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn

from codesign.hw.errors import CodesignError, ModelError
from codesign.hw.platform import processes

SECONDS_TO_SAY_WHY = 10.0  # for a rank that failed, before it counts as lost


@dataclass(frozen=True)
class Rank:
    """One of `count` processes; `ALONE` is the only one."""

    number: int = 0
    count: int = 1

    def device(self, kind: str) -> str:
        """Return the torch device of this rank: its own GPU, or the processor."""
        return f"cuda:{self.number}" if kind == "cuda" and self.count > 1 else kind

    def part(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return this rank's share of a batch, every `count`-th row."""
        return rows[self.number :: self.count]

    def share(self, module: nn.Module) -> nn.Module:
        """Return `module` with the gradients that all ranks get."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over all ranks of a tensor."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values / self.count


ALONE = Rank()


@contextmanager
def together(count: int, kind: str, follow: Callable[..., None], *arguments: Any) -> Iterator[Rank]:
    """Rank 0 of `count` for a block, while the others run `follow(rank, *arguments)`.

    `kind` is cpu or cuda. Raises ModelError when a rank ends early, its own if it had a reason.
    """
    if count == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory() as folder, processes.workers(count - 1) as pool:
        meeting = Path(folder) / "meeting"
        others = [
            pool.submit(_join, Rank(number, count), kind, meeting, follow, arguments)
            for number in range(1, count)
        ]
        try:
            with _group(Rank(0, count), kind, meeting) as rank:
                yield rank
        except RuntimeError as error:  # what a collective raises when a peer is gone
            ended, _ = wait(others, SECONDS_TO_SAY_WHY, FIRST_EXCEPTION)
            reasons = [other.exception() for other in ended]
            for reason in reasons:
                if isinstance(reason, CodesignError):
                    raise reason from error
            if any(reasons):
                raise ModelError(f"a rank of {count} was lost ({reasons}): take fewer") from error
            raise


def _join(
    rank: Rank, kind: str, meeting: Path, follow: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    with _group(rank, kind, meeting):
        follow(rank, *arguments)


@contextmanager
def _group(rank: Rank, kind: str, meeting: Path) -> Iterator[Rank]:
    if kind == "cuda":
        torch.cuda.set_device(rank.number)
    distributed.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=rank.number,
        world_size=rank.count,
    )
    try:
        yield rank
    finally:
        distributed.destroy_process_group()
