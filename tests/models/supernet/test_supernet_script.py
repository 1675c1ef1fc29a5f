"""The script of docs/supernet.md, as it stands there: killed, resumed, measured, honest, searched.

Some seven minutes on two cores. The lines that export a subnet take seconds.
"""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
import pytest

from codesign.models.quality import perplexities
from codesign.models.supernet import schedule
from codesign.models.supernet.space import subnets
from codesign.models.text.tokens import built_in_tokens

pytestmark = pytest.mark.train
pytest.importorskip("torch")
measurement = pytest.importorskip("codesign.models.supernet.measurement")

PAGE = Path(__file__).resolve().parents[3] / "docs" / "supernet.md"


def test_the_documented_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has the perplexity of its row."""
    text = built_in_tokens(4000, 500)
    space = subnets(1, 16, layers=(1, 2), d_model=(12, 24), heads=(4, 12), d_ff=(16, 48))
    training = schedule.Training(epochs=1, batch=16, seq=16)
    measurement.train_and_measure(text, space, training, tmp_path / "trained", networks=8)
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("export.py").write_text(lines, encoding="utf-8")
    runpy.run_path("export.py")
    session = ort.InferenceSession("subnet.onnx", providers=["CPUExecutionProvider"])
    nats = []
    for ids in schedule.windows(text.validation, 16):
        (logits,) = session.run(["logits"], {"input_ids": ids[None, :-1]})
        logs = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
        nats += [-logs[place, token] for place, token in enumerate(ids[1:])]
    row = perplexities.read_perplexities(
        tmp_path / "trained/perplexities.parquet", space.kind.axes()
    ).rows[7]
    assert np.exp(np.mean(nats)) == pytest.approx(row.perplexity, rel=1e-4)


@pytest.mark.long
def test_the_documented_script(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "codesign"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom codesign.search.cli.app import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "CODESIGN_CACHE": str(tmp_path / "prices"),
    }
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True)
    summary = json.loads((tmp_path / "trained/summary.json").read_text())
    assert summary["subnets"] == pq.read_table(tmp_path / "trained/perplexities.parquet").num_rows
    assert summary["predictor"]["kendall_tau"] >= 0.9
    assert len(summary["from_scratch"]["decoders"]) == 8
    assert summary["from_scratch"]["kendall_tau"] >= 0.5  # by chance: one in twenty
    for name in ("free", "uniform"):
        baseline = json.loads((tmp_path / name / "baseline.json").read_text())
        assert not baseline["perplexity_is_proxy"]
        assert baseline["perplexity"] == summary["shown"][0]["perplexity"]
