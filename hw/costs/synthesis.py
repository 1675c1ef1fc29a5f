"""What the RTL takes in standard cells: `python -m codesign.hw.costs.synthesis --liberty cells.lib`.

Yosys (extra `[synthesis]`) elaborates the machine, or one module of it, rejects latches and wires
of several drivers, and maps each block onto the cells of a Liberty file; SRAM banks are
black boxes. Areas are sums of cells: before placement, for no clock period, without clock tree and
hold buffers. tables/synthesis.toml keeps such a result; docs/synthesis.md compares it with the area
model. Nothing imports this module.
"""

import gzip
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import tomli_w

from codesign.hw.errors import CodesignError
from codesign.hw.machine.config import PRESETS, preset
from codesign.hw.platform.installation import install_command
from codesign.hw.platform.tools import said_by
from codesign.hw.simulation import simulator, sources
from codesign.hw.simulation.verilator import SimulatorError

# Modules that stay whole; all others dissolve in the one around them.
BLOCKS = (
    *("mesh", "mesh_row", "accumulate_port", "banked_memory", "parameter_memory"),
    *("front_end", "tokens", "load_unit", "load_unpacker", "execute_unit", "counters"),
    *("drain_unit", "drain_sequencer", "store_dma", "row_pipeline", "drain_lane", "requantizer"),
    *("nonlinear", "normalizer", "output_requantizer", "statistics", "lane_maximum", "lane_sum"),
    *("moments", "reciprocal", "square_root", "fifo"),
)
MEMORY = "sram_1r1w"
# Signals that end in nothing (simulation's tags) are cut from block to block, once for each level
# and queue they pass.
CLEANINGS = 10
# Yosys' own script without &fraig and scorr, which take minutes for a multiplier and little off it.
ABC = "+strash;dc2;&get,-n;&dch,-f;&nf;&put"

_DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""


@dataclass(frozen=True)
class Block:
    """A module without the blocks inside it; all numbers are of one of its `count` instances."""

    module: str
    instance: str  # its path, where an index stands for all of the array
    count: int
    cells: int
    flip_flops: int
    area_um2: float | None  # None without a Liberty file


@dataclass(frozen=True)
class Synthesis:
    """A machine or module in cells."""

    top: str
    parameters: Mapping[str, int]
    yosys: str
    library: str | None
    memories: int  # SRAM banks
    blocks: tuple[Block, ...]

    @property
    def area_um2(self) -> float:
        """Area of all blocks; 0 without a Liberty file."""
        return sum(block.count * (block.area_um2 or 0) for block in self.blocks)


def elaborate(
    top: str, parameters: Mapping[str, int], folder: Path, rtl: Path = sources.RTL
) -> dict[str, Any]:
    """Elaborate `top` into `folder`/elaborated.il and return Yosys' statistics of its blocks.

    Raises SimulatorError with Yosys' words for anything that is not hardware: unknown constructs,
    latches, wires of several drivers.
    """
    files = " ".join(map(str, sources.sources_of(top, (rtl,), checks=False)))
    values = " ".join(f"-G {name}={value}" for name, value in parameters.items())
    _run(
        rtl,
        f"read_slang --top {top} -DSYNTHESIS --keep-hierarchy --blackboxed-module {MEMORY} "
        f"{values} {files}",
        *(f"setattr -mod -set keep_hierarchy 1 {block}$*" for block in BLOCKS),
        "flatten; proc; check -assert; opt",
        "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr",
        f"tee -o {folder}/elaborated.json stat -json",
        f"write_rtlil {folder}/elaborated.il",
    )
    return _modules(folder / "elaborated.json")


