"""A user's own energy and area tables, from the template that we print to the numbers of a run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from codesign.hw.costs.area import area_mm2
from codesign.hw.machine.config import PRESETS, HardwareConfig, to_toml
from codesign.search.cli import app
from codesign.search.inputs.sources import load_area_tables, load_model, load_tables
from codesign.search.pricing.evaluate import evaluate

BERT = ["bert-tiny", "--seq", "32"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _print(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert app.main(arguments) == 0
    return capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(_print(capsys, *arguments, "--json"))


def _template(folder: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> Path:
    path = folder / f"{kind}.yaml"
    path.write_text(_print(capsys, "hardware", name, f"--{kind}"))
    return path


@pytest.mark.parametrize("name", ["ibert", "edge", "gemmini"])
def test_the_templates_give_the_nominal_numbers_back(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = _json(capsys, "simulate", *BERT, "--hw", name)
    ert = _template(folder, capsys, name, "ert")
    art = _template(folder, capsys, name, "art")
    tables = ["--energy-table", ert.name, "--area-table", art.name]
    mine = _json(capsys, "simulate", *BERT, "--hw", name, *tables)
    assert mine["total"]["cycles"] == shipped["total"]["cycles"]
    for quantity, unit in (("energy", "j"), ("area", "mm2")):
        nominal = pytest.approx(shipped["total"][f"{quantity}_{unit}"], rel=1e-9)
        for bound in ("_low", "", "_high"):  # a user's numbers have no range
            assert mine["total"][f"{quantity}{bound}_{unit}"] == nominal
    for component, (_, nominal_j, _) in shipped["energy_by_component_j"].items():
        assert mine["energy_by_component_j"][component] == pytest.approx([nominal_j] * 3, rel=1e-9)
    (row,) = _json(capsys, "sweep", *BERT, "--hw", name, *tables, "--jobs", "1")["rows"]
    assert row == mine["total"]


def test_twice_the_dram_costs_are_twice_the_dram_energy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["simulate", *BERT, "--objective", "cycles"]  # a plan that ignores energy
    shipped = _json(capsys, *command)
    path = _template(folder, capsys, "ibert", "ert")
    document = yaml.safe_load(path.read_text())
    (dram,) = (t for t in document["ERT"]["tables"] if t["name"] == "system.dram")
    for action in dram["actions"]:
        action["energy"] *= 2
    path.write_text(yaml.safe_dump(document))
    mine = _json(capsys, *command, "--energy-table", path.name)
    for component, (_, nominal_j, _) in shipped["energy_by_component_j"].items():
        factor = 2 if component == "dram" else 1
        assert mine["energy_by_component_j"][component][1] == pytest.approx(factor * nominal_j)


def test_an_area_replaces_its_component_alone(folder: Path) -> None:
    (folder / "art.yaml").write_text(
        "ART: {version: '0.4', tables: [{name: 'chip.pe[0..255]', area: 453}]}"
    )
    graph, config = load_model("bert-tiny", seq=16).graph, PRESETS["ibert"]
    shipped = area_mm2(config)
    mine = evaluate(graph, config, area_tables=load_area_tables("art.yaml"))
    for bound in range(3):
        others = shipped.total[bound] - shipped.components["mesh"][bound]
        assert mine.area_mm2[bound] == pytest.approx(others + 256 * 453e-6)
    assert load_area_tables("default") == load_tables("default") == "default"


def test_a_run_records_every_number_of_its_tables(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _template(folder, capsys, "ibert", "art")
    command = ["sweep", *BERT, "--jobs", "1", "--out", "run"]
    assert app.main([*command, "--area-table", "art.yaml"]) == 0
    recorded = json.loads((folder / "run" / "run.json").read_text())["inputs"]
    assert recorded["energy_table"] == "default"
    assert recorded["area_table"]["source"] == "art.yaml"
    components = area_mm2(PRESETS["ibert"]).components
    assert dict(recorded["area_table"]["mm2"]) == pytest.approx(
        {name: nominal for name, (_, nominal, _) in components.items()}
    )
    capsys.readouterr()
    assert app.main(command) == 2
    assert "keeps a run with another area_table:" in capsys.readouterr().err


def test_templates_of_a_toml_file_say_whose_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.toml").write_text(to_toml(HardwareConfig(name="mine", clock_hz=250_000_000)))
    for kind in ("ert", "art"):
        first = _print(capsys, "hardware", "mine.toml", f"--{kind}").splitlines()[0]
        assert first.startswith("# mine, 22 nm, 250 MHz: ")


def test_one_table_for_many_machines_is_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("ert", "art"):
        _template(folder, capsys, "ibert", kind)
    tables = ["--energy-table", "ert.yaml", "--area-table", "art.yaml"]
    assert app.main(["sweep", *BERT, "--jobs", "1", "--scratchpad", "32K,64K", *tables]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    for line, words in zip(warnings, ("ert.yaml: every machine", "art.yaml: every"), strict=True):
        assert line.startswith(f"codesign: warning: {words}")


def _warnings(capsys: pytest.CaptureFixture[str], *command: str) -> list[str]:
    assert app.main(command) == 0
    return [
        line.removeprefix("codesign: warning: ") for line in capsys.readouterr().err.splitlines()
    ]


@pytest.mark.parametrize(
    ("machine", "differs"),
    [
        ({}, ""),
        ({"dim": 32, "scratchpad_bytes": 1 << 18}, "dim 16, not 32; scratchpad_bytes 65536, not"),
        ({"technology_nm": 45}, "technology_nm 22, not 45"),
        ({"dram_latency_cycles": 60, "load_queue_depth": 4}, ""),  # costs do not depend on them
    ],
)
def test_the_table_of_another_machine_is_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str], machine: dict[str, int], differs: str
) -> None:
    for kind in ("ert", "art"):
        _template(folder, capsys, "ibert", kind)
    (folder / "mine.toml").write_text(to_toml(replace(PRESETS["ibert"], **machine)))  # type: ignore[arg-type]
    tables = ["--energy-table", "ert.yaml", "--area-table", "art.yaml"]
    for command in ("simulate", "sweep"):
        found = _warnings(capsys, command, *BERT, "--hw", "mine.toml", *tables)
        said = [line for line in found if "another machine" in line]
        assert len(said) == (2 if differs else 0)
        for line, words in zip(
            said, ("ert.yaml has the costs", "art.yaml has the areas"), strict=False
        ):
            assert line.startswith(f"{words} of another machine: {differs}")


def test_costs_left_at_their_shipped_value_are_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _template(folder, capsys, "ibert", "ert")
    document = yaml.safe_load(path.read_text())
    tables = document["ERT"]["tables"]
    document["ERT"]["tables"] = [
        t for t in tables if t["name"] not in ("system.host", "system.dram")
    ]
    path.write_text(yaml.safe_dump(document))
    (line,) = _warnings(capsys, "simulate", *BERT, "--energy-table", path.name)
    assert line == (
        "ert.yaml leaves out instructions, dram_read_bytes, dram_write_bytes, host_cycles, "
        "dram_background: they keep their shipped costs"
    )
    (folder / "part.yaml").write_text(
        "ART: {version: '0.4', tables: [{name: chip.pe, area: 453}, {name: control, area: 9}]}"
    )
    (line,) = _warnings(capsys, "simulate", *BERT, "--area-table", "part.yaml")
    assert line.startswith("part.yaml leaves out scratchpad, accumulator, nonlinear, requantize:")


def test_memories_too_small_for_the_tables_are_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--hw", "edge", "--scratchpad", "4K", "--acc", "4K,64K"]
    ((scratchpad, accumulator), tables) = _warnings(capsys, "sweep", *BERT, *small), []
    assert scratchpad.startswith("scratchpad: a bank of 512 bytes is smaller than any SRAM macro")
    assert accumulator.startswith("accumulator: a bank of 512 bytes")
    for kind in ("ert", "art"):  # with all its own numbers nothing is left to say of ours
        tables += [f"--{'energy' if kind == 'ert' else 'area'}-table", f"{kind}.yaml"]
        _template(folder, capsys, "edge", kind)
    found = _warnings(capsys, "simulate", *BERT, *small[:-1], "4K", *tables)
    assert not [line for line in found if "smaller" in line]


@pytest.mark.parametrize("machine", ["sixteen", "[1, 2]", "{dim: wide}", "{colour: 1}"])
def test_a_machine_that_is_none_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    (folder / "ert.yaml").write_text(f"ERT: {{version: '0.4', machine: {machine}, tables: []}}")
    assert app.main(["simulate", *BERT, "--energy-table", "ert.yaml"]) == 2
    assert "ert.yaml: machine must give whole numbers of dim" in capsys.readouterr().err


WRONG = {
    "sweep --area-table gold": "no area table is called 'gold': choose default, or give an",
    "sweep --area-table missing.yaml": "cannot read missing.yaml",
    "sweep --area-table ert.yaml": "ert.yaml is no Accelergy ART",
    "sweep --energy-table art.yaml": "art.yaml is no Accelergy ERT",
    "simulate --area-table negative.yaml": "mesh: area is -1 but must be a number >= 0",
    "hardware --ert": "name one of gemmini, ibert",
    "hardware ibert --art --json": "drop --json",
    "hardware ibrt --ert": "did you mean ibert?",
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_tables_are_one_line(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("ert", "art"):
        _template(folder, capsys, "ibert", kind)
    (folder / "negative.yaml").write_text("ART: {version: '0.4', tables: [{name: mesh, area: -1}]}")
    assert app.main(command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"codesign: error: [^\n]+\n", captured.err), captured.err
    assert WRONG[command] in captured.err
