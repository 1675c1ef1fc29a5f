"""A toy extension in a copy of the product: what is inserted, what is new, and what then runs.

The copy is laid out as a wheel is, so that `import codesign` finds it there. Generated files are
written anew in it, and its C++ is compiled where it differs from this one's.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from codesign.hw.simulation import verilator
from codesign.hw.views.fast_timing import library_path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = ROOT / "docs" / "architecture.md"
LAYERS = ("hw", "compiler", "models", "search")
GENERATOR = "codesign.hw.views.generated"  # writes them when run with -m

# Read when Python starts: the finder of an editable install, which is asked first, would find
# the original.
_START = """\
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
"""


@dataclass(frozen=True)
class Tree:
    """A copy of the product in `folder`, with an extension in it."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where a file of the repository lies in the copy."""
        return self.folder / "codesign" / name

    def run(self, *arguments: str) -> str:
        """What Python prints with these arguments; the test helpers can be imported, too."""
        here = os.pathsep.join((str(self.folder), str(ROOT / "tests")))
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": here},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stdout + done.stderr
        return done.stdout

    def python(self, text: str) -> str:
        """What a script prints that imports the copy as `codesign`."""
        script = self.folder / "script.py"
        script.write_text(text, encoding="utf-8")
        return self.run(str(script))

    def tests(self, *arguments: str) -> str:
        """The end of pytest's output for tests of this repository, run against the copy."""
        return self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}",
                        f"--confcutdir={ROOT}", *arguments)  # fmt: skip


@dataclass(frozen=True)
class Extension:
    """Text put behind lines of files, and new files; paths are the repository's.

    An anchor is one line, or several in a row, without their indentation; it occurs once.
    """

    insertions: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    new_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def touched(self) -> set[str]:
        """The files of the product that differ."""
        return {*self.insertions, *self.new_files}

    def applied(self, folder: Path) -> Tree:
        """A copy of the product with the extension, in an empty folder.

        Raises ValueError for an anchor that does not occur exactly once, and for a new file that
        is there already.
        """
        tree = Tree(folder)
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "package")
        shutil.copytree(ROOT / "search" / "package", folder / "codesign",
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        for layer in LAYERS:
            shutil.copytree(ROOT / layer, tree.path(layer), ignore=ignored)
        (folder / "sitecustomize.py").write_text(_START, encoding="utf-8")
        for name, pairs in self.insertions.items():
            text = tree.path(name).read_text(encoding="utf-8")
            for anchor, inserted in pairs:
                text = _inserted(text, anchor, inserted, name)
            tree.path(name).write_text(text, encoding="utf-8")
        for name, text in self.new_files.items():
            if tree.path(name).exists():
                raise ValueError(f"{name} is no new file")
            tree.path(name).parent.mkdir(parents=True, exist_ok=True)
            tree.path(name).write_text(text, encoding="utf-8")
        tree.run("-m", GENERATOR)
        _compile(tree)
        return tree

    def keeps_to(self, heading: str, at_most: int) -> None:
        """Assert that `docs/architecture.md` names every file touched, and that they are few."""
        named = files_named(heading)
        strangers = {f for f in self.touched if not any(fnmatch(f, name) for name in named)}
        assert not strangers, f"not under {heading!r} in {ARCHITECTURE.name}: {sorted(strangers)}"
        assert len(self.touched) <= at_most
        assert len(named) <= at_most, f"{heading!r} names {len(named)} files"


def files_named(heading: str) -> list[str]:
    """The files listed under a heading of `docs/architecture.md`.

    Each is in backticks behind a hyphen; `<name>` in a path stands for anything.
    """
    sections = re.split(
        r"^#{1,3} (.*)\n", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    (text,) = (body for title, body in _pairs(sections[1:]) if title == heading)
    paths = re.findall(r"^- `([^`]+)`", text, re.MULTILINE)
    assert paths, f"{heading!r} lists no files"
    return [re.sub(r"<\w+>", "*", path) for path in paths]


def _pairs(parts: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(parts[::2], parts[1::2], strict=True)


def _inserted(text: str, anchor: str, inserted: str, name: str) -> str:
    lines, wanted = text.splitlines(), [line.strip() for line in anchor.strip().splitlines()]
    bare = [line.strip() for line in lines]
    ends = [i for i in range(len(wanted), len(bare) + 1) if bare[i - len(wanted) : i] == wanted]
    if len(ends) != 1:
        raise ValueError(f"{name} has {anchor!r} {len(ends)} times, not once")
    lines[ends[0] : ends[0]] = inserted.splitlines()
    return "\n".join(lines) + "\n"


def _compile(tree: Tree) -> None:
    """Put the compiled evaluator into the copy: this one's where its sources are the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (module,) = project["tool"]["setuptools"]["ext-modules"]
    target = tree.path("hw/views") / library_path().name
    sources = [p for p in tree.path("hw").rglob("*") if p.suffix in (".cpp", ".h")]
    if all(_same(path, ROOT / path.relative_to(tree.path(""))) for path in sources):
        shutil.copy(library_path(), target)
        return
    flags = [*module["extra-compile-args"], "-O1"]  # the last -O counts; a toy times little
    files = [str(tree.path(source)) for source in module["sources"]]
    command = [verilator.compiler()[0], *flags, "-shared", "-fPIC", *files, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()
