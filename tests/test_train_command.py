"""`codesign train` from outside: text to table to search, killed on the way, one line for bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codesign.models import corpus
from codesign.search.cli import main

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
    alone = [p["alone"] for p in pairs]
    same_order = (alone[0] < alone[1]) == (rows[2]["perplexity"] < rows[3]["perplexity"])
    assert document["from_scratch"]["kendall_tau"] == (1.0 if same_order else -1.0)
    # More subnets of the same training; what is said ends with the search that uses them.
    more = [*asked, "--resume"]
    more[more.index("36")] = "40"
    assert main(more) == 0
    printed = capsys.readouterr()
    assert "40 subnets measured on text.txt" in printed.out
    assert pq.read_table("trained/perplexities.parquet").to_pylist()[:36] == rows
    command = printed.out.splitlines()[-1].split()
    assert command[:2] == ["codesign", "search"]
    quick = ["--budget", "100", "--population", "20", "--front", "4", "-j", "1", "--json"]
    assert main([*command[1:], *quick, "--uniform", "-o", "found"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"]["quality"]["label"] == "perplexity of text.txt"
    measured = [r["perplexity"] for r in pq.read_table("trained/perplexities.parquet").to_pylist()]
    assert found["baseline"]["perplexity"] == measured[0]
    assert all(len(set(point["heads"].split(","))) == 1 for point in found["front"])


def test_a_killed_training_resumes_to_the_same_bytes() -> None:
    command = [sys.executable, "-c", "import sys; from codesign.search.cli import main; main()",
               "train", "--data", "text.txt", "--space", "space.toml", *QUICK]  # fmt: skip
    with subprocess.Popen([*command, "-o", "cut"], stderr=subprocess.DEVNULL) as process:
        while not Path("cut/supernet.pt").exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was in the middle"
    subprocess.run([*command, "-o", "cut", "--resume"], check=True, capture_output=True)
    subprocess.run([*command, "-o", "whole"], check=True, capture_output=True)
    for name in ("perplexities.csv", "perplexities.parquet", "space.toml", "summary.json"):
        assert Path("cut", name).read_bytes() == Path("whole", name).read_bytes(), name


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", (), "is empty: give a file with text"),
        (b"one line\n", (), "none to hold out: give a file to validate with"),
        (b"one line\n", ("--validation", "text.txt"), "give more text or a shorter sequence"),
        (b"a\0b\n" * 20, (), "is binary"),
        (b"\xff\xfe" * 20, (), "not UTF-8 at byte 0: give a text file"),
        (None, ("--vocabulary", "3"), "a vocabulary of 3 is too small"),
        (None, ("--tokens", "bytes", "--vocabulary", "99"), "does not fit bytes"),
        (None, ("--seq", "2000"), "give more text or a shorter sequence"),
        (None, ("--device", "tpu"), "unknown device 'tpu': choose cpu or cuda"),
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
    assert not Path("bad/supernet.pt").exists()


def test_a_folder_of_another_space(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "--space", "space.toml", "--data", "text.txt", *QUICK, "-o", "one"]
    asked[asked.index("3")] = "1"
    assert main(asked) == 0
    assert main(asked) == 2
    assert "is there already: resume it, or choose another folder" in capsys.readouterr().err
    Path("space.toml").write_text(SPACE.replace("[12, 24]", "[12, 36]"), encoding="utf-8")
    assert main([*asked, "--resume"]) == 2
    assert "keeps a run with another space: repeat its command" in capsys.readouterr().err


def test_memory_that_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from codesign.models import elastic

    def forward(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(elastic, "forward", forward)
    asked = ["train", "--space", "space.toml", "--data", "text.txt", *QUICK]
    assert main(asked) == 2
    assert (
        "out of memory with batches of 16 x 16 tokens: give a smaller batch"
        in (capsys.readouterr().err.splitlines()[-1])
    )
