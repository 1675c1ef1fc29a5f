"""`codesign generate`, as a user meets it: text that streams, what it took, and errors in one line."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_decoder import MACHINE, POSITIONS, opened, written

from codesign.hw.machine.config import to_toml
from codesign.hw.simulation.session import Session
from codesign.search.cli import app
from codesign.search.generation import generate
from codesign.search.generation.generate import _chosen, _lengths
from codesign.search.inputs.tokens import Tokenizer
from codesign.search.terminal import tables

PROMPT = "ab é"
MACHINE_OPTIONS = ("--hw", "dim8.toml", "--samples", "4")
RUN = ("generate", "small.onnx", "--prompt", PROMPT, *MACHINE_OPTIONS)


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Callable[[int], None]
) -> Path:
    monkeypatch.chdir(tmp_path)
    terminal(120)
    written(tmp_path, "--past", "dynamic")
    (tmp_path / "dim8.toml").write_text(to_toml(MACHINE))
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert app.main([*RUN, *arguments]) == code
        return capsys.readouterr()

    return run


def test_text_streams_and_what_it_took_is_said(said: Callable[..., Any], folder: Path) -> None:
    found = said("--tokens", "5")
    document = json.loads(said("--tokens", "5", "--json").out)
    assert found.out == document["text"] + "\n" and found.out.startswith(PROMPT)
    tokenizer = Tokenizer(folder)
    assert document["prompt_tokens"] == tokenizer.ids(PROMPT)
    assert tokenizer.text([*document["prompt_tokens"], *document["tokens"]]) == document["text"]
    assert len(document["tokens"]) == 5 and not document["ended"]
    shapes = document["programs"]
    assert [(p["slots"], p["tokens"], p["runs"]) for p in shapes] == [(16, 4, 1), (16, 1, 4)]
    step = f"a step on 16 places, 4 times: {shapes[1]['chip_cycles']:,} cycles of kernels and"
    assert step in found.err and "5 tokens behind 4 in" in found.err
    assert "the host copies int8 values as they are: 4 concat" in found.err
    assert "the host computes" not in found.err and "the host rearranges" not in found.err
    assert set(document["host"]) == {"16 tokens", "a step behind up to 15 tokens"}
    agrees = f"the float model chooses {document['float_agrees']} of the 5 tokens too"
    assert agrees in found.err


class _Stream(io.StringIO):
    """What goes to one of two streams, and what both show on the terminal."""

    def __init__(self, screen: io.StringIO) -> None:
        super().__init__()
        self.screen = screen

    def write(self, text: str) -> int:
        self.screen.write(text)
        return super().write(text)


def test_messages_have_lines_of_their_own_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Program is compiled in the middle of the text, whose line is shown again behind what is said."""
    screen = io.StringIO()
    out, err = _Stream(screen), _Stream(screen)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(tables, "terminal_width", lambda stream: 120)
    monkeypatch.setattr(generate, "LEAST_SLOTS", 6)
    assert app.main([*RUN, "--tokens", "8"]) == 0
    text, shown = out.getvalue().removesuffix("\n"), screen.getvalue().splitlines()
    assert text.startswith(PROMPT) and "\n" not in text
    asides = [number for number, line in enumerate(shown) if "compiling a step" in line]
    assert len(asides) > 1 and all(shown[number].startswith("codesign: ") for number in asides)
    before = shown[asides[-1] - 1]
    assert PROMPT in before and text.startswith(before) and before != text
    assert shown.count(text) == 1
    monkeypatch.setattr(tables, "terminal_width", lambda stream: 120 if stream is out else None)
    again = _Stream(io.StringIO())
    monkeypatch.setattr(sys, "stderr", again)
    assert app.main([*RUN, "--tokens", "8"]) == 0
    assert all(line.startswith("codesign: ") for line in again.getvalue().splitlines())


def test_it_takes_the_best_token_of_the_integers(said: Callable[..., Any], folder: Path) -> None:
    """Those that float takes too, where its two best are far apart."""
    document = json.loads(said("--tokens", "8", "--json").out)
    file = opened(folder / "small.onnx")
    ids = [*document["prompt_tokens"], *document["tokens"]]
    scores = file.run(ids[:-1])[file.scores][0, len(document["prompt_tokens"]) - 1 :]
    best = scores.argmax(axis=1)
    assert document["float_agrees"] == (best == document["tokens"]).sum() >= 4
    second = np.sort(scores, axis=1)[:, -2:]
    lead = (second[:, 1] - second[:, 0]) / scores.std(axis=1)
    assert all(b == t for b, t, far in zip(best, document["tokens"], lead > 1, strict=True) if far)


