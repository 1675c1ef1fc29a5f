"""A run of a quantized file beside what the file is in onnxruntime, and beside what it stands for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.compiler.rewrite import recognised
from codesign.search.cli import app

KEYS = 8


def masked_softmax(scale: float) -> onnx.ModelProto:
    """Probabilities of scores behind a causal mask; their sum is rounded in steps of `scale`."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    codes = rng.integers(-100, 100, (16, KEYS)).astype(np.int8)
    constants: dict[str, Any] = {
        "t": np.float32(1 / 127),
        "u": np.float32(0.01),
        "s": np.float32(scale),
        "p": np.float32(1 / 127),
        "o": np.int8(0),
        "w": codes,
        "mask": np.triu(np.full((KEYS, KEYS), -1e4, np.float32), 1),
    }
    nodes = [
        node("QuantizeLinear", ["x", "t", "o"], ["xq"]),
        node("DequantizeLinear", ["xq", "t", "o"], ["xd"]),
        node("DequantizeLinear", ["w", "u", "o"], ["wd"]),
        node("MatMul", ["xd", "wd"], ["scores"]),
        node("Add", ["scores", "mask"], ["sum"]),
        node("QuantizeLinear", ["sum", "s", "o"], ["sumq"]),
        node("DequantizeLinear", ["sumq", "s", "o"], ["sumd"]),
        node("Softmax", ["sumd"], ["soft"], axis=-1),
        node("QuantizeLinear", ["soft", "p", "o"], ["softq"]),
        node("DequantizeLinear", ["softq", "p", "o"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [KEYS, width])
        for name, width in (("x", 16), ("y", KEYS))
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def notes(folder: Path, capsys: pytest.CaptureFixture[str], scale: float) -> list[str]:
    file = folder / f"softmax{scale}.onnx"
    onnx.save(masked_softmax(scale), file)
    assert app.main(["run", str(file), "--backend", "integers"]) == 0
    return [line for line in capsys.readouterr().err.splitlines() if "stand for" in line]


def test_a_file_that_rounds_scores_to_nothing_is_said_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps of 80 leave every visible key alike; a kernel rounds the probabilities alone."""
    (note,) = notes(tmp_path, capsys, 80.0)
    file, ours = map(float, re.findall(r"([\d.]+) dB", note))
    assert file < 20 < ours - 10


def test_a_file_that_rounds_as_a_kernel_does_is_none_to_speak_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notes(tmp_path, capsys, 0.1) == []


def test_a_result_that_is_not_the_kernels_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a pattern reached across the clamp behind what a kernel writes: float came out."""
    monkeypatch.setattr(recognised, "_CLAMP", "")
    file = tmp_path / "softmax.onnx"
    onnx.save(masked_softmax(80.0), file)
    assert app.main(["run", str(file), "--backend", "integers"]) == 2
    assert "by a way around 'scores', which a kernel writes" in capsys.readouterr().err
