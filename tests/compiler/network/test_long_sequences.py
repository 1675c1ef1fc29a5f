"""A decoder on 4,096 tokens: its quality, and the memory that calibration and a run take."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MOST_GB = 12


@pytest.mark.long
def test_a_decoder_on_4096_tokens(tmp_path: Path) -> None:
    """Twelve heads of 16: a float32 matrix of scores is 0.8 GB."""
    command = (sys.executable, "-m", "codesign")
    shape = "--layers 2 --d-model 192 --heads 12 --ffn 768 --vocab 512 --seq 4096"
    file = str(tmp_path / "decoder.onnx")
    subprocess.run([*command, "export", "lm", *shape.split(), "--out", file], check=True)
    run = [*command, "run", file, "--backend", "integers", "--samples", "1", "--json"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(run, stdout=said)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    (row,) = json.loads((tmp_path / "said").read_text("utf-8"))["outputs"]
    assert row["sqnr_db"] > 25
    assert usage.ru_maxrss < MOST_GB * 2**20
