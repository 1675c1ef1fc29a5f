"""Several processes train as one does: torch's DistributedDataParallel over gloo, on processors."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.hw.errors import ModelError
from codesign.models.supernet import schedule
from codesign.models.supernet.compute import Compute
from codesign.models.supernet.space import Single, subnets
from codesign.models.text import tokens

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")
ranks = pytest.importorskip("codesign.models.supernet.ranks")
supernet = pytest.importorskip("codesign.models.supernet.supernet")
elastic = pytest.importorskip("codesign.models.supernet.elastic")

TEXT = tokens.built_in_tokens(6_000, 1_000)
SPACE = subnets(
    len(TEXT.vocabulary), 16, layers=(1, 2), d_model=(12, 24), heads=(4, 12), d_ff=(16, 48)
)
TRAINING = schedule.Training(epochs=2, batch=8, seq=16, learning_rate=5e-3)


def test_two_ranks_train_as_one(tmp_path: Path) -> None:
    """Each sees half of every batch; also where they go on from a checkpoint of one."""
    alone = supernet.train(TEXT.train, SPACE, TRAINING, tmp_path / "alone")
    two = Compute(ranks=2)
    both = supernet.train(TEXT.train, SPACE, TRAINING, tmp_path / "both", compute=two)
    np.testing.assert_allclose(
        [step.largest for step in both.log], [step.largest for step in alone.log], rtol=1e-3
    )
    for name, value in alone.weights.items():
        if not name.endswith("key.bias"):  # which softmax cancels: its gradients are rounding
            np.testing.assert_allclose(
                both.weights[name].detach(), value.detach(), atol=2e-3, err_msg=name
            )

    class Killed(Exception):
        pass

    def kill(progress: Any) -> None:
        if progress.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        supernet.train(TEXT.train, SPACE, TRAINING, tmp_path / "cut", compute=two, report=kill)
    resumed = supernet.train(
        TEXT.train, SPACE, TRAINING, tmp_path / "cut", compute=two, resume=True
    )
    for name, value in both.weights.items():
        assert torch.equal(resumed.weights[name], value), name


def test_what_ranks_cannot_share(tmp_path: Path) -> None:
    for training, text in (
        (dataclasses.replace(TRAINING, batch=9), TEXT.train),
        (TRAINING, TEXT.train[:100]),
    ):
        with pytest.raises(ModelError, match="2 ranks cannot share batches of .* equally: give a"):
            supernet.train(text, SPACE, training, tmp_path, compute=Compute(ranks=2))
    assert not list(tmp_path.iterdir())


def fail(rank: Any, message: str) -> None:
    raise ModelError(message)


def test_a_rank_that_fails_says_why() -> None:
    with (
        pytest.raises(ModelError, match="no room here"),
        ranks.together(2, "cpu", fail, "no room here") as rank,
    ):
        rank.mean(torch.zeros(1))


@pytest.mark.filterwarnings("ignore")  # torch's own, which stop its compiler
def test_compiled_layers_train_as_the_others_do(tmp_path: Path) -> None:
    only = Single(SPACE.largest)
    training = dataclasses.replace(TRAINING, epochs=1)
    plain, compiled = (
        supernet.train(TEXT.train, only, training, tmp_path / str(on), compute=Compute(compiled=on))
        for on in (False, True)
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    np.testing.assert_allclose(
        [step.largest for step in compiled.log], [step.largest for step in plain.log], rtol=1e-3
    )
