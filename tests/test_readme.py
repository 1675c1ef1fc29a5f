"""The figures in README.md and docs/decisions.md are what the tool computes today."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from codesign.compiler.importer.import_onnx import import_onnx
from codesign.hw.machine.config import preset
from codesign.hw.machine.events import EVENT_INDEX
from codesign.models.zoo.export import export
from codesign.models.zoo.families import family
from codesign.search.checks import verify
from codesign.search.cli.app import main
from codesign.search.pricing.evaluate import Result, evaluate

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULT = re.compile(r"^\| ([\w-]+) \| (\d+) \| `(\w+)`[^|]*\| (.*) \|$", re.MULTILINE)


@cache
def evaluated(model: str, seq: int, machine: str) -> Result:
    graph = import_onnx(export(family(model), seq=seq, weights="splat"), name=model)
    return evaluate(graph, preset(machine))


@pytest.mark.parametrize("row", RESULT.findall(README), ids=lambda row: "-".join(row[:3]))
def test_results_table(row: tuple[str, str, str, str]) -> None:
    model, seq, machine, figures = row
    result = evaluated(model, int(seq), machine)
    low, nominal, high = result.energy_j * 1e3
    expected = (
        f"{result.cycles:,} | {100 * result.utilization:.1f} | "
        f"{nominal:.2f} ({low:.1f}–{high:.1f}) | {result.edp_js[1] * 1e3:.3g}"
    )
    assert figures == expected


def test_there_are_results() -> None:
    assert len(RESULT.findall(README)) >= 7


def test_first_command_prints_its_row(
    capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]
) -> None:
    terminal(120)
    command = re.search(r"^pip install \. && codesign (.*)$", README, re.MULTILINE)
    assert command is not None
    assert main(command[1].split()) == 0
    row = re.search(r"^ +64K +256K .*$", README, re.MULTILINE)
    assert row is not None
    assert row[0].split() in [line.split() for line in capsys.readouterr().out.splitlines()]


def _verification() -> tuple[list[str], list[str]]:
    """The command that holds a network against the RTL, and what it printed."""
    blocks = re.search(
        r"^## Check it\n\n```\ncodesign ([^\n]*)\n```\n\n```\n(.*?)```",
        README,
        re.MULTILINE | re.DOTALL,
    )
    assert blocks is not None
    return blocks[1].split(), blocks[2].splitlines()


def _printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_verification_prints_what_was_priced(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: Callable[[int], None],
) -> None:
    """All of it but the agreement, which takes the RTL."""

    def agree(self: verify._Checker) -> None:
        if self.kernel.problem is not None:
            instructions = int(self.step.events[EVENT_INDEX["instructions"]])
            self.found = {"instructions": instructions, "rtl_cycles": self.step.cycles}
            self.found |= {f"{what}_differing": 0 for what in ("times", "bytes", "counts")}

    command, lines = _verification()
    terminal(120)
    monkeypatch.setattr(verify._Checker, "run", agree)
    monkeypatch.setattr(verify, "build_rtl", lambda *arguments: None)
    assert main(command) == 0
    assert _printed(capsys) == lines


@pytest.mark.long
def test_the_verification_runs(
    capsys: pytest.CaptureFixture[str], terminal: Callable[[int], None]
) -> None:
    command, lines = _verification()
    terminal(120)
    assert main(command) == 0
    assert _printed(capsys) == lines


def test_cost_of_an_idle_start_and_end() -> None:
    """docs/decisions.md states the fill and drain of one projection."""
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    stated = re.search(r"\(([\d,]+) of ([\d,]+) cycles", text)
    assert stated is not None
    overhead, cycles = (int(number.replace(",", "")) for number in stated.groups())
    projection = next(
        kernel
        for kernel in evaluated("bert-base", 128, "ibert").kernels
        if kernel.name.endswith("attention.output/MatMul")
    )
    assert projection.cycles == cycles
    assert cycles - projection.macs // preset("ibert").macs_per_cycle == overhead