def test_backends_write_the_same_and_the_rtl_is_one_process(
    said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy and drawn; every kernel of every token is checked."""
    started: list[int] = []
    begin = Session.__init__

    def counted(self: Session, *arguments: Any, **options: Any) -> None:
        started.append(1)
        begin(self, *arguments, **options)

    monkeypatch.setattr(Session, "__init__", counted)
    for drawn in ((), ("--temperature", "1.5", "--seed", "3")):
        documents = {
            backend: json.loads(said("--tokens", "3", "--backend", backend, "--json", *drawn).out)
            for backend in ("integers", "functional", "rtl")
        }
        tokens = [document["tokens"] for document in documents.values()]
        assert tokens[0] == tokens[1] == tokens[2]
        rtl = documents["rtl"]["rtl"]
        assert rtl["kernels_differing"] == 0 and rtl["kernels"] == 3 * 19  # prompt, two steps
        cycles = sum(p["chip_cycles"] * p["runs"] for p in documents["rtl"]["programs"])
        assert rtl["cycles"] == rtl["rtl_cycles"] == cycles
    assert len(started) == 2


def test_seeds_draw_other_texts_and_each_the_same_again(said: Callable[..., Any]) -> None:
    drawn = ("--temperature", "2", "--tokens", "8", "--json")
    tokens = [json.loads(said(*drawn, "--seed", seed).out)["tokens"] for seed in ("1", "2", "1")]
    assert tokens[0] == tokens[2] != tokens[1]


def test_what_is_drawn_follows_the_scores() -> None:
    rng, scores = np.random.default_rng(0), np.log(np.array([1.0, 2.0, 5.0]))
    for temperature, shares in ((1.0, (1, 2, 5)), (0.5, (1, 4, 25))):
        drawn = [_chosen(scores, temperature, rng) for _ in range(4000)]
        found = np.bincount(drawn, minlength=3) / 4000
        np.testing.assert_allclose(found, np.array(shares) / sum(shares), atol=0.03)
    assert _chosen(scores, 0.0, rng) == 2


def test_lengths_double_up_to_what_is_needed() -> None:
    assert _lengths(64, 205) == (64, 128, 208)
    assert _lengths(64, 64) == (64,)
    assert _lengths(64, 5) == (16,)
    assert _lengths(16, 17) == (16, 32)


def test_a_file_without_a_cache_is_run_anew_and_said(
    said: Callable[..., Any], folder: Path
) -> None:
    written(folder)
    found = said("--tokens", "2")
    assert "the file has no key-value cache: every token runs all before it anew" in found.err


ERRORS = {
    "--prompt= ": "the text is empty: give at least one word",
    "--tokens=13": "a prompt of 4 tokens and 13 more are beyond the 16 positions of the model: give "
    "--tokens 12 at most",
    "--tokens=0": "Invalid value for '--tokens'",
    "--temperature=-1": "Invalid value for '--temperature'",
    "--temperature=nan": "--temperature nan is no number: give one, 0 for the best token",
    "--backend=verilog": "'integers', 'functional', 'rtl'",
    "--tokenizer=no.json": "cannot read no.json: no such file",
    "--calibration=small.npz": "small.npz is no text: give a .txt",
    "--acc=4K,8K": "the options name 2 machines but this command takes one",
}


@pytest.mark.parametrize("option", ERRORS)
def test_errors_are_one_line(option: str, said: Callable[..., Any]) -> None:
    found = said("--tokens", "4", option, code=2)
    assert found.out == "" and found.err.startswith("codesign: error: ")
    assert ERRORS[option] in found.err and found.err.count("\n") == 1, found.err


def test_models_that_cannot_write(
    said: Callable[..., Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer lies beside small.onnx: give --tokenizer" in said(code=2).err
    assert app.main(["generate", "stories260k", "--prompt", "a"]) == 2
    assert "stories260k is built in, with random weights" in capsys.readouterr().err
    written(folder, "--past", "7", "--seq", "1")
    err = said(code=2).err
    assert "the file fixes the length of its key-value cache: write one with" in err


def test_the_whole_of_the_positions_can_be_written(said: Callable[..., Any]) -> None:
    document = json.loads(said("--tokens", str(POSITIONS - 4), "--json").out)
    assert len(document["tokens"]) == POSITIONS - 4 or document["ended"]
