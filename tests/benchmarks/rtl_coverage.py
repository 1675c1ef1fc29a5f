"""Which lines of the RTL run: `python tests/benchmarks/rtl_coverage.py`.

Runs what `test_machine` runs (random Programs, with and without back-pressure, and compiled
kernels) and a store over the end of a page, on the machines of `rtl_agreement` and one without row
functions, all built with Verilator's line coverage. Prints the share of each file, the total, and
every line that never ran with the reason; the benches of single modules would only add to it.

Lines are those that Verilator counts: statements of processes and functions. Assertions, and all
else that synthesis does not see, are left out, and so is a file without such a statement. A line
that holds both outcomes of a condition counts as run with either; `outcomes` counts them one by
one. Builds take minutes the first time. Exits with 1 below 95 %.
"""

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from random_programs import random_programs
from rtl_agreement import MACHINES, compiled_kernels, legal_dram

from codesign.hw.machine.config import HardwareConfig
from codesign.hw.machine.isa import TARGETS
from codesign.hw.machine.program import Affine, Instruction, Token
from codesign.hw.simulation import sources
from codesign.hw.simulation.simulator import run_rtl

REQUIRED = 0.95
MACHINE = {path.stem: path for path in sources.sources_of("machine", checks=False)}
CONFIGS = {
    **MACHINES,
    # Without row functions, and with a bus as narrow as a row.
    "plain": replace(MACHINES["dim4"], normalization=False, bus_bytes=4),
}

# Why lines never run: a file, what its lines match, the reason.
REASONS = (
    (
        "load_addresses.sv",
        "log2_ratio|return a > b",
        "of constants: runs while the design is built",
    ),
    ("load_unpacker.sv", "ratio|return row_bytes", "of constants: runs while the design is built"),
    (
        "requantizer.sv",
        "return",
        "runs (bits are checked in every mode): Verilator does not count a case item that returns",
    ),
)


_ROWS = 40
PAGE_STORE = (
    Instruction(
        "mvin",
        {"rows": _ROWS, "blocks": 1, "target": TARGETS.index("accumulator_int32")},
        signals=(Token("filled"),),
    ),
    Instruction(
        "mvout",
        {"rows": _ROWS, "blocks": 1, "function": 0, "destination": 0},
        {"dram": Affine((1 << 13) - 128), "multiplier": Affine(1)},
        waits=(Token("filled"),),
    ),
)


@dataclass
class Lines:
    """Of one file: how often each line ran, and how many outcomes of conditions there are and ran."""

    runs: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    outcomes: dict[tuple[int, int, str], int] = field(default_factory=lambda: defaultdict(int))


def unseen_by_synthesis(text: str) -> set[int]:
    """The lines, from 1, between `ifndef SYNTHESIS and its `else or `endif."""
    hidden: set[int] = set()
    nest: list[bool] = []
    for number, line in enumerate(text.splitlines(), 1):
        word = re.match(r"\s*`(ifn?def|else|endif)\b\s*(\w*)", line)
        if word and word[1].startswith("if"):
            nest.append(word[1] == "ifndef" and word[2] == "SYNTHESIS")
        elif word and word[1] == "else":
            nest[-1] = False
        elif word:
            nest.pop()
        if any(nest):
            hidden.add(number)
    return hidden


def points(record: Path) -> Iterator[tuple[str, list[int], tuple[int, int, str], int]]:
    """File, lines, place (line, column, kind) and count of every point of a coverage record."""
    for line in record.read_text(encoding="utf-8").splitlines():
        match = re.match(r"C '(.*)' (\d+)$", line)
        if match is None:
            continue
        keys = dict(part.split("\x02", 1) for part in match[1].split("\x01") if part)
        ranges = [span.split("-") for span in keys.get("S", keys["l"]).split(",")]
        lines = [n for span in ranges for n in range(int(span[0]), int(span[-1]) + 1)]
        place = int(keys["l"]), int(keys["n"]), keys.get("o", "")
        yield Path(keys["f"]).name, lines, place, int(match[2])


def merge(record: Path, into: dict[str, Lines]) -> None:
    """Add a coverage record to what ran so far."""
    for name, lines, place, count in points(record):
        if Path(name).stem not in MACHINE:
            continue
        into[name].outcomes[place] += count
        for line in lines:
            into[name].runs[line] += count


def run(config: HardwareConfig, examples: int, into: dict[str, Lines]) -> None:
    """Add what random Programs and compiled kernels run on a machine."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "coverage.dat"
        quiet = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @quiet
        @seed(1)
        @given(st.data())
        def programs(data: st.DataObject) -> None:
            program = data.draw(random_programs(config))
            share = data.draw(st.sampled_from((0.0, 0.0, 0.3)))
            run_rtl(
                [program.body],
                config,
                program.dram,
                backpressure=share,
                trace=False,
                coverage=record,
            )
            merge(record, into)

        @quiet
        @seed(1)
        @given(st.data())
        def kernels(data: st.DataObject) -> None:
            body = data.draw(compiled_kernels(config))
            dram = legal_dram(6 << 18, config, 1)
            run_rtl([body], config, dram, trace=False, coverage=record)
            merge(record, into)

        run_rtl([PAGE_STORE], config, legal_dram(1 << 14, config, 1), coverage=record)
        merge(record, into)
        programs()
        if config.normalization:
            kernels()


def reason(name: str, text: str) -> str:
    """Why a line never runs."""
    for file, part, why in REASONS:
        if file == name and re.search(part, text):
            return why
    return "NO REASON GIVEN"


def report(found: dict[str, Lines]) -> float:
    """Print the table; returns the share of lines that ran."""
    print(f"{'file':28}{'lines':>7}{'run':>7}{'share':>9}{'outcomes':>10}{'run':>7}")
    total = [0, 0, 0, 0]
    missed: list[str] = []
    for path in sorted(MACHINE.values(), key=lambda path: path.name):
        name, text = path.name, path.read_text(encoding="utf-8")
        hidden = unseen_by_synthesis(text)
        runs = {n: c for n, c in found[name].runs.items() if n not in hidden}
        outcomes = [c for (n, _, _), c in found[name].outcomes.items() if n not in hidden]
        if not runs:
            continue
        ran = sum(count > 0 for count in runs.values())
        counts = [len(runs), ran, len(outcomes), sum(count > 0 for count in outcomes)]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        print(row(name, counts))
        for number in sorted(n for n, count in runs.items() if not count):
            line = text.splitlines()[number - 1].strip()
            missed.append(f"{name}:{number}: {line}\n    {reason(name, line)}")
    print(row("total", total))
    print(f"\n{len(missed)} lines never ran:")
    print("\n".join(missed))
    return total[1] / total[0]


def row(name: str, counts: list[int]) -> str:
    lines, ran, outcomes, came = counts
    return f"{name:28}{lines:7}{ran:7}{100 * ran / lines:8.1f}%{outcomes:10}{came:7}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Line coverage of the RTL.")
    parser.add_argument("--examples", type=int, default=40, help="of each kind, on each machine")
    parser.add_argument("--machine", choices=CONFIGS, action="append", help="default: all")
    arguments = parser.parse_args()
    found: dict[str, Lines] = defaultdict(Lines)
    for name in arguments.machine or CONFIGS:
        run(CONFIGS[name], arguments.examples, found)
    return 0 if report(found) >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
