"""The RTL as one process that runs a kernel at a time, for as long as one likes.

`simulator.run_rtl` starts a process for each Program. Here one stays: its DRAM is a file that both sides
map, kernels go in through a pipe, and what came of each goes out through another. Registers and memories
of the machine keep what the kernel before left in them.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from codesign.hw.machine.arithmetic import Bytes
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.encoding import LANES, Words, encode_all
from codesign.hw.machine.events import COUNTERS
from codesign.hw.machine.program import Issued, Kernel
from codesign.hw.simulation import simulator
from codesign.hw.simulation.simulator import KernelRun, Simulation
from codesign.hw.simulation.verilator import SimulatorError

LEAST_BYTES = 64 << 20  # of DRAM; the file is as large as what is written to it
WATCHDOG_CYCLES = 10_000_000  # without a pulse, more than any instruction takes
_END = bytes(4 * LANES)  # of a kernel
_COUNTER_BITS = 48


class Session:
    """A running simulator of one machine. A context manager: it ends with it.

    `seed` sets what registers and memories hold at first; modules in `folders` replace those of the same
    name. Raises SimulatorError where the RTL cannot be built or run here.
    """

    def __init__(
        self,
        config: HardwareConfig,
        dram_bytes: int,
        *,
        seed: int = 1,
        folders: Sequence[Path] = (),
    ) -> None:
        self.config, self.size = config, max(LEAST_BYTES, dram_bytes)
        executable = simulator.built_rtl(config, folders=folders)
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="codesign-rtl-"))
            self._trace, self._said = Path(folder, "trace"), Path(folder, "said")
            memory = Path(folder, "memory")
            try:
                with memory.open("wb") as file:
                    file.truncate(self.size)
                self.dram: Bytes = np.memmap(memory, dtype=np.uint8, mode="r+")
                said = stack.enter_context(self._said.open("wb"))
            except OSError as error:
                raise SimulatorError(
                    f"cannot write the simulator's files in {folder}: {error.strerror}; set TMPDIR to "
                    "a folder with room"
                ) from None
            ours, its = os.pipe()
            self._results = stack.enter_context(os.fdopen(ours, encoding="ascii"))
            plusargs = [
                "+serve=1",
                "+program=/dev/stdin",
                f"+results=/dev/fd/{its}",
                f"+trace={self._trace}",
                f"+memory={memory}",
                f"+memory_bytes={self.size}",
                "+backpressure=0",
                f"+watchdog={WATCHDOG_CYCLES}",
                "+verilator+rand+reset+2",
                f"+verilator+seed+{seed}",
            ]
            try:
                self._process = subprocess.Popen(
                    [str(executable), *plusargs],
                    stdin=subprocess.PIPE,
                    stdout=said,
                    stderr=said,
                    pass_fds=(its,),
                )
            finally:
                os.close(its)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        self._counters = [0] * len(COUNTERS)
        self._issued = 0  # instructions before those of this kernel
        self._kernel: tuple[Kernel, Sequence[Issued]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def begin(self, kernel: Kernel, issued: Sequence[Issued], words: Words | None = None) -> None:
        """Start a kernel, whose instructions in order are `issued`, `words` where they are encoded
        already; `end` waits for it."""
        self._kernel = kernel, issued
        assert self._process.stdin is not None
        try:
            coded = encode_all(issued) if words is None else words
            self._process.stdin.write(coded.tobytes() + _END)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def end(self, dram_bytes: int) -> Simulation:
        """What the kernel left: its cycles, the times of its instructions, what its events count to,
        and so much of DRAM, as it lies there.

        Raises ProgramError where an assertion of the RTL fails, naming the instruction.
        """
        assert self._kernel is not None
        kernel, issued = self._kernel
        lines = [self._results.readline() for _ in range(1 + len(self._counters))]
        if not all(line.endswith("\n") for line in lines):
            raise self._failed()
        (cycles,), total = simulator.results(lines)
        counts = tuple(
            (now - before) % (1 << _COUNTER_BITS)
            for now, before in zip(total, self._counters, strict=True)
        )
        self._counters = list(total)
        (steps,) = simulator.times(self._trace, [issued])
        self._issued += len(issued)
        self._kernel = None
        return Simulation(self.dram[:dram_bytes], (KernelRun(kernel.name, cycles, steps),), counts)

    def _failed(self) -> Exception:
        """What to raise of a process that has ended."""
        assert self._kernel is not None
        kernel, issued = self._kernel
        code = self._process.wait()
        text = self._said.read_text(encoding="utf-8", errors="replace")
        return simulator.failure(text, code, [kernel], [issued], self._issued)

    def _end(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
