"""A key-value cache without a past: extents of 0 in a file's inputs, beside onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import save
from onnx_builder import ModelBuilder

from codesign.hw.errors import ModelError
from codesign.search.cli import app
from codesign.search.inputs.sources import load_model

HEADS, ROWS, SIZE, WIDTH = 2, 4, 8, 16


def attention(past: int | str) -> onnx.ModelProto:
    """Keys and values behind those of the past; the new cache is an output."""
    b = ModelBuilder(18)
    x = b.input("x", (1, ROWS, WIDTH))

    def heads(y: str) -> str:
        split = b.node("Reshape", y, b.ints(0, 0, HEADS, SIZE))
        return str(b.node("Transpose", split, perm=[0, 2, 1, 3]))

    q, k, v = (heads(b.linear(x, WIDTH, WIDTH)) for _ in range(3))
    old = [b.input(name, (1, HEADS, past, SIZE)) for name in ("past_key", "past_value")]
    keys, values = (b.node("Concat", p, n, axis=2) for p, n in zip(old, (k, v), strict=True))
    scores = b.node("MatMul", q, b.node("Transpose", keys, perm=[0, 1, 3, 2]))
    context = b.node("MatMul", b.node("Softmax", b.node("Mul", scores, b.const(0.35))), values)
    joined = b.node("Reshape", b.node("Transpose", context, perm=[0, 2, 1, 3]), b.ints(0, 0, WIDTH))
    return b.model(b.linear(str(joined), WIDTH, WIDTH), keys)


@pytest.mark.parametrize(("past", "options"), [(0, ()), ("past", ("--bind", "past=0"))])
def test_a_run_without_a_past(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    past: int | str,
    options: tuple[str, ...],
) -> None:
    path = tmp_path / "model.onnx"
    save(attention(past), path)
    empty = np.zeros((1, HEADS, 0, SIZE), np.float32)
    x = np.random.default_rng(0).normal(size=(1, ROWS, WIDTH)).astype(np.float32)
    feeds: dict[str, Any] = {"x": x, "past_key": empty, "past_value": empty}
    np.savez(tmp_path / "feeds.npz", **feeds)
    kept = ("--input", str(tmp_path / "feeds.npz"), "--out", str(tmp_path / "out"))
    command = ["run", str(path), "--backend", "integers", "--json", *kept, *options]
    assert app.main(command) == 0
    rows = json.loads(capsys.readouterr().out)["outputs"]
    assert len(rows) == 2 and all(row["sqnr_db"] > 28 for row in rows)
    wanted = onnxruntime.InferenceSession(path).run(None, feeds)
    with np.load(tmp_path / "out" / "outputs.npz") as arrays:
        for row, value in zip(rows, wanted, strict=True):
            np.testing.assert_allclose(arrays[f"float.{row['output']}"][0], value, atol=1e-5)
    priced = load_model(str(path), named=(("past", 0),) if options else ())
    assert "concat" not in [getattr(op, "function", "") for op in priced.graph.operators()]


def test_extents_below_zero_and_no_rows_to_compute(tmp_path: Path) -> None:
    b = ModelBuilder()
    save(b.model(b.linear(b.input("x", ("rows", WIDTH)), WIDTH, WIDTH)), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="must be at least 0"):
        load_model(str(tmp_path / "m.onnx"), named=(("rows", -1),))
    with pytest.raises(ModelError, match="nothing to compute with rows=0: give it at least 1"):
        load_model(str(tmp_path / "m.onnx"), named=(("rows", 0),))
