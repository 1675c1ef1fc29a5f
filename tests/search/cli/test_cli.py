"""The command line as a user meets it: results, files, resume, and one line for what is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest

from codesign.hw.errors import CodesignError
from codesign.hw.machine import config as hardware
from codesign.hw.machine.config import PRESETS
from codesign.models.zoo.bert import BertConfig
from codesign.models.zoo.families import family
from codesign.search.cli import app
from codesign.search.inputs.sources import load_model
from codesign.search.pricing.evaluate import evaluate
from codesign.search.pricing.sweep import Row
from codesign.search.runs.journal import journal_line, read_journal

K = 1024
GRID = ["--scratchpad", "16K:64K:x2", "--acc", "32K,64K"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert app.main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out)


def _files(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.name != "log.txt"}


def test_the_main_command_prints_the_row_that_evaluate_computes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main(["sweep", "--scratchpad", "64K", "--acc", "256K"]) == 0
    printed = capsys.readouterr().out
    result = evaluate(load_model("bert-base", seq=128, batch=1).graph, PRESETS["ibert"])
    (row,) = (line for line in printed.splitlines() if " 64K " in line)
    assert row.split()[:3] == ["64K", "256K", f"{result.cycles:,}"]
    assert "bert-base, sequence 128, batch 1" in printed.splitlines()[0]


def test_json_is_one_document_with_every_shared_column(capsys: pytest.CaptureFixture[str]) -> None:
    document = _json(capsys, "sweep", "bert-tiny", "--seq", "32", *GRID, "--jobs", "1")
    rows = document["rows"]
    shared = [
        "model",
        "dim",
        "scratchpad_bytes",
        "accumulator_bytes",
        "bus_bytes",
        "cycles",
        "latency_s",
        "energy_j",
        "energy_low_j",
        "energy_high_j",
        "edp_js",
        "area_mm2",
        "utilization",
        "macs",
        "dram_bytes",
    ]
    assert set(shared) <= set(rows[0])
    assert [(r["scratchpad_bytes"], r["accumulator_bytes"]) for r in rows] == [
        (s * K, a * K) for s in (16, 32, 64) for a in (32, 64)
    ]
    assert rows[document["best"]]["edp_js"] == min(row["edp_js"] for row in rows)
    for row in rows:
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["edp_js"] == pytest.approx(row["energy_j"] * row["latency_s"])


def test_a_run_is_kept_and_the_same_command_writes_the_same_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "bert-tiny", "--seq", "32", *GRID]
    first = _json(capsys, *command, "--out", "a", "--jobs", "2")
    assert app.main([*command, "--jobs", "1", "--out=b"]) == 0
    assert _files(folder / "a") == _files(folder / "b")
    names = {"run.json", "rows.jsonl", "results.parquet", "results.csv"}
    plots = {f"{stem}.{kind}" for stem in ("heatmap", "pareto") for kind in ("png", "svg")}
    assert set(_files(folder / "a")) == names | plots
    table = pq.read_table(folder / "a" / "results.parquet").to_pylist()
    assert table == first["rows"]
    run = json.loads((folder / "a" / "run.json").read_text())
    assert (
        run["command"] == "codesign sweep bert-tiny --seq 32 --scratchpad 16K:64K:x2 --acc 32K,64K"
    )
    assert run["versions"]["numpy"] == np.__version__
    assert run["inputs"]["grid"]["accumulator_bytes"] == [32 * K, 64 * K]


def test_finished_rows_are_not_computed_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "bert-tiny", "--seq", "32", *GRID, "--jobs", "1", "--out", "run"]
    assert app.main(command) == 0
    files = _files(folder / "run")
    journal = folder / "run" / "rows.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    # A row that says what no machine would: it survives only where it is not computed again.
    changed = journal_line(replace(_row(lines[0]), cycles=12_345))
    journal.write_text(changed + lines[1] + lines[2][:30])
    document = _json(capsys, *command) if capsys.readouterr() else None
    assert document is not None
    assert document["rows"][0]["cycles"] == 12_345
    assert document["rows"][1:] == [asdict(_row(line)) for line in lines[1:]]
    journal.unlink()
    assert app.main(command) == 0
    assert _files(folder / "run") == files


def _row(line: str) -> Row:
    ((row,), bad) = read_journal(line.encode(), Row)
    assert not bad
    return row


TWO_MACHINES = ["sweep", "bert-tiny", "--seq", "8", "--dim", "8,16", "-j", "1", "--out", "run"]


def _kept_sweep(folder: Path) -> tuple[dict[str, bytes], Path, str, str]:
    """The files of a sweep of two machines, its journal, and the line of each in it."""
    assert app.main(TWO_MACHINES) == 0
    journal = folder / "run" / "rows.jsonl"
    first, second = journal.read_text().splitlines(keepends=True)
    return _files(folder / "run"), journal, first, second


def test_rows_that_were_edited_are_computed_again_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, journal, first, second = _kept_sweep(folder)
    cycles = _row(first).cycles
    for damaged in (first.replace(f'"cycles":{cycles}', f'"cycles":{9 * (cycles or 0)}'), "\x00\n"):
        assert damaged != first
        journal.write_text(damaged + second)
        capsys.readouterr()
        assert app.main(TWO_MACHINES) == 0
        (said,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        assert said.endswith("rows.jsonl: 1 line is damaged or edited and left out: their "
                             "machines are priced again")  # fmt: skip
        assert _files(folder / "run") == files


@pytest.mark.parametrize(
    "change",
    [{"index": 99}, {"dim": 128}, {"model": "other"}, {"energy_j": None}, {"failed": "a bug"}],
)
def test_a_row_that_is_no_answer_of_the_grid_is_computed_again(
    folder: Path, change: dict[str, Any]
) -> None:
    files, journal, first, second = _kept_sweep(folder)
    journal.write_text(journal_line(replace(_row(first), **change)) + second)
    assert app.main(TWO_MACHINES) == 0
    assert _files(folder / "run") == files


def test_a_changed_command_is_refused_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "bert-tiny", "--seq", "32", "--out", "run"]
    assert app.main([*command, "--scratchpad", "16K"]) == 0
    files = _files(folder / "run")
    capsys.readouterr()
    assert app.main([*command, "--scratchpad", "32K"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("codesign: error: run keeps a run with another grid:")
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert _files(folder / "run") == files


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_finishes(folder: Path) -> None:
    program = [sys.executable, "-m", "codesign.search.cli.app"]
    grid = ["--latency", "20:490:+10"]  # machines of one latency share timings: too fast to stop
    command = ["sweep", "bert-mini", "--seq", "256", *grid, "--jobs", "2", "--out", "run"]
    with subprocess.Popen(
        [*program, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        journal = folder / "run" / "rows.jsonl"
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_text().count("\n") < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    match = re.fullmatch(
        r"(?:codesign: machines: \d+ of 48, .*\n)*"  # where that takes long
        r"codesign: interrupted: (\d+) of 48 machines are kept in run: "
        r"repeat the command to go on\n",
        err,
    )
    assert match is not None, err
    kept = journal.read_text().splitlines()
    assert 2 <= int(match[1]) == len(kept) < 48
    assert set(_files(folder / "run")) == {"run.json", "rows.jsonl"}
    assert app.main(command) == 0
    rows = pq.read_table(folder / "run" / "results.parquet").to_pylist()
    assert [row["index"] for row in rows] == list(range(48))
    assert all(asdict(_row(f"{line}\n")) in rows for line in kept)
    assert app.main([*command[:-1], "whole"]) == 0
    assert _files(folder / "run") == _files(folder / "whole")


BAD_INPUT = {
    "sweep --scratchpad 0": "'0' is not a size",
    "sweep --scratchpad 64Q": "'64Q' is not a size",
    "sweep --scratchpad -1K": "'-1K' is not a size",
    "sweep --scratchpad 1000": "positive multiple of 256 (16 banks of 16-byte rows)",
    "sweep --scratchpad 1000,2000": "no machine of the grid can be built",
    "sweep --acc 64K:16K:x2": "64K is above 16K",
    "sweep --dim 12": "dim is 12 but must be a power of two",
    "sweep --scrtchpad 64K": "--scratchpad",
    "swep": "sweep",
    "sweep bert-bas": "did you mean bert-base",
    "sweep missing.onnx": "cannot read missing.onnx",
    "sweep empty.onnx": "empty.onnx is empty",
    "sweep text.onnx": "text.onnx is not an ONNX model",
    "sweep cut.onnx": "cut.onnx is not an ONNX model or is cut short",
    "sweep unknown.onnx": "NoSuchOperator 'strange'",
    "sweep symbolic.onnx": "'channels'",
    "sweep symbolic.onnx --bind channels=3 --bind chanels=3": "no dimension is called chanels",
    "sweep vit-tiny --seq 12": "has no sequence axis",
    "sweep --seq 0": "--seq",
    "sweep --bind seq": "NAME=VALUE",
    "sweep symbolic.onnx --bind channels=3 --bind channels=4": "given 3 and 4: give it once",
    "sweep --hw iber": "did you mean ibert",
    "sweep --hw contradiction.toml": "scratchpad_banks is 3 but must be a power of two",
    "sweep --hw missing.toml": "cannot read missing.toml",
    "sweep --clock fast": "'fast' is not a frequency",
    "sweep --technology 7": "'22', '32', '45'",
    "sweep --energy-table costs": "no energy table is called 'costs'",
    "sweep --energy-table missing.yaml": "cannot read missing.yaml",
    "sweep bert-tiny --out text.onnx": "cannot write into text.onnx",
    "sweep bert-tiny --hw narrow.toml --out run": "fits no tile of machine",
    "sweep bert-tiny --hw narrow.toml --bus 8,16 --out run": "runs on none of the 2 machines",
    "simulate --backend verilog": "'timing', 'functional', 'rtl'",
    "simulate --seed 3": "--seed has no meaning with --backend timing",
    "simulate bert-tiny --backend functional --waves w.vcd": "--waves has no meaning with",
    "simulate bert-tiny --backend functional --kernel layer0.ffn.upp": "did you mean layer0.ffn.up",
    "simulate bert-tiny --backend functional --dim 8,16": "name 2 machines but this command takes",
    "simulate bert-tiny --backend rtl --waves w.vcd": "not of 8: choose it with --kernel",
    "simulate bert-tiny --backend rtl --waves w.vcd --kernel ffn": "layer{0-1}.ffn.down/MatMul",
    "simulate bert-tiny --backend rtl --kernel Tanh": "pooler/Tanh runs on the host: on the accel",
    "simulate bert-tiny --backend rtl --waves w.ghw --kernel Gemm": "waves are written as .vcd or .fst",
    "simulate bert-tiny --backend rtl --waves no/w.vcd --kernel Gemm": "cannot write no/w.vcd",
    "simulate bert-tiny --backend rtl --dim 64 --out run": "the RTL goes up to dim 32, not 64",
    "simulate --dim 8,16": "name 2 machines but this command takes one",
    "compile bert-tiny": "-o",
    "export lm --heads 13 -o lm.onnx": "must be at most 12",
    "export lm --layers 2 --heads 1,2,3 -o lm.onnx": "heads lists 3 values for 2 layers",
    "export bert-tiny --layers 2 -o b.onnx": "export lm or llama with them",
    "export bert-tiny --seq long -o b.onnx": "'dynamic'",
    "export bert-tiny --opset 3 -o b.onnx": "opset 3 is not supported",
    "export bert-tiny --seed -1 -o b.onnx": "-1 is not in the range 0<=x",
    "export bert-tiny -o nowhere/b.onnx": "cannot write nowhere/b.onnx",
    "hardware ibrt": "did you mean ibert",
}


@pytest.fixture
def bad_files(folder: Path) -> dict[str, bytes]:
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("hello")
    (folder / "contradiction.toml").write_text("scratchpad_banks = 3\nacc = 1\n")
    # The drain has no parameters for the 128 channels of bert-tiny's LayerNorm.
    (folder / "narrow.toml").write_text("parameter_channels = 16\n")
    strange = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"], name="strange")
    identity = onnx.helper.make_node("Relu", ["x"], ["y"], name="fine")
    cases: list[tuple[str, onnx.NodeProto, list[int | str]]] = [
        ("unknown", strange, [1, 4]),
        ("symbolic", identity, [1, 2, 3, "channels"]),
    ]
    for name, node, shape in cases:
        x, y = (
            onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("x", "y")
        )
        graph = onnx.helper.make_graph([node], name, [x], [y])
        onnx.save(onnx.helper.make_model(graph), folder / f"{name}.onnx")
    content = (folder / "symbolic.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    return _files(folder)


@pytest.mark.parametrize("command", BAD_INPUT)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    command: str, folder: Path, bad_files: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"codesign: error: [^\n]+\n", captured.err), captured.err
    assert BAD_INPUT[command] in captured.err
    assert _files(folder) == bad_files


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(CodesignError, match="dim is 12"):
        app.main(["sweep", "--dim", "12", "--debug"])


def test_a_grid_keeps_infeasible_machines_as_rows(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "bert-tiny", "--seq", "32", "--scratchpad", "1000,64K", "--jobs", "1"]
    document = _json(capsys, *arguments)
    assert [bool(row["infeasible"]) for row in document["rows"]] == [True, False]
    assert document["rows"][0]["cycles"] is None and document["best"] == 1
    assert app.main(arguments) == 0
    assert "infeasible (1): invalid machine: scratchpad_bytes is 1000" in capsys.readouterr().out


def test_simulate_keeps_kernels_plots_and_timeline(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["simulate", "bert-tiny", "--seq", "32", "--hw", "edge", "--out", "run"]
    document = _json(capsys, *command)
    result = evaluate(load_model("bert-tiny", seq=32).graph, PRESETS["edge"])
    assert document["total"]["cycles"] == result.cycles
    components = np.array(list(document["energy_by_component_j"].values()))
    np.testing.assert_allclose(components.sum(axis=0), result.energy_j, rtol=1e-12)
    kernels = pq.read_table(folder / "run" / "kernels.parquet").to_pylist()
    assert kernels == document["kernels"]
    assert sum(kernel["cycles"] for kernel in kernels) == result.cycles
    trace = json.loads((folder / "run" / "timeline.json").read_text())
    end = max(e["ts"] + e["dur"] for e in trace["traceEvents"] if e["ph"] == "X")
    assert end == pytest.approx(result.latency_s * 1e6)
    files = {"run.json", "timeline.json"}
    files |= {f"{stem}.{kind}" for stem in ("results", "kernels") for kind in ("csv", "parquet")}
    files |= {f"{stem}.{kind}" for stem in ("breakdown", "roofline") for kind in ("png", "svg")}
    assert set(_files(folder / "run")) == files


TABLES = (
    ["sweep", "bert-tiny", "--seq", "32", *GRID, "--dim", "8,16", "--workers", "1"],
    ["simulate", "bert-tiny", "--seq", "32", "--hw", "gemmini"],
    ["hardware"],
    ["models"],
)


@pytest.mark.parametrize("columns", [None, "40"])
def test_output_that_is_no_terminal_has_every_column_and_no_spaces_at_ends(
    columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    for command in TABLES:
        assert app.main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line != line.rstrip()] == []
        assert not any("widen the terminal" in line or "…" in line for line in lines)
    assert app.main(TABLES[1]) == 0
    header = next(l for l in capsys.readouterr().out.splitlines() if l.startswith("kernel "))
    assert header.split() == [
        *("kernel", "kind", "count", "cycles", "cycles", "util.", "energy", "low–high", "DRAM"),
        *("intensity", "mapping"),
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_terminal(
    width: int, terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(width)
    for command in TABLES:
        assert app.main(command) == 0
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= width
        assert "…" not in re.sub(r"embeddings\S*", "", printed)


def test_compile_writes_the_program_and_its_memory_map(folder: Path) -> None:
    assert app.main(["compile", "bert-tiny", "--seq", "32", "-o", "program"]) == 0
    files = _files(folder / "program")
    listing = files["program.txt"].decode()
    memory = pq.read_table(folder / "program" / "memory.parquet").to_pylist()
    assert memory and all(region["name"] in listing for region in memory)
    kernels = pq.read_table(folder / "program" / "mapping.parquet").to_pylist()
    assert len(re.findall(r"^kernel \d+ ", listing, re.MULTILINE)) == len(kernels)
    assert hardware.from_toml(folder / "program" / "hardware.toml") == PRESETS["ibert"]


def test_export_writes_the_point_of_the_search_space_that_it_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network of arXiv 2302.14017, Table 9, against MACs counted by hand."""
    heads, ffn = (12, 6, 12, 8, 10, 6), (1280, 1280, 2560, 768, 2048, 1024)
    command = (
        "export lm --layers 6 --d-model 672 --heads 12,6,12,8,10,6 "
        "--ffn 1280,1280,2560,768,2048,1024 -o lm.onnx"
    )
    assert app.main([*command.split(), "--weights", "splat"]) == 0
    document = _json(capsys, "sweep", "lm.onnx", "--seq", "64")
    s, d, vocabulary = 64, 672, 33_278
    macs = s * d * vocabulary
    for h, f in zip(heads, ffn, strict=True):
        width = h * d // 12
        macs += 4 * s * d * width + 2 * s * s * width + 2 * s * d * f
    assert document["rows"][0]["macs"] == macs
    assert document["inputs"]["seq"] == 64


