"""Running Programs on the RTL: what the machine does, cycle for cycle and bit for bit.

`run_rtl` builds `rtl/sim/system.sv` for a HardwareConfig with Verilator (once; see `verilator.py`),
runs it in a process of its own on a copy of DRAM, and gives back the memory, the cycles of every
kernel, the times of every instruction and the counters.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.hw.errors import ProgramError
from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.encoding import LANES, encode_all
from codesign.hw.machine.events import PULSES
from codesign.hw.machine.isa import OPERATION
from codesign.hw.machine.limits import RTL_DIM
from codesign.hw.machine.program import Body, Issued, Kernel, Program, unroll
from codesign.hw.simulation import sources, verilator
from codesign.hw.simulation.verilator import SimulatorError

# A record of the trace: a cycle, and the pulses in it as a word of trace_t (system.cpp).
_RECORD = np.dtype([("cycle", "<u8"), ("pulses", "<u4")])
PULSE = {name: bit for bit, name in enumerate(PULSES)}
OPTIMIZE = "-O3"  # for the C++ compiler: of -O1, a build takes twice the time, and runs 2/3
WATCHDOG_CYCLES = 100_000  # without a pulse, beyond what the longest instruction may take


@dataclass(frozen=True)
class IssuedInstruction:
    """One issued instruction and when the RTL did it, in cycles: as `timing.TimedStep`, less `free`."""

    issued: Issued
    dispatch: int
    start: int
    release: int
    complete: int


@dataclass(frozen=True)
class KernelRun:
    """A kernel as the RTL ran it: cycles from first dispatch to last completion, and its steps."""

    name: str
    cycles: int
    steps: tuple[IssuedInstruction, ...]


@dataclass(frozen=True)
class Simulation:
    """What is left after a run: DRAM, each kernel's cycles and steps, the machine's counters."""

    memory: npt.NDArray[np.uint8]
    kernels: tuple[KernelRun, ...]
    counters: tuple[int, ...]

    @property
    def cycles(self) -> int:
        """Cycles of all kernels together."""
        return sum(kernel.cycles for kernel in self.kernels)


def run_rtl(
    program: Program | Sequence[Body],
    config: HardwareConfig,
    dram: npt.NDArray[np.uint8] | Path,
    *,
    seed: int = 1,
    backpressure: float = 0.0,
    trace: bool = True,
    waves: Path | None = None,
    coverage: Path | None = None,
    timeout_s: float | None = None,
    folders: Sequence[Path] = (),
) -> Simulation:
    """Run a Program, or the bodies of kernels, on the RTL of `config`.

    `dram` is copied; a Path names a file that is used in place, and `Simulation.memory` maps it.
    `seed` sets what registers and memories hold before they are written, and with `backpressure`,
    the share of cycles in which each channel of the memory stalls, when it does. Without `trace`
    there are no steps. `waves` ends in .vcd or .fst; `coverage` takes Verilator's record of the
    lines that ran. Modules in `folders` replace those of the
    same name.

    Raises ProgramError where an assertion of the RTL fails, naming the instruction, or an
    instruction leaves no trace, and
    SimulatorError when the RTL cannot be built or run here.
    """
    if not 0 <= backpressure < 1:
        raise ValueError(f"backpressure is {backpressure} but must be from 0 to below 1")
    executable = built_rtl(config, waves=waves, coverage=coverage is not None, folders=folders)
    kernels = program.kernels if isinstance(program, Program) else _kernels(program)
    issued = [list(unroll(kernel.body)) for kernel in kernels]
    with tempfile.TemporaryDirectory(prefix="codesign-rtl-") as temporary:
        try:
            files = _Files(Path(temporary), dram)
            _write_program(files.program, issued)
        except OSError as error:
            reason = error.strerror or error  # numpy's have no strerror
            raise SimulatorError(
                f"cannot write the simulator's files in {temporary}: {reason}; set TMPDIR to a "
                "folder with room"
            ) from None
        plusargs = [
            f"+memory={files.memory}",
            f"+program={files.program}",
            f"+results={files.results}",
            f"+backpressure={round(1000 * backpressure)}",
            f"+memory_bytes={files.memory.stat().st_size}",
            f"+watchdog={_watchdog(issued, config, backpressure)}",
            "+verilator+rand+reset+2",
            f"+verilator+seed+{seed}",
            *([f"+trace={files.trace}"] if trace else []),
            *([f"+waves={waves.absolute()}"] if waves else []),
            *([f"+coverage={coverage.absolute()}"] if coverage else []),
        ]
        _run([str(executable), *plusargs], timeout_s, kernels, issued)
        cycles, counters = _results(files.results)
        steps = times(files.trace, issued) if trace else [() for _ in kernels]
        memory = files.read()
    runs = zip(kernels, cycles, steps, strict=True)
    return Simulation(memory, tuple(KernelRun(k.name, c, s) for k, c, s in runs), counters)


def built_rtl(
    config: HardwareConfig,
    *,
    waves: Path | None = None,
    coverage: bool = False,
    folders: Sequence[Path] = (),
    on_build: Callable[[], None] | None = None,
) -> Path:
    """The simulator's executable for a machine, from the cache or built now (tens of seconds).

    `on_build` is called before it is built.
    """
    if config.dim not in RTL_DIM:
        raise SimulatorError(f"the RTL goes up to dim {RTL_DIM.most}, not {config.dim}")
    around = [sources.SIMULATION / name for name in ("system.cpp", "main.cpp")]
    return verilator.build(
        "system",
        [*sources.sources_of("system", (sources.RTL, *folders)), *around],
        top="system",
        parameters=parameters(config),
        flags=[
            *("--assert", "-O3", "--x-assign", "unique", "--x-initial", "unique"),
            *_waves(waves),
            *(["--coverage-line"] if coverage else []),
        ],
        optimize="-O1" if coverage else OPTIMIZE,
        on_build=on_build,
    )


def parameters(config: HardwareConfig) -> dict[str, int]:
    """The parameters of machine.sv and system.sv."""
    return {
        "Dim": config.dim,
        "ScratchpadBytes": config.scratchpad_bytes,
        "ScratchpadBanks": config.scratchpad_banks,
        "AccumulatorBytes": config.accumulator_bytes,
        "AccumulatorBanks": config.accumulator_banks,
        "ParameterChannels": config.parameter_channels,
        "BusBytes": config.bus_bytes,
        "DramLatencyCycles": config.dram_latency_cycles,
        "LoadQueueDepth": config.load_queue_depth,
        "ExecuteQueueDepth": config.execute_queue_depth,
        "DrainQueueDepth": config.drain_queue_depth,
        "Normalization": int(config.normalization),
    }


def _waves(path: Path | None) -> list[str]:
    if path is None:
        return []
    if path.suffix == ".vcd":
        return ["--trace-vcd"]
    if path.suffix != ".fst":
        raise SimulatorError(f"{path}: waves are written as .vcd or .fst")
    if not verilator.has_headers("lz4.h", "zlib.h"):
        raise SimulatorError(
            f"{path}: waves as .fst need lz4.h and zlib.h: install liblz4-dev and zlib1g-dev, or "
            "name a .vcd file"
        )
    return ["--trace-fst"]


def _kernels(bodies: Sequence[Body]) -> tuple[Kernel, ...]:
    return tuple(Kernel(f"kernel {i}", body) for i, body in enumerate(bodies))


class _Files:
    """The files of one run."""

    def __init__(self, folder: Path, dram: npt.NDArray[np.uint8] | Path) -> None:
        self.program = folder / "program"
        self.trace = folder / "trace"
        self.results = folder / "results"
        self.in_place = isinstance(dram, Path)
        if isinstance(dram, Path):
            self.memory = dram.absolute()
        else:
            self.memory = folder / "memory"
            np.ascontiguousarray(dram, dtype=np.uint8).tofile(self.memory)

    def read(self) -> npt.NDArray[np.uint8]:
        """DRAM after the run."""
        if self.in_place and self.memory.stat().st_size:
            return np.memmap(self.memory, dtype=np.uint8, mode="r+")
        return np.fromfile(self.memory, dtype=np.uint8)


def _write_program(path: Path, issued: Sequence[Sequence[Issued]]) -> None:
    """The instructions of every kernel, kernels separated by a word of zeros."""
    with path.open("wb") as file:
        for number, kernel in enumerate(issued):
            if number:
                file.write(bytes(4 * LANES))
            encode_all(kernel).tofile(file)


def _watchdog(
    issued: Sequence[Sequence[Issued]], config: HardwareConfig, backpressure: float
) -> int:
    """Cycles without a pulse after which the machine is stuck; generous, and never too few."""
    widest = max(1, 8 * config.dim // config.bus_bytes) + 3  # cycles per row and block
    longest = max(
        (
            one.values["rows"] * (one.values.get("blocks", 1) * widest + 100)
            for kernel in issued
            for one in kernel
            if "rows" in one.values
        ),
        default=0,
    )
    return int(2 * (longest + WATCHDOG_CYCLES + config.dram_latency_cycles) / (1 - backpressure))


def _run(
    command: Sequence[str],
    timeout_s: float | None,
    kernels: Sequence[Kernel],
    issued: Sequence[Sequence[Issued]],
) -> None:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SimulatorError(f"the simulation took more than {timeout_s:g} s") from None
    if done.returncode != 0:
        raise failure(done.stdout, done.returncode, kernels, issued)


def failure(
    said: str,
    code: int,
    kernels: Sequence[Kernel],
    issued: Sequence[Sequence[Issued]],
    before: int = 0,
) -> ProgramError | SimulatorError:
    """What to raise after a simulator that ended with `code`; it ran `before` instructions of others."""
    failed = re.findall(r"%Error: (\S+):(\d+): Assertion failed in \S+?: (.*)", said)
    if failed:  # several of one cycle, perhaps: what names an instruction says most
        named = [one for one in failed if re.search(r"\binstruction \d", one[2])]
        file, line, words = (named or failed)[0]
        place = f"{Path(file).name}:{line}"
        return ProgramError(f"{_named(words, kernels, issued, before)} ({place})")
    lines = [line for line in said.splitlines() if line.strip()]
    first = lines[0] if lines else "no message"
    return SimulatorError(f"the simulator ended with exit code {code}: {first}")


def _named(
    words: str, kernels: Sequence[Kernel], issued: Sequence[Sequence[Issued]], before: int
) -> str:
    """An assertion's words, with what each `instruction N` is and where it stands."""

    def name(match: re.Match[str]) -> str:
        number = int(match[1]) - before
        for kernel, instructions in zip(kernels, issued, strict=True):
            if number < len(instructions):
                one = instructions[number]
                return f"{one.op} at site {one.site} (instruction {number} of {kernel.name})"
            number -= len(instructions)
        return match[0]

    return re.sub(r"\binstruction (\d+)", name, words)