def synthesize(
    top: str,
    parameters: Mapping[str, int],
    liberty: Path | None = None,
    dont_use: Sequence[str] = (),
) -> Synthesis:
    """Map `top` onto the cells of `liberty`, or onto Yosys' own gates without one.

    Of an array of instances the one in the middle is mapped and stands for all: the edges of a mesh
    are smaller. `dont_use` are patterns of cells to leave out. Raises SimulatorError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        elaborated = elaborate(top, parameters, folder)
        chosen = _representatives(elaborated)
        copies = [name for keep, names in chosen.items() for name in names if name != keep]
        library, area, mapping = None, "", ["abc -g cmos2"]
        if liberty is not None:
            library = _read_liberty(liberty, folder / "cells.lib")
            area = f"-liberty {folder}/cells.lib"
            cells = " ".join([area, *(f"-dont_use {pattern}" for pattern in dont_use)])
            mapping = [f"dfflibmap {cells}", f"abc {cells} -script {ABC}"]
        _run(
            folder,
            f"read_rtlil {folder}/elaborated.il",
            "memory -nordff; opt",
            *["opt_hier; opt_clean"] * CLEANINGS,
            "opt",
            # Brackets are patterns to Yosys.
            *("blackbox " + re.sub(r"[\[\]]", "?", name) for name in copies),
            "synth -noabc -run coarse:check",
            "select -assert-none t:$_DLATCH* t:$_SR*",
            f"tee -o {folder}/gates.json stat -json",
            *mapping,
            "opt_clean -purge",
            f"tee -o {folder}/mapped.json stat -json {area}",
        )
        gates, mapped = _modules(folder / "gates.json"), _modules(folder / "mapped.json")
        creator = json.loads((folder / "mapped.json").read_text(encoding="utf-8"))["creator"]

    def block(name: str, names: Sequence[str]) -> Block:
        module, _, path = name.partition("$")
        return Block(
            module=module,
            instance=re.sub(r"\[\d+\]", "[]", path) if names[1:] else path,
            count=len(names),
            cells=sum(n for cell, n in _cells(mapped[name]) if cell not in {*elaborated, MEMORY}),
            flip_flops=sum(n for c, n in _cells(gates[name]) if re.match(r"\$_S?DFF", c)),
            area_um2=_own_area(mapped, name) if liberty else None,
        )

    blocks = [block(name, names) for name, names in chosen.items()]
    return Synthesis(
        top=top,
        parameters=dict(parameters),
        yosys=creator.split()[1],
        library=library,
        memories=sum(n for m in elaborated.values() for cell, n in _cells(m) if cell == MEMORY),
        blocks=tuple(sorted(blocks, key=lambda block: block.instance)),
    )


def _representatives(elaborated: Mapping[str, Any]) -> dict[str, list[str]]:
    """The one of each array of instances that stands for all, with the names of all.

    Instances of one array are alike; of equal queues, not all bits need be read.
    """
    arrays: dict[str, list[str]] = {}
    for name in sorted(elaborated):
        content = json.dumps([name, elaborated[name]])
        key = content if name.startswith("fifo$") else re.sub(r"\[\d+\]", "[]", content)
        arrays.setdefault(key, []).append(name)
    return {names[len(names) // 2]: names for names in arrays.values()}


def parameters_of(top: str, known: Mapping[str, int]) -> dict[str, int]:
    """Those of `known` that module `top` has as parameters."""
    text = sources.module(top).read_text(encoding="utf-8")
    header = text.split(");", 1)[0]
    declared = set(re.findall(r"^\s*parameter\s+[\w\s]*?(\w+)\s*=", header, re.MULTILINE))
    return {name: value for name, value in known.items() if name in declared}


def _modules(path: Path) -> dict[str, Any]:
    """Yosys' statistics by module name."""
    modules: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["modules"]
    return {name.removeprefix("\\"): statistics for name, statistics in modules.items()}


def _cells(statistics: Mapping[str, Any]) -> list[tuple[str, int]]:
    counts: dict[str, int] = statistics["num_cells_by_type"]
    return [(name.removeprefix("\\"), n) for name, n in counts.items()]


def _own_area(modules: Mapping[str, Any], name: str) -> float:
    """Area of a block without the blocks inside it, which Yosys includes."""
    inner = sum(n * float(modules[c]["area"]) for c, n in _cells(modules[name]) if c in modules)
    return round(float(modules[name]["area"]) - inner, 1)


def _read_liberty(source: Path, target: Path) -> str:
    """Copy a Liberty file, unpacked, to `target`; return the library's name."""
    try:
        content = source.read_bytes()
        if source.suffix == ".gz":
            content = gzip.decompress(content)
    except OSError as error:
        raise SimulatorError(f"cannot read {source}: {error.strerror or error}") from error
    target.write_bytes(content)
    name = re.search(rb'^\s*library\s*\(\s*"?([\w.]+)', content, re.MULTILINE)
    if name is None:
        raise SimulatorError(f"{source} is no Liberty file: it names no library")
    return name[1].decode()


