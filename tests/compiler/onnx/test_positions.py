"""Sequences longer than a model's positions, however the file looks them up: one line that says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, save
from onnx_builder import CONTRIB, ModelBuilder

from codesign.hw.errors import ModelError, UnsupportedError
from codesign.search.cli import app
from codesign.search.inputs.sources import load_model

POSITIONS, WIDTH, VOCABULARY = 12, 8, 20
DATA = Path(__file__).parents[2] / "data"


def tokens(b: ModelBuilder) -> tuple[str, str]:
    ids = b.input("input_ids", ("batch", "sequence"), TensorProto.INT64)
    return ids, str(b.node("Gather", b.weights(VOCABULARY, WIDTH), ids))


def sliced(b: ModelBuilder) -> str:
    """Rows of the table up to the sequence's length, as distilled BERTs add them."""
    ids, x = tokens(b)
    length = b.node("Gather", b.node("Shape", ids), b.ints(1))
    table = b.const(b.rng.normal(size=(1, POSITIONS, WIDTH)))
    return str(b.node("Add", x, b.node("Slice", table, b.ints(0), length, b.ints(1))))


def expanded(b: ModelBuilder) -> str:
    """Zeros for missing token types, a buffer as long as the positions, expanded over the tokens."""
    ids, x = tokens(b)
    length = b.node("Gather", b.node("Shape", ids), b.ints(1))
    buffer = b.const(np.zeros((1, POSITIONS)), "int64")
    cut = b.node("Slice", buffer, b.ints(0), length, b.ints(1))
    types = b.node("Expand", cut, b.node("Shape", ids))
    return str(b.node("Add", x, b.node("Gather", b.weights(2, WIDTH), types)))


def counted(b: ModelBuilder) -> str:
    """A table indexed by a Range, as GPT-2 does."""
    ids, x = tokens(b)
    length = b.node("Gather", b.node("Shape", ids), b.const(1, "int64"))
    row = b.node("Range", b.const(0, "int64"), length, b.const(1, "int64"))
    return str(b.node("Add", x, b.node("Gather", b.weights(POSITIONS, WIDTH), row)))


def fused(b: ModelBuilder) -> str:
    ids = b.input("input_ids", ("batch", "sequence"), TensorProto.INT32)
    tables = (b.weights(VOCABULARY, WIDTH), b.weights(POSITIONS, WIDTH))
    norm = (b.weights(WIDTH), b.weights(WIDTH))
    node = ("EmbedLayerNormalization", ids, "", tables[0], tables[1], "", *norm)
    hidden, _ = b.node(*node, outputs=2, domain=CONTRIB)
    return str(hidden)


def built(path: Path, embed: Callable[[ModelBuilder], str]) -> str:
    b = ModelBuilder()
    save(b.model(b.linear(embed(b), WIDTH, WIDTH)), path)
    return str(path)


@pytest.mark.parametrize("embed", [sliced, expanded, counted, fused])
def test_positions_that_end(tmp_path: Path, embed: Callable[[ModelBuilder], str]) -> None:
    path = built(tmp_path / "model.onnx", embed)
    assert load_model(path, seq=POSITIONS).seq == POSITIONS
    for seq in (None, POSITIONS + 1):
        with pytest.raises(ModelError) as raised:
            load_model(path, seq=seq)
        wanted = f"sequence {seq or 128} is longer than the {POSITIONS} positions of the model"
        assert str(raised.value) == f"{wanted}: give --seq {POSITIONS} or less"


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_exports_without_a_sequence(exporter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["run", str(DATA / f"bert_tiny_{exporter}.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("longer than the 16 positions of the model: give --seq 16 or less")


def in_fours(b: ModelBuilder) -> str:
    """Every fourth token's row for its group: lengths that four does not divide do not fit."""
    _, x = tokens(b)
    groups = b.node("Reshape", x, b.ints(0, -1, 4 * WIDTH))
    return str(b.node("Reshape", groups, b.ints(0, -1, WIDTH)))


def contradicting(b: ModelBuilder) -> str:
    _, x = tokens(b)
    return str(b.node("Add", x, b.weights(WIDTH + 1)))


@pytest.mark.parametrize("embed", [in_fours, contradicting])
def test_other_contradictions_keep_their_reason(
    tmp_path: Path, embed: Callable[[ModelBuilder], str]
) -> None:
    path = built(tmp_path / "model.onnx", embed)
    with pytest.raises(UnsupportedError) as raised:
        load_model(path, seq=11)
    assert "positions" not in str(raised.value) and raised.value.mismatch
