"""A causal language model, trained on text that the project makes, keeps its perplexity in int8."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from codesign.compiler.network.compilation import compile_network
from codesign.compiler.network.inference import Network, run
from codesign.compiler.onnx.float_model import Array
from codesign.hw.machine.config import preset
from codesign.models.text import corpus
from codesign.models.zoo.decoder import lm
from codesign.models.zoo.export import export

DATA = Path(__file__).parents[2] / "data" / "corpus_lm.npz"  # make_corpus_lm.py wrote it
SEQ = 64
CALIBRATION, HELD_OUT = 101, 102  # seeds; the model was trained on 1
SAMPLES, WINDOWS = 32, 32


@dataclass(frozen=True)
class Perplexities:
    """nats[windows, SEQ] of the float model, in int8, and of the grammar that made the text."""

    network: Network
    windows: npt.NDArray[np.int64]
    float32: npt.NDArray[np.float64]
    int8: npt.NDArray[np.float64]
    text: corpus.Text


def cut(text: corpus.Text, count: int) -> npt.NDArray[np.int64]:
    """int64[count, SEQ + 1]: sequences with the token that follows."""
    return np.stack([text.ids[i * SEQ : (i + 1) * SEQ + 1] for i in range(count)])


def nats(logits: Array, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """-log softmax of [1, SEQ, vocabulary] at the targets, [SEQ]."""
    x = logits[0].astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = np.log(np.exp(x).sum(axis=-1)) - x[np.arange(SEQ), targets]
    return result


@pytest.fixture(scope="module")
def perplexities() -> Perplexities:
    with np.load(DATA) as saved:
        fields = json.loads(str(saved["config"]))
        weights = {n: saved[n].astype(np.float32) for n in saved.files if n != "config"}
    config = lm(layers=len(fields["heads"]), **fields)
    text = corpus.generate(WINDOWS * SEQ + 1, HELD_OUT)
    samples = cut(corpus.generate(SAMPLES * SEQ + 1, CALIBRATION), SAMPLES)
    network = compile_network(
        export(config, batch=1, seq=SEQ, weights=weights),
        preset("ibert"),
        ({"input_ids": ids[None, :-1]} for ids in samples),
    )
    plain, quantized = [], []
    for window in (windows := cut(text, WINDOWS)):
        feeds = {"input_ids": window[None, :-1]}
        plain.append(nats(network.model.part((), ("logits",))(feeds)["logits"], window[1:]))
        quantized.append(nats(run(network, feeds, "integers")["logits"], window[1:]))
    return Perplexities(network, windows, np.stack(plain), np.stack(quantized), text)


def test_the_model_has_learned_and_is_not_too_good(perplexities: Perplexities) -> None:
    """Its perplexity is far below that of word frequencies and pairs, above the grammar's."""
    ids = corpus.generate(100_000, 103).ids
    counts = np.ones((len(corpus.VOCABULARY),) * 2)
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    before, after = perplexities.windows[:, :-1], perplexities.windows[:, 1:]
    pairs = -np.log(counts / counts.sum(axis=1, keepdims=True))[before, after]
    grammar = perplexities.text.nats[: WINDOWS * SEQ]
    print(
        f"perplexity: of the grammar {np.exp(grammar.mean()):.3f}, "
        f"of the model {np.exp(perplexities.float32.mean()):.3f}, "
        f"of pairs {np.exp(pairs.mean()):.3f}"
    )
    assert grammar.mean() < perplexities.float32.mean() < pairs.mean() - 0.9


def test_int8_perplexity_is_within_one_percent(perplexities: Perplexities) -> None:
    float32, int8 = (float(np.exp(p.mean())) for p in (perplexities.float32, perplexities.int8))
    print(f"perplexity: float {float32:.4f}, int8 {int8:.4f}, {int8 / float32 - 1:+.2%}")
    assert abs(int8 / float32 - 1) < 0.01
    assert np.abs(perplexities.int8 - perplexities.float32).max() > 0, "nothing was quantized"


def test_the_machine_has_the_same_bits(perplexities: Perplexities) -> None:
    feeds = {"input_ids": perplexities.windows[:1, :-1]}
    on_machine, plain = (run(perplexities.network, feeds, b) for b in ("functional", "integers"))
    np.testing.assert_array_equal(on_machine["logits"], plain["logits"])
