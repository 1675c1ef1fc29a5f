"""`codesign run` says where an input lies beyond what calibration saw, and nothing where it does not."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import save
from onnx_builder import ModelBuilder

from codesign.search.cli import app

ROWS, WIDTH = 6, 16
NOTE = "beyond what calibration saw"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    b = ModelBuilder(18)
    hidden = b.node("Relu", b.linear(b.input("x", (1, ROWS, WIDTH)), WIDTH, WIDTH))
    save(b.model(b.linear(hidden, WIDTH, WIDTH)), "model.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(33, 1, ROWS, WIDTH)).astype(np.float32)
    np.savez("calibration.npz", x=x[:32])
    for name, value in (("like", x[32]), ("far", 12 * x[0])):
        np.savez(f"{name}.npz", x=value)


def _ran(capsys: pytest.CaptureFixture[str], *inputs: str, method: str = "minmax") -> Any:
    files = [word for name in inputs for word in ("--input", name)]
    command = ["run", "model.onnx", "--backend", "integers", "--calibration", "calibration.npz"]
    assert app.main([*command, "--method", method, "--json", *files]) == 0
    captured = capsys.readouterr()
    decibels = [row["sqnr_db"] for row in json.loads(captured.out)["outputs"]]
    return decibels, [line for line in captured.err.splitlines() if NOTE in line]


def test_an_input_beyond_the_calibrated_ranges_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    (good, poor), said = _ran(capsys, "like.npz", "far.npz")
    assert good > 25 and poor < 10
    (note,) = said
    found = re.search(r"values of 3 of 3 tensors .* on far\.npz ([\d.]+) times as far", note)
    assert (
        found is not None and 7 < float(found[1]) < 12
    )  # a relu's channels reach beyond what is seen
    assert "calibrate on data like it (--calibration), or on more (--samples)" in note


@pytest.mark.parametrize(("name", "method"), [("like.npz", "minmax"), ("far.npz", "percentile")])
def test_nothing_is_said_of_ranges_that_hold_or_are_chosen_to_clip(
    name: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ran(capsys, name, method=method)[1] == []
