"""Progress of long work: lines now and then where there is no terminal."""

import time

import pytest

from codesign.search.terminal.progress import stages


def test_lines_come_now_and_then_and_estimate_a_steady_pace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stages() as show:
        for step in range(61):
            now = float(step)
            show("steps", 10 * step, 1200, "loss 2.5")
        for step in range(2):
            now += 20
            show("subnets", step, 4, steady=False)
    assert capsys.readouterr().err.splitlines() == [
        "codesign: steps: 150 of 1,200, loss 2.5, about 1.8 minutes left",
        "codesign: steps: 300 of 1,200, loss 2.5, about 1.5 minutes left",
        "codesign: steps: 450 of 1,200, loss 2.5, about 1.2 minutes left",
        "codesign: steps: 600 of 1,200, loss 2.5, about 1.0 minutes left",
        "codesign: subnets: 0 of 4",
        "codesign: subnets: 1 of 4",
    ]