def _run(folder: Path, *passes: str) -> None:
    """Run Yosys in a process of its own in `folder`; raises SimulatorError with its last errors."""
    if importlib.util.find_spec("pyosys") is None:
        raise SimulatorError(f"synthesis needs Yosys: {install_command('synthesis')}")
    command = [sys.executable, "-c", _DRIVER]
    status, lines = said_by(command, folder=folder, text="\n".join(passes))
    if status:
        marked = [line for line in lines if re.search(r"ERROR:|Warning: (Wire|multiple)", line)]
        raise SimulatorError("\n".join((marked or lines)[-20:]))


def _table(result: Synthesis) -> Iterator[str]:
    yield f"{'module':<44}{'count':>6}{'cells':>9}{'flip-flops':>12}{'area um2':>12}"
    for block in result.blocks:
        depth = block.instance.count(".") if block.instance else 0
        name = "  " * min(depth, 4) + block.module
        area = "-" if block.area_um2 is None else f"{block.area_um2:,.0f}"
        yield f"{name:<44}{block.count:>6}{block.cells:>9,}{block.flip_flops:>12,}{area:>12}"
    cells = sum(block.count * block.cells for block in result.blocks)
    flip_flops = sum(block.count * block.flip_flops for block in result.blocks)
    area = "-" if result.library is None else f"{result.area_um2:,.0f}"
    yield f"{'all':<44}{'':>6}{cells:>9,}{flip_flops:>12,}{area:>12}"
    yield f"{result.memories} SRAM banks are not counted. Yosys {result.yosys}, {result.library or 'generic gates'}."


def _assignment(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name or not value.isdecimal():
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER")
    return name, int(value)


@click.command()
@click.argument("top", default="machine")
@click.option(
    "--preset",
    "machine",
    type=click.Choice(sorted(PRESETS)),
    default="edge",
    show_default=True,
    help="Machine that the parameters are of.",
)
@click.option(
    "-p",
    "--parameter",
    "overrides",
    multiple=True,
    metavar="NAME=NUMBER",
    help="A parameter of the module, in place of the machine's.",
)
@click.option(
    "--liberty",
    envvar="CODESIGN_LIBERTY",
    show_envvar=True,
    metavar="FILE.lib[.gz]",
    type=click.Path(path_type=Path),
    help="Cells; without them Yosys' own gates are counted.",
)
@click.option(
    "--dont-use", multiple=True, metavar="PATTERN", help="Cells to leave out, as '*lpflow*'."
)
@click.option("--elaborate", "only", is_flag=True, help="Only check that the RTL is hardware.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--toml", "form", flag_value="toml", help="Print TOML, as tables/synthesis.toml.")
def main(
    top: str, machine: str, overrides: Sequence[str], liberty: Path | None,
    dont_use: Sequence[str], only: bool, form: str | None,
) -> None:  # fmt: skip
    """Print cells, flip-flops and area of the machine's RTL, or of module TOP."""
    try:
        parameters = parameters_of(top, simulator.parameters(preset(machine)))
        parameters |= dict(map(_assignment, overrides))
        if only:
            with tempfile.TemporaryDirectory() as folder:
                blocks = elaborate(top, parameters, Path(folder))
            click.echo(f"{top}: {len(blocks)} blocks, no latch, no wire of several drivers")
            return
        result = synthesize(top, parameters, liberty, dont_use)
    except (CodesignError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if form == "json":
        click.echo(json.dumps({**asdict(result), "area_um2": result.area_um2}, indent=2))
    elif form == "toml":
        known = replace(result, blocks=())
        head = {k: v for k, v in asdict(known).items() if v not in (None, ())}
        tables = [{k: v for k, v in asdict(b).items() if v is not None} for b in result.blocks]
        click.echo(tomli_w.dumps({**head, "blocks": tables}), nl=False)
    else:
        click.echo("\n".join(_table(result)))


if __name__ == "__main__":
    main()
