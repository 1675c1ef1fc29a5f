"""An objective costs one row: EDP with delay squared is searched, shown, kept, reported and verified."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from extension_tree import Extension, Tree
from joint_space import SMALL

from codesign.search.space.networks import networks

HEADING = "An objective"
COLUMN = "ed2p_js2"
ROW = (
    f'    Objective("ed2p", "{COLUMN}", "ED2P", "J·s²", '
    "lambda energy, latency, area: energy * latency * latency),"
)
SQUARED = Extension({"search/joint/objectives.py": [("_ROWS = (", ROW)]})
SPACE = replace(
    SMALL,
    transformer=networks(
        layers=(1,), d_model=(48, 96), heads=(4,), d_ff=(64, 128), sequence=32, vocab_size=500
    ),
    axes=(("dim", (8,)), ("scratchpad_bytes", (8192, 32768)), ("bus_bytes", (8, 32))),
)
SEARCHED = """
import os
import codesign
from codesign.search.cli.app import main

os.environ.update(CODESIGN_CACHE="cache", COLUMNS="200")
asked = ["--minimize", "perplexity,ed2p", "--budget", "16", "--population", "8", "--front", "4"]
assert main(["search", "--space", "space.toml", *asked, "-j", "1", "-o", "run"]) == 0
assert main(["report", "run", "--format", "md"]) == 0
found = codesign.joint_search(
    "space.toml", minimize=("perplexity", "ed2p", "area"), budget=16, population=8, points=3
)
assert codesign.table(found.front)["COLUMN"].to_pylist() == [p.COLUMN for p in found.front]
"""
# The RTL knows no objectives: what a kernel takes on it is taken from the timing model.
VERIFIED = """
import os
import pyarrow.parquet as pq
from codesign.hw.simulation import verilator
from codesign.search.checks import kernel_pool, verify
from codesign.search.cli.app import main

def check(job, options):
    cycles = kernel_pool.cycles_of(job)
    return kernel_pool.KernelVerdict(job.key, "h", "k", "", 1, cycles, cycles, 0, 0, 0, "")

kernel_pool.check_kernel, verify.build_rtl, verilator.find_verilator = check, lambda *_: None, lambda: None
os.environ["CODESIGN_CACHE"] = "cache"
assert main(["study", "two-stage", "run", "-j", "1"]) == 0
assert main(["verify", "run", "-j", "1"]) == 0
assert all(pq.read_table("run/verification.parquet")["verified"].to_pylist())
front = pq.read_table("run/front.parquet")
at = front.column_names.index("COLUMN")
pq.write_table(front.set_column(at, "COLUMN", front["edp_js"]), "run/front.parquet")
assert main(["verify", "run", "-j", "1"]) == 1
"""


def test_it_touches_what_the_page_names() -> None:
    SQUARED.keeps_to(HEADING, at_most=1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return SQUARED.applied(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def searched(tree: Tree) -> tuple[Path, str]:
    """The run of a search for it, and what the terminal shows."""
    (tree.folder / "space.toml").write_text(SPACE.to_toml(), encoding="utf-8")
    return tree.folder / "run", tree.python(SEARCHED.replace("COLUMN", COLUMN))


def _rows(run: Path, stem: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / f"{stem}.parquet").to_pylist()
    return found


def test_it_is_minimised_and_kept_in_every_table(searched: tuple[Path, str]) -> None:
    run, told = searched
    front, evaluated = _rows(run, "front"), _rows(run, "evaluated")
    assert len(front) > 1
    for row in (*front, *_rows(run, "heatmap")):
        if row["edp_js"] is not None:
            assert row[COLUMN] == row["energy_j"] * row["latency_s"] * row["latency_s"]
    feasible = [e for e in evaluated if e["feasible"]]
    for p in front:
        assert not any(
            e[COLUMN] < p[COLUMN] and e["perplexity"] <= p["perplexity"] for e in feasible
        )
    assert min(e[COLUMN] for e in feasible) == _rows(run, "generations")[-1][f"best_{COLUMN}"]
    baseline = json.loads((run / "baseline.json").read_text())
    assert baseline[COLUMN] == baseline["edp_js"] * baseline["latency_s"]
    assert "ED2P" in told and "J·s²" in told


def test_it_is_reported(searched: tuple[Path, str]) -> None:
    run, _ = searched
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "minimised perplexity (proxy) and ED2P" in page
    assert f'"start":["perplexity","{COLUMN}"]' in page
    text = (run / "report.md").read_text(encoding="utf-8")
    (header,) = [line for line in text.splitlines() if line.startswith("| point | Perplexity")]
    assert "ED2P" in header


def test_its_front_is_verified_and_compared(tree: Tree, searched: tuple[Path, str]) -> None:
    """And a front whose column was edited does not agree."""
    run, _ = searched
    told = tree.python(VERIFIED.replace("COLUMN", COLUMN))
    assert "perplexity and ed2p" in told and all(COLUMN in row for row in _rows(run, "two_stage"))
    assert all(f" in {COLUMN} but " in row["difference"] for row in _rows(run, "verification"))
