"""`codesign run --batch`: a batch at once in onnxruntime, its samples one by one on the machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import save
from onnx_builder import Array, ModelBuilder
from rtl_agreement import MACHINES

from codesign.compiler.onnx.float_model import FloatModel
from codesign.hw.machine.config import to_toml
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export
from codesign.search.cli import app
from codesign.search.inputs import batch
from codesign.search.inputs.samples import Input

Run = Callable[..., Any]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"))
BERT = BertConfig("small", 2, 16, 2, 32, vocab_size=len(VOCABULARY), max_positions=40)
SEQ, ROWS, WIDTH = 10, 5, 16


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dim8.toml").write_text(to_toml(MACHINES["dim8"]))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    save(export(BERT, batch=None, seq=None), tmp_path / "bert.onnx")
    save(export(BERT, batch=3, seq=None), tmp_path / "fixed.onnx")
    return tmp_path


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(model: str, *arguments: str) -> tuple[Any, list[str]]:
        command = ["run", model, "--hw", "dim8.toml", "--backend", "integers", "--json"]
        assert app.main([*command, *arguments]) == 0
        captured = capsys.readouterr()
        return json.loads(captured.out), captured.err.splitlines()

    return run


def kept(folder: str) -> dict[str, Array]:
    with np.load(f"{folder}/outputs.npz") as file:
        return {name: file[name] for name in file}


def _save(path: str, **arrays: Any) -> None:
    np.savez(path, **arrays)


def tokens(size: int) -> dict[str, Array]:
    """Tokens of `size` sequences, each padded at another place."""
    rng = np.random.default_rng(1)
    ids = rng.integers(5, len(VOCABULARY), size=(size, SEQ))
    mask = np.arange(SEQ) < rng.integers(4, SEQ + 1, size=(size, 1))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids}
    return {name: value.astype(np.int64) for name, value in feeds.items()}


def test_a_batch_is_its_samples(ran: Run) -> None:
    """Bit for bit what each comes to by itself, beside onnxruntime on all at once."""
    feeds = tokens(3)
    _save("batch.npz", **feeds)
    options = ("--seq", str(SEQ), "--calibration", "batch.npz")
    document, said = ran(
        "bert.onnx", "--batch", "3", "--input", "batch.npz", "--out", "all", *options
    )
    assert any("the 3 samples of a batch run one after another" in line for line in said)
    whole = onnxruntime.InferenceSession("bert.onnx").run(None, feeds)
    assert [row["shape"] for row in document["outputs"]] == [f"3x{SEQ}x16", "3x16"]
    assert all(row["sqnr_db"] > 25 for row in document["outputs"])
    for name, wanted in zip(("last_hidden_state", "pooler_output"), whole, strict=True):
        np.testing.assert_allclose(kept("all")[f"float.{name}"][0], wanted, atol=1e-5)
    for index in range(3):
        _save("one.npz", **{name: value[index : index + 1] for name, value in feeds.items()})
        ran("bert.onnx", "--input", "one.npz", "--out", f"one{index}", *options)
        for name, value in kept(f"one{index}").items():
            if not name.startswith("float."):
                np.testing.assert_array_equal(value[0, 0], kept("all")[name][0, index])


def test_texts_fill_batches_and_are_shown_one_by_one(ran: Run) -> None:
    texts = [part for text in ("abc", "h g", "ba") for part in ("--text", text)]
    command = ("--seq", str(SEQ), "--samples", "4", *texts)
    alone, _ = ran("bert.onnx", *command)
    for size in ("2", "4"):
        batched, _ = ran("bert.onnx", "--batch", size, *command)
        assert [row["input"] for row in batched["outputs"]] == [
            row["input"] for row in alone["outputs"]
        ]
        for row, other in zip(batched["outputs"], alone["outputs"], strict=True):
            assert (row["output"], row["shape"]) == (other["output"], other["shape"])
            assert row["sqnr_db"] == pytest.approx(other["sqnr_db"], abs=1e-3)
        assert batched["similarity"]["int8"] == alone["similarity"]["int8"]


def test_positions_may_be_one_for_all_texts(ran: Run) -> None:
    b = ModelBuilder(18)
    words = b.node("Gather", b.weights(len(VOCABULARY), WIDTH), b.input("input_ids", ("n", SEQ), 7))
    places = b.node("Gather", b.weights(SEQ, WIDTH), b.input("position_ids", (1, SEQ), 7))
    save(b.model(b.linear(b.node("Add", words, places), WIDTH, 8)), "places.onnx")
    texts = ("--text", "abc", "--text", "h g")
    alone, _ = ran("places.onnx", "--batch", "1", "--samples", "4", *texts)
    both, _ = ran("places.onnx", "--batch", "2", "--samples", "4", *texts)
    assert [row["sqnr_db"] for row in both["outputs"]] == [
        pytest.approx(row["sqnr_db"], abs=1e-3) for row in alone["outputs"]
    ]


def test_every_run_of_the_program_is_charged(ran: Run) -> None:
    """On the RTL: as many kernels as samples, texts that only fill a batch left out."""
    command = ["--seq", str(SEQ), "--samples", "4", "--backend", "rtl"]
    one, _ = ran("bert.onnx", *command, "--text", "abc")
    three, _ = ran(
        "bert.onnx",
        *command,
        "--batch",
        "2",
        *(p for t in ("abc", "h", "b") for p in ("--text", t)),
    )
    assert three["rtl"]["kernels"] == 3 * one["rtl"]["kernels"]
    assert three["rtl"]["cycles"] == three["rtl"]["rtl_cycles"] == 3 * one["rtl"]["cycles"]
    assert {kernel["sample"] for kernel in three["kernels"]} == {0, 1, 2}


@pytest.mark.parametrize("option", ((), ("--batch", "3")))
def test_a_batch_that_the_file_fixes_is_one_program(ran: Run, option: tuple[str, ...]) -> None:
    _save("batch.npz", **tokens(3))
    command = ("--seq", str(SEQ), *option, "--samples", "6")
    own = ("--calibration", "batch.npz")
    document, said = ran("fixed.onnx", *command, "--input", "batch.npz", *own)
    assert [row["shape"] for row in document["outputs"]] == [f"3x{SEQ}x16", "3x16"]
    assert all(row["sqnr_db"] > 25 for row in document["outputs"])
    assert any("the file fixes a batch of 3" in line for line in said) == bool(option)
    texts, _ = ran("fixed.onnx", *command, "--text", "abc", "--text", "h")
    assert [row["input"] for row in texts["outputs"]] == ["abc"] * 3 + ["h"] * 3
    assert all(row["cosine"] > 0.95 for row in texts["outputs"])


def dependent(name: str) -> None:
    """Samples from which the mean of their batch is taken: none is what it is without the others."""
    b = ModelBuilder(18)
    y = b.linear(b.input("x", ("batch", ROWS, WIDTH)), WIDTH, WIDTH)
    mean = b.node("ReduceMean", y, b.ints(0), keepdims=1)
    model = b.model(b.linear(b.node("Sub", y, mean), WIDTH, 8))
    save(model, name)


def test_samples_that_depend_on_one_another_are_one_program(folder: Path, ran: Run) -> None:
    (folder / "vocab.txt").unlink()  # the model takes no text
    dependent("mean.onnx")
    document, said = ran("mean.onnx", "--batch", "4")
    assert any("depend on one another: one Program computes all 4" in line for line in said)
    (row,) = document["outputs"]
    assert row["shape"] == f"4x{ROWS}x8" and row["sqnr_db"] > 25


def test_every_batch_is_asked(folder: Path, ran: Run) -> None:
    """Samples that are alike hide what they take from one another."""
    (folder / "vocab.txt").unlink()
    dependent("mean.onnx")
    x = np.random.default_rng(3).normal(size=(2, ROWS, WIDTH)).astype(np.float32)
    _save("alike.npz", x=x[[0, 0]])
    _save("apart.npz", x=x)
    inputs = ("--input", "alike.npz", "--input", "apart.npz", "--calibration", "apart.npz")
    document, said = ran("mean.onnx", "--batch", "2", *inputs)
    assert any("depend on one another" in line for line in said)
    assert document["outputs"][1]["sqnr_db"] > 25


def test_axes_of_a_batch() -> None:
    """A batch may be any axis of inputs and outputs, or a part of one; a constant has none."""
    b = ModelBuilder()
    x = b.input("x", (ROWS, "batch", WIDTH))
    table = b.input("table", (WIDTH, WIDTH))
    y = b.node("MatMul", x, table)
    flat = b.node("Reshape", b.node("Transpose", y, perm=[1, 0, 2]), b.ints(-1, WIDTH))
    model = FloatModel(b.model(y, flat, b.node("Neg", table)))
    kind: np.dtype[Any] = np.dtype(np.float32)
    sizes = {
        size: [
            Input("x", (ROWS, size, WIDTH), kind, None),
            Input("table", (WIDTH, WIDTH), kind, None),
        ]
        for size in (3, 1)
    }
    rng = np.random.default_rng(0)
    feeds = {each.name: rng.normal(size=each.shape).astype(np.float32) for each in sizes[3]}
    found = batch.batch_axes(model, sizes[3], sizes[1], [feeds])
    assert found is not None and found.size == 3
    assert found.inputs == {"x": 1, "table": None}
    assert list(found.outputs.values()) == [1, 0, None]
    outputs = model.part((), model.outputs)(feeds)
    for index, sample in enumerate(found.split(feeds)):
        alone = model.part((), model.outputs)(sample)
        for name, value in found.of_sample(outputs, index).items():
            np.testing.assert_allclose(value, alone[name], atol=1e-5)
