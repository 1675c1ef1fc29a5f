"""`codesign` is a regular package: it has a version, runs with -m, and no folder is taken for it."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import codesign

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOL = PYPROJECT["project"], PYPROJECT["tool"]


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder in which another one is named codesign, as a clone is."""
    for layer in ("hw", "search"):
        folder = tmp_path / "codesign" / layer
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise ImportError('the wrong folder')")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """What this Python prints, started there."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_the_version_has_one_source() -> None:
    assert codesign.__version__ == PROJECT["version"]


def test_a_folder_of_the_same_name_is_not_imported(beside: Path) -> None:
    text = "import codesign, codesign.hw, codesign.search.cli.app; print(codesign.__version__)"
    assert run(beside, "-c", text) == codesign.__version__
    (beside / "script.py").write_text(text)
    assert run(beside, "script.py") == codesign.__version__


def test_worker_processes_import_the_same(beside: Path) -> None:
    (beside / "script.py").write_text(
        "import multiprocessing\n"
        "def version():\n"
        "    import codesign.hw\n"
        "    return codesign.__version__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(version))\n"
    )
    assert run(beside, "script.py") == codesign.__version__


def test_python_runs_it_as_a_module(beside: Path) -> None:
    assert run(beside, "-m", "codesign", "--version") == f"codesign {codesign.__version__}"


def test_the_pythons_are_named_that_are_tried() -> None:
    """requires-python, and a classifier for each version from there on."""
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    named = [re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line)
             for line in PROJECT["classifiers"]]  # fmt: skip
    minors = [int(match[1]) for match in named if match]
    assert least is not None and minors == list(range(int(least[1]), minors[-1] + 1))
    assert minors[0] <= sys.version_info.minor


def test_what_is_imported_is_declared() -> None:
    """A package of others that comes with one of ours today may not tomorrow."""
    imported: set[str] = set()
    for layer in ("hw", "compiler", "models", "search"):
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
    others = imported - sys.stdlib_module_names - {"codesign"}
    assert {"numpy", "moocore", "yaml"} <= others

    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    declared = {normal(line) for line in (*wanted, *build["requires"])}
    installed = packages_distributions()
    for name in others:
        assert declared & {normal(one) for one in installed.get(name, [name])}, name


def normal(requirement: str) -> str:
    """The name of a requirement, as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


@pytest.mark.parametrize("extra", sorted({*PROJECT["optional-dependencies"]} - {"exports"}))
def test_every_dependency_has_a_lowest_version(extra: str) -> None:
    """It is what the gate installs; exports are tried by hand."""
    bounds = run(ROOT, ".ci/lowest.py", extra).splitlines()
    assert len(bounds) > len(PROJECT["dependencies"])
    assert all(re.fullmatch(r"[\w.-]+==\d[\d.]*", line) for line in bounds)


def test_the_gate_imports_what_is_there() -> None:
    """A name that it imports and that is gone would fail there alone."""
    steps = (ROOT / ".ci" / "steps").read_text("utf-8")
    imports = re.findall(r"from (codesign[\w.]*) import (\w+)", steps)
    assert imports
    for module, name in imports:
        assert hasattr(importlib.import_module(module), name), (module, name)


def test_a_source_distribution_has_what_the_evaluator_is_compiled_from() -> None:
    """setuptools takes sources along, and of headers those that are named."""
    (module,) = TOOL["setuptools"]["ext-modules"]
    compiled = [path for path in (ROOT / "hw").rglob("*.*") if path.suffix in (".cpp", ".h")]
    named = {*module["sources"], *module["depends"]}
    sim = ROOT / "hw" / "rtl" / "sim"  # package-data
    assert named == {str(p.relative_to(ROOT)) for p in compiled if not p.is_relative_to(sim)}
