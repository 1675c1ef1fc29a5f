"""Training a space of decoders: what a step does, exact resumption, better models measured better."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_reference import forward

from codesign.hw.errors import ModelError
from codesign.models.supernet import schedule, torch_file
from codesign.models.supernet.space import Single, subnets
from codesign.models.text import tokens

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")
supernet = pytest.importorskip("codesign.models.supernet.supernet")
sandwich = pytest.importorskip("codesign.models.supernet.sandwich")
training_loop = pytest.importorskip("codesign.models.supernet.training_loop")
training_state = pytest.importorskip("codesign.models.supernet.training_state")
elastic = pytest.importorskip("codesign.models.supernet.elastic")
torch.set_num_threads(1)  # the networks are small, and tests run beside each other

TEXT = tokens.built_in_tokens(60_000, 6_000)
SPACE = subnets(
    len(TEXT.vocabulary), 32, layers=(1, 2), d_model=(24, 48, 72), heads=(2, 6, 12), d_ff=(32, 128)
)
TRAINING = schedule.Training(
    epochs=2, batch=16, seq=32, learning_rate=5e-3, dropout=0.1, weight_decay=0.05, seed=3
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    training = dataclasses.replace(TRAINING, epochs=5, dropout=0.0)
    return supernet.train(TEXT.train, SPACE, training, tmp_path_factory.mktemp("supernet"))


@pytest.mark.parametrize("distil", [True, False])
def test_a_step_trains_by_the_sandwich_rule(distil: bool) -> None:
    """Gradients are the mean of four losses: one of the text, three of the largest's output."""
    state = training_state.State(SPACE, TRAINING, 0, "cpu")
    batch = torch.from_numpy(schedule.windows(TEXT.train, 32)[:4])
    configs = schedule.sandwich(SPACE, TRAINING, 7)
    assert configs[0] == SPACE.largest and configs[1] == SPACE.smallest and len(configs) == 4
    copies = {n: v.detach().clone().requires_grad_() for n, v in state.weights.items()}
    soft: Any = None
    losses: list[Any] = []
    for config in configs:
        weights = elastic.subnet(copies, SPACE.largest, config)
        logs = config.forward(weights, batch[:, :-1]).log_softmax(-1)
        if soft is None or not distil:
            soft = logs.exp().detach()
            losses.append(-logs.gather(-1, batch[:, 1:, None]).mean())
        else:
            losses.append(-(soft * logs).sum(-1).mean())
    (sum(losses) / 4).backward()
    norm = float(sum(v.grad.square().sum() for v in copies.values() if v.grad is not None) ** 0.5)
    module = sandwich.Sandwich(state.weights, SPACE.largest, distil=distil)
    found = training_loop._step(module, state, configs, batch, 1e-3)
    np.testing.assert_allclose(found, [loss.detach() for loss in losses], rtol=1e-5)
    for name, value in state.weights.items():
        wanted = copies[name].grad * min(1.0, training_loop.LARGEST_GRADIENT / norm)
        np.testing.assert_allclose(value.grad, wanted, atol=1e-6, rtol=1e-3, err_msg=name)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    text = TEXT.train[:10_000]
    whole = supernet.train(text, SPACE, TRAINING, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(progress: Any) -> None:
        if progress.epoch == 1 and progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        supernet.train(text, SPACE, TRAINING, tmp_path / "cut", report=kill)
    resumed = supernet.train(text, SPACE, TRAINING, tmp_path / "cut", resume=True)
    again = supernet.train(text, SPACE, TRAINING, tmp_path / "cut", resume=True)
    loaded = supernet.load(tmp_path / "cut")
    assert loaded.space == SPACE and loaded.log == resumed.log == whole.log
    logs = [(tmp_path / folder / supernet.LOG).read_bytes() for folder in ("whole", "cut")]
    assert logs[0] == logs[1] and logs[0].count(b"\n") == 1 + len(whole.log)
    for name, value in whole.weights.items():
        for other in (resumed, again, loaded):
            assert torch.equal(other.weights[name], value), name


def test_perplexity_is_that_of_the_numpy_model(trained: Any) -> None:
    config = next(SPACE.sample(1, seed=4))
    weights = elastic.arrays(trained.subnet(config))
    rows = schedule.windows(TEXT.validation, 32)[:10]
    logits = forward(config, weights, {"input_ids": rows[:, :-1]})["logits"]
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = np.exp(-np.take_along_axis(logits, rows[:, 1:, None], -1).mean())
    text = TEXT.validation[: 10 * 32 + 1]
    assert supernet.perplexity(trained, config, text, 32, batch=3) == pytest.approx(wanted, 1e-5)


def test_larger_subnets_are_better(trained: Any) -> None:
    """Far better than pairs of words allow, and the largest before the smallest."""
    configs = [SPACE.largest, SPACE.smallest, *SPACE.sample(6, seed=1)]
    rows = list(supernet.measure(trained, configs, TEXT.validation, 32))
    assert [row.shape for row in rows] == [config.chosen for config in configs]
    largest, smallest, *others = (row.perplexity for row in rows)
    print(f"perplexity {largest:.3f} to {smallest:.3f}; others {np.round(others, 3)}")
    assert largest < 5 and largest < 0.8 * smallest
    assert all(0.98 * largest < value < 1.02 * smallest for value in others)


def test_training_that_cannot_start(tmp_path: Path) -> None:
    def error_of(*arguments: Any, **options: Any) -> str:
        with pytest.raises(ModelError) as error:
            supernet.train(*arguments, **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    text = TEXT.train
    short = dataclasses.replace(TRAINING, seq=64)
    assert "seq 64 exceeds the 32 positions" in error_of(text, SPACE, short, tmp_path)
    assert "20 tokens hold no sequence of 32" in error_of(text[:20], SPACE, TRAINING, tmp_path)
    few = dataclasses.replace(SPACE, vocab_size=20)
    assert "outside the vocabulary of 20" in error_of(text, few, TRAINING, tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot write" in error_of(text, SPACE, TRAINING, tmp_path / "file")
    with pytest.raises(ModelError, match="cannot read .*No such file.*train a supernet first"):
        supernet.load(tmp_path)
    (tmp_path / supernet.CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is damaged"):
        supernet.load(tmp_path)
    assert "is there already: resume it" in error_of(text, SPACE, TRAINING, tmp_path)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    tiny = Single(SPACE.smallest)
    training = dataclasses.replace(TRAINING, epochs=1)
    text = TEXT.train[:2000]
    supernet.train(text, tiny, training, tmp_path)
    for arguments, message in (
        ((text, SPACE, training), "is of another space: .*d_model"),
        ((text, tiny, TRAINING), "is of another training: epochs 1, not 2"),
        ((text[:1900], tiny, training), "is of another text: crc32"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            supernet.train(*arguments, tmp_path, resume=True)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, whole."""
    folder = tmp_path_factory.mktemp("small")
    supernet.train(TEXT.train[:2000], Single(SPACE.smallest), TRAINING, folder)
    found: Path = folder / supernet.CHECKPOINT
    return found


def _refused(path: Path) -> None:
    message = "is damaged, or of another version: delete it to train anew$"
    with pytest.raises(ModelError, match=message) as error:
        supernet.train(
            TEXT.train[:2000], Single(SPACE.smallest), TRAINING, path.parent, resume=True
        )
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Other files, parts of it, and a flipped bit anywhere."""
    whole = checkpoint.read_bytes()
    path = tmp_path / supernet.CHECKPOINT
    plain = whole[len(torch_file.HEADER) + torch_file.DIGEST_BYTES :]
    others = [b"", b"hello world\n", plain, whole[: len(whole) // 2], whole[:-1], whole + b"\0"]
    places = range(0, len(whole), len(whole) // 40)
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in places]
    for content in others + flipped:
        path.write_bytes(content)
        _refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.clear(),
        lambda saved: saved.update(space=None),
        lambda saved: saved.update(epoch="x"),
        lambda saved: saved.update(epoch=-1),
        lambda saved: saved.update(epoch=99),
        lambda saved: saved.update(epoch=1.0),
        lambda saved: saved.update(weights={}),
        lambda saved: saved["weights"].pop("norm.gamma"),
        lambda saved: saved["weights"].update({"norm.gamma": torch.zeros(1)}),
        lambda saved: saved["weights"]["norm.gamma"].fill_(float("nan")),
        lambda saved: saved.update(optimizer={}),
        lambda saved: saved["optimizer"].update(state={}),
        lambda saved: saved["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
        lambda saved: saved.update(log=[[1]]),
    ],
)
def test_a_checkpoint_that_holds_something_else(
    checkpoint: Path, tmp_path: Path, change: Any
) -> None:
    saved = torch_file.load_torch(checkpoint)
    change(saved)
    torch_file.save_torch(saved, tmp_path / supernet.CHECKPOINT)
    _refused(tmp_path / supernet.CHECKPOINT)


def test_training_that_diverges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spoil(_: Any, state: Any, *__: Any) -> Any:
        with torch.no_grad():
            state.weights["norm.gamma"].fill_(float("nan"))
        return torch.ones(1)

    for step in (lambda *_: torch.tensor([math.nan]), spoil):
        monkeypatch.setattr(training_loop, "_step", step)
        with pytest.raises(ModelError, match=r"diverged in step . of epoch 1: .* below 0.005"):
            supernet.train(TEXT.train[:4000], SPACE, TRAINING, tmp_path)
        assert not (tmp_path / supernet.CHECKPOINT).exists()


def test_a_loss_too_high_to_say(trained: Any) -> None:
    weights = {name: 1e6 * value.detach() for name, value in trained.weights.items()}
    wild = supernet.Supernet(SPACE, weights)
    with pytest.raises(ModelError, match="nats a token: train .* with a lower learning rate"):
        supernet.perplexity(wild, SPACE.smallest, TEXT.validation, 32)


@pytest.mark.parametrize("width", [10**12, 10**20])
def test_a_space_that_no_memory_holds(tmp_path: Path, width: int) -> None:
    space = subnets(len(TEXT.vocabulary), 32, d_ff=(16, width))
    with pytest.raises(ModelError, match="out of memory with batches .* a smaller space$"):
        supernet.train(TEXT.train, space, TRAINING, tmp_path)


def test_memory_that_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What torch says of it on either kind of device becomes one line."""
    for said in (
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried",
        "CUDA out of memory. Tried to allocate 20.00 GiB.",
    ):

        def step(*_: Any, said: str = said) -> float:
            raise RuntimeError(said)

        monkeypatch.setattr(training_loop, "_step", step)
        with pytest.raises(ModelError, match="out of memory with batches of 16 x 32 tokens"):
            supernet.train(TEXT.train, SPACE, TRAINING, tmp_path)
    with pytest.raises(RuntimeError, match="another"), supernet._memory(16, 32):
        raise RuntimeError("another")
