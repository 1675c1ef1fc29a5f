"""Is a supernet honest? Networks trained alone, with its budget, beside what it says of them.

Each of some random networks is trained from random weights for as many steps on as much text as the
supernet. Kendall's tau of both perplexities says how well the supernet ranks them, which is all that
a search asks of it. Needs torch, of the [train] extra.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codesign.hw.platform import processes
from codesign.models.quality.perplexities import Measured
from codesign.models.supernet.compute import CPU, Compute
from codesign.models.supernet.schedule import Training
from codesign.models.supernet.space import Single, SubnetSpace
from codesign.models.supernet.supernet import perplexity, train
from codesign.models.text.tokens import Tokens

FOLDER = "from-scratch"  # a checkpoint a network
FEWEST = 8  # that a tau is said of


@dataclass(frozen=True)
class Compared:
    """One network: its perplexity as a part of the supernet, and trained alone."""

    supernet: Measured
    alone: float


def compare_alone(
    text: Tokens,
    space: SubnetSpace,
    training: Training,
    rows: Sequence[Measured],
    out: Path,
    *,
    compute: Compute = CPU,
    workers: int = 1,
) -> Iterator[Compared]:
    """Train the network of each of `rows` alone, in order; what is in `out` is resumed.

    Several `workers` are processes of one thread each. Raises ModelError as `supernet.train` does.
    """
    workers = min(workers, len(rows))
    one = partial(_alone, text, space, training, out / FOLDER, compute, workers > 1)
    if workers <= 1:
        found: Iterator[float] = map(one, rows)
        yield from (Compared(row, value) for row, value in zip(rows, found, strict=True))
        return
    with processes.workers(workers) as pool:
        for row, value in zip(rows, pool.map(one, rows), strict=True):
            yield Compared(row, value)


def kendall_tau(pairs: Sequence[Compared]) -> float | None:
    """Return Kendall's tau-b of the two orders: 1 when they are the same, None when one of them is
    no order, as all are alike."""
    from scipy.stats import kendalltau

    orders = [pair.supernet.perplexity for pair in pairs], [pair.alone for pair in pairs]
    if any(len(set(order)) < 2 for order in orders):
        return None
    return float(kendalltau(*orders).statistic)


def _alone(
    text: Tokens,
    space: SubnetSpace,
    training: Training,
    out: Path,
    compute: Compute,
    single: bool,
    row: Measured,
) -> float:
    if single:
        import torch

        torch.set_num_threads(1)
    config = space.point(row.shape)
    folder = out / _folder(space, row)
    net = train(text.train, Single(config), training, folder, resume=True, compute=compute)
    return perplexity(net, config, text.validation, training.seq, training.batch)


def _folder(space: SubnetSpace, row: Measured) -> str:
    """Layers and widths to read, and a hash of the shape: as long for sixty layers as for one."""
    axes = space.kind.axes()
    read = "x".join(str(row.shape[axis.name]) for axis in axes if axis.scope != "layer")
    shape = " ".join(str(row.shape[axis.name]) for axis in axes if axis.scope != "depth")
    return f"{read}-{hashlib.sha256(shape.encode()).hexdigest()[:12]}"
