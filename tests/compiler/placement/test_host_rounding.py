"""What int8 rounding does to quotients, logarithms and powers that the host computes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_builder import ModelBuilder

from codesign.search.cli import app

ROWS, WIDTH = 16, 32
NEAR = "within a code of int8 of 0"
NOT_FINITE = "not finite on random, seed 0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _save(kind: str, away: bool = False, into_chip: bool = False) -> None:
    """A product, and an operator without bound near 0 of it, or of it kept away from 0."""
    b = ModelBuilder(18)
    x = b.input("x", (ROWS, WIDTH))
    a = b.node("MatMul", x, b.weights(WIDTH, 64))
    if away or kind.startswith(("Log", "Pow")):
        a = b.node("Abs", a)
    if away:
        a = b.node("Add", a, b.const(0.5))
    match kind:
        case "Div":
            y = b.node("Div", b.node("MatMul", x, b.weights(WIDTH, 64)), a)
        case "0/0":
            y = b.node("Div", a, b.node("Mul", a, a))
        case "Pow":
            y = b.node("Pow", a, b.const(-0.5))
        case _:
            y = b.node(kind, a)
    onnx.save(b.model(b.linear(y, 64, 8) if into_chip else y), "m.onnx")


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    assert app.main(["run", "m.onnx", "--backend", "integers", *arguments]) == 0
    captured = capsys.readouterr()
    assert "Warning" not in captured.err
    return captured.out, captured.err


@pytest.mark.parametrize("kind", ["Div", "Reciprocal", "Log", "Pow"])
def test_values_that_are_not_finite_are_said_everywhere(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On every form of a result; warnings of numpy are errors here."""
    _save(kind)
    out, said = _run(capsys, "--report", "--out", "kept")
    assert out.count("not finite") >= 2
    (near,) = [line for line in said.splitlines() if NEAR in line]
    (broken,) = [line for line in said.splitlines() if NOT_FINITE in line]
    assert f"{kind} " in near and f"{kind} " in broken
    (row,) = csv.DictReader(Path("kept/comparison.csv").read_text().splitlines())
    with np.load("kept/outputs.npz") as file:
        values = dict(file)
    (name,) = [name for name in values if not name.startswith("float.")]
    count = int((~np.isfinite(values[name])).sum())
    assert count > 0 and np.isfinite(values[f"float.{name}"]).all()
    assert row["sqnr_db"] == row["max_abs_error"] == "" and row["not_finite"] == str(count)
    document = json.loads(_run(capsys, "--report", "--json")[0])
    (record,) = document["outputs"]
    assert record["sqnr_db"] is record["max_abs_error"] is record["cosine"] is None
    assert record["not_finite"] == count
    assert "not finite" in document["errors"][0]["remedy"]


@pytest.mark.parametrize("kind", ["Div", "Reciprocal", "Log", "Pow"])
def test_what_stays_away_from_0_is_not_spoken_of(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _save(kind, away=True)
    out, said = _run(capsys, "--json")
    assert NEAR not in said and "not finite" not in said
    (record,) = json.loads(out)["outputs"]
    assert record["sqnr_db"] > 25 and record["not_finite"] == 0


def test_infinity_on_its_way_to_a_kernel_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The kernel clips it, so that the output says nothing."""
    _save("Reciprocal", into_chip=True)
    out, said = _run(capsys, "--json")
    assert json.loads(out)["outputs"][0]["not_finite"] == 0
    assert NEAR in said and NOT_FINITE in said


@pytest.mark.parametrize("more", [[], ["--json"], ["--out", "kept"]])
def test_no_number_has_no_code(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """0 / 0 in front of a kernel: one line, and nothing kept."""
    _save("0/0", into_chip=True)
    assert app.main(["run", "m.onnx", "--backend", "integers", *more]) == 2
    captured = capsys.readouterr()
    assert "Div " in captured.err.splitlines()[-1] and "no code" in captured.err
    assert not captured.out and not Path("kept").exists()


def test_a_run_says_nothing_of_prices(capsys: pytest.CaptureFixture[str]) -> None:
    """The copies of a convolution have a price where there are prices."""
    b = ModelBuilder(18)
    x = b.input("x", (1, 4, 12, 12))
    onnx.save(b.model(b.node("Conv", x, b.weights(8, 4, 3, 3), dilations=[2, 2])), "m.onnx")
    _, said = _run(capsys)
    assert "figures include" not in said and "in float" in said
    assert app.main(["simulate", "m.onnx"]) == 0
    assert "figures include" in capsys.readouterr().err
