"""A checkpoint folder becomes the network that it is: BERT of its own tensors, and errors in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bert_checkpoint import (
    CONFIG,
    HEADS,
    HIDDEN,
    LAYERS,
    POSITIONS,
    TYPES,
    WIDTH,
    WORDS,
    Tensors,
    tensors,
)
from float_reference import gelu
from safetensors.numpy import load_file, save_file

from codesign.hw.errors import CodesignError
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.checkpoint import load_checkpoint
from codesign.search.cli import app

Floats = np.ndarray[Any, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small-bert"
    path.mkdir()
    save_file(tensors(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def bert(t: Tensors, ids: Floats, mask: Floats, types: Floats) -> tuple[Floats, Floats]:
    """BERT's equations (arXiv 1810.04805) on the checkpoint's own tensors."""

    def linear(x: Floats, name: str) -> Floats:
        found: Floats = x @ t[f"{name}.weight"].T + t[f"{name}.bias"]
        return found

    def norm(x: Floats, name: str) -> Floats:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        found: Floats = x * t[f"{name}.weight"] + t[f"{name}.bias"]
        return found

    def heads(x: Floats) -> Floats:
        return x.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    x = (
        t["embeddings.word_embeddings.weight"][ids]
        + t["embeddings.token_type_embeddings.weight"][types]
    )
    x = norm(x + t["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        parts = (heads(linear(x, f"{layer}.attention.self.{n}")) for n in ("query", "key", "value"))
        q, k, v = parts
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH / HEADS) + np.where(mask, 0, -1e30)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        y = (weights / weights.sum(-1, keepdims=True)) @ v
        y = linear(y.transpose(1, 0, 2).reshape(x.shape), f"{layer}.attention.output.dense")
        x = norm(x + y, f"{layer}.attention.output.LayerNorm")
        y = linear(gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = norm(x + y, f"{layer}.output.LayerNorm")
    return x, np.tanh(linear(x[0], "pooler.dense"))


@pytest.mark.parametrize("prefix", ("", "bert."))
def test_the_exported_file_computes_the_checkpoint(folder: Path, prefix: str) -> None:
    path = folder / "model.safetensors"
    found = load_file(path)
    save_file({prefix + name: value for name, value in found.items()}, path)
    assert app.main(["export", str(folder), "-o", "model.onnx"]) == 0
    rng = np.random.default_rng(1)
    ids, types = rng.integers(WORDS, size=10), rng.integers(TYPES, size=10)
    mask = np.arange(10) < 7
    feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}
    session = onnxruntime.InferenceSession("model.onnx")
    states, pooled = session.run(None, {name: value[np.newaxis] for name, value in feeds.items()})
    wanted = bert(found, ids, mask, types)
    np.testing.assert_allclose(np.asarray(states)[0, :7], wanted[0][:7], atol=2e-4)
    np.testing.assert_allclose(np.asarray(pooled)[0], wanted[1], atol=2e-4)


def test_the_configuration_is_the_folders(folder: Path) -> None:
    config, weights = load_checkpoint(folder)
    sizes = (WIDTH, HEADS, HIDDEN, WORDS, POSITIONS, TYPES)
    assert config == BertConfig("small-bert", LAYERS, *sizes)
    assert all(value.dtype == np.float32 for value in weights.values())


def test_half_precision_is_read_as_float32(folder: Path) -> None:
    path = folder / "model.safetensors"
    halves = {name: value.astype(np.float16) for name, value in load_file(path).items()}
    save_file(halves, path)
    _, weights = load_checkpoint(folder)
    word = weights["embeddings.word"]
    assert word.dtype == np.float32
    np.testing.assert_array_equal(word, halves["embeddings.word_embeddings.weight"])


def _config(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        kept = {name: value for name, value in {**CONFIG, **fields}.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return change


def _without(tensor: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        kept = {name: value for name, value in tensors().items() if not name.startswith(tensor)}
        save_file(kept, folder / "model.safetensors")

    return change


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "save_pretrained"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "names no model_type"),
    "roberta": (_config(model_type="roberta"), "model_type is 'roberta', not 'bert'"),
    "relu": (_config(hidden_act="relu"), "hidden_act is 'relu', not 'gelu'"),
    "no layers": (_config(num_hidden_layers=None), "lacks num_hidden_layers"),
    "heads": (_config(num_attention_heads=5), "d_model 24 is not divisible by 5 heads"),
    "fewer layers": (_config(num_hidden_layers=1), "has 2 layers, but num_hidden_layers is 1 by"),
    "word": (_config(hidden_size="a"), "hidden_size is 'a', no positive whole number"),
    "truth": (_config(num_hidden_layers=True), "num_hidden_layers is True, no positive whole"),
    "half": (_config(vocab_size=30.5), "vocab_size is 30.5, no positive whole number"),
    "none": (_config(type_vocab_size=0), "type_vocab_size is 0, no positive whole number"),
    "other": (_config(model_type="gpt2"), "export the model to ONNX"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "model.safetensors is missing: checkpoints are read as one model.safetensors: save the",
    ),
    "cut": (_cut, "cannot be used"),
    "no pooler": (_without("pooler"), "lacks pooler.dense.weight and 1 more tensors"),
    "width": (_config(intermediate_size=48), "intermediate.dense.weight is [40, 24], but [48, 24]"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_one_line(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = BROKEN[name]
    change(folder)
    with pytest.raises(CodesignError) as error:
        load_checkpoint(folder)
    assert message in str(error.value)
    assert app.main(["export", str(folder), "-o", "model.onnx"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and message in printed
    assert not Path("model.onnx").exists()


def test_a_checkpoint_has_a_shape_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["export", str(folder), "--layers", "2", "-o", "model.onnx"]) == 2
    assert "has a shape and weights of its own" in capsys.readouterr().err
