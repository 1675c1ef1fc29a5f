"""A checkpoint of llama2.c is the function that its own equations give, and errors are one line."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from float_reference import rms_norm, softmax
from llama2c_files import SIZES, checkpoint, tokenizer
from onnx_builder import run

from codesign.hw.errors import ModelError
from codesign.models.checkpoints.llama2c import load_llama2c
from codesign.models.zoo.export import export
from codesign.search.cli import app


def reference(arrays: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Logits [tokens, vocabulary]; positions turn the neighbours of a head (arXiv 2104.09864)."""
    d, _, layers, heads, kv_heads, _, _ = SIZES
    size, length = d // heads, len(ids)
    turns = np.exp(1j * np.outer(np.arange(length), 10_000.0 ** (-np.arange(0, size, 2) / size)))[
        :, None
    ]

    def turned(x: np.ndarray) -> np.ndarray:  # [tokens, heads, size]
        pairs = (x[..., ::2] + 1j * x[..., 1::2]) * turns
        return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)

    a = {name: value.astype(np.float64) for name, value in arrays.items()}
    x = a["embedding"][ids]
    for i in range(layers):
        y = rms_norm(x, a["attention norm"][i], 1e-5)
        q, k, v = (
            (y @ a[name][i].T).reshape(length, -1, size) for name in ("query", "key", "value")
        )
        k, v = (np.repeat(part, heads // kv_heads, axis=1) for part in (turned(k), v))
        scores = np.einsum("qhd,khd->hqk", turned(q), k) / np.sqrt(size)
        weights = softmax(np.where(np.tri(length, dtype=bool), scores, -1e30))
        x = x + np.einsum("hqk,khd->qhd", weights, v).reshape(length, d) @ a["output"][i].T
        y = rms_norm(x, a["ffn norm"][i], 1e-5)
        gate = y @ a["gate"][i].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ a["up"][i].T)) @ a["down"][i].T
    head = a["head"] if "head" in a else a["embedding"]
    result: np.ndarray = rms_norm(x, a["norm"], 1e-5) @ head.T
    return result


@pytest.mark.parametrize("tied", (True, False))
def test_it_is_the_function_of_its_equations(tied: bool, tmp_path: Path) -> None:
    arrays = checkpoint(tmp_path / "small.bin", tied)
    config, weights = load_llama2c(tmp_path / "small.bin")
    assert (config.name, config.tied, config.max_positions) == ("small", tied, SIZES[6])
    ids = np.random.default_rng(3).integers(SIZES[5], size=9)
    (found,) = run(export(config, seq=9, weights=weights), input_ids=ids[None])
    np.testing.assert_allclose(found[0], reference(arrays, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("damage", "said"),
    (
        (lambda data: data[:20], "ends before its 28 bytes of sizes"),
        (lambda data: data[:-4], r"has [\d,]+ bytes, but [\d,]+ by its first numbers"),
        (lambda data: data + b"\0", "bytes, but"),
        (lambda data: data[:28] + struct.pack("<f", np.nan) + data[32:], "are not finite"),
        (lambda data: struct.pack("<i", 0) + data[4:], "is no llama2.c checkpoint: .*d_model is 0"),
        (lambda data: data[:12] + struct.pack("<i", 5) + data[16:], "not divisible by 5 heads"),
    ),
)
def test_another_file_is_refused(
    damage: Callable[[bytes], bytes], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "small.bin"
    checkpoint(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=said):
        load_llama2c(path)


def test_export_writes_model_and_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path / "small.bin")
    tokenizer(tmp_path / "tokens.bin")
    folder = tmp_path / "out"
    folder.mkdir()
    command = ["export", f"{tmp_path}/small.bin", "--tokenizer", f"{tmp_path}/tokens.bin"]
    step = ["--past", "3", "--seq", "1", "-o", f"{folder}/step.onnx"]
    assert app.main([*command, *step]) == 0, capsys.readouterr().err
    assert "past_key_values.0.key" in {
        value.name for value in onnx.load(folder / "step.onnx").graph.input
    }
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert len(described["model"]["vocab"]) == SIZES[5]
    (folder / "tokenizer.json").write_text("{}")
    assert app.main([*command, "-o", f"{folder}/whole.onnx"]) == 2
    assert "tokenizer.json is of another model" in capsys.readouterr().err
    assert not (folder / "whole.onnx").exists()


@pytest.mark.parametrize(
    ("spoil", "out", "said"),
    [
        ("out/tokenizer.json -> nowhere/x", "out/model.onnx", "cannot write {0}/tokenizer.json"),
        ("out/tokenizer.json/", "out/model.onnx", "cannot read {0}/tokenizer.json: Is a directory"),
        ("out/model.onnx/", "out/model.onnx", "cannot write {0}/model.onnx: Is a directory"),
        ("tokens.bin", "out/model.onnx", "llama2.c"),
        ("", "out/tokenizer.json", "is where the tokenizer goes"),
    ],
)
def test_export_writes_both_files_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str, out: str, said: str
) -> None:
    """And says nothing of a model that it did not write."""
    checkpoint(tmp_path / "small.bin")
    tokenizer(tmp_path / "tokens.bin")
    (tmp_path / "out").mkdir()
    name, _, target = spoil.partition(" -> ")
    if target:
        (tmp_path / name).symlink_to(tmp_path / target)
    elif name.endswith("/"):
        (tmp_path / name).mkdir()
    elif name:
        (tmp_path / name).write_bytes(b"no tokens")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    command = ["export", f"{tmp_path}/small.bin", "--tokenizer", f"{tmp_path}/tokens.bin"]
    assert app.main([*command, "-o", f"{tmp_path}/{out}", "--json"]) == 2
    printed = capsys.readouterr()
    assert said.format(tmp_path / "out") in printed.err and printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
