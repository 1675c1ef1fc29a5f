"""Pricing on a real Dask cluster: the same bytes, whoever dies; one line when nobody answers."""

import gc
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joint_space import SMALL

from codesign.search.cli.app import main
from codesign.search.joint.network_tables import NetworkTables
from codesign.search.joint.pricing_pool import DaskPool

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", silence_logs=50,
        dashboard_address=None, worker_dashboard_address=None,
    ) as running:  # fmt: skip
        yield running


@pytest.mark.long
def test_a_cluster_finds_the_same_bytes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.toml").write_text(SMALL.to_toml(), encoding="utf-8")
    asked = ["search", "--space", str(tmp_path / "space.toml"), "--budget", "120"]
    asked += ["--population", "30", "--front", "3"]
    address = cluster.scheduler_address
    for name, how in (("dask", ["--dask", address]), ("alone", ["-j", "1"])):
        monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / f"cache-{name}"))
        assert main([*asked, *how, "-o", str(tmp_path / name)]) == 0
    files = {path.name for path in (tmp_path / "alone").iterdir()} - {"log.txt", "run.json"}
    assert {"front.parquet", "evaluated.parquet", "checkpoint.npz", "report.html"} <= files
    for file in sorted(files - {"report.html"}):
        assert (tmp_path / "dask" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    inputs = [json.loads((tmp_path / n / "run.json").read_text())["inputs"] for n in ("dask", "alone")]  # fmt: skip
    assert inputs[0] == inputs[1]


def test_a_killed_worker_costs_nothing_but_time(cluster: Any) -> None:
    genes = SMALL.sample(40, np.random.default_rng(9))
    expected = NetworkTables(SMALL).costs(genes)
    pool = DaskPool(cluster.scheduler_address)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if not killed:
            victim = min(pool.client.run(os.getpid).values())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    try:
        costs = NetworkTables(SMALL, pool=pool).costs(genes, kill)
    finally:
        pool.close()
    assert killed
    np.testing.assert_array_equal(costs.cycles, expected.cycles)
    np.testing.assert_array_equal(costs.edp_js, expected.edp_js)


@pytest.mark.parametrize("listening", [False, True])
def test_a_scheduler_that_does_not_answer_is_one_line(
    listening: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(DaskPool, "WAIT_S", 1.0)
    with socket.socket() as other:  # open, but no scheduler
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert main(["search", "--dask", address, "-o", str(tmp_path / "run")]) == 2
    gc.collect()
    error = capsys.readouterr().err.splitlines()
    assert f"no Dask scheduler answers at {address}" in error[-1] and len(error) == 2
    assert not (tmp_path / "run").exists()
