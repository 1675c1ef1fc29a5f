"""The files of the RTL: where each is, and in which order a tool takes them.

Every module and package lies below `RTL` in a file of its name, in the folder of its unit. What
bounds to a module with `bind` checks it, in simulation only. `python -m codesign.hw.simulation.sources
TOP` prints what a simulation of TOP needs.
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from codesign.hw.simulation.verilator import SimulatorError

RTL = Path(__file__).parents[1] / "rtl"
SIMULATION = RTL / "sim"  # what surrounds the machine


def modules(folders: Sequence[Path] = (RTL,)) -> dict[str, Path]:
    """Every file of SystemVerilog below the folders, by the module or package in it.

    A later folder's file replaces an earlier one's. Raises SimulatorError for two of one name
    below the same folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        own: dict[str, Path] = {}
        for path in sorted(folder.rglob("*.sv")):
            if path.stem in own:
                raise SimulatorError(f"{path.stem} is in {own[path.stem]} and in {path}")
            own[path.stem] = path
        found |= own
    return found


def module(name: str, folders: Sequence[Path] = (RTL,)) -> Path:
    """The file of a module or package. Raises SimulatorError when no folder holds it."""
    files = modules(folders)
    if name not in files:
        raise SimulatorError(f"no {name}.sv in {', '.join(map(str, folders))}")
    return files[name]


def sources_of(top: str, folders: Sequence[Path] = (RTL,), *, checks: bool = True) -> list[Path]:
    """The files that module `top` needs: packages, each after those it uses, then modules by name.

    With `checks`, also the modules that are bound to one of these and what they need. Raises
    SimulatorError when no folder holds `top`.
    """
    module(top, folders)
    files = modules(folders)
    texts = {name: _code(path) for name, path in files.items()}
    found: dict[str, None] = {}  # in the order of use, what is used first
    seen: set[str] = set()

    def visit(name: str) -> None:
        seen.add(name)
        used = set(re.findall(r"\b(\w+)(?=\s*#\s*\(|\s+\w+\s*[\[(]|::)", texts[name]))
        for word in sorted(used & (files.keys() - {name})):
            if word not in seen:
                visit(word)
        found[name] = None

    visit(top)
    while checks and (bound := [n for n in files if n not in seen and _target(texts[n]) in seen]):
        for name in bound:
            visit(name)
    packages = [name for name in found if name.endswith("_pkg")]
    return [files[name] for name in [*packages, *sorted(found.keys() - set(packages))]]


def sources_digest() -> bytes:
    """A checksum of all that simulations are built from: every file below RTL."""
    whole = hashlib.sha256()
    for path in sorted(path for path in RTL.rglob("*") if path.is_file()):
        name = path.relative_to(RTL).as_posix()
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.digest()


def _code(path: Path) -> str:
    """A file without its comments."""
    return re.sub(r"//.*|/\*.*?\*/", "", path.read_text(encoding="utf-8"))


def _target(text: str) -> str | None:
    """The module that a file binds its own to."""
    bind = re.search(r"^\s*bind\s+(\w+)", text, re.MULTILINE)
    return bind[1] if bind else None


if __name__ == "__main__":
    print(*sources_of(sys.argv[1]), sep="\n")
