"""Running cocotb benches on single modules of the RTL, under Verilator with assertions on.

A bench is one file: coroutines marked `@cocotb.test()` and a pytest function that calls
`run_bench`. Executables are cached per module, parameters and the sources that the module needs.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cocotb_tools.config
import find_libpython
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from codesign.hw.simulation import sources as rtl
from codesign.hw.simulation import verilator

CLOCK_NS = 2


def run_bench(
    top: str,
    test_module: str,
    parameters: Mapping[str, int] | None = None,
    *,
    seed: int = 1,
    testcase: str | Sequence[str] | None = None,
    fails_with: str | None = None,
    environment: Mapping[str, str] | None = None,
    plusargs: Sequence[str] = (),
    folders: Sequence[Path] = (),
    sources: Sequence[Path] = (),
    public: Sequence[str] | None = None,
    waves: Path | None = None,
    fast: bool = False,
) -> None:
    """Build module `top` with `parameters` and run the cocotb tests of `test_module` on it.

    `test_module` is the caller's `__name__`; `environment` reaches the coroutines through
    os.environ, `testcase` picks some of them. `seed` sets the random numbers of cocotb and the
    values that registers have before reset. With `fails_with`, the bench must instead be stopped by
    an assertion of these words. `folders` hold further modules, `sources` are further C++ or
    control files. Coroutines see the signals of the modules named in `public` (default: only those
    of `top`). `waves` names a VCD file to write. `fast` is for long runs: it builds for minutes, with
    the optimizations of hw.simulator. Fails the pytest with the end of the log.
    """
    _require_libpython()
    visible = (top,) if public is None else public
    executable = _build(top, parameters or {}, folders, sources, visible, bool(waves), fast)
    file = sys.modules[test_module].__file__
    assert file is not None
    with tempfile.TemporaryDirectory(prefix=f"bench-{top}-") as folder:
        log, results = Path(folder) / "log.txt", Path(folder) / "results.xml"
        runner = get_runner("verilator")
        with _search_path(Path(file).parent, Path(__file__).parent):
            try:
                runner.test(
                    test_module=Path(file).stem,
                    hdl_toplevel=top,
                    hdl_toplevel_lang="verilog",
                    build_dir=executable.parent,
                    test_dir=folder,
                    testcase=testcase,
                    seed=seed,
                    plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed}", *plusargs],
                    test_args=["--trace-file", str(waves.absolute())] if waves else [],
                    waves=waves is not None,
                    extra_env={"COCOTB_ANSI_OUTPUT": "0", **(environment or {})},
                    results_xml=str(results),
                    log_file=log,
                )
                tests, failed = get_results(results)
                passed = tests > 0 and failed == 0
            except (SystemExit, RuntimeError):
                passed = False
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if passed and fails_with is not None:
        pytest.fail(f"bench of {top} passed instead of stopping with {fails_with!r}", pytrace=False)
    if not passed and (fails_with is None or fails_with not in text):
        pytest.fail(f"bench of {top} failed:\n{_end(text)}", pytrace=False)


def _require_libpython() -> None:
    if find_libpython.find_libpython() is None:
        package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        pytest.fail(f"cocotb needs Python's shared library: apt install {package}", pytrace=False)


def start_clock(dut: Any) -> None:
    """Start the clock of a module that has no reset."""
    Clock(dut.clk_i, CLOCK_NS, unit="ns", impl="gpi").start()


async def start_clock_and_reset(dut: Any, cycles: int = 2) -> None:
    """Start the clock and hold `rst_ni` low for `cycles`; returns after a falling edge, out of reset.

    Drive inputs and read outputs at falling edges: there a cycle's outputs have settled, and what
    is driven holds at the next rising edge. Set the inputs' idle values before calling this.
    """
    dut.rst_ni.value = 0
    start_clock(dut)
    for _ in range(cycles):
        await RisingEdge(dut.clk_i)
    await FallingEdge(dut.clk_i)
    dut.rst_ni.value = 1


@contextlib.contextmanager
def _search_path(*folders: Path) -> Iterator[None]:
    """Put `folders` first on sys.path, which cocotb hands to the bench's process."""
    saved = sys.path
    sys.path = [*map(str, folders), *saved]
    try:
        yield
    finally:
        sys.path = saved


def _end(log: str) -> str:
    """The last lines of a log, from the first error on if that is near."""
    return "\n".join(log.splitlines()[-40:])


def _build(
    top: str,
    parameters: Mapping[str, int],
    folders: Sequence[Path],
    sources: Sequence[Path],
    public: Sequence[str],
    waves: bool,
    fast: bool,
) -> Path:
    modules = rtl.sources_of(top, (rtl.RTL, *folders))
    libraries = cocotb_tools.config.libs_dir
    with tempfile.TemporaryDirectory() as folder:
        loader = Path(folder) / "loader.cpp"
        loader.write_text(_loader(), encoding="utf-8")
        visible = Path(folder) / "public.vlt"
        lines = [f'public_flat_rw -module "{module}" -var "*"' for module in public]
        visible.write_text("\n".join(["`verilator_config", *lines, ""]), encoding="utf-8")
        return verilator.build(
            top,
            [visible, *modules, *sources, loader],
            top=top,
            parameters=parameters,
            flags=[
                "--vpi",
                "--assert",
                *("--x-initial", "unique", "--x-assign", "unique"),
                *("--timescale", "1ns/1ps"),
                *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
                *(["--trace"] if waves else []),
                *(["-O3"] if fast else []),
            ],
            optimize="-O3" if fast else "-O0",
            key=os.fspath(libraries),
        )


def _loader() -> str:
    """cocotb's main program, with a clock that is low at first, whatever the random reset says."""
    original = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    text = original.read_text(encoding="utf-8")
    made = 'std::unique_ptr<Vtop> top(new Vtop(""));'
    assert text.count(made) == 1, f"{original} has changed"
    lower = """
template <typename Top> auto lower_clock(Top &top, int) -> decltype(top.clk_i, void()) {
    top.clk_i = 0;
}
template <typename Top> void lower_clock(Top &, long) {}
"""
    text = text.replace("int main(", f"{lower}\nint main(").replace(
        made, f"{made} lower_clock(*top, 0);"
    )
    return text