def _results(path: Path) -> tuple[list[int], tuple[int, ...]]:
    """Cycles of every kernel, and the counters after the last."""
    return results(path.read_text(encoding="ascii").splitlines())


def results(lines: Iterable[str]) -> tuple[list[int], tuple[int, ...]]:
    """Cycles of every kernel that the simulator tells of, and the counters after the last."""
    cycles: list[int] = []
    counters: list[int] = []
    for line in lines:
        kind, *numbers = line.split()
        if kind == "kernel":
            counters.clear()
        (cycles if kind == "kernel" else counters).append(int(numbers[-1]))
    return cycles, tuple(counters)


def times(path: Path, issued: Sequence[Sequence[Issued]]) -> list[tuple[IssuedInstruction, ...]]:
    """The times of every instruction, in cycles since its kernel's first dispatch."""
    records = np.fromfile(path, dtype=_RECORD)
    cycle = records["cycle"].astype(np.int64)
    pulses = {
        name: cycle[records["pulses"] >> np.uint32(bit) & np.uint32(1) != 0]
        for name, bit in PULSE.items()
    }
    operations = [one.op for kernel in issued for one in kernel]
    units = np.array([OPERATION[op].unit for op in operations])
    kinds = np.array([_start_pulse(op) for op in operations])
    times = np.zeros((len(operations), 4), dtype=np.int64)  # dispatch, start, release, complete
    times[:, 0] = _matched(pulses["dispatch"], len(operations), "dispatch")
    for column, labels, suffix in ((1, kinds, ""), (2, units, "_release"), (3, units, "_complete")):
        for label in np.unique(labels):
            mask = labels == label
            name = f"{label}{suffix}"
            times[mask, column] = _matched(pulses[name], int(mask.sum()), name)
    return list(_relative(times, issued))


def _start_pulse(op: str) -> str:
    unit = OPERATION[op].unit
    return f"{op}_start" if unit == "execute" else f"{unit}_start"


def _matched(cycles: npt.NDArray[np.int64], count: int, name: str) -> npt.NDArray[np.int64]:
    if len(cycles) != count:
        raise ProgramError(f"the RTL made {len(cycles)} {name} pulses for {count} instructions")
    return cycles


def _relative(
    times: npt.NDArray[np.int64], issued: Sequence[Sequence[Issued]]
) -> Iterator[tuple[IssuedInstruction, ...]]:
    at = 0
    for kernel in issued:
        own = times[at : at + len(kernel)]
        own = own - own[:1, :1]
        yield tuple(
            IssuedInstruction(one, *row) for one, row in zip(kernel, own.tolist(), strict=True)
        )
        at += len(kernel)
