"""`codesign train` from outside: text to table to search, killed on the way, one line for bad input."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codesign.models.quality.perplexities import Measured
from codesign.models.text import corpus
from codesign.models.zoo.decoder import DecoderConfig
from codesign.search.cli.app import main

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

SPACE = """
[transformer]
layers = [2, 1]
d_model = [12, 24]
heads = [4, 12]
d_ff = [16, 48]
sequence = 16
[hardware]
dim = [4, 8]
scratchpad_bytes = 16384
accumulator_bytes = 16384
bus_bytes = 8
"""
KINDS = ("largest", "smallest", "random")  # columns of training.csv
QUICK = ("--epochs", "3", "--subnets", "36", "--learning-rate", "1e-2", "--device", "cpu")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "prices"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    Path("space.toml").write_text(SPACE, encoding="utf-8")
    words = corpus.generate(12_000, seed=3).words()
    Path("text.txt").write_text(" ".join(words).replace("<s> ", "\n").strip(), encoding="utf-8")


def test_a_table_for_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "--data", "text.txt", "--space", "space.toml", *QUICK, "-o", "trained"]
    assert main([*asked, "--honest", "2", "-j", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = pq.read_table("trained/perplexities.parquet").to_pylist()
    assert len(rows) == document["subnets"] == 36
    shown = {row["subnet"]: row for row in document["shown"]}
    assert shown["largest"]["heads"] == [12, 12] and shown["smallest"]["d_ff"] == [16]
    assert -1 <= document["predictor"]["kendall_tau"] <= 1
    pairs = document["from_scratch"]["decoders"]
    assert [p["perplexity"] for p in pairs] == [row["perplexity"] for row in rows[2:4]]
    assert pairs[0]["parameters"] == _parameters(pairs[0])
    assert set(shown) <= {"largest", "smallest", *(f"best of {c} % of its parameters" for c in
                          ("0–25", "25–50", "50–75", "75–100"))}  # fmt: skip
    assert len({str(row | {"subnet": ""}) for row in document["shown"]}) == len(shown) > 3
    log = list(csv.DictReader(Path("trained/training.csv").read_text().splitlines()))
    assert [row["epoch"] for row in log] == sorted(row["epoch"] for row in log)
    assert log[-1]["epoch"] == "3" and all(float(log[-1][k]) < float(log[0][k]) for k in KINDS)
    assert Path("trained/training.png").read_bytes().startswith(b"\x89PNG")
    alone = [p["alone"] for p in pairs]
    same_order = (alone[0] < alone[1]) == (rows[2]["perplexity"] < rows[3]["perplexity"])
    assert document["from_scratch"]["kendall_tau"] == (1.0 if same_order else -1.0)
    # More subnets of the same training; what is said ends with the search that uses them.
    more = [*asked, "--resume"]
    more[more.index("36")] = "40"
    assert main(more) == 0
    printed = capsys.readouterr()
    assert "40 subnets measured on text.txt" in printed.out
    assert "then 40 subnets (36 measured before) on" in printed.err
    assert pq.read_table("trained/perplexities.parquet").to_pylist()[:36] == rows
    command = printed.out.splitlines()[-1].split()
    assert command[:2] == ["codesign", "search"]
    quick = ["--budget", "100", "--population", "20", "--front", "4", "-j", "1", "--json"]
    assert main([*command[1:], *quick, "--uniform", "-o", "found"]) == 0
    found = json.loads(capsys.readouterr().out)
    more[more.index("40")] = "10"
    assert main([*more, "--json"]) == 0
    printed = capsys.readouterr()
    assert "then 40 subnets (40 measured before) on" in printed.err
    assert json.loads(printed.out)["subnets"] == 40
    assert found["inputs"]["quality"]["label"] == "perplexity of text.txt"
    measured = [r["perplexity"] for r in pq.read_table("trained/perplexities.parquet").to_pylist()]
    assert found["baseline"]["perplexity"] == measured[0]
    assert all(len(set(point["heads"].split(","))) == 1 for point in found["front"])


def _parameters(row: dict[str, Any]) -> int:
    """Weights of the matrices of all layers."""
    d_model = row["d_model"]
    return int(2 * d_model * (2 * sum(row["heads"]) * d_model // 12 + sum(row["d_ff"])))


def test_a_killed_training_resumes_to_the_same_bytes() -> None:
    command = [sys.executable, "-c", "import sys; from codesign.search.cli.app import main; main()",
               "train", "--data", "text.txt", "--space", "space.toml", *QUICK]  # fmt: skip
    with subprocess.Popen([*command, "-o", "cut"], stderr=subprocess.DEVNULL) as process:
        while not Path("cut/supernet.pt").exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was in the middle"
    subprocess.run([*command, "-o", "cut", "--resume"], check=True, capture_output=True)
    subprocess.run([*command, "-o", "whole"], check=True, capture_output=True)
    for name in ("perplexities.csv", "perplexities.parquet", "space.toml", "summary.json",
                 "training.csv", "training.png"):  # fmt: skip
        assert Path("cut", name).read_bytes() == Path("whole", name).read_bytes(), name


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", (), "is empty: give a file with text"),
        (b"one line\n", (), "has 1 line, none to hold out: give a file to validate with"),
        (b"one line\n", ("--validation", "text.txt"), "give more text or a shorter sequence"),
        (b"a\0b\n" * 20, (), "is binary"),
        (b"\xff\xfe" * 20, (), "not UTF-8 at byte 0: give a text file"),
        (None, ("--vocabulary", "3"), "a vocabulary of 3 is too small"),
        (None, ("--tokens", "bytes", "--vocabulary", "99"), "does not fit bytes"),
        (None, ("--seq", "2000"), "give more text or a shorter sequence"),
        (None, ("--device", "tpu"), "unknown device 'tpu': choose cpu, cuda or cuda:N"),
        (None, ("--device", "cpu:"), "unknown device 'cpu:': choose"),
        (None, ("--device", "cpu:7"), "unknown device 'cpu:7': choose"),
        (None, ("--device", "cuda:9999"), "device"),
        (None, ("--learning-rate", "nan"), "'nan' is not a finite number"),
        (None, ("--learning-rate", "inf"), "'inf' is not a finite number"),
        (None, ("--dropout", "nan"), "'nan' is not a finite number"),
        (None, ("--epochs", f"1{'0' * 400}"), "is not in the range 1<=x<=1000000"),
        (None, ("--subnets", str(10**23)), "is not in the range 1<=x<=1000000"),
        (None, ("--honest", "35"), "--honest 35 is more than 34"),
        (None, ("--space", "none.toml"), "cannot read none.toml"),
    ],
)
def test_bad_input_is_one_line(
    content: bytes | None,
    options: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        Path("bad.txt").write_bytes(content)
    data = "text.txt" if content is None else "bad.txt"
    asked = ["train", "--data", data, "--space", "space.toml", *QUICK, "-o", "bad", *options]
    assert main(asked) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and "Traceback" not in "".join(lines)
    assert not Path("bad").exists()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (
            "layers=[1]\nd_model=[12]\nheads=[4]\nd_ff=[16]",
            "more than 0, the random ones of 1 subnet:",
        ),
        ("layers=[1]\nd_model=[12]\nheads=[4]\nd_ff=[16, 48]", "more than 0, the .* of 2 subnets:"),
        (
            "layers=[1]\nd_model=[12]\nheads=[4]\nd_ff=[16, 32, 48]",
            "more than 1, the .* 3 subnets:",
        ),
    ],
)
def test_a_space_without_random_subnets(
    choices: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("few.toml").write_text(f"[transformer]\nsequence=16\n{choices}\n", encoding="utf-8")
    asked = ["train", "--data", "text.txt", "--space", "few.toml", *QUICK, "-o", "few"]
    assert main([*asked, "--honest", "2"]) == 2
    assert re.search(f"--honest 2 is {said} take a larger space", capsys.readouterr().err)
    assert not Path("few").exists()


def test_the_smallest_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one point and of two: no random subnet, no predictor, no row shown twice."""
    for widths in ("[16]", "[16, 48]"):
        Path("few.toml").write_text(
            f"[transformer]\nsequence=16\nlayers=[1]\nd_model=[12]\nheads=[4]\nd_ff={widths}\n"
        )
        asked = ["train", "--data", "text.txt", "--space", "few.toml", "--epochs", "1", "--json"]
        assert main([*asked, "-o", widths]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["subnets"] == len(document["shown"]) == 1 + widths.count(",")
        assert document["from_scratch"] is None and document["predictor"] is None


def test_a_tau_that_is_undefined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from codesign.models.supernet import measurement, training_loop

    def alike(_: object, configs: Iterable[DecoderConfig], *__: object) -> Iterator[Measured]:
        return (Measured(config.chosen, 1.0) for config in configs)

    monkeypatch.setattr(training_loop, "_step", lambda *_: torch.ones(1))
    monkeypatch.setattr(measurement, "measure", alike)
    asked = ["train", "--data", "text.txt", "--space", "space.toml", *QUICK, "--honest", "2"]
    assert main([*asked, "-j", "1", "-o", "json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from_scratch"]["kendall_tau"] is None
    assert main([*asked, "-j", "1", "-o", "text"]) == 0
    assert "Kendall tau undefined with the supernet" in capsys.readouterr().out


def test_unknown_words_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.txt").write_text("nothing of that <s> kind\n" * 20, encoding="utf-8")
    asked = ["train", "--data", "text.txt", "--space", "space.toml", *QUICK, "--epochs", "1"]
    assert main([*asked, "--validation", "other.txt", "-o", "other", "--json"]) == 0
    printed = capsys.readouterr()
    assert "; unknown 0.0 %, of validation 83.3 %) in batches" in printed.err.splitlines()[0]
    assert "warning: 83.3 % of the validation text is unknown words" in printed.err
    assert json.loads(printed.out)["unknown_words"]["validation"] == pytest.approx(5 / 6)
    assert main([*asked, "--tokens", "bytes", "-o", "bytes", "--json"]) == 0
    printed = capsys.readouterr()
    assert "unknown" not in printed.err and ", 1 epoch of " in printed.err
    assert json.loads(printed.out)["unknown_words"] is None


def test_a_failed_run_leaves_its_folder_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from codesign.models.supernet import training_loop

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    asked = ["train", "--space", "space.toml", "--data", "text.txt", *QUICK, "-o", "one"]
    with monkeypatch.context() as patched:
        patched.setattr(training_loop, "_step", lambda *_: torch.tensor([math.nan]))
        assert main(asked) == 2
        assert "training diverged" in capsys.readouterr().err
        patched.setattr(training_loop, "_step", interrupt)
        assert main(asked) == 130
        assert "no epoch was whole, nothing is kept" in capsys.readouterr().err
    assert not Path("one").exists()
    assert main([*asked, "--learning-rate", "1e-3", "--epochs", "1"]) == 0


def test_a_folder_of_another_space(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "--space", "space.toml", "--data", "text.txt", *QUICK, "-o", "one"]
    asked[asked.index("3")] = "1"
    assert main(asked) == 0
    assert main(asked) == 2
    assert "is there already: resume it, or choose another folder" in capsys.readouterr().err
    Path("space.toml").write_text(SPACE.replace("[12, 24]", "[12, 36]"), encoding="utf-8")
    assert main([*asked, "--resume"]) == 2
    assert "keeps a run with another space: repeat its command" in capsys.readouterr().err
    Path("one/run.json").write_text('{"inputs": 5}', encoding="utf-8")
    assert main([*asked, "--resume"]) == 2
    said = capsys.readouterr().err
    assert "run.json is no run of codesign (inputs is 5): choose another --out" in said


def test_memory_that_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def forward(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(DecoderConfig, "forward", forward)
    asked = ["train", "--space", "space.toml", "--data", "text.txt", *QUICK]
    assert main(asked) == 2
    assert (
        "out of memory with batches of 16 x 16 tokens: give a smaller batch"
        in (capsys.readouterr().err.splitlines()[-1])
    )
    assert not Path("codesign-train").exists()
