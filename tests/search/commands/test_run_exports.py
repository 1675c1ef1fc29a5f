"""`codesign run` on encoders as transformers and torch write them (marker `exports`).

Small configurations with random weights, by both exporters: each must run in integers, and agree with
onnxruntime as far as eight bits do.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch_export

from codesign.search.cli import app

pytestmark = [
    pytest.mark.exports,
    # What torch and transformers warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
]

LAYERS, HEADS, D, FEED_FORWARD, VOCABULARY, POSITIONS, SEQ = 2, 4, 32, 64, 97, 40, 16
LEAST_DB = 25.0
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
SIZES = torch_export.bert_sizes(LAYERS, HEADS, D, FEED_FORWARD, VOCABULARY, POSITIONS) | {
    "initializer_range": 0.1,  # activations of ordinary range from random weights
}
NARROW = {"embedding_size": 16}
NO_NORM = {
    **NARROW,
    "intra_bottleneck_size": 16,
    "true_hidden_size": 16,
    "normalization_type": "no_norm",
}
DISTILLED = {"n_layers": LAYERS, "n_heads": HEADS, "dim": D, "hidden_dim": FEED_FORWARD}
T5 = {"d_model": D, "d_kv": D // HEADS, "d_ff": FEED_FORWARD, "num_heads": HEADS}
GPT2 = {"n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}


@dataclass(frozen=True)
class Case:
    """A class of transformers, its configuration, and the inputs that a user exports it with."""

    model: str
    config: str
    sizes: Mapping[str, Any]
    inputs: tuple[str, ...] = (IDS, MASK)


CASES = {
    "bert": Case("BertModel", "BertConfig", SIZES),
    "bert, tokens alone": Case("BertModel", "BertConfig", SIZES, (IDS,)),
    "bert, token types": Case("BertModel", "BertConfig", SIZES, (IDS, MASK, TYPES)),
    "bert, masked words": Case("BertForMaskedLM", "BertConfig", SIZES),
    "bert, classes": Case("BertForSequenceClassification", "BertConfig", SIZES),
    "albert": Case("AlbertModel", "AlbertConfig", SIZES | NARROW),
    "electra": Case("ElectraModel", "ElectraConfig", SIZES | NARROW),
    "electra, replaced words": Case("ElectraForPreTraining", "ElectraConfig", SIZES | NARROW),
    "mobilebert": Case("MobileBertModel", "MobileBertConfig", SIZES | NO_NORM),
    "distilbert": Case("DistilBertModel", "DistilBertConfig", {**SIZES, **DISTILLED}),
    "roberta": Case("RobertaModel", "RobertaConfig", SIZES),
    "t5 encoder": Case(
        "T5EncoderModel", "T5Config", {"vocab_size": VOCABULARY, "num_layers": LAYERS, **T5}
    ),
    "gpt2": Case(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "use_cache": False, **GPT2},
    ),
}


def export(case: Case, path: Path, dynamo: bool) -> None:
    """Write the model with symbolic batch and sequence."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, case.config)(**case.sizes)

    class Wrapper(torch.nn.Module):  # type: ignore[name-defined,misc]
        """The model's tensors for positional inputs."""

        def __init__(self) -> None:
            super().__init__()
            self.model = getattr(transformers, case.model)(config)

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(case.inputs, inputs, strict=True)), return_dict=False)

    # A tensor for each input: the dynamo exporter makes one input of one tensor.
    examples = tuple(torch.ones(2, SEQ, dtype=torch.long) for _ in case.inputs)
    axes = {name: {0: "batch", 1: "sequence"} for name in case.inputs}
    torch_export.write(Wrapper(), examples, axes, path, dynamo=dynamo)


@pytest.fixture
def ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path, Mapping[str, Any]], Any]:
    def run(path: Path, feeds: Mapping[str, Any]) -> Any:
        np.savez(tmp_path / "feeds.npz", **feeds)
        command = ["run", str(path), "--seq", str(SEQ), "--input", str(tmp_path / "feeds.npz")]
        kept = ["--out", str(tmp_path / "out"), "--samples", "8", "--json"]
        capsys.readouterr()  # what the exporter printed
        assert app.main([*command, "--backend", "integers", *kept]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
@pytest.mark.parametrize("name", CASES)
def test_encoders_run(
    tmp_path: Path, ran: Callable[[Path, Mapping[str, Any]], Any], name: str, dynamo: bool
) -> None:
    case, path = CASES[name], tmp_path / "model.onnx"
    export(case, path, dynamo)
    rng = np.random.default_rng(7)
    ids = rng.integers(2, VOCABULARY, size=(1, SEQ))  # 1 is padding to some
    every = {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}
    feeds = {each: every[each] for each in case.inputs}
    document = ran(path, feeds)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = session.run(None, feeds)
    with np.load(tmp_path / "out" / "outputs.npz") as kept:
        for row, value in zip(document["outputs"], wanted, strict=True):
            ours = kept[row["output"]][0]
            noise = float(((ours - value) ** 2).sum())
            decibels = 10 * np.log10(float((value**2).sum()) / noise)
            assert decibels >= LEAST_DB, row["output"]
            assert row["sqnr_db"] == pytest.approx(decibels, abs=0.1)
