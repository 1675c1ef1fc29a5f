"""`--past` on the command line: what is printed and kept of decoders, and of no other models."""

import csv
import json
from pathlib import Path
from typing import Any

import onnx
import pyarrow.parquet as pq
import pytest
from cached_decoder import decoder

import codesign
from codesign.search.cli.app import main
from codesign.search.runs.files import JOURNAL_FILE

TOKENS = {
    "time_to_first_token_s", "first_token_unknown", "tokens_per_s", "energy_per_token_j",
    "energy_per_token_low_j", "energy_per_token_high_j",
}  # fmt: skip


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        streams = capsys.readouterr()
        return streams.err if code else streams.out

    return run


def test_an_exported_step_and_the_built_in_one_cost_the_same(said: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "step.onnx")
    said("export", "stories260k", "--past", "63", "--seq", "1", "-o", file)
    built_in, exported, given = (
        json.loads(said("simulate", *model, "--json"))["total"]
        for model in (("stories260k", "--past", "63"), (file,), (file, "--past", "63"))
    )
    assert built_in["cycles"] == exported["cycles"] == given["cycles"]
    assert built_in["tokens_per_s"] == exported["tokens_per_s"] == 1 / built_in["latency_s"]
    assert built_in["energy_per_token_j"] == built_in["energy_j"]
    assert built_in["first_token_unknown"] == "" and exported["time_to_first_token_s"] is None
    table = said("simulate", file)
    assert "unknown  the file fixes its past at 63: price the prompt" in table


def test_simulate_prints_tokens(said: Any) -> None:
    lines = [line.split() for line in said("simulate", "stories260k", "--past", "63").splitlines()]
    first, rate, energy = lines[-3:]
    found = codesign.price(codesign.load_model("stories260k", past=63), codesign.machine())
    assert found.prefill is not None and found.time_to_first_token_s is not None
    per_second = {"ms": 1e3, "µs": 1e6}[first[5]]
    assert first[:4] == ["time", "to", "first", "token"]
    assert float(first[4]) == pytest.approx(per_second * found.time_to_first_token_s, rel=5e-4)
    assert first[6:] == [
        f"{found.prefill.cycles:,}",
        "cycles,",
        *["a", "prompt", "of", "63", "tokens"],
    ]
    assert rate[:3] == ["tokens", "per", "second"]
    assert float(rate[3]) == pytest.approx(found.tokens_per_s, rel=5e-4)
    assert rate[4:] == ["a", "step", "of", "1", "token", "behind", "63"]
    assert energy[:3] == ["energy", "per", "token"] and energy[4] == "µJ" and energy[5] == "low"


def test_a_prompt_prints_its_first_token_alone(said: Any) -> None:
    text = said("simulate", "stories260k", "--seq", "16")
    assert "time to first token" in text and "per token" not in text and "per second" not in text
    row = json.loads(said("simulate", "stories260k", "--seq", "16", "--json"))["total"]
    assert row["time_to_first_token_s"] == row["latency_s"] and row["tokens_per_s"] is None


@pytest.mark.parametrize("command", ("simulate", "sweep"))
def test_nothing_is_new_for_encoders(said: Any, tmp_path: Path, command: str) -> None:
    given = ("bert-tiny", "--seq", "8", "--out", str(tmp_path / "run"))
    assert "token" not in said(command, *given)
    document = said(command, *given, "--json")
    assert not any(name in document for name in (*TOKENS, '"past"', '"prefill"'))
    kept = pq.read_table(tmp_path / "run" / "results.parquet")
    assert not TOKENS & set(kept.column_names)


def test_a_sweep_keeps_tokens_and_goes_on(said: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = (
        "sweep",
        "stories260k",
        "--past",
        "15",
        "--acc",
        "64K,128K",
        "--out",
        str(run),
        "-j",
        "1",
    )
    text = said(*given)
    assert "first token" in text and "tokens" in text and "energy/token" in text
    kept = pq.read_table(run / "results.parquet").to_pylist()
    assert TOKENS <= kept[0].keys() and kept[0]["tokens_per_s"] == 1 / kept[0]["latency_s"]
    with (run / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_per_token_j"]) for row in rows] == [row["energy_j"] for row in kept]
    journal = (run / JOURNAL_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    (run / JOURNAL_FILE).write_text(journal[0], encoding="utf-8")
    assert json.loads(said(*given, "--json"))["rows"] == kept
    assert json.loads((run / "run.json").read_text())["inputs"]["past"] == 15


def test_a_file_of_any_spelling_is_priced_behind_its_past(said: Any, tmp_path: Path) -> None:
    onnx.save(decoder(), tmp_path / "m.onnx")
    text = said("sweep", str(tmp_path / "m.onnx"), "--past", "20", "--dim", "8,16")
    assert "m, sequence 1, past 20, batch 1 on ibert" in text and "first token" in text
    said("simulate", str(tmp_path / "m.onnx"), "--past", "20", "--backend", "functional")


@pytest.mark.parametrize(
    ("given", "words"),
    (
        (
            ("bert-tiny", "--past", "3"),
            "bert-tiny has no key-value cache: give --past to gpt2, lm, ",
        ),
        (("stories260k", "--past", "-1"), "-1 is not in the range x>=0"),
        (("m.onnx", "--past", "3", "--bind", "past_sequence_length=4"), "give one of them"),
        (("none.onnx", "--past", "3"), "codesign export FAMILY --past N"),
    ),
)
def test_what_has_no_past_is_refused_in_one_line(
    said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(decoder(), "m.onnx")
    said("export", "bert-tiny", "--weights", "splat", "-o", "none.onnx")
    for command in ("simulate", "sweep"):
        line = said(command, *given, code=2)
        assert words in line and line.count("\n") == 1
