"""`codesign run` and the image that `codesign compile` keeps, as a user meets them.

Held against numpy and onnxruntime; the RTL against the functional model.
"""

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
from rtl_agreement import MACHINES

from codesign.hw.machine.arithmetic import pack_parameters
from codesign.hw.machine.config import from_toml, to_toml
from codesign.hw.machine.encoding import LANES, decode
from codesign.hw.simulation import simulator
from codesign.hw.simulation.simulator import Simulation
from codesign.hw.views.functional import Machine
from codesign.hw.views.timing import evaluate_unrolled
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.export import export, save
from codesign.models.zoo.t5 import T5Config
from codesign.search.cli import app

Array = np.ndarray[Any, Any]

# A vocabulary of characters, so that any text is made of it.
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = [*string.ascii_lowercase, *string.digits]
VOCABULARY = [*SPECIAL, *string.punctuation, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
BERT = BertConfig("small", 2, 16, 2, 32, vocab_size=len(VOCABULARY), max_positions=40)
SEQ = "12"
TEXTS = ["--text", "abc de", "--text", "Fox 7!"]
RUN = ["run", "small.onnx", "--seq", SEQ, "--hw", "dim8.toml"]


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Callable[[int], None]
) -> Path:
    monkeypatch.chdir(tmp_path)
    terminal(120)
    save(export(BERT, seq=None), tmp_path / "small.onnx")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    (tmp_path / "dim8.toml").write_text(to_toml(MACHINES["dim8"]))
    return tmp_path


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        capsys.readouterr()
        assert app.main([*RUN, *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def tokens(text: str) -> dict[str, Array]:
    """What BERT's tokenizer makes of lower-case words: their characters, [CLS] and [SEP] around."""
    pieces = ["[CLS]"]
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        pieces += [word[0], *(f"##{c}" for c in word[1:])]
    ids = [VOCABULARY.index(piece) for piece in [*pieces, "[SEP]"]]
    padding = [0] * (int(SEQ) - len(ids))
    values = {"input_ids": ids + padding, "attention_mask": [1] * len(ids) + padding}
    values["token_type_ids"] = [0] * int(SEQ)
    return {name: np.array([value], dtype=np.int64) for name, value in values.items()}


def in_float(feeds: dict[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession("small.onnx")
    return [np.asarray(value) for value in session.run(None, feeds)]


def kept(folder: str = "out") -> dict[str, Array]:
    with np.load(f"{folder}/outputs.npz") as file:
        return {name: file[name] for name in file}


def _save(path: str, **arrays: Any) -> None:
    np.savez(path, **arrays)


def mean(states: Array, feeds: dict[str, Array]) -> Array:
    average = states[0, feeds["attention_mask"][0] == 1].mean(axis=0)
    unit: Array = average / np.linalg.norm(average)
    return unit


def test_text_runs_and_the_comparison_is_with_onnxruntime(run_json: Callable[..., Any]) -> None:
    document = run_json(*TEXTS, "--out", "out")
    arrays = kept()
    rows = iter(document["outputs"])
    for number, text in enumerate(TEXTS[1::2]):
        feeds = tokens(text)
        states, pooled = in_float(feeds)
        seen = feeds["attention_mask"] == 1
        for name, value in (("last_hidden_state", states), ("pooler_output", pooled)):
            ours, row = arrays[name][number], next(rows)
            np.testing.assert_allclose(arrays[f"float.{name}"][number], value, atol=1e-5)
            a, b = (v[seen] if name == "last_hidden_state" else v for v in (ours, value))
            difference = (a - b).astype(float)
            assert (row["input"], row["output"]) == (text, name)
            assert row["shape"] == "x".join(map(str, value.shape))
            assert row["max_abs_error"] == pytest.approx(np.abs(difference).max(), abs=1e-5)
            cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
            assert row["cosine"] == pytest.approx(cosine, abs=1e-5) and cosine > 0.98
            sqnr = 10 * np.log10((b.astype(float) ** 2).sum() / (difference**2).sum())
            assert row["sqnr_db"] == pytest.approx(sqnr, abs=0.05)
        row = next(rows)
        both = [mean(value, feeds) for value in (arrays["last_hidden_state"][number], states)]
        assert row["output"] == "embedding" and row["cosine"] == pytest.approx(both[0] @ both[1])
        np.testing.assert_allclose(arrays["embedding"][number], both[0], atol=1e-6)
    embeddings = arrays["embedding"]
    similarity = document["similarity"]
    np.testing.assert_allclose(similarity["int8"], embeddings @ embeddings.T, atol=1e-6)
    floats = [mean(in_float(tokens(text))[0], tokens(text)) for text in TEXTS[1::2]]
    np.testing.assert_allclose(
        similarity["float"], np.stack(floats) @ np.stack(floats).T, atol=1e-5
    )


def test_all_backends_give_the_same_bits_and_the_rtl_the_same_cycles(
    run_json: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two texts on the RTL, kernel by kernel, each on what the one before left."""
    for backend in ("functional", "integers", "rtl"):
        document = run_json(*TEXTS, "--backend", backend, "--out", backend)
        for name, value in kept(backend).items():
            np.testing.assert_array_equal(value, kept("functional")[name])
    rtl = document["rtl"]
    kernels = document["kernels"]
    assert kernels == pq.read_table("rtl/kernels.parquet").to_pylist()
    assert [k["kernel"] for k in kernels if k["sample"] == 0] == [
        k["kernel"] for k in kernels if k["sample"] == 1
    ]
    assert rtl["kernels"] == len(kernels) >= 2 * 10
    assert rtl["cycles"] == rtl["rtl_cycles"] == sum(k["cycles"] for k in kernels)
    assert all(k["rtl_cycles"] == k["cycles"] > 0 for k in kernels)
    assert not any(k[f"{w}_differing"] for k in kernels for w in ("times", "bytes", "counts"))
    assert rtl["kernels_differing"] == 0 and rtl["rtl_seconds"] > 0


@pytest.mark.long
@pytest.mark.parametrize("machine", ("dim4", "dim16"))
def test_a_larger_network_on_the_rtl(machine: str, folder: Path) -> None:
    bert = BertConfig("larger", 3, 64, 4, 256, vocab_size=len(VOCABULARY), max_positions=64)
    save(export(bert, seq=None, seed=1), folder / "small.onnx")
    (folder / "dim8.toml").write_text(to_toml(MACHINES[machine]))
    command = [*RUN[:2], "--seq", "40", *RUN[4:], "--text", "The quick brown fox, 2 of 7."]
    for backend in ("functional", "rtl"):
        assert app.main([*command, "--backend", backend, "--out", backend]) == 0
    for name, value in kept("rtl").items():
        np.testing.assert_array_equal(value, kept("functional")[name])


def ideal(program: Any, config: Any, dram: Array, **options: Any) -> Simulation:
    """An RTL that does what the models say, but for the sign of the last byte of every kernel."""
    (kernel,) = program.kernels
    timing = evaluate_unrolled(kernel.body, config, trace=True)
    machine = Machine(config, dram.copy())
    machine.run(kernel.body)
    steps = tuple(
        simulator.IssuedInstruction(s.issued, s.dispatch, s.start, s.release, s.complete)
        for s in timing.steps
    )
    machine.dram[-1] ^= 0x80
    run = simulator.KernelRun(kernel.name, timing.cycles, steps)
    return Simulation(machine.dram, (run,), (0,) * 32)


def test_a_disagreement_names_the_kernel_and_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulator, "run_rtl", ideal)
    assert app.main([*RUN, "--text", "a", "--backend", "rtl"]) == 1
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    found = re.fullmatch(
        r"codesign: error: embeddings\S*: byte (\d+) of DRAM is 128 on the RTL, 0 on .*", last
    )
    assert found is not None, last
    assert "RTL differs: 1 kernels" in captured.out


def test_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([*RUN, *TEXTS]) == 0
    captured = capsys.readouterr()
    assert "small, sequence 12, batch 1 on dim8" in captured.out
    assert (
        len(
            re.findall(
                r"^(?:abc de|Fox 7!) +embedding +16 +(?:0\.99|1\.00)", captured.out, re.MULTILINE
            )
        )
        == 2
    )
    assert re.search(r"^1 abc de +1\.000 \(1\.000\) ", captured.out, re.MULTILINE)
    assert "calibrating on 64 samples: the sentences that ship with codesign" in captured.err


def test_choices_of_quantization_change_the_result(run_json: Callable[..., Any]) -> None:
    choices = (
        "--method=mse",
        "--smoothing=0",
        "--smoothing=0.5",
        "--tensor-weights",
        "--samples=4",
    )
    results = [
        run_json(*TEXTS, *([choice] if choice else []))["outputs"] for choice in ("", *choices)
    ]
    assert all(a != b for i, a in enumerate(results) for b in results[:i])


def test_a_report_of_every_kernel_and_its_remedy(
    run_json: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(*TEXTS, "--report", "--out", "out")
    errors = document["errors"]
    assert errors == pq.read_table("out/errors.parquet").to_pylist()
    effects = [error["effect_db"] for error in errors]
    assert len(errors) >= 10 and effects == sorted(effects)
    assert all(error["remedy"] and error["own_db"] > 10 for error in errors)
    assert app.main([*RUN, *TEXTS, "--report"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{re.escape(e['kernel'])} ", printed, re.MULTILINE) for e in errors)


def test_a_machine_without_nonlinear_units_leaves_them_to_the_host(
    run_json: Callable[..., Any],
) -> None:
    rows = run_json("--hw", "gemmini", *TEXTS)["outputs"]
    assert len(rows) == 6 and all(row["cosine"] > 0.98 for row in rows)


# -- Inputs and calibration data -----------------------------------------------------------------------


def test_a_file_of_inputs_is_the_text_that_it_holds(run_json: Callable[..., Any]) -> None:
    _save("x.npz", **tokens("abc de"))
    run_json("--input", "x.npz", "--out", "a")
    run_json("--text", "abc de", "--out", "b")
    a, b = kept("a"), kept("b")
    assert b.keys() - a.keys() == {"embedding", "float.embedding"}
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])


def test_calibration_data_is_one_whatever_its_form(
    folder: Path, run_json: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same four samples as sentences, files and folders; three of them give another result."""
    texts = ["abc de", "xyz", "Fox 7!", "one more"]
    (folder / "c.txt").write_text("\n\n".join(texts))
    samples = [tokens(text) for text in texts]
    (folder / "c").mkdir()
    for number, sample in enumerate(samples):
        _save(f"c/{number}.npz", **sample)
    _save("rows.npz", **{n: np.concatenate([s[n] for s in samples]) for n in samples[0]})
    _save("stack.npz", **{n: np.stack([s[n] for s in samples]) for n in samples[0]})
    for name, half in (("0.txt", texts[:2]), ("1.txt", texts[2:])):
        (folder / "sentences").mkdir(exist_ok=True)
        (folder / "sentences" / name).write_text("\n".join(half))
    for name in ("c.txt", "c", "sentences", "rows.npz", "stack.npz"):
        run_json("--calibration", name, "--text", "abc de", "--out", f"out-{name}")
    run_json("--calibration", "c.txt", "--samples", "3", "--text", "abc de", "--out", "three")
    first = kept("out-c.txt")
    for name in ("c", "sentences", "rows.npz", "stack.npz"):
        for output, value in kept(f"out-{name}").items():
            np.testing.assert_array_equal(value, first[output])
    assert any((value != first[output]).any() for output, value in kept("three").items())


def test_without_a_tokenizer_inputs_are_random(
    folder: Path, run_json: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "vocab.txt").unlink()
    assert app.main([*RUN, "--backend", "integers"]) == 0
    assert "calibrating on 16 samples: random inputs" in capsys.readouterr().err
    assert app.main([*RUN, "--backend", "integers", "--samples", "20"]) == 0
    assert "calibrating on 20 samples: random inputs" in capsys.readouterr().err
    first, again, other = (run_json("--seed", seed)["outputs"] for seed in ("1", "1", "2"))
    assert first == again != other


def test_a_tokenizer_of_the_tokenizers_package(folder: Path, run_json: Callable[..., Any]) -> None:
    """The same words from tokenizer.json, whose truncation and padding are not ours."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.models import WordPiece

    run_json("--text", "abc de", "--out", "a")
    tokenizer = BertWordPieceTokenizer(WordPiece.read_file("vocab.txt"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=30)
    (folder / "other").mkdir()
    tokenizer.save("other/tokenizer.json")
    for number, place in enumerate(("other", "other/tokenizer.json")):
        run_json("--text", "abc de", "--tokenizer", place, "--out", f"b{number}")
        for name, value in kept("a").items():
            np.testing.assert_array_equal(value, kept(f"b{number}")[name])


def test_a_built_in_model_runs_on_random_weights(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "bert-tiny", "--seq", "8", "--backend", "integers"]
    assert app.main(command) == 0
    captured = capsys.readouterr()
    assert "bert-tiny is built in: its weights are random" in captured.err
    assert "last_hidden_state" in captured.out


BAD_INPUT = {
    "--text a --input x.npz": "exclude each other",
    "--text aaaaaaaaaaaaaaaaaaaaa": "has 23 tokens but the network is compiled for 12: give --seq 23",
    "--seq 41 --text a": "sequence 41 is longer than the 40 positions of the model: give --seq 40",
    "--text a --tokenizer no.json": "cannot read no.json",
    "--text a --tokenizer bad.json": "bad.json is no tokenizer",
    "--text a --tokenizer empty": "empty has neither tokenizer.json nor vocab.txt",
    "--text a --tokenizer large/vocab.txt": "use the tokenizer of this model",
    "--text a --method most": "unknown calibration 'most'",
    "--text a --smoothing 2": "smoothing 2.0 is not from 0",
    "--text a --calibration no.txt": "cannot read no.txt: no such file",
    "--text a --calibration empty.txt": "empty.txt is empty",
    "--text a --calibration empty": "empty has no .txt or .npz files",
    "--text a --calibration no": "cannot read no: no such file",
    "--text a --calibration hidden.npz": "hides every key from",
    "--text=": "the text is empty",
    "--text a --calibration small.onnx": "calibration takes .txt",
    "--text a --calibration none.npz": "none.npz holds 0 samples",
    "--text a --calibration ragged.npz": "differ in their first axis",
    "--input no.npz": "cannot read no.npz",
    "--input bad.json": "bad.json is no .npz file",
    "--input array.npy": "array.npy is no .npz file",
    "--input lacks.npz": "lacks token_type_ids: the model's inputs are input_ids, attention_mask",
    "--input extra.npz": "also has more",
    "--input short.npz": "'input_ids' is [1, 11] but the network is compiled for [1, 12]",
    "--input vocabulary.npz": f"has the index {len(VOCABULARY)} but its table has rows 0 to",
    "--input negative.npz": "has the index -1",
    "--input nan.npz": "has a value that is not finite",
    "--input half.npz": "holds float64 that int64 does not",
    "--input words.npz": "holds <U1, not numbers",
    "--hw dim8.toml --dim 8,16": "name 2 machines but this command takes one",
    "--backend verilog": "'functional', 'rtl', 'integers'",
}


@pytest.fixture
def bad_files(folder: Path) -> Iterator[dict[str, bytes]]:
    good = tokens("abc")
    (folder / "bad.json").write_text("{}")
    (folder / "empty.txt").write_text("\n \n")
    (folder / "empty").mkdir()
    (folder / "large").mkdir()
    (folder / "large" / "vocab.txt").write_text(
        "\n".join([*SPECIAL, *(f"word{i}" for i in range(200)), "a", *string.ascii_letters])
    )
    np.save("array.npy", good["input_ids"])
    ids = good["input_ids"]

    def other(value: Any) -> dict[str, Any]:
        return {**good, "input_ids": value}

    cases: dict[str, dict[str, Any]] = {
        "x": good,
        "lacks": {name: value for name, value in good.items() if name != "token_type_ids"},
        "extra": {**good, "more": ids},
        "short": other(ids[:, :11]),
        "vocabulary": other(np.where(ids == ids[0, 1], len(VOCABULARY), ids)),
        "negative": other(ids - 1),
        "nan": other(np.where(ids == 0, np.nan, ids)),
        "half": other(ids + 0.5),
        "words": other(np.full(ids.shape, "a")),
        "hidden": {**good, "attention_mask": np.zeros_like(ids)},
        "none": {name: value[:0] for name, value in good.items()},
        "ragged": {**{n: np.repeat(v, 3, axis=0) for n, v in good.items()}, "input_ids": ids},
    }
    for name, arrays in cases.items():
        _save(f"{name}.npz", **arrays)
    yield _files(folder)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("command", BAD_INPUT)
def test_bad_input_is_one_line_exit_code_2_and_nothing_kept(
    command: str, folder: Path, bad_files: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main([*RUN, *command.split(), "--out", "kept"]) == 2
    captured = capsys.readouterr()
    *said, error = captured.err.splitlines()
    assert captured.out == "" and error.startswith("codesign: error: ")
    assert BAD_INPUT[command] in error
    assert all(line.startswith("codesign: calibrating") for line in said)
    assert _files(folder) == bad_files and not Path("kept").exists()


def test_text_does_not_give_what_else_a_model_wants(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t5 = T5Config("t5", 1, 1, d_model=16, heads=2, d_kv=8, d_ff=16, vocab_size=len(VOCABULARY))
    save(export(t5, seq=12), folder / "small.onnx")
    assert app.main([*RUN, "--text", "a"]) == 2
    assert "but the model wants decoder_input_ids too: use --input" in capsys.readouterr().err


# -- The image that compile keeps ----------------------------------------------------------------------


class _Host:
    """A host that knows what `compile` keeps in a folder, and no compiler."""

    def __init__(self, image: Path) -> None:
        self.document = json.loads((image / "scales.json").read_text())
        self.places = {tensor["name"]: tensor for tensor in self.document["tensors"]}
        self.dim = self.document["dim"]
        weights = np.fromfile(image / "weights.bin", dtype=np.uint8)
        self.machine = Machine(from_toml(image / "hardware.toml"), weights)

    def write(self, tensor: dict[str, Any], matrix: Array) -> None:
        width = tensor["heads"] * tensor["stored_columns"]
        parts = matrix.reshape(tensor["rows"], tensor["heads"], tensor["columns"])
        wide = np.zeros((tensor["rows"], tensor["heads"], tensor["stored_columns"]), np.int8)
        wide[:, :, : tensor["columns"]] = parts
        whole = np.zeros((tensor["rows"], -(-width // self.dim) * self.dim), np.int8)
        whole[:, :width] = wide.reshape(tensor["rows"], -1)
        blocks = whole.reshape(tensor["rows"], -1, self.dim).transpose(1, 0, 2)
        data = blocks.ravel().view(np.uint8)
        assert len(data) == tensor["size_bytes"]
        self.machine.dram[tensor["address"] : tensor["address"] + len(data)] = data

    def read(self, tensor: dict[str, Any]) -> Array:
        data = self.machine.dram[tensor["address"] :][: tensor["size_bytes"]].view(np.int8)
        rows = data.reshape(-1, tensor["rows"], self.dim).transpose(1, 0, 2)
        rows = rows.reshape(tensor["rows"], -1)[:, : tensor["heads"] * tensor["stored_columns"]]
        heads = rows.reshape(tensor["rows"], tensor["heads"], tensor["stored_columns"])
        matrix = heads[:, :, : tensor["columns"]].reshape(tensor["rows"], -1)
        values = (matrix * np.array(tensor["scales"])).astype(np.float32)
        shaped: Array = values.reshape(tensor["onnx_shape"])
        return shaped

    def give(self, tensor: dict[str, Any], value: Array) -> None:
        """Write a float tensor, with what is left of it where a second one takes that."""
        value = value.reshape(tensor["rows"], -1)
        high = _int8(value, tensor["scales"])
        self.write(tensor, high)
        low = self.places.get(tensor["name"] + "/low")
        if low is not None:
            self.write(low, _int8(value - high * np.array(tensor["scales"]), low["scales"]))

    def hide(self, mask: dict[str, Any], region: dict[str, Any], kept: Array) -> None:
        """Write the records of a mask."""
        hidden = np.where(kept == 1, 0.0, -np.inf)
        offsets = np.nan_to_num(hidden / mask["unit"], neginf=-(2.0**31 - 1)).astype(np.int64)
        records = np.zeros((region["size_bytes"] // 8, 8), np.uint8)
        records[: len(offsets)] = pack_parameters(
            offsets, np.full(12, mask["multiplier"]), np.full(12, mask["shift"])
        )
        self.machine.dram[region["address"] :][: region["size_bytes"]] = records.ravel()

    def execute(self, words: Array) -> None:
        """Run instructions [n, LANES], kernel by kernel."""
        at = 0
        for kernel in self.document["kernels"]:
            for index, word in enumerate(words[at : at + kernel["instructions"]]):
                self.machine.step(decode(int.from_bytes(word.tobytes(), "little")), index)
            at += kernel["instructions"]
        assert at == len(words) > 0


def _int8(values: Array, scales: list[float]) -> Array:
    clipped: Array = np.clip(np.round(values / np.array(scales)), -127, 127)
    return clipped.astype(np.int8)


def _in_float(names: list[str], feeds: Mapping[str, Array]) -> list[Array]:
    """Tensors of the float model by name."""
    model = onnx.load("small.onnx")
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return [np.asarray(value) for value in session.run(names, feeds)]


def test_a_host_runs_the_network_from_the_files_alone(
    folder: Path, run_json: Callable[..., Any]
) -> None:
    """weights.bin, program.bin and scales.json suffice: no compiler, only the float model's look-ups."""
    assert app.main(["compile", *RUN[1:], "-o", "image"]) == 0
    run_json("--text", "abc de", "--out", "out")
    host, feeds = _Host(folder / "image"), tokens("abc de")
    tensors = [t for t in host.places.values() if t["writer"] == "host"]
    given = [t for t in tensors if not t["name"].endswith("/low")]
    for tensor, value in zip(given, _in_float([t["name"] for t in given], feeds), strict=True):
        host.give(tensor, value)
    regions = {r["name"]: r for r in pq.read_table("image/memory.parquet").to_pylist()}
    for mask in host.document["masks"]:
        host.hide(mask, regions[mask["region"]], feeds["attention_mask"][0])
    host.execute(np.fromfile("image/program.bin", dtype="<u4").reshape(-1, LANES))
    (states,) = (
        host.read(tensor)
        for tensor in host.places.values()
        if tensor["read"] == len(host.document["kernels"]) and tensor["onnx_shape"] == [1, 12, 16]
    )
    np.testing.assert_array_equal(states, kept()["last_hidden_state"][0])


def test_the_same_command_keeps_the_same_image(folder: Path) -> None:
    for out in ("a", "b"):
        assert app.main(["compile", *RUN[1:], "-o", out]) == 0
    files = [{p.name: p.read_bytes() for p in (folder / out).iterdir()} for out in ("a", "b")]
    assert files[0].keys() == files[1].keys() >= {"weights.bin", "program.bin", "scales.json"}
    assert all(files[0][name] == files[1][name] for name in files[0].keys() - {"log.txt"})


def test_weights_are_a_matter_of_what_is_compiled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file has weights, a built-in model random ones: kept only where they are asked for."""
    cases = {
        "small.onnx": True,
        "small.onnx --no-weights": False,
        "bert-tiny": False,
        "bert-tiny --weights": True,
    }
    for number, (model, wanted) in enumerate(cases.items()):
        name, *options = model.split()
        out = f"out{number}"
        assert app.main(["compile", name, "--seq", "8", *options, "-o", out]) == 0
        assert (folder / out / "weights.bin").exists() == wanted
        assert (folder / out / "program.txt").exists()
    capsys.readouterr()
    command = ["compile", "small.onnx", "--seq", "8", "--calibration", "no.txt", "-o", "bad"]
    assert app.main(command) == 2
    assert "; --no-weights writes the Program alone" in capsys.readouterr().err
    assert not (folder / "bad").exists()
