"""The order of the layers: hw <- compiler, models <- search; and no drawer for odds and ends."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "hw": {"hw"},
    "compiler": {"hw", "compiler"},
    "models": {"hw", "models"},
    "search": {"hw", "compiler", "models", "search"},
}
MODULES = sorted(path for layer in MAY_IMPORT for path in (ROOT / layer).rglob("*.py"))


def imported(source: str) -> set[str]:
    """Top-level parts of ours that a module's source imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"line {node.lineno}: relative import")
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "codesign" and len(part) > 1} | {
        part[0] for part in parts if part[0] in MAY_IMPORT
    }


def test_the_layers_are_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    assert imported(path.read_text(encoding="utf-8")) <= MAY_IMPORT[layer]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_are(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "misc", "helpers"}
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_imports_are_seen_in_every_form() -> None:
    """The check itself: each way to reach another layer is noticed."""
    for source in (
        "import codesign.search.cli",
        "from codesign.search import cli",
        "from codesign import search",
        "def f():\n    from codesign.search.cli import main",
        "import search",
    ):
        assert imported(source) == {"search"}, source
    with pytest.raises(AssertionError, match="relative import"):
        imported("from . import timing")