def test_an_exported_model_runs_at_any_length_and_sweeps_as_the_family(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["export", "bert-tiny", "-o", "tiny.onnx", "--seed", "3"]) == 0
    session = onnxruntime.InferenceSession("tiny.onnx")
    for length in (5, 40):
        ids = np.ones((1, length), np.int64)
        output = session.run(None, {node.name: ids for node in session.get_inputs()})[0]
        assert np.asarray(output).shape[:2] == (1, length)
    from_file = _json(capsys, "sweep", "tiny.onnx", "--seq", "40")["rows"][0]
    built_in = _json(capsys, "sweep", "bert-tiny", "--seq", "40")["rows"][0]
    assert from_file["model"] == "tiny"
    assert {**from_file, "model": ""} == {**built_in, "model": ""}


def test_a_file_with_fixed_axes_needs_no_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        app.main(["export", "bert-tiny", "-o", "tiny.onnx", "--seq", "24", "--weights", "splat"])
        == 0
    )
    document = _json(capsys, "sweep", "tiny.onnx")
    assert document["inputs"]["seq"] is None
    assert document["rows"][0]["macs"] == load_model("bert-tiny", seq=24).graph.macs


def test_families_grow_their_positions(capsys: pytest.CaptureFixture[str]) -> None:
    config = family("bert-tiny")
    assert isinstance(config, BertConfig) and config.max_positions < 600
    rows = _json(capsys, "sweep", "bert-tiny", "--seq", "600")["rows"]
    assert rows[0]["macs"] > _json(capsys, "sweep", "bert-tiny", "--seq", "512")["rows"][0]["macs"]


