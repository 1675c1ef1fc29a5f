"""The script of docs/supernet.md, as it stands there: killed, resumed, measured, honest, searched.

Some ten minutes on two cores.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.train, pytest.mark.long]
pytest.importorskip("torch")

PAGE = Path(__file__).resolve().parent.parent / "docs" / "supernet.md"


def test_the_documented_script(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "codesign"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom codesign.search.cli import main\nsys.exit(main())\n"
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
