"""The RTL's files are found from one place, in an order that tools can take, in every folder."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import codesign.hw.simulation.sources
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.simulation import simulator, sources, verilator
from codesign.hw.simulation.verilator import SimulatorError

ROOT = Path(__file__).resolve().parents[3]
UNITS = {"checks", "control", "drain", "execute", "load", "memories", "primitives", "sim"}
TEXTS = {
    "z_pkg": "package z_pkg; endpackage",
    "sub/a_pkg": "package a_pkg; import z_pkg::*; endpackage",
    "sub/leaf": "module leaf import a_pkg::*; (); endmodule",
    "top": "module top; leaf #(.A(1)) u_leaf (); // other u_other (\nother2 u_o ();\nendmodule",
    "other": "",
    "sub/deep/other2": "module other2; endmodule",
    "checks/leaf_checks": "module leaf_checks; aid u_aid (); endmodule\n"
    "bind leaf leaf_checks u_checks ();",
    "checks/aid": "module aid; endmodule",
    "checks/aid_checks": "module aid_checks; endmodule\nbind aid aid_checks u_checks ();",
    "checks/other_checks": "module other_checks; endmodule\nbind other other_checks u_checks ();",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        path = tmp_path / f"{name}.sv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_sources_are_what_a_module_uses_packages_first(folder: Path) -> None:
    """From all folders, with what is bound to it, to what is bound, and so on."""
    found = names(sources.sources_of("top", [folder]))
    checks = ["aid", "aid_checks", "leaf", "leaf_checks"]
    assert found == ["z_pkg", "a_pkg", *checks, "other2", "top"]
    hardware = names(sources.sources_of("top", [folder], checks=False))
    assert hardware == ["z_pkg", "a_pkg", "leaf", "other2", "top"]
    with pytest.raises(SimulatorError, match=r"no nothing\.sv in"):
        sources.sources_of("nothing", [folder])


def test_a_later_folder_replaces_a_module(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    later = tmp_path_factory.mktemp("later")
    (later / "leaf.sv").write_text("module leaf; other u_other (); endmodule")
    found = sources.sources_of("top", [folder, later])
    assert later / "leaf.sv" in found and folder / "sub" / "leaf.sv" not in found
    assert {"other", "other_checks"} <= set(names(found))


def test_two_modules_of_one_name_are_refused(folder: Path) -> None:
    (folder / "sub" / "top.sv").write_text("module top; endmodule")
    with pytest.raises(SimulatorError, match=r"^top is in .*sub/top\.sv and in .*top\.sv$"):
        sources.modules([folder])


def test_every_file_is_in_the_folder_of_its_unit() -> None:
    """On top there are the machine and the packages."""
    top = {path.stem for path in sources.RTL.glob("*.sv")}
    assert {name for name in top if not name.endswith("_pkg")} == {"machine"}
    assert {path.name for path in sources.RTL.iterdir() if path.is_dir()} == UNITS
    for name, path in sources.modules().items():
        text = path.read_text(encoding="utf-8")
        assert f"package {name};" in text or f"\nmodule {name}" in text, path


def test_the_simulation_needs_every_module() -> None:
    """Nothing lies about: what is in no simulation and no check of one is no part of the machine."""
    assert set(names(sources.sources_of("system"))) == set(sources.modules())
    hardware = sources.sources_of("machine", checks=False)
    assert {path.parent.name for path in hardware} == {*UNITS, "rtl"} - {"checks", "sim"}


def test_a_module_says_where_it_is() -> None:
    assert sources.module("fifo") == sources.RTL / "primitives" / "fifo.sv"
    with pytest.raises(SimulatorError, match=r"no nothing\.sv in"):
        sources.module("nothing")


def test_wheels_hold_every_file() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["package-data"]["codesign.hw"]
    held = {path for pattern in data for path in (ROOT / "hw").glob(pattern) if path.is_file()}
    files = {path for path in (ROOT / "hw" / "rtl").rglob("*") if path.is_file()}
    assert files and files <= held


@pytest.fixture
def copy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if these were the machine's files."""
    monkeypatch.setattr(sources, "RTL", folder)
    return folder


@pytest.mark.parametrize("name", ["z_pkg", "sub/leaf", "sub/deep/other2", "checks/aid_checks"])
def test_a_change_in_any_folder_is_another_simulator(
    name: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key in the cache differs, and so does the checksum of all files."""
    keys: list[Path] = []

    def runnable(path: Path) -> bool:
        keys.append(path)
        return True

    monkeypatch.setattr(verilator, "_runnable", runnable)

    def key() -> Path:
        verilator.build("top", sources.sources_of("top", [copy]), top="top")
        return keys[-1]

    before, whole = key(), sources.sources_digest()
    assert (key(), sources.sources_digest()) == (before, whole)
    path = copy / f"{name}.sv"
    path.write_text(path.read_text() + "\n")
    assert key() != before
    assert sources.sources_digest() != whole


def test_a_file_that_moves_changes_the_checksum(copy: Path) -> None:
    before = sources.sources_digest()
    (copy / "other.sv").rename(copy / "sub" / "other.sv")
    assert sources.sources_digest() != before


def test_the_command_prints_what_a_simulation_needs() -> None:
    command = [sys.executable, "-m", codesign.hw.simulation.sources.__name__, "fifo"]
    assert subprocess.check_output(command, text=True).split() == [str(sources.module("fifo"))]


def test_the_simulator_is_built_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path] = []

    def build(name: str, files: list[Path], **_: object) -> Path:
        taken.extend(files)
        return Path(name)

    monkeypatch.setattr(verilator, "build", build)
    simulator.built_rtl(HardwareConfig())
    assert set(sources.modules().values()) <= set(taken)
    assert {path.name for path in taken if path.suffix == ".cpp"} == {"system.cpp", "main.cpp"}