def test_hardware_prints_toml_that_is_read_back(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, config in PRESETS.items():
        assert app.main(["hardware", name]) == 0
        (folder / "machine.toml").write_text(capsys.readouterr().out)
        assert hardware.from_toml(folder / "machine.toml") == config
    assert [row["name"] for row in _json(capsys, "hardware")] == list(PRESETS)


def test_clock_technology_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "bert-tiny", "--seq", "32", "--clock", "2GHz", "--technology", "45"]
    assert app.main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["rows"]
    assert (row["clock_hz"], row["technology_nm"]) == (2_000_000_000, 45)
    warnings = captured.err.splitlines()
    assert warnings and all(line.startswith("codesign: warning: ") for line in warnings)
    assert any(line.startswith("codesign: warning: scratchpad: a bank of 4K") for line in warnings)


def test_tables_without_joules_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["sweep", "bert-tiny", "--seq", "32", "--energy-table", "timeloop-pat"]) == 0
    assert "not joules" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--version"]) == 0
    assert re.fullmatch(r"codesign \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert app.main([]) == 0
    assert "Commands:" in capsys.readouterr().out
    for command in app.cli.commands:
        assert app.main([command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: codesign {command}")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from codesign.search.cli import app; app.main(['sweep', '--help']);"
        "heavy = {'numpy', 'onnx', 'matplotlib', 'pyarrow', 'networkx', 'rich'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_command_loads_what_it_needs() -> None:
    code = (
        "import sys; from codesign.search.cli import app; app.main(['sweep', 'bert-tiny']);"
        "loaded = {'networkx', 'numpy.ma', 'numpy.random', 'scipy', 'matplotlib'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = f"{sys.executable} -m codesign.search.cli.app hardware ibert --json"
    # `true` has gone before the first line is written.
    done = subprocess.run(
        ["bash", "-c", f"(sleep 0.5; {program}) | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_closed_standard_output_is_no_error() -> None:
    command = f"{sys.executable} -m codesign.search.cli.app models >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
