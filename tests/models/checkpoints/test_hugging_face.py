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
from codesign.models.checkpoints.hugging_face import load_checkpoint
from codesign.models.zoo.bert import BertConfig
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
    "roberta": (_config(model_type="roberta"), "model_type is 'roberta', not 'bert' or 'llama'"),
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


# -- LLaMA and its kin ---------------------------------------------------------------------------------

LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 24,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 50,
}


def llama_tensors(biases: bool, tied: bool) -> dict[str, Floats]:
    """Random weights under the names that transformers gives a LlamaForCausalLM's."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (50, 24),
        "model.norm.weight": (24,),
    }
    for layer in ("model.layers.0", "model.layers.1"):
        for part, width in (("q", 24), ("k", 8), ("v", 8)):
            shapes[f"{layer}.self_attn.{part}_proj.weight"] = (width, 24)
            if biases:
                shapes[f"{layer}.self_attn.{part}_proj.bias"] = (width,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (24, 24)
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (40, 24) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (24, 40)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{norm}.weight"] = (24,)
    if not tied:
        shapes["lm_head.weight"] = (50, 24)
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, dtype=np.float32) / 3 for name, shape in shapes.items()
    }


def llama_logits(t: dict[str, Floats], ids: Floats) -> Floats:
    """The equations of LLaMA (arXiv 2302.13971) on the checkpoint's own tensors."""
    length = len(ids)
    angles = np.outer(np.arange(length), 500_000.0 ** (-np.arange(0, 4, 2) / 4))
    cos, sin = (np.concatenate([f(angles)] * 2, axis=1)[:, None] for f in (np.cos, np.sin))

    def linear(x: Floats, name: str) -> Floats:
        found: Floats = x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", np.float32(0))
        return found

    def norm(x: Floats, name: str) -> Floats:
        found: Floats = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * t[f"{name}.weight"]
        return found

    def turned(x: Floats) -> Floats:
        halves = np.concatenate([-x[..., 2:], x[..., :2]], axis=-1)
        found: Floats = x * cos + halves * sin
        return found

    x = t["model.embed_tokens.weight"][ids].astype(np.float64)
    for layer in ("model.layers.0", "model.layers.1"):
        y = norm(x, f"{layer}.input_layernorm")
        parts = (linear(y, f"{layer}.self_attn.{n}_proj").reshape(length, -1, 4) for n in "qkv")
        q, k, v = parts
        k, v = (np.repeat(part, 3, axis=1) for part in (turned(k), v))
        scores = np.einsum("qhd,khd->hqk", turned(q), k) / 2
        scores = np.where(np.tri(length, dtype=bool), scores, -1e30)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = np.einsum("hqk,khd->qhd", weights, v).reshape(length, -1)
        x = x + linear(y, f"{layer}.self_attn.o_proj")
        y = norm(x, f"{layer}.post_attention_layernorm")
        gate = linear(y, f"{layer}.mlp.gate_proj")
        y = gate / (1 + np.exp(-gate)) * linear(y, f"{layer}.mlp.up_proj")
        x = x + linear(y, f"{layer}.mlp.down_proj")
    x = norm(x, "model.norm")
    return linear(x, "lm_head" if "lm_head.weight" in t else "model.embed_tokens")


def write_llama(folder: Path, biases: bool = False, tied: bool = False, **fields: Any) -> None:
    save_file(llama_tensors(biases, tied), folder / "model.safetensors")
    described = {**LLAMA, "tie_word_embeddings": tied, **fields}
    (folder / "config.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("biases", "tied", "fields"),
    (
        (False, False, {}),
        (True, True, {"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}),
        (False, False, {"model_type": "mistral", "sliding_window": None, "head_dim": 4}),
        (
            False,
            True,
            {"rope_theta": 500_000, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        ),
    ),
)
def test_llamas_are_their_own_tensors(
    biases: bool, tied: bool, fields: dict[str, Any], folder: Path
) -> None:
    write_llama(folder, biases, tied, **fields)
    assert app.main(["export", str(folder), "--seq", "9", "-o", "model.onnx"]) == 0
    ids = np.random.default_rng(1).integers(50, size=9)
    (found,) = onnxruntime.InferenceSession("model.onnx").run(None, {"input_ids": ids[np.newaxis]})
    wanted = llama_logits(llama_tensors(biases, tied), ids)
    np.testing.assert_allclose(np.asarray(found)[0], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "said"),
    (
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling is of the type 'llama3'"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is of the type 'linear'"),
        ({"model_type": "mistral", "sliding_window": 8}, "sliding_window is 8, not null"),
        ({"attention_bias": True}, "attention_bias is True, not False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', not 'silu'"),
        ({"rms_norm_eps": "a"}, "rms_norm_eps is 'a', no number"),
        ({"rope_theta": "a"}, "rope_theta is 'a', no whole number"),
        ({"rope_theta": 1e4 + 0.5}, "rope_theta is 10000.5, no whole number"),
        ({"num_key_value_heads": 4}, "6 heads do not share 4 keys"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "not divisible by 5 heads"),
        ({"model_type": "qwen2"}, "lacks model.layers.0.self_attn.q_proj.bias"),
    ),
)
def test_other_llamas_are_refused(fields: dict[str, Any], said: str, folder: Path) -> None:
    write_llama(folder, **fields)
    with pytest.raises(CodesignError, match=said):
        load_checkpoint(folder)
