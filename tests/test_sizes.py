"""One file, one idea: files and functions are short, and files that are not are named with a reason.

The page on the architecture has the same names, under "Files over 450 lines".
"""

import ast
import re

import pytest
from import_graph import LAYERS, ROOT

MOST_LINES = 450  # of a file of the product
MOST_LINES_OF_TESTS = 800  # they mirror the product: the cases of one module stand in one file
MOST_LINES_OF_A_FUNCTION = 60

LONG_FILES: dict[str, str] = {}  # with the reason of each

CODE = {".py", ".sv", ".svh", ".cpp", ".h", ".js", ".css", ".html", ".md"}
PRODUCT = sorted(
    path.relative_to(ROOT).as_posix()
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*")
    if path.suffix in CODE and "obj_dir" not in path.parts
)
TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))


def lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


def functions(name: str) -> dict[str, int]:
    """Lines of each function of a Python file, from `def` to its end."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return {
        f"{name}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_files_are_short_but_for_those_named() -> None:
    long = {name for name in PRODUCT if lines(name) > MOST_LINES}
    assert long <= set(LONG_FILES) <= set(PRODUCT)
    assert [name for name in TESTS if lines(name) > MOST_LINES_OF_TESTS] == []


def test_functions_are_short() -> None:
    found: dict[str, int] = {}
    for file in (*PRODUCT, *TESTS):
        if file.endswith(".py"):
            found |= functions(file)
    assert len(found) > 1000
    assert [name for name, size in found.items() if size > MOST_LINES_OF_A_FUNCTION] == []


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.endswith(".js")])
def test_functions_of_the_page_are_short(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    bodies = re.findall(r"^function .*?^}$", text, re.MULTILINE | re.DOTALL)
    assert all(body.count("\n") + 1 <= MOST_LINES_OF_A_FUNCTION for body in bodies)


def test_the_page_on_the_architecture_names_long_files() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Files over 450 lines\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- `([^`]+)`: (.+)$", section, re.MULTILINE) == [
        (name, f"{reason}.") for name, reason in LONG_FILES.items()
    ]
